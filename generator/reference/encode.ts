/** Vectors to records in float32, operation by operation as docs/format.md has them. The bytes are the format. */

import type { Coder, LevelTables } from './coder.ts';
import { F16_LARGEST, F16_NAN, fromBf16, fromF16, toBf16, toF16, toF32Bits } from './half.ts';
import { putBits, putBytes } from './record.ts';

const fl = Math.fround;

/** Coordinates below this in magnitude become +0, so that no denormal decides a code. */
const SMALLEST = 2 ** -64;

/** Differences below this in magnitude add nothing to a row's error: their squares need not be normal numbers. */
const SMALLEST_LOSS = 2 ** -50;

/**
 * Encodes `coder.vector` (float32, original basis, not yet centred) into `coder.record`; the vector is used up.
 *
 * @param mean    float32 means, for centred formats, this head's beginning at `meanAt`
 * @param matrix  float32 S, row-major, for `matrix` and `orthogonal`, this head's beginning at `matrixAt`
 * @returns the row's squared error in float32, +Inf if any block is not finite
 */
export function encodeVector(
  coder: Coder,
  mean: Float32Array | null,
  meanAt: number,
  matrix: Float32Array | null,
  matrixAt: number,
): number {
  const { vector, levels, codes, record, radii, stored, blocks, radius } = coder;
  clean(vector, mean, meanAt);
  precondition(coder, matrix, matrixAt);

  let error = encodeSigned(levels[0]!, vector, codes, 0);
  for (let index = 1; index < levels.length; index++) {
    error = encodeLevel(levels[index]!, vector, codes, error);
  }

  const scale = coder.plan.scale;
  let finite = true;
  for (let block = 0; block < blocks; block++) {
    const projection = vector[block]!;
    if (projection - projection !== 0) finite = false;
    radii[block] = scale === 1 ? projection : projection * scale;
  }

  record.fill(0);
  if (radius.kind === 'log') {
    if (!finite) {
      putBytes(record, coder.layout.norm!, 16, F16_NAN);
      return Infinity;
    }
    storeLogRadii(coder);
  } else {
    storeRadii(coder);
    if (!finite) clearCodes(coder);
  }
  for (const level of levels) {
    for (let node = 0; node < level.nodes; node++) {
      putBits(record, level.positions[node]!, codes[level.offset + node]!);
    }
  }

  if (!finite) return Infinity;
  if (scale !== 1) error = fl(error * fl(scale * scale));
  for (let block = 0; block < blocks; block++) {
    const delta = fl(radii[block]! - stored[block]!);
    error = fl(error + squared(delta));
  }
  return error;
}

function clean(vector: Float32Array, mean: Float32Array | null, meanAt: number): void {
  for (let i = 0; i < vector.length; i++) {
    const x = mean === null ? vector[i]! : fl(vector[i]! - mean[meanAt + i]!);
    vector[i] = Math.abs(x) < SMALLEST ? 0 : x;
  }
}

function precondition(coder: Coder, matrix: Float32Array | null, matrixAt: number): void {
  const { vector, spare, dim } = coder;
  const plan = coder.plan.precondition;
  if (plan.kind === 'none') return;
  if (plan.kind !== 'hadamard') {
    if (matrix === null)
      throw new Error(`the preconditioner '${plan.kind}' needs transform.matrix`);
    for (let i = 0; i < dim; i++) {
      const row = matrixAt + i * dim;
      let sum = fl(matrix[row]! * vector[0]!);
      for (let j = 1; j < dim; j++) sum = fl(sum + fl(matrix[row + j]! * vector[j]!));
      spare[i] = sum;
    }
    vector.set(spare);
    return;
  }
  for (let i = 0; i < dim; i++) vector[i] = coder.signs[i]! < 0 ? -vector[i]! : vector[i]!;
  const run = 1 << plan.log2;
  for (let stride = 1; stride < run; stride *= 2) {
    for (let start = 0; start < dim; start += 2 * stride) {
      for (let i = start; i < start + stride; i++) {
        const a = vector[i]!;
        const b = vector[i + stride]!;
        vector[i] = a + b;
        vector[i + stride] = a - b;
      }
    }
  }
  if (plan.order === 1) return;
  for (let row = 0; row < plan.order; row++) {
    const signs = row * plan.order;
    for (let b = 0; b < run; b++) {
      let sum = coder.factor[signs]! < 0 ? -vector[b]! : vector[b]!;
      for (let a = 1; a < plan.order; a++) {
        const x = vector[a * run + b]!;
        sum = fl(coder.factor[signs + a]! < 0 ? sum - x : sum + x);
      }
      spare[row * run + b] = sum;
    }
  }
  vector.set(spare);
}

