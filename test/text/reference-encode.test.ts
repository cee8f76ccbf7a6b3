/** Encode, decode and rotate of the reference against definitions that share no code with it. */

import { describe, expect, it } from 'vitest';
import {
  bitAddress,
  type CodecPlan,
  orthogonalMatrix,
  type Plan,
  type Pool,
} from '../../generator/plan/index.ts';
import { createReference, FLAGS } from '../../generator/reference/index.ts';
import {
  hadamard,
  log,
  matrix,
  none,
  orthogonal,
  polar,
  tiles,
} from '../../generator/spec/index.ts';
import { firstSlots, matrices, normals, planOf, poolOf } from '../fixtures/small-cache.ts';

const tile = tiles({ tokens: 32 });

/** Keys of `rows` in slots 0, 1, …, one head: pool, errors, and what they decode to in either basis. */
function roundTrip(plan: Plan, rows: Float32Array, transform = {}) {
  const reference = createReference(plan);
  const count = rows.length / plan.key.headDim;
  const cache = poolOf(plan, 'key', Math.ceil(count / plan.pageTokens));
  const errors = new Float32Array(count);
  const call = {
    count,
    kvHeads: 1,
    slots: firstSlots(count),
    cache,
    transform,
    rows: { data: rows },
  };
  reference.encode('key', { ...call, errors });
  const decoded = reference.decode('key', call).out;
  const rotated = reference.decode('key', { ...call, basis: 'rotated' }).out;
  return { cache, errors, decoded, rotated };
}

/** A field of a token's record, read bit by bit at the addresses that the layout gives. */
function field(codec: CodecPlan, pool: Pool, slot: number, first: number, bits: number): number {
  const { layout } = codec;
  let value = 0;
  for (let i = 0; i < bits; i++) {
    const { byte, bit } = bitAddress(layout, slot % layout.unitTokens, first + i);
    const unit = Math.floor(slot / layout.unitTokens) * layout.unitBytes;
    value += ((pool.data[unit + byte]! >>> bit) & 1) * 2 ** i;
  }
  return value;
}

function allCodes(codec: CodecPlan, pool: Pool, slot: number): number[] {
  return codec.layout.codes.flatMap((positions, index) =>
    positions.map((at) => field(codec, pool, slot, at, codec.levels[index]!.bits)),
  );
}

/** Unit vectors of every code of a block: cosines and sines multiplied out from the angles. */
function codewords(codec: CodecPlan): number[][] {
  const first = codec.levels[0]!;
  let words: number[][] = [];
  for (const angle of first.bits === 1 ? [Math.PI / 2] : first.angles) {
    for (const [x, y] of [
      [1, 1],
      [1, -1],
      [-1, 1],
      [-1, -1],
    ] as const) {
      words.push([x * Math.cos(angle), y * Math.sin(angle)]);
    }
  }
  for (const level of codec.levels.slice(1)) {
    words = level.angles.flatMap((angle) =>
      words.flatMap((left) =>
        words.map((right) => [
          ...left.map((x) => x * Math.cos(angle)),
          ...right.map((x) => x * Math.sin(angle)),
        ]),
      ),
    );
  }
  return words;
}

