import { type CodecPlan, type LevelPlan, type Plan, ROLES } from '../plan/index.ts';
import type { Choice } from '../target/index.ts';
import { type BitField, bitFields } from './bit-fields.ts';

const WORD = 32;

/** What a format is, for a reader: sizes, expected errors, codebooks, and a drawing of its bits. */
export function inspectText(plan: Plan): string {
  const { key, value } = plan;
  const same = key.formatHash === value.formatHash;
  const head = [
    `${plan.name}: ${plan.queryGroup} query heads a KV head, ${plan.pageTokens} tokens a page, dense rows ${plan.dense}`,
    `plan ${plan.planHash}`,
  ];
  const codecs = same
    ? [codecText('keys and values', key)]
    : ROLES.map((role) => codecText(`${role}s`, plan[role]));
  return `${[head.join('\n'), ...codecs].join('\n\n')}\n`;
}

/** What targets decided: for each a sentence and a table. */
export function choicesText(byTarget: Readonly<Record<string, readonly Choice[]>>): string {
  return Object.entries(byTarget)
    .flatMap(([id, choices]) => choices.map((choice) => `\n${choiceText(id, choice)}`))
    .join('');
}

function choiceText(id: string, { what, rows, note }: Choice): string {
  const lines = [`${id}: ${what}`];
  const columns = Object.keys(rows[0] ?? {});
  if (columns.length > 0) {
    const cells = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ''))];
    const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
    for (const row of cells) {
      lines.push(`  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd());
    }
  }
  if (note !== undefined) lines.push(`  ${note}`);
  return `${lines.join('\n')}\n`;
}

/** Figures of a codec as `inspect --json` prints them; errors are relative squared errors. */
export function inspectFigures(codec: CodecPlan): object {
  const { layout, levels, radius } = codec;
  return {
    headDim: codec.headDim,
    layout: layout.id,
    bytesPerToken: layout.unitBytes / layout.unitTokens,
    informationBits: layout.informationBits,
    storedBits: layout.storedBits,
    bitsPerCoordinate: layout.informationBits / codec.headDim,
    compression: (16 * codec.headDim) / layout.storedBits,
    error: codec.error,
    radius: { kind: radius.kind, bits: radius.bits, count: codec.blocks, error: radius.error },
    levels: levels.map(({ level, bits, nodes, error, angles }) => ({
      level,
      bits,
      nodes,
      error,
      angles,
    })),
    formatHash: codec.formatHash,
  };
}

/** `hadamard (seed 1, 12·2^3)`. */
export function preconditionText({ precondition }: CodecPlan): string {
  switch (precondition.kind) {
    case 'hadamard': {
      const { seed, order, log2 } = precondition;
      return `hadamard, seed ${seed}${order === 1 ? '' : `, order ${order}·2^${log2}`}`;
    }
    case 'orthogonal':
      return `orthogonal, seed ${precondition.seed}`;
    case 'matrix':
      return 'a matrix given at run time';
    case 'none':
      return 'no preconditioning';
  }
}

/** `3.875 bits a coordinate (4.13× smaller than f16)`, then what padding makes of it. */
export function sizeText({ headDim, layout }: CodecPlan): string {
  const ratio = (bits: number): string => `${((16 * headDim) / bits).toFixed(2)}×`;
  const { informationBits, storedBits } = layout;
  const information = `${round(informationBits / headDim)} bits a coordinate, ${ratio(informationBits)} smaller than f16`;
  return storedBits === informationBits
    ? `${information}; no padding`
    : `${information}; stored ${round(storedBits / headDim)}, ${ratio(storedBits)}`;
}

function codecText(what: string, codec: CodecPlan): string {
  const { layout } = codec;
  const unit =
    layout.unitTokens === 1
      ? `${layout.unitBytes} bytes a token`
      : `${layout.unitBytes} bytes a tile of ${layout.unitTokens} tokens, ${layout.unitBytes / layout.unitTokens} a token`;
  const lines = [
    `${what}: d = ${codec.headDim}, ${preconditionText(codec)}${codec.center ? ', centred' : ''}`,
    `  ${sizeText(codec)}`,
    `  ${layout.id}: ${unit}; ${layout.informationBits} bits of information, ${layout.storedBits - layout.informationBits} of padding`,
    `  format ${codec.formatHash}`,
    '',
    '  level   angles  bits  expected error  codebook (radians)',
    ...codec.levels.map(levelText),
    `  radius  ${String(codec.blocks).padStart(6)}  ${String(codec.radius.bits).padStart(4)}  ${exponent(codec.radius.error)}  ${radiusText(codec)}`,
    `  all                   ${exponent(codec.error)}  relative squared error of a Gaussian vector`,
    '',
    '  a token’s record, 32 bits a line, bit 0 first:',
    ...drawing(codec).map((line) => `  ${line}`),
  ];
  return lines.join('\n');
}

function levelText({ level, bits, nodes, angles, error }: LevelPlan): string {
  const shown =
    angles.length <= 4 ? angles : [...angles.slice(0, 2), undefined, ...angles.slice(-1)];
  const codebook = shown.map((angle) => (angle === undefined ? '…' : angle.toFixed(5))).join(' ');
  const quadrant = level === 1 ? ' in each quadrant' : '';
  return `  ${String(level).padEnd(6)}  ${String(nodes).padStart(6)}  ${String(bits).padStart(4)}  ${exponent(error)}  ${codebook}${quadrant}`;
}

function radiusText({ radius }: CodecPlan): string {
  if (radius.kind !== 'log') return radius.kind;
  const [first, last] = [radius.levels[0]!, radius.levels.at(-1)!];
  return `codes for ${first.toFixed(4)} … ${last.toFixed(4)} of the vector's f16 norm`;
}

function exponent(error: number): string {
  return error.toExponential(2).padStart(14);
}

function round(bits: number): string {
  return String(Math.round(bits * 1000) / 1000);
}

/**
 * Lines of 32 bits: a letter a code (a, b, c … for levels 1, 2, 3 …; r radius, n norm, . padding), upper and lower
 * case alternate so that neighbours stay apart. Lines that repeat are shown once, with their count.
 */
function drawing(codec: CodecPlan): string[] {
  const letters = bitFields(codec).map(letterRun).join('');
  const words: string[] = [];
  for (let at = 0; at < letters.length; at += WORD) words.push(letters.slice(at, at + WORD));
  const lines: string[] = [];
  for (const { start, period, count } of repeats(words)) {
    for (let i = 0; i < period; i++) {
      const bits = words[start + i]!.match(/.{1,8}/g)!.join(' ');
      const byte = `byte ${String((start + i) * 4).padStart(3)}`;
      lines.push(
        `${byte}  ${bits}${count > 1 && i === period - 1 ? `   these ${count} times` : ''}`,
      );
    }
  }
  const used = [...new Set(codec.levels.map(({ level }) => `${letter(level)} level ${level}`))];
  const norm = codec.layout.norm === null ? '' : ', n norm';
  const pad = letters.includes('.') ? ', . padding' : '';
  return [
    ...lines,
    '',
    `${used.join(', ')}, r radius${norm}${pad}; upper and lower case alternate`,
  ];
}

function letter(level: number): string {
  return String.fromCharCode(96 + level);
}

function letterRun({ kind, level, index, bits }: BitField): string {
  if (kind === 'padding') return '.'.repeat(bits);
  const sign = kind === 'code' ? letter(level) : kind === 'radius' ? 'r' : 'n';
  return (index % 2 === 0 ? sign : sign.toUpperCase()).repeat(bits);
}

/** Runs of `period` ≤ 8 lines that repeat; letters are compared without their case. */
function repeats(words: readonly string[]): { start: number; period: number; count: number }[] {
  const same = (i: number, j: number): boolean =>
    words[i]?.toLowerCase() === words[j]?.toLowerCase();
  const runs: { start: number; period: number; count: number }[] = [];
  for (let start = 0; start < words.length; ) {
    let best = { start, period: 1, count: 1 };
    for (let period = 1; period <= 8; period++) {
      let length = period;
      while (start + length < words.length && same(start + length, start + length - period))
        length++;
      const count = Math.floor(length / period);
      if (count > 1 && period * count > best.period * best.count) best = { start, period, count };
    }
    runs.push(best);
    start += best.period * best.count;
  }
  return runs;
}
