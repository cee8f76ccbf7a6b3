export { COVERAGE, coverage, randomSpecs } from './random-specs.ts';
