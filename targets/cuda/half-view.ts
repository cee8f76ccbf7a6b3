/** Attention in half precision: which formats have it, its tables, and the lines that decode a cell. */

import { type CodecPlan, type Plan, ROLES, type Role } from '../../generator/plan/index.ts';
import { floatLiteral, u32, type View } from '../../generator/target/index.ts';
import {
  CELL,
  cyclesOf,
  ENTRY_LOG2,
  type Half,
  isBranch,
  type Limits,
  type Step,
  type Strategy,
  strategyOf,
  type Table,
} from './half-tables.ts';
import {
  bothHalves,
  type CellWords,
  cellWords,
  halfBits,
  indexOf,
  wordsView,
} from './half-words.ts';

/** Least head dimension: a cell of 16 coordinates a lane leaves most lanes idle below it. */
const LEAST_DIM = 48;

/** Tokens of a step of a warp. */
export const stepTokens = (plan: Plan): number =>
  plan.key.layout.unitTokens === 32 || plan.value.layout.unitTokens === 32 ? 32 : 16;

/** Why this plan attends in float although half was asked for, or null. */
export function noHalf(plan: Plan): string | null {
  for (const role of ROLES) {
    const { headDim, radius } = plan[role];
    if (headDim % CELL !== 0) return `${role}: 16 does not divide head dimension ${headDim}`;
    if (headDim < LEAST_DIM) return `${role}: head dimension ${headDim} is below ${LEAST_DIM}`;
    if (radius.kind === 'f32' || radius.kind === 'bf16') {
      return `${role}: ${radius.kind} radii exceed the range of f16`;
    }
  }
  if (plan.pageTokens % stepTokens(plan) !== 0) {
    return `${stepTokens(plan)} does not divide the ${plan.pageTokens} tokens of a page`;
  }
  if (versionsOf(plan).length === 0) return 'the tables of its codebooks exceed shared memory';
  return null;
}

/** What tables take at most: they are filled by every block. */
const MOST_TABLE_BYTES = 180 * 1024;

/**
 * Tables by the shared memory that a block of some devices has (docs/cuda.md): each kernel is emitted once for each that
 * differs.
 */
export const VERSIONS: readonly {
  readonly name: string;
  readonly indexBits: number;
  readonly blockBytes: number;
}[] = [
  { name: 'joint10', indexBits: 10, blockBytes: 227 * 1024 },
  { name: 'joint9', indexBits: 9, blockBytes: 99 * 1024 },
  { name: 'joint8', indexBits: 8, blockBytes: 64 * 1024 },
];

export function halfView(plan: Plan): View {
  const half = plan.arithmetic.cuda === 'half' && noHalf(plan) === null;
  if (!half) return { half: false };
  const same = plan.key.formatHash === plan.value.formatHash;
  const distinct: readonly Role[] = same ? ['key'] : ROLES;
  const words = new Map(ROLES.map((role) => [role, cellWords(plan[role])]));
  const quads = quadsAtOnce(plan);
  return {
    half: true,
    keyRows: plan.key.layout.id === 'rows/2',
    valueRows: plan.value.layout.id === 'rows/2',
    halfStep: String(stepTokens(plan)),
    halfWarps: String(blockOf(plan).warps),
    halfStridedWarps: blockOf(plan).warps === 16 ? '12' : '8',
    halfAhead: String(blockOf(plan).ahead),
    halfSlots: String(HANDED_OVER),
    halfQuads: String(quads),
    halfParts: String(Math.ceil(plan.queryGroup / (4 * quads))),
    halfCodecs: distinct.map((role) => ({
      role,
      words: wordsView(plan[role], words.get(role)!),
      rows: plan[role].layout.id === 'rows/2',
      tiles: plan[role].layout.id !== 'rows/2',
      hasRest: plan[role].layout.storedBits % 8 !== 0,
    })),
    halfVersions: versionsOf(plan).map(({ name, strategies }) => ({
      name,
      same,
      tableEntries: distinct
        .flatMap((role) => strategies[role].tables.map(({ bits }) => String(2 ** bits)))
        .join(' + '),
      tables: distinct.flatMap((role) => tableViews(role, strategies[role])),
      codecs: distinct.map((role) => ({
        role,
        scale: floatLiteral(Math.fround(strategies[role].scale)),
        ...decodeView(plan[role], strategies[role], words.get(role)!),
        log: plan[role].radius.kind === 'log',
        turned: String(strategies[role].turned),
      })),
    })),
  };
}

