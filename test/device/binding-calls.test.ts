/** The Node addon: the same results on any number of threads, and one clear error for every misuse. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KernelCalls, Plan } from '../../generator/plan/index.ts';
import { createReference } from '../../generator/reference/index.ts';
import { tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { normals, planOf, poolOf } from '../fixtures/small-cache.ts';

type Name = keyof KernelCalls;
type AsyncCalls = Record<`${Name}Async`, (call: object) => Promise<void>>;
type Workspaces = Record<
  'attendWorkspace' | 'attendDenseWorkspace' | 'scoresWorkspace' | 'weightedSumWorkspace',
  (call: object) => number
>;
type Calls = KernelCalls &
  AsyncCalls &
  Workspaces & { close(): void; variant(wanted?: string): string };

const HEADS = 3;
const D = 32;
const GROUP = 2;
const SEQUENCES = 4;
const TOKENS = 160;

let plan: Plan;
let one: Calls;
let two: Calls;

beforeAll(async () => {
  plan = planOf({ layout: tiles({ tokens: 32 }) }, {}, { dense: 'f16' });
  const folder = emitted(plan, target);
  const build = async (threads: number) =>
    (await target.build({ folder, plan, optimize: 1, threads })).calls as Calls;
  one = await build(1);
  two = await build(2);
});

afterAll(() => {
  one?.close();
  two?.close();
});

/** Call records over fresh arrays; every call's outputs are the typed arrays in `outputs`. */
function scene() {
  const pages = (TOKENS / plan.pageTokens) * SEQUENCES;
  const count = pages * plan.pageTokens;
  const keys = poolOf(plan, 'key', pages, HEADS);
  const values = poolOf(plan, 'value', pages, HEADS);
  const slots = BigInt64Array.from({ length: count }, (_, i) => BigInt(i));
  const index = {
    sequences: SEQUENCES,
    maxTokens: TOKENS,
    lengths: Int32Array.from([160, 1, 97, 0]),
  };
  const common = { rows: SEQUENCES, kvHeads: HEADS };
  const qHeads = HEADS * GROUP;
  const q = { data: normals(SEQUENCES * qHeads * D, 3) };
  const rows = (n: number) => ({ data: new Float32Array(n * D) });
  const look = { scale: 0.2, softcap: 8, window: 100 };
  const dense = new Uint16Array(SEQUENCES * TOKENS * HEADS * D).map((_, i) => 0x2c00 + (i % 4099));
  const lse = () => new Float32Array(SEQUENCES * qHeads);
  const encode = (data: Float32Array, cache: typeof keys) => ({
    rows: { data },
    count,
    kvHeads: HEADS,
    slots,
    cache,
    errors: new Float32Array(count * HEADS),
    flags: new Uint32Array(1),
  });
  const decode = (cache: typeof keys) => ({
    cache,
    slots,
    count,
    kvHeads: HEADS,
    rows: rows(count * HEADS),
  });
  const rotate = {
    in: { data: normals(200 * HEADS * D, 5) },
    count: 200,
    heads: HEADS,
    rotation: 'forward' as const,
  };
  const weights = normals(SEQUENCES * qHeads * TOKENS, 6);
  const attend = { ...common, ...look, q, keys, values, index, splitTokens: 32 };
  const part = { out: { data: normals(SEQUENCES * qHeads * D, 7) }, lse: lse() };
  return {
    encodeKey: encode(normals(count * HEADS * D, 1), keys),
    encodeValue: encode(normals(count * HEADS * D, 2), values),
    decodeKey: decode(keys),
    decodeValue: decode(values),
    rotateKey: { ...rotate, out: rows(200 * HEADS) },
    rotateValue: { ...rotate, out: rows(200 * HEADS) },
    scores: {
      ...common,
      ...look,
      q,
      keys,
      index,
      scores: new Float32Array(SEQUENCES * qHeads * TOKENS),
    },
    weightedSum: { ...common, weights, values, index, out: rows(SEQUENCES * qHeads) },
    attend: { ...attend, out: rows(SEQUENCES * qHeads), lse: lse(), flags: new Uint32Array(1) },
    attendDense: {
      ...common,
      ...look,
      q,
      keys: dense,
      values: dense,
      sequences: SEQUENCES,
      maxTokens: TOKENS,
      lengths: index.lengths,
      splitTokens: 32,
      out: rows(SEQUENCES * qHeads),
      lse: lse(),
    },
    merge: {
      parts: [part, { ...part, lse: lse().fill(1) }],
      rows: SEQUENCES,
      qHeads,
      sink: normals(qHeads, 8),
      out: rows(SEQUENCES * qHeads),
      lse: lse(),
    },
  };
}

