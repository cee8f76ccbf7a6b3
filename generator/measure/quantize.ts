/** Rows through the reference: what the cache's bytes give back. */

import type { Plan, Role } from '../plan/index.ts';
import { createReference } from '../reference/index.ts';
import type { RunTimeTransform } from './types.ts';

/**
 * Rows [head][token][d] encoded to the format's bytes and decoded again, in the original basis.
 *
 * @returns float64 [head][token][d]
 */
export function quantizeRows(
  plan: Plan,
  role: Role,
  rows: Float32Array,
  heads: number,
  tokens: number,
  transform: RunTimeTransform,
): Float64Array {
  const reference = createReference(plan);
  const codec = plan[role];
  const d = codec.headDim;
  const pages = Math.ceil(tokens / plan.pageTokens);
  const pageBytes = heads * (plan.pageTokens / codec.layout.unitTokens) * codec.layout.unitBytes;
  const cache = { data: new Uint8Array(pages * pageBytes), pages };
  const slots = BigInt64Array.from({ length: tokens }, (_, token) => BigInt(token));
  const shared = { cache, slots, count: tokens, kvHeads: heads, transform };
  const strided = { data: rows, rowStride: d, headStride: tokens * d };
  reference.encode(role, { ...shared, rows: strided });
  const { out } = reference.decode(role, { ...shared, rows: { data: new Float32Array(0) } });
  const decoded = new Float64Array(rows.length);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const from = (token * heads + head) * d;
      decoded.set(out.subarray(from, from + d), (head * tokens + token) * d);
    }
  }
  return decoded;
}

/** Rows less the mean and multiplied by S of the format: float64 [token][head][d], what the polar transform sees. */
export function preconditionRows(
  plan: Plan,
  role: Role,
  rows: Float32Array,
  heads: number,
  tokens: number,
  transform: RunTimeTransform,
): Float64Array {
  const d = plan[role].headDim;
  const centred = Float32Array.from(rows);
  if (plan[role].center && transform.mean !== undefined) {
    for (let i = 0; i < centred.length; i++) {
      const head = Math.floor(i / (tokens * d));
      centred[i]! -= transform.mean[head * d + (i % d)]!;
    }
  }
  const call = {
    in: { data: centred, rowStride: d, headStride: tokens * d },
    out: { data: new Float32Array(0) },
    count: tokens,
    heads,
    rotation: 'forward' as const,
    transform,
  };
  return createReference(plan).rotate(role, call);
}

/** Σ‖x−x̂‖² / Σ‖x‖²; 0 when x is all zero and x̂ too. */
export function relativeError(
  exact: Float32Array | Float64Array,
  approximate: Float32Array | Float64Array,
): number {
  let error = 0;
  let energy = 0;
  for (let i = 0; i < exact.length; i++) {
    const x = exact[i]!;
    const difference = x - approximate[i]!;
    error += difference * difference;
    energy += x * x;
  }
  return error === 0 ? 0 : error / energy;
}
