/**
 * What the kernels that encode and decode need beside the constants of a codec: the cells that lanes work on, and the
 * pieces of a record that a lane puts together in a register.
 */

import type { CodecPlan, Role } from '../../generator/plan/index.ts';
import {
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
    return shift === 0 ? field.name : `(${field.name} << ${u32(shift)})`;
  });
  return {
    bit: positionFunction(`piece_bit_${index}`, first.bits),
    put: putting(first.bits, width),
    lines: alternatives(terms),
  };
}

/** The end of a call whose last argument is `a | b | c`, in lines. */
function alternatives(terms: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (const [i, term] of terms.entries()) {
    const text = i + 1 < terms.length ? `${term} |` : `${term});`;
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

export function coderView(_role: Role, codec: CodecPlan): View {
  const { precondition, layout, headDim, radius, levels } = codec;
  const cell = cellOf(codec);
  const hadamard = precondition.kind === 'hadamard' ? precondition : null;
  const lanes = Math.min(WARP, 2 ** Math.ceil(Math.log2(cell.count)));
  /** A lane holds a whole cell from the load on: butterflies beyond it exchange registers between lanes. */
  const inRegisters =
    precondition.kind === 'none' || (hadamard?.order === 1 && cell.count === lanes);
  /** Where the losses of a level begin: those of all levels below stand before it. */
  const lossOffset = (level: number): string => u32(headDim - headDim / 2 ** (level - 1));
  const restBits = layout.storedBits % 8;
  return {
    cell: {
      size: String(cell.size),
      count: String(cell.count),
      roots: String(cell.size / 2 ** cell.levels),
      wide: cell.size % 8 === 0,
      levels: levels.slice(0, cell.levels).map(({ level }) => ({
        level: String(level),
        first: level === 1,
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
