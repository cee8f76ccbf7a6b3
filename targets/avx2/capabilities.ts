/** What AVX2 kernels can do: everything that a spec can say, in float. */

import type { Plan } from '../../generator/plan/index.ts';
import {
  type Arithmetic,
  type Unsupported,
  unsupportedArithmetic,
  wholeDsl,
} from '../../generator/target/index.ts';

export const ARITHMETICS: readonly Arithmetic[] = [{ id: 'float', bound: 1e-10 }];

export const CAPABILITIES = wholeDsl(
  {
    'rows/2': 'one record a token',
    'tiles32/1': 'tiles of 32 tokens, the fastest; attention has a variant for AVX-512',
  },
  { float: 'float32 after encode' },
);

export const unsupported = (plan: Plan): readonly Unsupported[] =>
  unsupportedArithmetic('avx2', ARITHMETICS, plan);
