import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitAddress, type CodecPlan, lowerCodec } from '../../generator/plan/index.ts';
import type { Codec, Layout, Radius } from '../../generator/spec/types.ts';

const ROWS: Layout = { kind: 'rows' };
const TILES: Layout = { kind: 'tiles', tokens: 32 };

function plan(headDim: number, bits: readonly number[], radius: Radius, layout: Layout): CodecPlan {
  const codec: Codec = {
    headDim,
    precondition: { kind: 'none' },
    polar: { depth: bits.length, bits, codebooks: {} },
    radius,
    center: false,
    layout,
  };
  return lowerCodec(codec);
}

interface Field {
  readonly name: string;
  readonly start: number;
  readonly bits: number;
}

/** Every field of a record. */
function fieldsOf({ levels, radius, layout }: CodecPlan): Field[] {
  const fields: Field[] = [];
  layout.codes.forEach((starts, i) => {
    starts.forEach((start, j) => {
      fields.push({ name: `code ${i + 1}/${j}`, start, bits: levels[i]!.bits });
    });
  });
  layout.radii.forEach((start, i) => {
    fields.push({ name: `radius ${i}`, start, bits: radius.bits });
  });
  if (layout.norm !== null) fields.push({ name: 'norm', start: layout.norm, bits: 16 });
  return fields;
}

const anyRadius = (blocks: number): fc.Arbitrary<Radius> => {
  const floats = fc.constantFrom<Radius>('f16', 'bf16', 'f32');
  if (blocks < 2) return floats;
  const log = fc.integer({ min: 1, max: 8 }).map((bits): Radius => ({ kind: 'log', bits }));
  return fc.oneof(floats, log);
};

const anyFormat = fc.integer({ min: 1, max: 9 }).chain((depth) =>
  fc
    .integer({ min: Math.ceil(16 / 2 ** depth), max: Math.floor(640 / 2 ** depth) })
    .chain((blocks) =>
      fc.record({
        headDim: fc.constant(blocks * 2 ** depth),
        bits: fc
          .tuple(
            fc.integer({ min: 1, max: 8 }),
            fc.array(fc.integer({ min: 1, max: 6 }), {
              minLength: depth - 1,
              maxLength: depth - 1,
            }),
          )
          .map(([first, above]) => [first, ...above]),
        radius: anyRadius(blocks),
      }),
    ),
);

