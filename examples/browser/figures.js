/** Errors, attention and angles in float64: what the kernels' results are held against. */

/** Σ‖x−x̂‖² / Σ‖x−c‖² over the heads of `[row][heads][d]` that are asked for; c is 0 unless `centre` `[heads][d]` is given. */
export function relativeError(exact, approximate, { heads, d }, only, centre) {
  let error = 0;
  let energy = 0;
  const width = heads * d;
  for (let i = 0; i < exact.length; i++) {
    const at = i % width;
    if (!only.includes(Math.floor(at / d))) continue;
    error += (exact[i] - approximate[i]) ** 2;
    energy += (exact[i] - (centre === undefined ? 0 : centre[at])) ** 2;
  }
  return error / energy;
}

/** Softmax attention of every captured query over keys and values of full precision: float64 `[row][q_head][d]`. */
export function attention(layer, group) {
  const { kvHeads, d, rows, keys, values, queries, positions, scale } = layer;
  const qHeads = kvHeads * group;
  const out = new Float64Array(rows * qHeads * d);
  for (let row = 0; row < rows; row++) {
    const tokens = positions[row] + 1;
    const weights = new Float64Array(tokens);
    for (let head = 0; head < qHeads; head++) {
      const q = (row * qHeads + head) * d;
      const kv = Math.floor(head / group) * d;
      let most = -Infinity;
      for (let token = 0; token < tokens; token++) {
        const k = token * kvHeads * d + kv;
        let dot = 0;
        for (let i = 0; i < d; i++) dot += queries[q + i] * keys[k + i];
        weights[token] = scale * dot;
        most = Math.max(most, weights[token]);
      }
      let sum = 0;
      for (let token = 0; token < tokens; token++) {
        const weight = Math.exp(weights[token] - most);
        sum += weight;
        const v = token * kvHeads * d + kv;
        for (let i = 0; i < d; i++) out[q + i] += weight * values[v + i];
      }
      for (let i = 0; i < d; i++) out[q + i] /= sum;
    }
  }
  return out;
}

export const BINS = 32;

/**
 * Angles of preconditioned rows, level by level: a vector's pairs become angles and radii, the radii's pairs the next
 * level's angles and radii, up to the last. Level 1 lies in [0, 2π), those above in [0, π/2].
 */
export function angleHistograms(rows, { heads, d }, depth, only) {
  const levels = Array.from({ length: depth }, (_, i) => ({
    level: i + 1,
    range: i === 0 ? 2 * Math.PI : Math.PI / 2,
    counts: new Float64Array(BINS),
    total: 0,
  }));
  const node = new Float64Array(d);
  for (let from = 0, row = 0; from < rows.length; from += d, row++) {
    if (!only.includes(row % heads)) continue;
    for (let i = 0; i < d; i++) node[i] = rows[from + i];
    let nodes = d;
    for (const histogram of levels) {
      nodes /= 2;
      for (let j = 0; j < nodes; j++) {
        const u = node[2 * j];
        const v = node[2 * j + 1];
        node[j] = Math.hypot(u, v);
        if (u === 0 && v === 0) continue; // no angle
        const angle = Math.atan2(v, u);
        const turned = angle < 0 ? angle + 2 * Math.PI : angle;
        const bin = Math.min(BINS - 1, Math.floor((turned / histogram.range) * BINS));
        histogram.counts[bin] += 1;
        histogram.total += 1;
      }
    }
  }
  return levels;
}

/**
 * Density of a level's angles where the coordinates are independent and normal (arXiv 2502.02617): uniform on
 * [0, 2π), and above level 1 proportional to sin^(2^(ℓ−1)−1)(2ψ) on [0, π/2].
 */
export function density(level) {
  if (level === 1) return () => 1 / (2 * Math.PI);
  const power = 2 ** (level - 1) - 1;
  const raw = (angle) => Math.max(0, Math.sin(2 * angle)) ** power;
  const total = integral(raw, 0, Math.PI / 2, 512);
  return (angle) => raw(angle) / total;
}

/** Half the summed difference of the shares of all bins, measured and expected: 0 the same, 1 apart. */
export function apart({ level, range, counts, total }) {
  const expected = density(level);
  const width = range / BINS;
  let sum = 0;
  counts.forEach((count, bin) => {
    sum += Math.abs(count / total - integral(expected, bin * width, (bin + 1) * width, 16));
  });
  return sum / 2;
}

/** Simpson's rule. */
function integral(f, from, to, steps) {
  const h = (to - from) / steps;
  let sum = f(from) + f(to);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 1 ? 4 : 2) * f(from + i * h);
  return (sum * h) / 3;
}

/** All angles of a level's codebook: of level 1 the plan holds the first quadrant, signs give the others. */
export function codebook({ level, angles }) {
  if (level > 1) return angles;
  const half = [...angles, ...angles.map((angle) => Math.PI - angle)];
  return [...half, ...half.map((angle) => angle + Math.PI)].sort((a, b) => a - b);
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
