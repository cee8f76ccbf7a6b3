/** The `rotate` kernel in float64. */

import type { Plan, Role, RotateCall } from '../plan/index.ts';
import { coderOf } from './coder.ts';
import { rotateVector } from './rotate.ts';
import { readRow } from './rows.ts';

/** Rows [count][heads][d] multiplied by S, S⁻ᵀ or S⁻¹ of their KV head. */
export function rotateRows(plan: Plan, role: Role, call: RotateCall): Float64Array {
  const coder = coderOf(plan[role]);
  const { count, heads } = call;
  const out = new Float64Array(count * heads * coder.dim);
  const vector = new Float64Array(coder.dim);
  for (let row = 0; row < count; row++) {
    for (let head = 0; head < heads; head++) {
      readRow(call.in, heads, coder.dim, row, head, vector);
      const kvHead = Math.floor(head / (call.headsPerKv ?? 1));
      rotateVector(coder, call.rotation, vector, call.transform, kvHead);
      out.set(vector, (row * heads + head) * coder.dim);
    }
  }
  return out;
}