type Scene = ReturnType<typeof scene>;
const NAMES = [
  'encodeKey',
  'encodeValue',
  'decodeKey',
  'decodeValue',
  'rotateKey',
  'rotateValue',
  'scores',
  'weightedSum',
  'attend',
  'attendDense',
  'merge',
] as const satisfies readonly Name[];

/** Every byte of every array of a scene. */
const bytes = (value: unknown): Buffer[] => {
  if (ArrayBuffer.isView(value)) {
    // A detached array has no bytes, nor may one look at them.
    if (value.byteLength === 0) return [];
    return [Buffer.from(value.buffer, value.byteOffset, value.byteLength)];
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(bytes);
};

const allBytes = (call: object): Buffer => Buffer.concat(bytes(call));

const act = async (calls: Calls, name: Name, call: object): Promise<void> => {
  await (calls[name] as (call: object) => void)(call);
};

describe('calls', () => {
  it('give the same bits sync and async, on one thread and on two', async () => {
    const [sync, asynchronous, syncTwo, asyncTwo] = [scene(), scene(), scene(), scene()];
    for (const name of NAMES) {
      await act(one, name, sync[name]);
      await act(two, name, syncTwo[name]);
      await one[`${name}Async`](asynchronous[name]);
      await two[`${name}Async`](asyncTwo[name]);
      for (const other of [asynchronous, syncTwo, asyncTwo]) {
        expect(bytes(other[name]).every((part, i) => part.equals(bytes(sync[name])[i]!))).toBe(
          true,
        );
      }
    }
  });

  it('compute what the reference does', async () => {
    const calls = scene();
    for (const name of NAMES) await act(two, name, calls[name]);
    const reference = createReference(plan);
    const mine = scene();
    reference.encode('key', mine.encodeKey);
    reference.encode('value', mine.encodeValue);
    expect(calls.encodeKey.cache.data).toEqual(mine.encodeKey.cache.data);
    expect(calls.encodeValue.cache.data).toEqual(mine.encodeValue.cache.data);
    expect(calls.encodeKey.errors).toEqual(mine.encodeKey.errors);
    const far = (got: ArrayLike<number>, want: ArrayLike<number>): number => {
      let worst = 0;
      for (let i = 0; i < want.length; i++) {
        if (got[i] !== want[i]) worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
      }
      return worst;
    };
    expect(
      far(calls.decodeKey.rows.data, reference.decode('key', mine.decodeKey).out),
    ).toBeLessThan(1e-4);
    expect(far(calls.rotateKey.out.data, reference.rotate('key', mine.rotateKey))).toBeLessThan(
      1e-4,
    );
    expect(far(calls.scores.scores, reference.scores(mine.scores).out)).toBeLessThan(1e-3);
    expect(
      far(calls.weightedSum.out.data, reference.weightedSum(mine.weightedSum).out),
    ).toBeLessThan(1e-2);
    expect(far(calls.attend.out.data, reference.attend(mine.attend).out)).toBeLessThan(1e-4);
    expect(
      far(calls.attendDense.out.data, reference.attendDense(mine.attendDense).out),
    ).toBeLessThan(1e-4);
    expect(far(calls.merge.out.data, reference.merge(mine.merge).out)).toBeLessThan(1e-4);
  });

  it('name the variant in use, and use another when asked', () => {
    const first = one.variant();
    expect(['avx512', 'avx2']).toContain(first);
    expect(one.variant('neon')).toBe(first);
    expect(one.variant('avx2')).toBe('avx2');
    expect(two.variant()).toBe('avx2');
    expect(one.variant('avx512')).toBe(first);
  });

  it('run in the order they were made, without awaiting in between', async () => {
    const [calls, plain] = [scene(), scene()];
    await Promise.all(NAMES.map((name) => two[`${name}Async`](calls[name])));
    for (const name of NAMES) await act(one, name, plain[name]);
    expect(calls.attend.out.data).toEqual(plain.attend.out.data);
    expect(calls.scores.scores).toEqual(plain.scores.scores);

    // A sync call waits for the async ones before it.
    const mixed = scene();
    const encoded = [two.encodeKeyAsync(mixed.encodeKey), two.encodeValueAsync(mixed.encodeValue)];
    act(two, 'attend', mixed.attend);
    expect(mixed.attend.out.data).toEqual(plain.attend.out.data);
    await Promise.all(encoded);
  });

  it('read rows at an offset, with strides, in f16, and leave the rest alone', async () => {
    const calls = scene();
    for (const name of ['encodeKey', 'encodeValue'] as const) await act(one, name, calls[name]);
    const wide = new Uint16Array(7 + 4 * 6 * 40).fill(0xabcd);
    await act(two, 'attend', {
      ...calls.attend,
      out: { data: wide, dtype: 'bf16', offset: 7, headStride: 40 },
    });
    await act(two, 'attend', calls.attend);
    for (let row = 0; row < 4 * 6; row++) {
      for (let i = 0; i < 40; i++) {
        const got = wide[7 + row * 40 + i]!;
        if (i >= D) expect(got).toBe(0xabcd);
        else {
          const bits = new Float32Array(new Uint32Array([got << 16]).buffer)[0]!;
          const want = calls.attend.out.data[row * D + i]!;
          expect(Math.abs(bits - want)).toBeLessThanOrEqual(Math.abs(want) / 128);
        }
      }
    }
    expect(wide.subarray(0, 7).every((x) => x === 0xabcd)).toBe(true);
  });

  it("take the caller's workspace, and say how many bytes it needs", async () => {
    const [calls, plain] = [scene(), scene()];
    for (const name of ['encodeKey', 'encodeValue'] as const) {
      await act(one, name, calls[name]);
      await act(one, name, plain[name]);
    }
    for (const name of ['attend', 'attendDense', 'scores', 'weightedSum'] as const) {
      const bytes = one[`${name}Workspace`](calls[name]);
      expect(bytes).toBeGreaterThanOrEqual(0);
      for (const kernels of [one, two]) {
        await act(kernels, name, { ...calls[name], workspace: new Uint8Array(bytes) });
      }
      await act(one, name, plain[name]);
      expect(allBytes(calls[name])).toEqual(allBytes(plain[name]));
    }
    const bytes = one.attendWorkspace(calls.attend);
    expect(() =>
      one.attend({ ...calls.attend, workspace: new Uint8Array(bytes - 1) }),
    ).toThrowError(expect.objectContaining({ code: 'POLARC_WORKSPACE_TOO_SMALL' }));
  });

  it('gather flags of all threads in one word', async () => {
    for (const kernels of [one, two]) {
      const calls = scene();
      calls.attend.index.lengths.set([161, 10, -1, 0]);
      calls.attend.flags[0] = 0x80;
      await kernels.attendAsync(calls.attend);
      expect(calls.attend.flags[0]).toBe(0x82);
      const slots = calls.encodeKey.slots.slice();
      slots[5] = 1n << 40n;
      await kernels.encodeKeyAsync({ ...calls.encodeKey, slots });
      expect(calls.encodeKey.flags[0]).toBe(8);
    }
  });
});

describe('misuse', () => {
  /** A call that must fail, and whose arrays must stay as they were. */
  const message = (name: keyof Scene, change: object): string => {
    const calls = scene();
    const call = { ...calls[name], ...change };
    const before = Buffer.from(allBytes(call));
    for (const kernels of [one, two]) {
      try {
        (kernels[name] as (call: object) => void)(call);
        return 'accepted';
      } catch (error) {
        expect(allBytes(call).equals(before)).toBe(true);
        const { code, message } = error as Error & { code: string };
        if (kernels === two) return `${code} ${message}`;
      }
    }
    return 'unreachable';
  };
  const detached = (): Float32Array => {
    const array = new Float32Array(TOKENS * SEQUENCES * HEADS * D);
    structuredClone(array.buffer, { transfer: [array.buffer] });
    return array;
  };

  it('of arrays: too short, of another type, missing, detached, misaligned', () => {
    const call = scene();
    const pool = call.attend.keys;
    expect([
      message('encodeKey', { rows: { data: new Float32Array(10) } }),
      message('encodeKey', { rows: { data: new Float64Array(10) } }),
      message('encodeKey', { rows: [1, 2, 3] }),
      message('encodeKey', { rows: { data: detached() } }),
      message('encodeKey', { slots: undefined }),
      message('encodeKey', { slots: new Int32Array(640) }),
      message('encodeKey', { errors: new Float32Array(7) }),
      message('encodeKey', { cache: null }),
      message('encodeKey', { cache: { ...pool, pages: 21 } }),
      message('encodeKey', { cache: { ...pool, offset: 8, pages: 4 } }),
      message('encodeKey', { cache: { ...pool, data: pool.data.subarray(4), pages: 4 } }),
      message('encodeKey', { cache: { ...pool, pageStride: 2 ** 53 - 1 } }),
      message('encodeKey', { flags: new Uint32Array(0) }),
      message('decodeKey', { rows: { data: new Float32Array(61439) } }),
      message('attend', { q: { data: new Uint16Array(768), dtype: 'f32' } }),
      message('attend', { q: { data: new Float32Array(768), dtype: 'f16' } }),
      message('attend', { out: { data: new Float32Array(768), offset: 1 } }),
      message('attend', { out: { data: new Float32Array(768), headStride: 33 } }),
      message('attend', { lse: new Float32Array(23) }),
      message('attend', { rowSequence: new Int32Array(3) }),
      message('attend', { index: { ...call.attend.index, lengths: new Int32Array(3) } }),
      message('attend', { index: { ...call.attend.index, blockTable: new Int32Array(19) } }),
      message('attend', { index: { ...call.attend.index, positions: new Int32Array(639) } }),
      message('attend', { workspace: new Float32Array(1) }),
      message('attend', { key: { mean: new Float32Array(95) } }),
      message('attendDense', { keys: new Float32Array(61440) }),
      message('attendDense', { keyTokenStride: 97 }),
      message('attendDense', { alwaysVisible: new Uint8Array(639) }),
      message('scores', { scores: new Float32Array(24 * 160 - 1) }),
      message('weightedSum', { weightsHeadStride: 161 }),
      message('merge', { parts: [{ out: call.merge.out, lse: new Float32Array(23) }] }),
      message('merge', { parts: 'two' }),
      message('merge', { sink: new Float32Array(5) }),
    ]).toMatchInlineSnapshot(`
      [
        "POLARC_INVALID_ARGUMENT encodeKey: rows.data has 10 elements; 61440 are needed",
        "POLARC_INVALID_ARGUMENT encodeKey: rows.data must be a Float32Array or a Uint16Array",
        "POLARC_INVALID_ARGUMENT encodeKey: rows must be an object",
        "POLARC_INVALID_ARGUMENT encodeKey: rows.data is detached: its memory went elsewhere",
        "POLARC_INVALID_ARGUMENT encodeKey: slots is missing",
        "POLARC_INVALID_ARGUMENT encodeKey: slots must be a BigInt64Array",
        "POLARC_INVALID_ARGUMENT encodeKey: errors has 7 elements; 1920 are needed",
        "POLARC_INVALID_ARGUMENT encodeKey: cache is missing",
        "POLARC_INVALID_ARGUMENT encodeKey: cache.data has 29760 elements; 31248 are needed",
        "POLARC_INVALID_ARGUMENT encodeKey: cache must begin at a multiple of 16 bytes: check data.byteOffset and offset",
        "POLARC_INVALID_ARGUMENT encodeKey: cache must begin at a multiple of 16 bytes: check data.byteOffset and offset",
        "POLARC_INVALID_ARGUMENT encodeKey: cache.data has 29760 elements; 171136785840080317 are needed",
        "POLARC_INVALID_ARGUMENT encodeKey: flags has 0 elements; 1 are needed",
        "POLARC_INVALID_ARGUMENT decodeKey: rows.data has 61439 elements; 61440 are needed",
        "POLARC_INVALID_ARGUMENT attend: q.dtype of a Uint16Array must be 'f16' or 'bf16'",
        "POLARC_INVALID_ARGUMENT attend: q.dtype of a Float32Array must be 'f32'",
        "POLARC_INVALID_ARGUMENT attend: out.data has 768 elements; 769 are needed",
        "POLARC_INVALID_ARGUMENT attend: out.data has 768 elements; 791 are needed",
        "POLARC_INVALID_ARGUMENT attend: lse has 23 elements; 24 are needed",
        "POLARC_INVALID_ARGUMENT attend: rowSequence has 3 elements; 4 are needed",
        "POLARC_INVALID_ARGUMENT attend: index.lengths has 3 elements; 4 are needed",
        "POLARC_INVALID_ARGUMENT attend: index.blockTable has 19 elements; 20 are needed",
        "POLARC_INVALID_ARGUMENT attend: index.positions has 639 elements; 640 are needed",
        "POLARC_INVALID_ARGUMENT attend: workspace must be a Uint8Array",
        "POLARC_INVALID_ARGUMENT attend: key.mean has 95 elements; 96 are needed",
        "POLARC_INVALID_ARGUMENT attendDense: keys must be a Uint16Array",
        "POLARC_INVALID_ARGUMENT attendDense: keys has 61440 elements; 62079 are needed",
        "POLARC_INVALID_ARGUMENT attendDense: alwaysVisible has 639 elements; 640 are needed",
        "POLARC_INVALID_ARGUMENT scores: scores has 3839 elements; 3840 are needed",
        "POLARC_INVALID_ARGUMENT weightedSum: weights has 3840 elements; 3863 are needed",
        "POLARC_INVALID_ARGUMENT merge: parts[0].lse has 23 elements; 24 are needed",
        "POLARC_INVALID_ARGUMENT merge: parts must be an array",
        "POLARC_INVALID_ARGUMENT merge: sink has 5 elements; 6 are needed",
      ]
    `);
  });

  it('of numbers and words', () => {
    const call = scene();
    expect([
      message('encodeKey', { count: -1 }),
      message('encodeKey', { count: 1.5 }),
      message('encodeKey', { count: '640' }),
      message('encodeKey', { count: 640n }),
      message('encodeKey', { count: 2 ** 60 }),
      message('encodeKey', { kvHeads: 2 ** 31 }),
      message('encodeKey', { kvHeads: 0 }),
      message('attend', { scale: 'big' }),
      message('attend', { scale: undefined }),
      message('attend', { window: -1 }),
      message('attend', { basis: 'rotted' }),
      message('attend', { splitTokens: 7 }),
      message('rotateKey', { rotation: undefined }),
      message('rotateKey', { headsPerKv: 2 }),
      message('attend', { q: { data: call.attend.q.data, rowStride: -1 } }),
      message('attend', { q: { data: call.attend.q.data, dtype: 'f64' } }),
      message('attend', { index: { sequences: 4, maxTokens: 160 } }),
    ]).toMatchInlineSnapshot(`
      [
        "POLARC_INVALID_ARGUMENT encodeKey: count must be a whole number from 0 to 9007199254740991, not -1",
        "POLARC_INVALID_ARGUMENT encodeKey: count must be a whole number from 0 to 9007199254740991, not 1.5",
        "POLARC_INVALID_ARGUMENT encodeKey: count must be a whole number from 0 to 9007199254740991, not '640'",
        "POLARC_INVALID_ARGUMENT encodeKey: count must be a whole number from 0 to 9007199254740991, not a value of another type",
        "POLARC_INVALID_ARGUMENT encodeKey: count must be a whole number from 0 to 9007199254740991, not 1152921504606847000",
        "POLARC_INVALID_ARGUMENT encodeKey: kvHeads must be a whole number from 0 to 2147483647, not 2147483648",
        "POLARC_INVALID_ARGUMENT encodeKey: kv_heads is 0: give 1 or more",
        "POLARC_INVALID_ARGUMENT attend: scale must be a number",
        "POLARC_INVALID_ARGUMENT attend: scale is missing",
        "POLARC_INVALID_ARGUMENT attend: window must be a whole number from 0 to 2147483647, not -1",
        "POLARC_INVALID_ARGUMENT attend: basis must be one of 'original', 'rotated'",
        "POLARC_INVALID_ARGUMENT attend: split_tokens is 7: give a multiple of 32, or 0 for the kernel's choice",
        "POLARC_INVALID_ARGUMENT rotateKey: rotation must be one of 'forward', 'dual', 'inverse'",
        "POLARC_INVALID_ARGUMENT rotateKey: heads_per_kv is 2 for 3 heads: give the number of heads that share a KV head",
        "POLARC_INVALID_ARGUMENT attend: q.rowStride must be a whole number from 0 to 9007199254740991, not -1",
        "POLARC_INVALID_ARGUMENT attend: q.dtype must be one of 'f32', 'f16', 'bf16'",
        "POLARC_INVALID_ARGUMENT attend: index.lengths is null: give an array",
      ]
    `);
  });

  it('is a rejected promise in an async call', async () => {
    const calls = scene();
    await expect(two.attendAsync({ ...calls.attend, rows: -3 })).rejects.toMatchObject({
      code: 'POLARC_INVALID_ARGUMENT',
    });
    await expect(two.attendAsync({ ...calls.attend, splitTokens: 7 })).rejects.toMatchObject({
      code: 'POLARC_INVALID_ARGUMENT',
    });
    await expect(two.attendAsync(undefined as unknown as object)).rejects.toThrow(
      'attend: the call must be an object',
    );
  });

  it('an array that is transferred while the call runs gives an error', async () => {
    const calls = scene();
    const pending = two.attendAsync(calls.attend);
    const moved = structuredClone(calls.attend.lse.buffer, { transfer: [calls.attend.lse.buffer] });
    await expect(pending).rejects.toThrow('attend: an array was detached while the call ran');
    expect(moved.byteLength).toBe(96);
  });

  it('of threads, and of closed kernels', async () => {
    const folder = emitted(plan, target);
    const build = (threads: number) => target.build({ folder, plan, optimize: 1, threads });
    await expect(build(0)).rejects.toThrow('threads must be a whole number from 1 to 256');
    await expect(build(1.5)).rejects.toThrow('threads must be a whole number from 1 to 256');
    const built = await build(2);
    const calls = scene();
    const pending = (built.calls as Calls).encodeKeyAsync(calls.encodeKey);
    built.close();
    await pending;
    expect(calls.encodeKey.errors.every((error) => error > 0)).toBe(true);
    expect(() => built.calls.merge(calls.merge)).toThrow('merge: the kernels are closed');
  });
});
