/**
 * What the kernels that encode and decode need beside the constants of a codec: the cells that lanes work on, and the
 * pieces of a record that a lane puts together in a register.
 */

import type { CodecPlan, Role } from '../../generator/plan/index.ts';
import {
  floatLiteral,
  hexLiteral,
  positionFunction,
  u32,
  type View,
  wrapList,
} from '../../generator/target/index.ts';

/** Lanes of a warp. */
const WARP = 32;

/** Planes of the bits beyond the last whole byte of a record in a tile: bits of a token in each. */
const PLANES = [4, 2, 1] as const;

/** The canonical quiet NaN. */
const LOST_RADIUS = { f16: '0x7e00u', bf16: '0x7fc0u', f32: '0x7fc00000u' } as const;

/** What one lane encodes at a time: 16 coordinates, or a tree where 16 does not divide the head dimension. */
interface Cell {
  readonly size: number;
  readonly count: number;
  /** Levels whose nodes lie within a cell. */
  readonly levels: number;
}

function cellOf({ headDim, depth }: CodecPlan): Cell {
  const size = headDim % 16 === 0 ? 16 : 2 ** depth;
  return { size, count: headDim / size, levels: Math.min(depth, Math.log2(size)) };
}

/** A code of a cell. */
interface Field {
  readonly name: string;
  readonly width: number;
  /** First bit in the record, cell by cell. */
  readonly bits: readonly number[];
}

function fieldsOf(codec: CodecPlan, cell: Cell): readonly Field[] {
  const fields: Field[] = [];
  for (let level = 1; level <= cell.levels; level++) {
    const nodes = cell.size / 2 ** level;
    for (let node = 0; node < nodes; node++) {
      fields.push({
        name: `code_l${level}[${node}]`,
        width: codec.levels[level - 1]!.bits,
        bits: Array.from(
          { length: cell.count },
          (_, at) => codec.layout.codes[level - 1]![at * nodes + node]!,
        ),
      });
    }
  }
  return fields.sort((a, b) => a.bits[0]! - b.bits[0]!);
}

/** Fields within 32 bits whose distances are the same in all cells. */
function piecesOf(fields: readonly Field[]): readonly (readonly Field[])[] {
  const left = [...fields];
  const pieces: Field[][] = [];
  while (left.length > 0) {
    const first = left[0]!;
    const piece = left.filter((field) => {
      const distance = field.bits[0]! - first.bits[0]!;
      return (
        distance + field.width <= 32 &&
        field.bits.every((bit, cell) => bit - first.bits[cell]! === distance)
      );
    });
    for (const field of piece) left.splice(left.indexOf(field), 1);
    pieces.push(piece);
  }
  return pieces;
}

function pieceView(piece: readonly Field[], index: number): View {
  const [first, last] = [piece[0]!, piece.at(-1)!];
  const width = last.bits[0]! + last.width - first.bits[0]!;
  const terms = piece.map((field) => {
    const shift = field.bits[0]! - first.bits[0]!;
    return shifted(field.name, shift);
  });
  return {
    bit: positionFunction(`piece_bit_${index}`, first.bits),
    put: putting(first.bits, width),
    lines: sum(terms, ');'),
  };
}

const shifted = (name: string, shift: number): string =>
  shift === 0 ? name : `(${name} << ${u32(shift)})`;

/** `a + b + c` and what stands behind it, in lines: a product and a sum are one instruction, a shift and an or are two. */
function sum(terms: readonly string[], end: string): readonly string[] {
  const lines: string[] = [];
  for (const [i, term] of terms.entries()) {
    const text = i + 1 < terms.length ? `${term} +` : `${term}${end}`;
    const line = lines.at(-1);
    if (line !== undefined && line.length + text.length < 80) lines[lines.length - 1] += ` ${text}`;
    else lines.push(text);
  }
  return lines;
}

/** The function that sets fields of `width` bits at these positions: one word each, or two. */
function putting(bits: readonly number[], width: number): string {
  return bits.every((bit) => (bit % 32) + width <= 32) ? 'put_within' : 'put_bits';
}

/**
 * The words of a cell, where those of every cell hold its codes and its radius and nothing else: the lane of a cell
 * writes them by itself. Null where cells meet in a word.
 */
function ownWordsOf(codec: CodecPlan): readonly View[] | null {
  const { radius, layout, depth } = codec;
  const cell = cellOf(codec);
  const fields = fieldsOf(codec, cell);
  const words = layout.storedBits / 32 / cell.count;
  const alone = layout.id === 'rows/2' && radius.kind !== 'log' && 2 ** depth === cell.size;
  if (!alone || !Number.isInteger(words)) return null;
  const all = [...fields, { name: '', width: radius.bits, bits: layout.radii }];
  const inPlace = all.every(
    ({ bits, width }) =>
      (bits[0]! % 32) + width <= 32 &&
      bits[0]! < 32 * words &&
      bits.every((bit, at) => bit === bits[0]! + 32 * words * at),
  );
  if (!inPlace) return null;
  return Array.from({ length: words }, (_, at) => {
    const here = fields.filter(({ bits }) => Math.floor(bits[0]! / 32) === at);
    const terms = here.map(({ name, bits }) => shifted(name, bits[0]! % 32));
    const first = layout.radii[0]!;
    return {
      at: String(at),
      lines: sum(terms.length > 0 ? terms : ['0u'], ';'),
      shift: Math.floor(first / 32) === at ? u32(first % 32) : '',
    };
  });
}

