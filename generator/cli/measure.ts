import { readFileSync, writeFileSync } from 'node:fs';
import type { CommandModule } from 'yargs';
import { UserError } from '../diagnostics/index.ts';
import {
  type AngleHistogram,
  angleHistograms,
  type CapturedFile,
  countAngles,
  exactAttention,
  type Figures,
  figuresTable,
  histogramSvg,
  histogramText,
  type LayerData,
  type LayerTransforms,
  layersOf,
  type MeasureRow,
  measureLayer,
  overSeeds,
  preconditionRows,
  type ReportRow,
  readLayer,
  readMatrices,
  readMeans,
} from '../measure/index.ts';
import { lower, orthogonalMatrix, type Plan, ROLES, type Role } from '../plan/index.ts';
import { readSafetensors } from '../safetensors/index.ts';
import { normalize, specFromFlags } from '../spec/index.ts';

interface Arguments {
  readonly file: string;
  readonly bits: string;
  readonly valueBits?: string;
  readonly depth?: number;
  readonly precondition?: string;
  readonly radius: string;
  readonly moments?: string;
  readonly center: boolean;
  readonly matrix?: string;
  readonly sinks: number;
  readonly seed: number;
  readonly seeds: number;
  readonly layers?: string;
  readonly svg?: string;
  readonly json: boolean;
}

export const command: CommandModule<object, Arguments> = {
  command: 'measure <file>',
  describe: 'measure a format on captured keys, values and queries',
  builder: (yargs) =>
    yargs
      .positional('file', {
        type: 'string',
        demandOption: true,
        describe: '.safetensors with layer.N.key, layer.N.value, layer.N.query, query_positions',
      })
      .options({
        bits: {
          type: 'string',
          demandOption: true,
          requiresArg: true,
          describe: 'bits of an angle code, one a level, as in 4,2,2,2',
        },
        'value-bits': {
          type: 'string',
          requiresArg: true,
          describe: 'bits of the values, if others',
        },
        depth: {
          type: 'number',
          requiresArg: true,
          describe: 'number of levels [as many as bits]',
        },
        precondition: {
          type: 'string',
          requiresArg: true,
          describe: 'hadamard, orthogonal or none [hadamard]',
        },
        radius: {
          type: 'string',
          default: 'f16',
          requiresArg: true,
          describe: 'f16, bf16, f32 or log4 (1 to 8)',
        },
        center: { type: 'boolean', default: false, describe: 'subtract the means of --moments' },
        moments: {
          type: 'string',
          requiresArg: true,
          describe: '.safetensors with layer.N.key_mean, layer.N.value_mean [the file itself]',
        },
        matrix: {
          type: 'string',
          requiresArg: true,
          describe: '.safetensors with layer.N.key_matrix, .key_dual, .value_matrix, .value_dual',
        },
        sinks: {
          type: 'number',
          default: 0,
          requiresArg: true,
          describe: 'first tokens that attention reads at full precision',
        },
        seeds: {
          type: 'number',
          default: 1,
          requiresArg: true,
          describe: 'mean over this many seeds of the preconditioner',
        },
        seed: { type: 'number', default: 0, requiresArg: true, describe: 'the first seed' },
        layers: {
          type: 'string',
          requiresArg: true,
          describe: 'layers, separated by commas [all]',
        },
        svg: {
          type: 'string',
          requiresArg: true,
          describe: 'draw the angle histograms to this file',
        },
        json: { type: 'boolean', default: false, describe: 'print one JSON object' },
      }) as never,
  handler: (args) => {
    checkArguments(args);
    const file = readCapture(args.file);
    const means = args.center ? readCapture(args.moments ?? args.file) : undefined;
    const matrices = args.matrix === undefined ? undefined : readCapture(args.matrix);
    const layers = args.layers === undefined ? layersOf(file) : parseLayers(args.layers);

    const rows: MeasureRow[] = [];
    const report: ReportRow[] = [];
    let angles: Angles | undefined;
    let plans: readonly Plan[] = [];
    for (const layer of layers) {
      const data = readLayer(file, layer);
      const transforms = merge(
        means === undefined ? undefined : readMeans(means, data),
        matrices === undefined ? undefined : readMatrices(matrices, data),
      );
      plans = plansOf(args, data);
      const exact = exactAttention(data);
      const runs: Figures[] = [];
      for (const [i, plan] of plans.entries()) {
        progress(`layer ${layer}, seed ${i + 1} of ${plans.length}`);
        const given = withOrthogonal(plan, transforms);
        runs.push(measureLayer(plan, data, exact, given, args.sinks));
      }
      const { mean, spread } = overSeeds(runs);
      rows.push(rowOf(layer, plans[0]!, mean));
      report.push({ layer, mean, spread });
      if (!args.json || args.svg !== undefined) {
        angles ??= emptyAngles(plans[0]!);
        countLayer(angles, plans[0]!, data, withOrthogonal(plans[0]!, transforms));
      }
    }
    progress('');

    const title = titleOf(args, plans[0]!, rows[0]!);
    if (args.svg !== undefined) writeText(args.svg, histogramSvg(title, angles!));
    if (args.json) {
      process.stdout.write(`${JSON.stringify({ rows })}\n`);
      return;
    }
    const histograms = ROLES.map((role) => histogramText(role, angles![role])).join('\n\n');
    process.stdout.write(`${title}\n\n${figuresTable(report, plans.length)}\n\n${histograms}\n`);
  },
};

