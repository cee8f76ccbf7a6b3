export type { ConformanceCase } from './case.ts';
export { crossCases, type Writer } from './cross-cases.ts';
export { goldenCases } from './golden-cases.ts';
export type { CaseResult } from './judge.ts';
export { COVERAGE, coverage, type RandomSpecsOptions, randomSpecs } from './random-specs.ts';
export {
  junitXml,
  reportText,
  summarize,
  type TargetReport,
  type VerifyReport,
} from './report.ts';
export {
  type CaseReport,
  failedReport,
  passedReport,
  type RunOptions,
  runCases,
  skippedReports,
} from './run.ts';
export { conformanceCases, type SuiteOptions } from './suite.ts';
