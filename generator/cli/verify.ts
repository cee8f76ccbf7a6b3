import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import {
  type CaseReport,
  type ConformanceCase,
  conformanceCases,
  coverage,
  crossCases,
  failedReport,
  goldenCases,
  junitXml,
  passedReport,
  randomSpecs,
  reportText,
  runCases,
  skippedReports,
  summarize,
  type TargetReport,
} from '../conformance/index.ts';
import { UserError } from '../diagnostics/index.ts';
import {
  compare,
  emitCache,
  MANIFEST,
  type ManifestCache,
  parseManifest,
  type Source,
  write,
} from '../emit/index.ts';
import { planFile } from '../naming/index.ts';
import { lower, type Plan, parsePlan } from '../plan/index.ts';
import { normalizeAll } from '../spec/index.ts';
import type { Arithmetic, BuiltCache, KernelCalls, Target } from '../target/index.ts';
import { allTargets, targetIds } from './catalog.ts';
import { readInputs, SPEC_OPTIONS, type SpecArguments } from './spec-options.ts';

interface Arguments extends SpecArguments {
  readonly out?: string;
  readonly target?: string;
  readonly random?: number;
  readonly seed?: number;
  readonly junit?: string;
  readonly json?: boolean;
  readonly sanitize?: boolean;
  readonly quick?: boolean;
  readonly only?: string;
}

/** Compilers running at once. */
const BUILDS = 2;

/** Of the runs that must give the same bits as one thread. */
const THREADS = 3;

/** Set in the child that runs the kernels: the descriptor on which it names the case that it begins. */
const CASES_TO = 'POLARC_VERIFY_CASES_TO';

/** Set there too: a folder for what it emits. */
const FOLDER = 'POLARC_VERIFY_FOLDER';

/** Where golden vectors stand beside a plan. */
const GOLDEN = '.golden.safetensors';

export const command: CommandModule<object, Arguments> = {
  command: 'verify [specs..]',
  describe: 'build kernels and prove that they compute what the reference computes',
  builder: (yargs) =>
    yargs
      .positional('specs', {
        type: 'string',
        array: true,
        describe: 'spec files; without any, the flags below, else polarc.config.ts',
      })
      .options({
        out: {
          type: 'string',
          describe: 'verify the kernels of this folder as they stand there',
          requiresArg: true,
        },
        target: {
          type: 'string',
          describe: 'targets, separated by commas [all]',
          requiresArg: true,
        },
        random: {
          type: 'number',
          describe: 'verify so many random specs over the whole space of formats',
          requiresArg: true,
        },
        seed: {
          type: 'number',
          describe:
            'seed of the random specs and of the numbers in all cases [1]; of hadamard and orthogonal with --head-dim',
          requiresArg: true,
        },
        junit: { type: 'string', describe: 'write a JUnit report here', requiresArg: true },
        json: { type: 'boolean', describe: 'print one JSON object' },
        sanitize: {
          type: 'boolean',
          describe: 'build and run with the sanitizers of the targets that have some',
        },
        quick: { type: 'boolean', describe: 'leave out cases that repeat others' },
        only: {
          type: 'string',
          describe: 'one cache alone, as random_1_17 of `--random 50 --seed 1`',
          requiresArg: true,
        },
      })
      .options(withoutSeed(SPEC_OPTIONS))
      .group(Object.keys(SPEC_OPTIONS), 'A cache without a spec file:') as never,
  handler: async (args) => {
    if (process.env[CASES_TO] === undefined) await runInChild(args);
    else await verify(args);
  },
};

/** `--seed` is described above, as it has one meaning more here. */
function withoutSeed<T extends { readonly seed: unknown }>(options: T): Omit<T, 'seed'> {
  const { seed: _seed, ...rest } = options;
  return rest;
}

/** One cache to build and run on every target. */
interface Job {
  readonly plan: Plan;
  readonly folder: string;
  readonly targets: readonly Target[];
  /** Bytes of its golden vectors, if there are any, and where they stand. */
  readonly golden: { readonly bytes: Uint8Array; readonly where: string } | null;
  /** What is found without running anything: the files of a folder. */
  readonly found: readonly CaseReport[];
}

