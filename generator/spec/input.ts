/** What a spec file may write. `normalize` fills in the defaults named here and checks every rule again at run time. */

import type { Arithmetic, Dtype, LogRadius, Precondition, Radius } from './types.ts';

export type LevelOneBits = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;
export type UpperBits = 1 | 2 | 3 | 4 | 5 | 6;
export type QueryGroup = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15 | 16;

/** Bits of an angle code at levels 1 … L. */
export type BitsInput = readonly [LevelOneBits, ...UpperBits[]];

/** Centroids in radians, ascending in (0, π/2), 2^bits a level, for levels 2 … L. */
export type CodebooksInput = {
  readonly [level in 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9]?: readonly number[];
};

export interface PolarInput {
  /** Default: the number of entries of `bits`. */
  readonly depth?: number;
  readonly bits: BitsInput;
  /** Default: analytic (Lloyd–Max from the density of the level's angle). */
  readonly codebooks?: CodebooksInput;
}

export type LayoutInput =
  | { readonly kind: 'rows' }
  | { readonly kind: 'tiles'; readonly tokens: 32 };

export interface CodecInput {
  /** Head dimension, 16 … 640. */
  readonly headDim: number;
  /** Default `hadamard({ seed: 0 })`. */
  readonly precondition?: Precondition;
  readonly polar: PolarInput;
  /** Default `'f16'`. */
  readonly radius?: Radius;
  /** Subtract a mean vector, given at run time, before preconditioning. Default false. */
  readonly center?: boolean;
  /** Default `rows()`. */
  readonly layout?: LayoutInput;
}

export interface CacheInput {
  /** A C identifier: the prefix of every emitted name. */
  readonly name: string;
  readonly key: CodecInput;
  readonly value: CodecInput;
  /** Query heads per KV head. Default 1. */
  readonly queryGroup?: QueryGroup;
  /** Tokens of a page, 1 … 65536. Default 64. */
  readonly pageTokens?: number;
  /** Dtype of the rows kept at full precision. Default `'f16'`. */
  readonly dense?: Dtype;
  /** Arithmetic of the kernels after encode, by target. Default `float` everywhere. */
  readonly arithmetic?: Arithmetic;
}

export interface ConfigInput {
  /** One cache a distinct format: a model whose layers differ has several. */
  readonly caches: readonly CacheInput[];
  /** Targets to emit when the command line names none. */
  readonly targets?: readonly string[];
  /** Output folder when the command line names none, relative to the config file. */
  readonly out?: string;
}

export type { Arithmetic, Dtype, LogRadius, Precondition, Radius };
