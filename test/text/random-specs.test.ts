import fc from 'fast-check';
import { expect, test } from 'vitest';
import { coverage, randomSpecs } from '../../generator/conformance/index.ts';
import { normalize } from '../../generator/spec/index.ts';

const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 });

test('any 50 random specs of any seed cover the space of the DSL', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const missing = coverage(randomSpecs({ count: 50, seed })).filter(({ count }) => count === 0);
      expect(missing).toEqual([]);
    }),
    { numRuns: 200 },
  );
});

test('every random spec is valid', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      for (const spec of randomSpecs({ count: 50, seed })) normalize(spec);
    }),
    { numRuns: 50 },
  );
});

test('a seed and a count give the same specs again, and a longer run begins with the shorter', () => {
  const ten = randomSpecs({ count: 10, seed: 3 });
  expect(randomSpecs({ count: 10, seed: 3 })).toEqual(ten);
  expect(randomSpecs({ count: 60, seed: 3 }).slice(0, 10)).toEqual(ten);
  expect(randomSpecs({ count: 10, seed: 4 })).not.toEqual(ten);
});

test('large dimensions stay rare, so that a run of 50 ends in minutes', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const large = randomSpecs({ count: 50, seed }).filter(
        (spec) => spec.key.headDim > 256 || spec.value.headDim > 256,
      );
      expect(large.length).toBeLessThan(25);
    }),
    { numRuns: 50 },
  );
});
