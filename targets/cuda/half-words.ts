/** The words of a cell as a lane loads them, and the bits of its codes cut out of them. */

import type { CodecPlan } from '../../generator/plan/index.ts';
import { positionFunction, u32, type View } from '../../generator/target/index.ts';
import { CELL, type Field, fieldsOf, type Part } from './half-tables.ts';

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
  const rows = codec.layout.id === 'rows/1';
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

/** `width` bits from bit `bit` of a stream on, from bit `to` of the result on; what else it holds is masked. */
function cut({ stream, bit }: Place, width: number, to: number): string {
  const mask = hex(2 ** (to + width) - 2 ** to);
  const word = Math.floor(bit / 32);
  const at = bit % 32;
  const low = wordName(stream, word);
  if (at + width > 32) {
    const next = wordName(stream, word + 1);
    // Bits at .. 31 of the word and the first of the next one.
    const right = at - to;
    return right >= 0
      ? `(__funnelshift_r(${low}, ${next}, ${u32(right)}) & ${mask})`
      : `(__funnelshift_l(${low}, ${next}, ${u32(to - at)}) & ${mask})`;
  }
  if (at === to) return `(${low} & ${mask})`;
  return at > to
    ? `((${low} >> ${u32(at - to)}) & ${mask})`
    : `((${low} << ${u32(to - at)}) & ${mask})`;
}

const hex = (value: number): string => `0x${value.toString(16)}u`;

/** The parts of an index times `2^shift`, as an expression: parts that one shift or rotation reaches are cut at once. */
export function indexOf(words: CellWords, parts: readonly Part[], shift: number): string {
  const left = parts.map((part) => {
    const place = placeOf(words, part.level, part.node);
    return {
      place: { ...place, bit: place.bit + part.skip },
      width: part.width,
      to: part.to + shift,
    };
  });
  const terms: string[] = [];
  while (left.length > 0) {
    const head = left.shift()!;
    const within = (p: typeof head): boolean => (p.place.bit % 32) + p.width <= 32;
    const turn = (p: typeof head): number => (((p.place.bit - p.to) % 32) + 32) % 32;
    const same = left.filter(
      (p) =>
        within(head) &&
        within(p) &&
        p.place.stream === head.place.stream &&
        Math.floor(p.place.bit / 32) === Math.floor(head.place.bit / 32) &&
        turn(p) === turn(head),
    );
    // Parts that follow each other across a word.
    const next = left.find(
      (p) =>
        p.place.stream === head.place.stream &&
        p.place.bit - head.place.bit === p.to - head.to &&
        p.to === head.to + head.width,
    );
    if (same.length > 0) {
      for (const p of same) left.splice(left.indexOf(p), 1);
      const all = [head, ...same];
      const mask = all.reduce((sum, p) => sum + 2 ** (p.to + p.width) - 2 ** p.to, 0);
      const word = wordName(head.place.stream, Math.floor(head.place.bit / 32));
      const straight = all.every(
        (p) => (p.place.bit % 32) - p.to === (head.place.bit % 32) - head.to,
      );
      const move = (head.place.bit % 32) - head.to;
      if (straight && move === 0) terms.push(`(${word} & ${hex(mask)})`);
      else if (straight && move > 0) terms.push(`((${word} >> ${u32(move)}) & ${hex(mask)})`);
      else if (straight) terms.push(`((${word} << ${u32(-move)}) & ${hex(mask)})`);
      else {
        terms.push(`(__funnelshift_r(${word}, ${word}, ${u32(turn(head))}) & ${hex(mask)})`);
      }
      continue;
    }
    if (next !== undefined) {
      left.splice(left.indexOf(next), 1);
      left.unshift({ ...head, width: head.width + next.width });
      continue;
    }
    terms.push(cut(head.place, head.width, head.to));
  }
  return terms.join(' | ');
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

/** The lowest bit of a code at bit 15 of a word, for the sign of an f16 in its lower half. */
export function signBit(words: CellWords, level: number, node: number): string {
  return cut(placeOf(words, level, node), 1, 15);
}

/** What the loads and moves of a cell's words are printed from. */
export function wordsView(codec: CodecPlan, words: CellWords): View {
  const rows = codec.layout.id === 'rows/1';
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
