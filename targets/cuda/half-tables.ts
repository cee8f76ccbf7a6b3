/**
 * How a lane decodes a cell of 16 coordinates in half precision: which codes it looks up together, and in what order
 * the factors are multiplied. A table that holds finished products saves look-ups, multiplications and roundings.
 */

import type { CodecPlan } from '../../generator/plan/index.ts';
import { bestHalfScale, directions } from '../../generator/target/index.ts';

export const CELL = 16;
/** An entry of a table takes 2^7 bytes: an index begins at that bit of an address. */
export const ENTRY_LOG2 = 7;
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
 * Signs of a quad that are no part of its index: `last` is the highest bit of the second pair's code, the sign of its
 * second coordinate; `first` the lowest one of the first pair's, the sign of its first coordinate.
 */
export interface SignsApart {
  readonly first: boolean;
  readonly last: boolean;
}

/**
 * Kinds of tables by what an entry holds: `quad` the four coordinates below a node of level 2, `left` and `right` its
 * first and last two; `pairs` those of two pairs, `pair` of one; `triple` the radii of a node's grandchildren, `node` of
 * its children. In float32, since all coordinates of a cell share what they are off by: `exact` the factors of both
 * children of a node, `above` the factor of one child of a node above the cell, `radius` a radius relative to the norm.
 */
export type TableKind =
  | 'quad'
  | 'left'
  | 'right'
  | 'pairs'
  | 'pair'
  | 'triple'
  | 'node'
  | 'exact'
  | 'above'
  | 'radius';

export interface Table {
  readonly name: string;
  readonly kind: TableKind;
  /** Of the highest code of an entry; 1 for pairs, 0 for radii. */
  readonly level: number;
  readonly bits: number;
  /** Two words an entry, in sixteen copies; else one word in 32 copies. An entry takes 128 bytes in any case. */
  readonly wide: boolean;
  readonly signs: SignsApart;
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
  /** `name = value · radius` in float32. */
  | {
      readonly kind: 'scale';
      readonly name: string;
      readonly value: string;
      readonly radius: string;
    }
  /** `name` is two float32 in the halves of a word. */
  | { readonly kind: 'round'; readonly name: string; readonly low: string; readonly high: string }
  /** `name = value · factor`, the factor one half of a word for both. */
  | {
      readonly kind: 'product';
      readonly name: string;
      readonly value: string;
      readonly factor: Half;
    };

/** A radius: in f16, or in float32 below the root of that number. */
type Radius = Half | { readonly float: string; readonly root: number };

/** A number in f16: half of a word, or a word that holds it twice. */
export interface Half {
  readonly word: string;
  readonly half: 'low' | 'high' | 'both';
}

export interface Strategy {
  readonly tables: readonly Table[];
  readonly steps: readonly Step[];
  /** Words that hold the cell's pairs, in order. */
  readonly pairs: readonly string[];
  /** Whether the radii of the cell's trees are needed in float32. */
  readonly floatRoots: boolean;
  /** Whether every second pair has its second coordinate in front, where its sign is reached without a shift. */
  readonly turned: boolean;
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
    case 'left':
    case 'right':
    case 'triple': {
      const below = distinct(flat(at(level - 1)));
      return distinct(flat(at(level)).flatMap((x) => below.map((y) => x * y)));
    }
    case 'exact':
    case 'above':
    case 'radius':
      return [];
  }
}

