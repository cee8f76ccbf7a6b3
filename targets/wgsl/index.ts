/** WGSL kernels for WebGPU, and an ES module around them. */

import type { Target } from '../../generator/target/index.ts';
import { build } from './build.ts';
import { ARITHMETICS, CAPABILITIES, unsupported } from './capabilities.ts';
import { checks } from './device.ts';
import { RESERVED_WORDS } from './reserved-words.ts';
import { files } from './view.ts';

export const target: Target = {
  id: 'wgsl',
  title: 'WGSL (WebGPU)',
  reservedWords: RESERVED_WORDS,
  arithmetics: ARITHMETICS,
  capabilities: CAPABILITIES,
  unsupported,
  files,
  check: checks,
  build,
};
