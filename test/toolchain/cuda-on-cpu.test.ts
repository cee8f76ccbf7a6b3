/** What stands in for a GPU: the language of kernels on a CPU, and the faults that it must see. */

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';

const EMULATOR = 'templates/cuda/on_cpu';
const FIXTURE = 'test/fixtures/cuda-on-cpu.cpp';

const FLAGS = ['-std=c++17', '-ffp-contract=off', '-DPOLARC_ON_CPU', `-I${EMULATOR}`];
const WARNINGS = ['-Wall', '-Wextra', '-Werror'];
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'];
const SOURCE = ['-include', `${EMULATOR}/cuda_on_cpu.h`, '-x', 'c++', FIXTURE, '-pthread'];

/** Every operation must hold under flags that a user may compile with, too. */
const BUILDS = {
  'g++': ['g++', '-O2', '-rdynamic'],
  'g++, sanitizers': ['g++', '-O1', ...SANITIZERS],
  'g++, fast-math': ['g++', '-O2', '-ffast-math', '-march=native'],
  'clang++': ['clang++', '-O1'],
} as const;
type Build = keyof typeof BUILDS;

const RIGHT = [
  'sums',
  'warps',
  'tiles',
  'copies',
  'halves',
  'operations',
  'rounding',
  'words',
  'threads',
];

const missing = (build: Build): boolean => spawnSync(BUILDS[build][0], ['--version']).status !== 0;

let folder: string;
const program = (build: Build): string => join(folder, build.replace(/\W+/g, '-'));

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-cuda-'));
  const builds = (Object.keys(BUILDS) as Build[]).filter((build) => !missing(build));
  await Promise.all(
    builds.map((build) => {
      const [compiler, ...flags] = BUILDS[build];
      const all = [...flags, ...FLAGS, ...WARNINGS, ...SOURCE, '-o', program(build)];
      return promisify(execFile)(compiler, all);
    }),
  );
});

afterAll(() => rmSync(folder, { recursive: true }));

/** What a case prints, its order of threads drawn with a seed. */
const printed = (name: string, environment: Record<string, string> = {}, build: Build = 'g++') =>
  execFileSync(program(build), [name], {
    // Its kernels do not stride: each needs all of its blocks.
    env: { ...process.env, POLARC_CUDA_BLOCKS: '0', ...environment },
    encoding: 'utf8',
  });

const seeds = ['1', '2', '3', '4', '5'].map((seed) => ({ POLARC_CUDA_SEED: seed }));

/** The message that a case ends with; which of many threads is named depends on the order. */
const message = (name: string, build: Build = 'g++'): string => {
  const { stderr, signal } = spawnSync(
    'sh',
    ['-c', 'ulimit -c 0; exec "$0" "$1"', program(build), name],
    {
      encoding: 'utf8',
    },
  );
  expect(signal).toBe('SIGABRT');
  return stderr
    .trim()
    .replace('polarc: CUDA on CPU: ', '')
    .replace(/block \d/, 'block B')
    .replace(/(thread|lane|while) (\d+|\(.*?\))/g, '$1 N')
    .replace(/cuda-on-cpu.cpp:\d+/g, 'file:line');
};

for (const build of Object.keys(BUILDS) as Build[]) {
  const none = missing(build);
  describe.skipIf(none)(`${build}${none ? ' (not installed)' : ''}`, () => {
    test.each(RIGHT)('%s', (name) => {
      for (const seed of seeds.slice(0, 3)) expect(printed(name, seed, build)).toBe('ok\n');
    });
  });
}

