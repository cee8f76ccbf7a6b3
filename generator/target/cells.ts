/**
 * A cell is what one invocation decodes at a time: 16 coordinates (4 or 2 where 16 does not divide the head dimension)
 * and the codes above them. Codes of a cell that keep their distance from cell to cell form a stream: its bits are
 * loaded as words, and its codes cut out of them at fixed places.
 */

import type { CodecPlan } from '../plan/index.ts';
import { u32 } from './literals.ts';
import { positionFunction } from './positions.ts';
import type { View } from './types.ts';

export interface CellShape {
  /** Coordinates of a cell. */
  readonly size: number;
  /** Cells of a vector. */
  readonly count: number;
  /** Levels whose nodes lie within a cell. */
  readonly levels: number;
  /** Nodes of the highest of them in a cell: more than one where trees are smaller than a cell. */
  readonly roots: number;
}

export function cellShape(codec: CodecPlan): CellShape {
  const { headDim, depth } = codec;
  const size = headDim % 16 === 0 ? 16 : headDim % 4 === 0 ? 4 : 2;
  const levels = Math.min(depth, Math.log2(size));
  return { size, count: headDim / size, levels, roots: size / 2 ** levels };
}

/** A code of a cell, or (level 0) a radius of it or its code: the node within the cell, and its width. */
interface Field {
  readonly level: number;
  readonly node: number;
  readonly width: number;
  /** First bit in the record, cell by cell. */
  readonly bits: readonly number[];
}

interface Stream {
  readonly name: string;
  readonly fields: readonly Field[];
  /** First bit of the stream, cell by cell. */
  readonly from: readonly number[];
  /** Bits from there to the last field's end. */
  readonly width: number;
}

function fieldsOf(codec: CodecPlan, shape: CellShape): readonly Field[] {
  const fields: Field[] = [];
  if (ownsRadii(codec, shape)) {
    for (let node = 0; node < shape.roots; node++) {
      const bits = Array.from(
        { length: shape.count },
        (_, cell) => codec.layout.radii[cell * shape.roots + node]!,
      );
      fields.push({ level: 0, node, width: codec.radius.bits, bits });
    }
  }
  for (let level = 1; level <= shape.levels; level++) {
    const nodes = shape.size / 2 ** level;
    for (let node = 0; node < nodes; node++) {
      const bits = Array.from(
        { length: shape.count },
        (_, cell) => codec.layout.codes[level - 1]![cell * nodes + node]!,
      );
      fields.push({ level, node, width: codec.levels[level - 1]!.bits, bits });
    }
  }
  return fields;
}

/** Whether no tree is larger than a cell, so that its radii are read with its codes. */
function ownsRadii({ depth }: CodecPlan, { levels }: CellShape): boolean {
  return depth === levels;
}

/** Most bits of the joint index of two codes of a quad. */
const LEAF_BITS = 8;

/**
 * What coordinates are looked up by: a code of level 1, two such codes, or one with the level-2 code above it, which
 * leaves nothing to look up at level 2.
 */
export type LeafIndex = 'code' | 'pair' | 'branch';

/** The joint index whose codes stand side by side in every quad, few enough for one look-up; else single codes. */
export function leafIndex(codec: CodecPlan): LeafIndex {
  const { size, levels } = cellShape(codec);
  const [b1, b2] = codec.levels.map(({ bits }) => bits) as [number, number?];
  const { place } = placesOf(codec);
  const quads = Array.from({ length: Math.floor(size / 4) }, (_, quad) => quad);
  if (quads.length === 0) return 'code';
  if (levels >= 2 && b1 + b2! <= LEAF_BITS) {
    if (quads.every((quad) => !branchesOf(place, quad).includes(null))) return 'branch';
  }
  if (2 * b1 <= LEAF_BITS && quads.every((quad) => pairOf(place, quad) !== null)) return 'pair';
  return 'code';
}

/** Most bits of the joint index of the two codes of level 3 and the one of level 4. */
const JOINT_BITS = 6;

/** Whether a cell's codes of levels 3 and 4 stand side by side, few enough for one look-up. */
export function canJoin(codec: CodecPlan): boolean {
  const shape = cellShape(codec);
  if (shape.levels !== 4) return false;
  const [, , b3, b4] = codec.levels.map(({ bits }) => bits) as [number, number, number, number];
  if (2 * b3 + b4 > JOINT_BITS) return false;
  const [, , l3, l4] = codec.layout.codes as readonly (readonly number[])[];
  return l4!.every((bit, i) => l3![2 * i + 1] === l3![2 * i]! + b3 && bit === l3![2 * i + 1]! + b3);
}

/** Fields that lie farther apart than this go to streams of their own. */
const FARTHEST = 128;

