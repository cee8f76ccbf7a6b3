/** Rows into a pool, and pool tokens back into rows. */

import type { Basis, DecodeCall, EncodeCall, Plan, Role } from '../plan/index.ts';
import { coderOf } from './coder.ts';
import { decodeVector } from './decode.ts';
import { encodeVector } from './encode.ts';
import { unitAddress, viewPool } from './pool.ts';
import { loadRecord, storeRecord } from './record.ts';
import { meanOf, rotateVector } from './rotate.ts';
import { readRow } from './rows.ts';
import { FLAGS } from './sequences.ts';

/**
 * Encodes rows into their slots, byte for byte as every target does, and writes `errors` and `flags` if given.
 * Only bits of the tokens written change.
 */
export function encode(plan: Plan, role: Role, call: EncodeCall): void {
  const coder = coderOf(plan[role]);
  const { layout, center, precondition, headDim } = coder.plan;
  const { kvHeads, transform, errors } = call;
  const pool = viewPool(call.cache, layout, plan.pageTokens, kvHeads);
  const mean = center ? (transform?.mean ?? null) : null;
  if (center && mean === null) throw new Error('a centred format needs transform.mean');
  const matrix = transform?.matrix ?? null;
  const matrixStride = precondition.kind === 'matrix' ? headDim * headDim : 0;
  for (let row = 0; row < call.count; row++) {
    const slot = Number(call.slots[row]!);
    if (slot < 0) continue;
    if (slot >= pool.pages * plan.pageTokens) {
      if (call.flags !== undefined) call.flags[0]! |= FLAGS.slotOutOfRange;
      continue;
    }
    const page = Math.floor(slot / plan.pageTokens);
    const token = slot % plan.pageTokens;
    for (let head = 0; head < kvHeads; head++) {
      readRow(call.rows, kvHeads, headDim, row, head, coder.vector);
      const error = encodeVector(coder, mean, head * headDim, matrix, head * matrixStride);
      const address = unitAddress(pool, page, head, token);
      storeRecord(layout, coder.record, pool.data, address, token % layout.unitTokens);
      if (errors !== undefined) errors[row * kvHeads + head] = error;
    }
  }
}

export interface DecodeResult {
  /** [count][kvHeads][d]; NaN in rows that were skipped. */
  readonly out: Float64Array;
  /** [count]: 1 where the row was written. */
  readonly written: Uint8Array;
  readonly flags: number;
}

/** Decodes slots in float64. The arrays of the call that a kernel would write are left alone. */
export function decode(plan: Plan, role: Role, call: DecodeCall): DecodeResult {
  const basis = call.basis ?? 'original';
  const { out, written, flags } = decodeBases(plan, role, call, [basis]);
  return { out: out[0]!, written, flags };
}

/** `decode` in several bases at once: `out` has one array for each. */
export function decodeBases(
  plan: Plan,
  role: Role,
  call: DecodeCall,
  bases: readonly Basis[],
): Omit<DecodeResult, 'out'> & { readonly out: readonly Float64Array[] } {
  const coder = coderOf(plan[role]);
  const { layout, headDim } = coder.plan;
  const { kvHeads, count, transform } = call;
  const pool = viewPool(call.cache, layout, plan.pageTokens, kvHeads);
  const written = new Uint8Array(count);
  const packed = new Float64Array(headDim);
  const vector = new Float64Array(headDim);
  const outputs = bases.map((basis) => ({
    inverse: basis === 'original',
    out: new Float64Array(count * kvHeads * headDim).fill(NaN),
    means: Array.from({ length: kvHeads }, (_, head) => {
      const mean = meanOf(coder, transform, head);
      if (mean !== null && basis === 'rotated')
        rotateVector(coder, 'forward', mean, transform, head);
      return mean;
    }),
  }));
  let flags = 0;
  for (let row = 0; row < count; row++) {
    const slot = Number(call.slots[row]!);
    if (slot < 0) continue;
    if (slot >= pool.pages * plan.pageTokens) {
      flags |= FLAGS.slotOutOfRange;
      continue;
    }
    written[row] = 1;
    const page = Math.floor(slot / plan.pageTokens);
    const token = slot % plan.pageTokens;
    for (let head = 0; head < kvHeads; head++) {
      const address = unitAddress(pool, page, head, token);
      loadRecord(layout, coder.record, pool.data, address, token % layout.unitTokens);
      decodeVector(coder, packed, 0);
      for (const { inverse, out, means } of outputs) {
        vector.set(packed);
        if (inverse) rotateVector(coder, 'inverse', vector, transform, head);
        const mean = means[head]!;
        if (mean !== null) for (let i = 0; i < headDim; i++) vector[i]! += mean[i]!;
        out.set(vector, (row * kvHeads + head) * headDim);
      }
    }
  }
  return { out: outputs.map(({ out }) => out), written, flags };
}
