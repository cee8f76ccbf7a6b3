/** Golden vectors: what a runtime in another language relies on. */

import { describe, expect, it } from 'vitest';
import { createReference, goldenVectors } from '../../generator/reference/index.ts';
import { arrayOf, floatsOf, readSafetensors, tensorOf } from '../../generator/safetensors/index.ts';
import { hadamard, log, matrix, orthogonal, polar, tiles } from '../../generator/spec/index.ts';
import { planOf } from '../fixtures/small-cache.ts';

const FORMATS = [
  ['hadamard', planOf({ headDim: 128 }, { headDim: 128, layout: tiles({ tokens: 32 }) })],
  [
    'small pages, log radii, centred matrices',
    planOf(
      { precondition: matrix(), center: true, radius: log({ bits: 2 }) },
      {
        precondition: orthogonal({ seed: 3 }),
        headDim: 40,
        polar: polar({ depth: 3, bits: [4, 3, 3] }),
      },
      { pageTokens: 8, queryGroup: 3 },
    ),
  ],
] as const;

describe.each(FORMATS)('%s', (_, plan) => {
  const bytes = goldenVectors(plan);
  const file = readSafetensors(bytes);

  it('carries the hashes of its plan', () => {
    expect(file.metadata).toMatchObject({
      planHash: plan.planHash,
      'key.formatHash': plan.key.formatHash,
      'value.formatHash': plan.value.formatHash,
    });
  });

  it('is the same for the same plan, and small', () => {
    expect(goldenVectors(structuredClone(plan))).toEqual(bytes);
    expect(bytes.length).toBeLessThan(150_000);
  });

  it.each(['key', 'value'] as const)('holds what encoding its %s rows gives', (role) => {
    const codec = plan[role];
    const d = codec.headDim;
    const rows = floatsOf(tensorOf(file, `${role}.rows`, { shape: [-1, d] }));
    const count = rows.length / d;
    const slots = arrayOf(tensorOf(file, `${role}.slots`, { shape: [count] })) as BigInt64Array;
    const packed = tensorOf(file, `${role}.packed`, { shape: [-1, codec.layout.unitBytes] });
    const found = { data: new Uint8Array(packed.data.length + 16 * 1024), pages: 8 };
    const errors = new Float32Array(count);
    const transform = Object.fromEntries(
      ['mean', 'matrix', 'dual']
        .filter((name) => file.tensors.has(`${role}.${name}`))
        .map((name) => [name, floatsOf(tensorOf(file, `${role}.${name}`))]),
    );
    expect('mean' in transform).toBe(codec.center);
    expect('dual' in transform).toBe(codec.precondition.kind === 'matrix');
    createReference(plan).encode(role, {
      rows: { data: rows },
      count,
      kvHeads: 1,
      slots,
      cache: found,
      transform,
      errors,
    });
    expect(Buffer.compare(found.data.subarray(0, packed.data.length), packed.data)).toBe(0);
    expect(errors).toEqual(floatsOf(tensorOf(file, `${role}.errors`)));
    // Ordinary rows come back nearly; rows that are not finite are told by their error.
    const decoded = floatsOf(tensorOf(file, `${role}.decoded`, { shape: [count, d] }));
    let lost = 0;
    let energy = 0;
    for (let i = 0; i < 16 * d; i++) {
      lost += (rows[i]! - decoded[i]!) ** 2;
      energy += rows[i]! ** 2;
    }
    expect(lost / energy).toBeLessThan(2.5 * codec.error);
    for (let row = 0; row < count; row++) {
      const finite = decoded.subarray(row * d, (row + 1) * d).every(Number.isFinite);
      expect(finite).toBe(errors[row] !== Infinity);
    }
    expect(errors.filter((error) => error === Infinity).length).toBeGreaterThanOrEqual(2);
  });

  it('holds an attention whose outputs are means of values', () => {
    const out = floatsOf(
      tensorOf(file, 'attend.out', { shape: [plan.queryGroup, plan.value.headDim] }),
    );
    expect(out.every((x) => Number.isFinite(x) && Math.abs(x) < 5)).toBe(true);
    const lse = floatsOf(tensorOf(file, 'attend.lse', { shape: [plan.queryGroup] }));
    expect(lse.every((x) => Math.abs(x - Math.log(16)) < 3)).toBe(true);
  });
});

it('differ when the format does', () => {
  const one = readSafetensors(goldenVectors(planOf()));
  const other = readSafetensors(goldenVectors(planOf({ precondition: hadamard({ seed: 2 }) })));
  expect(arrayOf(tensorOf(one, 'key.rows'))).not.toEqual(arrayOf(tensorOf(other, 'key.rows')));
});
