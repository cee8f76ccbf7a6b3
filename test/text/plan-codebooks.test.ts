import { describe, expect, test } from 'vitest';
import {
  analyticCodebook,
  customCodebook,
  radiusCodebook,
} from '../../generator/plan/codebooks.ts';
import { lowerCodec } from '../../generator/plan/index.ts';
import { normalSource, randomSource } from '../../generator/plan/random.ts';
import type { Codec, Radius } from '../../generator/spec/types.ts';

function codec(headDim: number, bits: readonly number[], radius: Radius = 'f16'): Codec {
  return {
    headDim,
    precondition: { kind: 'none' },
    polar: { depth: bits.length, bits, codebooks: {} },
    radius,
    center: false,
    layout: { kind: 'rows' },
  };
}

const LEVELS = Array.from({ length: 8 }, (_, i) => i + 2);
const BITS = [1, 2, 3, 4, 5, 6];
const ascends = (list: readonly number[]): boolean =>
  list.every((x, i) => i === 0 || x > list[i - 1]!);

describe('angle codebooks', () => {
  // The upper half of the levels, found at 25 digits with another integrator and solver (mpmath).
  test.each([
    [2, 2, [0.936816086803557, 1.261040209812429]],
    [3, 2, [0.896411329037451, 1.144546633724162]],
    [4, 2, [0.864886921133412, 1.046582235691451]],
    [6, 3, [0.80697723566734, 0.851887202237382, 0.903287611223481, 0.973122101980422]],
    [9, 1, [0.810340127159252]],
  ])('level %i with %i bits', (level, bits, want) => {
    const upper = analyticCodebook(level, bits).angles.slice(-want.length);
    upper.forEach((angle, i) => {
      expect(Math.abs(angle - want[i]!)).toBeLessThan(2e-14);
    });
  });

  test('one bit at level 2: the mean of a half of sin 2ψ', () => {
    // ∫ ψ·sin 2ψ over [0, π/4] over ∫ sin 2ψ: (1/4) / (1/2).
    expect(analyticCodebook(2, 1).angles[0]).toBeCloseTo(0.5, 13);
  });

  test('every level is the mean of its cell', () => {
    for (const level of LEVELS) {
      const { angles } = analyticCodebook(level, 6);
      for (const i of [0, 1, 20, 31]) {
        const a = i === 0 ? 0 : (angles[i - 1]! + angles[i]!) / 2;
        const b = (angles[i]! + angles[i + 1]!) / 2;
        let mass = 0;
        let moment = 0;
        const steps = 40_000;
        for (let k = 0; k < steps; k++) {
          const psi = a + ((k + 0.5) / steps) * (b - a);
          const density = Math.sin(2 * psi) ** (2 ** (level - 1) - 1);
          mass += density;
          moment += density * psi;
        }
        expect(Math.abs(moment / mass - angles[i]!)).toBeLessThan(1e-8);
      }
    }
  });

  test('entries and thresholds ascend strictly, symmetric around π/4', () => {
    for (const level of LEVELS) {
      for (const bits of BITS) {
        const { angles, cos, sin, thresholds } = analyticCodebook(level, bits);
        const count = 2 ** bits;
        expect([angles.length, cos.length, sin.length]).toEqual([count, count, count]);
        expect(thresholds.length).toBe(count - 1);
        expect(ascends(angles) && ascends(sin) && ascends(thresholds)).toBe(true);
        expect([...cos].reverse()).toEqual(sin);
        expect(thresholds[count / 2 - 1]).toBe(1);
        thresholds.forEach((t, i) => {
          expect(t).toBe(Math.fround(Math.tan((angles[i]! + angles[i + 1]!) / 2)));
        });
      }
    }
  });

  test('level 1 holds the first quadrant of uniform angles', () => {
    expect(analyticCodebook(1, 1)).toMatchObject({
      cos: [0],
      sin: [1],
      thresholds: [],
      error: 0.5,
    });
    for (const bits of [2, 3, 4, 5, 6, 7, 8]) {
      const { angles, cos, sin, thresholds } = analyticCodebook(1, bits);
      angles.forEach((angle, i) => {
        expect(angle).toBeCloseTo(((i + 0.5) * 2 * Math.PI) / 2 ** bits, 14);
        expect(cos[i]).toBe(Math.fround(Math.cos(angle)));
        expect(sin[i]).toBe(Math.fround(Math.sin(angle)));
      });
      expect([...cos].reverse()).toEqual(sin);
      expect(angles.length).toBe(2 ** (bits - 2));
      expect(thresholds.length).toBe(angles.length - 1);
      expect(ascends(thresholds)).toBe(true);
    }
  });

  test('centroids of a spec keep their angles; their error is not below the optimum', () => {
    const best = analyticCodebook(3, 2);
    const angles = [0.4, 0.65, 0.9, 1.2];
    const own = customCodebook(3, angles);
    expect(own.angles).toEqual(angles);
    expect(own.cos).toEqual(angles.map((a) => Math.fround(Math.cos(a))));
    expect(own.thresholds[1]).toBe(Math.fround(Math.tan((0.65 + 0.9) / 2)));
    expect(own.error).toBeGreaterThan(best.error);
    expect(customCodebook(3, best.angles)).toEqual(best);
  });

  test('centroids far from all mass have a finite error', () => {
    const { error } = customCodebook(9, [1e-3, 2e-3, 1.5, 1.57]);
    expect(error).toBeGreaterThan(0.1);
    expect(error).toBeLessThan(1);
  });
});

