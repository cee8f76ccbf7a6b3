/** How fast this machine's memory is read, by a small program of its own. */

import { UserError } from '../../generator/diagnostics/index.ts';
import { buildProgram, packageFile, run } from '../../generator/target/native/index.ts';

const FLAGS = ['-std=c++17', '-O2', '-mavx2', '-pthread'];

/** Bytes a second, the best of several passes over blocks that no cache holds. */
export async function readBandwidth(threads: number): Promise<number> {
  const program = await buildProgram(packageFile('templates/avx2/read_bandwidth.cpp'), FLAGS);
  const { code, stdout, stderr } = await run(program, [String(threads)]);
  if (code === 0) return Number(stdout);
  throw new UserError('P303', `the read bandwidth could not be measured: ${stderr.trim()}`);
}
