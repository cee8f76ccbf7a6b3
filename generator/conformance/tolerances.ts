/**
 * What "the same" means, in one place.
 *
 * Encoded bytes and row errors: equal bit by bit. Everything else is compared with float64 on the same bytes, by the
 * normalised squared error Σ|o − o_ref|² / Σ|o_ref|² of a case and KV head, which must not exceed
 *
 *   attention            B·max(1, (A/32)²),  A = max ‖q'‖·‖k̂‖·scale over visible tokens (preconditioned space)
 *   scores               B, normalised by scale²·‖q'‖²·‖k̂‖² in place of the scores
 *   decode, rotate, weighted_sum, merge   B
 *
 * where B belongs to the kernel's arithmetic (`Target.arithmetics`). Outputs that are stored as f16 or bf16 may differ by
 * that rounding besides: (√bound + u)², u the unit roundoff, and by half the least f16 denormal an element. The
 * log-sum-exp moves as the logits do: |Δ| ≤ √B·max(1, A/32) plus its own rounding to float32, or E·A where keys are
 * multiplied in a type whose roundings E exceed that.
 *
 * NaN and infinities must stand exactly where the reference has them.
 */

import type { Dtype } from '../spec/index.ts';

/** A above which the bound of attention grows. */
export const LOGIT_MAGNITUDE = 32;

const UNIT_ROUNDOFF: Readonly<Record<Dtype, number>> = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8 };

/** Half the least denormal: what rounding costs an element however small it is. */
const LEAST_ROUNDING: Readonly<Record<Dtype, number>> = {
  f32: 2 ** -150,
  f16: 2 ** -25,
  bf16: 2 ** -134,
};

/** Roundings of float32 that a log-sum-exp passes after its last addition of logits. */
const LSE_ROUNDOFF = 2 ** -22;

export const attentionBound = (bound: number, logitMagnitude: number): number =>
  bound * Math.max(1, (logitMagnitude / LOGIT_MAGNITUDE) ** 2);

/**
 * The bound with the rounding of the stored type.
 *
 * @param energy Σ|o_ref|² of the elements compared
 * @param count number of elements compared
 */
export const storedBound = (bound: number, dtype: Dtype, energy: number, count: number): number => {
  const floor = energy > 0 ? (count * LEAST_ROUNDING[dtype] ** 2) / energy : 0;
  return (Math.sqrt(bound) + UNIT_ROUNDOFF[dtype] + Math.sqrt(floor)) ** 2;
};

/**
 * Largest |lse − lse_ref|.
 *
 * @param logitError what a logit may be off by, relative to A, where that is more (`Arithmetic.logitError`)
 */
export const lseTolerance = (
  bound: number,
  logitMagnitude: number,
  lse: number,
  logitError = 0,
): number =>
  Math.max(
    Math.sqrt(bound) * Math.max(1, logitMagnitude / LOGIT_MAGNITUDE),
    logitError * logitMagnitude,
  ) +
  Math.abs(lse) * LSE_ROUNDOFF;
