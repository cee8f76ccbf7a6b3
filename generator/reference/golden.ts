/** Golden vectors: rows with what becomes of them, for tests in any language (docs/format.md, "Golden vectors"). */

import { type CodecPlan, orthogonalMatrix, type Plan, ROLES, type Role } from '../plan/index.ts';
import { type TensorInput, writeSafetensors } from '../safetensors/index.ts';
import { attend } from './attend.ts';
import { decodeBases, encode } from './pool-rows.ts';

const ROOT_3 = Math.sqrt(3);

/** Rows of normally distributed numbers, and the tokens of the attention case. */
const PLAIN = 16;

interface Packed {
  readonly data: Uint8Array;
  readonly pages: number;
  readonly transform: { mean?: Float32Array; matrix?: Float32Array; dual?: Float32Array };
}

/** The `.safetensors` file that stands beside a plan: the same bytes for the same plan. */
export function goldenVectors(plan: Plan): Uint8Array {
  const tensors: Record<string, TensorInput> = {};
  const pools = {} as Record<Role, Packed>;
  for (const role of ROLES) pools[role] = addRole(plan, role, tensors);
  addAttention(plan, pools, tensors);
  return writeSafetensors(tensors, {
    description: `golden vectors of the cache ${plan.name}: docs/format.md says what they are`,
    'key.formatHash': plan.key.formatHash,
    'value.formatHash': plan.value.formatHash,
    planHash: plan.planHash,
  });
}

function addRole(plan: Plan, role: Role, tensors: Record<string, TensorInput>): Packed {
  const codec = plan[role];
  const d = codec.headDim;
  const normal = normalNumbers(Number.parseInt(codec.formatHash.slice(0, 8), 16));
  const transform = transformOf(codec, normal);
  const rows = rowsOf(codec, transform.mean, normal);
  const count = rows.length / d;
  const slots = BigInt64Array.from({ length: count }, (_, row) => BigInt(row));
  const { unitTokens, unitBytes } = codec.layout;
  const pages = Math.ceil(count / plan.pageTokens);
  const data = new Uint8Array(pages * (plan.pageTokens / unitTokens) * unitBytes);
  const cache = { data, pages };
  const errors = new Float32Array(count);
  const call = { count, kvHeads: 1, slots, cache, transform };
  encode(plan, role, { ...call, rows: { data: rows }, errors });
  const bases = decodeBases(plan, role, { ...call, rows: { data: rows } }, ['original', 'rotated']);
  const [decoded, rotated] = bases.out;

  const units = Math.ceil(count / unitTokens);
  tensors[`${role}.rows`] = floats([count, d], rows);
  tensors[`${role}.slots`] = { dtype: 'I64', shape: [count], data: slots };
  tensors[`${role}.packed`] = {
    dtype: 'U8',
    shape: [units, unitBytes],
    data: data.subarray(0, units * unitBytes),
  };
  tensors[`${role}.errors`] = floats([count], errors);
  tensors[`${role}.decoded`] = floats([count, d], decoded!);
  tensors[`${role}.rotated`] = floats([count, d], rotated!);
  const { mean, matrix, dual } = transform;
  if (mean !== undefined) tensors[`${role}.mean`] = floats([1, d], mean);
  if (matrix !== undefined) tensors[`${role}.matrix`] = floats([1, d, d], matrix);
  if (dual !== undefined) tensors[`${role}.dual`] = floats([1, d, d], dual);
  return { data, pages, transform };
}

function addAttention(
  plan: Plan,
  pools: Record<Role, Packed>,
  tensors: Record<string, TensorInput>,
): void {
  const { key, value, queryGroup } = plan;
  const normal = normalNumbers(Number.parseInt(plan.planHash.slice(0, 8), 16));
  const q = Float32Array.from({ length: queryGroup * key.headDim }, normal);
  const scale = Math.fround(1 / Math.sqrt(key.headDim));
  const { out, lse } = attend(plan, {
    rows: 1,
    kvHeads: 1,
    q: { data: q },
    out: { data: new Float32Array(0) },
    scale,
    keys: pools.key,
    values: pools.value,
    key: pools.key.transform,
    value: pools.value.transform,
    index: { sequences: 1, maxTokens: PLAIN, lengths: Int32Array.of(PLAIN) },
  });
  tensors['attend.q'] = floats([queryGroup, key.headDim], q);
  tensors['attend.scale'] = floats([1], [scale]);
  tensors['attend.length'] = { dtype: 'I32', shape: [1], data: Int32Array.of(PLAIN) };
  tensors['attend.out'] = floats([queryGroup, value.headDim], out);
  tensors['attend.lse'] = floats([queryGroup], lse);
}

