/** How attention in half precision loads the words of a cell. */

import { describe, expect, test } from 'vitest';
import { polar } from '../../generator/spec/index.ts';
import { cellWords, wordsView } from '../../targets/cuda/half-words.ts';
import { planOf } from '../fixtures/small-cache.ts';

describe('two words in one load', () => {
  const loads = (bits: Parameters<typeof polar>[0]['bits']) => {
    const { key } = planOf({ headDim: 128, polar: polar({ bits }) });
    const { streams } = wordsView(key, cellWords(key)) as { streams: { double: boolean }[] };
    return { unitBytes: key.layout.unitBytes, doubles: streams.map(({ double }) => double) };
  };

  test('are for records that all stand on multiples of eight bytes', () => {
    expect(loads([4, 2, 2, 2])).toEqual({ unitBytes: 64, doubles: [true] });
  });

  test('are not for cells of two words in records of an odd number of words', () => {
    const { unitBytes, doubles } = loads([5, 3, 4, 4, 1]);
    expect(unitBytes).toBe(76);
    expect(doubles).not.toContain(true);
  });
});
