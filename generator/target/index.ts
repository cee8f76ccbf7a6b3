export { C_WORDS } from './c-words.ts';
export {
  type CellShape,
  canJoin,
  cellShape,
  cellView,
  type LeafIndex,
  leafIndex,
} from './cells.ts';
export { bitMap, summary } from './contract.ts';
export { directions } from './directions.ts';
export { bestHalfScale, roundToHalf } from './half-scale.ts';
export {
  bitWords,
  floatList,
  floatLiteral,
  hexLiteral,
  intList,
  intLiteral,
  u32,
  wordEntries,
  wrapList,
} from './literals.ts';
export { positionFunction } from './positions.ts';
export type * from './types.ts';
export { unsupportedArithmetic, wholeDsl } from './whole-dsl.ts';
