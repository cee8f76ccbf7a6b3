/**
 * How a lane decodes a cell of 16 coordinates in half precision: which codes it looks up together, and in what order
 * the factors are multiplied. A table that holds finished products saves look-ups, multiplications and roundings.
 */

import type { CodecPlan } from '../../generator/plan/index.ts';
import { bestHalfScale, directions } from '../../generator/target/index.ts';

export const CELL = 16;
/** Levels whose nodes lie within a cell. */
const CELL_LEVELS = 4;

/** A field of a cell's record: the code of a node (level ≥ 1), a radius (0) or the norm (−1). */
export interface Field {
  readonly level: number;
  /** Node within the cell, or block within it; of a level above the cell the cell's ancestor: 0. */
  readonly node: number;
  readonly width: number;
  /** First bit in the record, cell by cell. */
  readonly bits: readonly number[];
}

/** A part of an index: `width` bits of the code of `node` at `level`, from bit `to` of the index on. */
export interface Part {
  readonly level: number;
  readonly node: number;
  /** Lowest bits of the code that are left out. */
  readonly skip: number;
  readonly width: number;
  readonly to: number;
}

/**
 * Kinds of tables by what an entry holds: `quad` the four coordinates below a node of level 2, `pairs` those of two
 * pairs, `pair` of one; `triple` the radii of a node's grandchildren, `node` of its children. In float32, since all
 * coordinates of a cell share what they are off by: `above` the factor of one child of a node above the cell, `radius`
 * a radius relative to the norm.
 */
export type TableKind = 'quad' | 'pairs' | 'pair' | 'triple' | 'node' | 'above' | 'radius';

export interface Table {
  readonly name: string;
  readonly kind: TableKind;
  /** Of the highest code of an entry; 1 for pairs, 0 for radii. */
  readonly level: number;
  readonly bits: number;
  /** Two words an entry, in sixteen copies; else one word in 32 copies. An entry takes 128 bytes in any case. */
  readonly wide: boolean;
  /** Of quads: the lowest bit of the first code, the sign of the first coordinate, is no part of the index. */
  readonly signApart: boolean;
  /** Where the codes of an entry stand in its index, child by child, then the parent. */
  readonly parts: readonly { readonly width: number; readonly to: number }[];
  /** Factor in (0.5, 1] for which the entries round best to f16. */
  readonly scale: number;
}

/** One step of decoding, in order. */
export type Step =
  | {
      readonly kind: 'lookup';
      readonly name: string;
      readonly table: Table;
      readonly parts: readonly Part[];
    }
  /** Changes the sign of the first coordinate of `name` where the lowest bit of the code of `node` is set. */
  | { readonly kind: 'sign'; readonly name: string; readonly node: number }
  /** `name = radius · entry` in float32, the entry looked up in `table`. */
  | {
      readonly kind: 'factor';
      readonly name: string;
      readonly radius: string;
      readonly table: Table;
      readonly parts: readonly Part[];
      /** Of nodes above the cell: their level, one child of which is on the way to the cell. */
      readonly level: number;
    }
  /** `name` is a float32 in both halves of a word. */
  | { readonly kind: 'round'; readonly name: string; readonly value: string }
  /** `name = value · factor`, the factor one half of a word for both. */
  | {
      readonly kind: 'product';
      readonly name: string;
      readonly value: string;
      readonly factor: Half;
    };

/** A number in f16: half of a word, or a word that holds it twice. */
export interface Half {
  readonly word: string;
  readonly half: 'low' | 'high' | 'both';
}

export interface Strategy {
  /** Most bits of an index. */
  readonly indexBits: number;
  readonly tables: readonly Table[];
  readonly steps: readonly Step[];
  /** Words that hold the cell's pairs, in order. */
  readonly pairs: readonly string[];
  /** Product of the tables' scales that every coordinate passes. */
  readonly scale: number;
  readonly lookups: number;
  /** Wavefronts of shared memory a cell and warp. */
  readonly wavefronts: number;
  readonly instructions: number;
  readonly tableBytes: number;
}

