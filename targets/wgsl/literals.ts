/** Numbers as WGSL text. */

import { floatLiteral, wrapList } from '../../generator/target/index.ts';

/** The entries of an array, broken into lines, each behind two spaces. */
export const floatEntries = (values: readonly number[]): string =>
  wrapList(values.map((value) => floatLiteral(value)));

export const vectorEntries = (vectors: readonly (readonly number[])[]): string =>
  wrapList(
    vectors.map((vector) => {
      const numbers = vector.map((value) => floatLiteral(value, ''));
      return `vec${vector.length}f(${numbers.join(', ')})`;
    }),
  );
