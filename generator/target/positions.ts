/** Where fields stand, as a function of their index: a formula where there is one, else a table. */

import { u32, wordEntries } from './literals.ts';
import type { View } from './types.ts';

/** `stride·⌊i / run⌋ + offsets[i mod run]` for i below `end`. */
interface Piece {
  readonly end: number;
  readonly run: number;
  readonly stride: number;
  readonly offsets: readonly number[];
}

/** Offsets that a formula may look up, before a table of all positions is the simpler thing. */
const MOST_OFFSETS = 16;

/**
 * A function `name(i)` of unsigned numbers that gives `positions[i]`, in the words that kernel languages share. Offsets
 * of a run that are no even steps stand in a table of their own beside it.
 */
export function positionFunction(name: string, positions: readonly number[]): View {
  const pieces = piecesOf(positions);
  const whole: readonly Piece[] = [
    { end: positions.length, run: positions.length, stride: 0, offsets: positions },
  ];
  const chosen = pieces.every(({ offsets }) => isEven(offsets) || offsets.length <= MOST_OFFSETS)
    ? pieces
    : whole;
  const tables: View[] = [];
  const cases = chosen.map((piece, at) => {
    const first = at === 0 ? 0 : chosen[at - 1]!.end;
    const index = first === 0 ? 'i' : `(i - ${u32(first)})`;
    const table = `${name}_list${chosen.length > 1 ? `_${at}` : ''}`;
    if (!isEven(piece.offsets)) {
      tables.push({
        name: table,
        length: String(piece.offsets.length),
        entries: wordEntries(piece.offsets),
      });
    }
    return {
      last: at + 1 === chosen.length,
      end: u32(piece.end),
      value: formula(piece, index, table),
    };
  });
  return { name, tables, cases };
}

/** Whether steps from offset to offset are all the same. */
function isEven(offsets: readonly number[]): boolean {
  const step = (offsets[1] ?? 0) - offsets[0]!;
  return offsets.every((offset, i) => offset === offsets[0]! + i * step) && step >= 0;
}

function formula(piece: Piece, index: string, table: string): string {
  const { run, stride, offsets, end } = piece;
  const single = run >= end;
  const within = single ? index : `${index} % ${u32(run)}`;
  const terms: string[] = [];
  if (!single && stride !== 0) terms.push(`${u32(stride)} * (${index} / ${u32(run)})`);
  if (!isEven(offsets)) {
    terms.push(`${table}[${within}]`);
    return terms.join(' + ');
  }
  const step = offsets.length > 1 ? offsets[1]! - offsets[0]! : run === 1 ? 0 : stride;
  if (step !== 0 && run > 1) {
    terms.push(single ? `${u32(step)} * ${index}` : `${u32(step)} * (${within})`);
  }
  if (offsets[0] !== 0 || terms.length === 0) terms.unshift(u32(offsets[0]!));
  return terms.join(' + ');
}

/** The fewest pieces: one run over all, else runs and what is left over behind them. */
function piecesOf(positions: readonly number[]): readonly Piece[] {
  const all = pieceOf(positions, positions.length);
  if (all !== undefined) return [all];
  // A record is whole groups, then a tail: the longest front that one formula describes.
  for (let end = positions.length - 1; end > 0; end--) {
    const front = pieceOf(positions.slice(0, end), end);
    if (front === undefined || front.run > end / 2) continue;
    const back = positions.slice(end);
    const rest = pieceOf(back, back.length) ?? tableOf(back);
    return [front, { ...rest, end: positions.length }];
  }
  return [tableOf(positions)];
}

function tableOf(positions: readonly number[]): Piece {
  return { end: positions.length, run: positions.length, stride: 0, offsets: positions };
}

function pieceOf(positions: readonly number[], end: number): Piece | undefined {
  const candidates = isEven(positions) ? [positions.length] : [2, 4, 8, 16, 32];
  for (const run of candidates) {
    if (run > positions.length || (run > positions.length / 2 && run !== positions.length))
      continue;
    const offsets = positions.slice(0, run);
    const stride = run < positions.length ? positions[run]! - positions[0]! : 0;
    if (stride < 0) continue;
    const fits = positions.every(
      (position, i) => position === stride * Math.floor(i / run) + offsets[i % run]!,
    );
    if (fits) return { end, run, stride, offsets };
  }
  return undefined;
}
