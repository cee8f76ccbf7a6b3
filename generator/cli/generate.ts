import { relative, resolve } from 'node:path';
import type { CommandModule, Options } from 'yargs';
import { UserError } from '../diagnostics/index.ts';
import {
  type Changes,
  compare,
  emitCache,
  MANIFEST,
  type OutputCache,
  type State,
  write,
} from '../emit/index.ts';
import type { Plan } from '../plan/index.ts';
import type { Target } from '../target/index.ts';
import { allTargets, targetIds } from './catalog.ts';
import type { QuickOptions } from './quick-arguments.ts';
import { type Input, readInputs, SPEC_OPTIONS, type SpecArguments } from './spec-options.ts';

interface Arguments extends SpecArguments {
  readonly target?: string | undefined;
  readonly out?: string | undefined;
  readonly check?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
  readonly force?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const OPTIONS = {
  target: {
    type: 'string',
    describe: 'targets, separated by commas [all]',
    requiresArg: true,
  },
  out: {
    type: 'string',
    describe: "output folder [the config's, else generated]",
    requiresArg: true,
  },
  check: {
    type: 'boolean',
    describe: 'write nothing; fail if files are not fresh',
  },
  'dry-run': {
    type: 'boolean',
    describe: 'write nothing; list what would be done',
  },
  force: {
    type: 'boolean',
    describe: 'discard edits by hand, take over caches of other specs',
  },
  json: { type: 'boolean', describe: 'print one JSON object' },
} as const satisfies Record<string, Options>;

export const quick: QuickOptions = {
  positional: 'specs',
  options: { ...OPTIONS, ...SPEC_OPTIONS },
};

export const command: CommandModule<object, Arguments> = {
  command: 'generate [specs..]',
  describe: 'turn specs into kernels, bindings, plans and golden vectors',
  builder: (yargs) =>
    yargs
      .positional('specs', {
        type: 'string',
        array: true,
        describe: 'spec files; without any, the flags below, else polarc.config.ts',
      })
      .options(OPTIONS)
      .options(SPEC_OPTIONS)
      .group(Object.keys(SPEC_OPTIONS), 'A cache without a spec file:'),
  handler: async (args) => {
    const second = args.dryRun ? '--dry-run' : args.force ? '--force' : undefined;
    if (args.check && second !== undefined) {
      throw new UserError(
        'P210',
        `--check writes nothing, ${second} does not go with it`,
        'give one',
      );
    }
    const outputs = await prepare(args);
    if (!args.check && !args.dryRun) {
      for (const { changes } of outputs) write(changes, { force: args.force === true });
    }
    const fresh = outputs.every(({ changes }) => isFresh(changes));
    const ok = args.check !== true || fresh;
    if (args.json) {
      process.stdout.write(`${JSON.stringify({ ok, outputs: outputs.map(asJson) })}\n`);
    } else {
      for (const output of outputs) process.stdout.write(asText(output, args));
    }
    if (!ok) process.exitCode = 1;
  },
};

/** One output folder of a run. */
interface Output {
  readonly caches: readonly OutputCache[];
  readonly targets: readonly string[];
  readonly changes: Changes;
  /** What a target cannot do, when targets were not named. */
  readonly notes: readonly string[];
}

async function prepare(args: Arguments): Promise<readonly Output[]> {
  const named = args.target === undefined ? undefined : targetIds(args.target);
  const all = await allTargets();
  const inputs = await readInputs(args, all);
  const byFolder = new Map<string, Input[]>();
  for (const input of inputs) {
    const folder = resolve(args.out ?? input.out ?? 'generated');
    byFolder.set(folder, [...(byFolder.get(folder) ?? []), input]);
  }
  // Everything is compared, and every mistake found, before anything is written.
  return [...byFolder].map(([folder, group]) =>
    output(folder, group, all, named, args.force === true),
  );
}

function output(
  folder: string,
  inputs: readonly Input[],
  all: readonly Target[],
  named: readonly string[] | undefined,
  force: boolean,
): Output {
  const notes: string[] = [];
  const caches: OutputCache[] = [];
  const ids = new Set<string>();
  for (const input of inputs) {
    const wanted = named ?? targetIds(input.targets);
    for (const id of wanted) ids.add(id);
    const targets = all.filter(({ id }) => wanted.includes(id));
    for (const plan of input.plans) {
      const earlier = caches.find(({ name }) => name === plan.name);
      if (earlier !== undefined) {
        throw new UserError(
          'P005',
          `'${plan.name}' is described by ${earlier.source} and by ${input.source.name}`,
          'give one of the caches another name',
        );
      }
      const strict = named !== undefined || input.targets !== undefined;
      const able = targets.filter((target) => isSupported(plan, target, strict, notes));
      caches.push(emitCache(plan, able, input.source));
    }
  }
  const scope = {
    sources: inputs.map(({ source }) => source.name),
    targets: named === undefined ? null : named,
    takeOver: force,
  };
  const shown = shortPath(folder);
  return { caches, targets: [...ids], changes: compare(shown, caches, scope), notes };
}

/** A plan that a target cannot do is an error if the target was asked for by name, else a note. */
function isSupported(plan: Plan, target: Target, strict: boolean, notes: string[]): boolean {
  const missing = target.unsupported(plan);
  for (const { capability, path, message } of missing) {
    const text = `${plan.name}: ${path}: ${target.id} lacks ${capability}: ${message}`;
    if (strict) throw new UserError('P062', text, 'change the spec, or leave out this target');
    notes.push(text);
  }
  return missing.length === 0;
}

function isFresh({ files, manifest, manifestBefore }: Changes): boolean {
  return files.every(({ state }) => state === 'unchanged') && manifest === manifestBefore;
}

/** How `--check` calls a difference. */
const CHECKED: Readonly<Record<State, string>> = {
  new: 'missing',
  missing: 'missing',
  changed: 'stale',
  edited: 'edited',
  removed: 'extra',
  unchanged: 'fresh',
};
/** How `generate` calls what it does, or with `--dry-run` would do. */
const DONE: Readonly<Record<State, string>> = {
  new: 'write',
  missing: 'write',
  changed: 'replace',
  edited: 'replace',
  removed: 'remove',
  unchanged: 'keep',
};

function asText({ caches, targets, changes, notes }: Output, args: Arguments): string {
  const { folder, files } = changes;
  const differing = files.filter(({ state }) => state !== 'unchanged');
  const lines = differing.map(({ path, state, diff }) => {
    const what = args.check ? CHECKED[state] : DONE[state];
    const edited = args.dryRun && state === 'edited' && !args.force ? ' (edited: refused)' : '';
    const more = args.check && diff !== undefined ? `\n${diff}` : '';
    return `  ${what.padEnd(8)}${path}${edited}${more}`;
  });
  if (args.check && differing.length === 0 && !isFresh(changes)) {
    lines.push(`  ${'stale'.padEnd(8)}${MANIFEST}`);
  }
  const names = caches.map(({ name }) => name).join(', ');
  const head = `${folder}: ${names} for ${targets.join(', ')}`;
  const kept = files.length - differing.length;
  const done = args.check || args.dryRun ? '' : ' written';
  const count =
    differing.length === 0
      ? `${files.length} files, all fresh`
      : `${differing.length} of ${differing.length + kept} files${done || ' differ'}`;
  const tail = args.check && lines.length > 0 ? ['  run polarc generate to make them again'] : [];
  return `${[`${head}: ${count}`, ...lines, ...notes.map((n) => `  note    ${n}`), ...tail].join('\n')}\n`;
}

function asJson({ caches, targets, changes, notes }: Output): object {
  return {
    out: changes.folder,
    fresh: isFresh(changes),
    targets,
    caches: caches.map(({ name, source, planHash }) => ({ name, source, planHash })),
    files: changes.files.map(({ path, state }) => ({ path, state })),
    notes,
  };
}

/** Relative to the current folder where that is shorter to read. */
function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  if (short === '') return '.';
  return short.startsWith('..') ? path : short;
}
