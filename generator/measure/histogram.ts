/** Angles of preconditioned rows against the densities that the codebooks assume (PolarQuant, arXiv 2502.02617). */

export const BINS = 32;

export interface AngleHistogram {
  readonly level: number;
  /** Angles lie in [0, range): 2π at level 1, π/2 above. */
  readonly range: number;
  /** Angles in each of `BINS` equal bins. */
  readonly counts: Float64Array;
}

/** Empty histograms of levels 1 … depth. */
export function angleHistograms(depth: number): AngleHistogram[] {
  return Array.from({ length: depth }, (_, index) => ({
    level: index + 1,
    range: index === 0 ? 2 * Math.PI : Math.PI / 2,
    counts: new Float64Array(BINS),
  }));
}

/** Adds the angles of rows of `d` float64 coordinates, which are used up. Pairs of zeros have no angle. */
export function countAngles(
  histograms: readonly AngleHistogram[],
  rows: Float64Array,
  d: number,
): void {
  for (let row = 0; row < rows.length; row += d) {
    let nodes = d;
    for (const { range, counts } of histograms) {
      nodes /= 2;
      for (let node = 0; node < nodes; node++) {
        const u = rows[row + 2 * node]!;
        const v = rows[row + 2 * node + 1]!;
        rows[row + node] = Math.hypot(u, v);
        if (u === 0 && v === 0) continue;
        const angle = Math.atan2(v, u);
        const turned = angle < 0 ? angle + 2 * Math.PI : angle;
        const bin = Math.min(BINS - 1, Math.floor((turned / range) * BINS));
        counts[bin]! += 1;
      }
    }
  }
}

/**
 * Probability of each bin: uniform at level 1, density ∝ sin^(2^(ℓ−1)−1)(2ψ) on [0, π/2] above, by Simpson's rule with
 * 16 steps a bin.
 */
export function expectedShares(level: number): Float64Array {
  const shares = new Float64Array(BINS).fill(1 / BINS);
  if (level === 1) return shares;
  const power = 2 ** (level - 1) - 1;
  const step = Math.PI / 2 / BINS / 16;
  const density = (i: number) => Math.sin(2 * i * step) ** power;
  let total = 0;
  for (let bin = 0; bin < BINS; bin++) {
    let sum = 0;
    for (let i = 16 * bin; i < 16 * (bin + 1); i += 2) {
      sum += density(i) + 4 * density(i + 1) + density(i + 2);
    }
    shares[bin] = sum;
    total += sum;
  }
  return shares.map((share) => share / total);
}

/** Share of each bin; all zero when nothing was counted. */
export function observedShares(histogram: AngleHistogram): Float64Array {
  const total = histogram.counts.reduce((sum, count) => sum + count, 0);
  return histogram.counts.map((count) => (total === 0 ? 0 : count / total));
}

/** Total variation distance of two lists of shares: 0 the same, 1 apart. */
export function distance(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, share, bin) => sum + Math.abs(share - b[bin]!), 0) / 2;
}
