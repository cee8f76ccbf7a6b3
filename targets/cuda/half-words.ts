/** The words of a cell as a lane loads them, and the bits of its codes cut out of them. */

import type { CodecPlan } from '../../generator/plan/index.ts';
import { positionFunction, u32, type View } from '../../generator/target/index.ts';
import { CELL, type Field, fieldsOf, type Part, SIGN_BIT, type SignsApart } from './half-tables.ts';

/** Fields that keep their distance from cell to cell: loaded together, cut at fixed places. */
interface Stream {
  readonly name: string;
  readonly fields: readonly Field[];
  /** First bit of the stream in the record, cell by cell. */
  readonly from: readonly number[];
  /** Bits from there to the last field's end. */
  readonly width: number;
  /** Words that are moved to begin with the first field: its place in a word (a byte, of tiles) varies. */
  readonly funnel: boolean;
  /** Bit of the first word at which the stream begins, where it is not moved. */
  readonly phase: number;
  /** First of its words among all of the cell. */
  readonly first: number;
  /** Words, or bytes of tiles, that are loaded. */
  readonly loaded: number;
  /** Words once they are moved. */
  readonly words: number;
}

export interface CellWords {
  readonly streams: readonly Stream[];
  /** Words of a token and cell in registers. */
  readonly count: number;
}

/** Fields that lie farther apart go to streams of their own. */
const FARTHEST = 96;

export function cellWords(codec: CodecPlan): CellWords {
  const rows = codec.layout.id === 'rows/2';
  const unit = rows ? 32 : 8;
  const left = [...fieldsOf(codec)].sort((a, b) => a.bits[0]! - b.bits[0]!);
  const streams: Stream[] = [];
  let first = 0;
  while (left.length > 0) {
    const start = left[0]!;
    const together: Field[] = [];
    for (const field of left) {
      const distance = field.bits[0]! - start.bits[0]!;
      const fixed = field.bits.every((bit, cell) => bit - start.bits[cell]! === distance);
      if (fixed && distance + field.width <= FARTHEST) together.push(field);
    }
    for (const field of together) left.splice(left.indexOf(field), 1);
    const end = Math.max(...together.map((field) => field.bits[0]! + field.width));
    const from = start.bits;
    const width = end - from[0]!;
    const phases = from.map((bit) => bit % unit);
    const funnel = phases.some((phase) => phase !== phases[0]);
    const span = Math.max(...phases) + width;
    streams.push({
      name: streams.length === 0 ? 'codes' : `codes_${streams.length}`,
      fields: together,
      from,
      width,
      funnel,
      phase: funnel ? 0 : phases[0]!,
      first,
      loaded: Math.ceil(span / unit),
      words: Math.ceil((funnel ? width : phases[0]! + width) / 32),
    });
    first += Math.ceil(span / 32);
  }
  return { streams, count: first };
}

interface Place {
  readonly stream: Stream;
  /** Bit among the stream's words, once they are moved. */
  readonly bit: number;
}

function placeOf(words: CellWords, level: number, node: number): Place {
  for (const stream of words.streams) {
    const field = stream.fields.find((each) => each.level === level && each.node === node);
    if (field !== undefined) {
      return { stream, bit: field.bits[0]! - stream.from[0]! + stream.phase };
    }
  }
  throw new Error(`no field of level ${level}`);
}

const wordName = (stream: Stream, word: number): string => `${stream.name}_${word}`;

const hex = (value: number): string => `0x${value.toString(16)}u`;

/** Parts of an index that one shift or rotation of a word brings to their places. */
interface Cut {
  /** The word, moved. */
  readonly moved: string;
  /** What of it belongs to the index. */
  readonly mask: number;
  readonly parts: readonly Part[];
}

/** A part on its way into a cut, with the sign beside it that is no part of the index. */
interface Moving {
  readonly place: Place;
  readonly width: number;
  readonly to: number;
  readonly mask: number;
  readonly parts: readonly Part[];
}

const bitsFrom = (to: number, width: number): number => 2 ** (to + width) - 2 ** to;

