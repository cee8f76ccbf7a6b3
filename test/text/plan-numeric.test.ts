import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cos, gaussLegendre, HALF_PI, log, power, sin, tan } from '../../generator/plan/numeric.ts';
import { normalSource, randomSource } from '../../generator/plan/random.ts';

/** A little over one unit in the last place of the larger of the two. */
const near = (got: number, want: number): boolean =>
  Math.abs(got - want) <= 3e-16 * Math.max(Math.abs(want), Number.MIN_VALUE / 3e-16);

const angle = fc.double({ min: -HALF_PI, max: HALF_PI, noNaN: true });

describe('elementary functions', () => {
  test('agree with the engine on [−π/2, π/2]', () => {
    fc.assert(
      fc.property(angle, (x) => near(sin(x), Math.sin(x)) && near(cos(x), Math.cos(x))),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(angle, (x) => Math.abs(tan(x) - Math.tan(x)) <= 1e-15 * Math.abs(Math.tan(x))),
      { numRuns: 2000 },
    );
  });

  test('agree with the engine on an even grid', () => {
    for (let i = 0; i <= 20_000; i++) {
      const x = (i / 20_000) * HALF_PI;
      if (!near(sin(x), Math.sin(x))) expect(sin(x), `sin ${x}`).toBe(Math.sin(x));
      if (!near(cos(x), Math.cos(x))) expect(cos(x), `cos ${x}`).toBe(Math.cos(x));
    }
  });

  test('refuse angles outside the range', () => {
    expect(() => sin(1.6)).toThrow(RangeError);
    expect(() => cos(Number.NaN)).toThrow(RangeError);
  });

  test('the logarithm agrees with the engine', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-300, max: 1e300, noNaN: true }), (x) =>
        near(log(x), Math.log(x)),
      ),
      { numRuns: 2000 },
    );
    for (const x of [1 - 2 ** -40, 1, 1 + 2 ** -52, Math.SQRT1_2, 1.5]) {
      expect(near(log(x), Math.log(x)), `${x}`).toBe(true);
    }
    expect(() => log(0)).toThrow(RangeError);
  });

  test('powers', () => {
    expect([0, 1, 2, 5, 31].map((n) => power(3, n))).toEqual([1, 3, 9, 243, 617673396283947]);
  });

  test('Gauss–Legendre of 16 points is exact for polynomials up to degree 31', () => {
    const { nodes, weights } = gaussLegendre(16);
    for (let degree = 0; degree <= 31; degree++) {
      const sum = nodes.reduce((total, x, i) => total + weights[i]! * power(x, degree), 0);
      expect(sum).toBeCloseTo(degree % 2 === 0 ? 2 / (degree + 1) : 0, 14);
    }
  });
});

describe('lowering', () => {
  const folder = new URL('../../generator/plan/', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));

  test.each(files)('%s uses no function of Math that engines may round differently', (name) => {
    const source = readFileSync(new URL(name, folder), 'utf8');
    const code = source.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    const used = [...code.matchAll(/Math\.(\w+)/g)].map((match) => match[1]);
    const exact = ['PI', 'abs', 'ceil', 'floor', 'fround', 'imul', 'max', 'min', 'sqrt'];
    expect(used.filter((word) => !exact.includes(word!))).toEqual([]);
    // Powers of two alone.
    expect(code.match(/(?<!\b2 )\*\*/)).toBeNull();
  });
});

describe('random numbers', () => {
  test('xoshiro128** from splitmix32', () => {
    // Independent of generator/plan/random.ts: 64-bit arithmetic in BigInt, cut to 32 bits.
    const mask = 0xffffffffn;
    const rotate = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & mask;
    let weyl = 12345n;
    const word = () => {
      weyl = (weyl + 0x9e3779b9n) & mask;
      let z = weyl;
      z = ((z ^ (z >> 16n)) * 0x85ebca6bn) & mask;
      z = ((z ^ (z >> 13n)) * 0xc2b2ae35n) & mask;
      return z ^ (z >> 16n);
    };
    const s = [word(), word(), word(), word()] as [bigint, bigint, bigint, bigint];
    const random = randomSource(12345);
    for (let i = 0; i < 100; i++) {
      const want = (rotate((s[1] * 5n) & mask, 7n) * 9n) & mask;
      const t = (s[1] << 9n) & mask;
      s[2] ^= s[0];
      s[3] ^= s[1];
      s[1] ^= s[2];
      s[0] ^= s[3];
      s[2] ^= t;
      s[3] = rotate(s[3], 11n);
      expect(random()).toBe(Number(want));
    }
  });

  test('normal numbers have the moments of the normal law', () => {
    const normal = normalSource(randomSource(7));
    const n = 40_000;
    const sums = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const x = normal();
      for (let k = 0; k < 4; k++) sums[k]! += x ** (k + 1) / n;
    }
    [0, 1, 0, 3].forEach((moment, k) => {
      // Five standard deviations of the mean of x^k.
      expect(Math.abs(sums[k]! - moment)).toBeLessThan(
        (5 * [1, 1.42, 3.9, 9.8][k]!) / Math.sqrt(n),
      );
    });
  });
});
