/**
 * Elementary functions from + − × ÷ √ alone, so that lowering gives the same bytes on every engine:
 * ECMAScript leaves the accuracy of Math.sin and its like to the implementation.
 */

/** π/2 as the sum of two doubles. */
const HALF_PI_HIGH = 1.5707963267948966;
const HALF_PI_LOW = 6.123233995736766e-17;
const LN_2_HIGH = 0.6931471803691238;
const LN_2_LOW = 1.9082149292705877e-10;

export const PI = Math.PI;
export const HALF_PI = HALF_PI_HIGH;
export const QUARTER_PI = 0.7853981633974483;
export const SQRT_HALF = Math.sqrt(0.5);

/** ±1/n! for the terms of sine (odd n) and cosine (even n), by falling n, the first two terms left out. */
function taylor(largest: number): readonly number[] {
  const coefficients: number[] = [];
  for (let n = largest; n >= 3; n -= 2) {
    let coefficient = 1;
    for (let k = 2; k <= n; k++) coefficient /= k;
    coefficients.push(n % 4 < 2 ? coefficient : -coefficient);
  }
  return coefficients;
}

const SINE = taylor(19);
const COSINE = taylor(18);

function horner(coefficients: readonly number[], x: number): number {
  let sum = 0;
  for (let i = 0; i < coefficients.length; i++) sum = sum * x + coefficients[i]!;
  return sum;
}

/** Sine of x + tail for |x| ≤ π/4: the Taylor series, whose first term left out is below 2e-22. */
function sinNearZero(x: number, tail: number): number {
  const square = x * x;
  return x + (x * square * horner(SINE, square) + tail * (1 - square / 2));
}

/** Cosine of x + tail for |x| ≤ π/4: the first term left out is below 1e-20. */
function cosNearZero(x: number, tail: number): number {
  const square = x * x;
  const half = square / 2;
  const head = 1 - half;
  return head + (1 - head - half + (square * square * horner(COSINE, square) - x * tail));
}

function checkRange(x: number): void {
  if (!(x >= -HALF_PI && x <= HALF_PI)) throw new RangeError(`angle ${x} outside [−π/2, π/2]`);
}

/** sin x for |x| ≤ π/2. */
export function sin(x: number): number {
  checkRange(x);
  if (x < 0) return -sin(-x);
  if (x <= QUARTER_PI) return sinNearZero(x, 0);
  return cosNearZero(HALF_PI_HIGH - x, HALF_PI_LOW);
}

/** cos x for |x| ≤ π/2. */
export function cos(x: number): number {
  checkRange(x);
  const positive = x < 0 ? -x : x;
  if (positive <= QUARTER_PI) return cosNearZero(positive, 0);
  return sinNearZero(HALF_PI_HIGH - positive, HALF_PI_LOW);
}

/** tan x for |x| < π/2. */
export function tan(x: number): number {
  return sin(x) / cos(x);
}

/** Natural logarithm of a positive normal number: x = m·2^e, ln m = 2·artanh((m − 1)/(m + 1)). */
export function log(x: number): number {
  if (!(x > 0 && x < Number.POSITIVE_INFINITY)) throw new RangeError(`logarithm of ${x}`);
  let mantissa = x;
  let exponent = 0;
  while (mantissa >= 2 * SQRT_HALF) {
    mantissa /= 2;
    exponent += 1;
  }
  while (mantissa < SQRT_HALF) {
    mantissa *= 2;
    exponent -= 1;
  }
  const f = mantissa - 1;
  const s = f / (2 + f);
  const square = s * s;
  let series = 0;
  for (let n = 23; n >= 3; n -= 2) series = square * (1 / n + series);
  // ln(1 + f) = f − s·(f − 2·series): the rounded part is small beside f.
  return exponent * LN_2_HIGH + (f - s * (f - 2 * series) + exponent * LN_2_LOW);
}

/** x^n for an integer n ≥ 0, by squaring. */
export function power(x: number, n: number): number {
  let result = 1;
  let square = x;
  for (let rest = n; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return result;
}

export interface Quadrature {
  readonly nodes: readonly number[];
  readonly weights: readonly number[];
}

/** Gauss–Legendre nodes and weights on [−1, 1]: Newton's method on the Legendre polynomial of degree n. */
export function gaussLegendre(n: number): Quadrature {
  const nodes: number[] = [];
  const weights: number[] = [];
  for (let i = 0; i < n; i++) {
    const turn = (PI * (i + 0.75)) / (n + 0.5);
    let x = turn <= HALF_PI ? cos(turn) : -cos(PI - turn);
    let derivative = 1;
    for (let step = 0; step < 8; step++) {
      let previous = 1;
      let value = x;
      for (let k = 2; k <= n; k++) {
        const next = ((2 * k - 1) * x * value - (k - 1) * previous) / k;
        previous = value;
        value = next;
      }
      derivative = (n * (x * value - previous)) / (x * x - 1);
      x -= value / derivative;
    }
    nodes.push(x);
    weights.push(2 / ((1 - x * x) * derivative * derivative));
  }
  return { nodes, weights };
}