async function verify(args: Arguments): Promise<void> {
  const seed = wholeNumber('--seed', args.seed ?? 1);
  const all = await allTargets();
  const targets = chosenTargets(args, all);
  const progress = createProgress(args.json === true);
  const makeFolder = (): string => mkdtempSync(join(process.env[FOLDER]!, 'cache-'));
  const jobs = await collectJobs(args, seed, all, targets, makeFolder, progress);
  const ready = await readiness(targets);
  const results: CaseReport[][] = jobs.map(() => []);
  const runs = new Map<
    string,
    { device: string | null; arithmetic: Record<string, number>; caches: number }
  >(
    targets
      .filter((target) => jobs.some((job) => job.targets.includes(target)))
      .map(({ id }) => [id, { device: null, arithmetic: {}, caches: 0 }]),
  );
  const total = jobs.reduce((sum, job) => sum + job.targets.length, 0);
  await inParallel(BUILDS, jobs, async (job, at) => {
    results[at]!.push(...job.found);
    await runJob(job, args, seed, ready, {
      loaded: (id, built, arithmetic, bound) => {
        const run = runs.get(id)!;
        run.device = built.device;
        run.arithmetic[arithmetic] = bound;
        run.caches++;
      },
      done: (id, reports) => {
        results[at]!.push(...reports);
        progress.done(job.plan.name, id, reports, total);
      },
    });
  });
  const targetReports: TargetReport[] = [...runs].map(([id, run]) => ({ id, ...run }));
  const report = summarize(results.flat(), targetReports);
  progress.end();
  if (args.junit !== undefined) writeReport(args.junit, junitXml(report));
  process.stdout.write(args.json ? `${JSON.stringify(report)}\n` : reportText(report));
  if (!report.ok) process.exitCode = 1;
}

function wholeNumber(flag: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
  throw new UserError('P104', `${flag} ${value} is no whole number from 0 to 4294967295`);
}

function writeReport(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new UserError('P200', `${path} cannot be written: ${(error as Error).message}`);
  }
}

async function collectJobs(
  args: Arguments,
  seed: number,
  all: readonly Target[],
  targets: readonly Target[],
  makeFolder: () => string,
  progress: Progress,
): Promise<readonly Job[]> {
  const jobs: Job[] = [];
  if (args.out !== undefined) {
    if ((args.specs ?? []).length > 0) {
      throw new UserError(
        'P210',
        '--out names a folder of kernels, and specs were named too',
        'give one or the other: a folder is verified from the plans in it',
      );
    }
    const found = folderJobs(args.out, targets);
    for (const { id } of targets) {
      // What was asked for by name must not pass by being absent.
      if (args.target === undefined) break;
      if (found.some((job) => job.targets.some((target) => target.id === id))) continue;
      const text = `${args.out} has no kernels for ${id}`;
      throw new UserError('P210', text, `generate them: --target ${id}`);
    }
    jobs.push(...found);
  }
  if (args.random !== undefined) {
    const count = wholeNumber('--random', args.random);
    const specs = randomSpecs({ count, seed, arithmetics: drawnArithmetics(targets) });
    progress.line(coverageText(specs, seed));
    const wanted = specs.filter(({ name }) => args.only === undefined || args.only === name);
    const plans = normalizeAll(wanted, { targets: all }).map(lower);
    const source = { name: `random specs of seed ${seed}`, command: 'generate' };
    jobs.push(...plans.map((plan) => emittedJob(plan, targets, source, makeFolder())));
  }
  const { seed: _suite, ...spec } = args;
  const described = Object.keys(SPEC_OPTIONS).some(
    (flag) =>
      flag !== 'seed' &&
      spec[flag.replace(/-./g, (x) => x[1]!.toUpperCase()) as keyof typeof spec] !== undefined,
  );
  if (described || (args.specs ?? []).length > 0 || (args.out ?? args.random) === undefined) {
    const inputs = await readInputs(described ? args : spec, all);
    for (const input of inputs) {
      for (const plan of input.plans) {
        jobs.push(emittedJob(plan, targets, input.source, makeFolder()));
      }
    }
  }
  const chosen = jobs.filter(({ plan }) => args.only === undefined || plan.name === args.only);
  if (chosen.length === 0) {
    throw new UserError(
      'P210',
      `there is no cache to verify${args.only ? ` named ${args.only}` : ''}`,
    );
  }
  return chosen;
}

