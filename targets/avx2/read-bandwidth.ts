/** How fast this machine's memory is read, by a small program of its own. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { UserError } from '../../generator/diagnostics/index.ts';
import { run } from './run.ts';
import { buildProgram } from './toolchain.ts';

/** Beside the templates: from here in the repository, from dist/ in the package. */
const SOURCES = ['../../templates', '../../../templates'].map((folder) =>
  fileURLToPath(new URL(`${folder}/avx2/read_bandwidth.cpp`, import.meta.url)),
);

/** Bytes a second, the best of several passes over blocks that no cache holds. */
export async function readBandwidth(threads: number): Promise<number> {
  const source = SOURCES.find((path) => existsSync(path));
  if (source === undefined) throw new Error(`${SOURCES[0]} is missing`);
  const program = await buildProgram(source);
  const { code, stdout, stderr } = await run(program, [String(threads)]);
  if (code === 0) return Number(stdout);
  throw new UserError('P303', `the read bandwidth could not be measured: ${stderr.trim()}`);
}
