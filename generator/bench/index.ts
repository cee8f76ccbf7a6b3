export { type BenchRow, benchAttention, benchEncode } from './measure.ts';
