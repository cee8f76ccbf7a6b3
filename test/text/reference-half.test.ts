/** f16 and bf16 conversions against their definition: the nearest value, a tie to the even pattern. */

import { describe, expect, it } from 'vitest';
import { nearestRoot } from '../../generator/reference/encode.ts';
import { fromBf16, fromF16, toBf16, toF16 } from '../../generator/reference/half.ts';

/** The value of an f16 or bf16 from sign, exponent and fraction. */
function patternValue(pattern: number, fractionBits: number): number {
  const exponentBits = 15 - fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = pattern >>> 15 ? -1 : 1;
  const exponent = (pattern >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0
    ? sign * fraction * 2 ** (1 - bias)
    : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const TYPES = [
  { name: 'f16', to: toF16, from: fromF16, fractionBits: 10, largest: 0x7bff, nan: 0x7e00 },
  { name: 'bf16', to: toBf16, from: fromBf16, fractionBits: 7, largest: 0x7f7f, nan: 0x7fc0 },
] as const;

describe.each(TYPES)('$name', ({ to, from, fractionBits, largest, nan }) => {
  it('reads every pattern', () => {
    for (let pattern = 0; pattern < 65536; pattern++) {
      if (!Object.is(from(pattern), patternValue(pattern, fractionBits))) {
        expect([pattern, from(pattern)]).toEqual([pattern, patternValue(pattern, fractionBits)]);
      }
    }
  });

  it('rounds to nearest, ties to even, between every two neighbours', () => {
    const f = Math.fround;
    const wrong: unknown[] = [];
    const check = (value: number, wanted: number): void => {
      if (to(value) !== wanted) wrong.push([value, to(value), wanted]);
      if (to(-value) !== (wanted | 0x8000)) wrong.push([-value, to(-value), wanted | 0x8000]);
    };
    const float = new Float32Array(1);
    const bits = new Uint32Array(float.buffer);
    for (let pattern = 0; pattern < largest; pattern++) {
      const low = patternValue(pattern, fractionBits);
      const high = patternValue(pattern + 1, fractionBits);
      const middle = f((low + high) / 2);
      check(low, pattern);
      check(middle, pattern + (pattern & 1));
      float[0] = middle;
      bits[0]! -= 1;
      check(float[0], pattern);
      bits[0]! += 2;
      check(float[0], pattern + 1);
    }
    expect(wrong).toEqual([]);
  });

  it('clamps what is beyond the range, and has one NaN', () => {
    for (const value of [patternValue(largest, fractionBits), 3.4e38, Infinity]) {
      expect(to(value)).toBe(largest);
      expect(to(-value)).toBe(0x8000 | largest);
    }
    expect(to(NaN)).toBe(nan);
  });
});

describe('the norm of log radii', () => {
  /** floor(√n) of a BigInt (Newton). */
  const root = (n: bigint): bigint => {
    if (n < 2n) return n;
    let x = 1n << BigInt(Math.ceil(n.toString(2).length / 2));
    for (;;) {
      const next = (x + n / x) >> 1n;
      if (next >= x) return x;
      x = next;
    }
  };
  /** The f16 nearest to √energy from an integer root with 2⁻⁸⁰ to spare; a tie takes the lower. */
  const wanted = (energy: number): number => {
    let scaled = energy;
    let shift = 0;
    while (!Number.isInteger(scaled)) {
      scaled *= 2;
      shift++;
    }
    if (shift % 2) {
      scaled *= 2;
      shift++;
    }
    const n = BigInt(scaled) << 160n;
    const found = root(n);
    const exact = found * found === n;
    // The root is found·2^−(shift/2 + 80); compare twice that with sums of neighbouring f16 values.
    let best = 0;
    for (let low = 0, high = 0x7bff; low <= high; ) {
      const middle = (low + high) >> 1;
      if (middle === 0) {
        low = 1;
        continue;
      }
      // f16 values in units of 2⁻²⁴ are integers: sum·2^(shift/2 + 80 − 24) against 2·found.
      const sum = BigInt(fromF16(middle - 1) * 2 ** 24) + BigInt(fromF16(middle) * 2 ** 24);
      const left = (sum << BigInt(80 + shift / 2)) >> 24n;
      const above = 2n * found > left || (2n * found === left && !exact);
      if (above) {
        best = middle;
        low = middle + 1;
      } else {
        high = middle - 1;
      }
    }
    return best;
  };

  it('is decided at every midpoint as an exact root decides', () => {
    const float = new Float32Array(1);
    const bits = new Uint32Array(float.buffer);
    for (let pattern = 1; pattern <= 0x7bff; pattern += pattern < 2000 ? 7 : 61) {
      const middle = (fromF16(pattern - 1) + fromF16(pattern)) / 2;
      const square = middle * middle;
      expect(Math.fround(square)).toBe(square);
      expect(nearestRoot(square)).toBe(pattern - 1);
      expect(wanted(square)).toBe(pattern - 1);
      float[0] = square;
      bits[0]! += 1;
      expect(nearestRoot(float[0])).toBe(pattern);
      expect(wanted(float[0])).toBe(pattern);
    }
  });

  it('is the nearest between midpoints, 0 at 0, and the largest beyond', () => {
    for (let i = 0; i < 500; i++) {
      const energy = Math.fround(2 ** (((i * 7919) % 997) / 12 - 50) * (1 + i / 500));
      const bits = nearestRoot(energy);
      if (bits < 0x7bff) expect(bits).toBe(wanted(energy));
    }
    expect(nearestRoot(0)).toBe(0);
    expect(nearestRoot(2 ** -50)).toBe(0);
    expect(nearestRoot(Math.fround(1e30))).toBe(0x7bff);
    expect(nearestRoot(Infinity)).toBe(0x7bff);
  });
});
