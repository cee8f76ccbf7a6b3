/** All cases of a plan. */

import type { KernelCalls, Plan } from '../plan/index.ts';
import { attentionCases } from './attention-cases.ts';
import type { CaseContext, ConformanceCase } from './case.ts';
import { decodeCases, rotateCases } from './decode-cases.ts';
import { denseCases } from './dense-cases.ts';
import { encodeCases } from './encode-cases.ts';
import { createRandom } from './random.ts';
import { createScene, type Scene } from './scene.ts';

export interface SuiteOptions {
  readonly seed: number;
  /** B of the kernels' arithmetic. */
  readonly bound: number;
  /** `Arithmetic.logitError`, default 0. */
  readonly logitError?: number;
  /** Leave out what repeats a case with other numbers. */
  readonly quick?: boolean;
  /** Encoded bytes that differ may be certified (docs/exactness.md). Default: they must be equal. */
  readonly certify?: boolean;
  /** The same kernels on several threads: they must give the same bits. */
  readonly threaded?: KernelCalls;
  /** `Target.flushToZero`: encode must give the same bytes under it. */
  readonly flushToZero?: (on: boolean) => void;
}

/**
 * The conformance suite of one cache: the same cases on every target. Each case draws its numbers from the seed and its
 * own id, so that it does the same alone as among all.
 */
export const conformanceCases = (plan: Plan, options: SuiteOptions): ConformanceCase[] => {
  const random = createRandom(options.seed);
  const scenes = new Map<string, Scene>();
  const context: CaseContext = {
    plan,
    bound: options.bound,
    logitError: options.logitError ?? 0,
    random: (id) => random.fork(id),
    scene: (reference, wanted) => {
      const id = JSON.stringify(wanted);
      let scene = scenes.get(id);
      if (scene === undefined) {
        scene = createScene(plan, reference, wanted, random.fork(id));
        scenes.set(id, scene);
      }
      return scene;
    },
    certify: options.certify ?? false,
    quick: options.quick ?? false,
    threaded: options.threaded,
    flushToZero: options.flushToZero,
  };
  return [
    ...encodeCases(context),
    ...decodeCases(context),
    ...rotateCases(context),
    ...attentionCases(context),
    ...denseCases(context),
  ];
};
