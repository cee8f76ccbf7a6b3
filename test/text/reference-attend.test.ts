/** Scores, sums and attention of the reference against plain attention over the decoded rows. */

import { describe, expect, it } from 'vitest';
import type { AttendCall, CacheIndex, Plan, Transform } from '../../generator/plan/index.ts';
import { createReference, FLAGS } from '../../generator/reference/index.ts';
import { log, matrix, none, tiles } from '../../generator/spec/index.ts';
import { firstSlots, matrices, normals, planOf, poolOf } from '../fixtures/small-cache.ts';

const HEADS = 2;
const Q_HEADS = 4;
const D = 32;
const DV = 48;

/** A centred cache of matrix keys (rows) and Hadamard values in tiles, two sequences a row of pages each. */
const plan = planOf(
  { precondition: matrix(), center: true },
  { headDim: DV, center: true, layout: tiles({ tokens: 32 }), radius: log({ bits: 3 }) },
);
const reference = createReference(plan);
const key: Transform = { ...matrices(D, HEADS, 1), mean: normals(HEADS * D, 2) };
const value: Transform = { mean: normals(HEADS * DV, 3) };

const PAGES = 3;
/** `count` tokens in the first slots of a pool. */
function fill(count: number, seed: number, bad: readonly number[] = []) {
  const keys = poolOf(plan, 'key', PAGES, HEADS, 0xff);
  const values = poolOf(plan, 'value', PAGES, HEADS, 0xff);
  const call = { count, kvHeads: HEADS, slots: firstSlots(count) };
  const rows = {
    key: normals(count * HEADS * D, seed),
    value: normals(count * HEADS * DV, seed + 1),
  };
  for (const token of bad) {
    rows.key[token * HEADS * D] = NaN;
    rows.value[token * HEADS * DV] = Infinity;
  }
  reference.encode('key', { ...call, cache: keys, transform: key, rows: { data: rows.key } });
  reference.encode('value', {
    ...call,
    cache: values,
    transform: value,
    rows: { data: rows.value },
  });
  const k = reference.decode('key', {
    ...call,
    cache: keys,
    transform: key,
    rows: { data: rows.key },
  }).out;
  const v = reference.decode('value', {
    ...call,
    cache: values,
    transform: value,
    rows: { data: rows.value },
  }).out;
  return { keys, values, k, v };
}

interface Token {
  readonly k: ArrayLike<number>;
  readonly v: ArrayLike<number>;
}

/** One query head's attention, written down as the formula. */
function plainAttention(
  q: ArrayLike<number>,
  tokens: readonly Token[],
  scale: number,
  cap: number,
  sink = -Infinity,
): { out: number[]; lse: number } {
  const logits = tokens.map(({ k }) => {
    let product = 0;
    for (let i = 0; i < D; i++) product += q[i]! * k[i]!;
    return cap > 0 ? cap * Math.tanh((scale * product) / cap) : scale * product;
  });
  const total = logits.reduce((sum, s) => sum + Math.exp(s), 0);
  const out = Array.from(
    { length: DV },
    (_, i) =>
      tokens.reduce((sum, { v }, t) => sum + Math.exp(logits[t]!) * v[i]!, 0) /
      (total + Math.exp(sink)),
  );
  return { out, lse: Math.log(total) };
}

/** Token `t` of head `h` among decoded rows [token][head][d]. */
const tokenOf = (decoded: { k: Float64Array; v: Float64Array }, t: number, h: number): Token => ({
  k: decoded.k.subarray((t * HEADS + h) * D, (t * HEADS + h + 1) * D),
  v: decoded.v.subarray((t * HEADS + h) * DV, (t * HEADS + h + 1) * DV),
});

function expectClose(found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-5): void {
  expect(found.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) {
    if (Number.isNaN(wanted[i]!)) expect(found[i]).toBeNaN();
    else expect(Math.abs(found[i]! - wanted[i]!)).toBeLessThan(tolerance);
  }
}

