export type { ConformanceCase } from './case.ts';
export type { CaseResult } from './judge.ts';
export { COVERAGE, coverage, type RandomSpecsOptions, randomSpecs } from './random-specs.ts';
export { conformanceCases, type SuiteOptions } from './suite.ts';
