/** Words of C++ and CUDA: no cache may be named like one. */

import { C_WORDS } from '../../generator/target/index.ts';

export const RESERVED_WORDS: readonly string[] = [
  ...C_WORDS,
  ...['threadIdx', 'blockIdx', 'blockDim', 'gridDim', 'warpSize', 'dim3'],
  ...['uint2', 'uint4', 'float2', 'float4', 'int2', 'int4'],
];
