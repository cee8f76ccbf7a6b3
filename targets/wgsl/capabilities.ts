/** What WGSL kernels can do: everything that a spec can say, in float or half. */

import type { Plan } from '../../generator/plan/index.ts';
import type { Arithmetic, Capability, Unsupported } from '../../generator/target/index.ts';

export const ARITHMETICS: readonly Arithmetic[] = [
  { id: 'float', bound: 1e-10 },
  { id: 'half', bound: 1e-5 },
];

const yes = (name: string, note: string): Capability => ({ name, supported: true, note });

export const CAPABILITIES: readonly Capability[] = [
  yes('layout.rows/1', 'one record a token, the fastest'),
  yes('layout.tiles32/1', 'tiles of 32 tokens'),
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
  yes('arithmetic.float', 'float32 after encode'),
  yes('arithmetic.half', 'attend decodes in f16, sums in float32; needs the feature shader-f16'),
];

export function unsupported(plan: Plan): readonly Unsupported[] {
  const arithmetic = plan.arithmetic.wgsl ?? 'float';
  if (ARITHMETICS.some(({ id }) => id === arithmetic)) return [];
  const known = ARITHMETICS.map(({ id }) => `'${id}'`).join(', ');
  return [
    {
      capability: `arithmetic.${arithmetic}`,
      path: 'arithmetic.wgsl',
      message: `wgsl has no arithmetic '${arithmetic}': use ${known}`,
    },
  ];
}