describe('radius codebooks', () => {
  test('levels and thresholds ascend strictly for every depth and dimension', () => {
    for (const depth of [1, 2, 3, 4, 5, 6, 7, 8]) {
      for (const d of [16, 48, 128, 256, 512, 640]) {
        const blocks = d / 2 ** depth;
        if (!Number.isInteger(blocks) || blocks < 2) continue;
        for (const bits of [1, 4, 8]) {
          const { levels, thresholds } = radiusCodebook(depth, blocks, bits);
          expect(levels.length).toBe(2 ** bits);
          expect(thresholds.length).toBe(2 ** bits - 1);
          expect(ascends(levels) && ascends(thresholds)).toBe(true);
          expect(levels[0]).toBeGreaterThan(0);
          expect(levels.at(-1)).toBeLessThan(1);
        }
      }
    }
  });

  test('thresholds stand midway between levels, each level the mean of its cell', () => {
    const [depth, blocks] = [4, 8];
    const { levels, thresholds } = radiusCodebook(depth, blocks, 3);
    for (let i = 0; i < levels.length; i++) {
      const a = i === 0 ? 0 : thresholds[i - 1]!;
      const b = i === levels.length - 1 ? 1 : thresholds[i]!;
      let mass = 0;
      let moment = 0;
      for (let k = 0; k < 20_000; k++) {
        const rho = a + ((k + 0.5) / 20_000) * (b - a);
        const density = rho ** 15 * (1 - rho * rho) ** 55;
        mass += density;
        moment += density * rho;
      }
      expect(Math.abs(moment / mass - levels[i]!)).toBeLessThan(1e-6);
    }
  });
});

describe('expected error', () => {
  // Measured once elsewhere: unit Gaussian vectors, d = 128, relative squared error.
  test.each<[readonly number[], Radius, number]>([
    [[4, 2, 2, 2], 'f16', 0.0317],
    [[4, 2, 2, 2], { kind: 'log', bits: 4 }, 0.0321],
    [[4, 2, 2, 2, 2, 2, 2], 'f16', 0.0349],
    [[4, 3, 3, 2, 2, 2, 2], 'f16', 0.0235],
    [[5, 3, 3, 3, 3, 3, 3], 'f16', 0.0094],
  ])('%j %j', (bits, radius, want) => {
    const plan = lowerCodec(codec(128, bits, radius));
    expect(Math.abs(plan.error / want - 1)).toBeLessThan(0.006);
    const parts = plan.levels.reduce((sum, level) => sum + level.error, plan.radius.error);
    expect(plan.error).toBeCloseTo(parts, 14);
  });

  test.each<[number, readonly number[], Radius]>([
    [128, [4, 2, 2, 2], 'f16'],
    [128, [4, 2, 2, 2], { kind: 'log', bits: 3 }],
    [64, [3, 2, 1], { kind: 'log', bits: 2 }],
    [128, [2, 1, 1, 1, 1, 1, 1], 'bf16'],
    [64, [5, 3, 3, 3, 3, 3], 'f32'],
  ])('d = %i, %j, %j: what a greedy search on Gaussian vectors loses', (d, bits, radius) => {
    const plan = lowerCodec(codec(d, bits, radius));
    const normal = normalSource(randomSource(d));
    let energy = 0;
    let lost = 0;
    for (let sample = 0; sample < 3000; sample++) {
      let nodes = Array.from({ length: d }, normal);
      energy += nodes.reduce((sum, x) => sum + x * x, 0);
      const start = nodes.reduce((sum, x) => sum + x * x, 0);
      for (const { cos, sin } of plan.levels) {
        nodes = Array.from({ length: nodes.length / 2 }, (_, j) => {
          const [u, v] = [Math.abs(nodes[2 * j]!), Math.abs(nodes[2 * j + 1]!)];
          return Math.max(...cos.map((c, i) => u * c + v * sin[i]!));
        });
      }
      const kept = nodes.reduce((sum, p) => sum + p * p, 0);
      lost += start - kept;
      if (plan.radius.kind !== 'log') continue;
      const norm = Math.sqrt(kept);
      for (const p of nodes) {
        const off = Math.min(...plan.radius.levels.map((level) => Math.abs(p - level * norm)));
        lost += off * off;
      }
    }
    expect(lost / energy / plan.error).toBeGreaterThan(0.97);
    expect(lost / energy / plan.error).toBeLessThan(1.03);
  });
});
