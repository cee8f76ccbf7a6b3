import { describe, expect, test } from 'vitest';
import {
  hadamardMatrix,
  hadamardOrder,
  lowerCodec,
  MATRIX_ORDERS,
  orthogonalMatrix,
  sha256,
} from '../../generator/plan/index.ts';

const signOf = (digit: string | undefined): number => (digit === '1' ? -1 : 1);

const hadamardPlan = (headDim: number, seed = 1) => {
  const { precondition, scale } = lowerCodec({
    headDim,
    precondition: { kind: 'hadamard', seed },
    polar: { depth: 1, bits: [4], codebooks: {} },
    radius: 'f16',
    center: false,
    layout: { kind: 'rows' },
  });
  if (precondition.kind !== 'hadamard') throw new Error('no Hadamard plan');
  return { ...precondition, scale };
};

describe('small Hadamard matrices', () => {
  test.each(MATRIX_ORDERS.map((m) => [m]))('H·Hᵀ = %i·I, first row and column +1', (m) => {
    const rows = hadamardMatrix(m).map((row) => [...row].map(signOf));
    expect(rows.length).toBe(m);
    for (let i = 0; i < m; i++) {
      expect(rows[i]!.length).toBe(m);
      expect([rows[0]![i], rows[i]![0]]).toEqual([1, 1]);
      for (let j = 0; j < m; j++) {
        const product = rows[i]!.reduce((sum, x, k) => sum + x * rows[j]![k]!, 0);
        expect(product).toBe(i === j ? m : 0);
      }
    }
  });
});

describe('the transform of a plan', () => {
  /** docs/format.md, "From a vector to codes", 2. */
  function transform(plan: ReturnType<typeof hadamardPlan>, vector: readonly number[]): number[] {
    const x = vector.map((value, i) => signOf(plan.signs[i]) * value);
    const run = 2 ** plan.log2;
    for (let stride = 1; stride < run; stride *= 2) {
      for (let i = 0; i < x.length; i++) {
        if (((i % run) & stride) !== 0) continue;
        const [u, v] = [x[i]!, x[i + stride]!];
        x[i] = u + v;
        x[i + stride] = u - v;
      }
    }
    return x.map((_, i) => {
      const row = plan.matrix[Math.floor(i / run)]!;
      return [...row].reduce((sum, digit, a) => sum + signOf(digit) * x[a * run + (i % run)]!, 0);
    });
  }

  test.each([16, 64, 80, 96, 112, 128, 160, 192, 224, 288, 576])('H·Hᵀ = %i·I', (d) => {
    const plan = hadamardPlan(d);
    expect(plan.order * 2 ** plan.log2).toBe(d);
    expect(plan.signs.length).toBe(d);
    expect(plan.scale).toBe(Math.fround(1 / Math.sqrt(d)));
    const columns = Array.from({ length: d }, (_, j) =>
      transform(
        plan,
        Array.from({ length: d }, (_, i) => (i === j ? 1 : 0)),
      ),
    );
    let wrong = 0;
    for (let i = 0; i < d; i++) {
      for (let j = 0; j <= i; j++) {
        let product = 0;
        for (let k = 0; k < d; k++) product += columns[i]![k]! * columns[j]![k]!;
        if (product !== (i === j ? d : 0)) wrong += 1;
      }
    }
    expect(wrong).toBe(0);
  });

  test('orders', () => {
    expect(hadamardOrder(128)).toEqual({ order: 1, log2: 7 });
    expect(hadamardOrder(96)).toEqual({ order: 12, log2: 3 });
    expect(hadamardOrder(80)).toEqual({ order: 20, log2: 2 });
    expect(hadamardOrder(112)).toEqual({ order: 28, log2: 2 });
    expect(hadamardOrder(576)).toEqual({ order: 36, log2: 4 });
    for (const d of [18, 44, 100, 120, 176]) expect(hadamardOrder(d)).toBeUndefined();
  });

  test('signs follow the seed', () => {
    expect(hadamardPlan(128, 1).signs).toBe(hadamardPlan(128, 1).signs);
    expect(hadamardPlan(128, 1).signs).not.toBe(hadamardPlan(128, 2).signs);
    const ones = [...hadamardPlan(512, 9).signs].filter((digit) => digit === '1').length;
    expect(Math.abs(ones - 256)).toBeLessThan(60);
  });
});

describe('orthogonal matrices', () => {
  test.each([16, 42, 128])('S·Sᵀ = I for d = %i', (d) => {
    const s = orthogonalMatrix(d, 5);
    let worst = 0;
    for (let i = 0; i < d; i++) {
      for (let j = 0; j <= i; j++) {
        let product = i === j ? -1 : 0;
        for (let k = 0; k < d; k++) product += s[i * d + k]! * s[j * d + k]!;
        worst = Math.max(worst, Math.abs(product));
      }
    }
    expect(worst).toBeLessThan(3e-7);
  });

  test('entries have the moments of the Haar measure', () => {
    const d = 64;
    let trace = 0;
    let fourth = 0;
    for (let seed = 0; seed < 40; seed++) {
      const s = orthogonalMatrix(d, seed);
      for (let i = 0; i < d; i++) trace += s[i * d + i]! / 40;
      for (const entry of s) fourth += entry ** 4 / s.length / 40;
    }
    // E tr S = 0 with variance 1; E s⁴ = 3/(d(d + 2)).
    expect(Math.abs(trace)).toBeLessThan(5 / Math.sqrt(40));
    expect(fourth * d * (d + 2)).toBeGreaterThan(2.9);
    expect(fourth * d * (d + 2)).toBeLessThan(3.1);
  });

  test('the plan holds the hash of the bytes; the caller owns its copy', () => {
    const matrix = orthogonalMatrix(32, 3);
    const plan = lowerCodec({
      headDim: 32,
      precondition: { kind: 'orthogonal', seed: 3 },
      polar: { depth: 1, bits: [4], codebooks: {} },
      radius: 'f16',
      center: false,
      layout: { kind: 'rows' },
    });
    expect(plan.scale).toBe(1);
    expect(plan.precondition).toEqual({
      kind: 'orthogonal',
      seed: 3,
      sha256: sha256(new Uint8Array(matrix.buffer)),
    });
    const before = matrix[0];
    matrix[0] = 9;
    expect(orthogonalMatrix(32, 3)[0]).toBe(before);
  });
});