/** A block: its warps, and shared memory beside the tables. */
export function blockOf(plan: Plan): {
  readonly warps: number;
  /** Whether words are loaded a step before they are needed. */
  readonly ahead: boolean;
  readonly sumBytes: number;
} {
  const words = new Map(ROLES.map((role) => [role, cellWords(plan[role])]));
  const quads = quadsAtOnce(plan);
  const { warps, ahead } = warpsOf(plan, words, quads);
  const cells = plan.value.headDim / CELL;
  const sums = quads * Math.ceil(cells / (cells <= 4 ? 4 : 8)) * 16 * 32;
  return {
    warps,
    ahead,
    sumBytes:
      4 *
      (2 * warps * 4 * quads + 8 * quads + 8 + HANDED_OVER * sums + 2 * quads * plan.key.headDim),
  };
}

/** Warps that hand over their sums at a time. */
const HANDED_OVER = 4;

/** Four queries each; large dimensions leave registers for one. */
function quadsAtOnce(plan: Plan): number {
  const large = plan.value.headDim > 128 || plan.key.headDim > 128;
  return plan.queryGroup <= 4 || large ? 1 : 2;
}

/** Registers of a thread that blocks of 16, 12 and 8 warps leave, less what the estimate may be short of. */
const REGISTERS = { 16: 132, 12: 177, 8: 212 } as const;

/** Warps of a block: as many as registers allow, of which a multiprocessor has 65,536. */
function warpsOf(
  plan: Plan,
  words: ReadonlyMap<Role, CellWords>,
  quads: number,
): { readonly warps: 16 | 12 | 8; readonly ahead: boolean } {
  const step = stepTokens(plan);
  const keyCells = Math.ceil(plan.key.headDim / CELL / 4);
  const valueCells = plan.value.headDim / CELL;
  const few = valueCells <= 4;
  const perValue = Math.ceil(valueCells / (few ? 4 : 8));
  const tiles = ROLES.some((role) => plan[role].layout.id === 'tiles32/1');
  const needed = (keysHeld: number, valuesHeld: number): number =>
    (tiles ? 74 : 68) +
    (keyCells > 2 || perValue > 1 ? 6 : 0) +
    (plan.queryGroup > 4 * quads ? 4 : 0) +
    quads * (8 * keyCells + 16 * perValue + 8 + (step * 3) / 8) +
    (step / 8) * keysHeld * words.get('key')!.count +
    (step / 8) * (few ? 1 : 2) * valuesHeld * words.get('value')!.count;
  const ahead = needed(keyCells, perValue);
  if (ahead <= REGISTERS[16]) return { warps: 16, ahead: true };
  if (ahead <= REGISTERS[12]) return { warps: 12, ahead: true };
  if (ahead <= REGISTERS[8]) return { warps: 8, ahead: true };
  return { warps: needed(1, 1) <= REGISTERS[12] ? 12 : 8, ahead: false };
}

export interface Version {
  readonly name: string;
  readonly strategies: Readonly<Record<Role, Strategy>>;
}

/** What a version must save, as a share, for its larger tables to be worth it. */
const WORTH = 0.03;

/** Cycles that a cell of keys and one of values take. */
export const cyclesOfVersion = ({ strategies }: Version, plan: Plan): number =>
  cyclesOf(strategies.key, plan.key) + cyclesOf(strategies.value, plan.value);

/** Bytes of shared memory for tables: equal formats share them. */
export function tableBytesOf({ strategies }: Version, plan: Plan): number {
  const { key, value } = strategies;
  return plan.key.formatHash === plan.value.formatHash
    ? key.tableBytes
    : key.tableBytes + value.tableBytes;
}

/**
 * The versions of the kernel, the fastest first: each has larger tables than the next one and is worth them. A launcher
 * takes the first one that a block of its device has room for.
 */
