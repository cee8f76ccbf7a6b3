/** Records to vectors in float64, in the preconditioned space. */

import type { Coder } from './coder.ts';
import { fromBf16, fromF16, fromF32Bits } from './half.ts';
import { getBits, getWord } from './record.ts';

/**
 * Decodes `coder.record` into `out[at … at + d)`: ŷ, without the mean. A NaN radius gives NaN in its block's
 * coordinates, a NaN norm in all.
 */
export function decodeVector(coder: Coder, out: Float64Array, at: number): void {
  const { record, levels, dim } = coder;
  readRadii(coder, out, at);
  for (let index = levels.length - 1; index > 0; index--) {
    const { cos, sin, bits, nodes, positions } = levels[index]!;
    for (let node = nodes - 1; node >= 0; node--) {
      const code = getBits(record, positions[node]!, bits);
      const r = out[at + node]!;
      out[at + 2 * node + 1] = r * sin[code]!;
      out[at + 2 * node] = r * cos[code]!;
    }
  }
  const { cos, sin, bits, positions } = levels[0]!;
  const magnitudes = bits > 2 ? (1 << (bits - 2)) - 1 : 0;
  for (let node = dim / 2 - 1; node >= 0; node--) {
    const code = getBits(record, positions[node]!, bits);
    const m = (code >>> 1) & magnitudes;
    const r = out[at + node]!;
    const x = r * cos[m]!;
    const y = r * sin[m]!;
    out[at + 2 * node + 1] = code >>> (bits - 1) ? -y : y;
    out[at + 2 * node] = bits > 1 && code & 1 ? -x : x;
  }
}

function readRadii(coder: Coder, out: Float64Array, at: number): void {
  const { record, radius, layout, logLevels } = coder;
  const norm = radius.kind === 'log' ? fromF16(getBits(record, layout.norm!, 16)) : 0;
  for (let block = 0; block < coder.blocks; block++) {
    const position = layout.radii[block]!;
    if (radius.kind === 'log') {
      out[at + block] = logLevels[getBits(record, position, radius.bits)]! * norm;
    } else if (radius.kind === 'f32') {
      out[at + block] = fromF32Bits(getWord(record, position));
    } else {
      const bits = getBits(record, position, 16);
      out[at + block] = radius.kind === 'f16' ? fromF16(bits) : fromBf16(bits);
    }
  }
}
