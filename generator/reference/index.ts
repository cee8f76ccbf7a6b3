/**
 * The golden reference: it interprets a plan and knows no template and no target. `encode` is float32-exact, everything
 * else is float64 on the same bytes.
 */

import type {
  AttendCall,
  AttendDenseCall,
  DecodeCall,
  EncodeCall,
  MergeCall,
  Plan,
  Role,
  RotateCall,
  ScoresCall,
  WeightedSumCall,
} from '../plan/index.ts';
import {
  type AttentionResult,
  attend,
  attendDense,
  type ScoresResult,
  scores,
  type WeightedSumResult,
  weightedSum,
} from './attend.ts';
import { type MergeResult, merge } from './merge.ts';
import { type DecodeResult, decode, encode } from './pool-rows.ts';
import { rotateRows } from './rotate-rows.ts';

/**
 * Every kernel of one cache, called with the records that kernels are called with. `encode` writes the
 * pool, errors and flags given; the others leave the call's arrays alone and return float64, contiguous. Runtime
 * tables out of range are reported in `flags` (the bits of `FLAGS`); the rows that depend on them are NaN.
 */
export interface Reference {
  encode(role: Role, call: EncodeCall): void;
  decode(role: Role, call: DecodeCall): DecodeResult;
  /** [count][heads][d]. */
  rotate(role: Role, call: RotateCall): Float64Array;
  scores(call: ScoresCall): ScoresResult;
  weightedSum(call: WeightedSumCall): WeightedSumResult;
  attend(call: AttendCall): AttentionResult;
  attendDense(call: AttendDenseCall): AttentionResult;
  merge(call: MergeCall): MergeResult;
}

export function createReference(plan: Plan): Reference {
  return {
    encode: (role, call) => encode(plan, role, call),
    decode: (role, call) => decode(plan, role, call),
    rotate: (role, call) => rotateRows(plan, role, call),
    scores: (call) => scores(plan, call),
    weightedSum: (call) => weightedSum(plan, call),
    attend: (call) => attend(plan, call),
    attendDense: (call) => attendDense(plan, call),
    merge: (call) => merge(plan, call),
  };
}

export { type Coder, coderOf, type LevelTables } from './coder.ts';
export { goldenVectors } from './golden.ts';
export { fromF32Bits } from './half.ts';
export { type PoolView, unitAddress, viewPool } from './pool.ts';
export { getBits, getWord, loadRecord, storeRecord } from './record.ts';
export { rotateVector } from './rotate.ts';
export { readRow } from './rows.ts';
export { FLAGS } from './sequences.ts';
export type { AttentionResult, DecodeResult, MergeResult, ScoresResult, WeightedSumResult };
