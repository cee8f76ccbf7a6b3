/** The functions of a spec file. They only build records; `normalize` checks them. */

import type {
  BitsInput,
  CacheInput,
  CodebooksInput,
  CodecInput,
  ConfigInput,
  LayoutInput,
  LevelOneBits,
  PolarInput,
} from './input.ts';

/** A cache: how one KV head's keys and values are stored, and how it is emitted. */
export function defineCache(cache: CacheInput): CacheInput {
  return cache;
}

/** Several caches, with the targets and the folder they are emitted to. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}

/** How a vector of `headDim` coordinates becomes bits. */
export function codec(input: CodecInput): CodecInput {
  return input;
}

/** Random signs, then a Hadamard matrix over √d; for dimensions m·2^k with m one of 1, 12, 20, 28, 36. */
export function hadamard(options: { readonly seed: number }): {
  readonly kind: 'hadamard';
  readonly seed: number;
} {
  return { kind: 'hadamard', seed: options.seed };
}

/** A random orthogonal matrix (Haar measure), written beside the plan; for any dimension. */
export function orthogonal(options: { readonly seed: number }): {
  readonly kind: 'orthogonal';
  readonly seed: number;
} {
  return { kind: 'orthogonal', seed: options.seed };
}

/** Any invertible matrix, one a KV head, given at run time with its dual (inverse transposed). */
export function matrix(): { readonly kind: 'matrix' } {
  return { kind: 'matrix' };
}

/** No preconditioning. */
export function none(): { readonly kind: 'none' } {
  return { kind: 'none' };
}

/**
 * The recursive polar transform: `bits[ℓ−1]` bits for each of the d/2^ℓ angles of level ℓ.
 * `codebooks` gives centroids of its own to levels from 2 on.
 */
export function polar<const Bits extends BitsInput>(options: {
  readonly depth?: Bits['length'];
  readonly bits: Bits;
  readonly codebooks?: CodebooksInput;
}): PolarInput {
  return options;
}

/** Radii as codes of `bits` bits relative to one f16 norm a vector; needs two radii or more. */
export function log<const Bits extends LevelOneBits>(options: {
  readonly bits: Bits;
}): { readonly kind: 'log'; readonly bits: Bits } {
  return { kind: 'log', bits: options.bits };
}

/** One record a token: for appending, paging and GPUs. */
export function rows(): { readonly kind: 'rows' } {
  return { kind: 'rows' };
}

/** Tiles of 32 tokens, byte by byte across tokens: for SIMD with a token a lane. */
export function tiles(options: { readonly tokens: 32 }): LayoutInput {
  return { kind: 'tiles', tokens: options.tokens };
}
