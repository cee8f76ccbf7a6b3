/**
 * Certificates for what a device encodes whose float arithmetic cannot be pinned (docs/exactness.md, "Certified bytes").
 *
 * A token that differs from the reference's is computed again in float64 along its own codes. It is certified if each of
 * its codes is right or lies within rounding of a boundary at which it would be, and if its radii are those that such
 * codes lead to: either of two codes may stand at a boundary, and nothing else may differ.
 */

import type { CodecPlan, Transform } from '../plan/index.ts';
import {
  coderOf,
  fromF32Bits,
  getBits,
  getWord,
  type LevelTables,
  rotateVector,
} from '../reference/index.ts';
import type { Dtype } from '../spec/index.ts';
import { fromBrain, fromHalf } from './float-formats.ts';

/** How far beyond a boundary a code's node may lie, in norms of what the code was computed from. */
const REACH = 2 ** -20;

/** Share of the root of a row error by which it may be off: 1e-4 of the error. */
const ERROR_SHARE = 5e-5;

/** Differences below this add nothing to a row error (docs/format.md). */
const SMALLEST_LOSS = 2 ** -50;

const LARGEST_FLOAT = (2 - 2 ** -23) * 2 ** 127;

/** Coordinates below this become +0 before anything else (docs/format.md). */
const SMALLEST = 2 ** -64;

interface RadiusFormat {
  readonly largest: number;
  readonly nan: number;
  readonly value: (bits: number) => number;
}

const RADIUS_FORMATS: Readonly<Record<Dtype, RadiusFormat>> = {
  f16: { largest: 0x7bff, nan: 0x7e00, value: fromHalf },
  bf16: { largest: 0x7f7f, nan: 0x7fc0, value: fromBrain },
  f32: { largest: 0x7f7fffff, nan: 0x7fc00000, value: fromF32Bits },
};

/** The vector behind a token. */
export interface Source {
  readonly codec: CodecPlan;
  /** As kernels read it: converted to float32, in the original basis, not yet centred. */
  readonly row: ArrayLike<number>;
  readonly transform?: Transform | undefined;
  /** KV head, which of the transform's means and matrices is the row's. */
  readonly head: number;
}

/** What an encoder makes of it. */
export interface Token {
  /** As `loadRecord` gives it, with two readable bytes after the last. */
  readonly record: Uint8Array;
  /** The row error, if it was asked for. */
  readonly error?: number | undefined;
}

export interface Certificate {
  /** Codes of a token: angles, and logarithmic radii. */
  readonly codes: number;
  /** Those that are not the reference's. */
  readonly differing: number;
  /** Why the record is not certified; empty if it is. */
  readonly reason: string;
  /** Whether the row error is that of the record. */
  readonly errorHolds: boolean;
}

/** What a record says. */
interface Fields {
  /** [level][node]. */
  readonly codes: readonly (readonly number[])[];
  /** Radii as bit patterns, or the codes of logarithmic ones. */
  readonly radii: readonly number[];
  /** The pattern of the norm; null without one. */
  readonly norm: number | null;
}

/** Codes of one token. */
export const codesOf = ({ levels, radius, blocks }: CodecPlan): number =>
  levels.reduce((sum, { nodes }) => sum + nodes, radius.kind === 'log' ? blocks : 0);

/** Holds a target's token against the reference's. */
export const certifyToken = (source: Source, got: Token, want: Token): Certificate => {
  const codes = codesOf(source.codec);
  const same = Buffer.compare(got.record, want.record) === 0;
  if (same && Object.is(got.error, want.error)) {
    return { codes, differing: 0, reason: '', errorHolds: true };
  }
  const actual = fieldsOf(source.codec, got.record);
  const expected = fieldsOf(source.codec, want.record);
  const computed = compute(source, actual, expected);
  return {
    codes,
    differing: differingCodes(source.codec, actual, expected),
    reason: same ? '' : whyNot(source.codec, got.record, want.record, computed),
    errorHolds: errorHolds(source.codec, got.error, want.error, computed),
  };
};

const whyNot = (
  codec: CodecPlan,
  got: Uint8Array,
  want: Uint8Array,
  { misfit }: Computed,
): string =>
  Buffer.compare(paddingOf(codec, got), paddingOf(codec, want)) === 0
    ? misfit
    : 'bits of the record that hold nothing differ';

/** The error is that of the codes, of a vector moved by no more than rounding, summed in any order. */
const errorHolds = (
  { headDim }: CodecPlan,
  got: number | undefined,
  want: number | undefined,
  { error, norm }: Computed,
): boolean => {
  if (got === undefined || want === undefined || !Number.isFinite(want)) return got === want;
  const root = Math.sqrt(error);
  const allowed = ERROR_SHARE * root + REACH * norm + SMALLEST_LOSS * Math.sqrt(headDim);
  return Math.abs(Math.sqrt(got) - root) <= allowed;
};