/** Of targets with several arithmetics those that every device of theirs has. */
function drawnArithmetics(targets: readonly Target[]): Record<string, readonly string[]> {
  const named = targets.map(({ id, arithmetics }): [string, string[]] => [
    id,
    arithmetics.filter(({ needs }) => needs === undefined).map((arithmetic) => arithmetic.id),
  ]);
  return Object.fromEntries(named.filter(([, names]) => names.length > 1));
}

function emittedJob(plan: Plan, targets: readonly Target[], source: Source, folder: string): Job {
  const able = targets.filter((target) => target.unsupported(plan).length === 0);
  const cache = emitCache(plan, able, source);
  write(compare(folder, [cache], { sources: [source.name], targets: null }));
  const golden = cache.files.find(({ path }) => path.endsWith(GOLDEN));
  return {
    plan,
    folder,
    targets,
    golden:
      golden === undefined || typeof golden.content === 'string'
        ? null
        : { bytes: golden.content, where: golden.path },
    found: [],
  };
}

/** The caches of an emitted folder, from its manifest and plans. */
function folderJobs(out: string, targets: readonly Target[]): Job[] {
  const folder = resolve(out);
  const path = join(folder, MANIFEST);
  if (!existsSync(path)) {
    throw new UserError(
      'P203',
      `${out} has no ${MANIFEST}: it is no folder that polarc wrote`,
      'name the folder that was given to `polarc generate --out`',
    );
  }
  const manifest = parseManifest(readFileSync(path, 'utf8'), path);
  return manifest.caches.map((cache) => folderJob(folder, cache, targets));
}

function folderJob(folder: string, cache: ManifestCache, targets: readonly Target[]): Job {
  const read = (path: string): Uint8Array => {
    try {
      return readFileSync(join(folder, path));
    } catch (error) {
      throw new UserError(
        'P200',
        `${join(folder, path)} cannot be read: ${(error as Error).message}`,
        'write the folder again with `polarc generate`',
      );
    }
  };
  const plan = parsePlan(Buffer.from(read(planFile(cache.name))).toString('utf8'));
  const present = targets.filter(({ id }) => cache.files.some((file) => file.target === id));
  const golden = cache.files.find(({ path }) => path.endsWith(GOLDEN));
  return {
    plan,
    folder,
    targets: present,
    golden: golden === undefined ? null : { bytes: read(golden.path), where: golden.path },
    found: filesReport(folder, cache, plan),
  };
}

/** Whether the files are those that polarc wrote, from the plan beside them. What was edited is run all the same. */
function filesReport(folder: string, cache: ManifestCache, plan: Plan): CaseReport[] {
  const of = {
    id: 'files: as the manifest has them',
    kernel: 'files',
    cache: cache.name,
    target: '',
  };
  const edited = cache.files.filter(({ path, sha256 }) => {
    const file = join(folder, path);
    if (!existsSync(file)) return true;
    return createHash('sha256').update(readFileSync(file)).digest('hex') !== sha256;
  });
  const problems = [
    ...(plan.planHash === cache.planHash ? [] : ['the plan is not that of the manifest']),
    ...(edited.length === 0
      ? []
      : [`edited since they were written: ${edited.map(({ path }) => path).join(', ')}`]),
  ];
  return [problems.length === 0 ? passedReport(of) : failedReport(of, problems.join('; '))];
}

/** For every target why nothing can be built or run here, or null. */
async function readiness(targets: readonly Target[]): Promise<Map<string, string | null>> {
  const ready = new Map<string, string | null>();
  for (const target of targets) {
    const missing = (await target.check()).filter(({ ok, required }) => required && !ok);
    const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
    ready.set(target.id, missing.length === 0 ? null : reason);
  }
  return ready;
}

interface Events {
  loaded(target: string, built: BuiltCache, arithmetic: string, bound: number): void;
  done(target: string, reports: readonly CaseReport[]): void;
}

/** What the arithmetic of a cache's kernels keeps to. */
type Accuracy = Required<Pick<Arithmetic, 'bound' | 'logitError'>>;

/** A cache built for a target, or what there is to report in its place. */
type Opened =
  | { readonly reports: readonly CaseReport[] }
  | {
      readonly target: Target;
      readonly accuracy: Accuracy;
      readonly built: BuiltCache;
      readonly threaded: BuiltCache;
    };

