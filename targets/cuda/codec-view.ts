/** One codec of a plan as the text that its constants are printed from: what is fixed, in a namespace of its own. */

import type { CodecPlan, LevelPlan, Role } from '../../generator/plan/index.ts';
import {
  bitWords,
  floatList,
  floatLiteral,
  positionFunction,
  type View,
} from '../../generator/target/index.ts';

/**
 * Codebooks of more entries are searched by halving, in memory that lanes may read at different places at once; smaller
 * ones by selecting among operands in constant memory.
 */
const MOST_SELECTED = 8;

function levelView(level: LevelPlan, codes: readonly number[]): View {
  const entries = level.cos.length;
  return {
    level: String(level.level),
    first: level.level === 1,
    what:
      level.level === 1
        ? level.bits === 1
          ? 'the sign of y alone'
          : 'sign of x, index within the quadrant, sign of y'
        : 'angles in [0, pi/2]',
    bits: String(level.bits),
    nodes: String(level.nodes),
    entries: String(entries),
    cos: floatList(level.cos, '    '),
    sin: floatList(level.sin, '    '),
    searched: entries > MOST_SELECTED,
    memory: memoryOf(entries),
    hasThresholds: entries > 1,
    thresholdCount: String(entries - 1),
    thresholds: entries > 1 ? floatList(level.thresholds, '    ') : '',
    bit: positionFunction(`code_bit_l${level.level}`, codes),
  };
}

const memoryOf = (entries: number): string =>
  entries > MOST_SELECTED ? '__device__' : '__constant__';

/** What templates/cuda/partials/constants.cuh.hbs is filled from, `role` being its namespace. */
export function codecView(role: Role, codec: CodecPlan): View {
  const { precondition, radius, layout, headDim, depth, blocks } = codec;
  const hadamard = precondition.kind === 'hadamard' ? precondition : null;
  const rows = layout.id === 'rows/2';
  return {
    role,
    headDim: String(headDim),
    depth: String(depth),
    blocks: String(blocks),
    rows,
    tiles: !rows,
    unitTokens: String(layout.unitTokens),
    unitBytes: String(layout.unitBytes),
    recordBits: String(layout.storedBits),
    recordWords: String(Math.ceil(layout.storedBits / 32)),
    wholeBytes: String(Math.floor(layout.storedBits / 8)),
    restBits: String(layout.storedBits % 8),
    hasRest: layout.storedBits % 8 !== 0,
    scale: floatLiteral(codec.scale),
    scaled: codec.scale !== 1,
    scaleSquared: floatLiteral(Math.fround(codec.scale * codec.scale)),
    center: codec.center,
    levels: codec.levels.map((level, i) => levelView(level, layout.codes[i]!)),
    radius: {
      f16: radius.kind === 'f16',
      bf16: radius.kind === 'bf16',
      f32: radius.kind === 'f32',
      log: radius.kind === 'log',
      bits: String(radius.bits),
      bit: positionFunction('radius_bit', layout.radii),
      normBit: layout.norm === null ? '0' : String(layout.norm),
      searched: radius.kind === 'log' && radius.levels.length > MOST_SELECTED,
      memory: radius.kind === 'log' ? memoryOf(radius.levels.length) : '',
      levelCount: radius.kind === 'log' ? String(radius.levels.length) : '',
      levels: radius.kind === 'log' ? floatList(radius.levels, '    ') : '',
      thresholds: radius.kind === 'log' ? floatList(radius.thresholds, '    ') : '',
    },
    none: precondition.kind === 'none',
    orthogonal: precondition.kind === 'orthogonal',
    matrix: precondition.kind === 'matrix',
    /** S is given at run time. */
    dense: precondition.kind === 'matrix' || precondition.kind === 'orthogonal',
    usesHadamard: hadamard !== null,
    paley: hadamard !== null && hadamard.order > 1,
    order: String(hadamard?.order ?? 1),
    log2: String(hadamard?.log2 ?? 0),
    signs: hadamard === null ? '' : bitWords(hadamard.signs),
  };
}
