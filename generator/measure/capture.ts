/** Captured layers, and what formats need of them at run time, out of .safetensors files. */

import { UserError } from '../diagnostics/index.ts';
import { type CapturedFile, finiteNumbers, floatTensor, wholeNumbers } from './tensors.ts';
import type { LayerData, LayerTransforms, RunTimeTransform } from './types.ts';

const NEEDED =
  'a capture holds layer.N.key and layer.N.value [kv_head, token, d], layer.N.query [q_head, position, d], query_positions [position]';

/** The layers that a file holds keys of, ascending; at least one. */
export function layersOf(file: CapturedFile): readonly number[] {
  const layers = [...file.tensors.keys()].flatMap((key) => {
    const match = /^layer\.(\d+)\.key$/.exec(key);
    return match === null ? [] : [Number(match[1])];
  });
  if (layers.length > 0) return layers.sort((a, b) => a - b);
  throw new UserError('P130', `${file.path}: there is no tensor layer.N.key`, NEEDED);
}

/**
 * Keys, values and queries of one layer. Throws a `UserError` that names what is missing, of another shape or not
 * finite.
 */
export function readLayer(file: CapturedFile, layer: number): LayerData {
  const known = layersOf(file);
  if (!known.includes(layer)) {
    throw new UserError(
      'P130',
      `${file.path}: there is no layer ${layer}`,
      `it has ${known.join(', ')}`,
    );
  }
  const name = (what: string) => `layer.${layer}.${what}`;
  const [kvHeads, tokens, keyDim] = floatTensor(file, name('key'), [-1, -1, -1]).shape as Sizes;
  const values = finiteNumbers(file, name('value'), [kvHeads, tokens, -1]);
  const positions = wholeNumbers(file, 'query_positions');
  const queries = finiteNumbers(file, name('query'), [-1, positions.length, keyDim]);
  const qHeads = queries.length / (positions.length * keyDim);
  if (qHeads % kvHeads !== 0) {
    throw new UserError(
      'P130',
      `${file.path}: ${name('query')} has ${qHeads} heads, ${name('key')} ${kvHeads}`,
      'the number of query heads is a multiple of the number of KV heads',
    );
  }
  const outside = positions.find((position) => position < 0 || position >= tokens);
  if (outside !== undefined) {
    throw new UserError(
      'P130',
      `${file.path}: query_positions holds ${outside}, and there are ${tokens} tokens`,
      'a position is the index of the last token that the query sees',
    );
  }
  return {
    layer,
    kvHeads,
    qHeads,
    tokens,
    keyDim,
    valueDim: values.length / (kvHeads * tokens),
    keys: finiteNumbers(file, name('key'), [kvHeads, tokens, keyDim]),
    values,
    queries,
    positions,
    scale: scaleOf(file, keyDim),
  };
}

type Sizes = readonly [number, number, number];

/** `scale` of the file's metadata, else 1/√d. */
function scaleOf(file: CapturedFile, keyDim: number): number {
  const written = file.metadata.scale;
  if (written === undefined) return 1 / Math.sqrt(keyDim);
  const scale = Number(written);
  if (Number.isFinite(scale) && scale > 0) return scale;
  throw new UserError(
    'P130',
    `${file.path}: the scale '${written}' of its metadata is no positive number`,
    'write what logits are multiplied by, for example 0.125',
  );
}

/** `layer.N.key_mean` and `layer.N.value_mean`, [kv_head, d]. */
export function readMeans(file: CapturedFile, data: LayerData): LayerTransforms {
  const read = (role: 'key' | 'value', d: number): RunTimeTransform => ({
    mean: finiteNumbers(file, `layer.${data.layer}.${role}_mean`, [data.kvHeads, d]),
  });
  return { key: read('key', data.keyDim), value: read('value', data.valueDim) };
}

/** `layer.N.key_matrix`, `key_dual`, `value_matrix`, `value_dual`, [kv_head, d, d]: S and S⁻ᵀ. */
export function readMatrices(file: CapturedFile, data: LayerData): LayerTransforms {
  const read = (role: 'key' | 'value', d: number): RunTimeTransform => {
    const name = (what: string) => `layer.${data.layer}.${role}_${what}`;
    const shape = [data.kvHeads, d, d];
    const matrix = finiteNumbers(file, name('matrix'), shape);
    const dual = finiteNumbers(file, name('dual'), shape);
    checkDual(matrix, dual, data.kvHeads, d, `${file.path}: ${name('dual')}`);
    return { matrix, dual };
  };
  return { key: read('key', data.keyDim), value: read('value', data.valueDim) };
}

/** Row i of S times row i of its dual is 1, up to the rounding of float32 entries. */
function checkDual(
  matrix: Float32Array,
  dual: Float32Array,
  heads: number,
  d: number,
  where: string,
): void {
  for (let row = 0; row < heads * d; row++) {
    let sum = 0;
    for (let j = row * d; j < (row + 1) * d; j++) sum += matrix[j]! * dual[j]!;
    if (Math.abs(sum - 1) < 1e-2) continue;
    throw new UserError(
      'P130',
      `${where} is not the transposed inverse of its matrix: row ${row % d} of head ${Math.floor(row / d)} times that of the matrix is ${sum.toPrecision(3)}, not 1`,
      'invert the matrix in float64 and transpose it',
    );
  }
}
