/** Caches larger than any processor cache, and rows to encode that fit into one. */

import type {
  AttendCall,
  AttendDenseCall,
  CodecPlan,
  EncodeCall,
  KernelCalls,
  Plan,
  Pool,
  Role,
  Transform,
} from '../plan/index.ts';
import { orthogonalMatrix } from '../plan/index.ts';
import type { BuiltCache } from '../target/index.ts';

/** Nearly normal numbers by a linear congruence: data for timing, where only its spread matters. */
const numbers = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state * 2 ** -32;
    }
    return sum;
  };
};

const drawn = (length: number, seed: number): Float32Array => {
  const next = numbers(seed);
  return Float32Array.from({ length }, next);
};

/** Means of zero and, for `matrix`, a random orthogonal matrix, which is its own dual. */
const transformOf = (plan: CodecPlan, kvHeads: number): Transform => {
  const d = plan.headDim;
  const mean = plan.center ? { mean: new Float32Array(kvHeads * d) } : {};
  const { precondition } = plan;
  if (precondition.kind === 'orthogonal') {
    return { ...mean, matrix: orthogonalMatrix(d, precondition.seed) };
  }
  if (precondition.kind !== 'matrix') return mean;
  const one = orthogonalMatrix(d, 1);
  const matrix = new Float32Array(kvHeads * d * d);
  for (let head = 0; head < kvHeads; head++) matrix.set(one, head * d * d);
  return { ...mean, matrix, dual: matrix };
};

const encodeOf =
  (calls: KernelCalls, role: Role): KernelCalls['encodeKey'] =>
  (call) =>
    role === 'key' ? calls.encodeKey(call) : calls.encodeValue(call);

export interface Workload {
  readonly kvHeads: number;
  readonly packed: AttendCall;
  readonly dense: AttendDenseCall;
  /** Bytes that each reads a token and KV head. */
  readonly packedBytes: number;
  readonly denseBytes: number;
}

/** Tokens that are encoded; the others are copies of them. */
const ENCODED_TOKENS = 2048;

/** Read in one call at least, packed keys and values together: more than the caches of a processor hold. */
const COLD_BYTES = 160 * 2 ** 20;

/** A sequence of `tokens` in as many KV heads as make a call read more than the caches hold, each head in one piece. */
export const createWorkload = async (
  plan: Plan,
  { calls, bytes = (length) => new Uint8Array(length), coldBytes = COLD_BYTES }: BuiltCache,
  tokens: number,
): Promise<Workload> => {
  const bytesOf = (codec: CodecPlan): number => codec.layout.unitBytes / codec.layout.unitTokens;
  const packedBytes = bytesOf(plan.key) + bytesOf(plan.value);
  const kvHeads = Math.max(1, Math.ceil(coldBytes / (packedBytes * tokens)));
  const pages = Math.ceil(tokens / plan.pageTokens);

  const part = async (role: Role): Promise<{ pool: Pool; transform: Transform }> => {
    const codec = plan[role];
    const unitsPerPage = plan.pageTokens / codec.layout.unitTokens;
    const pageBytes = unitsPerPage * codec.layout.unitBytes;
    const headBytes = pages * pageBytes;
    const headStride = Math.ceil(headBytes / 64) * 64;
    const data = bytes(kvHeads * headStride);
    const transform = transformOf(codec, kvHeads);
    const pool = { data, pages, pageStride: pageBytes, headStride };
    const count = Math.min(tokens, ENCODED_TOKENS);
    await encodeOf(
      calls,
      role,
    )({
      rows: { data: drawn(count * codec.headDim, role === 'key' ? 1 : 2) },
      count,
      kvHeads: 1,
      slots: BigInt64Array.from({ length: count }, (_, i) => BigInt(i)),
      cache: pool,
      transform,
    });
    const pattern = Math.floor(count / plan.pageTokens) * pageBytes || pageBytes;
    for (let at = pattern; at < headBytes; at += pattern) {
      data.copyWithin(at, 0, Math.min(pattern, headBytes - at));
    }
    for (let head = 1; head < kvHeads; head++) data.copyWithin(head * headStride, 0, headBytes);
    return { pool, transform };
  };
  const key = await part('key');
  const value = await part('value');

  const heads = kvHeads * plan.queryGroup;
  const scale = 1 / Math.sqrt(plan.key.headDim);
  const common = {
    q: { data: drawn(heads * plan.key.headDim, 3) },
    out: { data: new Float32Array(heads * plan.value.headDim) },
    rows: 1,
    kvHeads,
    scale,
  };
  return {
    kvHeads,
    packedBytes,
    denseBytes: (plan.key.headDim + plan.value.headDim) * (plan.dense === 'f32' ? 4 : 2),
    packed: {
      ...common,
      keys: key.pool,
      values: value.pool,
      key: key.transform,
      value: value.transform,
      index: {
        sequences: 1,
        maxTokens: tokens,
        lengths: Int32Array.of(tokens),
        pagesPerSequence: pages,
      },
    },
    dense: denseCall(plan, common, tokens, bytes),
  };
};

