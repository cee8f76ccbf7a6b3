/** Machine code of the emitted attention: its counts are those that docs/performance.md holds. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fileStem } from '../../generator/naming/index.ts';
import { run } from '../../generator/target/native/index.ts';
import { target } from '../../targets/cuda/index.ts';
import { predict } from '../../targets/cuda/predict.ts';
import { mnemonic, parseSass } from '../../targets/cuda/sass.ts';
import { countLoop } from '../../targets/cuda/sass-count.ts';
import { pipeOf } from '../../targets/cuda/sass-pipes.ts';
import { ARCHITECTURES } from '../../targets/cuda/sass-rates.ts';
import { dump, findTool, requireTool, TOOLS } from '../../targets/cuda/tools.ts';
import {
  committedRows,
  FORMATS,
  type Format,
  KEYS,
  planOf,
  type Row,
  rowOf,
  titleOf,
  writeRows,
} from '../fixtures/cuda-predictions.ts';
import { emitted } from '../fixtures/emitted.ts';

const found = await Promise.all(TOOLS.map(findTool));
const missing = TOOLS.filter((_, index) => found[index] === null);
const SKIP = missing.length > 0 ? `there is no ${missing.join(' and no ')}` : false;
if (SKIP)
  console.warn(`the count of CUDA machine code is skipped: ${SKIP}; polarc doctor says how`);

/** Writes what is counted now into docs/performance.md. */
const UPDATE = process.env.POLARC_UPDATE === '1';

describe.skipIf(SKIP)(`machine code of emitted attention${SKIP ? ` (${SKIP})` : ''}`, () => {
  const rows = new Map<string, readonly Row[]>();

  beforeAll(async () => {
    for (const format of FORMATS) {
      const plan = planOf(format);
      const folder = emitted(plan, target);
      const predictions = await predict({ folder, plan });
      rmSync(folder, { recursive: true });
      expect(predictions.flatMap(({ notes }) => notes)).toEqual([]);
      // Encode is the same for all groups: it stands there once.
      const own = predictions.filter(
        ({ kernel }) => kernel.startsWith('attend') || format === FORMATS[0],
      );
      rows.set(
        titleOf(format),
        own.map((each) => rowOf(format, each)),
      );
    }
    if (UPDATE) writeRows([...rows.values()].flat());
  }, 600_000);

  const titleOfRow = (row: Row): string => KEYS.map((key) => row[key]).join(' ');

  test.each(FORMATS.map(titleOf))('%s: what is committed, within a twentieth', (title) => {
    const committed = committedRows().filter(
      ({ format, layout, group }) => `${format} ${layout} ${group}` === title,
    );
    const counted = rows.get(title)!;
    expect(counted.map(titleOfRow)).toEqual(committed.map(titleOfRow));
    const wrong = counted.flatMap((row, index) =>
      Object.keys(row).flatMap((column) => {
        const [now, then] = [row[column]!, committed[index]![column]!];
        return agrees(now, then) ? [] : `${titleOfRow(row)}, ${column}: ${now}, not ${then}`;
      }),
    );
    expect(wrong).toEqual([]);
  });

  test('4-2-2-2, group 4, keeps to its goals', () => {
    const own = rows.get(titleOf(FORMATS[0]!))!;
    for (const row of own) {
      expect(Number(row.registers), titleOfRow(row)).toBeLessThanOrEqual(128);
      expect(Number(row.spills), titleOfRow(row)).toBe(0);
    }
    const instructions = (kernel: string): number =>
      Number(own.find((row) => row.kernel === kernel && row.for === 'sm_90')!.instructions);
    expect(instructions('joint10')).toBeLessThanOrEqual(2.3);
    expect(instructions('joint8')).toBeLessThanOrEqual(2.8);
    // Half of the bandwidth of a copy allows 44.
    expect(instructions('encode_key')).toBeLessThanOrEqual(35);
  });

  test('no format of at most 4 bits a code takes more than 7 instructions at group 4', async () => {
    const hopper = ARCHITECTURES.filter(({ name }) => name === 'sm_90');
    const found: string[] = [];
    for (const format of OTHERS) {
      const plan = planOf(format);
      const folder = emitted(plan, target);
      const predictions = await predict({ folder, plan }, undefined, hopper);
      rmSync(folder, { recursive: true });
      expect(predictions.length).toBeGreaterThan(0);
      for (const { kernel, spills, notes } of predictions) {
        expect(notes).toEqual([]);
        expect(spills, `${format.headDim} ${titleOf(format)} ${kernel}`).toBe(0);
      }
      // The first one is what a launcher takes there.
      const { kernel, instructions } = predictions[0]!;
      if (instructions > 7) {
        found.push(`${format.headDim} ${titleOf(format)} ${kernel}: ${instructions.toFixed(2)}`);
      }
    }
    expect(found).toEqual([]);
  }, 600_000);
});

