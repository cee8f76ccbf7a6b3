/** The count of machine code: small kernels, counted by hand (test/fixtures/sass-small.cu says how they were made). */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { mnemonic, parseSass, type SassKernel } from '../../targets/cuda/sass.ts';
import { bindingPipe, countLoop, cyclesOf, headroom } from '../../targets/cuda/sass-count.ts';
import { flowOf } from '../../targets/cuda/sass-flow.ts';
import { hotPathOf } from '../../targets/cuda/sass-hot-loop.ts';
import { isLocalAccess, pipeOf, tensorTiles, wavefronts } from '../../targets/cuda/sass-pipes.ts';
import { ARCHITECTURES, architectureOf, GPUS } from '../../targets/cuda/sass-rates.ts';
import { parseResources, residentWarps } from '../../targets/cuda/sass-resources.ts';

const TEXT = readFileSync(join(import.meta.dirname, '../fixtures/sass-small.txt'), 'utf8');
const SMALL = parseSass(TEXT);
const kernel = (name: string): SassKernel => SMALL.kernels.find((each) => each.name === name)!;

/** A kernel of the given instructions, from address 0 on. */
function written(...lines: readonly string[]): SassKernel {
  const text = lines.map((line, at) => `/*${(16 * at).toString(16).padStart(4, '0')}*/ ${line} ;`);
  return parseSass(`code for sm_90\nFunction : written\n${text.join('\n')}`).kernels[0]!;
}

const single = (line: string) => written(line).instructions[0]!;

describe('the text of cuobjdump', () => {
  test('names architecture and kernels', () => {
    expect(SMALL.architecture).toBe('sm_90');
    const counts = SMALL.kernels.map(({ name, instructions }) => [name, instructions.length]);
    expect(counts).toEqual([
      ['local_array', 56],
      ['marked', 48],
      ['nested', 48],
      ['look_up', 88],
    ]);
  });

  test('predicates, modifiers, operands and targets', () => {
    expect(kernel('look_up').instructions[47]).toEqual({
      address: 0x2f0,
      predicate: '!P0',
      opcode: 'BRA',
      modifiers: [],
      operands: '0x430',
      target: 0x430,
    });
    expect(single('@UP1 IMAD.WIDE.U32 R2, R2.reuse, 0x4, R4')).toMatchObject({
      predicate: 'UP1',
      opcode: 'IMAD',
      modifiers: ['WIDE', 'U32'],
      operands: 'R2, R2.reuse, 0x4, R4',
      target: null,
    });
    expect(single('BRA.U !UP0, 0xc50')).toMatchObject({ predicate: null, target: 0xc50 });
    expect(single('LDS.64 R4, [R16+0x80]').target).toBeNull();
  });

  test.each([
    ['', 'the text names no architecture: it is no SASS'],
    ['  /*0000*/ EXIT ;', 'an instruction outside of a function:   /*0000*/ EXIT ;'],
  ])('of something else is refused', (text, message) => {
    expect(() => parseSass(text)).toThrow(message);
  });

  test('resources', () => {
    expect(parseResources(TEXT)).toEqual([
      { name: 'local_array', registers: 9, stackBytes: 256, sharedBytes: 1024 },
      { name: 'marked', registers: 11, stackBytes: 0, sharedBytes: 1024 },
      { name: 'nested', registers: 14, stackBytes: 0, sharedBytes: 1024 },
      { name: 'look_up', registers: 24, stackBytes: 0, sharedBytes: 1024 },
    ]);
    expect(kernel('local_array').instructions.filter(isLocalAccess).map(mnemonic)).toEqual([
      'STL',
      'LDL',
      'STL',
      'LDL',
    ]);
    expect(kernel('look_up').instructions.filter(isLocalAccess)).toEqual([]);
  });
});