const scale = Math.fround(1 / Math.sqrt(D));
const q = (rows: number, seed = 20): Float32Array => normals(rows * Q_HEADS * D, seed);
const base = (rows: number, seed?: number) => ({
  rows,
  kvHeads: HEADS,
  q: { data: q(rows, seed) },
  out: { data: new Float32Array(rows * Q_HEADS * DV) },
  scale,
  key,
  value,
});
const one = (length: number, rest: Partial<CacheIndex> = {}): CacheIndex => ({
  sequences: 1,
  maxTokens: 96,
  lengths: Int32Array.of(length),
  pagesPerSequence: PAGES,
  ...rest,
});
const rowOf = (values: Float64Array, width: number, row: number, head: number): Float64Array =>
  values.subarray((row * Q_HEADS + head) * width, (row * Q_HEADS + head + 1) * width);

describe('attend', () => {
  it('with a dense part, a sink and a soft cap is plain attention over all of the rows', () => {
    const cache = fill(70, 30);
    const dense = { k: normals(9 * HEADS * D, 40), v: normals(9 * HEADS * DV, 41) };
    const call = { ...base(1), softcap: 3 };
    const packed = reference.attend({
      ...call,
      keys: cache.keys,
      values: cache.values,
      index: one(70),
    });
    const rows = reference.attendDense({
      ...call,
      keys: dense.k,
      values: dense.v,
      sequences: 1,
      maxTokens: 9,
      lengths: Int32Array.of(9),
    });
    const sink = Float32Array.of(2, -1, 0, 5);
    const merged = reference.merge({
      parts: [packed, rows].map(({ out, lse }) => ({
        out: { data: Float32Array.from(out) },
        lse: Float32Array.from(lse),
      })),
      rows: 1,
      qHeads: Q_HEADS,
      sink,
      out: call.out,
    });
    const all = { k: Float64Array.from(dense.k), v: Float64Array.from(dense.v) };
    for (let head = 0; head < Q_HEADS; head++) {
      const h = Math.floor(head / 2);
      const tokens = [
        ...Array.from({ length: 70 }, (_, t) => tokenOf(cache, t, h)),
        ...Array.from({ length: 9 }, (_, t) => tokenOf(all, t, h)),
      ];
      const query = call.q.data.subarray(head * D, (head + 1) * D);
      const wanted = plainAttention(query, tokens, scale, 3, sink[head]);
      expectClose(rowOf(merged.out, DV, 0, head), wanted.out);
      expectClose([merged.lse[head]!], [wanted.lse]);
    }
  });

  it('sees positions up to its own, within its window, by lists too', () => {
    const length = 40;
    const cache = fill(length, 50);
    const cases: { position?: number; window?: number; first?: number; list?: Int32Array }[] = [
      {},
      { position: 12 },
      { position: 30, window: 5 },
      { window: 7 },
      { position: 112, window: 30, first: 100 },
      { position: -1 },
      { position: 500, window: 3 },
      { position: 60, window: 21, list: Int32Array.from({ length }, (_, i) => (i * 17) % 83) },
      { window: 21, list: Int32Array.from({ length }, (_, i) => (i * 17) % 83) },
    ];
    for (const { position, window = 0, first = 0, list } of cases) {
      const call = {
        ...base(1),
        window,
        ...(position === undefined ? {} : { rowPosition: Int32Array.of(position) }),
        keys: cache.keys,
        values: cache.values,
        index: one(length, {
          firstPosition: Int32Array.of(first),
          ...(list === undefined
            ? {}
            : { positions: list, positionsStride: length, maxTokens: length }),
        }),
      };
      const { out, lse } = reference.attend(call);
      const positions = Array.from({ length }, (_, i) => list?.[i] ?? first + i);
      const p = position ?? Math.max(...positions);
      const seen = positions.flatMap((at, t) =>
        at <= p && (window === 0 || at > p - window) ? [t] : [],
      );
      for (let head = 0; head < Q_HEADS; head++) {
        const h = Math.floor(head / 2);
        if (seen.length === 0) {
          expect([...rowOf(out, DV, 0, head)]).toEqual(Array(DV).fill(0));
          expect(lse[head]).toBe(-Infinity);
          continue;
        }
        const query = call.q.data.subarray(head * D, (head + 1) * D);
        const wanted = plainAttention(
          query,
          seen.map((t) => tokenOf(cache, t, h)),
          scale,
          0,
        );
        expectClose(rowOf(out, DV, 0, head), wanted.out);
        expectClose([lse[head]!], [wanted.lse]);
      }
    }
  });

  it('never lets a token touch a result that does not see it, and shows NaN where one does', () => {
    const clean = fill(40, 60);
    const soiled = fill(40, 60, [20]);
    const run = (cache: typeof clean, position: number) =>
      reference.attend({
        ...base(1),
        rowPosition: Int32Array.of(position),
        keys: cache.keys,
        values: cache.values,
        index: one(40),
      });
    expect(run(soiled, 19)).toEqual(run(clean, 19));
    const { out, lse } = run(soiled, 20);
    // Head 0 of the cache has the bad key: both query heads on it are NaN, the others are whole.
    expect([...lse].map(Number.isNaN)).toEqual([true, true, false, false]);
    expect([...out.subarray(0, 2 * DV)].every(Number.isNaN)).toBe(true);
    expect([...out.subarray(2 * DV)].every(Number.isFinite)).toBe(true);
  });

  it('in pieces, merged, is attention over the whole', () => {
    const cache = fill(90, 70);
    const whole = reference.attend({
      ...base(1),
      keys: cache.keys,
      values: cache.values,
      index: one(90),
    });
    const lastPositions = [33, 34, 89];
    const parts = lastPositions.map((last, i) => {
      const before = i === 0 ? -1 : lastPositions[i - 1]!;
      const { out, lse } = reference.attend({
        ...base(1),
        rowPosition: Int32Array.of(last),
        window: last - before,
        keys: cache.keys,
        values: cache.values,
        index: one(90),
      });
      return { out: { data: Float32Array.from(out) }, lse: Float32Array.from(lse) };
    });
    const empty = {
      out: { data: new Float32Array(Q_HEADS * DV).fill(NaN) },
      lse: new Float32Array(Q_HEADS).fill(-Infinity),
    };
    const merged = reference.merge({
      parts: [empty, ...parts],
      rows: 1,
      qHeads: Q_HEADS,
      out: empty.out,
    });
    expectClose(merged.out, whole.out);
    expectClose(merged.lse, whole.lse);
    const nothing = reference.merge({
      parts: [empty, empty],
      rows: 1,
      qHeads: Q_HEADS,
      out: empty.out,
      sink: new Float32Array(4),
    });
    expect([...nothing.out]).toEqual(Array(Q_HEADS * DV).fill(0));
    expect([...nothing.lse]).toEqual(Array(Q_HEADS).fill(-Infinity));
  });

  it('gives rotated outputs for rotated queries', () => {
    const cache = fill(40, 80);
    const call = { ...base(1), keys: cache.keys, values: cache.values, index: one(40) };
    const original = reference.attend(call);
    const rotate = (role: 'key' | 'value', data: Float32Array, rotation: 'dual' | 'inverse') =>
      reference.rotate(role, {
        in: { data },
        out: { data },
        count: 1,
        heads: Q_HEADS,
        headsPerKv: 2,
        rotation,
        transform: role === 'key' ? key : value,
      });
    const rotated = reference.attend({
      ...call,
      basis: 'rotated',
      q: { data: Float32Array.from(rotate('key', call.q.data, 'dual')) },
    });
    expectClose(rotated.lse, original.lse);
    expectClose(rotate('value', Float32Array.from(rotated.out), 'inverse'), original.out);
  });

  it('reads the same tokens through a block table, CSR and no table', () => {
    const cache = fill(96, 90);
    const contiguous = reference.attend({
      ...base(2),
      rowSequence: Int32Array.of(0, 0),
      keys: cache.keys,
      values: cache.values,
      index: one(77),
    });
    // Pages 0, 1, 2 move to 2, 0, 1; the second sequence shares the first page.
    const moved = (pool: typeof cache.keys) => {
      const size = pool.data.length / PAGES;
      const data = new Uint8Array(pool.data.length);
      [2, 0, 1].forEach((to, from) => {
        data.set(pool.data.subarray(from * size, (from + 1) * size), to * size);
      });
      return { data, pages: PAGES };
    };
    const pools = { keys: moved(cache.keys), values: moved(cache.values) };
    const table = {
      sequences: 2,
      maxTokens: 96,
      lengths: Int32Array.of(77, 20),
      blockTable: Int32Array.of(2, 0, 1, 99, 2, -7, 99, 99),
      blockTableStride: 4,
    };
    const csr = {
      sequences: 2,
      maxTokens: 96,
      indptr: Int32Array.of(0, 3, 4),
      indices: Int32Array.of(2, 0, 1, 2),
      lastPageLen: Int32Array.of(77 - 64, 20),
    };
    const rowSequence = Int32Array.of(0, 0);
    expect(reference.attend({ ...base(2), ...pools, rowSequence, index: table })).toEqual(
      contiguous,
    );
    expect(reference.attend({ ...base(2), ...pools, rowSequence, index: csr })).toEqual(contiguous);
    const both = reference.attend({ ...base(2), ...pools, index: table });
    expect(reference.attend({ ...base(2), ...pools, index: csr })).toEqual(both);
    const short = reference.attend({
      ...base(2),
      keys: cache.keys,
      values: cache.values,
      rowSequence,
      index: one(20),
    });
    expectClose(rowOf(both.out, DV, 1, 3), rowOf(short.out, DV, 1, 3), 1e-12);
  });

  const tables: [string, Partial<AttendCall>, number][] = [
    [
      'a page beyond the pool',
      { index: one(40, { blockTable: Int32Array.of(0, 3, 0), blockTableStride: 3 }) },
      FLAGS.pageOutOfRange,
    ],
    [
      'a negative page',
      { index: one(40, { blockTable: Int32Array.of(0, -1, 0), blockTableStride: 3 }) },
      FLAGS.pageOutOfRange,
    ],
    ['a negative length', { index: one(-1) }, FLAGS.lengthOutOfRange],
    ['a length beyond max_tokens', { index: one(97) }, FLAGS.lengthOutOfRange],
    [
      'a length beyond the table',
      { index: one(65, { blockTable: Int32Array.of(0, 1), blockTableStride: 2 }) },
      FLAGS.lengthOutOfRange,
    ],
    [
      'a last page that is too long',
      {
        index: {
          sequences: 1,
          maxTokens: 96,
          indptr: Int32Array.of(0, 1),
          indices: Int32Array.of(0),
          lastPageLen: Int32Array.of(33),
        },
      },
      FLAGS.lengthOutOfRange,
    ],
    [
      'an indptr that falls',
      {
        index: {
          sequences: 1,
          maxTokens: 96,
          indptr: Int32Array.of(1, 0),
          indices: Int32Array.of(0),
          lastPageLen: Int32Array.of(1),
        },
      },
      FLAGS.lengthOutOfRange,
    ],
    [
      'a sequence that does not exist',
      { index: one(40), rowSequence: Int32Array.of(1) },
      FLAGS.sequenceOutOfRange,
    ],
  ];
  it.each(tables)('makes a row NaN, and says why, for %s', (_, rest, flag) => {
    const cache = fill(96, 90);
    const call = { ...base(1), keys: cache.keys, values: cache.values, index: one(40), ...rest };
    const { out, lse, flags } = reference.attend(call);
    expect(flags).toBe(flag);
    expect([...out, ...lse].every(Number.isNaN)).toBe(true);
    const { scale: _scale, ...shared } = call;
    expect(reference.scores({ ...call, scores: new Float32Array(0) }).flags).toBe(flag);
    expect(
      reference.weightedSum({ ...shared, weights: new Float32Array(Q_HEADS * 96) }).flags,
    ).toBe(flag);
  });

  it('tells the greatest logit that was seen', () => {
    const bare = planOf({ precondition: none() });
    const own = createReference(bare);
    const keys = poolOf(bare, 'key', 1);
    const rows = normals(20 * 32, 100);
    const call = {
      count: 20,
      kvHeads: 1,
      slots: firstSlots(20),
      cache: keys,
      rows: { data: rows },
    };
    own.encode('key', call);
    const decoded = own.decode('key', call).out;
    const query = normals(64, 101);
    const { maxLogit } = own.attend({
      rows: 1,
      kvHeads: 1,
      q: { data: query },
      out: { data: query },
      scale: 0.5,
      keys,
      values: keys,
      rowPosition: Int32Array.of(9),
      index: { sequences: 1, maxTokens: 32, lengths: Int32Array.of(20) },
    });
    const length = (x: ArrayLike<number>, at: number): number => {
      let sum = 0;
      for (let i = 0; i < 32; i++) sum += x[at * 32 + i]! ** 2;
      return Math.sqrt(sum);
    };
    const longest = Math.max(...Array.from({ length: 10 }, (_, t) => length(decoded, t)));
    expectClose(maxLogit, [0.5 * longest * Math.max(length(query, 0), length(query, 1))], 1e-9);
  });
});

