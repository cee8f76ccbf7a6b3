/** For targets that can do all that a spec can say: their capability table, and what they refuse. */

import type { Plan } from '../plan/index.ts';
import type { Arithmetic, Capability, Unsupported } from './types.ts';

const yes = (name: string, note: string): Capability => ({ name, supported: true, note });

/**
 * @param layouts     what to know of each layout here
 * @param arithmetics what each of them is
 */
export function wholeDsl(
  layouts: Readonly<Record<'rows/2' | 'tiles32/1', string>>,
  arithmetics: Readonly<Record<string, string>>,
): readonly Capability[] {
  return [
    ...Object.entries(layouts).map(([id, note]) => yes(`layout.${id}`, note)),
    yes('precondition.hadamard', 'orders 1, 12, 20, 28, 36 times a power of two'),
    yes('precondition.orthogonal', 'the matrix beside the plan'),
    yes('precondition.matrix', 'a matrix and its dual for each KV head'),
    yes('precondition.none', ''),
    yes('radius.f16', ''),
    yes('radius.bf16', ''),
    yes('radius.f32', ''),
    yes('radius.log', 'codes relative to one f16 norm'),
    yes('center', 'a mean for each KV head'),
    yes('codebooks', 'centroids of the spec for levels from 2 on'),
    yes('queryGroup', '1 to 16'),
    yes('dense', 'f32, f16, bf16'),
    ...Object.entries(arithmetics).map(([id, note]) => yes(`arithmetic.${id}`, note)),
  ];
}

/** An arithmetic that the target does not have is all that such a target refuses. */
export function unsupportedArithmetic(
  target: string,
  arithmetics: readonly Arithmetic[],
  plan: Plan,
): readonly Unsupported[] {
  const arithmetic = plan.arithmetic[target] ?? 'float';
  if (arithmetics.some(({ id }) => id === arithmetic)) return [];
  const known = arithmetics.map(({ id }) => `'${id}'`).join(', ');
  return [
    {
      capability: `arithmetic.${arithmetic}`,
      path: `arithmetic.${target}`,
      message: `${target} has no arithmetic '${arithmetic}': use ${known}`,
    },
  ];
}
