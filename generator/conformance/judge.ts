/** Collects what one case finds and turns it into its result. */

import type { Dtype } from '../spec/index.ts';
import { loadElement } from './float-formats.ts';
import { overwrittenGuards, type RowBuffer } from './row-buffer.ts';
import { storedBound } from './tolerances.ts';

export interface CaseResult {
  readonly ok: boolean;
  /** Bytes that differ from the reference's, certified or not; encode cases only. */
  readonly differingBytes?: number;
  /** Codes that differ but lie within rounding of their boundary; targets that cannot fix rounding only. */
  readonly certified?: number;
  /** Normalised squared error of the worst KV head, 0 where nothing but bytes is compared. */
  readonly error: number;
  /** What that error must not exceed. */
  readonly bound: number;
  /** What is wrong, empty when nothing is. */
  readonly message: string;
}

export interface Judge {
  fail(message: string): void;
  /**
   * Bytes that must be equal; counted as differing bytes.
   *
   * @param left `actual` without what may differ, default `actual`: the bytes that must be equal
   */
  bytes(
    what: string,
    actual: Uint8Array,
    expected: Uint8Array,
    where: (at: number) => string,
    left?: Uint8Array,
  ): void;
  /** Codes that differ and may. */
  certified(count: number): void;
  /** Whole words that must be equal (row errors as bit patterns, flags). */
  words(what: string, actual: Uint32Array, expected: Uint32Array): void;
  /**
   * Rows against float64, KV head by KV head.
   *
   * @param expected [row][head][dimension], contiguous
   * @param headsPerKv heads compared together
   * @param bounds of the normalised squared error, one for all or one a KV head, without the rounding of the stored type
   * @param energies what to normalise by, a KV head; default Σ|o_ref|²
   * @param rowsToCompare the first so many; default all
   */
  rows(
    what: string,
    actual: RowBuffer,
    expected: ArrayLike<number>,
    headsPerKv: number,
    bounds: number | ArrayLike<number>,
    energies?: ArrayLike<number>,
    rowsToCompare?: number,
  ): void;
  /** Log-sum-exps, [row][head], each with its tolerance. */
  lse(
    what: string,
    actual: ArrayLike<number>,
    expected: ArrayLike<number>,
    tolerance: (at: number, expected: number) => number,
  ): void;
  result(): CaseResult;
}

/** Failures told in a result; the rest are counted. */
const TOLD = 3;

const short = (value: number): string =>
  Number.isFinite(value) ? value.toPrecision(6) : String(value);

/** NaN and infinities of the reference must stand where they stand there, and nowhere else. */
const sameClass = (actual: number, expected: number): boolean =>
  Number.isNaN(expected)
    ? Number.isNaN(actual)
    : Number.isFinite(expected)
      ? Number.isFinite(actual)
      : actual === expected;

const differences = (
  actual: Uint8Array,
  expected: Uint8Array,
): { readonly count: number; readonly first: number } => {
  let count = 0;
  let first = -1;
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i]) continue;
    if (first < 0) first = i;
    count++;
  }
  return { count, first };
};

export const createJudge = (): Judge => {
  const failures: string[] = [];
  let differingBytes: number | undefined;
  let certified = 0;
  let worst = { ratio: -1, error: 0, bound: 0 };

  const measure = (error: number, bound: number): void => {
    const ratio = bound > 0 ? error / bound : error > 0 ? Number.POSITIVE_INFINITY : 0;
    if (!(ratio <= worst.ratio)) worst = { ratio, error, bound };
  };

  const judge: Judge = {
    fail: (message) => {
      failures.push(message);
    },
    bytes: (what, actual, expected, where, left = actual) => {
      differingBytes = (differingBytes ?? 0) + differences(actual, expected).count;
      const { count, first } = differences(left, expected);
      if (count > 0) {
        failures.push(
          `${what}: ${count} bytes differ, the first ${where(first)} is ${left[first]}, not ${expected[first]}`,
        );
      }
    },
    certified: (count) => {
      certified += count;
    },
    words: (what, actual, expected) => {
      for (let i = 0; i < expected.length; i++) {
        if (actual[i] !== expected[i]) {
          const hex = (word: number): string => `0x${word.toString(16).padStart(8, '0')}`;
          failures.push(`${what}[${i}] is ${hex(actual[i]!)}, not ${hex(expected[i]!)}`);
          return;
        }
      }
    },
    rows: (what, actual, expected, headsPerKv, bounds, energies, rowsToCompare) => {
      const { count, heads, dimension, dtype } = actual;
      const overwritten = overwrittenGuards(actual);
      if (overwritten > 0) {
        failures.push(`${what}: ${overwritten} elements outside the rows were written`);
      }
      for (let kvHead = 0; kvHead * headsPerKv < heads; kvHead++) {
        const bound = typeof bounds === 'number' ? bounds : bounds[kvHead]!;
        let difference = 0;
        let energy = 0;
        let compared = 0;
        let misplaced = '';
        for (let row = 0; row < (rowsToCompare ?? count); row++) {
          for (let inner = 0; inner < headsPerKv; inner++) {
            const head = kvHead * headsPerKv + inner;
            const at = actual.at(row, head);
            const from = (row * heads + head) * dimension;
            for (let i = 0; i < dimension; i++) {
              const got = loadElement(actual.data, dtype, at + i);
              const want = expected[from + i]!;
              if (!sameClass(got, want)) {
                misplaced ||= `${what}[row ${row}][head ${head}][${i}] is ${short(got)}, not ${short(want)}`;
              } else if (Number.isFinite(want)) {
                difference += (got - want) ** 2;
                energy += want ** 2;
                compared++;
              }
            }
          }
        }
        if (misplaced !== '') {
          failures.push(misplaced);
          measure(Number.POSITIVE_INFINITY, bound);
          continue;
        }
        const norm = energies?.[kvHead] ?? energy;
        const allowed = storedBound(bound, dtype as Dtype, norm, compared);
        const error = difference === 0 ? 0 : difference / norm;
        measure(error, allowed);
        if (!(error <= allowed)) {
          failures.push(
            `${what}, KV head ${kvHead}: squared error ${error.toExponential(2)} of the output, bound ${allowed.toExponential(2)}`,
          );
        }
      }
    },
    lse: (what, actual, expected, tolerance) => {
      for (let i = 0; i < expected.length; i++) {
        const got = actual[i]!;
        const want = expected[i]!;
        const far = Number.isFinite(want) && Math.abs(got - want) > tolerance(i, want);
        if (!sameClass(got, want) || far) {
          failures.push(`${what}[${i}] is ${short(got)}, not ${short(want)}`);
          return;
        }
      }
    },
    result: () => {
      const told = failures.slice(0, TOLD);
      const more = failures.length - told.length;
      return {
        ok: failures.length === 0,
        ...(differingBytes === undefined ? {} : { differingBytes, certified }),
        error: worst.error,
        bound: worst.bound,
        message: told.join('; ') + (more > 0 ? ` (and ${more} more)` : ''),
      };
    },
  };
  return judge;
};