describe('attend_dense', () => {
  it('reads rows in the dense dtype, and always shows flagged tokens', () => {
    const dense: Plan = planOf({}, {}, { dense: 'bf16', queryGroup: 1 });
    const own = createReference(dense);
    // bf16 patterns of small integers.
    const pattern = (x: number): number => new Uint32Array(Float32Array.of(x).buffer)[0]! >>> 16;
    const numbers = Float64Array.from({ length: 6 * 32 }, (_, i) => ((i * 29) % 15) - 7);
    const data = Uint16Array.from(numbers, pattern);
    const query = normals(32, 110);
    const { out, lse } = own.attendDense({
      rows: 1,
      kvHeads: 1,
      q: { data: query },
      out: { data: query },
      scale: 0.25,
      window: 2,
      rowPosition: Int32Array.of(4),
      keys: data,
      values: data,
      sequences: 1,
      maxTokens: 6,
      lengths: Int32Array.of(6),
      alwaysVisible: Uint8Array.of(0, 1, 0, 0, 0, 0),
    });
    const rows = [1, 3, 4].map((t) => numbers.subarray(t * 32, (t + 1) * 32));
    const logits = rows.map((row) => 0.25 * row.reduce((sum, x, i) => sum + x * query[i]!, 0));
    const total = logits.reduce((sum, s) => sum + Math.exp(s), 0);
    const wanted = Array.from({ length: 32 }, (_, i) =>
      rows.reduce((sum, row, t) => sum + (Math.exp(logits[t]!) / total) * row[i]!, 0),
    );
    expectClose(out, wanted, 1e-9);
    expectClose(lse, [Math.log(total)], 1e-9);
  });
});