/** Every target of a job, built and loaded, then run one after the other: each reads what the others write. */
async function runJob(
  job: Job,
  args: Arguments,
  seed: number,
  ready: ReadonlyMap<string, string | null>,
  events: Events,
): Promise<void> {
  const opened: Opened[] = [];
  try {
    for (const target of job.targets) {
      opened.push(await openTarget(job, target, args, seed, ready.get(target.id) ?? null, events));
    }
    for (const [i, each] of opened.entries()) {
      const { id } = job.targets[i]!;
      if ('reports' in each) {
        events.done(id, each.reports);
        continue;
      }
      const writers = opened.flatMap((other) =>
        other === each || 'reports' in other
          ? []
          : [{ target: other.target.id, calls: other.built.calls }],
      );
      const { built, threaded, accuracy, target } = each;
      const { calls, variants } = built;
      const cases = [
        ...casesOf(job, args, seed, accuracy, built.certify, {
          threaded: threaded.calls,
          ...(target.flushToZero && { flushToZero: await target.flushToZero() }),
        }),
        ...crossCases(job.plan, writers, { seed, ...accuracy }),
      ];
      const reports = await runCases({
        plan: job.plan,
        target: id,
        cases,
        calls,
        ...(variants && { variants }),
        starting: (each) => nameCase(job.plan.name, id, each.id),
      });
      events.done(id, reports);
    }
  } finally {
    for (const each of opened) {
      if ('reports' in each) continue;
      each.built.close();
      each.threaded.close();
    }
  }
}

function casesOf(
  job: Job,
  args: Arguments,
  seed: number,
  accuracy: Accuracy,
  certify = false,
  options: { threaded?: KernelCalls; flushToZero?: (on: boolean) => void } = {},
): ConformanceCase[] {
  const { plan, golden } = job;
  return [
    ...(golden === null
      ? []
      : goldenCases(plan, golden.bytes, golden.where, { ...accuracy, certify })),
    ...conformanceCases(plan, {
      seed,
      ...accuracy,
      certify,
      quick: args.quick === true,
      ...options,
    }),
  ];
}

async function openTarget(
  job: Job,
  target: Target,
  args: Arguments,
  seed: number,
  notReady: string | null,
  events: Events,
): Promise<Opened> {
  const { plan, folder } = job;
  const arithmetic = plan.arithmetic[target.id] ?? 'float';
  const { bound = 0, logitError = 0 } =
    target.arithmetics.find(({ id }) => id === arithmetic) ?? {};
  const accuracy = { bound, logitError };
  const cases = (): ConformanceCase[] => casesOf(job, args, seed, accuracy);
  const [missing] = target.unsupported(plan);
  if (missing !== undefined) {
    const listed = target.capabilities.find(({ name }) => name === missing.capability);
    if (listed !== undefined && !listed.supported) {
      const { message, capability } = missing;
      return { reports: skippedReports(plan, target.id, cases(), message, capability) };
    }
    const of = { id: 'capabilities', kernel: 'capabilities', cache: plan.name, target: target.id };
    const known = listed === undefined ? 'does not list' : 'lists as supported';
    const text = `refused over ${missing.capability}, which the capability table ${known}: ${missing.message}`;
    return { reports: [failedReport(of, text)] };
  }
  if (notReady !== null) {
    return { reports: skippedReports(plan, target.id, cases(), notReady) };
  }
  const sanitize = args.sanitize ? { sanitize: true } : {};
  const load = (threads: number): Promise<BuiltCache> =>
    target.build({ folder, plan, threads, ...sanitize });
  let built: BuiltCache | undefined;
  try {
    built = await load(1);
    const threaded = await load(THREADS);
    events.loaded(target.id, built, arithmetic, bound);
    return { target, accuracy, built, threaded };
  } catch (error) {
    built?.close();
    const of = { id: 'build', kernel: 'build', cache: plan.name, target: target.id };
    return { reports: [failedReport(of, (error as Error).message)] };
  }
}

