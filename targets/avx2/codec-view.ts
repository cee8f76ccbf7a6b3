/** One codec of a plan as the text that its constants are printed from. */

import type { CodecPlan, LevelPlan, Role } from '../../generator/plan/index.ts';
import type { View } from '../../generator/target/index.ts';
import { floatLiteral } from '../../generator/target/index.ts';
import { floats, floatTable, initialiser, searchOrder } from './literals.ts';

const numbers = (values: readonly number[]): string => initialiser(values.map(String));

/** Signs '0', '1' packed: character i is bit i mod 8 of byte ⌊i/8⌋. */
function signBytes(signs: string): string {
  const bytes = new Array<number>(Math.ceil(signs.length / 8)).fill(0);
  for (let i = 0; i < signs.length; i++) {
    if (signs[i] === '1') bytes[i >> 3]! |= 1 << (i & 7);
  }
  return initialiser(bytes.map((byte) => `0x${byte.toString(16).padStart(2, '0')}`));
}

/** A row of H_m as a 64-bit mask: character i is bit i. */
function signMask(row: string): string {
  let mask = 0n;
  for (let i = 0; i < row.length; i++) if (row[i] === '1') mask |= 1n << BigInt(i);
  return `0x${mask.toString(16)}u`;
}

/** The butterflies of strides from 2^from on, at most three strides at a time, as evenly as can be. */
function passes(from: number, log2: number): View[] {
  const list: View[] = [];
  for (let done = from; done < log2; ) {
    const left = log2 - done;
    const stages = Math.ceil(left / Math.ceil(left / 3));
    list.push({ radix: String(2 ** stages), stride: String(2 ** done) });
    done += stages;
  }
  return list;
}

function levelView(level: LevelPlan, codes: readonly number[]): View {
  const entries = level.cos.length;
  return {
    level: String(level.level),
    what:
      level.level === 1
        ? level.bits === 1
          ? 'the sign of y alone'
          : 'sign of x, index within the quadrant, sign of y'
        : `angles in [0, pi/2]`,
    bits: String(level.bits),
    nodes: String(level.nodes),
    entries: String(entries),
    cos: floatTable(level.cos),
    sin: floatTable(level.sin),
    hasThresholds: entries > 1,
    thresholds: entries > 1 ? floats(searchOrder(level.thresholds)) : '',
    codeBits: numbers(codes),
  };
}

/** The constants of a codec: what templates/avx2/partials/ are filled from, `role` being its namespace. */
export function codecView(role: Role, codec: CodecPlan): View {
  const { precondition, radius, layout } = codec;
  const kind = precondition.kind;
  const byLevel = (first: string, name: string): string =>
    initialiser([first, ...codec.levels.map(({ level }) => `${name}_l${level}`)]);
  return {
    role,
    formatHash: codec.formatHash,
    headDim: String(codec.headDim),
    depth: String(codec.depth),
    blocks: String(codec.blocks),
    unitTokens: String(layout.unitTokens),
    unitBytes: String(layout.unitBytes),
    recordBits: String((layout.unitBytes * 8) / layout.unitTokens),
    scale: floatLiteral(codec.scale),
    scaled: codec.scale !== 1,
    center: codec.center,
    tiles: layout.id === 'tiles32/1',
    rows: layout.id === 'rows/2',
    levels: codec.levels.map((level, i) => levelView(level, layout.codes[i]!)),
    bitsList: byLevel('0', 'bits'),
    nodesList: byLevel('head_dim', 'nodes'),
    entriesList: byLevel('0', 'entries'),
    cosList: byLevel('nullptr', 'cos'),
    sinList: byLevel('nullptr', 'sin'),
    thresholdList: initialiser([
      'nullptr',
      ...codec.levels.map((level) =>
        level.thresholds.length > 0 ? `threshold_l${level.level}` : 'nullptr',
      ),
    ]),
    codeBitList: byLevel('nullptr', 'code_bit'),
    upperLevels: codec.levels.slice(1).map(({ level }) => ({ level: String(level) })),
    lowerLevels: codec.levels
      .slice(1)
      .map(({ level }) => ({ level: String(level) }))
      .reverse(),
    radius: {
      constant: radius.kind === 'log' ? 'radius_log' : `POLARC_${radius.kind.toUpperCase()}`,
      bits: String(radius.bits),
      f16: radius.kind === 'f16',
      bf16: radius.kind === 'bf16',
      f32: radius.kind === 'f32',
      log: radius.kind === 'log',
      normBit: layout.norm === null ? '' : String(layout.norm),
      levels: radius.kind === 'log' ? floatTable(radius.levels) : '',
      thresholds: radius.kind === 'log' ? floats(searchOrder(radius.thresholds)) : '',
      positions: numbers(layout.radii),
    },
    none: kind === 'none',
    matrix: kind === 'matrix',
    orthogonal: kind === 'orthogonal',
    /** S is given at run time. */
    dense: kind === 'matrix' || kind === 'orthogonal',
    paley: kind === 'hadamard' && precondition.order > 1,
    hadamard: kind === 'hadamard' && {
      order: String(precondition.order),
      log2: String(precondition.log2),
      signs: signBytes(precondition.signs),
      rows: initialiser(precondition.matrix.map(signMask)),
      // Strides 1, 2 and 4 are done while eight coordinates are in registers.
      strides: precondition.log2 > 0,
      firstPass: precondition.log2 >= 3,
      passes: passes(precondition.log2 >= 3 ? 3 : 0, precondition.log2),
      working: precondition.order > 1 || precondition.log2 !== 3,
    },
  };
}
