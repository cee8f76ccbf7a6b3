/** The loops over tokens that decide how fast attention and encode are. */

import type { Plan, Role } from '../../generator/plan/index.ts';
import { lanesAreAlone } from './coder-view.ts';
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
    /** Tokens that one warp consumes in one trip. */
    readonly tokens: string;
    /** How often all tokens are gone through: for the queries of a group that do not fit into one trip. Default 1. */
    readonly rounds?: string;
  };
  /** Of a token. */
  readonly size: Size;
  /** Parcels that a read of shared memory takes for one without conflicts. Default 1. */
  readonly conflicts?: number;
}

/** What a loop goes through. */
export interface Size {
  readonly coordinates: number;
  /** Read and written. */
  readonly bytes: number;
}

/** All that is predicted of a cache. */
export const tokenLoopsOf = (plan: Plan): readonly TokenLoop[] => [
  ...attentionLoopsOf(plan),
  ...encodeLoopsOf(plan),
];

function attentionLoopsOf(plan: Plan): readonly TokenLoop[] {
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
    size: sizeOfToken(plan),
    // The index of the next page is the one number that is read from memory by itself.
    detours: [{ contains: 'LD.E', share: stepTokens(plan) / plan.pageTokens }],
  }));
}

/**
 * Keys of 16 bits a coordinate that become packed ones, as `encode` has them without errors; of formats whose lanes
 * each hold whole words from load to store. They are the same in every arithmetic, so they are counted in one.
 */
function encodeLoopsOf(plan: Plan): readonly TokenLoop[] {
  const { key } = plan;
  if (plan.arithmetic.cuda !== 'half' || noHalf(plan) !== null) return [];
  if (key.precondition.kind !== 'hadamard' || !lanesAreAlone(key)) return [];
  return [
    {
      kernel: 'encode_key',
      constants: {
        threads: 'key::encode_threads',
        sharedBytes: 'key::encode_shared_bytes',
        tokens: 'key::warp_rows',
      },
      size: { coordinates: key.headDim, bytes: 2 * key.headDim + bytesOf(plan, 'key') },
      // Rows that stand on 16 bytes, of f16, and their words. With errors the loop is larger.
      contains: ['LDG.E.128', 'HADD2.F32', 'STG.E'],
      smallest: true,
    },
  ];
}

/** Keys and values together, and what is read of them. */
const sizeOfToken = (plan: Plan): Size => ({
  coordinates: plan.key.headDim + plan.value.headDim,
  bytes: bytesOf(plan, 'key') + bytesOf(plan, 'value'),
});

function bytesOf(plan: Plan, role: Role): number {
  const { unitBytes, unitTokens } = plan[role].layout;
  return unitBytes / unitTokens;
}