function squared(loss: number): number {
  return Math.abs(loss) < SMALLEST_LOSS ? 0 : fl(loss * loss);
}

/** The number of thresholds t with v > fl(t·u). They ascend, so halving finds it; entries are a power of two. */
function search(thresholds: Float32Array, entries: number, u: number, v: number): number {
  let code = 0;
  for (let step = entries >>> 1; step > 0; step >>>= 1) {
    if (v > fl(thresholds[code + step - 1]! * u)) code += step;
  }
  return code;
}

/** Level 1: signs and a magnitude of the first quadrant. Projections replace the front half of `vector`. */
function encodeSigned(
  level: LevelTables,
  vector: Float32Array,
  codes: Uint8Array,
  before: number,
): number {
  const { cos, sin, thresholds, entries, bits, nodes } = level;
  let error = before;
  for (let node = 0; node < nodes; node++) {
    const x = vector[2 * node]!;
    const y = vector[2 * node + 1]!;
    const u = Math.abs(x);
    const v = Math.abs(y);
    const m = search(thresholds, entries, u, v);
    const c = cos[m]!;
    const s = sin[m]!;
    const signX = x < 0 ? 1 : 0;
    const signY = y < 0 ? 1 : 0;
    codes[node] = bits === 1 ? signY : signX | (m << 1) | (signY << (bits - 1));
    vector[node] = fl(fl(u * c) + fl(v * s));
    const across = fl(fl(u * s) - fl(v * c));
    error = fl(error + squared(across));
  }
  return error;
}

function encodeLevel(
  level: LevelTables,
  vector: Float32Array,
  codes: Uint8Array,
  before: number,
): number {
  const { cos, sin, thresholds, entries, nodes, offset } = level;
  let error = before;
  for (let node = 0; node < nodes; node++) {
    const u = vector[2 * node]!;
    const v = vector[2 * node + 1]!;
    const code = search(thresholds, entries, u, v);
    const c = cos[code]!;
    const s = sin[code]!;
    codes[offset + node] = code;
    vector[node] = fl(fl(u * c) + fl(v * s));
    const across = fl(fl(u * s) - fl(v * c));
    error = fl(error + squared(across));
  }
  return error;
}

/** Radii of 16 or 32 bits. A projection that is not finite is stored as the canonical NaN. */
function storeRadii(coder: Coder): void {
  const { record, radii, stored, layout, radius, vector } = coder;
  for (let block = 0; block < coder.blocks; block++) {
    const projection = vector[block]!;
    const value = projection - projection === 0 ? radii[block]! : NaN;
    if (radius.kind === 'f32') {
      putBytes(record, layout.radii[block]!, 32, toF32Bits(value));
      stored[block] = value;
    } else {
      const bits = radius.kind === 'f16' ? toF16(value) : toBf16(value);
      putBytes(record, layout.radii[block]!, 16, bits);
      stored[block] = radius.kind === 'f16' ? fromF16(bits) : fromBf16(bits);
    }
  }
}

/** Every code under a block whose projection is not finite becomes 0. */
function clearCodes(coder: Coder): void {
  for (let block = 0; block < coder.blocks; block++) {
    const projection = coder.vector[block]!;
    if (projection - projection === 0) continue;
    for (const level of coder.levels) {
      const width = level.nodes / coder.blocks;
      const first = level.offset + block * width;
      coder.codes.fill(0, first, first + width);
    }
  }
}

/** The f16 norm nearest to √Σr², and a code a block. */
function storeLogRadii(coder: Coder): void {
  const { record, radii, stored, layout, logLevels, logThresholds, blocks } = coder;
  let energy = fl(radii[0]! * radii[0]!);
  for (let block = 1; block < blocks; block++) {
    energy = fl(energy + fl(radii[block]! * radii[block]!));
  }
  const bits = nearestRoot(energy);
  putBytes(record, layout.norm!, 16, bits);
  const norm = fromF16(bits);
  for (let block = 0; block < blocks; block++) {
    const code = search(logThresholds, logLevels.length, norm, radii[block]!);
    putBits(record, layout.radii[block]!, code);
    stored[block] = logLevels[code]! * norm;
  }
}

/**
 * The f16 nearest to √energy, a tie to the lower, without a root: consecutive values g < h are told apart by
 * energy > ((g+h)/2)². A midpoint has 12 bits, so its square is exact.
 */
export function nearestRoot(energy: number): number {
  let bits = 0;
  for (let step = 1 << 14; step > 0; step >>>= 1) {
    const candidate = bits + step;
    if (candidate > F16_LARGEST) continue;
    const middle = (fromF16(candidate - 1) + fromF16(candidate)) / 2;
    if (energy > middle * middle) bits = candidate;
  }
  return bits;
}
