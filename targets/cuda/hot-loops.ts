/** The loops over tokens that decide how fast attention is. */

import type { Plan, Role } from '../../generator/plan/index.ts';
import { blockOf, noHalf, stepTokens, versionsOf } from './half-view.ts';
import type { LoopHints } from './sass-hot-loop.ts';

/** A kernel and its loop; what only the emitted code knows is the name of a constant there. */
export interface TokenLoop extends LoopHints {
  /** `attend_half_joint8`: of the kernel `NAME_cuda_kernel_attend_half_joint8`. */
  readonly kernel: string;
  readonly constants: {
    /** Threads and bytes of shared memory of a block. */
    readonly threads: string;
    readonly sharedBytes: string;
    /** Tokens that one warp consumes in one trip, keys and values. */
    readonly tokens: string;
    /** How often all tokens are gone through: for the queries of a group that do not fit into one trip. */
    readonly rounds: string;
  };
  /** Parcels that a read of shared memory takes for one without conflicts. Default 1. */
  readonly conflicts?: number;
}

export function tokenLoopsOf(plan: Plan): readonly TokenLoop[] {
  if (plan.arithmetic.cuda !== 'half' || noHalf(plan) !== null) return [];
  // Where words are loaded as they are needed, cells of keys are gone through in a loop.
  const cells = Math.ceil(plan.key.headDim / 64);
  const inner = blockOf(plan).ahead ? {} : { trips: [cells] };
  return versionsOf(plan).map(({ name }) => ({
    ...inner,
    kernel: `attend_half_${name}`,
    constants: {
      threads: 'attend_half_threads',
      sharedBytes: `attend_half_${name}_shared_bytes`,
      tokens: 'half_step',
      rounds: 'half_parts',
    },
    // The index of the next page is the one number that is read from memory by itself.
    detours: [{ contains: 'LD.E', share: stepTokens(plan) / plan.pageTokens }],
  }));
}

/** Coordinates of a token, keys and values together, and the packed bytes that they are read from. */
export function sizeOfToken(plan: Plan): { readonly coordinates: number; readonly bytes: number } {
  const bytesOf = (role: Role): number => {
    const { unitBytes, unitTokens } = plan[role].layout;
    return unitBytes / unitTokens;
  };
  return {
    coordinates: plan.key.headDim + plan.value.headDim,
    bytes: bytesOf('key') + bytesOf('value'),
  };
}
