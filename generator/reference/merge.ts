/** Partial attentions combined, and the sink logit. */

import type { MergeCall, Plan } from '../plan/index.ts';
import { readRow } from './rows.ts';

export interface MergeResult {
  /** [rows][q_heads][d_v]. */
  readonly out: Float64Array;
  /** [rows][q_heads], without the sink. */
  readonly lse: Float64Array;
}

/**
 * out = Σ out_i·e^(lse_i) / Σ e^(lse_i), lse = log Σ e^(lse_i), then out·e^lse / (e^lse + e^sink). Parts that see nothing
 * (lse −∞) count for nothing whatever their rows hold.
 */
export function merge(plan: Plan, call: MergeCall): MergeResult {
  const d = plan.value.headDim;
  const { rows, qHeads, parts } = call;
  const out = new Float64Array(rows * qHeads * d);
  const lse = new Float64Array(rows * qHeads).fill(-Infinity);
  const vector = new Float64Array(d);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < qHeads; head++) {
      const sums = parts.map((part) => part.lse[row * (part.lseRowStride ?? qHeads) + head]!);
      const peak = Math.max(-Infinity, ...sums);
      if (peak === -Infinity) continue;
      let total = 0;
      const sum = new Float64Array(d);
      parts.forEach((part, index) => {
        if (sums[index] === -Infinity) return;
        const weight = Math.exp(sums[index]! - peak);
        total += weight;
        readRow(part.out, qHeads, d, row, head, vector);
        for (let i = 0; i < d; i++) sum[i]! += weight * vector[i]!;
      });
      const all = peak + Math.log(total);
      const kept = call.sink === undefined ? 1 : 1 / (1 + Math.exp(call.sink[head]! - all));
      for (let i = 0; i < d; i++) sum[i]! *= kept / total;
      out.set(sum, (row * qHeads + head) * d);
      lse[row * qHeads + head] = all;
    }
  }
  return { out, lse };
}
