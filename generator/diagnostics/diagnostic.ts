import { UserError } from './user-error.ts';

/** One broken rule of a spec. */
export interface Diagnostic {
  /** Key of the table in codes.ts. */
  readonly code: string;
  /** Where in the spec, for example `key.polar.bits`; empty for the spec itself. */
  readonly path: string;
  /** What stands there. */
  readonly value: unknown;
  readonly message: string;
  /** What to write instead. */
  readonly fix: string;
}

/** Every broken rule of a spec, at once. Its `code` is that of the first. */
export class SpecError extends UserError {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics[0]?.code ?? 'P001', diagnostics.map(renderDiagnostic).join('\n'));
    this.name = 'SpecError';
    this.diagnostics = diagnostics;
  }
}

/** `error[P012] key.polar.bits: 3 entries for depth 4 → write one a level, for example [4, 2, 2, 2]` */
export function renderDiagnostic(diagnostic: Diagnostic): string {
  const where = diagnostic.path === '' ? 'spec' : diagnostic.path;
  return `error[${diagnostic.code}] ${where}: ${diagnostic.message} → ${diagnostic.fix}`;
}

/** The text of a user error for a terminal: one line a mistake. */
export function renderError(error: UserError): string {
  if (error instanceof SpecError) return error.message;
  const hint = error.hint === undefined ? '' : ` → ${error.hint}`;
  return `error[${error.code}] ${error.message}${hint}`;
}