describe('pipes', () => {
  test.each([
    ['LOP3.LUT R0, R1, 0xf, R2, 0xf8, !PT', 'alu'],
    ['F2FP.F16.F32.PACK_AB R0, R1, R2', 'alu'],
    ['FFMA R0, R1, R2, R3', 'fma'],
    ['HMUL2 R0, R1, R2.H0_H0', 'half'],
    ['IMAD.MOV.U32 R0, RZ, RZ, R1', 'imad'],
    ['SHFL.BFLY PT, R0, R1, 0x1, 0x1f', 'lsu'],
    ['MUFU.EX2 R0, R1', 'xu'],
    ['HMMA.16816.F32 R0, R4, R8, R0', 'tensor'],
    ['UIADD3 UR4, UR4, 0x1, URZ', 'uniform'],
    ['LDCU.64 UR4, c[0x0][0x358]', 'uniform'],
    ['BRA 0x10', 'control'],
    ['@!PT LDS RZ, [RZ]', 'control'],
    ['NOTHING.KNOWN R0', null],
  ])('%s: %s', (line, pipe) => {
    expect(pipeOf(single(line))).toBe(pipe);
  });

  test.each([
    ['LDS R0, [R1]', 1],
    ['LDS.64 R0, [R2]', 2],
    ['LDS.U8 R0, [R2]', 1],
    ['LDG.E.128.CONSTANT R8, desc[UR6][R8.64]', 4],
    ['LDSM.16.M88.4 R8, [R2]', 4],
    ['MOVM.16.MT88 R0, R1', 1],
    ['@!PT LDS.128 RZ, [RZ]', 0],
    ['LOP3.LUT R0, R1, 0x64, R2, 0xf8, !PT', 0],
  ])('%s: %i parcels', (line, count) => {
    expect(wavefronts(single(line))).toBe(count);
  });

  test('half a product of matrices is half a tile', () => {
    expect(tensorTiles(single('HMMA.16816.F32 R0, R4, R8, R0'))).toBe(1);
    expect(tensorTiles(single('HMMA.1688.F32 R0, R4, R8, R0'))).toBe(0.5);
  });
});

