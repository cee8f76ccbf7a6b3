import type { Positions, RecordFields } from './layout.ts';
import { informationBits, NORM_BITS } from './layout.ts';
import type { LayoutPlan } from './types.ts';

/** Coordinates of a unit, and the level of the one node that spans them. */
const UNIT = 16;
const UNIT_LEVEL = 4;
const WORD = 32;

/** A way to cut a record into groups of units and a tail, all of whole words. */
interface Division {
  /** Units of a group. */
  readonly size: number;
  readonly groups: number;
  readonly groupWords: number;
  /** Whether the radii of a group's units stand in the group. */
  readonly radiiInGroups: boolean;
  readonly words: number;
}

interface Field {
  readonly level: number;
  readonly node: number;
}

/** rows/2: one record a token, groups of 1, 2 or 4 units and a tail, in whole 32-bit words. */
export function layoutRows(fields: RecordFields): LayoutPlan {
  const bits = informationBits(fields);
  const division = divide(fields, bits);
  return {
    id: 'rows/2',
    unitTokens: 1,
    unitBytes: 4 * division.words,
    informationBits: bits,
    storedBits: WORD * division.words,
    ...place(fields, division),
  };
}

/** Radii that stand in a unit: none for trees that span more than one, or if they are codes. */
function radiiOfUnit({ depth, hasNorm }: RecordFields): number {
  return hasNorm || depth > UNIT_LEVEL ? 0 : UNIT / 2 ** depth;
}

/** The codes of coordinates [begin, end) up to the unit's level, in the order of joint indices. */
function unitCodes({ depth }: RecordFields, begin: number, end: number): Field[] {
  const codes: Field[] = [];
  const level = (l: number, from: number, to: number) => {
    if (l > depth) return;
    for (let node = from / 2 ** l; node < to / 2 ** l; node++) codes.push({ level: l, node });
  };
  // Signs stand at both ends of a quad's index, where it is cheap to leave them out of a table's.
  for (let quad = begin; quad < end; quad += 4) {
    const middle = Math.min(quad + 2, end);
    const quadEnd = Math.min(quad + 4, end);
    level(1, quad, middle);
    if (quadEnd === quad + 4) level(2, quad, quadEnd);
    level(1, middle, quadEnd);
  }
  level(3, begin, end);
  level(4, begin, end);
  return codes;
}

function divide(fields: RecordFields, bits: number): Division {
  const units = Math.floor(fields.headDim / UNIT);
  const width = (field: Field): number => fields.bits[field.level - 1]!;
  const codeBits = unitCodes(fields, 0, UNIT).reduce((sum, field) => sum + width(field), 0);
  const radiusBits = radiiOfUnit(fields) * fields.radiusBits;

  const wordsFor = (count: number): number => Math.ceil(count / WORD);
  let best: Division | undefined;
  for (const radiiInGroups of radiusBits > 0 ? [true, false] : [true]) {
    const unitBits = codeBits + (radiiInGroups ? radiusBits : 0);
    for (const size of [1, 2, 4]) {
      const groups = Math.floor(units / size);
      const groupWords = wordsFor(size * unitBits);
      const words = groups * groupWords + wordsFor(bits - groups * size * unitBits);
      if (best === undefined || words < best.words) {
        best = { size, groups, groupWords, radiiInGroups, words };
      }
    }
  }
  const padding = WORD * best!.words - bits;
  if (padding > WORD && padding > 0.05 * WORD * best!.words) {
    return { size: 1, groups: 0, groupWords: 0, radiiInGroups: false, words: wordsFor(bits) };
  }
  return best!;
}

function place(fields: RecordFields, division: Division): Positions {
  const { headDim, depth, bits, radiusBits, hasNorm } = fields;
  const { size, groups, groupWords, radiiInGroups } = division;
  const codes: number[][] = bits.map(() => []);
  const radii: number[] = [];
  /** Places fields upwards from a bit. */
  const placeCodes = (from: number, list: readonly Field[]): number => {
    let next = from;
    for (const { level, node } of list) {
      codes[level - 1]![node] = next;
      next += bits[level - 1]!;
    }
    return next;
  };
  /** Places radii first … end − 1 downwards from a bit, the last one topmost. */
  const placeRadii = (top: number, first: number, end: number): void => {
    for (let i = first; i < end; i++) radii[i] = top - (end - i) * radiusBits;
  };

  const unitRadii = radiiOfUnit(fields);
  const grouped = groups * size * UNIT;
  for (let group = 0; group < groups; group++) {
    const start = group * groupWords * WORD;
    const first = group * size;
    const inGroup = radiiInGroups ? unitRadii : 0;
    if (isPairOfWords(fields, division)) {
      placePairOfWords(start, first, codes, radii);
      continue;
    }
    let next = start;
    for (let unit = first; unit < first + size; unit++) {
      next = placeCodes(next, unitCodes(fields, unit * UNIT, (unit + 1) * UNIT));
    }
    placeRadii(start + groupWords * WORD, first * inGroup, (first + size) * inGroup);
  }

  let next = groups * groupWords * WORD;
  const top = division.words * WORD;
  for (let begin = grouped; begin < headDim; begin += UNIT) {
    next = placeCodes(next, unitCodes(fields, begin, Math.min(begin + UNIT, headDim)));
  }
  for (let level = UNIT_LEVEL + 1; level <= depth; level++) {
    const nodes = Array.from({ length: headDim / 2 ** level }, (_, node) => ({ level, node }));
    next = placeCodes(next, nodes);
  }
  const blocks = headDim / 2 ** depth;
  if (hasNorm) {
    for (let i = 0; i < blocks; i++) radii.push(next + i * radiusBits);
    return { codes, radii, norm: top - NORM_BITS };
  }
  placeRadii(top, radiiInGroups ? (grouped / UNIT) * unitRadii : 0, blocks);
  return { codes, radii, norm: null };
}

/** 4-2-2-2 with a 16-bit radius in the unit: 62 bits in two words. */
function isPairOfWords({ bits, radiusBits, hasNorm }: RecordFields, division: Division): boolean {
  return (
    bits.join() === '4,2,2,2' &&
    radiusBits === 16 &&
    !hasNorm &&
    division.size === 1 &&
    division.radiiInGroups
  );
}

/** First bits of the joint indices A, B, C, D, of the level-3, level-4 codes and of the radius. */
function placePairOfWords(start: number, unit: number, codes: number[][], radii: number[]): void {
  const pairs = [6, 12, 16, 22, WORD + 6, WORD + 12, 26, 0];
  const quads = [10, 20, WORD + 10, 30];
  const eighths = [WORD, WORD + 2];
  pairs.forEach((bit, i) => {
    codes[0]![8 * unit + i] = start + bit;
  });
  quads.forEach((bit, i) => {
    codes[1]![4 * unit + i] = start + bit;
  });
  eighths.forEach((bit, i) => {
    codes[2]![2 * unit + i] = start + bit;
  });
  codes[3]![unit] = start + WORD + 4;
  radii[unit] = start + WORD + 16;
}