export function versionsOf(plan: Plan): readonly Version[] {
  const versions: Version[] = [];
  const shares = plan.key.formatHash === plan.value.formatHash ? 1 : 2;
  const { sumBytes } = blockOf(plan);
  for (const { name, indexBits, blockBytes } of [...VERSIONS].reverse()) {
    const most = Math.min(MOST_TABLE_BYTES, blockBytes - sumBytes);
    const limits: Limits = { indexBits, bytes: most / shares };
    const version = {
      name,
      strategies: {
        key: strategyOf(plan.key, limits, 'key'),
        value: strategyOf(plan.value, limits, 'value'),
      },
    };
    const before = versions[0];
    const bytes = tableBytesOf(version, plan);
    if (bytes > MOST_TABLE_BYTES) continue;
    if (
      before !== undefined &&
      cyclesOfVersion(version, plan) >= (1 - WORTH) * cyclesOfVersion(before, plan)
    ) {
      continue;
    }
    versions.unshift(version);
  }
  return versions;
}

function tableViews(role: Role, strategy: Strategy): View[] {
  return strategy.tables.map((table) => ({
    role,
    name: table.name,
    wide: table.wide,
    isChild: table.kind === 'above',
    isFloat: table.kind === 'exact' || table.kind === 'above' || table.kind === 'radius',
    word: wordOf(table),
    copies: table.wide ? '16' : '32',
    entries: String(2 ** table.bits),
    scale: floatLiteral(Math.fround(table.scale)),
    what: whatOf(table),
    ...entryView(role, table),
  }));
}

function wordOf(table: Table): string {
  if (table.kind === 'above' || table.kind === 'radius') return 'float';
  if (table.kind === 'exact') return 'float2';
  return table.wide ? 'uint2' : 'uint32_t';
}

function whatOf(table: Table): string {
  switch (table.kind) {
    case 'quad':
      return `four coordinates below a node of level 2${positiveOf(table)}`;
    case 'left':
      return 'the first two coordinates below a node of level 2';
    case 'right':
      return 'the last two coordinates below a node of level 2';
    case 'pairs':
      return 'two pairs of coordinates';
    case 'pair':
      return 'a pair of coordinates';
    case 'triple':
      return `radii at level ${table.level - 2} below a node of level ${table.level}`;
    case 'node':
      return `radii below a node of level ${table.level}`;
    case 'exact':
      return `radii below a node of level ${table.level}, in float32`;
    case 'above':
      return `the radius of one child of a node of level ${table.level}`;
    case 'radius':
      return 'a radius relative to the norm';
  }
}

/** Which coordinates of a quad have their signs apart. */
function positiveOf({ signs }: Table): string {
  if (signs.first) return ', the outer two positive';
  return signs.last ? ', the last one positive' : '';
}

/** Expressions of an entry's two or four numbers, from its index e. */
function entryView(role: Role, table: Table): View {
  const code = (i: number): string => {
    const { width, to } = table.parts[i]!;
    const low = `(e >> ${u32(to)}) & ${u32(2 ** width - 1)}`;
    // The lowest bit of the first code may be no part of the index.
    return table.signs.first && i === 0 ? `((${low}) << 1u)` : `(${low})`;
  };
  const leaf = (i: number): string => `${role}::direction_l1(${code(i)})`;
  const node = (level: number, i: number): string => `${role}::direction_l${level}(${code(i)})`;
  const factors: { left: string; right: string; parent: string } = (() => {
    switch (table.kind) {
      case 'quad':
        return { left: leaf(0), right: leaf(1), parent: node(2, 2) };
      case 'left':
        return { left: leaf(0), right: '', parent: `${node(2, 1)}.x` };
      case 'right':
        return { left: leaf(0), right: '', parent: `${node(2, 1)}.y` };
      case 'pairs':
        return { left: leaf(0), right: leaf(1), parent: '' };
      case 'pair':
        return { left: leaf(0), right: '', parent: '' };
      case 'triple':
        return {
          left: node(table.level - 1, 0),
          right: node(table.level - 1, 1),
          parent: node(table.level, 2),
        };
      case 'node':
      case 'exact':
      case 'above':
        return { left: node(table.level, 0), right: '', parent: '' };
      case 'radius':
        return { left: `${role}::radius_level[${code(0)}]`, right: '', parent: '' };
    }
  })();
  return {
    ...factors,
    hasRight: factors.right !== '',
    hasParent: factors.parent !== '',
    turned: table.kind === 'quad',
    isBranch: isBranch(table.kind),
  };
}

