import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import {
  type BenchRow,
  benchAttention,
  benchEncode,
  type CountedRow,
  countedOf,
  type PredictedRow,
  predictedOf,
} from '../bench/index.ts';
import { UserError } from '../diagnostics/index.ts';
import { compare, emitCache, MANIFEST, parseManifest, write } from '../emit/index.ts';
import { planFile } from '../naming/index.ts';
import { lower, type Plan, parsePlan } from '../plan/index.ts';
import { type CacheInput, normalizeAll } from '../spec/index.ts';
import type { Target } from '../target/index.ts';
import { allTargets, targetIds } from './catalog.ts';
import { readInputs, SPEC_OPTIONS, type SpecArguments } from './spec-options.ts';

interface Arguments extends Omit<SpecArguments, 'group'> {
  readonly out?: string;
  readonly target?: string;
  readonly tokens?: number;
  readonly group?: string;
  readonly threads?: number;
  readonly repeats?: number;
  readonly predict?: boolean;
  readonly json?: boolean;
}

const { group: _group, ...WITHOUT_GROUP } = SPEC_OPTIONS;

export const command: CommandModule<object, Arguments> = {
  command: 'bench [specs..]',
  describe: 'time kernels here, each beside its baseline of the same run',
  builder: (yargs) =>
    yargs
      .positional('specs', {
        type: 'string',
        array: true,
        describe:
          'spec files; without any, the flags below, else the paper format at dimension 128',
      })
      .options({
        out: { type: 'string', describe: 'time the kernels of this folder', requiresArg: true },
        target: {
          type: 'string',
          describe: 'targets, separated by commas [all]',
          requiresArg: true,
        },
        tokens: { type: 'number', describe: 'tokens of the sequence [16384]', requiresArg: true },
        group: {
          type: 'string',
          describe: 'query heads a KV head, separated by commas [1,4]',
          requiresArg: true,
        },
        threads: { type: 'number', describe: 'threads of attention [1]', requiresArg: true },
        repeats: {
          type: 'number',
          describe: 'times of which a median is taken [15]',
          requiresArg: true,
        },
        predict: {
          type: 'boolean',
          describe: 'time nothing: say what machines that are not here would do',
        },
        json: { type: 'boolean', describe: 'print one JSON object' },
      })
      .options(WITHOUT_GROUP)
      .group(Object.keys(WITHOUT_GROUP), 'A cache without a spec file:') as never,
  handler: async (args) => {
    const tokens = positive('--tokens', args.tokens ?? 16384);
    const threads = positive('--threads', args.threads ?? 1);
    const repeats = positive('--repeats', args.repeats ?? 15);
    const all = await allTargets();
    const ids = args.target === undefined ? undefined : targetIds(args.target);
    const targets = ids === undefined ? all : all.filter(({ id }) => ids.includes(id));
    const jobs = await collectJobs(args, all);
    const rows: BenchRow[] = [];
    const counted: CountedRow[] = [];
    const predicted: PredictedRow[] = [];
    const notTimed: Record<string, string> = {};
    const bandwidths: Record<string, number> = {};
    const devices: Record<string, string> = {};
    for (const target of targets) {
      const own = jobs.filter((job) => job.targets?.includes(target.id) ?? true);
      if (own.length === 0 && ids === undefined) continue;
      if (own.length === 0) {
        const text = `${args.out} has no kernels for ${target.id}`;
        throw new UserError('P210', text, `generate them: --target ${target.id}`);
      }
      if (args.predict && target.predict === undefined && ids === undefined) continue;
      const reason = args.predict ? 'only predicted' : ((await target.standIn?.()) ?? null);
      if (reason !== null) {
        notTimed[target.id] = reason;
        try {
          const predictions = await predictTarget(target, own);
          predicted.push(...predictions);
          if (predictions.length === 0) notTimed[target.id] = `${reason}; nothing is predicted`;
        } catch (error) {
          // Of a target that nobody asked for, it is enough to say what is missing.
          if (ids !== undefined || !(error instanceof UserError)) throw error;
          notTimed[target.id] = `${reason}; ${error.message}, which predictions need`;
        }
        continue;
      }
      await requireReady(target);
      const before = await target.readBandwidth?.(threads);
      const measured = await benchTarget(target, own, { tokens, threads, repeats, before });
      rows.push(...measured.rows);
      counted.push(...measured.counted);
      if (measured.device !== null) devices[target.id] = measured.device;
      if (measured.bandwidth !== null) bandwidths[target.id] = measured.bandwidth;
    }
    const machine = {
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: cpus().length,
      memoryBytes: totalmem(),
      node: process.versions.node,
      devices,
      readBytesPerSecond: bandwidths,
      notTimed,
    };
    const report = { machine, rows, counted, predicted };
    process.stdout.write(args.json ? `${JSON.stringify(report)}\n` : asText(report));
  },
};