function streamsOf(fields: readonly Field[]): readonly Stream[] {
  const left = [...fields].sort((a, b) => a.bits[0]! - b.bits[0]!);
  const streams: Stream[] = [];
  while (left.length > 0) {
    const first = left[0]!;
    const together: Field[] = [];
    for (const field of left) {
      const distance = field.bits[0]! - first.bits[0]!;
      const fixed = field.bits.every((bit, cell) => bit - first.bits[cell]! === distance);
      if (fixed && distance < FARTHEST) together.push(field);
    }
    for (const field of together) left.splice(left.indexOf(field), 1);
    const last = together.at(-1)!;
    streams.push({
      name: streams.length === 0 ? 'codes' : `codes_${streams.length}`,
      fields: together,
      from: first.bits,
      width: last.bits[0]! + last.width - first.bits[0]!,
    });
  }
  return streams;
}

/** Bits of what a layout's streams are loaded in: a record's words, a tile's bytes. */
const unitOf = ({ layout }: CodecPlan): number => (layout.id === 'rows/2' ? 32 : 8);

/** A code, or several that one cut takes, in the words of its stream. */
interface Place {
  readonly name: string;
  /** First bit. */
  readonly at: number;
  readonly width: number;
  /** Whether it goes on at the beginning of the word that it begins in. */
  readonly around?: boolean;
}

type PlaceOf = (level: number, node: number) => Place;

/** The streams of a cell, and where its codes are in them. */
function placesOf(codec: CodecPlan): { streams: readonly Stream[]; place: PlaceOf } {
  const streams = streamsOf(fieldsOf(codec, cellShape(codec)));
  const unit = unitOf(codec);
  const place: PlaceOf = (level, node) => {
    const isIt = (field: Field): boolean => field.level === level && field.node === node;
    const stream = streams.find(({ fields }) => fields.some(isIt))!;
    const field = stream.fields.find(isIt)!;
    // A stream that is not moved begins within its first word.
    const moved = needsFunnel(stream, unit) ? 0 : stream.from[0]! % unit;
    return {
      name: stream.name,
      at: field.bits[0]! - stream.from[0]! + moved,
      width: field.width,
    };
  };
  return { streams, place };
}

/** Two codes as one, the first in the lower bits: side by side, or at the end and the beginning of one word. */
function joinPlaces(first: Place, second: Place): Place | null {
  const end = first.at + first.width;
  const around = end % 32 === 0 && second.at === end - 32;
  if (first.name !== second.name || !(second.at === end || around)) return null;
  return { ...first, width: first.width + second.width, around };
}

/** Both level-1 codes of a quad. */
const pairOf = (place: PlaceOf, quad: number): Place | null =>
  joinPlaces(place(1, 2 * quad), place(1, 2 * quad + 1));

/** Of a quad: the first level-1 code with the level-2 code, the level-2 code with the second level-1 code. */
const branchesOf = (place: PlaceOf, quad: number): readonly [Place | null, Place | null] => [
  joinPlaces(place(1, 2 * quad), place(2, quad)),
  joinPlaces(place(2, quad), place(1, 2 * quad + 1)),
];

/**
 * What a target's `cell` partial is filled from.
 *
 * @param p first part of every name: the role
 * @param join whether codes that stand side by side are looked up at once
 */
export function cellView(codec: CodecPlan, p: string, join: boolean): View {
  const shape = cellShape(codec);
  const { size, levels, roots } = shape;
  const unit = unitOf(codec);
  const { streams, place } = placesOf(codec);
  const views = streams.map((stream) => streamView(stream, `${p}_${stream.name}_bit`, codec));
  const code = (level: number, node: number): string => cut(place(level, node));

  const leaf = join ? leafIndex(codec) : 'code';
  const branches = leaf === 'branch';
  const joint = join && canJoin(codec);
  const upper: View[] = [];
  for (let level = joint ? 2 : levels; level >= (branches ? 3 : 2); level--) {
    for (let node = 0; node < size / 2 ** level; node++) {
      upper.push({
        level: String(level),
        left: `radius_l${level - 1}_${2 * node}`,
        right: `radius_l${level - 1}_${2 * node + 1}`,
        pair: `pair_l${level}_${node}`,
        split: level > 2,
        code: code(level, node),
        // The factor of a root is 1: what it is multiplied with comes at the end.
        factor: level === levels ? '' : `radius_l${level}_${node}`,
      });
    }
  }
  const parts = Array.from({ length: Math.max(1, size / 4) }, (_, part) => {
    const pairs = size >= 4 ? [2 * part, 2 * part + 1] : [part];
    const codes = leafCodes(place, leaf, part, pairs);
    return {
      index: String(part),
      codes,
      single: codes.length === 1,
      factor: leafFactor(part, levels, branches),
      /** Radii of the trees that the part's coordinates belong to, where a cell has several. */
      roots:
        roots > 1
          ? pairs
              .flatMap((node) => [2 * node, 2 * node + 1])
              .map((coordinate) => `root_${Math.floor(coordinate / 2 ** levels)}`)
              .join(', ')
          : '',
    };
  });
  return {
    streams: views,
    upper,
    parts,
    branches,
    joint,
    jointCode: joint
      ? cut({ ...place(3, 0), width: 2 * codec.levels[2]!.bits + codec.levels[3]!.bits })
      : '',
    jointRadii: joint
      ? ['x', 'y', 'z', 'w'].map((part, node) => ({ name: `radius_l2_${node}`, part }))
      : [],
    width: size >= 4 ? '4' : '2',
    size: String(size),
    cells: String(shape.count),
    partCount: String(parts.length),
    roots: Array.from({ length: roots }, (_, root) => ({
      index: String(root),
      code: ownsRadii(codec, shape) ? code(0, root) : '',
      bit: u32(2 ** root),
    })),
    single: roots === 1,
    rootLog2: String(levels),
    ancestors: codec.levels.slice(levels).map(({ level, bits }) => ({
      level: String(level),
      field: codec.layout.codes[level - 1]!.some((bit) => (bit % unit) + bits > unit)
        ? `${p}_field`
        : `${p}_field_within`,
      mask: u32(2 ** bits - 1),
      node: `cell >> ${u32(level - Math.log2(size))}`,
      /** Which child of that node the path to the cell goes through. */
      child: `(cell >> ${u32(level - Math.log2(size) - 1)}) & 1u`,
    })),
    rootBlock: `cell >> ${u32(Math.max(0, codec.depth - Math.log2(size)))}`,
    ownsRadii: ownsRadii(codec, shape),
  };
}