/** Corners of what half precision can do: small and large dimensions, one level and many, codes of 1 to 4 bits. */
const OTHERS: readonly Format[] = [
  { headDim: 64, bits: [2, 1, 1, 1], layout: 'tiles', group: 4 },
  { headDim: 80, bits: [4], layout: 'rows', group: 4 },
  { headDim: 96, bits: [4, 3, 3, 2], layout: 'tiles', group: 4, radius: { kind: 'log', bits: 4 } },
  {
    headDim: 128,
    bits: [4, 4, 4, 4, 4, 4],
    layout: 'tiles',
    group: 4,
    radius: { kind: 'log', bits: 8 },
  },
  { headDim: 256, bits: [4, 2, 2, 2, 2, 2, 2, 2], layout: 'tiles', group: 4 },
];

/** Numbers in them differ by 5 % at most, or by a unit of the last digit; all else is the same. */
function agrees(now: string, then: string): boolean {
  const numbers = /(?<![\w-])\d+(?:\.\d+)?(?![\w-])/g;
  if (now.replace(numbers, '#') !== then.replace(numbers, '#')) return false;
  const wanted = then.match(numbers) ?? [];
  return (now.match(numbers) ?? []).every((text, at) => {
    const [value, want] = [Number(text), Number(wanted[at])];
    const digit = text.includes('.') ? 10 ** (text.indexOf('.') - text.length + 1) : 0;
    return Math.abs(value - want) <= Math.max(0.05 * want, 1.01 * digit);
  });
}

describe.skipIf(SKIP)(`machine code of emitted encode${SKIP ? ` (${SKIP})` : ''}`, () => {
  const FORMATS_OF_ENCODE: readonly Format[] = [
    { headDim: 128, bits: [4, 2, 2, 2], layout: 'rows', group: 1 },
    { headDim: 96, bits: [3, 2], layout: 'tiles', group: 1, radius: { kind: 'log', bits: 4 } },
  ];

  test.each(FORMATS_OF_ENCODE)(
    'has the same floats with fast-math: $headDim $layout',
    async (format) => {
      const plan = planOf(format, {});
      const folder = emitted(plan, target);
      const stem = fileStem(plan.name);
      const source = join(folder, 'cuda', stem, `${stem}.cuh`);
      // Float instructions of each kernel, by how many there are: none is fused, and none approximate.
      const floatsWith = async (...flags: string[]): Promise<Record<string, object>> => {
        const cubin = join(folder, `${flags.join('') || 'plain'}.cubin`);
        const all = ['-std=c++17', '-O3', '-arch=sm_90', '-cubin', '-x', 'cu', ...flags];
        const nvcc = (await requireTool('nvcc')).path;
        const { code, stderr } = await run(nvcc, [...all, '-o', cubin, source]);
        expect(code, stderr).toBe(0);
        const { kernels } = parseSass(await dump(cubin, ['-sass']));
        const encode = kernels.filter(({ name }) => name.includes('_kernel_encode_'));
        return Object.fromEntries(
          encode.map(({ name, instructions }) => {
            const counts: Record<string, number> = {};
            for (const each of instructions) {
              if (!/^(F|H|MUFU|I2F)/.test(each.opcode)) continue;
              // Products with powers of two that make and take no denormal may flush them.
              const what = mnemonic(each).replace('.FTZ', '');
              counts[what] = (counts[what] ?? 0) + 1;
            }
            return [name, counts];
          }),
        );
      };
      const [plain, fast] = [await floatsWith(), await floatsWith('-use_fast_math')];
      rmSync(folder, { recursive: true });
      expect(Object.keys(plain).length).toBeGreaterThan(0);
      expect(fast).toEqual(plain);
    },
  );
});

describe.skipIf(SKIP)(`machine code of a small file${SKIP ? ` (${SKIP})` : ''}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'polarc-sass-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(ARCHITECTURES.map(({ name }) => name))('is read for %s', async (architecture) => {
    const source = join(import.meta.dirname, '../fixtures/sass-small.cu');
    const cubin = join(folder, `${architecture}.cubin`);
    const flags = ['-std=c++17', '-O3', `-arch=${architecture}`, '-cubin'];
    const { code, stderr } = await run((await requireTool('nvcc')).path, [
      ...[...flags, '-o', cubin, source],
    ]);
    expect(code, stderr).toBe(0);
    const sass = parseSass(await dump(cubin, ['-sass']));
    expect(sass.architecture).toBe(architecture);
    const instructions = sass.kernels.flatMap((kernel) => kernel.instructions);
    expect(instructions.filter((each) => pipeOf(each) === null)).toEqual([]);
    const lookUp = sass.kernels.find(({ name }) => name === 'look_up')!;
    const { tiles, wavefronts, path } = countLoop(lookUp, {});
    expect([tiles, wavefronts]).toEqual([1, 8]);
    expect(path.cold).toBeGreaterThanOrEqual(15);
  });
});
