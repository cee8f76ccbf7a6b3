export { bitMap, summary } from './contract.ts';
export { floatList, floatLiteral, hexLiteral, intList, intLiteral, wrapList } from './literals.ts';
export type * from './types.ts';
