export { bitMap, summary } from './contract.ts';
export { floatList, floatLiteral, hexLiteral, intList, intLiteral, wrapList } from './literals.ts';
export type * from './types.ts';
export { unsupportedArithmetic, wholeDsl } from './whole-dsl.ts';