/** Where the fields of a joint index stand: side by side in the record, so that one cut takes them all. */
function sideBySide(fields: readonly Field[]): number[] | undefined {
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

/** Shifts and masks that cut an index out of a record: one of each for all that one shift or rotation reaches. */
function cutInstructions(
  fields: readonly Field[],
  parts: readonly Part[],
  isRows: boolean,
): number {
  const starts = fields.map(({ bits }) => bits[0]!);
  const isOneWord = new Set(starts.map((bit) => Math.floor(bit / 32))).size === 1;
  const turns = parts.map(({ skip, to }, i) => starts[i]! + skip - to);
  const cuts = new Set(isOneWord ? turns.map((turn) => (turn + 32) % 32) : turns);
  // Where an index stands in its word as in an address it takes no shift.
  const stays = isRows && fields[0]!.bits.every((bit) => (bit - starts[0]!) % 32 === 0);
  return [...cuts].reduce((sum, turn) => sum + (stays && turn % 32 === ENTRY_LOG2 ? 1 : 2), 0);
}

/** Bit of an address behind an index of eight bits, and of a word the sign of the f16 in its lower half. */
export const SIGN_BIT = 15;

const NO_SIGNS: SignsApart = { first: false, last: false };

/** Kinds whose entries take two words. */
const WIDE: ReadonlySet<TableKind> = new Set(['quad', 'pairs', 'triple', 'exact']);

/** Roundings to f16 on the way from a cell's root to a coordinate, beyond which the first ones are float32. */
const MOST_ROUNDINGS = 3;

/** What an entry that was looked up is called. */
const NAMES: Readonly<Record<Exclude<TableKind, 'above' | 'radius'>, string>> = {
  quad: 'quad',
  left: 'left',
  right: 'right',
  pairs: 'leaves',
  pair: 'leaf',
  triple: 'triple',
  node: 'node',
  exact: 'node',
};

/**
 * Cycles that a cell takes of a quarter of a multiprocessor: its issue slots, or the wavefronts of shared memory, of
 * which four quarters share one a cycle; what binds less still stands in the way at times. Beside decoding there is a
 * share of loads and softmax.
 */
export function cyclesOf({ instructions, wavefronts }: Strategy, { layout }: CodecPlan): number {
  const [issue, shared] = layout.id === 'rows/2' ? [9, 9] : [24, 12];
  const pipes = [instructions + issue, 4 * wavefronts + shared];
  return Math.max(...pipes) + Math.min(...pipes) / 4;
}

/** What tables may take. */
export interface Limits {
  /** Bits of an index. */
  readonly indexBits: number;
  /** All tables of a codec. */
  readonly bytes: number;
}

/** Chooses tables within the limits: those that take the fewest cycles; the smallest ones if none fit. */
export function strategyOf(codec: CodecPlan, { indexBits, bytes }: Limits, p: string): Strategy {
  const strategies = (['quads', 'branches', 'pairs'] as const).flatMap((leaves) =>
    [...new Set([indexBits, Math.min(indexBits, 8)])].flatMap((tripleBits) =>
      [indexBits, indexBits - 1, indexBits - 2].flatMap(
        (leafBits) => strategyBy(leaves, codec, { leafBits, tripleBits }, p) ?? [],
      ),
    ),
  );
  const fitting = strategies.filter((strategy) => strategy.tableBytes <= bytes);
  const least = (list: readonly Strategy[], of: (strategy: Strategy) => number): Strategy =>
    list.reduce((best, strategy) => (of(strategy) < of(best) ? strategy : best));
  return fitting.length > 0
    ? least(fitting, (strategy) => cyclesOf(strategy, codec))
    : least(strategies, (strategy) => strategy.tableBytes);
}

/** How level 1 is looked up, and the most bits of indices that hold its codes and of those of triples. */
function strategyBy(
  leaves: 'quads' | 'branches' | 'pairs',
  codec: CodecPlan,
  { leafBits, tripleBits }: { readonly leafBits: number; readonly tripleBits: number },
  p: string,
): Strategy | null {
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

  const tableOf = (
    kind: TableKind,
    level: number,
    parts: readonly Part[],
    signs: SignsApart = NO_SIGNS,
  ): Table => {
    const name = `${p}_${kind}${level < 2 ? '' : `_l${level}`}`;
    const shape = parts.map(({ width: w, to }) => ({ width: w, to }));
    const known = tables.find((each) => each.name === name);
    if (known !== undefined && JSON.stringify(known.parts) === JSON.stringify(shape)) return known;
    const wide = WIDE.has(kind);
    const table: Table = {
      name: known === undefined ? name : `${name}_${tables.length}`,
      kind,
      level,
      bits: parts.reduce((sum, part) => sum + part.width, 0) + (kind === 'above' ? 1 : 0),
      wide,
      signs,
      parts: shape,
      scale: bestHalfScale(magnitudes(codec, kind, level), SCALE_STEPS),
    };
    tables.push(table);
    return table;
  };
  /** The fields as one index: as they stand if they are side by side, else put together in the given order. */
  const partsOf = (list: readonly Field[], order = list.map((_, i) => i)): Part[] => {
    const offsets = sideBySide(list) ?? [];
    let next = 0;
    for (const i of offsets.length > 0 ? [] : order) {
      offsets[i] = next;
      next += list[i]!.width;
    }
    return list.map(({ level, node, width: w }, i) => {
      return { level, node, skip: 0, width: w, to: offsets[i]! };
    });
  };
  /** Codes of level 1, then their parent: it stands between two of them unless they are side by side. */
  const leafParts = (kind: TableKind, list: readonly Field[], signs: SignsApart): Part[] => {
    if (kind === 'right') return partsOf(list, [1, 0]);
    if (kind !== 'quad') return partsOf(list);
    const neighbours = sideBySide(list.slice(0, 2)) !== undefined;
    const parts = partsOf(list, neighbours ? [2, 0, 1] : [0, 2, 1]);
    const without = (child: number, skip: number): void => {
      const { to } = parts[child]!;
      parts.forEach((part, i) => {
        if (i === child) parts[i] = { ...part, skip, width: part.width - 1 };
        else if (part.to > to) parts[i] = { ...part, to: part.to - 1 };
      });
    };
    if (signs.first) without(0, 1);
    if (signs.last) without(1, 0);
    return parts;
  };
  const lookup = (
    kind: Exclude<TableKind, 'above' | 'radius'>,
    level: number,
    list: readonly Field[],
    signs: SignsApart = NO_SIGNS,
  ): string => {
    const parts = leafParts(kind, list, signs);
    const table = tableOf(kind, level, parts, signs);
    const top = list.at(-1)!;
    const name = `${NAMES[kind]}${level > 2 || NAMES[kind] === 'node' ? `_l${level}` : ''}_${top.node}`;
    steps.push({ kind: 'lookup', name, table, parts });
    lookups++;
    wavefronts += table.wide ? 2 : 1;
    instructions += 1 + cutInstructions(list, parts, codec.layout.id === 'rows/2');
    if (signs.first) instructions += 2;
    if (signs.last) {
      const last = parts[1]!;
      instructions += ENTRY_LOG2 + last.to + last.width === SIGN_BIT ? 1 : 2;
    }
    return name;
  };
  const product = (name: string, value: string, factor: Half): string => {
    steps.push({ kind: 'product', name, value, factor });
    instructions++;
    return name;
  };

  /** The codes of a node and of its children, where one look-up takes them. */
  const tripleOf = (level: number, node: number, to: number): Field[] | undefined => {
    if (level - 2 < to || level < 3 || 2 * width(level - 1) + width(level) > tripleBits) {
      return undefined;
    }
    const list = [field(level - 1, 2 * node), field(level - 1, 2 * node + 1), field(level, node)];
    return sideBySide(list) === undefined ? undefined : list;
  };
  /** Roundings of products on the way from a root to a node of level `to`. */
  const productsTo = (to: number): number => {
    let count = 0;
    for (let level = within; level > to; level -= tripleOf(level, 0, to) === undefined ? 1 : 2) {
      count++;
    }
    return count;
  };
  const halfOf = (radius: Radius): Half => {
    if ('word' in radius) return radius;
    return { word: rounded(`root_${radius.root}`, radius.float, radius.float), half: 'both' };
  };
  const rounded = (name: string, low: string, high: string): string => {
    steps.push({ kind: 'round', name, low, high });
    instructions++;
    return name;
  };
  const halves = (word: string): [Half, Half] => [
    { word, half: 'low' },
    { word, half: 'high' },
  ];

  // From a node of the given radius down to the nodes of level `to`, their radii in order.
  const descend = (level: number, node: number, radius: Radius, to: number): Half[] => {
    if (level === to) return [halfOf(radius)];
    const children = [2 * node, 2 * node + 1];
    const triple = tripleOf(level, node, to);
    if (triple !== undefined) {
      const half = halfOf(radius);
      const entry = lookup('triple', level, triple);
      const left = product(`radii_l${level - 2}_${2 * node}`, `${entry}.x`, half);
      const right = product(`radii_l${level - 2}_${2 * node + 1}`, `${entry}.y`, half);
      const four = [...halves(left), ...halves(right)];
      return four.flatMap((each, i) => descend(level - 2, 4 * node + i, each, to));
    }
    const name = `radii_l${level - 1}_${node}`;
    if ('word' in radius || level < 3) {
      const half = halfOf(radius);
      const both = product(name, lookup('node', level, [field(level, node)]), half);
      return halves(both).flatMap((each, i) => descend(level - 1, children[i]!, each, to));
    }
    const entry = lookup('exact', level, [field(level, node)]);
    const floats = ['x', 'y'].map((part, i) => {
      const child = `radius_l${level - 1}_${children[i]!}`;
      steps.push({ kind: 'scale', name: child, value: `${entry}.${part}`, radius: radius.float });
      instructions++;
      return child;
    });
    const goesOn =
      level - 1 > Math.max(to, 2) && tripleOf(level - 1, children[0]!, to) === undefined;
    const below: Radius[] = goesOn
      ? floats.map((float) => ({ float, root: radius.root }))
      : halves(rounded(name, floats[0]!, floats[1]!));
    return below.flatMap((each, i) => descend(level - 1, children[i]!, each, to));
  };

  // The radii of the cell's trees.
  const roots = CELL / 2 ** within;
  const rootOf = (root: number): Radius => {
    const above = depth > CELL_LEVELS;
    let radius = codec.radius.kind === 'log' ? 'norm' : `radius_${root}`;
    if (codec.radius.kind !== 'log' && !above) {
      return floatRoots ? { float: radius, root } : { word: radius, half: 'both' };
    }
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
    const float = { float: radius, root };
    return floatRoots ? float : halfOf(float);
  };

  const quadBits = within >= 2 ? 2 * width(1) + width(2) : Number.POSITIVE_INFINITY;
  const apart = Math.max(0, quadBits - leafBits);
  if (leaves === 'quads' && apart > (width(1) >= 2 ? 2 : 0)) return null;
  if (leaves === 'branches' && (within < 2 || width(1) + width(2) > leafBits)) return null;
  const signs: SignsApart = { last: apart >= 1, first: apart === 2 };
  const pairsFit = 2 * width(1) <= Math.min(leafBits, 8);

  const bottom = leaves === 'pairs' ? 1 : 2;
  const isFloat = codec.radius.kind === 'log' || depth > CELL_LEVELS;
  const roundings = (isFloat ? 1 : 0) + productsTo(Math.min(bottom, within)) + 1;
  const floatRoots = roundings > MOST_ROUNDINGS && tripleOf(within, 0, bottom) === undefined;
  const pairs: string[] = [];
  const halvesOf = (entry: string): [string, string] => [`${entry}.x`, `${entry}.y`];
  const belowQuad = (quad: number): [string, string] => {
    const [left, right, parent] = [field(1, 2 * quad), field(1, 2 * quad + 1), field(2, quad)];
    return leaves === 'quads'
      ? halvesOf(lookup('quad', 2, [left, right, parent], signs))
      : [lookup('left', 2, [left, parent]), lookup('right', 2, [right, parent])];
  };
  for (let root = 0; root < roots; root++) {
    if (leaves !== 'pairs') {
      const radii = descend(within, root, rootOf(root), 2);
      radii.forEach((radius, i) => {
        const quad = root * radii.length + i;
        belowQuad(quad).forEach((entry, child) => {
          pairs.push(product(`pair_${2 * quad + child}`, entry, radius));
        });
      });
      continue;
    }
    const radii = descend(within, root, rootOf(root), 1);
    let entries: [string, string] = ['', ''];
    radii.forEach((radius, i) => {
      const pair = root * radii.length + i;
      if (!pairsFit || radii.length < 2) {
        pairs.push(product(`pair_${pair}`, lookup('pair', 1, [field(1, pair)]), radius));
        return;
      }
      if (i % 2 === 0) {
        entries = halvesOf(lookup('pairs', 1, [field(1, pair), field(1, pair + 1)]));
      }
      pairs.push(product(`pair_${pair}`, entries[i % 2]!, radius));
    });
  }

  // Scales along the way to a coordinate: the same for all, as trees are balanced and tables serve levels.
  const scale = scaleAlong(tables, depth);
  return {
    tables,
    steps,
    pairs,
    floatRoots: floatRoots || depth > CELL_LEVELS,
    turned: leaves === 'quads',
    scale,
    lookups,
    wavefronts,
    instructions,
    tableBytes: tables.reduce((sum, table) => sum + 128 * 2 ** table.bits, 0),
  };
}

export const isBranch = (kind: TableKind): kind is 'left' | 'right' =>
  kind === 'left' || kind === 'right';

/** Each level is passed once, in one table: the product over the distinct ways in which levels are covered. */
function scaleAlong(tables: readonly Table[], depth: number): number {
  const covered = new Set<number>();
  let scale = 1;
  for (const table of tables) {
    if (table.kind === 'radius') continue;
    const spans =
      table.kind === 'quad' || table.kind === 'triple' || isBranch(table.kind)
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