/** The look-ups that a part's coordinates take, in turn. */
function leafCodes(
  place: PlaceOf,
  leaf: LeafIndex,
  part: number,
  pairs: readonly number[],
): readonly { table: string; code: string }[] {
  if (leaf === 'pair') return [{ table: 'l1', code: cut(pairOf(place, part)!) }];
  if (leaf === 'branch') {
    const [left, right] = branchesOf(place, part);
    return [
      { table: 'left', code: cut(left!) },
      { table: 'right', code: cut(right!) },
    ];
  }
  return pairs.map((node) => ({ table: 'l1', code: cut(place(1, node)) }));
}

/** What the looked-up coordinates of a part are multiplied with, under a root of 1. */
function leafFactor(part: number, levels: number, branches: boolean): string {
  if (branches) return levels === 2 ? '' : ` * radius_l2_${part}`;
  // Both radii of the node above, each for its two coordinates.
  return levels === 1 ? '' : ` * pair_l2_${part}.xxyy`;
}

function needsFunnel(stream: Stream, unit: number): boolean {
  const phase = stream.from[0]! % unit;
  return stream.from.some((bit) => bit % unit !== phase);
}

/** A place's bits, cut out of words `name_0`, `name_1` … */
function cut({ name, at, width, around = false }: Place): string {
  const word = Math.floor(at / 32);
  const shift = at % 32;
  const mask = `${u32(2 ** width - 1)}`;
  const low = shift === 0 ? `${name}_${word}` : `(${name}_${word} >> ${u32(shift)})`;
  if (shift + width === 32) return shift === 0 ? low : `${name}_${word} >> ${u32(shift)}`;
  if (shift + width < 32) return `${low} & ${mask}`;
  const next = around ? word : word + 1;
  return `(${low} | (${name}_${next} << ${u32(32 - shift)})) & ${mask}`;
}

function streamView(stream: Stream, bitOf: string, codec: CodecPlan): View {
  const { layout } = codec;
  const rows = layout.id === 'rows/2';
  const unit = unitOf(codec);
  /** Whether in some cell a word or byte lies behind the last whole one of the record. */
  const past = (at: number): boolean =>
    stream.from.some((bit) => Math.floor(bit / unit) + at >= Math.floor(layout.storedBits / unit));
  const funnel = needsFunnel(stream, unit);
  const phase = stream.from[0]! % unit;
  const last = stream.width + (funnel ? 0 : phase);
  const words = Math.ceil(last / 32);
  // What a funnel moves may begin at any bit of its first word or byte.
  const greatest = Math.max(...stream.from.map((bit) => bit % unit));
  const loaded = funnel ? greatest + stream.width : last;
  const raw = Math.ceil(loaded / 32);
  return {
    name: stream.name,
    bit: positionFunction(bitOf, stream.from),
    funnel,
    rows,
    words: Array.from({ length: words }, (_, i) => ({
      index: String(i),
      next: i + 1 < raw ? `${stream.name}_raw_${i + 1}` : '0u',
    })),
    raw: Array.from({ length: raw }, (_, i) => ({
      name: `${stream.name}_${funnel ? 'raw_' : ''}${i}`,
      at: i === 0 ? '' : ` + ${u32(i)}`,
      past: rows && past(i),
      // Of tiles: the bytes that make up the word.
      bytes: Array.from({ length: Math.min(4, Math.ceil(loaded / 8) - 4 * i) }, (_, byte) => ({
        at: 4 * i + byte === 0 ? '' : ` + ${u32(4 * i + byte)}`,
        past: !rows && past(4 * i + byte),
        word: 4 * i + byte === 0 ? '' : ` + ${u32(8 * (4 * i + byte))}`,
        shift: byte === 0 ? '' : ` << ${u32(8 * byte)}`,
        open: byte === 0 ? '' : '(',
        close: byte === 0 ? '' : ')',
      })),
    })),
  };
}