/** Cuts that make up an index whose lowest bit is bit `shift`. `signs` are what its parts leave out of their codes. */
function cutsOf(
  words: CellWords,
  parts: readonly Part[],
  signs: SignsApart,
  shift: number,
): readonly Cut[] {
  const left = parts.map((part, i): Moving => {
    const { stream, bit } = placeOf(words, part.level, part.node);
    const to = part.to + shift;
    const below = signs.first && i === 0 ? 1 : 0;
    const above = signs.last && i === 1 ? 1 : 0;
    return {
      place: { stream, bit: bit + part.skip - below },
      width: part.width + below + above,
      to: to - below,
      mask: bitsFrom(to, part.width),
      parts: [part],
    };
  });
  const cuts: Cut[] = [];
  while (left.length > 0) {
    const head = left.shift()!;
    const wordOf = ({ place }: Moving): string =>
      wordName(place.stream, Math.floor(place.bit / 32));
    const turn = ({ place, to }: Moving): number => (((place.bit - to) % 32) + 32) % 32;
    const within = ({ place, width }: Moving): boolean => (place.bit % 32) + width <= 32;
    const same = left.filter(
      (p) => within(head) && within(p) && wordOf(p) === wordOf(head) && turn(p) === turn(head),
    );
    const together = (others: readonly Moving[]): Omit<Cut, 'moved'> => {
      for (const p of others) left.splice(left.indexOf(p), 1);
      const all = [head, ...others];
      return {
        mask: all.reduce((sum, { mask }) => sum + mask, 0),
        parts: all.flatMap((each) => each.parts),
      };
    };
    const move = (head.place.bit % 32) - head.to;
    if (same.length > 0) {
      const straight = same.every((p) => (p.place.bit % 32) - p.to === move);
      const moved = straight
        ? shifted(wordOf(head), move)
        : `__funnelshift_r(${wordOf(head)}, ${wordOf(head)}, ${u32(turn(head))})`;
      cuts.push({ moved, ...together(same) });
      continue;
    }
    // Parts that follow each other across a word.
    const next = followerOf(head, left);
    if (next !== undefined) {
      left.splice(left.indexOf(next), 1);
      left.unshift({
        ...head,
        width: head.width + next.width,
        mask: head.mask + next.mask,
        parts: [...head.parts, ...next.parts],
      });
      continue;
    }
    const { stream, bit } = head.place;
    const following = wordName(stream, Math.floor(bit / 32) + 1);
    const moved = within(head)
      ? shifted(wordOf(head), move)
      : `__funnelshift_r(${wordOf(head)}, ${following}, ${u32(move)})`;
    cuts.push({ moved, ...together([]) });
  }
  return cuts;
}

/** The part that goes on where another one ends, in the record as in the index. */
function followerOf(head: Moving, left: readonly Moving[]): Moving | undefined {
  return left.find(
    (p) =>
      p.place.stream === head.place.stream &&
      p.place.bit - head.place.bit === p.to - head.to &&
      p.to === head.to + head.width,
  );
}

const shifted = (word: string, right: number): string => {
  if (right === 0) return word;
  return right > 0 ? `(${word} >> ${u32(right)})` : `(${word} << ${u32(-right)})`;
};

/** An index and what its entry's signs are made of. */
export interface Index {
  /** The index times 2^`shift`. */
  readonly index: string;
  /** The moved word that the index and signs are cut of, where both are. */
  readonly moved: string;
  /** Bit 15 of words that change the sign of an entry's first or last coordinate. */
  readonly first: string;
  readonly last: string;
}

/**
 * The parts of an index times `2^shift`, as expressions: parts that one shift or rotation reaches are cut at once. Signs
 * are cut of the same word as the parts beside them, which is called `name`.
 */
export function indexOf(
  words: CellWords,
  parts: readonly Part[],
  shift: number,
  signs: SignsApart = { first: false, last: false },
  name = '',
): Index {
  const cuts = cutsOf(words, parts, signs, shift);
  const apart = signs.first ? parts[0]! : signs.last ? parts[1]! : undefined;
  const source = cuts.find((cut) => apart !== undefined && cut.parts.includes(apart));
  const isNamed = source?.moved.includes('(') === true;
  const textOf = (cut: Cut): string => (isNamed && cut === source ? name : cut.moved);
  const sign = (part: Part, bit: number): string => {
    const cut = cuts.find((each) => each.parts.includes(part))!;
    return `${shifted(textOf(cut), bit + shift - SIGN_BIT)} & ${hex(2 ** SIGN_BIT)}`;
  };
  return {
    index: cuts.map((cut) => `(${textOf(cut)} & ${hex(cut.mask)})`).join(' | '),
    moved: isNamed ? source.moved.replace(/^\((.*)\)$/, '$1') : '',
    first: signs.first ? sign(parts[0]!, parts[0]!.to - 1) : '',
    last: signs.last ? sign(parts[1]!, parts[1]!.to + parts[1]!.width) : '',
  };
}

