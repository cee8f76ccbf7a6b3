/** Attention in float64 over plain rows: the exact side of every comparison. */

import type { LayerData } from './types.ts';

export interface Attention {
  /** Logits, one run of positions[p] + 1 entries a (query head, position), in that order. */
  readonly scores: Float64Array;
  /** [qHeads][positions][valueDim] */
  readonly outputs: Float64Array;
}

/**
 * softmax(scale · q·kᵀ) · v of every query over the tokens it sees.
 *
 * @param keys   [kvHeads][tokens][keyDim]
 * @param values [kvHeads][tokens][valueDim]
 */
export function attention(data: LayerData, keys: Float64Array, values: Float64Array): Attention {
  const { qHeads, kvHeads, tokens, keyDim, valueDim, positions, queries, scale } = data;
  const group = qHeads / kvHeads;
  let pairs = 0;
  for (const position of positions) pairs += position + 1;
  const scores = new Float64Array(qHeads * pairs);
  const outputs = new Float64Array(qHeads * positions.length * valueDim);
  const query = new Float64Array(keyDim);
  const sum = new Float64Array(valueDim);
  let at = 0;
  for (let qHead = 0; qHead < qHeads; qHead++) {
    const head = Math.floor(qHead / group);
    for (let p = 0; p < positions.length; p++) {
      const seen = positions[p]! + 1;
      const from = (qHead * positions.length + p) * keyDim;
      for (let i = 0; i < keyDim; i++) query[i] = queries[from + i]! * scale;

      let greatest = -Infinity;
      for (let token = 0; token < seen; token++) {
        const row = (head * tokens + token) * keyDim;
        let score = 0;
        for (let i = 0; i < keyDim; i++) score += query[i]! * keys[row + i]!;
        scores[at + token] = score;
        if (score > greatest) greatest = score;
      }

      let total = 0;
      sum.fill(0);
      for (let token = 0; token < seen; token++) {
        const weight = Math.exp(scores[at + token]! - greatest);
        total += weight;
        const row = (head * tokens + token) * valueDim;
        for (let i = 0; i < valueDim; i++) sum[i]! += weight * values[row + i]!;
      }
      const to = (qHead * positions.length + p) * valueDim;
      for (let i = 0; i < valueDim; i++) outputs[to + i] = sum[i]! / total;
      at += seen;
    }
  }
  return { scores, outputs };
}

/** Mean of the squared differences. */
export function meanSquaredDifference(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    sum += difference * difference;
  }
  return a.length === 0 ? 0 : sum / a.length;
}
