import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  angleHistograms,
  attention,
  countAngles,
  distance,
  exactAttention,
  expectedShares,
  type Figures,
  histogramSvg,
  histogramText,
  type LayerData,
  type LayerTransforms,
  layersOf,
  measureLayer,
  observedShares,
  readLayer,
  readMeans,
} from '../../generator/measure/index.ts';
import { lower, type Plan } from '../../generator/plan/index.ts';
import { readSafetensors } from '../../generator/safetensors/index.ts';
import { normalize, type SpecFlags, specFromFlags } from '../../generator/spec/index.ts';

const PATH = join(import.meta.dirname, '../fixtures/kv-slice.safetensors');
const SLICE = { ...readSafetensors(readFileSync(PATH)), path: 'kv-slice.safetensors' };

function planOf(flags: Partial<SpecFlags>): Plan {
  return lower(normalize(specFromFlags({ headDim: 64, bits: '4,2,2,2', ...flags })));
}

const layers = new Map(
  layersOf(SLICE).map((layer) => {
    const data = readLayer(SLICE, layer);
    return [layer, { data, exact: exactAttention(data) }];
  }),
);

function figures(
  layer: number,
  plan: Plan,
  transforms: LayerTransforms = { key: {}, value: {} },
  sinks = 0,
): Figures {
  const { data, exact } = layers.get(layer)!;
  return measureLayer(plan, data, exact, transforms, sinks);
}

/** S and its dual for every KV head of the slice. */
function sameForHeads(entry: (i: number, j: number) => number): Float32Array {
  return Float32Array.from({ length: 3 * 64 * 64 }, (_, at) =>
    entry(Math.floor(at / 64) % 64, at % 64),
  );
}

describe('the slice of real keys and values', () => {
  test('holds two layers of a model with three KV heads', () => {
    expect([...layers.keys()]).toEqual([4, 20]);
    const { data } = layers.get(4)!;
    expect(data).toMatchObject({ kvHeads: 3, qHeads: 9, tokens: 512, keyDim: 64, valueDim: 64 });
    expect(data.scale).toBe(0.125);
    expect(Math.max(...data.positions)).toBe(511);
  });

  // Computed in NumPy from the definitions alone: float64 throughout, codebooks by quadrature, atan2.
  test.each([
    { layer: 4, bits: '4,2,2,2', want: [0.04970515, 0.03531574, 0.6613238, 0.29501586] },
    { layer: 20, bits: '4,2,2,2', want: [0.04112231, 0.03259358, 1.11266222, 0.42193115] },
    { layer: 4, bits: '5,3,3,3,3,3', want: [0.02135909, 0.01143242, 0.2615957, 0.58140758] },
    { layer: 20, bits: '5,3,3,3,3,3', want: [0.03799767, 0.00964067, 0.66995675, 0.2831418] },
  ])('without preconditioning, layer $layer, $bits', ({ layer, bits, want }) => {
    const found = figures(layer, planOf({ bits, precondition: 'none' }));
    expect(found.keyError / want[0]!).toBeCloseTo(1, 4);
    expect(found.valueError / want[1]!).toBeCloseTo(1, 4);
    // A code that falls to the other side of a boundary by rounding shifts a logit, and a sharp softmax follows it.
    expect(Math.abs(found.scoreMse / want[2]! - 1)).toBeLessThan(2e-3);
    expect(Math.abs(found.outputError / want[3]! - 1)).toBeLessThan(1e-2);
  });

  test('rotated, errors come close to those of a Gaussian', () => {
    const plan = planOf({ seed: 3 });
    for (const layer of layers.keys()) {
      const found = figures(layer, plan);
      expect(found.keyError / plan.key.error).toBeGreaterThan(0.9);
      expect(found.keyError / plan.key.error).toBeLessThan(1.1);
      expect(found.valueError / plan.value.error).toBeLessThan(1.1);
    }
  });

  test('centred, keys lose half of their error', () => {
    const plain = figures(4, planOf({}));
    const centred = figures(4, planOf({ center: true }), readMeans(SLICE, layers.get(4)!.data));
    expect(centred.keyError / plain.keyError).toBeLessThan(0.6);
    expect(centred.scoreMse / plain.scoreMse).toBeLessThan(0.7);
  });

  test('sinks change attention and no vector errors', () => {
    const means = readMeans(SLICE, layers.get(20)!.data);
    const plan = planOf({ center: true });
    const [all, kept] = [figures(20, plan, means), figures(20, plan, means, 4)];
    expect([kept.keyError, kept.valueError]).toEqual([all.keyError, all.valueError]);
    expect(kept.outputError).toBeLessThan(0.7 * all.outputError);
    const exact = figures(20, plan, means, 512);
    expect([exact.scoreMse, exact.outputError]).toEqual([0, 0]);
  });

  test('a matrix given at run time does what it says', () => {
    const plan = planOf({ precondition: 'matrix' });
    const none = figures(4, planOf({ precondition: 'none' }));
    const twice = {
      matrix: sameForHeads((i, j) => (i === j ? 2 : 0)),
      dual: sameForHeads((i, j) => (i === j ? 0.5 : 0)),
    };
    const scaled = figures(4, plan, { key: twice, value: twice });
    expect(scaled.keyError).toBeCloseTo(none.keyError, 6);
    expect(scaled.scoreMse).toBeCloseTo(none.scoreMse, 4);

    const hadamard = planOf({ seed: 5 });
    const rotation = hadamard.key.precondition;
    if (rotation.kind !== 'hadamard') throw new Error('the plan rotates');
    const sylvester = (i: number, j: number) => {
      let bits = i & j;
      let sign = rotation.signs[j] === '1' ? -1 : 1;
      for (; bits > 0; bits &= bits - 1) sign = -sign;
      return sign / 8;
    };
    const orthogonal = { matrix: sameForHeads(sylvester), dual: sameForHeads(sylvester) };
    const given = figures(4, plan, { key: orthogonal, value: orthogonal });
    const built = figures(4, hadamard);
    expect(given.keyError / built.keyError).toBeCloseTo(1, 3);
    expect(given.valueError / built.valueError).toBeCloseTo(1, 3);
  });
});