/** Every head's rows in one piece: the layout that is best for the baseline. */
const denseCall = (
  plan: Plan,
  common: Pick<AttendDenseCall, 'q' | 'out' | 'rows' | 'kvHeads' | 'scale'>,
  tokens: number,
  bytes: (length: number) => Uint8Array,
): AttendDenseCall => {
  const { kvHeads } = common;
  const rows = (dimension: number, seed: number): Float32Array | Uint16Array => {
    const length = kvHeads * tokens * dimension;
    const next = numbers(seed);
    const pattern = Math.min(length, 1 << 18);
    if (plan.dense === 'f32') {
      const { buffer, byteOffset } = bytes(length * 4);
      const data = new Float32Array(buffer, byteOffset, length);
      for (let i = 0; i < pattern; i++) data[i] = next();
      for (let at = pattern; at < length; at += pattern) {
        data.copyWithin(at, 0, Math.min(pattern, length - at));
      }
      return data;
    }
    const { buffer, byteOffset } = bytes(length * 2);
    const data = new Uint16Array(buffer, byteOffset, length);
    // Magnitudes from 1/4 to 4 and both signs, straight as bit patterns: exponents and fractions at random.
    const [exponent, width] = plan.dense === 'f16' ? [13 << 10, 12] : [125 << 7, 9];
    for (let i = 0; i < pattern; i++) {
      const random = Math.floor((next() + 6) * 2 ** 20);
      data[i] = (exponent + (random & ((1 << width) - 1))) | ((random >> 13) & 1 ? 0x8000 : 0);
    }
    for (let at = pattern; at < length; at += pattern) {
      data.copyWithin(at, 0, Math.min(pattern, length - at));
    }
    return data;
  };
  return {
    ...common,
    keys: rows(plan.key.headDim, 5),
    values: rows(plan.value.headDim, 6),
    keySequenceStride: kvHeads * tokens * plan.key.headDim,
    keyHeadStride: tokens * plan.key.headDim,
    keyTokenStride: plan.key.headDim,
    valueSequenceStride: kvHeads * tokens * plan.value.headDim,
    valueHeadStride: tokens * plan.value.headDim,
    valueTokenStride: plan.value.headDim,
    sequences: 1,
    maxTokens: tokens,
    lengths: Int32Array.of(tokens),
  };
};

/** Rows that stay in the second-level cache with their slots. */
const ENCODE_ROWS = 2048;

/** `count` rows of one head into consecutive slots, all of it in cache. */
export const createEncode = (plan: Plan, role: Role): EncodeCall => {
  const codec = plan[role];
  const pages = Math.ceil(ENCODE_ROWS / plan.pageTokens);
  const { unitTokens, unitBytes } = codec.layout;
  return {
    rows: { data: drawn(ENCODE_ROWS * codec.headDim, 9) },
    count: ENCODE_ROWS,
    kvHeads: 1,
    slots: BigInt64Array.from({ length: ENCODE_ROWS }, (_, i) => BigInt(i)),
    cache: { data: new Uint8Array(pages * (plan.pageTokens / unitTokens) * unitBytes), pages },
    transform: transformOf(codec, 1),
  };
};
