/** Words of TypeScript and JavaScript, and file names that systems reserve: no cache may be named like one. */
export const LANGUAGE_WORDS: readonly string[] = `
  abstract any arguments as asserts async await bigint boolean break case catch class const constructor continue
  debugger declare default delete do else enum eval export extends false finally for from function get global if
  implements import in infer instanceof interface intrinsic is keyof let module namespace never new null number object
  of out override package private protected public readonly require return satisfies set static string super switch
  symbol this throw true try type typeof undefined unique unknown using var void while with yield
  Array Infinity Map NaN Number Object Promise Set String Symbol
  aux con nul prn com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9
`
  .trim()
  .split(/\s+/);