describe('attention', () => {
  test('of two tokens by hand', () => {
    const data: LayerData = {
      layer: 0,
      kvHeads: 1,
      qHeads: 2,
      tokens: 2,
      keyDim: 2,
      valueDim: 1,
      keys: Float32Array.of(1, 0, 0, 2),
      values: Float32Array.of(10, 20),
      queries: Float32Array.of(1, 1, 1, 1, 0, 0, 2, 0),
      positions: Int32Array.of(0, 1),
      scale: 0.5,
    };
    const { scores, outputs } = exactAttention(data);
    expect([...scores]).toEqual([0.5, 0.5, 1, 0, 1, 0]);
    const mix = (a: number, b: number) =>
      (10 * Math.exp(a) + 20 * Math.exp(b)) / (Math.exp(a) + Math.exp(b));
    const want = [10, mix(0.5, 1), 10, mix(1, 0)];
    for (const [i, value] of want.entries()) expect(outputs[i]).toBeCloseTo(value, 12);
    const moved = attention(data, Float64Array.of(1, 0, 0, 2), Float64Array.of(10, 10));
    expect([...moved.outputs]).toEqual([10, 10, 10, 10]);
  });
});

describe('angle histograms', () => {
  test('of Gaussian rows follow the densities, of others not', () => {
    let state = 1;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    const gaussian = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    const drawn = angleHistograms(4);
    countAngles(drawn, Float64Array.from({ length: 4096 * 32 }, gaussian), 32);
    for (const histogram of drawn) {
      expect(histogram.counts.reduce((a, b) => a + b)).toBe((4096 * 32) / 2 ** histogram.level);
      expect(distance(observedShares(histogram), expectedShares(histogram.level))).toBeLessThan(
        0.06,
      );
    }
    const positive = angleHistograms(1);
    countAngles(positive, Float64Array.from({ length: 4096 }, uniform), 32);
    expect(distance(observedShares(positive[0]!), expectedShares(1))).toBeGreaterThan(0.7);
  });

  test('leave pairs of zeros out', () => {
    const histograms = angleHistograms(2);
    countAngles(histograms, Float64Array.of(0, 0, -1, 0, 0, 0, 0, 0), 4);
    expect(histograms.map(({ counts }) => counts.reduce((a, b) => a + b))).toEqual([1, 1]);
    expect(histograms[0]!.counts[16]).toBe(1);
    expect(histograms[1]!.counts[31]).toBe(1);
  });

  test('are shown as text and drawn', () => {
    const histograms = angleHistograms(2);
    countAngles(histograms, Float64Array.of(1, 2, 3, 4), 4);
    expect(histogramText('key', histograms).split('\n')).toHaveLength(5);
    const svg = histogramSvg('bits 4 <a & b>', { key: histograms, value: histograms });
    expect(svg).toContain('prefers-color-scheme: dark');
    expect(svg).toContain('bits 4 &#60;a &#38; b&#62;');
    expect(svg.match(/class="density"/g)).toHaveLength(4);
    expect(svg).not.toMatch(/NaN|undefined/);
  });
});