describe('encode', () => {
  it.each([
    { name: '[5]', code: polar({ depth: 1, bits: [5] }) },
    { name: '[3, 2]', code: polar({ depth: 2, bits: [3, 2] }) },
    { name: '[1, 3]', code: polar({ depth: 2, bits: [1, 3] }) },
    { name: '[2, 1, 1]', code: polar({ depth: 3, bits: [2, 1, 1] }) },
  ])('finds the nearest codeword of all: $name', ({ code }) => {
    const plan = planOf({
      headDim: 16,
      polar: code,
      precondition: none(),
      radius: 'f32',
    });
    const width = 2 ** plan.key.depth;
    const words = codewords(plan.key);
    const rows = normals(16 * 12, 3);
    const { decoded } = roundTrip(plan, rows);
    for (let at = 0; at < rows.length; at += width) {
      const x = [...rows.subarray(at, at + width)];
      const energy = x.reduce((sum, v) => sum + v * v, 0);
      let best = 0;
      for (const word of words) {
        best = Math.max(
          best,
          word.reduce((sum, c, i) => sum + c * x[i]!, 0),
        );
      }
      const distance = x.reduce((sum, v, i) => sum + (v - decoded[at + i]!) ** 2, 0);
      expect(Math.abs(distance - (energy - best * best))).toBeLessThan(1e-5 * energy);
    }
  });

  it.each([
    ['the paper', {}],
    ['log radii in tiles', { radius: log({ bits: 4 }), layout: tile }],
    ['full depth', { polar: polar({ depth: 5, bits: [4, 2, 2, 2, 2] }), radius: 'bf16' as const }],
    [
      'deep bits',
      { headDim: 48, polar: polar({ depth: 2, bits: [6, 4] }), radius: 'f32' as const },
    ],
  ])('has the error that the plan expects, and reports it: %s', (_, input) => {
    const plan = planOf(input);
    const { headDim } = plan.key;
    const count = 4000;
    const rows = normals(count * headDim, 5);
    const { errors, decoded, rotated } = roundTrip(plan, rows);
    let lost = 0;
    let energy = 0;
    for (let i = 0; i < rows.length; i++) {
      lost += (rows[i]! - decoded[i]!) ** 2;
      energy += rows[i]! ** 2;
    }
    expect(lost / energy / plan.key.error).toBeGreaterThan(0.97);
    expect(lost / energy / plan.key.error).toBeLessThan(1.03);
    const forward = createReference(plan).rotate('key', {
      in: { data: rows },
      out: { data: rows },
      count,
      heads: 1,
      rotation: 'forward',
    });
    for (let row = 0; row < count; row++) {
      let distance = 0;
      let length = 0;
      for (let i = row * headDim; i < (row + 1) * headDim; i++) {
        distance += (forward[i]! - rotated[i]!) ** 2;
        length += forward[i]! ** 2;
      }
      expect(Math.abs(errors[row]! - distance)).toBeLessThan(1e-5 * distance + 1e-7 * length);
    }
  });

  it.each([
    ['rows, f16', { radius: 'f16' as const }],
    ['tiles, bf16', { radius: 'bf16' as const, layout: tile }],
    ['rows, log', { radius: log({ bits: 3 }) }],
    [
      'tiles, f32, no preconditioning',
      { radius: 'f32' as const, layout: tile, precondition: none() },
    ],
  ])('gives exact zeros for zeros, negative zeros and numbers below 2⁻⁶⁴: %s', (_, input) => {
    const plan = planOf(input);
    const below = 2 ** -64 * (1 - 2 ** -24);
    for (const x of [0, -0, 1e-45, -below]) {
      const { decoded, errors, cache } = roundTrip(plan, new Float32Array(32).fill(x));
      expect(decoded.every((y) => y === 0)).toBe(true);
      expect(errors[0]).toBe(0);
      // No bit of a negative zero's sign is stored without preconditioning.
      if (plan.key.precondition.kind === 'none') {
        expect(allCodes(plan.key, cache, 0).every((code) => code === 0)).toBe(true);
      }
    }
    const { rotated } = roundTrip(plan, new Float32Array(32).fill(2 ** -64));
    if (plan.key.radius.kind === 'f32') expect(rotated.every((y) => y !== 0)).toBe(true);
  });

  it.each([
    ['f16', 0x7e00, 16],
    ['bf16', 0x7fc0, 16],
    ['f32', 0x7fc00000, 32],
  ] as const)(
    'stores the canonical NaN, and codes 0, for blocks that are not finite: %s',
    (radius, nan, bits) => {
      for (const layout of [undefined, tile]) {
        const plan = planOf({ precondition: none(), radius, ...(layout ? { layout } : {}) });
        const { key } = plan;
        for (const bad of [NaN, Infinity, -Infinity, 3e38]) {
          const rows = normals(32, 7);
          if (bad === 3e38) rows.fill(bad, 16);
          else rows[21] = bad;
          const { cache, errors, decoded } = roundTrip(plan, rows);
          expect(field(key, cache, 0, key.layout.radii[1]!, bits)).toBe(nan);
          expect(errors[0]).toBe(Infinity);
          const codes = key.layout.codes.map((at, l) =>
            at.map((first) => field(key, cache, 0, first, key.levels[l]!.bits)),
          );
          for (const level of codes) {
            expect(level.slice(level.length / 2).every((code) => code === 0)).toBe(true);
          }
          expect(codes[0]!.slice(0, 8).some((code) => code !== 0)).toBe(true);
          expect([...decoded.subarray(16)].every(Number.isNaN)).toBe(true);
          expect([...decoded.subarray(0, 16)].every(Number.isFinite)).toBe(true);
        }
      }
    },
  );

  it('stores a NaN norm and nothing else with log radii', () => {
    const plan = planOf({ precondition: none(), radius: log({ bits: 3 }), layout: tile });
    const rows = normals(32, 8);
    rows[0] = NaN;
    const { cache, errors, decoded } = roundTrip(plan, rows);
    const { layout } = plan.key;
    expect(field(plan.key, cache, 0, layout.norm!, 16)).toBe(0x7e00);
    expect(allCodes(plan.key, cache, 0).every((code) => code === 0)).toBe(true);
    expect(layout.radii.every((at) => field(plan.key, cache, 0, at, 3) === 0)).toBe(true);
    expect(errors[0]).toBe(Infinity);
    expect([...decoded].every(Number.isNaN)).toBe(true);
  });

  it('clamps radii beyond f16, and counts what that loses', () => {
    const plan = planOf({ precondition: none() });
    const rows = new Float32Array(32);
    rows[0] = 2e5;
    const { cache, errors } = roundTrip(plan, rows);
    expect(field(plan.key, cache, 0, plan.key.layout.radii[0]!, 16)).toBe(0x7bff);
    expect(errors[0]).toBeGreaterThan(1.3e5 ** 2);
    expect(errors[0]).toBeLessThan(Infinity);
  });

  it('sums the products of a matrix in float32, in index order', () => {
    const plan = planOf({ precondition: matrix(), radius: 'f32' });
    const matrixData = new Float32Array(32 * 32);
    // 10⁸ + 1 is 10⁸ in float32, so the second product is lost; exact sums would give 1.
    matrixData.set([1e8, 1, -1e8]);
    const transform = { matrix: matrixData, dual: matrixData };
    const { cache } = roundTrip(plan, new Float32Array(32).fill(1), transform);
    expect(plan.key.layout.radii.map((at) => field(plan.key, cache, 0, at, 32))).toEqual([0, 0]);
    // Another order keeps it.
    matrixData.set([1e8, -1e8, 1]);
    const kept = roundTrip(plan, new Float32Array(32).fill(1), transform);
    expect(field(plan.key, kept.cache, 0, plan.key.layout.radii[0]!, 32)).not.toBe(0);
  });

  it('subtracts the mean of each head', () => {
    const plan = planOf({ center: true });
    const mean = normals(64, 9);
    const reference = createReference(plan);
    const cache = poolOf(plan, 'key', 1, 2);
    const call = { count: 1, kvHeads: 2, slots: firstSlots(1), cache, transform: { mean } };
    const errors = new Float32Array(2);
    reference.encode('key', { ...call, rows: { data: mean }, errors });
    expect([...errors]).toEqual([0, 0]);
    const { out } = reference.decode('key', { ...call, rows: { data: mean } });
    expect([...out]).toEqual([...mean]);
  });

  it('takes f16 and bf16 rows as the numbers they are', () => {
    const plan = planOf();
    const values = Float32Array.from({ length: 32 }, (_, i) => (i - 13) / 8);
    const bits = new Uint32Array(values.buffer);
    const half = Uint16Array.from(values, (v) => {
      if (v === 0) return 0;
      const exponent = Math.floor(Math.log2(Math.abs(v)));
      const fraction = (Math.abs(v) / 2 ** exponent - 1) * 1024;
      return (v < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction;
    });
    const brain = Uint16Array.from(bits, (pattern) => pattern >>> 16);
    const reference = createReference(plan);
    const packed = [
      { data: values },
      { data: half, dtype: 'f16' as const },
      { data: brain, dtype: 'bf16' as const },
    ].map((rows) => {
      const cache = poolOf(plan, 'key', 1);
      reference.encode('key', { rows, count: 1, kvHeads: 1, slots: firstSlots(1), cache });
      return [...cache.data];
    });
    expect(packed[0]!.some((byte) => byte !== 0)).toBe(true);
    expect(packed[1]).toEqual(packed[0]);
    expect(packed[2]).toEqual(packed[0]);
  });
});

describe('a pool', () => {
  it.each([
    ['rows', {}],
    ['tiles of whole bytes', { layout: tile }],
    [
      'tiles with 4, 2 and 1 bits left',
      {
        headDim: 34,
        polar: polar({ depth: 1, bits: [3] }),
        precondition: none(),
        layout: tile,
        radius: log({ bits: 2 }),
      },
    ],
  ])('changes in the bits of its own tokens alone: %s', (_, input) => {
    const plan = planOf(input);
    const { layout, headDim } = plan.key;
    const reference = createReference(plan);
    const slots = BigInt64Array.of(5n, -1n, 40n, 64n, 9_000_000_000n);
    const rows = { data: normals(5 * 2 * headDim, 11) };
    const unitStride = layout.unitBytes + 3;
    const headStride = (32 / layout.unitTokens) * unitStride + 5;
    const strides = { offset: 16, unitStride, headStride, pageStride: 2 * headStride + 7 };
    const pools = [0x00, 0xff].map((fill) => {
      const data = new Uint8Array(16 + 2 * strides.pageStride).fill(fill);
      const flags = Uint32Array.of(16);
      reference.encode('key', {
        rows,
        count: 5,
        kvHeads: 2,
        slots,
        cache: { data, pages: 2, ...strides },
        flags,
      });
      expect(flags[0]).toBe(16 | FLAGS.slotOutOfRange);
      return data;
    });
    const owned = new Set<string>();
    for (const slot of [5, 40]) {
      for (let head = 0; head < 2; head++) {
        const token = slot % 32;
        const unit =
          16 +
          Math.floor(slot / 32) * strides.pageStride +
          head * headStride +
          Math.floor(token / layout.unitTokens) * unitStride;
        for (let i = 0; i < layout.storedBits; i++) {
          const { byte, bit } = bitAddress(layout, token % layout.unitTokens, i);
          owned.add(`${unit + byte}.${bit}`);
        }
      }
    }
    for (let byte = 0; byte < pools[0]!.length; byte++) {
      for (let bit = 0; bit < 8; bit++) {
        const [low, high] = pools.map((pool) => (pool[byte]! >>> bit) & 1);
        if (owned.has(`${byte}.${bit}`)) expect(low).toBe(high);
        else expect([low, high]).toEqual([0, 1]);
      }
    }
  });

  it('decodes the slots asked for, and no others', () => {
    const plan = planOf({ layout: tile });
    const reference = createReference(plan);
    const cache = poolOf(plan, 'key', 2, 1, 0xa5);
    const data = normals(3 * 32, 12);
    const call = { kvHeads: 1, cache, rows: { data } };
    reference.encode('key', { ...call, count: 3, slots: BigInt64Array.of(7n, 33n, 63n) });
    const { out, written, flags } = reference.decode('key', {
      ...call,
      count: 4,
      slots: BigInt64Array.of(63n, -5n, 64n, 7n),
    });
    expect([...written]).toEqual([1, 0, 0, 1]);
    expect(flags).toBe(FLAGS.slotOutOfRange);
    for (const [row, source] of [
      [0, 2],
      [3, 0],
    ] as const) {
      let difference = 0;
      for (let i = 0; i < 32; i++) difference += (out[row * 32 + i]! - data[source * 32 + i]!) ** 2;
      expect(difference).toBeLessThan(32 * 0.15);
    }
  });
});

describe('rotate', () => {
  const d = 48;
  const mean = {};
  it.each([
    ['hadamard of order 12', { headDim: d, precondition: hadamard({ seed: 4 }) }, mean],
    ['hadamard of order 28', { headDim: 112, precondition: hadamard({ seed: 4 }) }, mean],
    [
      'orthogonal',
      { headDim: d, precondition: orthogonal({ seed: 4 }) },
      { matrix: orthogonalMatrix(d, 4) },
    ],
    ['matrix', { headDim: d, precondition: matrix() }, matrices(d, 2, 5)],
    ['none', { headDim: d, precondition: none() }, mean],
  ])('keeps products of duals and rotated vectors, and inverts: %s', (_, input, transform) => {
    const plan = planOf(input);
    const n = plan.key.headDim;
    const reference = createReference(plan);
    const rows = 3;
    const heads = 4;
    const x = normals(rows * heads * n, 6);
    const q = normals(rows * heads * n, 7);
    const call = { count: rows, heads, headsPerKv: 2, transform, out: { data: x } };
    const forward = reference.rotate('key', { ...call, in: { data: x }, rotation: 'forward' });
    const dual = reference.rotate('key', { ...call, in: { data: q }, rotation: 'dual' });
    const back = reference.rotate('key', {
      ...call,
      in: { data: Float32Array.from(forward) },
      rotation: 'inverse',
    });
    for (let row = 0; row < rows * heads; row++) {
      let before = 0;
      let after = 0;
      for (let i = row * n; i < (row + 1) * n; i++) {
        before += x[i]! * q[i]!;
        after += forward[i]! * dual[i]!;
        expect(Math.abs(back[i]! - x[i]!)).toBeLessThan(1e-5);
      }
      expect(Math.abs(after - before)).toBeLessThan(1e-4);
    }
    if (plan.key.precondition.kind !== 'none') {
      const moved = forward.some((y, i) => Math.abs(y - x[i]!) > 0.1);
      expect(moved).toBe(true);
    }
  });

  it('is orthonormal with a Hadamard matrix: rows of H have length 1 and meet at right angles', () => {
    for (const headDim of [16, 48, 80, 112, 144]) {
      const plan = planOf({ headDim });
      const eye = new Float32Array(headDim * headDim);
      for (let i = 0; i < headDim; i++) eye[i * headDim + i] = 1;
      const columns = createReference(plan).rotate('key', {
        in: { data: eye },
        out: { data: eye },
        count: headDim,
        heads: 1,
        rotation: 'forward',
      });
      for (let i = 0; i < headDim; i++) {
        for (let j = 0; j <= i; j++) {
          let product = 0;
          for (let k = 0; k < headDim; k++) {
            product += columns[i * headDim + k]! * columns[j * headDim + k]!;
          }
          expect(Math.abs(product - (i === j ? 1 : 0))).toBeLessThan(1e-12);
        }
        expect(Math.abs(Math.abs(columns[i]!) - 1 / Math.sqrt(headDim))).toBeLessThan(1e-15);
      }
    }
  });
});
