/** What CUDA kernels can do: everything that a spec can say, in float or half. */

import type { Plan } from '../../generator/plan/index.ts';
import {
  type Arithmetic,
  type Unsupported,
  unsupportedArithmetic,
  wholeDsl,
} from '../../generator/target/index.ts';

export const ARITHMETICS: readonly Arithmetic[] = [
  { id: 'float', bound: 1e-10 },
  // A key's numbers are f16: where all are the same, all are off by the same rounding.
  { id: 'half', bound: 1e-5, logitError: 2 ** -11 },
];

export const CAPABILITIES = wholeDsl(
  { 'rows/2': 'one record a token, the fastest', 'tiles32/1': 'tiles of 32 tokens' },
  {
    float: 'float32 after encode',
    half: 'attend reconstructs in f16 for tensor cores, with float32 sums; all else is float32',
  },
);

export const unsupported = (plan: Plan): readonly Unsupported[] =>
  unsupportedArithmetic('cuda', ARITHMETICS, plan);
