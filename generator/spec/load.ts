/** Reads spec files: TypeScript or JavaScript modules, loaded without a build step. */

import { existsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { SpecError, show, UserError } from '../diagnostics/index.ts';
import * as builders from './builders.ts';
import { fieldsOf, Problems } from './problems.ts';

export interface LoadedSpecs {
  /** As written, for `normalizeAll`. */
  readonly caches: readonly unknown[];
  /** Targets that the config names. */
  readonly targets?: readonly string[];
  /** Output folder that the config names, as an absolute path. */
  readonly out?: string;
  /** The file's name without its folder, for headers of emitted files. */
  readonly source: string;
  /** Absolute path of the file. */
  readonly file: string;
}

/** Names of a config that is found without being named, in order of preference. */
export const CONFIG_FILES: readonly string[] = [
  'polarc.config.ts',
  'polarc.config.mts',
  'polarc.config.js',
  'polarc.config.mjs',
];
const EXTENSIONS = /\.[cm]?[jt]s$/;
const CONFIG_FIELDS = ['caches', 'targets', 'out'] as const;

/** The config in a folder, as an absolute path; undefined if there is none. */
export function findConfig(folder: string): string | undefined {
  return CONFIG_FILES.map((name) => resolve(folder, name)).find((file) => existsSync(file));
}

/**
 * Loads a spec file, or the config of a folder. Its default export is a cache, a list of caches or a config.
 * Throws a `UserError` with file and line when the file is missing, does not parse, throws, or exports something else.
 *
 * @param modules what its imports of a name stand for; `polarc` is the DSL unless it is given.
 */
export async function loadSpecs(
  path: string,
  modules: Readonly<Record<string, unknown>> = {},
): Promise<LoadedSpecs> {
  const file = specFile(path);
  return { ...readExport(await importDefault(file, modules), file), source: basename(file), file };
}

function specFile(path: string): string {
  const file = resolve(path);
  if (!existsSync(file)) {
    throw new UserError(
      'P100',
      `${path}: there is no such file`,
      'name a .polar.ts file, or run `polarc init` to write one',
    );
  }
  if (statSync(file).isDirectory()) {
    const config = findConfig(file);
    if (config !== undefined) return config;
    throw new UserError(
      'P100',
      `${path}: a folder without ${CONFIG_FILES[0]}`,
      'name a .polar.ts file, or run `polarc init` to write one',
    );
  }
  if (!EXTENSIONS.test(file)) {
    throw new UserError(
      'P100',
      `${path}: no TypeScript or JavaScript file`,
      'name a .polar.ts file, or run `polarc init` to write one',
    );
  }
  return file;
}

async function importDefault(
  file: string,
  modules: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, {
    // Translating the first TypeScript file costs a quarter of a second; what is kept is found by the file's content.
    fsCache: cacheFolder(),
    moduleCache: false,
    interopDefault: false,
    virtualModules: { polarc: builders, ...modules },
  });
  try {
    const module = (await jiti.import(file)) as { readonly default?: unknown };
    return module.default;
  } catch (error) {
    throw loadError(error, file);
  }
}

function cacheFolder(): string | false {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return base === '' ? false : join(base, 'polarc', 'specs');
}

/** What a failed import was: a file that does not parse, a file that throws, each with the place in it. */
function loadError(error: unknown, file: string): UserError {
  const shown = shortPath(file);
  if (
    !(error instanceof Error || (typeof error === 'object' && error !== null && 'message' in error))
  ) {
    return new UserError('P102', `${shown}: threw ${show(error)}`, 'the file must run to its end');
  }
  const message = String((error as Error).message);
  const stack = String((error as Error).stack ?? '');
  const parse = /^ParseError: (.*?)\s*\n\s*(.+):(\d+):(\d+)/.exec(message);
  if (parse !== null) {
    return new UserError(
      'P101',
      `${shortPath(parse[2]!)}:${parse[3]}:${Number(parse[4]) + 1}: ${parse[1]}`,
      'correct the syntax there',
    );
  }
  const line = lineIn(stack, file);
  const place = line === undefined ? shown : `${shown}:${line}`;
  if (error instanceof SyntaxError || (error as Error).name === 'SyntaxError') {
    return new UserError('P101', `${place}: ${firstLine(message)}`, 'correct the syntax there');
  }
  const missing = (error as { code?: unknown }).code;
  if (missing === 'MODULE_NOT_FOUND' || missing === 'ERR_MODULE_NOT_FOUND') {
    return new UserError(
      'P102',
      `${place}: ${firstLine(message)}`,
      'install it, or correct the import',
    );
  }
  return new UserError(
    'P102',
    `${place}: threw ${(error as Error).name}: ${firstLine(message)}`,
    'the file must run to its end',
  );
}

function lineIn(stack: string, file: string): number | undefined {
  for (const line of stack.split('\n')) {
    const at = line.lastIndexOf(`${file}:`);
    if (at < 0) continue;
    const number = Number.parseInt(line.slice(at + file.length + 1), 10);
    if (number > 0) return number;
  }
  return undefined;
}

function firstLine(text: string): string {
  return text.split('\n')[0]!.trim();
}

function shortPath(file: string): string {
  const short = relative(process.cwd(), file);
  return short === '' || short.startsWith('..') ? file : short;
}

function readExport(value: unknown, file: string): Pick<LoadedSpecs, 'caches' | 'targets' | 'out'> {
  if (Array.isArray(value) && value.length > 0) return { caches: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(
      'P103',
      `${shortPath(file)}: ${value === undefined ? 'no default export' : `the default export is ${show(value)}`}`,
      'write `export default defineCache({ … })`, a list of caches, or `defineConfig({ caches: [ … ] })`',
    );
  }
  if (!('caches' in value)) return { caches: [value] };

  const problems = new Problems();
  const fields = fieldsOf(value, CONFIG_FIELDS, '', problems, 'defineConfig({ caches: [ … ] })')!;
  const { caches, targets, out } = fields;
  if (!Array.isArray(caches) || caches.length === 0) {
    problems.add('P001', 'caches', caches, {
      message: `${show(caches)} is no list of caches`,
      fix: 'write at least one defineCache({ … })',
    });
  }
  if (
    targets !== undefined &&
    !(Array.isArray(targets) && targets.every((t) => typeof t === 'string'))
  ) {
    problems.add('P060', 'targets', targets, {
      message: `${show(targets)} is no list of targets`,
      fix: 'write names in quotes; `polarc targets` lists them',
    });
  }
  if (out !== undefined && (typeof out !== 'string' || out === '')) {
    problems.add('P100', 'out', out, {
      message: `${show(out)} is no folder`,
      fix: 'write a path relative to the config file',
    });
  }
  if (problems.list.length > 0) throw new SpecError(problems.list);
  return {
    caches: caches as readonly unknown[],
    ...(targets === undefined ? {} : { targets: targets as readonly string[] }),
    ...(out === undefined ? {} : { out: resolve(dirname(file), out as string) }),
  };
}
