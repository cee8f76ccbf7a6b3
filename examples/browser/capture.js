/** Layers of a capture as kernels take them: `[token][head][d]`. */

import { Problem } from './problem.js';
import { numbersOf } from './safetensors.js';

/**
 * @typedef {object} Layer
 * @property {number} kvHeads
 * @property {number} tokens
 * @property {number} d
 * @property {number} rows captured queries of each query head
 * @property {Uint16Array} keysHalf `[token][kv_head][d]`, f16
 * @property {Uint16Array} valuesHalf
 * @property {Float32Array} keys the same numbers
 * @property {Float32Array} values
 * @property {Float32Array} queries `[row][q_head][d]`
 * @property {Int32Array} positions the last token that a query row sees
 * @property {number} scale
 */

/** `[a][b][d]` to `[b][a][d]`. */
function exchange(source, a, b, d) {
  const out = new source.constructor(source.length);
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      const from = (i * b + j) * d;
      out.set(source.subarray(from, from + d), (j * a + i) * d);
    }
  }
  return out;
}

export function layersOf({ tensors }) {
  const names = [...tensors.keys()].flatMap((name) => /^layer\.(\d+)\.key$/.exec(name)?.[1] ?? []);
  return names.map(Number).sort((a, b) => a - b);
}

/** @returns {Layer} */
export function readLayer({ tensors, metadata }, layer) {
  const tensor = (name) => {
    const found = tensors.get(name);
    if (found !== undefined) return found;
    throw new Problem('The capture is incomplete', `kv-slice.safetensors has no tensor ${name}.`, [
      'Restore the file from the repository: `git checkout test/fixtures/kv-slice.safetensors`.',
    ]);
  };
  const of = (what) => tensor(`layer.${layer}.${what}`);
  const [kvHeads, tokens, d] = of('key').shape;
  const [qHeads, rows] = of('query').shape;
  const halves = (what) => exchange(new Uint16Array(of(what).bytes), kvHeads, tokens, d);
  return {
    kvHeads,
    tokens,
    d,
    rows,
    keysHalf: halves('key'),
    valuesHalf: halves('value'),
    keys: exchange(numbersOf(of('key')), kvHeads, tokens, d),
    values: exchange(numbersOf(of('value')), kvHeads, tokens, d),
    queries: exchange(numbersOf(of('query')), qHeads, rows, d),
    positions: /** @type {Int32Array} */ (numbersOf(tensor('query_positions'))),
    scale: Number(metadata.scale ?? d ** -0.5),
  };
}

/**
 * Means of the keys and the values, `[kv_head][d]`: measured on other texts, as a cache has them before its tokens
 * come, or of the very rows that are packed, which flatters the format a little.
 */
export function meansOf({ tensors }, layerIndex, layer, from) {
  const stored = (what) => tensors.get(`layer.${layerIndex}.${what}_mean`);
  if (from === 'others' && stored('key') !== undefined && stored('value') !== undefined) {
    return { key: numbersOf(stored('key')), value: numbersOf(stored('value')) };
  }
  return { key: meanOf(layer.keys, layer), value: meanOf(layer.values, layer) };
}

function meanOf(rows, { kvHeads, tokens, d }) {
  const sums = new Float64Array(kvHeads * d);
  for (let i = 0; i < rows.length; i++) sums[i % sums.length] += rows[i];
  return Float32Array.from(sums, (sum) => sum / tokens);
}
