export {
  type BenchRow,
  benchAttention,
  benchEncode,
  type CountedRow,
  countedOf,
} from './measure.ts';
