/** What the hot loop of a kernel executes, and what takes longest of it on a GPU. */

import type { SassKernel } from './sass.ts';
import { type HotPath, hotPathOf, isCall, type LoopHints } from './sass-hot-loop.ts';
import { isOverhead, PIPES, type Pipe, pipeOf, tensorTiles, wavefronts } from './sass-pipes.ts';
import { type Architecture, cyclesOfBytes, type Gpu, type Rates } from './sass-rates.ts';

/** What the machine code does not tell of a loop. */
export interface CountHints extends LoopHints {
  /** Parcels that a read of shared memory takes for one without conflicts. Default 1. */
  readonly conflicts?: number;
}

/** Of one warp and one trip. */
export interface LoopCount {
  readonly path: HotPath;
  readonly instructions: number;
  readonly pipes: Readonly<Record<Pipe, number>>;
  readonly wavefronts: number;
  /** 16 × 8 × 16 products of matrices. */
  readonly tiles: number;
  /** Moves and reads of special registers. */
  readonly overhead: number;
  /** Calls of functions, whose instructions are not counted. */
  readonly calls: number;
  /** Opcodes that no pipe is known for, counted as `alu`. */
  readonly unknown: readonly string[];
}

/** The pipes that can bind; `fma` is the one that float32, f16 and whole products share. */
export const BINDING = ['issue', 'alu', 'fma', 'lsu', 'xu', 'tensor'] as const;
export type Binding = (typeof BINDING)[number];
export type Cycles = Readonly<Record<Binding, number>>;

export function countLoop(kernel: SassKernel, hints: CountHints): LoopCount {
  return countPath(hotPathOf(kernel, hints), hints.conflicts);
}

function countPath(path: HotPath, conflicts = 1): LoopCount {
  const pipes = Object.fromEntries(PIPES.map((pipe) => [pipe, 0])) as Record<Pipe, number>;
  const unknown = new Set<string>();
  const sum = { instructions: 0, wavefronts: 0, tiles: 0, overhead: 0, calls: 0 };
  for (const { instruction, times } of path.steps) {
    const pipe = pipeOf(instruction);
    if (pipe === null) unknown.add(instruction.opcode);
    pipes[pipe ?? 'alu'] += times;
    sum.instructions += times;
    const factor = instruction.opcode === 'LDS' ? conflicts : 1;
    sum.wavefronts += times * factor * wavefronts(instruction);
    sum.tiles += times * tensorTiles(instruction);
    if (isOverhead(instruction)) sum.overhead += times;
    if (isCall(instruction)) sum.calls += times;
  }
  return { path, pipes, unknown: [...unknown].sort(), ...sum };
}

/** Cycles of one sub-partition for one trip of one warp, by pipe: the greatest binds if there are warps enough. */
export function cyclesOf(count: LoopCount, rates: Rates): Cycles {
  const { alu, fma, half, imad, xu } = count.pipes;
  // The light half of the pipe has no whole products: they take both halves' time on one.
  const shared = fma * rates.fma + half * rates.half + (imad * rates.imad) / 2;
  return {
    issue: count.instructions,
    alu: alu * rates.alu,
    fma: Math.max(shared, imad * rates.imad),
    lsu: count.wavefronts * rates.wavefront,
    xu: xu * rates.xu,
    tensor: count.tiles * rates.tensor,
  };
}

/** The pipe that is busy longest. */
export const bindingPipe = (cycles: Cycles): Binding =>
  BINDING.reduce((a, b) => (cycles[b] > cycles[a] ? b : a));

/** Time that memory needs over time that the busiest pipe needs: from 1 on memory is the limit. */
export function headroom(cycles: Cycles, gpu: Gpu, bytes: number): number {
  return cyclesOfBytes(gpu, bytes) / cycles[bindingPipe(cycles)];
}

export interface Forecast {
  readonly count: LoopCount;
  readonly cycles: Cycles;
  readonly bound: Binding;
}

export function forecast(kernel: SassKernel, hints: CountHints, { rates }: Architecture): Forecast {
  const count = countLoop(kernel, hints);
  const cycles = cyclesOf(count, rates);
  return { count, cycles, bound: bindingPipe(cycles) };
}
