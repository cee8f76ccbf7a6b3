/** Scalar quantizers of least mean squared error for a known density (Lloyd 1982, Max 1960). */

import { gaussLegendre } from './numeric.ts';

/** A density, not normalised, on an interval outside which its mass is nothing. */
export interface Density {
  readonly low: number;
  readonly high: number;
  /** Length over which the density is smooth enough for one panel of quadrature. */
  readonly panel: number;
  readonly at: (x: number) => number;
}

const RULE = gaussLegendre(16);
/** For cells of at most a quarter of a panel. */
const SHORT_RULE = gaussLegendre(8);
const identity = (x: number): number => x;

/** Mass of a cell [a, b] and ∫ weight(x)·density over it. */
function cell(density: Density, a: number, b: number, weight: (x: number) => number) {
  const low = Math.max(a, density.low);
  const high = Math.min(b, density.high);
  let mass = 0;
  let moment = 0;
  const panels = high > low ? Math.ceil((high - low) / density.panel) : 0;
  const half = (high - low) / panels / 2;
  const { nodes, weights } = 4 * (high - low) <= density.panel ? SHORT_RULE : RULE;
  for (let panel = 0; panel < panels; panel++) {
    const middle = low + (2 * panel + 1) * half;
    for (let i = 0; i < nodes.length; i++) {
      const x = middle + half * nodes[i]!;
      const share = half * weights[i]! * density.at(x);
      mass += share;
      moment += share * weight(x);
    }
  }
  return { mass, moment };
}

/** Levels at equal shares of density^(1/4): near the optimum for any count, and needs only √. */
function companded(density: Density, count: number): number[] {
  const steps = 16 * count;
  const width = (density.high - density.low) / steps;
  const shares: number[] = [];
  let total = 0;
  for (let i = 0; i < steps; i++) {
    total += Math.sqrt(Math.sqrt(density.at(density.low + (i + 0.5) * width)));
    shares.push(total);
  }
  const levels: number[] = [];
  let step = 0;
  for (let i = 0; i < count; i++) {
    const share = ((i + 0.5) / count) * total;
    while (shares[step]! < share) step += 1;
    const before = step > 0 ? shares[step - 1]! : 0;
    levels.push(density.low + (step + (share - before) / (shares[step]! - before)) * width);
  }
  return levels;
}

/**
 * The `count` ascending levels at which every level is the mean of its cell, cells ending midway
 * between levels. Newton's method on the tridiagonal system level − mean = 0; where a Newton step
 * would disorder the levels, a step of Lloyd's iteration instead. The densities in use are
 * log-concave, so the solution is unique.
 */
export function lloydMax(density: Density, count: number): number[] {
  let levels = companded(density, count);
  for (let iteration = 0; iteration < 500; iteration++) {
    const means: number[] = [];
    const lower: number[] = [];
    const upper: number[] = [];
    for (let i = 0; i < count; i++) {
      const a = i === 0 ? density.low : (levels[i - 1]! + levels[i]!) / 2;
      const b = i === count - 1 ? density.high : (levels[i]! + levels[i + 1]!) / 2;
      const { mass, moment } = cell(density, a, b, identity);
      const mean = moment / mass;
      means.push(mean);
      lower.push(i === 0 ? 0 : (density.at(a) * (mean - a)) / mass / 2);
      upper.push(i === count - 1 ? 0 : (density.at(b) * (b - mean)) / mass / 2);
    }
    const residual = levels.map((level, i) => level - means[i]!);
    const step = solveTridiagonal(lower, upper, residual);
    const stepped = levels.map((level, i) => level - step[i]!);
    const ordered = stepped.every(
      (level, i) => level > (i === 0 ? density.low : stepped[i - 1]!) && level < density.high,
    );
    const change = Math.max(...step.map((x) => Math.abs(x)));
    levels = ordered ? stepped : means;
    // Convergence is quadratic: what is left after a step of 1e-8 of the range is rounding noise.
    if (ordered && change <= 1e-8 * (density.high - density.low)) return levels;
  }
  throw new Error(`Lloyd–Max for ${count} levels did not converge`);
}

/** Solves (1 − lᵢ − uᵢ)·sᵢ − lᵢ·sᵢ₋₁ − uᵢ·sᵢ₊₁ = rᵢ. */
function solveTridiagonal(lower: number[], upper: number[], right: number[]): number[] {
  const ratios: number[] = [];
  const values: number[] = [];
  for (let i = 0; i < right.length; i++) {
    const l = lower[i]!;
    const pivot = 1 - l - upper[i]! - l * (i === 0 ? 0 : ratios[i - 1]!);
    ratios.push(upper[i]! / pivot);
    values.push((right[i]! + l * (i === 0 ? 0 : values[i - 1]!)) / pivot);
  }
  for (let i = right.length - 2; i >= 0; i--) values[i]! += ratios[i]! * values[i + 1]!;
  return values;
}

/** Expected `loss(x, level)` of the quantizer that takes the nearest level. */
export function expectedLoss(
  density: Density,
  levels: readonly number[],
  loss: (x: number, level: number) => number,
): number {
  let mass = 0;
  let total = 0;
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i]!;
    const a = i === 0 ? density.low : (levels[i - 1]! + level) / 2;
    const b = i === levels.length - 1 ? density.high : (level + levels[i + 1]!) / 2;
    const part = cell(density, a, b, (x) => loss(x, level));
    mass += part.mass;
    total += part.moment;
  }
  return total / mass;
}