it('has all that machine.cuh leaves to it', () => {
  const machine = readFileSync('templates/cuda/partials/machine.cuh.hbs', 'utf8');
  const here = readFileSync(join(EMULATOR, 'cuda_on_cpu.h'), 'utf8');
  const [, device] = /#ifndef POLARC_ON_CPU.*?\n(.*?)\n#endif\n\nconstexpr/s.exec(machine)!;
  const names = [...device!.matchAll(/__device__ inline \w+ (\w+)\(/g)].map(([, name]) => name!);
  expect(names).toContain('transpose_8x8');
  const absent = names.filter((name) => !new RegExp(`(inline \\w+ |\\()${name}[(,]`).test(here));
  expect(absent).toEqual([]);
});

const none = missing('g++');
describe.skipIf(none)(`g++${none ? ' (not installed)' : ''}`, () => {
  it('draws an order of threads and blocks from the seed', () => {
    const orders = seeds.map((seed) => printed('order', seed));
    expect(new Set(orders).size).toBe(seeds.length);
    expect(seeds.map((seed) => printed('order', seed))).toEqual(orders);
    for (const order of orders) {
      const threads = order.trim().split(' ').map(Number);
      const rounds = [0, 16, 32, 48].map((at) => threads.slice(at, at + 16));
      // Blocks one after another, a barrier between two rounds of each.
      const blocks = rounds.map((round) => [...new Set(round.map((i) => Math.floor(i / 16)))]);
      expect(blocks[0]).toEqual(blocks[1]);
      expect(blocks[2]).toEqual(blocks[3]);
      expect(rounds[0]).not.toEqual(rounds[1]);
      const all = Array.from({ length: 32 }, (_, i) => [i, i]).flat();
      expect([...threads].sort((a, b) => a - b)).toEqual(all);
    }
    const first = orders.map((order) => Number(order.split(' ')[0]) < 16);
    expect(new Set(first).size).toBe(2);
  });

  it('shows a missing barrier, a missing wait and a missing initial value', () => {
    for (const seed of seeds) {
      expect(printed('barrier', seed)).toBe('64 right\n');
      expect(printed('missing barrier', seed)).toBe('32 right\n');
      expect(printed('missing wait', seed)).toBe('0 of 1280 words, the first one is 7f7f7f7f\n');
      expect(printed('uninitialised', seed)).toBe('NaN\n');
    }
  });

  it('says where shared memory is misused', () => {
    const faults = ['out of bounds', 'takes too much', 'takes unevenly', 'unaligned copy'];
    const texts = faults.map((fault) => message(fault).replace(/0x\w+/, '0x…'));
    expect(texts).toMatchInlineSnapshot(`
      [
        "out_of_bounds, block B, thread N: index 64 of an array of 64 x 4 bytes in shared memory",
        "takes_too_much, block B, thread N: takes 100 x 4 bytes of shared memory from byte 400: the launch gave 512 bytes",
        "takes_unevenly, block B, thread N: takes 16 x 4 bytes of shared memory from byte 0 as piece 0: another thread took 8 x 4 bytes from byte 0",
        "unaligned_copy, block B, thread N: copies from 0x…, which is not aligned to 16 bytes",
      ]
    `);
  });

  it('says where threads do not meet', () => {
    const faults = ['ended before', 'two barriers', 'block and warp', 'lane ended', 'no such lane'];
    expect(faults.map((fault) => message(fault))).toMatchInlineSnapshot(`
      [
        "ended_before, block B, thread N: has ended while N threads wait for it at __syncthreads (file:line)",
        "two_barriers, block B, thread N: waits at __syncthreads (file:line) while others wait at __syncthreads (file:line)",
        "block_and_warp, block B, thread N: waits at __syncwarp of lanes 0xffffffff (file:line) while lane N waits for it at __syncthreads (file:line)",
        "lane_ended, block B, thread N: has ended while lane N waits for it at __shfl_sync of lanes 0xffffffff (file:line)",
        "no_such_lane, block B, thread N: waits at __ballot_sync of lanes 0xffffffff (file:line): there is no lane N",
      ]
    `);
    const lanes = ['not in mask', 'reads beyond', 'two kinds', 'two masks', 'in a circle'];
    expect(lanes.map((fault) => message(fault))).toMatchInlineSnapshot(`
      [
        "not_in_mask, block B, thread N: calls __syncwarp of lanes 0x0000ffff (file:line) without being one of them",
        "reads_beyond, block B, thread N: lane N reads lane N in __shfl_xor_sync of lanes 0x0000ffff (file:line), where that is missing",
        "two_kinds, block B, thread N: waits at __shfl_sync of lanes 0xffffffff (file:line) while lane N waits at __any_sync of lanes 0xffffffff (file:line)",
        "two_masks, block B, thread N: waits at __syncwarp of lanes 0xffffffff (file:line) while lane N waits for it at __syncwarp of lanes 0xffffff00 (file:line)",
        "in_a_circle, block B, thread N: deadlock: it has ended, thread N waits at __syncwarp of lanes 0x00000007 (file:line)",
      ]
    `);
  });

  it('names the arguments of a kernel whose name the program does not export', () => {
    expect(message('out of bounds', 'g++, sanitizers')).toMatchInlineSnapshot(
      `"kernel of small_cuda::Arguments, block B, thread N: index 64 of an array of 64 x 4 bytes in shared memory"`,
    );
  });

  it('launches no more blocks than it is told to', () => {
    expect(printed('blocks')).toBe('7 blocks\n');
    expect(printed('blocks', { POLARC_CUDA_BLOCKS: '2' })).toBe('2 blocks\n');
    expect(printed('blocks', { POLARC_CUDA_BLOCKS: '' })).toBe('3 blocks\n');
  });

  it('plays the device that is asked for', () => {
    const devices = [{}, { POLARC_CUDA_CAPABILITY: '7.5', POLARC_CUDA_SMS: '40' }];
    expect(devices.map((device) => printed('runtime', device))).toMatchInlineSnapshot(`
      [
        "capability 9.0, 132 multiprocessors, 232448 bytes 0 1 1 1 0 0 0 9 9 9 0 cudaErrorInvalidConfiguration: invalid configuration argument
      ",
        "capability 7.5, 40 multiprocessors, 65536 bytes 0 1 1 1 0 0 0 9 9 9 0 cudaErrorInvalidConfiguration: invalid configuration argument
      ",
      ]
    `);
  });
});
