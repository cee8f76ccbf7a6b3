/** What a user writes, and what the compiler works on once it is checked. */

export type Dtype = 'f32' | 'f16' | 'bf16';

/** `y = S·x` before the polar transform. */
export type Precondition =
  | { readonly kind: 'hadamard'; readonly seed: number }
  | { readonly kind: 'orthogonal'; readonly seed: number }
  | { readonly kind: 'matrix' }
  | { readonly kind: 'none' };

export interface LogRadius {
  readonly kind: 'log';
  /** Bits of a block's code; one f16 norm a vector comes on top. */
  readonly bits: number;
}

/** How the `d / 2^depth` top radii of a vector are stored. */
export type Radius = Dtype | LogRadius;

export interface Polar {
  /** Recursion depth L; `2^L` divides the head dimension. */
  readonly depth: number;
  /** Bits of an angle code at levels 1 … L. */
  readonly bits: readonly number[];
  /** Centroids in radians, ascending in (0, π/2), for levels ≥ 2 that do not use the analytic codebook. Keys are levels. */
  readonly codebooks: Readonly<Record<number, readonly number[]>>;
}

export type Layout =
  | { readonly kind: 'rows' }
  | { readonly kind: 'tiles'; readonly tokens: number };

/** One head's keys, or its values. */
export interface Codec {
  readonly headDim: number;
  readonly precondition: Precondition;
  readonly polar: Polar;
  readonly radius: Radius;
  /** Subtract a run-time mean vector before preconditioning. */
  readonly center: boolean;
  readonly layout: Layout;
}

/** Arithmetic of the kernels after encode, by target id; what is left out is `float`. */
export type Arithmetic = Readonly<Record<string, string>>;

declare const stage: unique symbol;

/** A cache description in which every default is filled in and every rule holds: only `normalize` makes one. */
export interface Spec {
  readonly [stage]: 'spec';
  /** A C identifier: the prefix of every emitted name. */
  readonly name: string;
  readonly key: Codec;
  readonly value: Codec;
  /** Query heads per KV head, 1 … 16. */
  readonly queryGroup: number;
  /** Tokens of a page. */
  readonly pageTokens: number;
  /** Dtype of the dense part's rows. */
  readonly dense: Dtype;
  readonly arithmetic: Arithmetic;
}
