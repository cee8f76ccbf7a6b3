/** The loop of a kernel that its time goes to, and the path through it that is taken nearly always. */

import { UserError } from '../../generator/diagnostics/index.ts';
import { type Instruction, mnemonic, type SassKernel } from './sass.ts';
import { allLoops, type Flow, flowOf, type Loop } from './sass-flow.ts';
import { pipeOf } from './sass-pipes.ts';

/** How to find the loop, where its instructions alone do not tell. */
export interface LoopHints {
  /**
   * Trips of the loops inside it, all of them in order of address, for each trip of the loop around them; 0: it stands
   * on a path that is hardly taken. Left out: it has none that matter.
   */
  readonly trips?: readonly number[];
  /**
   * The path that counts has such an instruction, modifiers and all: `PMTRIG` of `asm volatile("pmevent 0;")`; of
   * several, each.
   */
  readonly contains?: string | readonly string[];
  /** Of the loops that have such a path the smallest one counts: the others do the same and more. */
  readonly smallest?: boolean;
  /** Some trips take the shortest path through such an instruction instead, `share` of them. */
  readonly detours?: readonly { readonly contains: string; readonly share: number }[];
}

export interface HotPath {
  /** What one trip executes, and how often on average. */
  readonly steps: readonly { readonly instruction: Instruction; readonly times: number }[];
  /** Instructions of the loop beside the path. */
  readonly cold: number;
  /** Loops on the path that were counted once, their trips being unknown. */
  readonly uncounted: number;
  /** Instructions of detours that the loop does not have; their trips count as all others. */
  readonly notFound: readonly string[];
  /** Addresses of its first instruction and of the jump back. */
  readonly begin: number;
  readonly end: number;
}

/**
 * The loop with the most instructions of the tensor pipe outside of loops inside it, among equals the largest; of
 * several paths through it the one with most of them, among equals the shortest without calls. Throws a `UserError`
 * where there is no such loop.
 */
export function hotPathOf(kernel: SassKernel, hints: LoopHints = {}): HotPath {
  const flow = flowOf(kernel.instructions);
  const inside = hints.trips?.length;
  const candidates = allLoops(flow.loops).filter(
    (loop) => inside === undefined || allLoops(loop.inner).length === inside,
  );
  let best: { path: Path; score: Score; loop: Loop } | null = null;
  for (const loop of candidates) {
    const path = pathThrough(flow, loop, hints);
    if (path === null) continue;
    const score = scoreOf(flow, path, inside === undefined ? loop.inner : []);
    const [low, high] = hints.smallest ? [score, best?.score] : [best?.score, score];
    if (low === undefined || high === undefined || less(low, high)) best = { path, score, loop };
  }
  if (best === null) {
    const wanted = [
      ...(inside === undefined ? [] : [` that holds ${inside} others`]),
      ...(hints.contains === undefined ? [] : [` with ${marksOf(hints).join(' and ')}`]),
    ].join('');
    throw missing(kernel.name, wanted);
  }
  return hotPath(flow, best.loop, best.path, hints);
}

const missing = (kernel: string, wanted: string): UserError =>
  new UserError(
    'P306',
    `the machine code of ${kernel} has no loop${wanted} to count`,
    'compile it with the version of nvcc that docs/performance.md names',
  );

/**
 * Better paths enter more of the loops inside that have trips, then hold more of the tensor pipe, then fewer calls (of
 * code for rare operands, the instructions of which are elsewhere), then fewer instructions.
 */
interface Rank {
  readonly entered: number;
  readonly tensor: number;
  readonly calls: number;
  readonly size: number;
}

interface Path {
  readonly blocks: readonly number[];
  readonly rank: Rank;
}

interface Score {
  readonly tensor: number;
  readonly size: number;
}

const less = (a: Score, b: Score): boolean =>
  a.tensor < b.tensor || (a.tensor === b.tensor && a.size < b.size);

const better = (a: Rank, b: Rank): boolean =>
  (b.entered - a.entered || b.tensor - a.tensor || a.calls - b.calls || a.size - b.size) < 0;

/** One with a predicate leaves a path as a branch does. */
export const isCall = ({ opcode, predicate }: Instruction): boolean =>
  opcode === 'CALL' && predicate === null;

const tensorOf = (instructions: readonly Instruction[]): number =>
  instructions.filter((instruction) => pipeOf(instruction) === 'tensor').length;

const marksOf = ({ contains = [] }: Pick<LoopHints, 'contains'>): readonly string[] =>
  typeof contains === 'string' ? [contains] : contains;

/**
 * The best path from the header to a jump back, which passes loops inside once; null where none holds the
 * instructions that it has to.
 */