function positive(flag: string, value: number): number {
  if (Number.isInteger(value) && value > 0) return value;
  throw new UserError('P104', `${flag} ${value} is no whole number above 0`);
}

/** A plan, and the folder with its files if they are there already. */
interface Job {
  readonly plan: Plan;
  readonly folder: string | null;
  /** What is timed. */
  readonly kernels: 'all' | 'encode';
  /** Targets that the folder has kernels of; null where they are emitted for the run. */
  readonly targets: readonly string[] | null;
  /** What the plan was made of; null where it was read from the folder. */
  readonly input: CacheInput | null;
}

async function collectJobs(args: Arguments, all: readonly Target[]): Promise<readonly Job[]> {
  if (args.out !== undefined) return folderJobs(args.out);
  const groups = (args.group ?? '1,4').split(',').map((text) => {
    const group = Number(text);
    if (Number.isInteger(group) && group >= 1 && group <= 16) return group;
    throw new UserError('P104', `--group ${args.group} is no list of numbers from 1 to 16`);
  });
  const jobOf = (input: CacheInput): Job => ({
    plan: planOf(input, all),
    folder: null,
    kernels: 'all',
    targets: null,
    input,
  });
  const described = args.headDim !== undefined || args.bits !== undefined;
  if (!described && (args.specs ?? []).length === 0) return paperJobs(groups, jobOf);

  const { group: _list, ...spec } = args;
  const inputs = await readInputs(spec, all);
  return inputs.flatMap((input) =>
    input.specs.flatMap((each) =>
      groups.map((queryGroup) => {
        const name = `${each.name}_g${queryGroup}`;
        return jobOf({ ...each, name, queryGroup } as unknown as CacheInput);
      }),
    ),
  );
}

function planOf(input: CacheInput, targets: readonly Target[]): Plan {
  return lower(normalizeAll([input], { targets })[0]!);
}

/** The paper's format at dimension 128, both layouts; encode with a matrix too. */
function paperJobs(groups: readonly number[], jobOf: (input: CacheInput) => Job): readonly Job[] {
  const layouts = [{ kind: 'tiles', tokens: 32 }, { kind: 'rows' }] as const;
  const cache = (
    name: string,
    queryGroup: number,
    layout: (typeof layouts)[number],
    precondition: { kind: 'hadamard'; seed: number } | { kind: 'matrix' },
  ): CacheInput => {
    const codec = { headDim: 128, polar: { bits: [4, 2, 2, 2] as const }, precondition, layout };
    return { name, key: codec, value: codec, queryGroup: queryGroup as 1, pageTokens: 64 };
  };
  const hadamard = { kind: 'hadamard', seed: 1 } as const;
  const timed = groups.flatMap((group) =>
    layouts.map((layout) => cache(`paper_${layout.kind}_g${group}`, group, layout, hadamard)),
  );
  const matrix = cache('paper_matrix', 1, layouts[1], { kind: 'matrix' });
  return [...timed.map(jobOf), { ...jobOf(matrix), kernels: 'encode' }];
}

function folderJobs(out: string): readonly Job[] {
  const folder = resolve(out);
  const path = join(folder, MANIFEST);
  if (!existsSync(path)) {
    throw new UserError(
      'P203',
      `${out} has no ${MANIFEST}: it is no folder that polarc wrote`,
      'name the folder that was given to `polarc generate --out`',
    );
  }
  return parseManifest(readFileSync(path, 'utf8'), path).caches.map(({ name, files }) => ({
    plan: parsePlan(readFileSync(join(folder, planFile(name)), 'utf8')),
    folder,
    kernels: 'all',
    targets: files.flatMap(({ target }) => target ?? []),
    input: null,
  }));
}

/** With every arithmetic of the target, where the cache does not name one. */
async function predictTarget(target: Target, jobs: readonly Job[]): Promise<PredictedRow[]> {
  if (target.predict === undefined) {
    throw new UserError('P210', `nothing is predicted for ${target.id}`, 'leave --predict out');
  }
  const rows: PredictedRow[] = [];
  for (const { plan, folder, kernels, input } of jobs) {
    if (kernels !== 'all' || target.unsupported(plan).length > 0) continue;
    const plans =
      input === null || plan.arithmetic[target.id] !== undefined
        ? [plan]
        : target.arithmetics.map(({ id }) =>
            planOf({ ...input, arithmetic: { [target.id]: id } } as CacheInput, [target]),
          );
    for (const each of plans) {
      await inFolder(target, each, folder, async (place) => {
        const predictions = await target.predict!({ folder: place, plan: each });
        rows.push(...predictedOf(target.id, each, predictions));
      });
    }
  }
  return rows;
}

