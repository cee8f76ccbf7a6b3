import { show } from '../diagnostics/index.ts';
import { className, fileStem } from '../naming/index.ts';
import { LANGUAGE_WORDS } from './language-words.ts';
import type { Problems } from './problems.ts';

const LONGEST = 64;

/** Checks the name of a cache: it becomes C symbols, macros, a class and file names. */
export function checkName(
  name: unknown,
  path: string,
  reserved: readonly string[],
  problems: Problems,
): string {
  if (typeof name !== 'string' || name === '') {
    problems.add('P003', path, name, {
      message: name === undefined ? 'missing' : `${show(name)} is no identifier`,
      fix: `write an identifier, for example 'llama_d128'`,
    });
    return '';
  }
  const fault = identifierFault(name);
  if (fault !== undefined) {
    problems.add('P003', path, name, {
      message: `${show(name)} ${fault}`,
      fix: `write an identifier, for example '${asIdentifier(name)}'`,
    });
  } else if ([...LANGUAGE_WORDS, ...reserved].some((w) => w.toLowerCase() === name.toLowerCase())) {
    problems.add('P004', path, name, {
      message: `'${name}' is a reserved word`,
      fix: `add to it, for example '${name}_cache'`,
    });
  } else if (/^polarc(_|$)/i.test(name)) {
    problems.add('P004', path, name, {
      message: `'${name}' begins like the names of the ABI`,
      fix: `do not begin with 'polarc', for example '${asIdentifier(name.slice(6))}'`,
    });
  }
  return name;
}

/** Two caches that share one of these would share a file, a symbol or a class. */
export function nameKeys(name: string): readonly string[] {
  return [`file ${fileStem(name).toLowerCase()}`, `class ${className(name)}`];
}

function identifierFault(name: string): string | undefined {
  if (!/^[A-Za-z0-9_]+$/.test(name)) return 'has characters other than letters, digits and _';
  if (/^[0-9]/.test(name)) return 'begins with a digit';
  if (name.startsWith('_')) return 'begins with _';
  if (name.endsWith('_')) return 'ends with _';
  if (name.includes('__')) return 'has two _ in a row';
  if (name.length > LONGEST) return `has ${name.length} characters, more than ${LONGEST}`;
  return undefined;
}

function asIdentifier(name: string): string {
  const cleaned = name
    .replace(/[^A-Za-z0-9]+/g, '_')
    .replace(/^[_0-9]+/, '')
    .slice(0, LONGEST)
    .replace(/_+$/, '');
  return cleaned === '' ? 'llama_d128' : cleaned;
}