function checkArguments(args: Arguments): void {
  const whole = (flag: string, value: number, least: number) => {
    if (Number.isInteger(value) && value >= least) return;
    throw new UserError(
      'P104',
      `--${flag}: ${value} is out of range`,
      `write a whole number from ${least}`,
    );
  };
  whole('sinks', args.sinks, 0);
  whole('seeds', args.seeds, 1);
  whole('seed', args.seed, 0);
  if (args.moments !== undefined && !args.center) {
    throw new UserError('P210', '--moments without --center', 'add --center to subtract its means');
  }
  if (args.matrix === undefined && args.precondition === 'matrix') {
    throw new UserError(
      'P210',
      '--precondition matrix without its matrices',
      'name a file with --matrix',
    );
  }
  if (args.matrix !== undefined && (args.precondition ?? 'matrix') !== 'matrix') {
    throw new UserError(
      'P210',
      `--matrix and --precondition ${args.precondition} exclude each other`,
      'leave one of them out',
    );
  }
}

function parseLayers(text: string): readonly number[] {
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.every((entry) => /^\d+$/.test(entry))) return [...new Set(entries.map(Number))];
  throw new UserError(
    'P104',
    `--layers: '${text}' is no list of layers`,
    'write numbers separated by commas, for example --layers 0,4',
  );
}

/** The format for the dimensions of a layer, once a seed; formats without a seed once. */
function plansOf(args: Arguments, data: LayerData): readonly Plan[] {
  const precondition = args.matrix === undefined ? (args.precondition ?? 'hadamard') : 'matrix';
  const seeded = precondition === 'hadamard' || precondition === 'orthogonal';
  return Array.from({ length: seeded ? args.seeds : 1 }, (_, i) =>
    lower(
      normalize(
        specFromFlags({
          headDim: data.keyDim,
          valueDim: data.valueDim,
          bits: args.bits,
          valueBits: args.valueBits,
          depth: args.depth,
          radius: args.radius,
          center: args.center,
          precondition,
          seed: args.seed + i,
        }),
      ),
    ),
  );
}

function merge(...parts: readonly (LayerTransforms | undefined)[]): LayerTransforms {
  return {
    key: Object.assign({}, ...parts.map((part) => part?.key)),
    value: Object.assign({}, ...parts.map((part) => part?.value)),
  };
}

/** The matrix that a plan with `orthogonal` expects at run time. */
function withOrthogonal(plan: Plan, transforms: LayerTransforms): LayerTransforms {
  const add = (role: Role) => {
    const { precondition, headDim } = plan[role];
    if (precondition.kind !== 'orthogonal') return transforms[role];
    return { ...transforms[role], matrix: orthogonalMatrix(headDim, precondition.seed) };
  };
  return { key: add('key'), value: add('value') };
}

function rowOf(layer: number, plan: Plan, figures: Figures): MeasureRow {
  const { key, value } = plan;
  const bits = key.layout.informationBits + value.layout.informationBits;
  return {
    layer,
    bits: key.levels.map((level) => level.bits),
    precondition: key.precondition.kind,
    bitsPerCoordinate: bits / (key.headDim + value.headDim),
    ...figures,
  };
}

type Angles = Record<Role, AngleHistogram[]>;

function emptyAngles(plan: Plan): Angles {
  return { key: angleHistograms(plan.key.depth), value: angleHistograms(plan.value.depth) };
}

function countLayer(
  angles: Angles,
  plan: Plan,
  data: LayerData,
  transforms: LayerTransforms,
): void {
  const { kvHeads, tokens } = data;
  for (const role of ROLES) {
    const rows = role === 'key' ? data.keys : data.values;
    const seen = preconditionRows(plan, role, rows, kvHeads, tokens, transforms[role]);
    countAngles(angles[role], seen, plan[role].headDim);
  }
}

function titleOf(args: Arguments, plan: Plan, row: MeasureRow): string {
  const valueBits = plan.value.levels.map((level) => level.bits).join(',');
  const keyBits = row.bits.join(',');
  const seeded = row.precondition === 'hadamard' || row.precondition === 'orthogonal';
  const sinks = args.sinks === 1 ? 'first token exact' : `first ${args.sinks} tokens exact`;
  return [
    `bits ${keyBits}${valueBits === keyBits ? '' : ` (values ${valueBits})`}`,
    `radius ${args.radius}`,
    `${row.precondition}${args.center ? ', centred' : ''}`,
    `${Number(row.bitsPerCoordinate.toFixed(4))} bits a coordinate`,
    ...(seeded && args.seeds > 1 ? [`mean of ${args.seeds} seeds ± deviation`] : []),
    ...(args.sinks > 0 ? [sinks] : []),
  ].join(' · ');
}

function readCapture(path: string): CapturedFile {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new UserError(
      'P131',
      `${path} cannot be read: ${reason(error)}`,
      'name a .safetensors file',
    );
  }
  return { ...readSafetensors(bytes, path), path };
}

function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new UserError(
      'P131',
      `${path} cannot be written: ${reason(error)}`,
      'name a file that can be written',
    );
  }
}

/** What the system says, without the code before and the path after it. */
function reason(error: unknown): string {
  return (error as Error).message.replace(/^[A-Z]+: /, '').replace(/, \w+( '.*')?$/, '');
}

/** One line that replaces itself, for people only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}