/** The given folder, or one with the cache's files for as long as `use` takes. */
async function inFolder(
  target: Target,
  plan: Plan,
  folder: string | null,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  if (folder !== null) return use(folder);
  const temporary = mkdtempSync(join(tmpdir(), 'polarc-bench-'));
  try {
    const source = { name: 'bench', command: 'bench' };
    const cache = emitCache(plan, [target], source);
    write(compare(temporary, [cache], { sources: [source.name], targets: null }));
    await use(temporary);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

async function requireReady(target: Target): Promise<void> {
  const missing = (await target.check()).filter(({ ok, required }) => required && !ok);
  if (missing.length === 0) return;
  throw new UserError(
    'P301',
    `${target.id} cannot run here: ${missing.map(({ what }) => what).join(', ')}`,
    missing.map(({ detail }) => detail).join('; '),
  );
}

interface Measured {
  readonly rows: BenchRow[];
  readonly counted: CountedRow[];
  /** What ran the kernels. */
  readonly device: string | null;
  readonly bandwidth: number | null;
}

async function benchTarget(
  target: Target,
  jobs: readonly Job[],
  options: {
    readonly tokens: number;
    readonly threads: number;
    readonly repeats: number;
    readonly before: number | undefined;
  },
): Promise<Measured> {
  const { tokens, threads, repeats, before } = options;
  const rows: BenchRow[] = [];
  const counted: CountedRow[] = [];
  let device: string | null = null;
  const encoded = new Set<string>();
  let bandwidth = before ?? null;
  for (const { plan, folder, kernels } of jobs) {
    if (target.unsupported(plan).length > 0) continue;
    await inFolder(target, plan, folder, async (place) => {
      const built = await target.build({ folder: place, plan, threads });
      try {
        const context = { target: target.id, plan, built, threads, bandwidth, repeats };
        device = built.device;
        if (kernels === 'all') counted.push(...countedOf(target.id, plan, built));
        if (kernels === 'all') rows.push(...(await benchAttention(context, tokens)));
      } finally {
        built.close();
      }
      const single = await target.build({ folder: place, plan, threads: 1 });
      try {
        for (const role of ['key', 'value'] as const) {
          // The query group does not reach encode, nor does the role: one row a format.
          if (encoded.has(plan[role].formatHash)) continue;
          encoded.add(plan[role].formatHash);
          rows.push(await benchEncode({ target: target.id, plan, built: single, repeats }, role));
        }
      } finally {
        single.close();
      }
    });
  }
  // Memory was perhaps busy the first time: the better of two is nearer to what it can do.
  const after = await target.readBandwidth?.(threads);
  if (bandwidth === null || after === undefined || after <= bandwidth)
    return { rows, counted, device, bandwidth };
  const factor = bandwidth / after;
  bandwidth = after;
  return { rows: rows.map((row) => withBandwidth(row, factor)), counted, device, bandwidth };
}

function withBandwidth(row: BenchRow, factor: number): BenchRow {
  const bandwidthShare = row.bandwidthShare === null ? null : row.bandwidthShare * factor;
  if (row.baseline !== 'memory read') return { ...row, bandwidthShare };
  return {
    ...row,
    bandwidthShare,
    baselineNsPerTokenHead: row.baselineNsPerTokenHead! * factor,
    ratio: row.ratio! * factor,
  };
}

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly devices: Readonly<Record<string, string>>;
  readonly readBytesPerSecond: Readonly<Record<string, number>>;
  /** Why kernels of a target were not timed. */
  readonly notTimed: Readonly<Record<string, string>>;
}

interface Report {
  readonly machine: Machine;
  readonly rows: readonly BenchRow[];
  readonly counted: readonly CountedRow[];
  readonly predicted: readonly PredictedRow[];
}

function asText({ machine, rows, counted, predicted }: Report): string {
  const lines = [`${machine.cpu}, ${machine.cores} cores`];
  for (const [target, device] of Object.entries(machine.devices)) {
    lines.push(`${target}: ${device}`);
  }
  for (const [target, rate] of Object.entries(machine.readBytesPerSecond)) {
    lines.push(`${target}: memory is read at ${(rate / 1e9).toFixed(1)} GB/s`);
  }
  for (const [target, reason] of Object.entries(machine.notTimed)) {
    lines.push(`${target}: not timed, ${reason}`);
  }
  const attention = rows.filter((row) => !row.kernel.startsWith('encode'));
  if (attention.length > 0) {
    lines.push('', 'Attention from memory, ns a token and KV head, keys and values together:');
    lines.push(...attentionTable(attention));
  }
  const encode = rows.filter((row) => row.kernel.startsWith('encode'));
  if (encode.length > 0) {
    lines.push('', 'Encode from cache, one thread:');
    lines.push(...encodeTable(encode));
  }
  if (counted.length > 0) {
    lines.push('', 'Counted in the emitted code, a coordinate, all query heads of a group:');
    lines.push(...countedTable(counted));
  }
  if (predicted.length > 0) {
    lines.push('', 'Predicted from machine code, loops over tokens:');
    lines.push(...predictedTable(predicted), ...PREDICTED_LEGEND);
    lines.push(...new Set(predicted.flatMap(({ notes }) => notes.map((note) => `  ${note}`))));
  }
  return `${lines.join('\n')}\n`;
}

function countedTable(rows: readonly CountedRow[]): string[] {
  return align([
    ['loop', 'layout', 'd', 'group', 'bytes', 'look-ups', 'integer', 'float'],
    ...rows.map((row) => [
      row.loop,
      row.layout,
      String(row.headDim),
      String(row.queryGroup),
      row.bytes.toFixed(2),
      row.lookups.toFixed(2),
      row.integer.toFixed(2),
      row.float.toFixed(2),
    ]),
  ]);
}

/** Cycles stand where a unit has any, the binding one's in brackets. */
function predictedTable(rows: readonly PredictedRow[]): string[] {
  const units = [...new Set(rows.flatMap(({ cycles }) => Object.keys(cycles)))];
  return align([
    [
      ...['kernel', 'layout', 'd', 'group', 'for', 'registers', 'shared', 'warps', 'spills'],
      ...['instructions', ...units, 'share of memory speed (headroom)'],
    ],
    ...rows.map((row) => [
      row.kernel,
      row.layout,
      String(row.headDim),
      String(row.queryGroup),
      row.architecture,
      String(row.registers),
      `${(row.sharedBytes / 1024).toFixed(1)} KiB`,
      String(row.warps),
      String(row.spills),
      row.instructions.toFixed(2),
      ...units.map((unit) => {
        const cycles = (row.cycles[unit] ?? 0).toFixed(1);
        return row.bound === unit ? `[${cycles}]` : cycles;
      }),
      row.machines
        .map(({ name, headroom }) => {
          const share = (100 * Math.min(1, headroom)).toFixed(0);
          return `${name} ${share} % (${headroom.toFixed(2)})`;
        })
        .join(', '),
    ]),
  ]);
}

const PREDICTED_LEGEND = [
  '  instructions: of a lane, for a coordinate; then cycles of each unit while every lane decodes 16',
  '  coordinates, the binding one in brackets; headroom: time of memory over time of that unit',
];

function attentionTable(rows: readonly BenchRow[]): string[] {
  const cells = [
    ['kernel', 'layout', 'variant', 'd', 'group', 'tokens', 'ns', 'of bandwidth', 'against'],
    ...rows.map((row) => [
      row.kernel,
      row.layout,
      row.variant ?? '',
      String(row.headDim),
      String(row.queryGroup),
      String(row.tokens),
      row.nsPerTokenHead.toFixed(1),
      row.bandwidthShare === null ? '' : `${(100 * row.bandwidthShare).toFixed(0)} %`,
      row.baseline === null
        ? ''
        : row.baseline === 'memory read'
          ? `${row.baseline} ${row.baselineNsPerTokenHead!.toFixed(1)} ns`
          : `${row.baseline} ${row.baselineNsPerTokenHead!.toFixed(1)} ns: ${row.ratio!.toFixed(2)}×`,
    ]),
  ];
  return align(cells);
}

function encodeTable(rows: readonly BenchRow[]): string[] {
  return align([
    ['precondition', 'layout', 'd', 'ns a vector', 'million vectors/s'],
    ...rows.map((row) => [
      row.arithmetic,
      row.layout,
      String(row.headDim),
      row.nsPerTokenHead.toFixed(1),
      (1000 / row.nsPerTokenHead).toFixed(1),
    ]),
  ]);
}

function align(cells: readonly (readonly string[])[]): string[] {
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells.map((row) =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')}`.trimEnd(),
  );
}
