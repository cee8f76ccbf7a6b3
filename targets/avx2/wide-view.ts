/** What the code for sixteen tokens at a time is filled from: words cut out of the planes of a tile, tables to look up whole. */

import type { CodecPlan, LevelPlan } from '../../generator/plan/index.ts';
import type { View } from '../../generator/target/index.ts';
import { floats, initialiser } from './literals.ts';

/** Levels of a unit of attention: 16 coordinates at most. */
const UNIT_LEVELS = 4;

/** Entries that one or two registers look up. */
const MOST_JOINT_BITS = 5;

/** A word of 32 bits begins at any bit: so many of it hold codes, wherever in a byte that is. */
const WORD_BITS = 25;

interface Field {
  /** First bit, from the first code of its kind in the unit. */
  readonly at: number;
  readonly bits: number;
}

/** Fields that must lie in one word, in ascending order. */
type Group = readonly Field[];

interface Words {
  /** First bits of the words, from the first code of their kind in the unit. */
  readonly offsets: number[];
  /** For every field its place: bit i mod 32 of word ⌊i / 32⌋ of these. */
  readonly places: ReadonlyMap<Field, number>;
}

/** Packs fields into as few words as hold them whole; `aligned` units begin at a byte, and so do their words. */
function packWords(groups: readonly Group[], aligned: boolean): Words {
  const offsets: number[] = [];
  const places = new Map<Field, number>();
  for (const group of groups) {
    const end = group.at(-1)!.at + group.at(-1)!.bits;
    const start = aligned ? group[0]!.at & ~7 : group[0]!.at;
    if (offsets.length === 0 || end - offsets.at(-1)! > (aligned ? 32 : WORD_BITS)) {
      offsets.push(start);
    }
    for (const field of group) {
      places.set(field, (offsets.length - 1) * 32 + field.at - offsets.at(-1)!);
    }
  }
  return { offsets, places };
}

/** Repeated until a register of sixteen is full. */
const table = (values: readonly number[]): string =>
  floats(Array.from({ length: Math.max(16, values.length) }, (_, i) => values[i % values.length]!));

/** Cosine and sine of a level-1 code with their signs. */
function signedTables({ bits, cos, sin }: LevelPlan): View {
  const entry = (code: number): { x: number; y: number } => {
    const sy = (code >> (bits - 1)) & 1;
    if (bits === 1) return { x: 0, y: sy ? -sin[0]! : sin[0]! };
    const m = (code >> 1) & (cos.length - 1);
    return { x: code & 1 ? -cos[m]! : cos[m]!, y: sy ? -sin[m]! : sin[m]! };
  };
  const entries = Array.from({ length: 2 ** bits }, (_, code) => entry(code));
  return { x: table(entries.map(({ x }) => x)), y: table(entries.map(({ y }) => y)) };
}

/**
 * What the radius of a level-3 node is multiplied with for each of its four pairs: the first two looked up by the code of
 * its left child and its own, the others by its own and that of its right child, as they stand in the record.
 */
function jointTables(low: LevelPlan, high: LevelPlan): View {
  const product = (a: number, b: number): number => Math.fround(a * b);
  const joint = (
    first: LevelPlan,
    value: (firstCode: number, secondCode: number) => number,
    second: LevelPlan,
  ): string => {
    const n = first.cos.length;
    return table(
      Array.from({ length: n * second.cos.length }, (_, i) => value(i % n, Math.floor(i / n))),
    );
  };
  return {
    pairs: [
      joint(low, (l, h) => product(high.cos[h]!, low.cos[l]!), high),
      joint(low, (l, h) => product(high.cos[h]!, low.sin[l]!), high),
      joint(high, (h, l) => product(high.sin[h]!, low.cos[l]!), low),
      joint(high, (h, l) => product(high.sin[h]!, low.sin[l]!), low),
    ].map((values, pair) => ({ pair: String(pair), values })),
  };
}

/** Constants of templates/avx2/partials/wide_codec.cpp.hbs. */
export function wideView(codec: CodecPlan): View {
  const { layout, levels } = codec;
  const unitLevel = Math.min(codec.depth, UNIT_LEVELS);
  const unitPairs = 2 ** (unitLevel - 1);
  const bitsOf = (level: number): number => levels[level - 1]!.bits;
  const isJoint = unitLevel >= 3 && bitsOf(2) + bitsOf(3) <= MOST_JOINT_BITS;

  const fieldsOf = (level: number, from: number): Field[] =>
    layout.codes[level - 1]!.slice(0, unitPairs >> (level - 1)).map((bit) => ({
      at: bit - from,
      bits: bitsOf(level),
    }));
  const pairFields = fieldsOf(1, layout.codes[0]![0]!);
  const aligned = layout.codes[0]![0]! % 8 === 0 && (unitPairs * bitsOf(1)) % 8 === 0;
  const pairWords = packWords(
    pairFields.map((field) => [field]),
    aligned,
  );

  const recordBits = (layout.unitBytes * 8) / layout.unitTokens;
  const lastByte = (layout.codes[0]!.at(-unitPairs)! + pairWords.offsets.at(-1)!) / 8;

  const upper = Array.from({ length: unitLevel - 1 }, (_, i) =>
    fieldsOf(i + 2, layout.codes[1]![0]!),
  );
  const joined = new Set(isJoint ? [...upper[0]!, ...upper[1]!] : []);
  const groups: Group[] = [
    ...upper.flat().flatMap((field) => (joined.has(field) ? [] : [[field]])),
    ...(isJoint
      ? upper[1]!.map((node, i) => [upper[0]![2 * i]!, node, upper[0]![2 * i + 1]!])
      : []),
  ].sort((a, b) => a[0]!.at - b[0]!.at);
  const upperWords = packWords(groups, false);

  const places = (fields: readonly Field[], words: Words, before: number): string =>
    initialiser(fields.map((field) => String(32 * before + words.places.get(field)!)));
  const before = pairWords.offsets.length;
  return {
    wide: {
      words: String(before + upperWords.offsets.length),
      pairWords: String(before),
      /** Words of level-1 codes begin at a byte, all four bytes of them in the record: no shift. */
      aligned: aligned && lastByte + 4 <= Math.ceil(recordBits / 8),
      upper: unitLevel > 1,
      /** Radii are made from codes, which stand in words of AVX2. */
      radiusWindows: codec.radius.kind === 'log' || codec.depth > UNIT_LEVELS,
      offsets: initialiser([...pairWords.offsets, ...upperWords.offsets].map(String)),
      places: [
        { level: '1', list: places(pairFields, pairWords, 0) },
        ...upper.map((fields, i) => ({
          level: String(i + 2),
          list: places(fields, upperWords, before),
        })),
      ],
      placeList: initialiser([
        'nullptr',
        ...Array.from({ length: unitLevel }, (_, i) => `place_l${i + 1}`),
      ]),
      signed: bitsOf(1) <= MOST_JOINT_BITS && signedTables(levels[0]!),
      joint: isJoint && jointTables(levels[1]!, levels[2]!),
    },
  };
}
