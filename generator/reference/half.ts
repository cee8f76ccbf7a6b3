/** f16 and bf16 as bit patterns, in integer arithmetic: exact on every engine. */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

export const F16_NAN = 0x7e00;
export const BF16_NAN = 0x7fc0;
export const F16_LARGEST = 0x7bff;
const BF16_LARGEST = 0x7f7f;

/** `value` without its lowest `shift` bits, rounded to nearest, ties to even. */
function roundOff(value: number, shift: number): number {
  const kept = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
}

/** The f16 nearest to a float32, ties to even, then clamped to ±65504; NaN gives 0x7E00. */
export function toF16(value: number): number {
  float[0] = value;
  const pattern = bits[0]!;
  const sign = (pattern >>> 16) & 0x8000;
  const magnitude = pattern & 0x7fffffff;
  if (magnitude > 0x7f800000) return F16_NAN;
  // Beyond 65504: everything that would round to infinity is clamped.
  if (magnitude >= 0x477fe000) return sign | F16_LARGEST;
  // Normal: rebias the exponent from 127 to 15 and drop 13 bits of the significand.
  if (magnitude >= 0x38800000) return sign | roundOff(magnitude - 0x38000000, 13);
  // Below half of the least denormal, 2⁻²⁵, and at it (the even neighbour is zero).
  if (magnitude <= 0x33000000) return sign;
  return sign | roundOff((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >>> 23));
}

/** The bf16 nearest to a float32, ties to even, then clamped to the largest finite; NaN gives 0x7FC0. */
export function toBf16(value: number): number {
  float[0] = value;
  const pattern = bits[0]!;
  const magnitude = pattern & 0x7fffffff;
  if (magnitude > 0x7f800000) return BF16_NAN;
  return ((pattern >>> 16) & 0x8000) | Math.min(roundOff(magnitude, 16), BF16_LARGEST);
}

/** The value of an f16 pattern: every f16 is a float32. */
export function fromF16(pattern: number): number {
  const exponent = (pattern >>> 10) & 31;
  const fraction = pattern & 1023;
  const sign = pattern & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  bits[0] = ((exponent + 112) << 23) | (fraction << 13);
  return sign * float[0]!;
}

/** The value of a bf16 pattern: the upper half of a float32. */
export function fromBf16(pattern: number): number {
  bits[0] = pattern << 16;
  return float[0]!;
}

/** The 32 bits of a float32, NaN as 0x7FC00000. */
export function toF32Bits(value: number): number {
  float[0] = value;
  return Number.isNaN(value) ? 0x7fc00000 : bits[0]!;
}

export function fromF32Bits(pattern: number): number {
  bits[0] = pattern;
  return float[0]!;
}
