/**
 * The plan: everything that decides bytes, free of any target. Its canonical JSON stands beside the kernels;
 * docs/format.md describes it field by field.
 */

import type { Arithmetic, Dtype } from '../spec/index.ts';

export const PLAN_VERSION = 1;

export interface HadamardPlan {
  readonly kind: 'hadamard';
  readonly seed: number;
  /** `d = order · 2^log2`, order ∈ {1, 12, 20, 28, 36}. */
  readonly order: number;
  readonly log2: number;
  /** d characters '0' (+1) and '1' (−1): the random signs, applied before the butterflies. */
  readonly signs: string;
  /** `order` strings of `order` characters '0' (+1), '1' (−1): the rows of H_m; `['0']` for order 1. */
  readonly matrix: readonly string[];
}

export interface OrthogonalPlan {
  readonly kind: 'orthogonal';
  readonly seed: number;
  /** SHA-256 (hex) of the d·d little-endian float32 entries, row-major; the file beside the plan holds them. */
  readonly sha256: string;
}

export type PreconditionPlan =
  | HadamardPlan
  | OrthogonalPlan
  | { readonly kind: 'matrix' }
  | { readonly kind: 'none' };

/**
 * The codebook of one level. All numbers but `angles` and `error` are float32 values.
 *
 * Level 1: entries are the magnitudes of the first quadrant, m = 0 … 2^(b−2) − 1 from the x axis (b = 1: one entry,
 * cos 0, sin 1). Levels ≥ 2: one entry a code.
 */
export interface LevelPlan {
  readonly level: number;
  readonly bits: number;
  /** Nodes a vector: d / 2^level. */
  readonly nodes: number;
  /** Radians, float64, ascending. */
  readonly angles: readonly number[];
  readonly cos: readonly number[];
  readonly sin: readonly number[];
  /** `entries − 1` tangents of the mid-angles, ascending: a code is the number of i with v > thresholds[i]·u. */
  readonly thresholds: readonly number[];
  /** Expected squared error of this level relative to the vector's energy, from the analytic density. */
  readonly error: number;
}

export type RadiusPlan =
  | { readonly kind: Dtype; readonly bits: number; readonly error: number }
  | {
      readonly kind: 'log';
      /** Bits of a block's code. */
      readonly bits: number;
      /** float32, 2^bits, ascending: a block's radius is levels[code]·norm. */
      readonly levels: readonly number[];
      /** float32, 2^bits − 1, ascending: code = number of i with p > fl(thresholds[i]·norm). */
      readonly thresholds: readonly number[];
      readonly error: number;
    };

/**
 * Where every bit stands. Positions are bits of a token's record, least significant first; a field's bits are
 * consecutive. `rows/2`: record bit i is bit i mod 8 of byte ⌊i/8⌋ of the token's record. `tiles32/1`: the records of
 * 32 tokens are stored byte by byte across tokens; docs/format.md has the rule for the last, partial byte.
 */
export interface LayoutPlan {
  readonly id: 'rows/2' | 'tiles32/1';
  /** Tokens of a unit of storage: 1 (rows) or 32 (tiles). */
  readonly unitTokens: number;
  /** Bytes of a unit: a record, or a tile. */
  readonly unitBytes: number;
  /** Bits of a token that carry information. */
  readonly informationBits: number;
  /** Bits a token occupies: information and padding. */
  readonly storedBits: number;
  /** codes[ℓ−1][j]: first bit of the code of node j at level ℓ. Level 1: sign of x, magnitude index, sign of y. */
  readonly codes: readonly (readonly number[])[];
  /** First bit of each block's radius, or of its code with `log`. */
  readonly radii: readonly number[];
  /** First bit of the f16 norm with `log`, else null. */
  readonly norm: number | null;
}

export interface CodecPlan {
  readonly headDim: number;
  readonly depth: number;
  /** Top radii a vector: headDim / 2^depth. */
  readonly blocks: number;
  readonly center: boolean;
  readonly precondition: PreconditionPlan;
  /** float32: 1/√d for hadamard, else 1. Multiplies the top projections. */
  readonly scale: number;
  /** levels[ℓ−1]. */
  readonly levels: readonly LevelPlan[];
  readonly radius: RadiusPlan;
  readonly layout: LayoutPlan;
  /** Expected relative squared error of a vector: levels and radius. */
  readonly error: number;
  /** SHA-256 (hex) over everything above that decides bytes. */
  readonly formatHash: string;
}

declare const stage: unique symbol;

/** Only `lower` makes one. */
export interface Plan {
  readonly [stage]: 'plan';
  readonly planVersion: typeof PLAN_VERSION;
  readonly name: string;
  readonly key: CodecPlan;
  readonly value: CodecPlan;
  readonly queryGroup: number;
  readonly pageTokens: number;
  readonly dense: Dtype;
  readonly arithmetic: Arithmetic;
  /** SHA-256 (hex) over all of the plan but this field. */
  readonly planHash: string;
}

export type Role = 'key' | 'value';
export const ROLES: readonly Role[] = ['key', 'value'];
