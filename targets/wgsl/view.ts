/** Plan → the files of a cache for WGSL: a folder with its modules as text, and an ES module that holds and runs them. */

import { bindingView } from '../../generator/bindings/index.ts';
import { fileStem } from '../../generator/naming/index.ts';
import { type CodecPlan, type Plan, ROLES, type Role } from '../../generator/plan/index.ts';
import { cellShape, type FileView, u32, type View } from '../../generator/target/index.ts';
import { codecView, tableBytes } from './codec-view.ts';
import { ATTENTION, CODERS, type Kernel } from './kernels.ts';

const ID = 'wgsl';
const LANES = 64;
/** What every WebGPU device has for a workgroup. */
const WORKGROUP_BYTES = 16384;
/** Beside the arrays counted here: a row's state and counters. */
const RESERVED_BYTES = 256;

const XYZW = ['x', 'y', 'z', 'w'] as const;

/** Below the output folder: `wgsl/llama-d128`. */
export function moduleFolder(name: string): string {
  return `${ID}/${fileStem(name)}`;
}

/** A shader module: its kernel, and what its template is filled from. */
interface Module {
  readonly kernel: Kernel;
  /** `attend_subgroups`, `encode_key`: name of the file and of the string in the ES module. */
  readonly name: string;
  readonly template: string;
  readonly view: View;
}

export function files(plan: Plan): readonly FileView[] {
  const folder = moduleFolder(plan.name);
  const stem = fileStem(plan.name);
  const modules = modulesOf(plan);
  const view = moduleView(plan, modules);
  return [
    { path: `${folder}/${stem}.js`, template: 'wgsl/binding.js.hbs', view, part: 'binding' },
    { path: `${folder}/${stem}.d.ts`, template: 'wgsl/binding.d.ts.hbs', view, part: 'types' },
    {
      path: `${folder}/package.json`,
      template: 'wgsl/package.json.hbs',
      view: { stem },
      part: 'package',
    },
    ...modules.map((module) => ({
      path: `${folder}/${module.name}.wgsl`,
      template: `wgsl/${module.template}.wgsl.hbs`,
      view: module.view,
      part: module.name,
    })),
  ];
}

const sameFormat = (plan: Plan): boolean => plan.key.formatHash === plan.value.formatHash;

/** Roles whose encode, decode and rotate differ. */
const coders = (plan: Plan): readonly Role[] => (sameFormat(plan) ? ['key'] : ROLES);

const isHalf = (plan: Plan): boolean => plan.arithmetic[ID] === 'half';

function modulesOf(plan: Plan): readonly Module[] {
  const modules: Module[] = [];
  for (const role of coders(plan)) {
    for (const kernel of CODERS) {
      const codec = plan[role];
      const own = sameFormat(plan) ? '' : `_${role}`;
      const title = sameFormat(plan) ? 'Keys and values' : TITLES[role];
      const view = codecView(codec, role, `${role}s`, title, joinsFit(codec));
      modules.push({
        kernel,
        name: `${kernel.name}${own}`,
        template: kernel.name,
        view: {
          ...view,
          params: paramViews(kernel),
          pageTokens: u32(plan.pageTokens),
          cellLines: cellLines(codec),
        },
      });
    }
  }
  for (const kernel of ATTENTION) {
    const view = attentionView(plan, kernel);
    modules.push({ kernel, name: kernel.name, template: kernel.name, view });
    if (kernel.name === 'attend' || kernel.name === 'attend_dense') {
      const name = `${kernel.name}_subgroups`;
      modules.push({ kernel, name, template: kernel.name, view: { ...view, subgroups: true } });
    }
  }
  return modules;
}

function paramViews(kernel: Kernel): View[] {
  return kernel.params.map(({ name, type, note }) => ({
    name,
    type,
    note: note === '' ? '' : ` // ${note}`,
  }));
}

/** Whether `decode` has room for joint tables beside the vectors of a workgroup. */
function joinsFit(codec: CodecPlan): boolean {
  const vectors = (codec.center ? 3 : 2) * 4 * codec.headDim + 4 * cellShape(codec).count;
  return vectors + tableBytes(codec, true) + RESERVED_BYTES <= WORKGROUP_BYTES;
}

