/** Captured keys, values and queries of one layer, float32, contiguous. */
export interface LayerData {
  readonly layer: number;
  readonly kvHeads: number;
  /** A multiple of `kvHeads`. */
  readonly qHeads: number;
  readonly tokens: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** [kvHeads][tokens][keyDim] */
  readonly keys: Float32Array;
  /** [kvHeads][tokens][valueDim] */
  readonly values: Float32Array;
  /** [qHeads][positions][keyDim] */
  readonly queries: Float32Array;
  /** Query p sees tokens 0 … positions[p]. */
  readonly positions: Int32Array;
  /** Logit = scale · q·k. */
  readonly scale: number;
}

/** What a format needs at run time, of one layer. */
export interface LayerTransforms {
  readonly key: RunTimeTransform;
  readonly value: RunTimeTransform;
}

export interface RunTimeTransform {
  /** [kvHeads][d] */
  readonly mean?: Float32Array;
  /** [kvHeads][d][d], S. */
  readonly matrix?: Float32Array;
  /** [kvHeads][d][d], S⁻ᵀ. */
  readonly dual?: Float32Array;
}

/** How far quantized keys and values are from the captured ones. */
export interface Figures {
  /** Σ‖k−k̂‖² / Σ‖k‖² over heads and tokens. */
  readonly keyError: number;
  /** Σ‖v−v̂‖² / Σ‖v‖² over heads and tokens. */
  readonly valueError: number;
  /** Mean of (scale·q·k − scale·q·k̂)² over query heads and the (query, token) pairs that the query sees. */
  readonly scoreMse: number;
  /** Σ‖o−ô‖² / Σ‖o‖² over query heads and positions, keys and values both quantized. */
  readonly outputError: number;
}

/** One line of `measure --json`. */
export interface MeasureRow extends Figures {
  readonly layer: number;
  readonly bits: readonly number[];
  readonly precondition: string;
  /** Bits of information a coordinate, keys and values together. */
  readonly bitsPerCoordinate: number;
}
