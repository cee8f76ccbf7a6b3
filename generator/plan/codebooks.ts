/** Codebooks of the angles and of logarithmic radii, from the analytic densities of a Gaussian vector. */

import { type Density, expectedLoss, lloydMax } from './lloyd-max.ts';
import { cos, HALF_PI, power, QUARTER_PI, sin, tan } from './numeric.ts';
import type { LevelPlan } from './types.ts';

/** A level's codebook, `error` relative to the energy that reaches the level. */
export type Codebook = Pick<LevelPlan, 'angles' | 'cos' | 'sin' | 'thresholds' | 'error'>;

export interface RadiusCodebook {
  readonly levels: readonly number[];
  readonly thresholds: readonly number[];
  /** Expected Σ (r − r̂)² over Σ r². */
  readonly error: number;
}

/** Eleven standard deviations either way: the mass left out is below 1e-27. */
const TAIL = 11;

/**
 * Density of φ = ψ − π/4 at a level ℓ ≥ 2, ∝ cos^(2^(ℓ−1) − 1)(2φ) (PolarQuant, arXiv 2502.02617,
 * lemma 2).
 */
function angleDensity(level: number): Density {
  const exponent = 2 ** (level - 1) - 1;
  const deviation = 0.5 / Math.sqrt(exponent + 1);
  const reach = Math.min(QUARTER_PI, TAIL * deviation);
  return {
    low: -reach,
    high: reach,
    panel: 2 * deviation,
    at: (phi) => {
      const twice = 2 * phi;
      return twice >= HALF_PI || twice <= -HALF_PI ? 0 : power(cos(twice), exponent);
    },
  };
}

/** Share of a pair's energy that its projection on a codeword at angle c loses. */
function projectionLoss(psi: number, c: number): number {
  const s = sin(psi - c);
  return s * s;
}

function midpoints(levels: readonly number[]): number[] {
  return levels.slice(1).map((level, i) => (levels[i]! + level) / 2);
}

/** Centroids in radians, ascending, of levels ≥ 2. */
function angleCodebook(level: number, angles: readonly number[]): Codebook {
  const centred = angles.map((angle) => angle - QUARTER_PI);
  return {
    angles,
    cos: angles.map((angle) => Math.fround(cos(angle))),
    sin: angles.map((angle) => Math.fround(sin(angle))),
    thresholds: midpoints(angles).map((angle) => Math.fround(tan(angle))),
    error: expectedLoss(angleDensity(level), centred, projectionLoss),
  };
}

/**
 * Level 1: uniform angles (i + ½)·2π/2^b; the entries are those of the first quadrant. The loss is
 * the mean of sin² over a cell. b = 1 keeps the sign of y alone.
 */
function firstLevel(bits: number): Codebook {
  if (bits === 1) return { angles: [HALF_PI], cos: [0], sin: [1], thresholds: [], error: 0.5 };
  const count = 2 ** (bits - 2);
  const half = HALF_PI / count / 2;
  const angles = Array.from({ length: count }, (_, i) => (2 * i + 1) * half);
  return {
    angles,
    cos: angles.map((angle) => Math.fround(cos(angle))),
    sin: angles.map((angle) => Math.fround(sin(angle))),
    thresholds: Array.from({ length: count - 1 }, (_, i) => Math.fround(tan((2 * i + 2) * half))),
    error: 0.5 - (sin(half) * cos(half)) / (2 * half),
  };
}

const analytic = new Map<string, Codebook>();

/** The codebook of a level for a Gaussian vector; `level` ≥ 1, `bits` ≥ 1. */
export function analyticCodebook(level: number, bits: number): Codebook {
  const key = `${level}/${bits}`;
  const known = analytic.get(key);
  if (known !== undefined) return known;
  const made = level === 1 ? firstLevel(bits) : angleCodebook(level, analyticAngles(level, bits));
  analytic.set(key, made);
  return made;
}

function analyticAngles(level: number, bits: number): number[] {
  // The density is even in φ, so a cell ends at 0 and the positive levels are those of its half.
  const half = { ...angleDensity(level), low: 0 };
  const positive = lloydMax(half, 2 ** (bits - 1));
  const angles = positive.map((phi) => QUARTER_PI + phi);
  return [...positive.map((phi) => QUARTER_PI - phi).reverse(), ...angles];
}

/** The codebook of given centroids (radians, ascending in (0, π/2)) at a level ≥ 2. */
export function customCodebook(level: number, angles: readonly number[]): Codebook {
  return angleCodebook(level, [...angles]);
}

const radii = new Map<string, RadiusCodebook>();

/**
 * Levels of ρ = r/√N, the share of one of `blocks` radii in a vector's norm:
 * ρ² ~ Beta(shape, rest) with shape = 2^(depth−1), rest = shape·(blocks − 1), of two blocks or more.
 */
export function radiusCodebook(depth: number, blocks: number, bits: number): RadiusCodebook {
  const key = `${depth}/${blocks}/${bits}`;
  const known = radii.get(key);
  if (known !== undefined) return known;
  const shape = 2 ** (depth - 1);
  const rest = shape * (blocks - 1);
  const meanSquare = 1 / blocks;
  const deviation = Math.sqrt(1 / (4 * (shape + rest)));
  const mode = Math.sqrt((shape - 0.5) / (shape - 0.5 + rest - 1));
  const density: Density = {
    low: Math.max(0, mode - TAIL * deviation),
    high: Math.min(1, mode + TAIL * deviation),
    panel: 2 * deviation,
    at: (rho) => radiusDensity(rho, mode, shape, rest),
  };
  const levels = lloydMax(density, 2 ** bits);
  const made = {
    levels: levels.map(Math.fround),
    thresholds: midpoints(levels).map(Math.fround),
    error: expectedLoss(density, levels, (x, level) => (x - level) * (x - level)) / meanSquare,
  };
  radii.set(key, made);
  return made;
}

/**
 * ∝ ρ^(2·shape − 1)·(1 − ρ²)^(rest − 1), 1 at the mode: each factor over its value there, so that no
 * power underflows where there is mass.
 */
function radiusDensity(rho: number, mode: number, shape: number, rest: number): number {
  const left = rho / mode;
  const right = ((1 - rho) * (1 + rho)) / ((1 - mode) * (1 + mode));
  const n = 2 * shape - 1;
  const m = rest - 1;
  const common = Math.min(n, m);
  return power(left * right, common) * power(left, n - common) * power(right, m - common);
}

/**
 * Expected relative squared error of rounding to a format of `digits` explicit significand bits, for
 * a logarithmically uniform significand: (2^−digits)²/12 · E[1/x²] on [1, 2), E = 3/(8 ln 2).
 */
export function roundingError(digits: number): number {
  return (power(0.5, 2 * digits) / 12) * 0.5410106403333613;
}
