/** Mistakes that only a GPU would show, planted in emitted kernels: the CPU stand-in must see them. */

import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const BIN = join(import.meta.dirname, '../../bin/polarc.js');

const SPEC = `
import { codec, defineCache, hadamard, polar, rows } from 'polarc';
const format = codec({
  headDim: 64, precondition: hadamard({ seed: 1 }), polar: polar({ bits: [4, 2, 2, 2] }), layout: rows(),
});
const cache = { key: format, value: format, queryGroup: 2, pageTokens: 32 } as const;
export default [
  defineCache({ name: 'faulty', ...cache }),
  defineCache({ name: 'faulty_half', ...cache, arithmetic: { cuda: 'half' } }),
];
`;

interface Fault {
  readonly what: string;
  readonly cache: 'faulty' | 'faulty_half';
  readonly place: string;
  readonly planted: string;
  /** What `verify` says, without numbers. */
  readonly says: RegExp;
}

const FAULTS: readonly Fault[] = [
  {
    what: 'a removed barrier: queries are read before all are there',
    cache: 'faulty',
    place: 'part, query,\n                                         thread);\n    __syncthreads();',
    planted: 'part, query,\n                                         thread);',
    says: /FAILED faulty \(cuda\) attend|index \d+ of an array|kernel_attend/,
  },
  {
    what: 'a removed barrier of attention by tensor cores',
    cache: 'faulty_half',
    place: '    __syncthreads();\n\n    // As columns of B',
    planted: '\n    // As columns of B',
    says: /FAILED faulty_half \(cuda\) attend|SIGSEGV ended the run; it was in faulty_half \(cuda\) attend/,
  },
  {
    what: 'a row of a table too many',
    cache: 'faulty_half',
    place: 'i < 1024 * 16; i += threads',
    planted: 'i <= 1024 * 16; i += threads',
    says: /kernel_attend_half_joint10, block \d+, thread \d+: index 16384 of an array of 16384 x 8 bytes/,
  },
  {
    what: 'an index that is one too large',
    cache: 'faulty',
    place: 'room[thread / 32] = highest;',
    planted: 'room[thread / 32 + 1] = highest;',
    says: /faulty_cuda_kernel_attend, block \d+, thread 96: index 4 of an array of 4 x \d+ bytes/,
  },
  {
    what: 'a barrier that half of the block reaches',
    cache: 'faulty',
    place: 'room[thread / 32] = highest;\n  __syncthreads();',
    planted: 'room[thread / 32] = highest;\n  if (thread < 64) __syncthreads();',
    says: /faulty_cuda_kernel_attend, block \d+, thread \d+: waits at __syncthreads \(faulty.cuh:\d+\) while others wait at __syncthreads/,
  },
  {
    what: 'a vote that half of the warp takes part in',
    cache: 'faulty_half',
    place: 'if (__any_sync(all_lanes, unusual)) {',
    planted: 'if (lane < 16 && __any_sync(all_lanes, unusual)) {',
    says: /kernel_attend_half_joint10, block \d+, thread \d+: /,
  },
];

let root: string;

const polarc = (args: readonly string[]): Promise<{ code: number; text: string }> =>
  new Promise((done) => {
    const env = { ...process.env, POLARC_CUDA_DEVICE: 'cpu' };
    execFile(process.execPath, [BIN, ...args], { env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number((error as { code?: unknown }).code ?? -1);
      done({ code, text: stdout + stderr });
    });
  });

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'polarc-cuda-faults-'));
  const spec = join(root, 'faulty.polar.ts');
  writeFileSync(spec, SPEC);
  const args = ['generate', spec, '--target', 'cuda', '--out', join(root, 'sound')];
  const { code, text } = await polarc(args);
  expect(code, text).toBe(0);
});
afterAll(() => rmSync(root, { recursive: true }));

const verify = (folder: string, cache: string) =>
  polarc(['verify', '--out', folder, '--target', 'cuda', '--only', cache, '--quick']);

test.each(['faulty', 'faulty_half'])('%s without a fault passes', async (cache) => {
  const { code, text } = await verify(join(root, 'sound'), cache);
  expect(code, text).toBe(0);
});

test.each(FAULTS)('$what is seen', async ({ what, cache, place, planted, says }) => {
  const folder = join(root, what.replace(/\W+/g, '-'));
  cpSync(join(root, 'sound'), folder, { recursive: true });
  const stem = cache.replace('_', '-');
  const file = join(folder, 'cuda', stem, `${stem}.cuh`);
  const sound = readFileSync(file, 'utf8');
  expect(sound.split(place).length, 'places of the fault').toBe(2);
  writeFileSync(file, sound.replace(place, planted));
  const { code, text } = await verify(folder, cache);
  expect(code).toBe(1);
  expect(text).toMatch(says);
});