function pathThrough(flow: Flow, loop: Loop, hints: LoopHints): Path | null {
  const { trips } = hints;
  const inside = allLoops(loop.inner);
  const entered = new Set(
    loop.inner
      .filter((inner) => inside.length === trips?.length && trips[inside.indexOf(inner)]! > 0)
      .map(({ header }) => header),
  );
  const marks = marksOf(hints);
  /** Bit i: the block has mark i. */
  const marksIn = (block: number): number =>
    loop.inner.some(({ body }) => body.has(block))
      ? 0
      : marks.reduce(
          (bits, mark, i) =>
            flow.blocks[block]!.instructions.some((each) => mnemonic(each) === mark)
              ? bits | (1 << i)
              : bits,
          0,
        );
  const position = new Map(flow.order.map((block, at) => [block, at]));
  /** By the marks that a path has passed and the block that it ends in, the best one. */
  const best = Array.from({ length: 1 << marks.length }, () => new Map<number, Path>());
  const extend = (passed: number, to: number, from: Path | undefined): void => {
    const { instructions } = flow.blocks[to]!;
    const before = from?.rank ?? { entered: 0, tensor: 0, calls: 0, size: 0 };
    const rank = {
      entered: before.entered + Number(entered.has(to)),
      tensor: before.tensor + tensorOf(instructions),
      calls: before.calls + instructions.filter(isCall).length,
      size: before.size + instructions.length,
    };
    const paths = best[passed | marksIn(to)]!;
    const known = paths.get(to);
    if (known !== undefined && !better(rank, known.rank)) return;
    paths.set(to, { blocks: [...(from?.blocks ?? []), to], rank });
  };
  extend(0, loop.header, undefined);
  for (const block of flow.order) {
    for (const to of flow.blocks[block]!.successors) {
      // Jumps back, of this loop and of those inside, end a path.
      if (!loop.body.has(to) || position.get(to)! <= position.get(block)!) continue;
      for (const [passed, paths] of best.entries())
        if (paths.has(block)) extend(passed, to, paths.get(block));
    }
  }
  const paths = loop.latches.flatMap((latch) => best.at(-1)!.get(latch) ?? []);
  // Of several jumps back, the one behind the most work; with the tensor pipe's, the shortest way there.
  return paths.reduce<Path | null>(
    (a, b) =>
      a === null ||
      a.rank.entered < b.rank.entered ||
      (a.rank.entered === b.rank.entered &&
        (a.rank.tensor > 0 && a.rank.tensor === b.rank.tensor
          ? better(b.rank, a.rank)
          : less(a.rank, b.rank)))
        ? b
        : a,
    null,
  );
}

function scoreOf(flow: Flow, path: Path, except: readonly Loop[]): Score {
  const own = path.blocks.filter((block) => !except.some(({ body }) => body.has(block)));
  const instructions = own.flatMap((block) => flow.blocks[block]!.instructions);
  return { tensor: tensorOf(instructions), size: instructions.length };
}

function hotPath(flow: Flow, loop: Loop, path: Path, hints: LoopHints): HotPath {
  const { detours = [], ...plain } = hints;
  const times = new Map<number, number>();
  const notFound: string[] = [];
  let straight = 1;
  for (const { contains, share } of detours) {
    const detour = pathThrough(flow, loop, { ...plain, contains });
    if (detour === null) {
      notFound.push(contains);
      continue;
    }
    straight -= share;
    addPath(flow, loop, detour, share, plain, times);
  }
  const uncounted = addPath(flow, loop, path, straight, plain, times);
  const sizeOf = (blocks: Iterable<number>): number =>
    [...blocks].reduce((sum, block) => sum + flow.blocks[block]!.instructions.length, 0);
  return {
    steps: [...times]
      .sort(([a], [b]) => a - b)
      .flatMap(([block, count]) =>
        flow.blocks[block]!.instructions.map((instruction) => ({ instruction, times: count })),
      ),
    cold: sizeOf(loop.body) - sizeOf(times.keys()),
    uncounted,
    notFound,
    begin: flow.blocks[loop.header]!.instructions[0]!.address,
    end: flow.blocks[path.blocks.at(-1)!]!.instructions.at(-1)!.address,
  };
}

/** Adds a path `count` times, and those through the loops on it for their further trips; loops left uncounted. */
function addPath(
  flow: Flow,
  loop: Loop,
  path: Path,
  count: number,
  { trips }: LoopHints,
  times: Map<number, number>,
): number {
  for (const block of path.blocks) times.set(block, (times.get(block) ?? 0) + count);
  const inside = allLoops(loop.inner);
  let uncounted = 0;
  for (const inner of loop.inner) {
    if (!path.blocks.includes(inner.header)) continue;
    if (trips === undefined) {
      uncounted++;
      continue;
    }
    // A loop whose test stands at its end was passed once already, one with its test in front was only looked at.
    const passed = inner.latches.some((latch) => path.blocks.includes(latch)) ? 1 : 0;
    const at = inside.indexOf(inner);
    const own = trips.slice(at + 1, at + 1 + allLoops(inner.inner).length);
    const through = pathThrough(flow, inner, { trips: own });
    if (through === null) continue;
    const further = count * (trips[at]! - passed);
    uncounted += addPath(flow, inner, through, further, { trips: own }, times);
  }
  return uncounted;
}
