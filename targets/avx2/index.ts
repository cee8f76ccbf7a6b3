/** C++17 kernels for x86-64 with AVX2, FMA and F16C, and a Node addon around them. */

import { C_WORDS, type Target } from '../../generator/target/index.ts';
import { flushToZero, sanitizerEnvironment } from '../../generator/target/native/index.ts';
import { ARITHMETICS, CAPABILITIES, unsupported } from './capabilities.ts';
import { nodeFiles } from './node-view.ts';
import { readBandwidth } from './read-bandwidth.ts';
import { build, check } from './toolchain.ts';
import { kernelFiles } from './view.ts';

export const target: Target = {
  id: 'avx2',
  title: 'AVX2 (x86-64, C++17)',
  reservedWords: C_WORDS,
  arithmetics: ARITHMETICS,
  capabilities: CAPABILITIES,
  unsupported,
  files: (plan) => [...kernelFiles(plan), ...nodeFiles(plan)],
  check,
  readBandwidth,
  flushToZero,
  build,
  sanitizerEnvironment,
};
