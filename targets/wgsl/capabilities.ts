/** What WGSL kernels can do: everything that a spec can say, in float or half. */

import type { Plan } from '../../generator/plan/index.ts';
import {
  type Arithmetic,
  type Unsupported,
  unsupportedArithmetic,
  wholeDsl,
} from '../../generator/target/index.ts';

export const ARITHMETICS: readonly Arithmetic[] = [
  { id: 'float', bound: 1e-10 },
  { id: 'half', bound: 1e-5, needs: 'shader-f16' },
];

export const CAPABILITIES = wholeDsl(
  { 'rows/2': 'one record a token, the fastest', 'tiles32/1': 'tiles of 32 tokens' },
  {
    float: 'float32 after encode',
    half: 'attend decodes values in f16, all else is float32; needs the feature shader-f16',
  },
);

export const unsupported = (plan: Plan): readonly Unsupported[] =>
  unsupportedArithmetic('wgsl', ARITHMETICS, plan);
