import { type Code, type Diagnostic, nearestWord, show } from '../diagnostics/index.ts';

/** Collects what is wrong with a spec, in the order in which it is found. */
export class Problems {
  readonly list: Diagnostic[] = [];

  add(
    code: Code,
    path: string,
    value: unknown,
    text: { readonly message: string; readonly fix: string },
  ): void {
    this.list.push({ code, path, value, message: text.message, fix: text.fix });
  }
}

/** The fields of a record; names what is no record and fields that nobody knows. */
export function fieldsOf(
  input: unknown,
  known: readonly string[],
  path: string,
  problems: Problems,
  example: string,
): Readonly<Record<string, unknown>> | undefined {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    problems.add('P001', path, input, {
      message: input === undefined ? 'missing' : `${show(input)} is no record`,
      fix: `write ${example}`,
    });
    return undefined;
  }
  const fields = input as Record<string, unknown>;
  for (const name of Object.keys(fields)) {
    if (known.includes(name)) continue;
    const near = nearestWord(name, known);
    problems.add('P002', path === '' ? name : `${path}.${name}`, fields[name], {
      message: `there is no '${name}' here`,
      fix: near === undefined ? `use ${known.join(', ')}` : `did you mean '${near}'?`,
    });
  }
  return fields;
}
