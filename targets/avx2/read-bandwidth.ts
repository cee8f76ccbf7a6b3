/** How fast this machine's memory is read, by a small program of its own. */

import { UserError } from '../../generator/diagnostics/index.ts';
import { packageFile } from './package-file.ts';
import { run } from './run.ts';
import { buildProgram } from './toolchain.ts';

/** Bytes a second, the best of several passes over blocks that no cache holds. */
export async function readBandwidth(threads: number): Promise<number> {
  const program = await buildProgram(packageFile('templates/avx2/read_bandwidth.cpp'));
  const { code, stdout, stderr } = await run(program, [String(threads)]);
  if (code === 0) return Number(stdout);
  throw new UserError('P303', `the read bandwidth could not be measured: ${stderr.trim()}`);
}
