/** The contract at the head of an emitted file: what a codec stores, and where its bits stand. */

import type { CodecPlan, PreconditionPlan } from '../plan/index.ts';

const ROTATIONS: Readonly<Record<PreconditionPlan['kind'], string>> = {
  hadamard: 'Hadamard rotation',
  orthogonal: 'rotation by the matrix beside the plan',
  matrix: 'rotation by a matrix of each KV head',
  none: 'no rotation',
};

/** `keys of 128 numbers, 4-2-2-2 bits, f16 radii`. */
export function summary(what: string, codec: CodecPlan): string {
  const bits = codec.levels.map((level) => level.bits).join('-');
  const { radius } = codec;
  const radii = radius.kind === 'log' ? `${radius.bits}-bit log radii` : `${radius.kind} radii`;
  return `${what} of ${codec.headDim} numbers, ${bits} bits, ${radii}`;
}

/** Lines of text: the codec in a sentence, then where the bits of a token's record stand. */
export function bitMap(what: string, codec: CodecPlan): string[] {
  const { layout, levels, radius, blocks } = codec;
  const bits = (layout.unitBytes * 8) / layout.unitTokens;
  const unit =
    layout.unitTokens === 1
      ? `a record of ${layout.unitBytes} bytes a token`
      : `a tile of ${layout.unitBytes} bytes for ${layout.unitTokens} tokens, ${bits} bits each`;
  const rows = [
    ...(layout.norm === null ? [] : [field('norm', [layout.norm], 16, 'f16')]),
    field(
      'radius',
      layout.radii,
      radius.bits,
      radius.kind === 'log' ? 'of the norm, by codebook' : radius.kind,
    ),
    ...levels.map((level, i) =>
      field(
        `code_l${level.level}`,
        layout.codes[i]!,
        level.bits,
        level.level === 1 ? signMagnitude(level.bits) : `angle of nodes 2j and 2j+1`,
      ),
    ),
  ];
  const rest = bits % 8;
  const lines = [
    `${what}: ${ROTATIONS[codec.precondition.kind]}${codec.center ? ', centred' : ''};`,
    `${unit}; ${blocks} radii, each of ${2 ** codec.depth} coordinates.`,
    '',
    '  field     count x bits  first bits in the record    meaning',
    ...rows.map((row) => `  ${row}`),
  ];
  if (layout.unitTokens === 1)
    return [...lines, 'Least significant bit first; bits without a field are zero.'];
  lines.push(`Byte q of token t's record is byte ${layout.unitTokens} q + t of the tile.`);
  if (rest > 0) {
    const planes = [4, 2, 1].filter((width) => (rest & width) !== 0).join(', ');
    lines.push(`Planes for the last ${rest} bits of a record follow, ${planes} bits wide.`);
  }
  return lines;
}

function signMagnitude(bits: number): string {
  if (bits === 1) return 'sign of y';
  if (bits === 2) return 'signs';
  return 'signs, angle in the quadrant';
}

function field(name: string, first: readonly number[], bits: number, meaning: string): string {
  const size = `${String(first.length).padStart(4)} x ${bits}`;
  return `${name.padEnd(10)}${size.padEnd(14)}${positions(first).padEnd(28)}${meaning}`.trimEnd();
}

/** First bits in few words: `64, 68 ... 316` for even steps, else three of them and the last. */
function positions(first: readonly number[]): string {
  const [a, b] = first;
  if (first.length <= 4 || a === undefined || b === undefined) return first.join(', ');
  const even = first.every((bit, i) => bit === a + i * (b - a));
  return `${first.slice(0, even ? 2 : 3).join(', ')} ... ${first.at(-1)}`;
}
