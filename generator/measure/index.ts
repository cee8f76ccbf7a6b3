export { type Attention, attention } from './attention.ts';
export { layersOf, readLayer, readMatrices, readMeans } from './capture.ts';
export {
  type AngleHistogram,
  angleHistograms,
  BINS,
  countAngles,
  distance,
  expectedShares,
  observedShares,
} from './histogram.ts';
export { exactAttention, measureLayer, overSeeds } from './measure.ts';
export { preconditionRows, quantizeRows, relativeError } from './quantize.ts';
export { figuresTable, histogramText, type ReportRow } from './report.ts';
export { histogramSvg } from './svg.ts';
export type { CapturedFile } from './tensors.ts';
export type * from './types.ts';
