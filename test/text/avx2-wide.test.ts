/** Where the avx512 variant cuts codes out of a tile: against the positions in the plan, for every unit, without running it. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CodecPlan, lowerCodec } from '../../generator/plan/index.ts';
import type { Radius } from '../../generator/spec/types.ts';
import { wideView } from '../../targets/avx2/wide-view.ts';

interface Wide {
  readonly pairWords: string;
  readonly aligned: boolean;
  readonly offsets: string;
  readonly places: readonly { readonly level: string; readonly list: string }[];
  readonly joint: false | { readonly pairs: readonly { readonly values: string }[] };
}

const wideOf = (codec: CodecPlan): Wide => wideView(codec).wide as unknown as Wide;

const numbers = (text: string): number[] => (text.match(/-?[\d.]+(e-?\d+)?/g) ?? []).map(Number);

const plan = (headDim: number, bits: readonly number[], radius: Radius): CodecPlan =>
  lowerCodec({
    headDim,
    precondition: { kind: 'none' },
    polar: { depth: bits.length, bits, codebooks: {} },
    radius,
    center: false,
    layout: { kind: 'tiles', tokens: 32 },
  });

const formats = fc
  .record({
    bits: fc
      .tuple(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 5 }),
      )
      .map(([first, above]) => [first, ...above]),
    blocks: fc.integer({ min: 2, max: 5 }),
    radius: fc.constantFrom<Radius>('f16', 'f32', { kind: 'log', bits: 3 }),
  })
  .map(({ bits, blocks, radius }) => ({ bits, radius, headDim: blocks * 2 ** bits.length }))
  .filter(({ headDim }) => headDim >= 16);

describe('words of the avx512 variant', () => {
  test('hold every code of every unit whole, inside the record', () => {
    fc.assert(
      fc.property(formats, ({ headDim, bits, radius }) => {
        const codec = plan(headDim, bits, radius);
        const { layout, levels } = codec;
        const wide = wideOf(codec);
        const offsets = numbers(wide.offsets);
        const bytes = Math.ceil(layout.storedBits / 8);
        const pairs = 2 ** (Math.min(bits.length, 4) - 1);
        for (let unit = 0; unit < headDim / 2 / pairs; unit++) {
          for (const { level, list } of wide.places) {
            const codes = layout.codes[Number(level) - 1]!;
            const nodes = numbers(list);
            nodes.forEach((place, node) => {
              const word = place >> 5;
              const first =
                word < Number(wide.pairWords)
                  ? layout.codes[0]![unit * pairs]!
                  : layout.codes[1]![(unit * pairs) / 2]!;
              const start = first + offsets[word]!;
              const byte = Math.min(start >> 3, bytes - 4);
              const shift = start - 8 * byte;
              expect(start + (place & 31)).toBe(codes[unit * nodes.length + node]);
              expect(shift + (place & 31) + levels[Number(level) - 1]!.bits).toBeLessThanOrEqual(
                32,
              );
              if (wide.aligned && word < Number(wide.pairWords)) expect(shift).toBe(0);
            });
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('joint tables hold the factors of the pairs by the codes as they stand', () => {
    const codec = plan(32, [4, 2, 3], 'f16');
    const { joint, places } = wideOf(codec);
    const [, low, high] = codec.levels;
    const tables = (joint as Exclude<Wide['joint'], false>).pairs.map(({ values }) =>
      numbers(values),
    );
    const at = places.map(({ list }) => numbers(list));
    for (let l = 0; l < 4; l++) {
      for (let h = 0; h < 8; h++) {
        // The left child stands before its parent, the right one behind it.
        expect(at[2]![0]! - at[1]![0]!).toBe(2);
        expect(at[1]![1]! - at[2]![0]!).toBe(3);
        const [left, right] = [l + 4 * h, h + 8 * l];
        const want = [
          [0, left, high!.cos[h]! * low!.cos[l]!],
          [1, left, high!.cos[h]! * low!.sin[l]!],
          [2, right, high!.sin[h]! * low!.cos[l]!],
          [3, right, high!.sin[h]! * low!.sin[l]!],
        ] as const;
        for (const [pair, index, product] of want) {
          expect(tables[pair]![index]).toBeCloseTo(product, 6);
        }
      }
    }
  });

  test('the paper format needs one word of level 1 and one above', () => {
    const wide = wideOf(plan(128, [4, 2, 2, 2], 'f16'));
    expect(wide).toMatchObject({ words: '2', pairWords: '1', aligned: true });
  });
});
