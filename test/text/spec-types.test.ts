/** What the types of a spec file refuse: `npm run typecheck` fails where a line marked here would compile. */

import { expect, test } from 'vitest';
import { lower } from '../../generator/plan/index.ts';
import {
  codec,
  defineCache,
  defineConfig,
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

const shape = polar({ bits: [4, 2, 2, 2] });
const half = codec({ headDim: 128, polar: shape });

/** Never called: compiled only. */
function refused(): unknown[] {
  return [
    // @ts-expect-error level 1 has at most 8 bits
    polar({ bits: [9, 2] }),
    // @ts-expect-error levels above have at most 6
    polar({ bits: [4, 7] }),
    // @ts-expect-error no level has 0
    polar({ bits: [0] }),
    // @ts-expect-error one level at least
    polar({ bits: [] }),
    // @ts-expect-error the depth is the number of entries
    polar({ depth: 4, bits: [4, 2, 2] }),
    // @ts-expect-error level 1 has no codebook
    polar({ bits: [4, 1], codebooks: { 1: [0.1] } }),
    // @ts-expect-error codebooks are lists
    polar({ bits: [4, 1], codebooks: { 2: 0.5 } }),
    // @ts-expect-error a log radius has at most 8 bits
    log({ bits: 9 }),
    // @ts-expect-error a tile holds 32 tokens
    tiles({ tokens: 16 }),
    // @ts-expect-error no parameters
    rows({ tokens: 1 }),
    // @ts-expect-error a seed is needed
    hadamard(),
    // @ts-expect-error a seed is a number
    orthogonal({ seed: 'x' }),
    // @ts-expect-error a matrix comes at run time
    matrix({ seed: 1 }),
    // @ts-expect-error nothing to seed
    none({ seed: 1 }),
    // @ts-expect-error a head dimension is needed
    codec({ polar: shape }),
    // @ts-expect-error a misspelt field
    codec({ headDimension: 128, polar: shape }),
    // @ts-expect-error no such radius
    codec({ headDim: 128, polar: shape, radius: 'f8' }),
    // @ts-expect-error no such preconditioner
    codec({ headDim: 128, polar: shape, precondition: { kind: 'fourier' } }),
    // @ts-expect-error center is a switch
    codec({ headDim: 128, polar: shape, center: 1 }),
    // @ts-expect-error values are needed
    defineCache({ name: 'a', key: half }),
    // @ts-expect-error at most 16 query heads a KV head
    defineCache({ name: 'a', key: half, value: half, queryGroup: 17 }),
    // @ts-expect-error no such dtype
    defineCache({ name: 'a', key: half, value: half, dense: 'f64' }),
    // @ts-expect-error an arithmetic is a name
    defineCache({ name: 'a', key: half, value: half, arithmetic: { lattice: 8 } }),
    // @ts-expect-error caches are a list
    defineConfig({ caches: defineCache({ name: 'a', key: half, value: half }) }),
    // @ts-expect-error only what was normalised can be lowered
    lower(defineCache({ name: 'a', key: half, value: half })),
  ];
}

test('mistakes are compile errors', () => {
  expect(refused).toBeTypeOf('function');
});

test('the run time refuses what a cast lets through', () => {
  const cast = polar({ bits: [4, 2, 2, 9 as 2] });
  const input = defineCache({ name: 'a', key: half, value: codec({ headDim: 128, polar: cast }) });
  expect(() => normalize(input)).toThrow('value.polar.bits[3]: 9 bits at level 4');
});