/** S·(x − μ) in float64, in orthonormal scale: projections come as radii are stored. */
const preconditioned = ({ codec, row, transform, head }: Source): Float64Array => {
  const mean = codec.center ? transform?.mean : undefined;
  const vector = Float64Array.from(row, (x, i) => {
    const centred = mean ? Math.fround(x - mean[head * codec.headDim + i]!) : x;
    return Math.abs(centred) < SMALLEST ? 0 : centred;
  });
  rotateVector(coderOf(codec), 'forward', vector, transform, head);
  return vector;
};

const normOf = (vector: Float64Array): number =>
  Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));

const fieldsOf = ({ layout, levels, radius }: CodecPlan, record: Uint8Array): Fields => ({
  codes: levels.map(({ bits }, index) =>
    layout.codes[index]!.map((position) => getBits(record, position, bits)),
  ),
  radii: layout.radii.map((position) =>
    radius.bits === 32 ? getWord(record, position) : getBits(record, position, radius.bits),
  ),
  norm: layout.norm === null ? null : getBits(record, layout.norm, 16),
});

/** The record with zeros in all that `fieldsOf` reads. */
const paddingOf = ({ layout, levels, radius }: CodecPlan, record: Uint8Array): Uint8Array => {
  const rest = record.slice();
  const clear = (position: number, bits: number): void => {
    for (let at = position; at < position + bits; at++) rest[at >>> 3]! &= ~(1 << (at & 7));
  };
  levels.forEach(({ bits }, index) => {
    for (const position of layout.codes[index]!) clear(position, bits);
  });
  for (const position of layout.radii) clear(position, radius.bits);
  if (layout.norm !== null) clear(layout.norm, 16);
  return rest;
};

const countDifferent = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((count, code, i) => count + (code === b[i] ? 0 : 1), 0);

const differingCodes = ({ radius }: CodecPlan, a: Fields, b: Fields): number =>
  a.codes.reduce(
    (sum, level, index) => sum + countDifferent(level, b.codes[index]!),
    radius.kind === 'log' ? countDifferent(a.radii, b.radii) : 0,
  );

/** A token computed again, along its codes. */
interface Computed {
  /** The first field that rounding cannot have led to, and why; empty without one. */
  readonly misfit: string;
  /** Squared error of what it decodes to. */
  readonly error: number;
  /** Of the preconditioned vector. */
  readonly norm: number;
}

const compute = (source: Source, actual: Fields, expected: Fields): Computed => {
  const { codec } = source;
  const { radius, blocks } = codec;
  const vector = preconditioned(source);
  const norm = normOf(vector);
  const size = codec.headDim / blocks;
  const stored = storedRadii(codec, actual);
  const projections = new Float64Array(blocks);
  const reaches = new Float64Array(blocks);
  let misfit = '';
  let error = 0;
  for (let block = 0; block < blocks; block++) {
    const values = vector.subarray(block * size, (block + 1) * size);
    // Without preconditioning nothing of other blocks gets into this one: rounding is its own.
    const reach = REACH * (codec.precondition.kind === 'none' ? normOf(values) : norm);
    const walk = project(codec, values, actual, block, reach);
    misfit ||= blockMisfit(codec, walk, actual, expected, block, reach);
    error += walk.lost + (walk.projection - stored[block]!) ** 2;
    projections[block] = walk.projection;
    reaches[block] = reach;
  }
  if (radius.kind === 'log') misfit ||= logMisfit(codec, actual, projections, reaches);
  return { misfit, error, norm };
};

/** What radii decode to. */
const storedRadii = ({ radius }: CodecPlan, { radii, norm }: Fields): number[] =>
  radii.map((bits) =>
    radius.kind === 'log'
      ? radius.levels[bits]! * fromHalf(norm!)
      : RADIUS_FORMATS[radius.kind].value(bits),
  );

const blockMisfit = (
  codec: CodecPlan,
  walk: Walk,
  actual: Fields,
  expected: Fields,
  block: number,
  reach: number,
): string => {
  const { radius, blocks, scale } = codec;
  const format = radius.kind === 'log' ? undefined : RADIUS_FORMATS[radius.kind];
  const nan = format
    ? expected.radii[block] === format.nan
    : expected.norm === RADIUS_FORMATS.f16.nan;
  // Zeros and NaN are nothing that rounds.
  const exact = reach === 0 || (nan && format !== undefined);
  if (exact && sameBlock(block, blocks, actual, expected)) return '';
  if (reach === 0) return `block ${block} is zero: it must be as the reference has it`;
  // A sum that overflows on the way need not do so in another arithmetic, if the result does not.
  if (nan && !(walk.projection <= LARGEST_FLOAT * scale)) {
    return `block ${block} is not finite: it must be as the reference has it`;
  }
  const bits = actual.radii[block]!;
  if (walk.misfit !== '' || !format || isNearest(format, bits, walk.projection, reach)) {
    return walk.misfit;
  }
  return `block ${block}: radius ${format.value(bits)}, computed ${walk.projection}`;
};

