/**
 * The arithmetic of `half`, in numbers: values by f16 tables and products within a cell, everything else in float32. No
 * device at hand need have f16 to see that it holds its bound.
 */

import { expect, test } from 'vitest';
import { createRandom } from '../../generator/conformance/random.ts';
import type { CodecPlan, Plan } from '../../generator/plan/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { normalize } from '../../generator/spec/index.ts';
import { cellShape, directions, roundToHalf } from '../../generator/target/index.ts';
import presets from '../../polarc.config.ts';
import { ARITHMETICS } from '../../targets/wgsl/capabilities.ts';
import { type HalfTables, halfTables } from '../../targets/wgsl/half.ts';

/** Coordinates under a tree of codes: in float64, or as `half` computes them. */
function decode(codec: CodecPlan, codes: readonly number[][], half: HalfTables | null): number[] {
  const shape = cellShape(codec);
  const round = half === null ? (x: number) => x : roundToHalf;
  const out: number[] = [];
  for (let cell = 0; cell < shape.count; cell++) {
    const codeOf = (level: number, node: number): number =>
      codes[level - 1]![(cell * shape.size) / 2 ** level + node]!;
    let nodes: readonly number[] | null = null;
    for (let level = shape.levels; level >= 1; level--) {
      if (half?.joint && level >= 3) {
        const third = 2 ** codec.levels[2]!.bits;
        const index = codeOf(3, 0) + third * (codeOf(3, 1) + third * codeOf(4, 0));
        nodes = half.joint.entries[index]!;
        continue;
      }
      if (half?.branches && level === 2) continue;
      if (half?.branches && level === 1) {
        const { left, right } = half.branches;
        const [first, second] = [0, 1].map((i) => 2 ** codec.levels[i]!.bits) as [number, number];
        const radii: readonly number[] | null = nodes;
        nodes = Array.from({ length: shape.size / 4 }, (_, quad) => [
          ...left[codeOf(1, 2 * quad) + first * codeOf(2, quad)]!,
          ...right[codeOf(2, quad) + second * codeOf(1, 2 * quad + 1)]!,
        ]).flatMap((quad, i) => quad.map((x) => (radii === null ? x : round(radii[i]! * x))));
        continue;
      }
      const table = half?.levels[level - 1]?.entries ?? directions(codec.levels[level - 1]!);
      const above: readonly number[] | null = nodes;
      nodes = Array.from({ length: shape.size / 2 ** level }, (_, node) => {
        const pair = table[codeOf(level, node)]!;
        return above === null ? [...pair] : pair.map((x) => round(above[node]! * x));
      }).flat();
    }
    out.push(...nodes!.map((x) => x * (half?.factor ?? 1)));
  }
  return out;
}

const plans: readonly Plan[] = presets.caches.map((spec) => lower(normalize(spec)));

test.each(plans.map((plan) => [plan.name, plan] as const))(
  '%s: attention within the bound of half at A 32',
  (_, plan) => {
    const bound = ARITHMETICS.find(({ id }) => id === 'half')!.bound;
    const random = createRandom(5);
    const tokens = 256;
    const draw = (codec: CodecPlan) =>
      Array.from({ length: tokens }, () =>
        codec.levels.map(({ bits, nodes }) =>
          Array.from({ length: nodes }, () => random.integer(0, 2 ** bits - 1)),
        ),
      );
    const [keyCodes, valueCodes] = [draw(plan.key), draw(plan.value)];
    const q = Array.from({ length: plan.key.headDim }, () => random.normal());
    const radii = Array.from({ length: tokens }, () => 1 + 0.3 * random.normal());
    const attend = (isHalf: boolean): number[] => {
      // Keys are float32 in both.
      const keys = keyCodes.map((codes) => decode(plan.key, codes, null));
      const tables = isHalf ? halfTables(plan.value, true) : null;
      const values = valueCodes.map((codes) => decode(plan.value, codes, tables));
      const norm = (v: readonly number[]) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
      const scale = 32 / (norm(q) * Math.max(...keys.map((k, t) => norm(k) * radii[t]!)));
      const logits = keys.map(
        (k, t) => scale * radii[t]! * k.reduce((sum, x, i) => sum + x * q[i]!, 0),
      );
      const peak = Math.max(...logits);
      const weights = logits.map((logit) => Math.exp(logit - peak));
      const total = weights.reduce((sum, w) => sum + w, 0);
      return values[0]!.map((_, i) =>
        values.reduce((sum, v, t) => sum + (weights[t]! / total) * v[i]!, 0),
      );
    };
    const [want, got] = [attend(false), attend(true)];
    const difference = want.reduce((sum, x, i) => sum + (x - got[i]!) ** 2, 0);
    const energy = want.reduce((sum, x) => sum + x * x, 0);
    expect(difference / energy).toBeGreaterThan(0);
    expect(difference / energy).toBeLessThan(bound);
  },
);

test.each(plans.map((plan) => [plan.name, plan] as const))(
  '%s: no value is longer or shorter than it should be by 1e-4',
  (_, plan) => {
    const random = createRandom(6);
    const codec = plan.value;
    let [product, energy] = [0, 0];
    for (let i = 0; i < 64; i++) {
      const codes = codec.levels.map(({ bits, nodes }) =>
        Array.from({ length: nodes }, () => random.integer(0, 2 ** bits - 1)),
      );
      const want = decode(codec, codes, null);
      const got = decode(codec, codes, halfTables(codec, true));
      want.forEach((x, j) => {
        product += x * got[j]!;
        energy += x * x;
      });
    }
    expect(Math.abs(product / energy - 1)).toBeLessThan(1e-4);
  },
);