describe('loops', () => {
  test('a branch that is hardly taken is left out', () => {
    const { path, ...count } = countLoop(kernel('look_up'), {});
    expect([path.begin, path.end]).toEqual([0x190, 0x440]);
    expect([path.steps.length, path.cold, path.uncounted]).toEqual([25, 19, 0]);
    expect(count).toEqual({
      instructions: 25,
      pipes: {
        ...{ alu: 11, fma: 1, half: 0, imad: 5, lsu: 3, xu: 0 },
        ...{ tensor: 1, uniform: 1, control: 3 },
      },
      // LDG.128 takes four, either LDS.64 two.
      wavefronts: 8,
      tiles: 1,
      overhead: 4,
      calls: 0,
      unknown: [],
    });
    expect(countLoop(kernel('look_up'), { conflicts: 2 }).wavefronts).toBe(12);
  });

  test('loops inside count by their trips', () => {
    const count = countLoop(kernel('nested'), { trips: [8, 3] });
    // Five instructions in front, nine eight times, one between, six three times, seven behind.
    expect(count.instructions).toBe(5 + 8 * 9 + 1 + 3 * 6 + 7);
    expect(count.pipes.lsu).toBe(8 + 3 + 1);
    expect(count.path.uncounted).toBe(0);
    expect([count.path.begin, count.path.end]).toEqual([0x90, 0x240]);
  });

  test('without trips they count once, which the count says', () => {
    const path = hotPathOf(kernel('nested'));
    expect([path.begin, path.steps.length, path.uncounted]).toEqual([0x90, 28, 2]);
  });

  test('a loop whose test stands in front is passed as often as it has trips', () => {
    const text = [
      'MOV R0, RZ',
      'IADD3 R0, R0, 0x1, RZ', // outer loop
      'ISETP.GE.AND P0, PT, R1, R2, PT', // inner loop
      '@P0 BRA 0x60',
      'FADD R1, R1, 1',
      'BRA 0x20',
      '@P1 BRA 0x10',
      'EXIT',
    ];
    // The test runs once more than the body.
    expect(countLoop(written(...text), { trips: [5] }).instructions).toBe(1 + 5 * 4 + 2 + 1);
  });

  test('the shortest path counts, unless a mark is asked for', () => {
    const plain = countLoop(kernel('marked'), {});
    expect([plain.instructions, plain.pipes.xu]).toEqual([14, 0]);
    const marked = countLoop(kernel('marked'), { contains: 'PMTRIG' });
    expect([marked.instructions, marked.pipes.xu, marked.path.cold]).toEqual([27, 1, 0]);
  });

  test('of several marks the path has each, and of several loops the smallest may count', () => {
    const loops = written(
      '@P0 BRA 0x20',
      'LDG.E.128 R0, desc[UR4][R2.64]',
      'FADD R1, R1, 1', // 0x20
      '@P1 BRA 0x50',
      'STG.E desc[UR4][R2.64], R0',
      '@P2 BRA 0x0', // 0x50
      'LDG.E.128 R0, desc[UR4][R2.64]', // 0x60
      'STG.E desc[UR4][R2.64], R0',
      '@P2 BRA 0x60',
      'EXIT',
    );
    const count = (hints: Parameters<typeof countLoop>[1]): number =>
      countLoop(loops, hints).instructions;
    expect(count({})).toBe(4);
    expect(count({ contains: 'LDG.E.128' })).toBe(5);
    expect(count({ contains: ['LDG.E.128', 'STG.E'] })).toBe(6);
    expect(count({ contains: ['LDG.E.128', 'STG.E'], smallest: true })).toBe(3);
    expect(() => count({ contains: ['LDG.E.128', 'HMMA'] })).toThrow(
      'the machine code of written has no loop with LDG.E.128 and HMMA to count',
    );
  });

  test('a detour counts by its share, the shortest one of those with the instruction', () => {
    const kernel = written(
      'IADD3 R0, R0, 0x1, RZ',
      '@P0 BRA 0x40',
      'LD.E R1, desc[UR4][R2.64]', // two more, in a quarter of the trips
      'FADD R1, R1, 1',
      '@P1 BRA 0x90',
      'LD.E R1, desc[UR4][R2.64]', // four more, and not both
      'FADD R1, R1, 1',
      'FADD R1, R1, 1',
      'FADD R1, R1, 1',
      '@P2 BRA 0x0',
      'EXIT',
    );
    const plain = countLoop(kernel, {});
    expect([plain.instructions, plain.path.cold]).toEqual([4, 6]);
    const count = countLoop(kernel, { detours: [{ contains: 'LD.E', share: 1 / 4 }] });
    expect(count.instructions).toBe(4 + 2 / 4);
    expect(count.pipes.lsu).toBe(1 / 4);
    expect(count.path.cold).toBe(4);
    const none = countLoop(kernel, { detours: [{ contains: 'LD', share: 1 }] });
    expect([none.instructions, none.path.notFound]).toEqual([4, ['LD']]);
  });

  test('code out of line, which jumps back into a loop, is no loop of its own', () => {
    const outOfLine = written(
      'MOV R0, RZ',
      'IADD3 R0, R0, 0x1, RZ',
      '@P0 BRA 0x60',
      'FADD R1, R1, 1',
      '@P1 BRA 0x10',
      'EXIT',
      'MUFU.EX2 R1, R1',
      'BRA 0x30',
    );
    const { loops } = flowOf(outOfLine.instructions);
    expect(loops).toHaveLength(1);
    expect(loops[0]!.inner).toEqual([]);
    const path = hotPathOf(outOfLine);
    expect([path.begin, path.steps.length, path.cold]).toEqual([0x10, 4, 2]);
  });

  test('several jumps back to one header are one loop; the one of the most work counts', () => {
    const twice = written(
      'IADD3 R0, R0, 0x1, RZ',
      '@P0 BRA 0x0',
      'HMMA.16816.F32 R0, R4, R8, R0',
      '@P1 BRA 0x0',
      'EXIT',
    );
    expect(flowOf(twice.instructions).loops.map(({ latches }) => latches)).toEqual([[0, 1]]);
    expect(countLoop(twice, {}).instructions).toBe(4);
  });

  test('of jumps back behind the same products of matrices the shortest way counts', () => {
    const turns = written(
      'HMMA.16816.F32 R0, R4, R8, R0',
      '@P0 BRA 0x0',
      'LD.E R1, desc[UR4][R2.64]', // two more at the end of a page
      'BRA 0x0',
      'EXIT',
    );
    expect(countLoop(turns, {}).instructions).toBe(2);
    const count = countLoop(turns, { detours: [{ contains: 'LD.E', share: 1 / 4 }] });
    expect(count.instructions).toBe(2 + 2 / 4);
  });

  test('a call of code that never returns is a jump', () => {
    const left = written(
      'HMMA.16816.F32 R0, R4, R8, R0',
      '@P0 CALL.REL.NOINC 0x40',
      'FADD R1, R1, 1',
      'BRA 0x0',
      'EXIT', // 0x40
    );
    expect(flowOf(left.instructions).blocks.map(({ successors }) => successors)).toEqual([
      [2, 1],
      [0],
      [],
    ]);
    expect(countLoop(left, {}).instructions).toBe(4);
  });

  test('a path through a call is taken only where there is no other', () => {
    const division = (branch: string): SassKernel =>
      written(
        branch,
        'CALL.REL.NOINC 0x80',
        'BRA 0x60',
        'MUFU.RCP R1, R2',
        'FFMA R1, R1, R2, R3',
        'FFMA R1, R1, R2, R3',
        '@P1 BRA 0x0',
        'EXIT',
        'RET.REL.NODEC R2',
      );
    expect(countLoop(division('@P0 BRA 0x30'), {}).pipes).toMatchObject({ xu: 1, fma: 2 });
    expect(countLoop(division('NOP'), {}).calls).toBe(1);
  });

  test('a jump to itself at the end of a kernel is none', () => {
    expect(() => hotPathOf(written('EXIT', 'BRA 0x10'))).toThrow('written has no loop to count');
  });

  test.each([
    [{ trips: [1] }, 'the machine code of nested has no loop that holds 1 others to count'],
    [{ contains: 'HMMA' }, 'the machine code of nested has no loop with HMMA to count'],
  ])('%j is missing', (hints, message) => {
    expect(() => hotPathOf(kernel('nested'), hints)).toThrow(message);
  });
});