/** Lanes hold a cell in registers from the load of its coordinates to the store of its words, and share neither. */
export const lanesAreAlone = (codec: CodecPlan): boolean =>
  isInRegisters(codec) && ownWordsOf(codec) !== null;

/** A lane holds a whole cell from the load on: butterflies beyond it exchange registers between lanes. */
function isInRegisters(codec: CodecPlan): boolean {
  const { precondition } = codec;
  const { count } = cellOf(codec);
  return (
    precondition.kind === 'none' ||
    (precondition.kind === 'hadamard' && precondition.order === 1 && count === lanesOf(count))
  );
}

/** Lanes that share a row. */
const lanesOf = (cells: number): number => Math.min(WARP, 2 ** Math.ceil(Math.log2(cells)));

/** The thresholds that the first two comparisons of a search by halving choose between. */
function quartiles(thresholds: readonly number[]): View {
  const at = (quarters: number): string =>
    floatLiteral(thresholds[Math.floor((thresholds.length * quarters) / 4)]!);
  return { lower: at(1), middle: at(2), upper: at(3) };
}

export function coderView(_role: Role, codec: CodecPlan): View {
  const { precondition, layout, headDim, radius, levels } = codec;
  const cell = cellOf(codec);
  const hadamard = precondition.kind === 'hadamard' ? precondition : null;
  const lanes = lanesOf(cell.count);
  const inRegisters = isInRegisters(codec);
  /** Where the losses of a level begin: those of all levels below stand before it. */
  const lossOffset = (level: number): string => u32(headDim - headDim / 2 ** (level - 1));
  const ownWords = ownWordsOf(codec) ?? [];
  const restBits = layout.storedBits % 8;
  const codewordsBelow = (level: number): number =>
    levels.slice(0, level).reduce((sum, { cos }) => sum + cos.length, 0);
  return {
    codewords: String(codewordsBelow(levels.length)),
    codebooks: levels.map(({ level, cos, thresholds }) => ({
      level: String(level),
      begin: String(codewordsBelow(level - 1)),
      searched: cos.length > 1,
      ...quartiles(cos.length > 1 ? thresholds : [0]),
    })),
    cell: {
      size: String(cell.size),
      count: String(cell.count),
      roots: String(cell.size / 2 ** cell.levels),
      wide: cell.size % 8 === 0,
      levels: levels.slice(0, cell.levels).map(({ level }) => ({
        level: String(level),
        first: level === 1,
        signAlone: levels[0]!.bits === 1,
        nodes: String(cell.size / 2 ** level),
        lossOffset: lossOffset(level),
      })),
    },
    /** From the top down, for the decoder. */
    cellLevelsDown: levels
      .slice(1, cell.levels)
      .map(({ level }) => ({ level: String(level), nodes: String(cell.size / 2 ** level) }))
      .reverse(),
    pieces: piecesOf(fieldsOf(codec, cell)).map(pieceView),
    ownWords,
    cellWords: String(ownWords.length),
    aboveCells: levels.slice(cell.levels).map(({ level, bits }) => ({
      level: String(level),
      put: putting(layout.codes[level - 1]!, bits),
      lossOffset: lossOffset(level),
    })),
    aboveCellsDown: levels
      .slice(cell.levels)
      .map(({ level }) => ({ level: String(level) }))
      .reverse(),
    rowLanes: String(lanes),
    lostRadius: radius.kind === 'log' ? '' : LOST_RADIUS[radius.kind],
    inRegisters,
    inShared: !inRegisters,
    putRadius: putting(layout.radii, radius.bits),
    planes: PLANES.filter((width) => (restBits & width) !== 0).map((width) => {
      // As many bits of every token as the wider planes have, 32 tokens each.
      const done = PLANES.filter((each) => each > width).reduce(
        (n, each) => n + (restBits & each),
        0,
      );
      return { width: String(width), at: String(4 * done), done: u32(done) };
    }),
    /** Bit b of row a: entry (a, b) of H_m is −1. */
    factorRows: wrapList(
      (hadamard?.matrix ?? []).map((row) =>
        hexLiteral(
          [...row].reduce((word, digit, b) => word + (digit === '1' ? 2 ** b : 0), 0),
          9,
          'ull',
        ),
      ),
    ),
  };
}
