/** One codec of a plan as the text that its constants and functions are printed from. */

import type { CodecPlan, LevelPlan } from '../../generator/plan/index.ts';
import {
  bitMap,
  bitWords,
  canJoin,
  cellShape,
  cellView,
  directions,
  floatLiteral,
  leafIndex,
  positionFunction,
  u32,
  type View,
} from '../../generator/target/index.ts';
import { type HalfTables, halfTables } from './half.ts';
import { floatEntries, vectorEntries } from './literals.ts';

/** Which tables the levels of a codec are looked up in. */
interface Lookups {
  /** Of two neighbouring level-1 codes. */
  readonly pairs: boolean;
  /** Of a level-1 code with the level-2 code. */
  readonly branches: boolean;
  /** Of levels 3 and 4. */
  readonly joint: boolean;
}

/** @param join whether codes that stand side by side are looked up at once */
function lookupsOf(codec: CodecPlan, join: boolean): Lookups {
  const leaf = join ? leafIndex(codec) : 'code';
  return { pairs: leaf === 'pair', branches: leaf === 'branch', joint: join && canJoin(codec) };
}

/** Whether a level is looked up together with another one. */
const isJoined = ({ branches, joint }: Lookups, level: number): boolean =>
  (branches && level <= 2) || (joint && (level === 3 || level === 4));

/** Bytes of workgroup memory that the decoding tables of a codec take. */
export function tableBytes(codec: CodecPlan, join: boolean): number {
  const lookups = lookupsOf(codec, join);
  let bytes = 0;
  for (const { level, bits } of codec.levels) {
    if (isJoined(lookups, level)) continue;
    bytes += level === 1 && lookups.pairs ? 16 * 4 ** bits : 8 * 2 ** bits;
  }
  if (lookups.branches) bytes += 2 * 8 * branchLength(codec);
  if (lookups.joint) bytes += 16 * jointLength(codec);
  if (codec.radius.kind === 'log') bytes += 4 * 2 ** codec.radius.bits;
  return bytes;
}

/** Entries of either table of levels 1 and 2 together. */
function branchLength({ levels }: CodecPlan): number {
  return 2 ** (levels[0]!.bits + levels[1]!.bits);
}

/** Entries of the table of levels 3 and 4 together. */
function jointLength({ levels }: CodecPlan): number {
  return 2 ** (2 * levels[2]!.bits + levels[3]!.bits);
}

function levelView(p: string, level: LevelPlan, codes: readonly number[]): View {
  const entries = level.cos.length;
  return {
    level: String(level.level),
    signBit: u32(Math.max(0, level.bits - 1)),
    oneBit: level.bits === 1,
    oneEntry: entries === 1,
    nodes: u32(level.nodes),
    entries: u32(entries),
    half: u32(entries / 2),
    thresholdCount: String(entries - 1),
    hasThresholds: entries > 1,
    entryNumber: String(entries),
    book: vectorEntries(level.cos.map((cos, i) => [cos, level.sin[i]!])),
    thresholds: entries > 1 ? floatEntries(level.thresholds) : '',
    bit: positionFunction(`${p}_code_bit_l${level.level}`, codes),
  };
}

/** Tables that attention and decode fill workgroup memory with. */
function tableViews(codec: CodecPlan, lookups: Lookups, half: HalfTables | null): View[] {
  return codec.levels.map((level, i) => {
    const within = half?.levels[i];
    const codes = within?.entries ?? directions(level);
    const isPair = lookups.pairs && level.level === 1;
    const length = isPair ? codes.length ** 2 : codes.length;
    const joined = isJoined(lookups, level.level);
    const what = level.level === 1 ? 'cosine and sine, with their signs,' : 'cosine and sine';
    const scaled = within ? `, times ${within.scale}` : '';
    return {
      level: String(level.level),
      pair: isPair,
      // A table of two levels is filled from the directions of both; in f16 from entries of its own.
      inTable: !joined,
      listed: !(joined && half !== null),
      // Of the levels above a cell, float32 holds the product.
      real: within ? 'f16' : 'f32',
      codes: String(codes.length),
      pairCodes: u32(codes.length),
      length: String(length),
      end: u32(length),
      width: isPair ? '4' : '2',
      entries: vectorEntries(codes),
      what: `${what} of every code${scaled}`,
    };
  });
}

function branchView(codec: CodecPlan, { branches }: Lookups, half: HalfTables | null): View {
  if (!branches) return {};
  const tables = half?.branches;
  return {
    branchLength: String(branchLength(codec)),
    branchEnd: u32(branchLength(codec)),
    branchFirst: u32(2 ** codec.levels[0]!.bits),
    branchSecond: u32(2 ** codec.levels[1]!.bits),
    branchEntries: tables
      ? [
          { side: 'left', entries: vectorEntries(tables.left) },
          { side: 'right', entries: vectorEntries(tables.right) },
        ]
      : [],
    branchScale: tables ? `, times ${tables.scale}` : '',
  };
}

function jointView(codec: CodecPlan, { joint }: Lookups, half: HalfTables | null): View {
  if (!joint) return {};
  return {
    jointLength: String(jointLength(codec)),
    jointEnd: u32(jointLength(codec)),
    jointThird: u32(2 ** codec.levels[2]!.bits),
    jointFourth: u32(4 ** codec.levels[2]!.bits),
    jointEntries: half?.joint ? vectorEntries(half.joint.entries) : '',
    jointScale: half?.joint ? `, times ${half.joint.scale}` : '',
  };
}

