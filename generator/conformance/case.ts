/** One case of the suite. */

import type { KernelCalls, Plan } from '../plan/index.ts';
import type { Reference } from '../reference/index.ts';
import type { CaseResult } from './judge.ts';
import type { Random } from './random.ts';
import type { Scene, SceneOptions } from './scene.ts';

export interface ConformanceCase {
  /** Kernel and what is special, for example `attend: block table, window, f16 queries`. */
  readonly id: string;
  readonly kernel: string;
  run(calls: KernelCalls, reference: Reference): Promise<CaseResult>;
}

/** What the cases of one plan are made from. */
export interface CaseContext {
  readonly plan: Plan;
  /** B of the kernels' arithmetic. */
  readonly bound: number;
  /** `Arithmetic.logitError`. */
  readonly logitError: number;
  /** A generator of the case's own. */
  random(id: string): Random;
  /** A packed cache; cases that ask for the same one share it, as kernels only read it. */
  scene(reference: Reference, options: SceneOptions): Scene;
  /** The same kernels on several threads, where there are such. */
  readonly threaded: KernelCalls | undefined;
  /** Turns flush-to-zero of this thread on or off, where the target can. */
  readonly flushToZero: ((on: boolean) => void) | undefined;
  /** Encoded bytes that differ may be certified (docs/exactness.md). */
  readonly certify: boolean;
  /** Fewer and smaller cases. */
  readonly quick: boolean;
}