/** A 16-bit field in both halves of a word. */
export function bothHalves(words: CellWords, level: number, node: number): string {
  const place = placeOf(words, level, node);
  const at = place.bit % 32;
  const word = wordName(place.stream, Math.floor(place.bit / 32));
  if (at === 0) return `low_half(${word})`;
  if (at === 16) return `high_half(${word})`;
  if (at < 16) return `low_half(${word} >> ${u32(at)})`;
  const next = wordName(place.stream, Math.floor(place.bit / 32) + 1);
  return `low_half(__funnelshift_r(${word}, ${next}, ${u32(at)}))`;
}

/** A 16-bit field in the lower half of a word; what stands above it is left. */
export function halfBits(words: CellWords, level: number, node: number): string {
  const place = placeOf(words, level, node);
  const at = place.bit % 32;
  const word = wordName(place.stream, Math.floor(place.bit / 32));
  if (at === 0) return word;
  if (at <= 16) return `${word} >> ${u32(at)}`;
  const next = wordName(place.stream, Math.floor(place.bit / 32) + 1);
  return `__funnelshift_r(${word}, ${next}, ${u32(at)})`;
}

/** What the loads and moves of a cell's words are printed from. */
export function wordsView(codec: CodecPlan, words: CellWords): View {
  const rows = codec.layout.id === 'rows/2';
  const unit = rows ? 32 : 8;
  const whole = Math.floor(codec.layout.storedBits / unit);
  return {
    count: String(words.count),
    streams: words.streams.map((stream) => ({
      name: stream.name,
      first: stream.first === 0,
      place: positionFunction(
        `half_${stream.name}`,
        stream.from.map((bit) => Math.floor(bit / unit)),
      ),
      shift: positionFunction(
        `half_${stream.name}_shift`,
        stream.from.map((bit) => bit % unit),
      ),
      // Whether the last cell's loads reach behind the record.
      checked:
        Math.max(...stream.from.map((bit) => Math.floor(bit / unit))) + stream.loaded > whole,
      funnel: stream.funnel,
      loads: Array.from({ length: stream.loaded }, (_, i) => ({
        index: String(i),
        word: String(stream.first + (rows ? i : Math.floor(i / 4))),
      })),
      // Two words from a multiple of two on are one load where every record stands on such a multiple.
      double:
        rows &&
        codec.layout.unitBytes % 8 === 0 &&
        !stream.funnel &&
        stream.loaded === 2 &&
        stream.from.every((bit) => bit % 64 < 32),
      firstWord: String(stream.first),
      secondWord: String(stream.first + 1),
      loadedWords: String(Math.ceil(rows ? stream.loaded : stream.loaded / 4)),
      names: Array.from({ length: stream.words }, (_, i) => {
        const raw = stream.first + i;
        const last = i + 1 >= Math.ceil(rows ? stream.loaded : stream.loaded / 4);
        return {
          name: wordName(stream, i),
          low: `raw[${raw}]`,
          high: last ? '0u' : `raw[${raw + 1}]`,
        };
      }),
      // Of tiles: bytes of eight tokens that make up each word.
      groups: Array.from({ length: Math.ceil(stream.loaded / 4) }, (_, i) => ({
        word: String(stream.first + i),
        bytes: Array.from({ length: Math.min(4, stream.loaded - 4 * i) }, (_, byte) => ({
          at: String(4 * i + byte),
        })),
        four: stream.loaded - 4 * i >= 4,
        more: stream.loaded - 4 * i >= 3,
        one: stream.loaded - 4 * i === 1,
        three: stream.loaded - 4 * i === 3,
        two: stream.loaded - 4 * i === 2,
      })),
    })),
    cells: String(codec.headDim / CELL),
  };
}