/** True if radius and codes of a block are the same. */
const sameBlock = (block: number, blocks: number, a: Fields, b: Fields): boolean =>
  a.radii[block] === b.radii[block] &&
  a.codes.every((level, index) => {
    const width = level.length / blocks;
    const part = (codes: readonly number[]) => codes.slice(block * width, (block + 1) * width);
    return countDifferent(part(level), part(b.codes[index]!)) === 0;
  });

/** A block along its codes. */
interface Walk {
  readonly projection: number;
  /** Squared error of the angles. */
  readonly lost: number;
  /** The first code that rounding cannot have led to; empty without one. */
  readonly misfit: string;
}

const project = (
  codec: CodecPlan,
  values: Float64Array,
  fields: Fields,
  block: number,
  reach: number,
): Walk => {
  let below = values;
  let lost = 0;
  let misfit = '';
  for (const [index, level] of coderOf(codec).levels.entries()) {
    const projected = new Float64Array(below.length / 2);
    for (let i = 0; i < projected.length; i++) {
      const node = block * projected.length + i;
      const code = fields.codes[index]![node]!;
      const [x, y] = [below[2 * i]!, below[2 * i + 1]!];
      const entry = index === 0 ? magnitudeOf(code, level.bits) : code;
      const [u, v] = [Math.abs(x), Math.abs(y)];
      const beyond = Math.max(
        beyondThresholds(level, entry, u, v),
        index === 0 ? beyondAxes(code, level.bits, x, y) : -Infinity,
      );
      if (!(beyond <= reach)) {
        const distance = ((beyond / reach) * REACH).toExponential(1);
        misfit ||= `level ${index + 1}, node ${node}: code ${code} is ${distance}·‖y‖ from where it would be right`;
      }
      projected[i] = u * level.cos[entry]! + v * level.sin[entry]!;
      lost += (u * level.sin[entry]! - v * level.cos[entry]!) ** 2;
    }
    below = projected;
  }
  return { projection: below[0]!, lost, misfit };
};

/** Index of the magnitude in a code of level 1, between the signs. */
const magnitudeOf = (code: number, bits: number): number =>
  bits > 2 ? (code >>> 1) & ((1 << (bits - 2)) - 1) : 0;

/** How far (u, v) lies beyond the nearer boundary of an entry; negative between both. */
const beyondThresholds = (
  { thresholds }: LevelTables,
  entry: number,
  u: number,
  v: number,
): number => {
  // v·cosθ − u·sinθ for t = tan θ.
  const across = (t: number): number => (v - t * u) / Math.sqrt(1 + t * t);
  return Math.max(
    entry > 0 ? -across(thresholds[entry - 1]!) : -Infinity,
    entry < thresholds.length ? across(thresholds[entry]!) : -Infinity,
  );
};

/** How far (x, y) lies in a quadrant other than that of the signs; with one bit there is no sign of x. */
const beyondAxes = (code: number, bits: number, x: number, y: number): number =>
  Math.max(bits > 1 ? (code & 1 ? x : -x) : -Infinity, code >>> (bits - 1) ? y : -y);

/** True if a stored value is the exact one, clamped, but for one unit in the last place, or `reach` if that is more. */
const isNearest = (format: RadiusFormat, bits: number, exact: number, reach: number): boolean => {
  const { largest, value } = format;
  if (bits > largest) return false;
  const unit = bits < largest ? value(bits + 1) - value(bits) : value(bits) - value(bits - 1);
  return Math.abs(value(bits) - Math.min(exact, value(largest))) <= Math.max(unit, reach);
};

/** The norm within one unit in the last place; radii on their side of the thresholds times that norm. */
const logMisfit = (
  { radius }: CodecPlan,
  { norm: bits, radii }: Fields,
  projections: Float64Array,
  reaches: Float64Array,
): string => {
  if (radius.kind !== 'log') return '';
  const exact = normOf(projections);
  const norm = fromHalf(bits!);
  const right = exact === 0 ? bits === 0 : isNearest(RADIUS_FORMATS.f16, bits!, exact, 0);
  if (!right) return `norm ${norm}, computed ${exact}`;
  for (const [block, code] of radii.entries()) {
    const r = projections[block]!;
    const beyond = Math.max(
      code > 0 ? radius.thresholds[code - 1]! * norm - r : -Infinity,
      code < radius.thresholds.length ? r - radius.thresholds[code]! * norm : -Infinity,
    );
    if (reaches[block]! > 0 && !(beyond <= reaches[block]!)) {
      return `block ${block}: radius code ${code} for ${r}, norm ${norm}`;
    }
  }
  return '';
};
