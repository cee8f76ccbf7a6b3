export {
  type BenchRow,
  benchAttention,
  benchEncode,
  type CountedRow,
  countedOf,
  type PredictedRow,
  predictedOf,
} from './measure.ts';