/** Columns of a look-up. */
const look = (table: Table, index: string): number => table.name.length + index.length + 22;

/** Where a line would be too long it goes on in the next one. */
const wrapAt = (columns: number): string => (columns > 97 ? '\n        ' : ' ');

/** An index whose look-up would be too long for a line of its own: its last part goes on in the next one. */
function wrappedIndex(table: Table, index: string): string {
  const at = index.lastIndexOf(' | ');
  if (at < 0 || look(table, index) + 7 <= 100) return index;
  return `${index.slice(0, at)} |\n                ${index.slice(at + 3)}`;
}

function decodeView(codec: CodecPlan, strategy: Strategy, words: CellWords): View {
  const half = (factor: Half): string => {
    switch (factor.half) {
      case 'low':
        return `low_half(${factor.word})`;
      case 'high':
        return `high_half(${factor.word})`;
      case 'both':
        return factor.word;
    }
  };
  const steps = strategy.steps.map((step: Step): View => {
    const none = {
      isLookup: false,
      isProduct: false,
      isFactor: false,
      isRound: false,
      isScale: false,
    };
    if (step.kind === 'product') {
      return {
        ...none,
        isProduct: true,
        name: step.name,
        value: step.value,
        factor: half(step.factor),
      };
    }
    if (step.kind === 'round')
      return { ...none, isRound: true, name: step.name, low: step.low, high: step.high };
    if (step.kind === 'scale') {
      const { name, value, radius } = step;
      return { ...none, isScale: true, name, value, radius };
    }
    if (step.kind === 'factor') {
      const child = step.level > 0 ? ` | ((cell >> ${u32(step.level - 5)} & 1u) << 7u)` : '';
      const index = `${indexOf(words, step.parts, ENTRY_LOG2).index}${child}`;
      return {
        ...none,
        isFactor: true,
        name: step.name,
        radius: step.radius,
        table: step.table.name,
        index: wrappedIndex(step.table, index),
        wrap: wrapAt(step.radius.length + step.name.length + 18 + look(step.table, index)),
      };
    }
    const { signs } = step.table;
    const moved = `${step.name}_bits`;
    const cut = indexOf(words, step.parts, ENTRY_LOG2, signs, moved);
    const { index } = cut;
    return {
      ...none,
      isLookup: true,
      isConst: !signs.first && !signs.last,
      name: step.name,
      moved: cut.moved === '' ? '' : moved,
      movedWord: cut.moved,
      first: cut.first,
      last: cut.last,
      table: step.table.name,
      wide: step.table.wide,
      word: wordOf(step.table),
      index: wrappedIndex(step.table, index),
      wrap: wrapAt(step.name.length + 16 + wordOf(step.table).length + look(step.table, index)),
    };
  });
  const roots = Math.max(1, CELL / 2 ** codec.depth);
  const inFloat = strategy.floatRoots;
  const radii =
    codec.radius.kind === 'log'
      ? []
      : Array.from({ length: roots }, (_, root) => ({
          name: `radius_${root}`,
          bits: inFloat ? halfBits(words, 0, root) : bothHalves(words, 0, root),
          inFloat,
        }));
  const pairs = strategy.pairs.map((name, i) => ({ index: String(i), name }));
  const normBits = codec.radius.kind === 'log' ? halfBits(words, -1, 0) : '';
  return {
    streams: usedStreams(codec, words, JSON.stringify([steps, radii, normBits])),
    steps,
    radii,
    normBits,
    pairs,
  };
}

/** Words of which a format's codes are cut; some hold nothing but padding. */
function usedStreams(codec: CodecPlan, words: CellWords, text: string): readonly View[] {
  const { streams } = wordsView(codec, words) as { streams: readonly (View & { names: View[] })[] };
  return streams
    .map((stream) => ({
      ...stream,
      names: stream.names.filter(({ name }) => new RegExp(`\\b${name}\\b`).test(text)),
    }))
    .filter(({ names }) => names.length > 0);
}
