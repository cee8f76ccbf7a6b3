/** CUDA C++ kernels, launchers with a C ABI, and a Node addon over the driver. */

import type { Target } from '../../generator/target/index.ts';
import { flushToZero, sanitizerEnvironment } from '../../generator/target/native/index.ts';
import { ARITHMETICS, CAPABILITIES, unsupported } from './capabilities.ts';
import { choices } from './choices.ts';
import { predict } from './predict.ts';
import { RESERVED_WORDS } from './reserved-words.ts';
import { build, check } from './toolchain.ts';
import { noGpu } from './tools.ts';
import { files } from './view.ts';

export const target: Target = {
  id: 'cuda',
  title: 'CUDA (sm_75 to sm_121)',
  reservedWords: RESERVED_WORDS,
  arithmetics: ARITHMETICS,
  capabilities: CAPABILITIES,
  unsupported,
  files,
  choices,
  check,
  standIn: noGpu,
  predict: (options) => predict(options),
  flushToZero,
  build,
  sanitizerEnvironment,
};
