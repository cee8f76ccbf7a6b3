/**
 * Decoding tables in f16. An entry that is rounded is off in the same direction wherever it is used, and so is the length
 * of every vector: a table is multiplied by the factor for which its entries round best, and the factors are divided out
 * of the radius, which is a float32.
 */

import type { CodecPlan } from '../../generator/plan/index.ts';
import {
  bestHalfScale,
  canJoin,
  cellShape,
  directions,
  leafIndex,
  roundToHalf,
} from '../../generator/target/index.ts';

export interface HalfTable {
  /** Every number an f16. */
  readonly entries: readonly (readonly number[])[];
  /** What the entries were multiplied with, from 1/2 to 1. */
  readonly scale: number;
}

/** Of levels 1 and 2: a coordinate passes the left table or the right one, so one scale is for both. */
export interface HalfBranches {
  readonly left: HalfTable['entries'];
  readonly right: HalfTable['entries'];
  readonly scale: number;
}

export interface HalfTables {
  /** By level; null where a table of two levels stands in. */
  readonly levels: readonly (HalfTable | null)[];
  readonly branches: HalfBranches | null;
  /** Of levels 3 and 4. */
  readonly joint: HalfTable | null;
  /** float32: one over the product of all scales, which a coordinate passes once each. */
  readonly factor: number;
}

/** Steps of the search: a 4096th each. */
const STEPS = 2048;

function halfTable(vectors: readonly (readonly number[])[]): HalfTable {
  const scale = bestHalfScale(vectors.flat(), STEPS);
  return { scale, entries: vectors.map((vector) => vector.map((x) => roundToHalf(scale * x))) };
}

/** The tables of the levels within a cell; if `join`, those of two levels where their codes stand side by side. */
export function halfTables(codec: CodecPlan, join: boolean): HalfTables {
  const branched = join && leafIndex(codec) === 'branch';
  const joined = join && canJoin(codec);
  const within = codec.levels.slice(0, cellShape(codec).levels);
  const levels = within.map((level) =>
    (branched && level.level <= 2) || (joined && level.level >= 3)
      ? null
      : halfTable(directions(level)),
  );
  const branches = branched ? halfBranches(codec) : null;
  const joint = joined ? halfTable(jointEntries(codec)) : null;
  const scales = [...levels, branches, joint].flatMap((table) => table?.scale ?? []);
  return { levels, branches, joint, factor: Math.fround(1 / scales.reduce((a, b) => a * b, 1)) };
}

/** Coordinates under a radius of 1 at level 2, by joint codes with the first one in the lower bits. */
function halfBranches(codec: CodecPlan): HalfBranches {
  const first = directions(codec.levels[0]!);
  const second = directions(codec.levels[1]!);
  const left = second.flatMap(([cos]) => first.map(([x, y]) => [cos * x, cos * y]));
  const right = first.flatMap(([x, y]) => second.map(([, sin]) => [sin * x, sin * y]));
  const { scale, entries } = halfTable([...left, ...right]);
  return { left: entries.slice(0, left.length), right: entries.slice(left.length), scale };
}

/** Radii at level 2 under a root of 1: the codes of level 3 in the lower bits, the first one lowest. */
function jointEntries(codec: CodecPlan): number[][] {
  const third = directions(codec.levels[2]!);
  const fourth = directions(codec.levels[3]!);
  return fourth.flatMap(([c, s]) =>
    third.flatMap((second) =>
      third.map((first) => [c * first[0], c * first[1], s * second[0], s * second[1]]),
    ),
  );
}
