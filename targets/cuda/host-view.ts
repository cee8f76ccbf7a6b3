/** Plan → what launchers and the header are printed from: which kernels there are and what each takes. */

import { symbolPrefix } from '../../generator/naming/index.ts';
import { type Plan, ROLES, type Role } from '../../generator/plan/index.ts';
import type { View } from '../../generator/target/index.ts';
import { halfView, versionsOf } from './half-view.ts';

const ID = 'cuda';

/** Kernels that read packed or dense tokens, with what the header says of them. */
const ATTENTION: readonly { kernel: string; units: boolean; what: string }[] = [
  { kernel: 'scores', units: false, what: 'Logits of queries against packed keys.' },
  { kernel: 'weighted_sum', units: false, what: 'Sums of packed values by given weights.' },
  {
    kernel: 'attend',
    units: true,
    what: 'Softmax attention over packed keys and values, and its log-sum-exp.',
  },
  { kernel: 'attend_dense', units: true, what: 'The same over rows of full precision.' },
];

/** Kernels over whole caches: the structure that each takes, the blocks that share an item of its work. */
const KERNELS: readonly (readonly [name: string, takes: string, parts: string])[] = [
  ['prepare_scores', 'ScoresArguments', '1'],
  ['prepare_weighted_sum', 'WeightedSumArguments', '1'],
  ['prepare_attend', 'AttendArguments', '1'],
  ['prepare_attend_dense', 'AttendDenseArguments', '1'],
  ['scores', 'ScoresArguments', 'scores_parts'],
  ['weighted_sum', 'WeightedSumArguments', 'weighted_sum_parts'],
  ['attend', 'AttendArguments', 'attend_parts'],
  ['attend_dense', 'AttendDenseArguments', 'attend_dense_parts'],
  ['combine_weighted_sum', 'WeightedSumArguments', '1'],
  ['combine_attend', 'AttendArguments', '1'],
  ['combine_attend_dense', 'AttendDenseArguments', '1'],
  ['merge', 'MergeArguments', '1'],
];

/** Kernels of one format: a block takes several rows at a time. */
const CODERS = ['encode', 'decode', 'rotate'];

export function hostView(plan: Plan): View {
  const prefix = `${symbolPrefix(plan.name, ID)}_`;
  const open = prefix.length > 24 ? '\n    ' : '';
  const half = halfKernels(plan);
  const kernels = [...coders(plan), ...KERNELS.map(kernelOf), ...half.map(halfKernel)];
  return {
    wrap: prefix.length > 60 ? '\n' : '',
    roles: ROLES.map((role) => ({ role, prefix, open })),
    attention: ATTENTION.map(({ kernel, units, what }) => ({ kernel, units, what, prefix, open })),
    kernels: kernels.map((kernel, i) => ({ ...kernel, number: String(i) })),
    kernelCount: String(kernels.length),
    halfKernels: half.filter((name) => !name.endsWith('_strided')).map((name) => ({ name })),
  };
}

function coders(plan: Plan): View[] {
  const roles: readonly Role[] = plan.key.formatHash === plan.value.formatHash ? ['key'] : ROLES;
  return roles.flatMap((role) =>
    CODERS.map((coder) => ({
      name: `${coder}_${role}`,
      takes: `polarc_${coder}_params`,
      room: `${role}::`,
      threads: `${role}::${coder}_threads`,
      sharedBytes: `${role}::${coder}_shared_bytes`,
      items: `${role}::${coder}_block_rows`,
      parts: '1',
      alone: '0',
    })),
  );
}

function kernelOf([name, takes, parts]: (typeof KERNELS)[number]): View {
  const [threads, sharedBytes] = [`${name}_threads`, `${name}_shared_bytes`];
  return { name, takes, room: '', threads, sharedBytes, items: '1', parts, alone: '0' };
}

/** Those of attention in half precision, the one with the largest tables first, each for any strides too. */
function halfKernels(plan: Plan): string[] {
  if (halfView(plan).half !== true) return [];
  return versionsOf(plan).flatMap(({ name }) => [
    `attend_half_${name}`,
    `attend_half_${name}_strided`,
  ]);
}

function halfKernel(name: string): View {
  const parts = 'half_parts';
  const threads = name.endsWith('_strided') ? 'attend_half_strided_threads' : 'attend_half_threads';
  // Its tables and registers take a multiprocessor.
  return { ...kernelOf([name, 'AttendArguments', parts]), threads, alone: '1' };
}
