/** Numbers of a look-up table in f16: rounding, and the factor for which they round best. */

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The nearest f16, ties to even, of 0 or a number from 2⁻¹⁴ to 1 in magnitude. */
export function roundToHalf(value: number): number {
  float[0] = value;
  word[0]! += 0xfff + ((word[0]! >>> 13) & 1);
  word[0]! &= 0xffffe000;
  return float[0]!;
}

/**
 * The factor in (1/2, 1] for which the numbers round best to f16, of `steps` that are tried: an entry that is rounded is
 * off in the same direction wherever it is used, which no averaging removes. 1 for no numbers.
 */
export function bestHalfScale(numbers: readonly number[], steps: number): number {
  let best = { scale: 1, error: Number.POSITIVE_INFINITY };
  for (let step = 0; step < steps && numbers.length > 0; step++) {
    const scale = 1 - step / (2 * steps);
    let error = 0;
    for (const number of numbers) error += (roundToHalf(scale * number) / scale - number) ** 2;
    if (error < best.error) best = { scale, error };
  }
  return best.scale;
}