describe('scores and weighted_sum', () => {
  it('are products with the decoded rows', () => {
    const cache = fill(40, 120);
    const call = { ...base(1), index: one(40) };
    const { out } = reference.scores({
      ...call,
      keys: cache.keys,
      softcap: 4,
      rowPosition: Int32Array.of(29),
      scores: new Float32Array(Q_HEADS * 96),
    });
    const weights = normals(Q_HEADS * 96, 121);
    const sum = reference.weightedSum({ ...call, values: cache.values, weights }).out;
    for (let head = 0; head < Q_HEADS; head++) {
      const found = rowOf(out, 96, 0, head);
      const total = new Float64Array(DV);
      for (let t = 0; t < 40; t++) {
        const { k, v } = tokenOf(cache, t, Math.floor(head / 2));
        let product = 0;
        for (let i = 0; i < D; i++) product += call.q.data[head * D + i]! * k[i]!;
        const wanted = t > 29 ? -Infinity : 4 * Math.tanh((scale * product) / 4);
        if (t > 29) expect(found[t]).toBe(-Infinity);
        else expect(Math.abs(found[t]! - wanted)).toBeLessThan(1e-5);
        for (let i = 0; i < DV; i++) total[i]! += weights[head * 96 + t]! * v[i]!;
      }
      expectClose(rowOf(sum, DV, 0, head), total, 1e-9);
    }
  });
});