/** Runs `work` over all items, `width` at a time, in order of their beginning. */
async function inParallel<T>(
  width: number,
  items: readonly T[],
  work: (item: T, at: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const at = next++;
      await work(items[at]!, at);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
}

interface Progress {
  line(text: string): void;
  done(cache: string, target: string, reports: readonly CaseReport[], total: number): void;
  end(): void;
}

/** One line a cache; on a terminal a line that is rewritten, with failures left standing. With --json on stderr. */
function createProgress(json: boolean): Progress {
  const stream = json ? process.stderr : process.stdout;
  const live = stream.isTTY === true;
  let finished = 0;
  const clear = (): void => {
    if (live) stream.write('\r\u001b[2K');
  };
  return {
    line: (text) => {
      clear();
      stream.write(`${text}\n`);
    },
    done: (cache, target, reports, total) => {
      finished++;
      const failed = reports.filter(({ status }) => status === 'failed').length;
      const skipped = reports.filter(({ status }) => status === 'skipped').length;
      const passed = reports.length - failed - skipped;
      const text = `[${finished}/${total}] ${cache} (${target}): ${passed} passed, ${failed} failed, ${skipped} skipped`;
      const failures = reports
        .filter(({ status }) => status === 'failed')
        .map(({ id, message }) => `\n  FAILED ${id}: ${message}`);
      clear();
      stream.write(live && failed === 0 ? text : `${text}${failures.slice(0, 3).join('')}\n`);
    },
    end: clear,
  };
}

function coverageText(specs: Parameters<typeof coverage>[0], seed: number): string {
  const counted = coverage(specs).map(({ what, count }) => `${what} ${count}`);
  const lines = [
    `${specs.length} random specs of seed ${seed} cover, with block table, CSR and contiguous caches each:`,
  ];
  let line = ' ';
  for (const text of counted) {
    if (line.length + text.length > 98) {
      lines.push(line);
      line = ' ';
    }
    line += ` ${text},`;
  }
  return [...lines, line.slice(0, -1)].join('\n');
}

/** Runs the kernels in a process of their own, so that one that crashes is reported like one that computes wrongly. */
async function runInChild(args: Arguments): Promise<void> {
  const environment = args.sanitize ? await sanitizerEnvironment(args) : {};
  const folder = mkdtempSync(join(tmpdir(), 'polarc-verify-'));
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, ...environment, [CASES_TO]: '3', [FOLDER]: folder },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => child.kill(signal));
  let cases = '';
  child.stdio[3]!.on('data', (text) => {
    cases = (cases + text).slice(-4096);
  });
  const status = await new Promise<{ code: number | null; signal: string | null }>((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => done({ code, signal }));
  }).finally(() => rmSync(folder, { recursive: true, force: true }));
  if (status.signal === null && [0, 1, 2].includes(status.code ?? -1)) {
    process.exitCode = status.code!;
    return;
  }
  const how = args.sanitize
    ? 'a sanitizer ended the run: its report stands above'
    : `${status.signal ?? `exit code ${status.code}`} ended the run`;
  const [cache, target, id] = cases.trimEnd().split('\n').at(-1)!.split('\t');
  const where = cache ? `; it was in ${cache} (${target}) ${id}, alone: --only ${cache}` : '';
  process.stderr.write(`${how}${where}\n`);
  // The reports that were asked for, with what ended the run as their one case.
  const of = { id: id ?? 'run', kernel: 'run', cache: cache ?? '', target: target ?? '' };
  const report = summarize([failedReport(of, how)], []);
  if (args.junit !== undefined) writeReport(args.junit, junitXml(report));
  if (args.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exitCode = 1;
}

/** Those that are named, else all; with --sanitize all that have sanitizers. */
function chosenTargets(args: Arguments, all: readonly Target[]): readonly Target[] {
  if (args.target !== undefined) {
    const ids = targetIds(args.target);
    return all.filter(({ id }) => ids.includes(id));
  }
  return args.sanitize ? all.filter((target) => target.sanitizerEnvironment !== undefined) : all;
}

async function sanitizerEnvironment(args: Arguments): Promise<Record<string, string>> {
  const environment: Record<string, string> = {};
  for (const target of chosenTargets(args, await allTargets())) {
    if (target.sanitizerEnvironment === undefined) {
      throw new UserError(
        'P210',
        `${target.id} has no sanitizers`,
        'leave out --sanitize, or the target',
      );
    }
    Object.assign(environment, await target.sanitizerEnvironment());
  }
  return environment;
}

/** Written at once: a crash leaves nothing that waits. */
function nameCase(cache: string, target: string, id: string): void {
  writeSync(Number(process.env[CASES_TO]), `${cache}\t${target}\t${id}\n`);
}
