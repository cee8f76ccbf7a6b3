export { CODES, type Code } from './codes.ts';
export { type Diagnostic, renderDiagnostic, renderError, SpecError } from './diagnostic.ts';
export { nearestWord } from './nearest-word.ts';
export { show } from './show.ts';
export { UserError } from './user-error.ts';