/**
 * What the partials of templates/wgsl/ are filled from.
 *
 * @param p     first part of every name, as `key`
 * @param pool  name of the binding that holds packed tokens
 * @param title what the codec is of, as `Keys`
 * @param join  whether codes that stand side by side are looked up at once
 * @param isHalf whether cells are decoded in f16
 */
export function codecView(
  codec: CodecPlan,
  p: string,
  pool: string,
  title: string,
  join = true,
  isHalf = false,
): View {
  const lookups = lookupsOf(codec, join);
  const half = isHalf ? halfTables(codec, join) : null;
  const { precondition, radius, layout, headDim, depth, blocks } = codec;
  const hadamard = precondition.kind === 'hadamard' ? precondition : null;
  const rows = layout.id === 'rows/2';
  const recordWords = Math.ceil(layout.storedBits / 32);
  const rest = rows ? 0 : layout.storedBits % 8;
  const wholeBytes = rows ? layout.unitBytes : Math.floor(layout.storedBits / 8);
  const nodeCount = headDim - blocks;
  return {
    p,
    pool,
    // Whose names the decoding tables have.
    tableOwner: p,
    ownsTables: true,
    map: bitMap(title, codec).map((line) => (line === '' ? '//' : `// ${line}`)),
    headDim: u32(headDim),
    headDimNumber: String(headDim),
    blocks: u32(blocks),
    blockNumber: String(blocks),
    nodeNumber: String(nodeCount),
    nodeCount: u32(nodeCount),
    rows,
    tiles: !rows,
    unitTokens: u32(layout.unitTokens),
    recordWords: u32(recordWords),
    recordWordNumber: String(recordWords),
    wholeBytes: u32(wholeBytes),
    rest: rest > 0,
    planes: planesOf(wholeBytes, rest),
    scale: floatLiteral(codec.scale),
    scaleSquared: floatLiteral(Math.fround(codec.scale * codec.scale)),
    scaled: codec.scale !== 1,
    center: codec.center,
    levels: codec.levels.map((level, i) => ({
      ...levelView(p, level, layout.codes[i]!),
      first: level.level === 1,
      // Not of one cell alone: looked up node by node.
      above: level.level > cellShape(codec).levels,
      offset: u32(headDim - headDim / 2 ** (level.level - 1)),
      offsetBefore: level.level === 1 ? '' : u32(headDim - headDim / 2 ** (level.level - 2)),
      blockNodes: u32(level.nodes / blocks),
    })),
    topOffset: u32(headDim - headDim / 2 ** (depth - 1)),
    tables: tableViews(codec, lookups, half),
    cell: cellView(codec, p, join),
    ...branchView(codec, lookups, half),
    ...jointView(codec, lookups, half),
    real: half === null ? 'f32' : 'f16',
    // What f16 tables were multiplied with is divided out of the radius.
    halfFactor: half === null ? '' : floatLiteral(half.factor),
    radius: {
      f16: radius.kind === 'f16',
      bf16: radius.kind === 'bf16',
      f32: radius.kind === 'f32',
      log: radius.kind === 'log',
      mask: u32(2 ** radius.bits - 1),
      bit: positionFunction(`${p}_radius_bit`, layout.radii),
      norm: layout.norm === null ? '' : u32(layout.norm),
      levelNumber: radius.kind === 'log' ? String(radius.levels.length) : '',
      levelEnd: radius.kind === 'log' ? u32(radius.levels.length) : '',
      halfLevels: radius.kind === 'log' ? u32(radius.levels.length / 2) : '',
      levels: radius.kind === 'log' ? floatEntries(radius.levels) : '',
      thresholdNumber: radius.kind === 'log' ? String(radius.thresholds.length) : '',
      thresholds: radius.kind === 'log' ? floatEntries(radius.thresholds) : '',
      exponent: { f16: '0x7c00u', bf16: '0x7f80u', f32: '0x7f800000u', log: '' }[radius.kind],
    },
    mixes: precondition.kind !== 'none',
    orthogonal: precondition.kind === 'orthogonal',
    dense: precondition.kind === 'matrix' || precondition.kind === 'orthogonal',
    usesHadamard: hadamard !== null,
    paley: hadamard !== null && hadamard.order > 1,
    run: u32(hadamard === null ? 1 : 2 ** hadamard.log2),
    butterflies: hadamard !== null && hadamard.log2 > 0,
    order: u32(hadamard?.order ?? 1),
    signs: hadamard === null ? '' : bitWords(hadamard.signs),
    signWords: hadamard === null ? '' : String(Math.ceil(hadamard.signs.length / 32)),
    factorWords: hadamard === null ? '' : String(Math.ceil(hadamard.order ** 2 / 32)),
    factor: hadamard === null ? '' : bitWords(hadamard.matrix.join('')),
    rootScale: floatLiteral(Math.fround(1 / Math.sqrt(headDim))),
  };
}

/** The planes of a tile's last bits: `width` bits of each token, in `bytes` bytes. */
function planesOf(wholeBytes: number, rest: number): View[] {
  const planes: View[] = [];
  let word = 8 * wholeBytes;
  let done = 0;
  for (const width of [4, 2, 1]) {
    if ((rest & width) === 0) continue;
    const columns = 4 * width;
    planes.push({
      word: u32(word),
      columns: u32(columns),
      width: u32(width),
      mask: u32(2 ** width - 1),
      done: u32(done),
    });
    word += columns / 4;
    done += width;
  }
  return planes;
}