/** Coordinates of a decoded cell: `parts[0].x` … */
function coordinates(size: number): string[] {
  const width = Math.min(4, size);
  return Array.from(
    { length: size },
    (_, i) => `parts[${Math.floor(i / width)}].${XYZW[i % width]}`,
  );
}

function cellLines(codec: CodecPlan): View[] {
  return coordinates(cellShape(codec).size).map((coordinate, i) => ({
    index: String(i),
    coordinate,
  }));
}

/** Queries of a KV head that a workgroup takes: as many as a vector holds. */
const groupWidth = ({ queryGroup }: Plan): number => (queryGroup <= 2 ? queryGroup : 4);

/** How queries of a KV head share a workgroup, and what it keeps in workgroup memory. */
interface Shape {
  readonly width: number;
  readonly chunk: number;
  readonly queriesInWorkgroup: boolean;
  readonly join: boolean;
}

/**
 * @param codecs whose tables are in workgroup memory
 * @param cells  of a value
 */
function shapeOf(plan: Plan, codecs: readonly CodecPlan[], queries: boolean, cells: number): Shape {
  const width = groupWidth(plan);
  // A vector of three numbers would take the room of four.
  const lane = 4 * width;
  const reduction = LANES * lane;
  const query = queries ? plan.key.headDim * lane : 0;
  // What is dropped first costs least: long chunks, then queries beside the lanes, then joint tables.
  for (const join of [true, false]) {
    for (const queriesInWorkgroup of [true, false]) {
      for (const chunk of [256, 128, 64]) {
        const bytes =
          chunk * lane +
          reduction +
          4 * cells +
          (queriesInWorkgroup ? query : 0) +
          codecs.reduce((sum, c) => sum + tableBytes(c, join), 0);
        if (bytes + RESERVED_BYTES <= WORKGROUP_BYTES) {
          return { width, chunk, queriesInWorkgroup, join };
        }
      }
    }
  }
  throw new Error('a checked spec whose tables exceed workgroup memory');
}

const TITLES: Readonly<Record<Role, string>> = { key: 'Keys', value: 'Values' };

/** Roles whose packed tokens a kernel reads. */
const READS: Readonly<Record<string, readonly Role[]>> = {
  scores: ['key'],
  weighted_sum: ['value'],
  attend: ['key', 'value'],
};

