import { resolve } from 'node:path';
import type { Options } from 'yargs';
import { SpecError, UserError } from '../diagnostics/index.ts';
import type { Source } from '../emit/index.ts';
import { lower, type Plan } from '../plan/index.ts';
import { findConfig, loadSpecs, normalizeAll, type Spec, specFromFlags } from '../spec/index.ts';
import type { Target } from '../target/index.ts';

/** Flags that describe a cache without a spec file. */
export const SPEC_OPTIONS = {
  'head-dim': { type: 'number', describe: 'head dimension, 16 to 640', requiresArg: true },
  bits: {
    type: 'string',
    describe: 'bits of an angle code, one a level, as in 4,2,2,2',
    requiresArg: true,
  },
  'value-dim': {
    type: 'number',
    describe: 'head dimension of the values, if another',
    requiresArg: true,
  },
  'value-bits': { type: 'string', describe: 'bits of the values, if others', requiresArg: true },
  precondition: {
    type: 'string',
    describe: 'hadamard, orthogonal, matrix or none [hadamard]',
    requiresArg: true,
  },
  seed: { type: 'number', describe: 'seed of hadamard and orthogonal [0]', requiresArg: true },
  radius: { type: 'string', describe: 'f16, bf16, f32 or log4 (1 to 8) [f16]', requiresArg: true },
  center: { type: 'boolean', describe: 'subtract a mean vector given at run time' },
  layout: { type: 'string', describe: 'rows or tiles [rows]', requiresArg: true },
  group: { type: 'number', describe: 'query heads a KV head, 1 to 16 [1]', requiresArg: true },
  'page-tokens': { type: 'number', describe: 'tokens of a page [64]', requiresArg: true },
  dense: {
    type: 'string',
    describe: 'dtype of the rows kept in full: f16, bf16 or f32 [f16]',
    requiresArg: true,
  },
  name: { type: 'string', describe: 'name of the cache [polar_d96]', requiresArg: true },
} as const satisfies Record<string, Options>;

export interface SpecArguments {
  readonly specs?: readonly string[] | undefined;
  readonly headDim?: number | undefined;
  readonly bits?: string | undefined;
  readonly valueDim?: number | undefined;
  readonly valueBits?: string | undefined;
  readonly precondition?: string | undefined;
  readonly seed?: number | undefined;
  readonly radius?: string | undefined;
  readonly center?: boolean | undefined;
  readonly layout?: string | undefined;
  readonly group?: number | undefined;
  readonly pageTokens?: number | undefined;
  readonly dense?: string | undefined;
  readonly name?: string | undefined;
}

const FLAGS = [
  'headDim',
  'bits',
  'valueDim',
  'valueBits',
  'precondition',
  'seed',
  'radius',
  'center',
  'layout',
  'group',
  'pageTokens',
  'dense',
  'name',
] as const;

/** The caches of one spec file, or of the command line. */
export interface Input {
  readonly source: Source;
  readonly specs: readonly Spec[];
  readonly plans: readonly Plan[];
  /** What a config names. */
  readonly targets: readonly string[] | undefined;
  /** Absolute path of the folder that a config names. */
  readonly out: string | undefined;
}

/**
 * The specs that a command line means: files, else flags, else the config of the current folder. Throws a UserError if
 * there is none, or both; a SpecError with every mistake of a file, each path preceded by the file's name.
 */
export async function readInputs(
  args: SpecArguments,
  targets: readonly Target[],
): Promise<readonly Input[]> {
  const files = args.specs ?? [];
  const flags = FLAGS.filter((name) => args[name] !== undefined);
  if (files.length > 0 && flags.length > 0) {
    throw new UserError(
      'P210',
      `${flagName(flags[0]!)} describes a cache, and so does ${files[0]}`,
      'give a spec file or flags, not both',
    );
  }
  if (flags.length > 0) return [fromFlags(args, targets)];
  if (files.length > 0) {
    const inputs: Input[] = [];
    for (const file of new Set(files.map((path) => resolve(path)))) {
      inputs.push(await fromFile(file, targets));
    }
    return inputs;
  }
  const config = findConfig(process.cwd());
  if (config === undefined) {
    throw new UserError(
      'P100',
      'there is no polarc.config.ts in this folder, and no spec was named',
      'name a spec file, describe a cache with --head-dim and --bits, or run `polarc init`',
    );
  }
  return [await fromFile(config, targets)];
}

async function fromFile(path: string, targets: readonly Target[]): Promise<Input> {
  const loaded = await loadSpecs(path);
  const specs = named(loaded.source, () => normalizeAll(loaded.caches, { targets }));
  return {
    source: { name: loaded.source, command: `generate ${loaded.source}` },
    specs,
    plans: specs.map(lower),
    targets: loaded.targets,
    out: loaded.out,
  };
}

function fromFlags(args: SpecArguments, targets: readonly Target[]): Input {
  const { headDim, bits } = args;
  if (headDim === undefined || bits === undefined) {
    throw new UserError(
      'P210',
      `${headDim === undefined ? '--head-dim' : '--bits'} is missing`,
      'a cache without a spec file needs both, for example --head-dim 96 --bits 4,2,2,2',
    );
  }
  const input = specFromFlags({ ...args, headDim, bits, queryGroup: args.group });
  const specs = flagged(() => normalizeAll([input], { targets }));
  const written = FLAGS.filter((name) => args[name] !== undefined).map((name) =>
    name === 'center'
      ? args.center
        ? '--center'
        : '--no-center'
      : `${flagName(name)} ${args[name]}`,
  );
  return {
    // Caches of different names from the command line may share a folder.
    source: {
      name: `the command line (${specs[0]!.name})`,
      command: `generate ${written.join(' ')}`,
    },
    specs,
    plans: specs.map(lower),
    targets: undefined,
    out: undefined,
  };
}

/** Precedes the path of every mistake with where the spec is written. */
function named<T>(where: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof SpecError)) throw error;
    throw new SpecError(
      error.diagnostics.map((d) => ({ ...d, path: d.path === '' ? where : `${where}: ${d.path}` })),
    );
  }
}

/** Where a mistake of the command line stands, by the end of its path in the spec. */
const FLAG_OF: Readonly<Record<string, string>> = {
  headDim: '--head-dim',
  bits: '--bits',
  depth: '--bits',
  polar: '--bits',
  precondition: '--precondition',
  seed: '--seed',
  radius: '--radius',
  layout: '--layout',
  queryGroup: '--group',
  pageTokens: '--page-tokens',
  dense: '--dense',
  name: '--name',
};

/** Names the flag of every mistake; what keys and values have in common is told once. */
function flagged<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof SpecError)) throw error;
    const told = new Set<string>();
    const once = error.diagnostics.filter((d) => {
      const key = `${d.path.replace(/^(key|value)\./, '')} ${d.message}`;
      return !told.has(key) && told.add(key);
    });
    throw new SpecError(once.map((d) => ({ ...d, path: flagOf(d.path) })));
  }
}

function flagOf(path: string): string {
  const names = path
    .replace(/\[\d+\]/g, '')
    .split('.')
    .reverse();
  const flag = names.map((name) => FLAG_OF[name]).find((name) => name !== undefined);
  return flag ?? (path === '' ? 'command line' : path);
}

function flagName(property: string): string {
  return `--${property.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
