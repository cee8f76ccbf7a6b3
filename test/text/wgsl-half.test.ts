/**
 * The arithmetic of `half`, in numbers: f16 tables and f16 products within a cell, everything else in float32. No device
 * at hand need have f16 for this to hold its bound.
 */

import { expect, test } from 'vitest';
import { createRandom } from '../../generator/conformance/random.ts';
import type { CodecPlan, Plan } from '../../generator/plan/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { fromF16, toF16 } from '../../generator/reference/half.ts';
import { normalize } from '../../generator/spec/index.ts';
import presets from '../../polarc.config.ts';
import { ARITHMETICS } from '../../targets/wgsl/capabilities.ts';
import { canJoin, cellShape } from '../../targets/wgsl/cells.ts';
import { directions } from '../../targets/wgsl/codec-view.ts';

const half = (value: number): number => fromF16(toF16(value));
const exact = (value: number): number => value;

/** Coordinates under a tree of codes, with the given rounding of tables and products. */
function decode(
  codec: CodecPlan,
  codes: readonly number[][],
  round: (x: number) => number,
): number[] {
  const shape = cellShape(codec);
  const joint = canJoin(codec);
  const out: number[] = [];
  for (let cell = 0; cell < shape.count; cell++) {
    let nodes: number[] = Array.from({ length: shape.roots }, () => 1);
    for (let level = shape.levels; level >= 1; level--) {
      const table = directions(codec.levels[level - 1]!);
      const first = (cell * shape.size) / 2 ** level;
      nodes = nodes.flatMap((node, i) => {
        const [c, s] = table[codes[level - 1]![first + i]!]!;
        // A joint table is rounded once, whole.
        if (joint && level === 4) return [c, s];
        if (joint && level === 3) return [round(node * c), round(node * s)];
        const top = level === shape.levels && !joint;
        return top ? [round(c), round(s)] : [round(node * round(c)), round(node * round(s))];
      });
    }
    out.push(...nodes);
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
    const attend = (round: (x: number) => number): number[] => {
      const keys = keyCodes.map((codes) => decode(plan.key, codes, round));
      const values = valueCodes.map((codes) => decode(plan.value, codes, round));
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
    const [want, got] = [attend(exact), attend(half)];
    const difference = want.reduce((sum, x, i) => sum + (x - got[i]!) ** 2, 0);
    const energy = want.reduce((sum, x) => sum + x * x, 0);
    expect(difference / energy).toBeGreaterThan(0);
    expect(difference / energy).toBeLessThan(bound);
  },
);