export function fieldsOf(codec: CodecPlan): readonly Field[] {
  const { layout, depth, levels, radius } = codec;
  const cells = codec.headDim / CELL;
  const fields: Field[] = [];
  const each = (level: number, node: number, width: number, bit: (cell: number) => number) => {
    const bits = Array.from({ length: cells }, (_, cell) => bit(cell));
    fields.push({ level, node, width, bits });
  };
  if (layout.norm !== null) each(-1, 0, 16, () => layout.norm!);
  const roots = Math.max(1, CELL / 2 ** depth);
  const above = Math.max(0, depth - CELL_LEVELS);
  for (let root = 0; root < roots; root++) {
    each(
      0,
      root,
      radius.bits,
      (cell) => layout.radii[depth > CELL_LEVELS ? cell >> above : cell * roots + root]!,
    );
  }
  for (const { level, bits } of levels) {
    const nodes = Math.max(1, CELL / 2 ** level);
    const shift = Math.max(0, level - CELL_LEVELS);
    for (let node = 0; node < nodes; node++) {
      const codes = layout.codes[level - 1]!;
      each(
        level,
        node,
        bits,
        (cell) => codes[level > CELL_LEVELS ? cell >> shift : cell * nodes + node]!,
      );
    }
  }
  return fields;
}

/** Factors that are tried for a table. */
const SCALE_STEPS = 512;

/** Magnitudes of a table's entries, each distinct product once. */
function magnitudes(codec: CodecPlan, kind: TableKind, level: number): number[] {
  const at = (l: number) => directions(codec.levels[l - 1]!);
  const flat = (list: readonly (readonly number[])[]) => list.flat().map(Math.abs);
  const distinct = (numbers: readonly number[]) =>
    [...new Set(numbers)].filter((x) => x >= 2 ** -14);
  switch (kind) {
    case 'pair':
    case 'pairs':
    case 'node':
      return distinct(flat(at(level)));
    case 'quad':
    case 'triple': {
      const below = distinct(flat(at(level - 1)));
      return distinct(flat(at(level)).flatMap((x) => below.map((y) => x * y)));
    }
    case 'above':
    case 'radius':
      return []; // exact
  }
}

/** Where the fields of a joint index stand: side by side in the record, so that one cut takes them all. */
function sideBySide(fields: readonly Field[]): readonly number[] | undefined {
  const offsets = fields.map((field) =>
    field.bits.map((bit, cell) => bit - fields[0]!.bits[cell]!),
  );
  const fixed = offsets.map((list) => (list.every((x) => x === list[0]) ? list[0]! : Number.NaN));
  if (fixed.some(Number.isNaN)) return undefined;
  const order = fixed.map((_, i) => i).sort((a, b) => fixed[a]! - fixed[b]!);
  let next = fixed[order[0]!]!;
  const first = next;
  for (const i of order) {
    if (fixed[i] !== next) return undefined;
    next += fields[i]!.width;
  }
  return fixed.map((offset) => offset - first);
}

/** What an entry that was looked up is called. */
const NAMES: Readonly<Record<Exclude<TableKind, 'above' | 'radius'>, string>> = {
  quad: 'quad',
  pairs: 'leaves',
  pair: 'leaf',
  triple: 'triple',
  node: 'node',
};

