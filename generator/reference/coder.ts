/** A codec's plan as typed arrays: what encoder and decoder read in their inner loops. */

import type { CodecPlan, LayoutPlan, RadiusPlan } from '../plan/index.ts';

export interface LevelTables {
  readonly bits: number;
  readonly nodes: number;
  /** Entries of the codebook, a power of two. */
  readonly entries: number;
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly thresholds: Float32Array;
  /** Where this level's codes begin in `Coder.codes`. */
  readonly offset: number;
  /** First record bit of every node's code. */
  readonly positions: Int32Array;
}

export interface Coder {
  readonly plan: CodecPlan;
  readonly dim: number;
  readonly blocks: number;
  readonly levels: readonly LevelTables[];
  readonly radius: RadiusPlan;
  readonly logLevels: Float32Array;
  readonly logThresholds: Float32Array;
  readonly layout: LayoutPlan;
  /** Signs of the Hadamard preconditioner, ±1, else empty. */
  readonly signs: Float32Array;
  /** Entries ±1 of H_m, row-major, else empty. */
  readonly factor: Float32Array;
  /** Scratch: one vector's codes, level after level. */
  readonly codes: Uint8Array;
  /** Scratch: one token's record, with room to read a field past its end. */
  readonly record: Uint8Array;
  /** Scratch: one vector in float32, and one for sums that cannot be done in place. */
  readonly vector: Float32Array;
  readonly spare: Float32Array;
  /** Scratch: r_i, and what the stored radii decode to. */
  readonly radii: Float32Array;
  readonly stored: Float32Array;
}

const coders = new WeakMap<CodecPlan, Coder>();

export function coderOf(plan: CodecPlan): Coder {
  let coder = coders.get(plan);
  if (coder === undefined) {
    coder = compile(plan);
    coders.set(plan, coder);
  }
  return coder;
}

function compile(plan: CodecPlan): Coder {
  const { precondition, radius, layout } = plan;
  let offset = 0;
  const levels = plan.levels.map((level, index): LevelTables => {
    const tables = {
      bits: level.bits,
      nodes: level.nodes,
      entries: level.cos.length,
      cos: Float32Array.from(level.cos),
      sin: Float32Array.from(level.sin),
      thresholds: Float32Array.from(level.thresholds),
      offset,
      positions: Int32Array.from(layout.codes[index]!),
    };
    offset += level.nodes;
    return tables;
  });
  const hadamard = precondition.kind === 'hadamard' ? precondition : null;
  const sign = (digit: string): number => (digit === '1' ? -1 : 1);
  return {
    plan,
    dim: plan.headDim,
    blocks: plan.blocks,
    levels,
    radius,
    logLevels: Float32Array.from(radius.kind === 'log' ? radius.levels : []),
    logThresholds: Float32Array.from(radius.kind === 'log' ? radius.thresholds : []),
    layout,
    signs: Float32Array.from(hadamard?.signs ?? '', sign),
    factor: Float32Array.from(hadamard?.matrix.join('') ?? '', sign),
    codes: new Uint8Array(offset),
    record: new Uint8Array(Math.ceil(layout.storedBits / 8) + 8),
    vector: new Float32Array(plan.headDim),
    spare: new Float32Array(plan.headDim),
    radii: new Float32Array(plan.blocks),
    stored: new Float32Array(plan.blocks),
  };
}
