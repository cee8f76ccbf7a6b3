/** A decoder written from docs/format.md alone reads every golden vector (test/fixtures/decode.py). */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { lower, planJson } from '../../generator/plan/index.ts';
import { goldenVectors } from '../../generator/reference/index.ts';
import { readSafetensors, writeSafetensors } from '../../generator/safetensors/index.ts';
import {
  codec,
  defineCache,
  hadamard,
  log,
  matrix,
  none,
  normalize,
  orthogonal,
  polar,
  rows,
  tiles,
} from '../../generator/spec/index.ts';

const SCRIPT = 'test/fixtures/decode.py';
const python = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))']);
const missing = python.error !== undefined || python.status !== 0;
const folder = mkdtempSync(join(tmpdir(), 'polarc-golden-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type CodecInput = Parameters<typeof codec>[0];

const paper = { headDim: 64, polar: polar({ depth: 4, bits: [4, 2, 2, 2] }) };
const tile = tiles({ tokens: 32 });

/** Pairs of formats: keys, values. */
const FORMATS: readonly (readonly [name: string, key: CodecInput, value: CodecInput])[] = [
  [
    'the paper, both layouts',
    { ...paper, precondition: hadamard({ seed: 1 }), radius: 'f16', layout: rows() },
    { ...paper, precondition: hadamard({ seed: 2 }), radius: 'f16', layout: tile },
  ],
  [
    'log radii, centred',
    {
      ...paper,
      precondition: hadamard({ seed: 3 }),
      radius: log({ bits: 4 }),
      layout: rows(),
      center: true,
    },
    {
      ...paper,
      precondition: hadamard({ seed: 4 }),
      radius: log({ bits: 3 }),
      layout: tile,
      center: true,
    },
  ],
  [
    'bf16 and f32 radii without preconditioning',
    { ...paper, precondition: none(), radius: 'bf16', layout: rows() },
    { ...paper, precondition: none(), radius: 'f32', layout: tile, center: true },
  ],
  [
    'matrices',
    { ...paper, precondition: matrix(), radius: 'f16', layout: tile, center: true },
    {
      ...paper,
      precondition: orthogonal({ seed: 5 }),
      radius: 'f32',
      layout: rows(),
      center: true,
    },
  ],
  [
    'full depth, odd bits',
    {
      headDim: 128,
      polar: polar({ depth: 7, bits: [5, 3, 3, 3, 3, 3, 1] }),
      precondition: hadamard({ seed: 6 }),
      radius: 'bf16',
      layout: tile,
    },
    {
      headDim: 32,
      polar: polar({ depth: 5, bits: [1, 1, 2, 3, 6] }),
      precondition: matrix(),
      radius: 'f16',
      layout: rows(),
    },
  ],
  [
    'dimensions that are no powers of two, Hadamard of orders 12 and 20',
    {
      headDim: 48,
      polar: polar({ depth: 3, bits: [8, 6, 1] }),
      precondition: hadamard({ seed: 7 }),
      radius: log({ bits: 1 }),
      layout: tile,
    },
    {
      headDim: 80,
      polar: polar({ depth: 2, bits: [3, 2] }),
      precondition: hadamard({ seed: 8 }),
      radius: log({ bits: 5 }),
      layout: rows(),
    },
  ],
  [
    'dimensions that 4 does not divide, Hadamard of order 28, depth 1',
    {
      headDim: 34,
      polar: polar({ depth: 1, bits: [2] }),
      precondition: orthogonal({ seed: 9 }),
      radius: 'f16',
      layout: tile,
    },
    {
      headDim: 28,
      polar: polar({ depth: 1, bits: [1] }),
      precondition: hadamard({ seed: 10 }),
      radius: 'bf16',
      layout: rows(),
    },
  ],
];

function files(name: string, key: CodecInput, value: CodecInput): readonly [string, string] {
  const spec = normalize(
    defineCache({
      name: 'golden',
      key: codec(key),
      value: codec(value),
      queryGroup: 2,
      pageTokens: 32,
    }),
  );
  const plan = lower(spec);
  const at = join(folder, name.replace(/\W/g, '-'));
  writeFileSync(`${at}.plan.json`, planJson(plan));
  writeFileSync(`${at}.golden.safetensors`, goldenVectors(plan));
  return [`${at}.plan.json`, `${at}.golden.safetensors`];
}

describe('the Python decoder', () => {
  it('is at most 150 lines of the standard library', () => {
    const text = readFileSync(SCRIPT, 'utf8');
    expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(150);
    const imports = [...text.matchAll(/^import (\w+)$/gm)].map((found) => found[1]);
    expect(imports).toEqual(['json', 'math', 'struct', 'sys']);
    expect(text).not.toMatch(/^from /m);
  });

  describe.skipIf(missing)('reads (skipped where python3 ≥ 3.11 is not installed)', () => {
    it.each(FORMATS)('%s', (name, key, value) => {
      const printed = execFileSync('python3', [SCRIPT, ...files(name, key, value)], {
        encoding: 'utf8',
      });
      expect(printed).toBe('key 28\nvalue 28\n');
    });

    it('and refuses a vector that is off by one code', () => {
      const [plan, golden] = files('off', FORMATS[0]![1], FORMATS[0]![2]);
      const { tensors, metadata } = readSafetensors(readFileSync(golden));
      const packed = tensors.get('value.packed')!;
      packed.data[32 * 16 + 5]! ^= 1;
      writeFileSync(golden, writeSafetensors(Object.fromEntries(tensors), metadata));
      const run = spawnSync('python3', [SCRIPT, plan, golden], { encoding: 'utf8' });
      expect(run.status).toBe(1);
      expect(run.stderr).toBe('value.rotated[5] differs\n');
    });
  });
});