describe('every format', () => {
  test.each([ROWS, TILES])('%j: fields are complete, inside the record and apart', (layout) => {
    fc.assert(
      fc.property(anyFormat, ({ headDim, bits, radius }) => {
        const codec = plan(headDim, bits, radius, layout);
        const { storedBits, informationBits, unitBytes, unitTokens, norm } = codec.layout;
        const fields = fieldsOf(codec);
        // One field for every node, radius and norm.
        codec.layout.codes.forEach((starts, i) => {
          expect(starts.length).toBe(headDim / 2 ** (i + 1));
        });
        expect(codec.layout.radii.length).toBe(codec.blocks);
        expect(norm === null).toBe(typeof radius === 'string');
        const used = new Uint8Array(storedBits);
        for (const { name, start, bits: width } of fields) {
          if (!Number.isInteger(start) || start < 0 || start + width > storedBits) {
            throw new Error(`${name} at ${start} leaves the record of ${storedBits} bits`);
          }
          for (let bit = start; bit < start + width; bit++) {
            if (used[bit]) throw new Error(`${name} shares bit ${bit}`);
            used[bit] = 1;
          }
        }
        expect(used.reduce((sum, bit) => sum + bit, 0)).toBe(informationBits);
        expect(8 * unitBytes).toBe(unitTokens * storedBits);
        const padding = storedBits - informationBits;
        if (layout.kind === 'tiles') expect(padding).toBe(0);
        else expect(padding).toBeLessThanOrEqual(Math.max(32, 0.05 * storedBits));
      }),
      { numRuns: 400 },
    );
  });

  test.each([ROWS, TILES])('%j: the bits of a unit are each one bit of one token', (layout) => {
    fc.assert(
      fc.property(anyFormat, ({ headDim, bits, radius }) => {
        const codec = plan(headDim, bits, radius, layout);
        const { storedBits, unitBytes, unitTokens } = codec.layout;
        const used = new Uint8Array(unitBytes);
        for (let token = 0; token < unitTokens; token++) {
          for (let index = 0; index < storedBits; index++) {
            const { byte, bit } = bitAddress(codec.layout, token, index);
            if (bit < 0 || bit > 7) throw new Error(`bit ${bit}`);
            used[byte]! |= 1 << bit;
          }
        }
        // As many addresses as bits, so all bits taken means none taken twice.
        expect(used.every((byte) => byte === 255)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('rows: a joint index of four coordinates is contiguous', () => {
    fc.assert(
      fc.property(anyFormat, ({ headDim, bits, radius }) => {
        const { layout } = plan(headDim, bits, radius, ROWS);
        const [first, second] = layout.codes;
        if (second === undefined || (bits[0] === 4 && bits.join() === '4,2,2,2')) return;
        second.forEach((start, j) => {
          expect(start).toBe(first![2 * j]! + bits[0]!);
          expect(first![2 * j + 1]).toBe(start + bits[1]!);
        });
      }),
      { numRuns: 100 },
    );
  });

  test('tiles: a parent stands between its children', () => {
    fc.assert(
      fc.property(anyFormat, ({ headDim, bits, radius }) => {
        const { codes } = plan(headDim, bits, radius, TILES).layout;
        for (let level = 3; level <= bits.length; level++) {
          codes[level - 1]!.forEach((start, j) => {
            expect(start).toBeGreaterThan(codes[level - 2]![2 * j]!);
            expect(start).toBeLessThan(codes[level - 2]![2 * j + 1]!);
          });
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('sizes', () => {
  test.each<[number, readonly number[], Radius, number, number]>([
    [128, [4, 2, 2, 2], 'f16', 64, 62],
    [128, [4, 2, 2, 2, 2, 2, 2], 'f16', 52, 49.75],
    [64, [4, 2, 2, 2], 'f16', 32, 31],
    [128, [4, 2, 2, 2], { kind: 'log', bits: 4 }, 56, 52],
    [128, [4, 2, 2, 2], 'f32', 80, 78],
    [24, [4, 2, 2], 'f16', 16, 14.25],
    [18, [8], 'f32', 48, 45],
  ])('d = %i, %j, %j: %d bytes in rows, %d in tiles', (d, bits, radius, rows, tiles) => {
    expect(plan(d, bits, radius, ROWS).layout.unitBytes).toBe(rows);
    expect(plan(d, bits, radius, TILES).layout.unitBytes / 32).toBe(tiles);
  });
});

describe('rows/2', () => {
  test('4-2-2-2 with a 16-bit radius: a unit is two words', () => {
    for (const radius of ['f16', 'bf16'] as const) {
      const { layout } = plan(32, [4, 2, 2, 2], radius, ROWS);
      const unit = [6, 12, 16, 22, 38, 44, 26, 0];
      expect(layout.codes[0]).toEqual([...unit, ...unit.map((bit) => bit + 64)]);
      expect(layout.codes[1]).toEqual([10, 20, 42, 30, 74, 84, 106, 94]);
      expect(layout.codes[2]).toEqual([32, 34, 96, 98]);
      expect(layout.codes[3]).toEqual([36, 100]);
      expect(layout.radii).toEqual([48, 112]);
    }
  });

  test('codes upwards, radii downwards in a group', () => {
    // One unit, 3-2: 24 + 8 bits of codes, four f16 radii: three words without padding.
    const { layout } = plan(16, [3, 2], 'f16', ROWS);
    expect(layout).toMatchObject({ unitBytes: 12, informationBits: 96, storedBits: 96 });
    expect(layout.codes).toEqual([
      [0, 5, 8, 13, 16, 21, 24, 29],
      [3, 11, 19, 27],
    ]);
    expect(layout.radii).toEqual([32, 48, 64, 80]);
  });

  test('deep trees: units in groups, then upper codes, the radius topmost in the tail', () => {
    // Units of 46 bits: two of them fill three words but for four bits; the tail is one word.
    const { layout } = plan(128, [4, 2, 2, 2, 2, 2, 2], 'f16', ROWS);
    expect(layout.codes[0]!.slice(0, 9)).toEqual([0, 6, 10, 16, 20, 26, 30, 36, 46]);
    expect(layout.codes[0]![16]).toBe(96);
    expect(layout.codes[2]!.slice(0, 4)).toEqual([40, 42, 86, 88]);
    expect(layout.codes[3]!.slice(0, 3)).toEqual([44, 90, 140]);
    expect(layout.codes[4]).toEqual([384, 386, 388, 390]);
    expect(layout.codes[5]).toEqual([392, 394]);
    expect(layout.codes[6]).toEqual([396]);
    expect(layout.radii).toEqual([400]);
  });

  test('what a group does not take stands in the tail, radii downwards', () => {
    // d = 24, 4-2-2: a unit of 44 code bits and two radii (76 bits) and half a unit (22 + 16): one tail.
    const { layout } = plan(24, [4, 2, 2], 'f16', ROWS);
    expect(layout.codes[0]).toEqual([0, 6, 10, 16, 20, 26, 30, 36, 44, 50, 54, 60]);
    expect(layout.codes[2]).toEqual([40, 42, 64]);
    expect(layout.radii).toEqual([80, 96, 112]);
  });

  test('radii go to the tail if that saves words', () => {
    // Codes of a unit: 8·4 + 4·4 + 2·4 + 4 = 60 bits. With f16 radii 76 bits: three words a unit;
    // apart, two words a unit and one word for two radii.
    const { layout } = plan(32, [4, 4, 4, 4], 'f16', ROWS);
    expect(layout.storedBits).toBe(160);
    expect(layout.radii).toEqual([128, 144]);
    // Two units and their radii in one group take five words too, and radii in groups come first.
    expect(layout.codes[0]![8]).toBe(60);
  });

  test('log radii: their codes upwards in the tail, the norm topmost', () => {
    const { layout } = plan(32, [4, 2, 2, 2], { kind: 'log', bits: 4 }, ROWS);
    expect(layout.storedBits).toBe(128);
    expect(layout.radii).toEqual([96, 100]);
    expect(layout.norm).toBe(112);
  });
});

describe('tiles32/1', () => {
  test('record order', () => {
    const { layout } = plan(32, [4, 2, 3, 1], 'f16', TILES);
    expect(layout.radii).toEqual([0, 16]);
    expect(layout.codes[0]).toEqual(Array.from({ length: 16 }, (_, j) => 32 + 4 * j));
    // Tree of 16: l2 l3 l2 l4 l2 l3 l2.
    expect(layout.codes[1]).toEqual([96, 101, 104, 109, 111, 116, 119, 124]);
    expect(layout.codes[2]).toEqual([98, 106, 113, 121]);
    expect(layout.codes[3]).toEqual([103, 118]);
    expect(layout).toMatchObject({ norm: null, storedBits: 126, unitBytes: 504, unitTokens: 32 });
  });

  test('log radii: the norm first, their codes last', () => {
    const { layout } = plan(32, [4, 2, 2, 2], { kind: 'log', bits: 3 }, TILES);
    expect(layout.norm).toBe(0);
    expect(layout.codes[0]![0]).toBe(16);
    expect(layout.radii).toEqual([108, 111]);
    expect(layout.storedBits).toBe(114);
  });

  test('bytes across tokens, then planes of 4, 2 and 1 bits', () => {
    const layout = { id: 'tiles32/1', storedBits: 23 } as const;
    expect(bitAddress(layout, 5, 0)).toEqual({ byte: 5, bit: 0 });
    expect(bitAddress(layout, 31, 15)).toEqual({ byte: 63, bit: 7 });
    expect(bitAddress(layout, 5, 16)).toEqual({ byte: 64 + 5, bit: 0 });
    expect(bitAddress(layout, 21, 19)).toEqual({ byte: 64 + 5, bit: 7 });
    expect(bitAddress(layout, 5, 20)).toEqual({ byte: 80 + 5, bit: 0 });
    expect(bitAddress(layout, 29, 21)).toEqual({ byte: 80 + 5, bit: 7 });
    expect(bitAddress(layout, 29, 22)).toEqual({ byte: 88 + 1, bit: 7 });
    // Without a plane of 4 bits the plane of 2 comes first.
    expect(bitAddress({ id: 'tiles32/1', storedBits: 18 }, 9, 17)).toEqual({ byte: 65, bit: 3 });
    expect(() => bitAddress(layout, 0, 23)).toThrow(RangeError);
  });
});