describe('cycles', () => {
  const sm90 = architectureOf('sm_90');

  test('by pipe, for one trip of a warp', () => {
    const cycles = cyclesOf(countLoop(kernel('look_up'), {}), sm90.rates);
    expect(cycles).toEqual({ issue: 25, alu: 22, fma: 10, lsu: 32, xu: 0, tensor: 6.5 });
    expect(bindingPipe(cycles)).toBe('lsu');
    // 3,350 GB/s are 14.46 bytes a cycle and multiprocessor, a quarter of it a sub-partition's.
    const h100 = GPUS.find(({ name }) => name === 'H100')!;
    expect(headroom(cycles, h100, 512)).toBeCloseTo(512 / (14.4609 / 4) / 32, 3);
  });

  test('the assumed rates are those of docs/performance.md', () => {
    const doc = readFileSync(join(import.meta.dirname, '../../docs/performance.md'), 'utf8');
    for (const { name, rates } of ARCHITECTURES) {
      const { fma, half, imad, alu, wavefront, xu, tensor } = rates;
      expect(doc).toContain(
        `| ${[name, fma, half, imad, alu, wavefront, xu, tensor].join(' | ')} |`,
      );
    }
    for (const { gigahertz } of GPUS) expect(doc).toContain(` ${gigahertz} `);
  });

  test('every GPU has an architecture', () => {
    for (const { architecture } of GPUS)
      expect(ARCHITECTURES.map(({ name }) => name)).toContain(architecture);
    expect(() => architectureOf('sm_1')).toThrow('the rates of sm_1 are not known');
  });

  test.each([
    // 512 threads of 128 registers take all 65,536.
    [{ registers: 128, threads: 512, sharedBytes: 0 }, 16],
    [{ registers: 64, threads: 512, sharedBytes: 0 }, 32],
    [{ registers: 129, threads: 512, sharedBytes: 0 }, 0],
    // A second block of 136 KiB does not fit into 228.
    [{ registers: 32, threads: 256, sharedBytes: 136 * 1024 }, 8],
    [{ registers: 16, threads: 32, sharedBytes: 0 }, 32],
  ])('warps that a multiprocessor holds: %j', (use, warps) => {
    expect(residentWarps(use, sm90.limits)).toBe(warps);
  });
});
