/** A format on captured keys and values: errors of vectors, logits and attention outputs. */

import type { Plan } from '../plan/index.ts';
import { type Attention, attention, meanSquaredDifference } from './attention.ts';
import { quantizeRows, relativeError } from './quantize.ts';
import type { Figures, LayerData, LayerTransforms } from './types.ts';

/** Attention over the captured rows themselves: made once a layer, for any number of formats. */
export function exactAttention(data: LayerData): Attention {
  return attention(data, Float64Array.from(data.keys), Float64Array.from(data.values));
}

/**
 * Quantizes every key and value of a layer and compares with the exact ones.
 *
 * @param sinks tokens from the first on that attention reads at full precision; vector errors count all tokens
 */
export function measureLayer(
  plan: Plan,
  data: LayerData,
  exact: Attention,
  transforms: LayerTransforms,
  sinks = 0,
): Figures {
  const { keys, values, kvHeads, tokens, keyDim, valueDim } = data;
  const keysBack = quantizeRows(plan, 'key', keys, kvHeads, tokens, transforms.key);
  const valuesBack = quantizeRows(plan, 'value', values, kvHeads, tokens, transforms.value);
  const keyError = relativeError(keys, keysBack);
  const valueError = relativeError(values, valuesBack);
  keepFirst(keys, keysBack, kvHeads, tokens, keyDim, sinks);
  keepFirst(values, valuesBack, kvHeads, tokens, valueDim, sinks);
  const quantized = attention(data, keysBack, valuesBack);
  return {
    keyError,
    valueError,
    scoreMse: meanSquaredDifference(exact.scores, quantized.scores),
    outputError: relativeError(exact.outputs, quantized.outputs),
  };
}

/** Puts the first `count` tokens of every head back to what they were. */
function keepFirst(
  rows: Float32Array,
  quantized: Float64Array,
  heads: number,
  tokens: number,
  d: number,
  count: number,
): void {
  const kept = Math.min(count, tokens) * d;
  for (let head = 0; head < heads; head++) {
    const at = head * tokens * d;
    quantized.set(rows.subarray(at, at + kept), at);
  }
}

/** Mean of the figures of several seeds, and the standard deviation of each relative to its mean. */
export function overSeeds(runs: readonly Figures[]): {
  readonly mean: Figures;
  readonly spread: Figures;
} {
  const each = (of: (values: readonly number[]) => number): Figures => ({
    keyError: of(runs.map((run) => run.keyError)),
    valueError: of(runs.map((run) => run.valueError)),
    scoreMse: of(runs.map((run) => run.scoreMse)),
    outputError: of(runs.map((run) => run.outputError)),
  });
  return { mean: each(mean), spread: each(relativeDeviation) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function relativeDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return centre === 0 ? 0 : Math.sqrt(squares / (values.length - 1)) / centre;
}
