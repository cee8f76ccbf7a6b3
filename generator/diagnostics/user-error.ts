/** A mistake of the user: one clear text saying what was wrong (`message`) and what to do instead (`hint`). */
export class UserError extends Error {
  /** Key of the table in codes.ts. */
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, hint?: string) {
    super(message);
    this.name = 'UserError';
    this.code = code;
    this.hint = hint;
  }
}