/** Chooses tables whose indices have at most `indexBits` bits. */
export function strategyOf(codec: CodecPlan, indexBits: number, p: string): Strategy {
  const { depth, levels } = codec;
  const fields = fieldsOf(codec);
  const bits = levels.map((level) => level.bits);
  const width = (level: number): number => bits[level - 1]!;
  const field = (level: number, node: number): Field =>
    fields.find((each) => each.level === level && each.node === node)!;
  const tables: Table[] = [];
  const steps: Step[] = [];
  const within = Math.min(depth, CELL_LEVELS);
  let lookups = 0;
  let wavefronts = 0;
  let instructions = 0;

  const tableOf = (kind: TableKind, level: number, parts: readonly Part[]): Table => {
    const name = `${p}_${kind}${level < 2 ? '' : `_l${level}`}`;
    const shape = parts.map(({ width: w, to }) => ({ width: w, to }));
    const signApart = kind === 'quad' && parts[0]!.width < width(1);
    const known = tables.find((each) => each.name === name);
    if (known !== undefined && JSON.stringify(known.parts) === JSON.stringify(shape)) return known;
    const wide = kind === 'quad' || kind === 'pairs' || kind === 'triple';
    const table: Table = {
      name: known === undefined ? name : `${name}_${tables.length}`,
      kind,
      level,
      bits: parts.reduce((sum, part) => sum + part.width, 0) + (kind === 'above' ? 1 : 0),
      wide,
      signApart,
      parts: shape,
      scale: bestHalfScale(magnitudes(codec, kind, level), SCALE_STEPS),
    };
    tables.push(table);
    return table;
  };
  /** The fields as one index: as they stand if they are side by side, else put together. */
  const partsOf = (list: readonly Field[]): Part[] => {
    const offsets = sideBySide(list);
    let next = 0;
    return list.map(({ level, node, width: w }, i) => {
      const to = offsets === undefined ? next : offsets[i]!;
      next += w;
      return { level, node, skip: 0, width: w, to };
    });
  };
  const lookup = (
    kind: Exclude<TableKind, 'above' | 'radius'>,
    level: number,
    list: readonly Field[],
    signApart = false,
  ): string => {
    let parts = partsOf(list);
    if (signApart) {
      // The first code stands lowest: without its lowest bit all others move down by one.
      parts = parts.map((part, i) =>
        i === 0 ? { ...part, skip: 1, width: part.width - 1 } : { ...part, to: part.to - 1 },
      );
    }
    const table = tableOf(kind, level, parts);
    const top = list.at(-1)!;
    const name = `${NAMES[kind]}${level > 2 || kind === 'node' ? `_l${level}` : ''}_${top.node}`;
    steps.push({ kind: 'lookup', name, table, parts });
    lookups++;
    wavefronts += table.wide ? 2 : 1;
    const pieces = sideBySide(list) === undefined ? 2 : 1;
    instructions += 1 + 2 * pieces;
    if (signApart) {
      steps.push({ kind: 'sign', name, node: list[0]!.node });
      instructions += 2;
    }
    return name;
  };
  const product = (name: string, value: string, factor: Half): string => {
    steps.push({ kind: 'product', name, value, factor });
    instructions++;
    return name;
  };

  // From a node of the given radius down to the nodes of level `to`, their radii in order.
  const descend = (level: number, node: number, radius: Half, to: number): Half[] => {
    if (level === to) return [radius];
    const children = [2 * node, 2 * node + 1];
    const joint = 2 * width(level - 1 || 1) + width(level);
    if (level - 2 >= to && level >= 3 && joint <= indexBits) {
      const list = [
        field(level - 1, children[0]!),
        field(level - 1, children[1]!),
        field(level, node),
      ];
      if (sideBySide(list) !== undefined) {
        const entry = lookup('triple', level, list);
        const left = product(`radii_l${level - 2}_${2 * node}`, `${entry}.x`, radius);
        const right = product(`radii_l${level - 2}_${2 * node + 1}`, `${entry}.y`, radius);
        const four: Half[] = [
          { word: left, half: 'low' },
          { word: left, half: 'high' },
          { word: right, half: 'low' },
          { word: right, half: 'high' },
        ];
        return four.flatMap((half, i) => descend(level - 2, 4 * node + i, half, to));
      }
    }
    const entry = lookup('node', level, [field(level, node)]);
    const both = product(`radii_l${level - 1}_${node}`, entry, radius);
    return [
      ...descend(level - 1, children[0]!, { word: both, half: 'low' }, to),
      ...descend(level - 1, children[1]!, { word: both, half: 'high' }, to),
    ];
  };

  // The radii of the cell's trees.
  const roots = CELL / 2 ** within;
  const rootRadii: Half[] = [];
  for (let root = 0; root < roots; root++) {
    const above = depth > CELL_LEVELS;
    if (codec.radius.kind !== 'log' && !above) {
      rootRadii.push({ word: `radius_${root}`, half: 'both' });
      continue;
    }
    let radius = codec.radius.kind === 'log' ? 'norm' : `radius_${root}`;
    const factor = (kind: TableKind, level: number, name: string, list: readonly Field[]): void => {
      // A child's number stands below the code of the node above it.
      const parts = partsOf(list).map((part) => ({ ...part, to: part.to + (level > 0 ? 1 : 0) }));
      const table = tableOf(kind, level, parts);
      steps.push({ kind: 'factor', name, radius, table, parts, level });
      lookups++;
      wavefronts++;
      instructions += 4;
      radius = name;
    };
    if (codec.radius.kind === 'log') factor('radius', 0, `radius_${root}`, [field(0, root)]);
    for (let level = depth; level > CELL_LEVELS; level--) {
      factor('above', level, `radius_l${level - 1}`, [field(level, 0)]);
    }
    const word = `root_${root}`;
    steps.push({ kind: 'round', name: word, value: radius });
    instructions += 2;
    rootRadii.push({ word, half: 'both' });
  }

  const pairs: string[] = [];
  const quadBits = within >= 2 ? 2 * width(1) + width(2) : Number.POSITIVE_INFINITY;
  const signApart = quadBits === indexBits + 1 && width(1) >= 2;
  const quads = quadBits <= indexBits || signApart;
  const pairsFit = 2 * width(1) <= Math.min(indexBits, 8);
  for (let root = 0; root < roots; root++) {
    if (quads) {
      const radii = descend(within, root, rootRadii[root]!, 2);
      radii.forEach((radius, i) => {
        const quad = root * radii.length + i;
        const list = [field(1, 2 * quad), field(1, 2 * quad + 1), field(2, quad)];
        const entry = lookup('quad', 2, list, signApart);
        pairs.push(product(`pair_${2 * quad}`, `${entry}.x`, radius));
        pairs.push(product(`pair_${2 * quad + 1}`, `${entry}.y`, radius));
      });
      continue;
    }
    const radii = descend(within, root, rootRadii[root]!, 1);
    let entry = '';
    radii.forEach((radius, i) => {
      const pair = root * radii.length + i;
      if (!pairsFit || radii.length < 2) {
        pairs.push(product(`pair_${pair}`, lookup('pair', 1, [field(1, pair)]), radius));
        return;
      }
      if (i % 2 === 0) entry = lookup('pairs', 1, [field(1, pair), field(1, pair + 1)]);
      pairs.push(product(`pair_${pair}`, `${entry}.${i % 2 === 0 ? 'x' : 'y'}`, radius));
    });
  }

  // Scales along the way to a coordinate: the same for all, as trees are balanced and tables serve levels.
  const scale = scaleAlong(tables, depth);
  return {
    indexBits,
    tables,
    steps,
    pairs,
    scale,
    lookups,
    wavefronts,
    instructions,
    tableBytes: tables.reduce((sum, table) => sum + 128 * 2 ** table.bits, 0),
  };
}

/** Each level is passed once, in one table: the product over the distinct ways in which levels are covered. */
function scaleAlong(tables: readonly Table[], depth: number): number {
  const covered = new Set<number>();
  let scale = 1;
  for (const table of tables) {
    if (table.kind === 'radius') continue;
    const spans =
      table.kind === 'quad' || table.kind === 'triple'
        ? [table.level, table.level - 1]
        : [table.level];
    if (spans.every((level) => covered.has(level))) continue;
    for (const level of spans) covered.add(level);
    scale *= table.scale;
  }
  for (let level = 1; level <= depth; level++) {
    if (!covered.has(level)) throw new Error(`no table has level ${level}`);
  }
  return scale;
}
