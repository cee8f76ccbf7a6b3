/** A cache from command line flags, for use without a spec file. */

import { nearestWord, show, UserError } from '../diagnostics/index.ts';

/** Flags as the command line gives them; what is left out has the defaults of a spec. */
export interface SpecFlags {
  /** Default `polar_d96` for head dimension 96. */
  readonly name?: string | undefined;
  readonly headDim: number;
  /** Head dimension of the values. Default: that of the keys. */
  readonly valueDim?: number | undefined;
  /** `4,2,2,2`, or the list. */
  readonly bits: string | readonly number[];
  /** Bits of the values. Default: those of the keys. */
  readonly valueBits?: string | readonly number[] | undefined;
  /** Default: the number of entries of `bits`. */
  readonly depth?: number | undefined;
  /** `hadamard` (default), `orthogonal`, `matrix` or `none`. */
  readonly precondition?: string | undefined;
  /** Seed of `hadamard` and `orthogonal`. Default 0. */
  readonly seed?: number | undefined;
  /** `f16`, `bf16`, `f32`, or `log4` for a log radius of 4 bits. */
  readonly radius?: string | undefined;
  readonly center?: boolean | undefined;
  /** `rows` (default) or `tiles`. */
  readonly layout?: string | undefined;
  readonly queryGroup?: number | undefined;
  readonly pageTokens?: number | undefined;
  readonly dense?: string | undefined;
}

/** What `normalize` takes. Throws a `UserError` for a flag that does not parse; `normalize` judges the values. */
export function specFromFlags(flags: SpecFlags): unknown {
  const bits = parseBits(flags.bits, '--bits');
  const shared = {
    precondition: precondition(flags.precondition ?? 'hadamard', flags.seed ?? 0),
    radius: radius(flags.radius ?? 'f16'),
    center: flags.center ?? false,
    layout: layout(flags.layout ?? 'rows'),
  };
  const polar = (list: readonly number[]) => ({
    bits: list,
    ...(flags.depth === undefined ? {} : { depth: flags.depth }),
  });
  const valueBits =
    flags.valueBits === undefined ? bits : parseBits(flags.valueBits, '--value-bits');
  return {
    name: flags.name ?? `polar_d${flags.headDim}`,
    key: { headDim: flags.headDim, polar: polar(bits), ...shared },
    value: { headDim: flags.valueDim ?? flags.headDim, polar: polar(valueBits), ...shared },
    queryGroup: flags.queryGroup,
    pageTokens: flags.pageTokens,
    dense: flags.dense,
  };
}

/** `'4,2,2,2'` → `[4, 2, 2, 2]`; `flag` names it in the error. */
export function parseBits(text: string | readonly number[], flag: string): readonly number[] {
  if (typeof text !== 'string') return text;
  const bits = text.split(',').map((entry) => entry.trim());
  if (bits.some((entry) => !/^\d+$/.test(entry))) {
    throw new UserError(
      'P104',
      `${flag}: ${show(text)} is no list of bits`,
      `write one number a level, for example ${flag} 4,2,2,2`,
    );
  }
  return bits.map(Number);
}

function precondition(kind: string, seed: number): object {
  if (kind === 'hadamard' || kind === 'orthogonal') return { kind, seed };
  if (kind === 'matrix' || kind === 'none') return { kind };
  throw unknownChoice('--precondition', kind, ['hadamard', 'orthogonal', 'matrix', 'none']);
}

function radius(text: string): unknown {
  if (text === 'f16' || text === 'bf16' || text === 'f32') return text;
  const log = /^log:?(\d+)$/.exec(text);
  if (log !== null) return { kind: 'log', bits: Number(log[1]) };
  throw unknownChoice('--radius', text, ['f16', 'bf16', 'f32', 'log4']);
}

function layout(text: string): object {
  if (text === 'rows') return { kind: 'rows' };
  if (text === 'tiles') return { kind: 'tiles', tokens: 32 };
  throw unknownChoice('--layout', text, ['rows', 'tiles']);
}

function unknownChoice(flag: string, value: string, choices: readonly string[]): UserError {
  const near = nearestWord(value, choices);
  const hint = near === undefined ? `write ${choices.join(', ')}` : `did you mean '${near}'?`;
  return new UserError('P104', `${flag}: ${show(value)} is none of its values`, hint);
}
