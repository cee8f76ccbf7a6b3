/// <reference types="@webgpu/types" />
/** Loads an emitted ES module and runs its kernels over typed arrays, as the conformance suite calls them. */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '../../generator/diagnostics/index.ts';
import { className, fileStem } from '../../generator/naming/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import type { BuildOptions, BuiltCache, OperationCount } from '../../generator/target/index.ts';
import { type EmittedClass, type EmittedKernels, kernelCalls, residentCall } from './calls.ts';
import { type OpenedDevice, openDevice } from './device.ts';
import { countOperations } from './operations.ts';
import { moduleFolder } from './view.ts';

const VARIANTS = ['subgroups', 'core'];
const VARIED_KERNELS = ['attend', 'attend_dense'];

/** Modules that are loaded already, with their pipelines: compiling them is most of the time of a run. */
const loaded = new Map<string, Promise<Loaded>>();

interface Loaded {
  readonly device: OpenedDevice;
  readonly byVariant: ReadonlyMap<string, EmittedKernels>;
  /** As with every target, the variant in use is one for the process. */
  inUse: EmittedKernels;
}

let opened: Promise<OpenedDevice> | undefined;

/** One device serves all caches of a process. */
function sharedDevice(progress: ((line: string) => void) | undefined): Promise<OpenedDevice> {
  opened ??= openDevice(progress === undefined ? {} : { progress });
  return opened;
}

/** Loads the ES module of a cache from an emitted folder. Throws a `UserError` that names what is missing. */
export async function build(options: BuildOptions): Promise<BuiltCache> {
  const { plan, progress } = options;
  const folder = join(resolve(options.folder), moduleFolder(plan.name));
  const path = join(folder, `${fileStem(plan.name)}.js`);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    throw new UserError(
      'P304',
      `${path} is missing or cannot be read`,
      'emit the cache first: npx polarc generate',
    );
  }
  // The same text in another folder is the same module; an edited one must be loaded anew.
  const key = createHash('sha256').update(text).digest('hex');
  let module = loaded.get(key);
  if (module === undefined) {
    progress?.(`compiling ${path}`);
    module = load(path, key, className(plan.name), progress);
    loaded.set(key, module);
  }
  const emitted = await module;
  const { device, byVariant } = emitted;
  const names = [...byVariant.keys()];
  const missing = VARIANTS.filter((name) => !byVariant.has(name));
  return {
    calls: kernelCalls(device.device, () => emitted.inUse),
    variants: {
      names,
      kernels: VARIED_KERNELS,
      use: (name) => {
        emitted.inUse = byVariant.get(name)!;
      },
    },
    certify: !device.software,
    resident: async (kernel, call) => residentCall(device.device, emitted.inUse, kernel, call),
    // On a CPU a call that long takes seconds, and tells no more.
    ...(device.software ? { coldBytes: 0 } : {}),
    operations: await operationsOf(folder, plan),
    device: [
      device.name,
      names.join(' and '),
      ...missing.map((name) => `${name} not run (the adapter lacks it)`),
    ].join(', '),
    close: () => {},
  };
}

async function operationsOf(folder: string, plan: Plan): Promise<readonly OperationCount[]> {
  const counts: OperationCount[] = [];
  for (const kernel of ['attend', 'attend_dense'] as const) {
    const text = await readFile(join(folder, `${kernel}.wgsl`), 'utf8');
    counts.push(...countOperations(kernel, text, plan));
  }
  return counts;
}

async function load(
  path: string,
  key: string,
  name: string,
  progress: ((line: string) => void) | undefined,
): Promise<Loaded> {
  const device = await sharedDevice(progress);
  const emitted = (await import(`${pathToFileURL(path).href}?${key}`)) as Record<
    string,
    EmittedClass
  >;
  const byVariant = new Map<string, EmittedKernels>();
  for (const variant of VARIANTS) {
    if (variant !== 'core' && !device.adapter.features.has(variant as GPUFeatureName)) continue;
    byVariant.set(variant, await emitted[name]!.create(device.device, { variant }));
  }
  return { device, byVariant, inUse: [...byVariant.values()][0]! };
}