/** What a format needs at run time. The matrix is diag(D)·(I − 2·u·uᵀ/u·u), so that its inverse is known. */
function transformOf(codec: CodecPlan, normal: () => number): Packed['transform'] {
  const d = codec.headDim;
  const { precondition } = codec;
  const transform: Packed['transform'] = {};
  if (codec.center) transform.mean = Float32Array.from({ length: d }, () => normal() / 2);
  if (precondition.kind === 'orthogonal') {
    transform.matrix = orthogonalMatrix(d, precondition.seed);
  }
  if (precondition.kind === 'matrix') {
    const u = Float64Array.from({ length: d }, normal);
    const energy = u.reduce((sum, x) => sum + x * x, 0);
    const stretch = Float64Array.from({ length: d }, () => 1 + Math.min(1, Math.abs(normal())));
    const reflected = (i: number, j: number): number =>
      (i === j ? 1 : 0) - (2 * u[i]! * u[j]!) / energy;
    // Entries are 0 or at least 2⁻³² in magnitude.
    const entry = (x: number): number => (Math.abs(x) < 2 ** -31 ? 0 : x);
    transform.matrix = new Float32Array(d * d);
    transform.dual = new Float32Array(d * d);
    for (let i = 0; i < d; i++) {
      for (let j = 0; j < d; j++) {
        transform.matrix[i * d + j] = entry(stretch[i]! * reflected(i, j));
        transform.dual[i * d + j] = entry(reflected(i, j) / stretch[i]!);
      }
    }
  }
  return transform;
}

/** Normally distributed rows around the mean, then the rows that break codecs. */
function rowsOf(
  codec: CodecPlan,
  mean: Float32Array | undefined,
  normal: () => number,
): Float32Array {
  const d = codec.headDim;
  const adversarial: readonly ((i: number) => number)[] = [
    () => 0,
    () => -0,
    // One huge coordinate.
    (i) => (i === 3 ? 30000 : normal() / 100),
    // Tiny radii beside large ones.
    (i) => (i < d / 2 ? normal() * 2 ** -20 : normal() * 100),
    // Zeros of both signs between numbers.
    (i) => [0, -1, -0, 1][i % 4]!,
    // Denormals, and numbers on both sides of the least that counts.
    (i) => (i + 1) * 2 ** -149,
    (i) => (i % 2 ? 2 ** -64 : -(2 ** -64) * (1 - 2 ** -24)),
    // Radii that are f16 denormals, and beyond f16.
    () => normal() * 2 ** -20,
    () => normal() * 1e6,
    (i) => (i === 1 ? NaN : normal()),
    (i) => (i === d - 1 ? Infinity : normal()),
    // Overflow on the way.
    () => 3e38,
  ];
  const rows = new Float32Array((PLAIN + adversarial.length) * d);
  for (let i = 0; i < PLAIN * d; i++) rows[i] = normal() + (mean?.[i % d] ?? 0);
  adversarial.forEach((coordinate, row) => {
    for (let i = 0; i < d; i++) rows[(PLAIN + row) * d + i] = coordinate(i);
  });
  return rows;
}

/**
 * Nearly normal numbers: the sum of four uniform ones, less two, times √3 for unit variance. Uniform ones are the high 24 bits of xorshift32
 * (Marsaglia 2003), so that every engine computes the same.
 */
function normalNumbers(seed: number): () => number {
  let state = seed === 0 ? 1 : seed;
  return () => {
    let sum = -2;
    for (let i = 0; i < 4; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      sum += (state >>> 8) * 2 ** -24;
    }
    return sum * ROOT_3;
  };
}

/** A float32 tensor in which every NaN has the same bits. */
function floats(shape: readonly number[], values: ArrayLike<number>): TensorInput {
  const data = new Float32Array(values);
  const bits = new Uint32Array(data.buffer);
  for (let i = 0; i < data.length; i++) if (Number.isNaN(data[i])) bits[i] = 0x7fc00000;
  return { dtype: 'F32', shape, data };
}