function attentionView(plan: Plan, kernel: Kernel): View {
  const { name } = kernel;
  const roles = READS[name] ?? [];
  const half = isHalf(plan) && name === 'attend';
  // Keys and values of one format share their tables, if these hold the same kind of numbers.
  const shares = roles.length > 1 && sameFormat(plan) && !half;
  const codecs = shares ? [plan.key] : roles.map((role) => plan[role]);
  const dense = name === 'attend_dense';
  const codec = (role: Role): View => ({
    ...codecView(
      plan[role],
      role,
      `${role}s`,
      TITLES[role],
      join,
      // The softmax multiplies what a logit is off by: keys stay in float32.
      half && role === 'value',
    ),
    title: TITLES[role],
    ...(shares ? { tableOwner: 'codec', ownsTables: role === 'key' } : {}),
  });
  // Of dense rows a lane takes pairs of coordinates.
  const value = dense
    ? { size: 2, count: plan.value.headDim / 2, levels: 0 }
    : cellShape(plan.value);
  const shape = shapeOf(plan, codecs, name !== 'weighted_sum', value.count);
  const { width, chunk, join } = shape;
  const slots = Math.max(1, Math.floor(LANES / value.count));
  const cellsPerLane = Math.ceil(value.count / LANES);
  const oneCell = cellsPerLane === 1;
  const lines = coordinates(value.size).map((coordinate, i) => ({
    index: String(i),
    coordinate: dense ? `pair.${XYZW[i]}` : `decoded.${coordinate}`,
    factor: dense ? 'weight' : 'scaled',
  }));
  const perRound = chunk / LANES;
  const key = cellShape(plan.key);
  const first = width === 1 ? '' : '.x';
  const plain = name === 'queries' ? plan.key : plan.value;
  const general: View =
    name === 'queries' || name === 'combine' || name === 'merge'
      ? codecView(plain, name === 'queries' ? 'key' : 'value', 'unused', '')
      : {};
  return {
    ...general,
    params: paramViews(kernel),
    pageTokens: u32(plan.pageTokens),
    denseDtype: plan.dense,
    denseF32: plan.dense === 'f32',
    denseF16: plan.dense === 'f16',
    denseRows: ROLES.map((role) => ({ p: role, pool: `${role}s` })),
    isDense: dense,
    always: dense,
    half,
    subgroups: false,
    masked: name !== 'weighted_sum',
    unseen: name === 'weighted_sum' ? 'false' : 'mass == 0.0',
    group: u32(plan.queryGroup),
    groupWidth: u32(width),
    groupWidthNumber: String(width),
    groupParts: u32(Math.ceil(plan.queryGroup / width)),
    groupIsOne: width === 1,
    groupLanes: Array.from({ length: width }, (_, i) => u32(i)),
    groupBits: Array.from({ length: width }, (_, i) => u32(2 ** i)).join(', '),
    queries: width === 1 ? 'f32' : `vec${width}f`,
    firstLogit: `logit${first}`,
    firstWeight: `weight${first}`,
    queriesInWorkgroup: shape.queriesInWorkgroup,
    chunk: String(chunk),
    codecs: roles.map(codec),
    key: {
      headDim: u32(plan.key.headDim),
      headDimNumber: String(plan.key.headDim),
      unitTokens: u32(plan.key.layout.unitTokens),
      cell: { size: String(key.size), cells: String(key.count) },
    },
    value: {
      headDim: u32(plan.value.headDim),
      unitTokens: dense ? '1u' : u32(plan.value.layout.unitTokens),
      cell: {
        size: String(value.size),
        cells: String(value.count),
        rootLog2: String(value.levels),
      },
    },
    dotLines: coordinates(key.size).map((coordinate, i) => {
      const at = i === 0 ? 'first' : `first + ${u32(i)}`;
      return {
        coordinate: `decoded.${coordinate}`,
        query: shape.queriesInWorkgroup ? `query[${at}]` : `gather(row, head, part, ${at})`,
      };
    }),
    slots: String(slots),
    oneCell,
    cellsPerLane: String(cellsPerLane),
    sumNumber: String(cellsPerLane * value.size),
    sumLines: Array.from({ length: cellsPerLane * value.size }, (_, i) => ({
      ...lines[i % value.size]!,
      index: String(i),
    })),
    cellLines: lines,
    rounds: Array.from({ length: Math.ceil(value.size / perRound) }, (_, round) => {
      const from = round * perRound;
      const items = Math.min(perRound, value.size - from);
      return {
        first: String(from),
        behind: from === 0 ? '' : ` + ${u32(from)}`,
        last: String(from + items - 1),
        items: u32(items),
        lines: Array.from({ length: items }, (_, i) => ({
          index: String(from + i),
          place: i === 0 ? '' : ` + ${u32(i * LANES)}`,
        })),
      };
    }),
  };
}

function moduleView(plan: Plan, modules: readonly Module[]): View {
  const kernels = [...CODERS, ...ATTENTION];
  return {
    ...bindingView(plan),
    groupParts: String(Math.ceil(plan.queryGroup / groupWidth(plan))),
    sameFormat: sameFormat(plan),
    half: isHalf(plan),
    kernels: kernels.map(({ name, bindings, params }) => ({
      name,
      bindings: bindings.map((kind) => `'${kind}'`).join(', '),
      params: wrapNames(
        params.map((each) => (each.type === 'f32' ? `${each.name}:f32` : each.name)),
      ),
    })),
    modules: modules.map(({ name, kernel, template, view }) => ({
      ...view,
      name,
      kernelName: kernel.name,
      ...Object.fromEntries(kernels.map((each) => [`is_${each.name}`, each.name === template])),
      entries: kernel.entries.map((entry) => ({ entry })),
    })),
  };
}

/** Names in lines of at most 100 columns. */
function wrapNames(names: readonly string[]): View[] {
  const lines: string[] = [];
  let line = '';
  for (const name of names) {
    if (line !== '' && 6 + line.length + 1 + name.length > 92) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? name : `${line} ${name}`;
  }
  lines.push(line);
  return lines.map((text, i) => ({ text, last: i + 1 === lines.length }));
}
