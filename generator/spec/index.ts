export {
  codec,
  defineCache,
  defineConfig,
  hadamard,
  log,
  matrix,
  none,
  orthogonal,
  polar,
  rows,
  tiles,
} from './builders.ts';
export { parseBits, type SpecFlags, specFromFlags } from './from-flags.ts';
export {
  HADAMARD_ORDERS,
  type HadamardOrder,
  hadamardOrder,
  nearestHadamardDimensions,
} from './hadamard-orders.ts';
export type * from './input.ts';
export { CONFIG_FILES, findConfig, type LoadedSpecs, loadSpecs } from './load.ts';
export { normalize, normalizeAll, type SpecContext, type TargetFacts } from './normalize.ts';
export { LEAST_HEAD_DIM, MOST_HEAD_DIM } from './normalize-codec.ts';
export type { Codec, Layout, Polar, Spec } from './types.ts';
