/**
 * The public door of polarc: the language of spec files, and the compiler's stages for programs that call them.
 * Everything here is pure; the command line is what touches the disk.
 */

export { type Diagnostic, renderError, SpecError, UserError } from './diagnostics/index.ts';
export type { CodecPlan, LayoutPlan, LevelPlan, Plan, RadiusPlan } from './plan/index.ts';
export { bitAddress, lower, orthogonalMatrix, parsePlan, planJson } from './plan/index.ts';
export { createReference, goldenVectors, type Reference } from './reference/index.ts';
export type {
  BitsInput,
  CacheInput,
  CodebooksInput,
  CodecInput,
  ConfigInput,
  LayoutInput,
  PolarInput,
  Precondition,
  QueryGroup,
  Radius,
  Spec,
} from './spec/index.ts';
export {
  codec,
  defineCache,
  defineConfig,
  hadamard,
  log,
  matrix,
  none,
  normalize,
  normalizeAll,
  orthogonal,
  polar,
  rows,
  tiles,
} from './spec/index.ts';
