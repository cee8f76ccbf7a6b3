/// <reference types="@webgpu/types" />
/** Opens WebGPU in Node: Dawn, with the drivers of the system or with one that runs on the CPU. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { UserError } from '../../generator/diagnostics/index.ts';
import type { Check } from '../../generator/target/index.ts';
import { driverArchive, unpackDriver } from './driver.ts';

const WEBGPU_VERSION = '0.6.2';
const WEBGPU_HINT = `npm install webgpu@${WEBGPU_VERSION}`;
/** Used where the adapter has them. */
const FEATURES = ['subgroups', 'shader-f16', 'timestamp-query'] as const;
/** Dawn rounds the times of timestamp queries to 65 µs, which some kernels take less than. */
const DAWN_OPTIONS = ['disable-dawn-features=timestamp_quantization'];
/** The loader reads them when Dawn asks for an adapter; the second name is for loaders of before 2022. */
const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'];
/** Of dlopen: the library stays when Node closes it. Node's own constants do not have it. */
const RTLD_NODELETE = 0x1000;
const NO_ADDON = 'Module did not self-register';

export interface OpenOptions {
  /** Called with a line for each step that takes time. */
  readonly progress?: (line: string) => void;
}

export interface OpenedAdapter {
  readonly adapter: GPUAdapter;
  /** For reports. */
  readonly name: string;
  /** It is SwiftShader: encoded bytes are equal bit by bit. */
  readonly software: boolean;
}

export interface OpenedDevice extends OpenedAdapter {
  readonly device: GPUDevice;
  close(): void;
}

/**
 * A GPU of this machine; where there is none, or `POLARC_WGSL_ADAPTER` is `software`, SwiftShader. Throws a
 * `UserError` that names what is missing.
 */
export async function openAdapter(options: OpenOptions = {}): Promise<OpenedAdapter> {
  const gpu = await openGpu(options.progress ?? (() => {}));
  // A new one for each caller: an adapter gives one device.
  const opened = await adapterOf(gpu);
  if (opened === null) throw new UserError('P300', 'the WebGPU adapter is gone');
  return opened;
}

/** A device with those of FEATURES that the adapter has, and room for the largest buffers it can hold. */
export async function openDevice(options: OpenOptions = {}): Promise<OpenedDevice> {
  const opened = await openAdapter(options);
  const { adapter } = opened;
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  return withDevice(opened, { maxStorageBufferBindingSize, maxBufferSize });
}

/** A device that checks shaders, within the core limits and with the given features, and runs nothing. */
export async function openNullDevice(
  features: readonly GPUFeatureName[] = FEATURES,
): Promise<OpenedDevice> {
  nullGpu ??= (await importDawn()).create(['backend=null']);
  const adapter = await nullGpu.requestAdapter();
  if (adapter === null) throw new UserError('P300', 'this build of Dawn has no null backend');
  const opened = { adapter, name: 'Dawn without a device', software: false };
  return withDevice(opened, {}, features);
}

async function withDevice(
  opened: OpenedAdapter,
  requiredLimits: Record<string, number>,
  features: readonly GPUFeatureName[] = FEATURES,
): Promise<OpenedDevice> {
  const { adapter } = opened;
  const requiredFeatures = features.filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  return { ...opened, device, close: () => device.destroy() };
}

/** What this machine can run. */
export async function checks(): Promise<readonly Check[]> {
  const webgpu = webgpuEntry();
  let opened: OpenedAdapter | undefined;
  let problem = '';
  try {
    opened = await openAdapter();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    problem = error.hint === undefined ? error.message : `${error.message}: ${error.hint}`;
  }
  const has = (feature: (typeof FEATURES)[number]) =>
    opened?.adapter.features.has(feature) ?? false;
  return [
    {
      what: 'webgpu (Dawn)',
      ok: webgpu !== null,
      detail: webgpu === null ? WEBGPU_HINT : webgpuVersion(webgpu),
      required: true,
    },
    {
      what: 'WebGPU adapter',
      ok: opened !== undefined,
      detail: opened?.name ?? problem,
      required: true,
    },
    {
      what: 'subgroups',
      ok: has('subgroups'),
      detail: has('subgroups')
        ? `subgroups of ${subgroupSizes(opened!.adapter.info)}: the subgroups variant runs`
        : 'without it the subgroups variant is validated, not run',
      required: false,
    },
    {
      what: 'shader-f16',
      ok: has('shader-f16'),
      detail: has('shader-f16')
        ? 'the f16 variant runs'
        : 'without it the f16 variant is validated, not run',
      required: false,
    },
  ];
}

function subgroupSizes({ subgroupMinSize, subgroupMaxSize }: GPUAdapterInfo): string {
  return subgroupMinSize === subgroupMaxSize
    ? `${subgroupMinSize}`
    : `${subgroupMinSize} to ${subgroupMaxSize}`;
}

interface Dawn {
  create(options: readonly string[]): GPU;
}

type Wanted = 'any' | 'software';

/** Dawn works while these objects live, and no longer. */
const gpus = new Map<Wanted, Promise<GPU>>();
let nullGpu: GPU | undefined;

async function openGpu(progress: (line: string) => void): Promise<GPU> {
  const wanted = process.env.POLARC_WGSL_ADAPTER || 'any';
  if (wanted !== 'any' && wanted !== 'software') {
    const text = `POLARC_WGSL_ADAPTER is '${wanted}'`;
    throw new UserError('P300', text, "set it to 'software', or not at all");
  }
  return sharedGpu(wanted, progress);
}

/** The same for all callers: one alone changes the environment while Dawn starts. */
function sharedGpu(wanted: Wanted, progress: (line: string) => void): Promise<GPU> {
  let gpu = gpus.get(wanted);
  if (gpu === undefined) {
    gpu = wanted === 'software' ? softwareGpu(progress) : anyGpu(progress);
    gpus.set(wanted, gpu);
    // So that a caller who installs what was missing can try again.
    gpu.catch(() => gpus.delete(wanted));
  }
  return gpu;
}

async function anyGpu(progress: (line: string) => void): Promise<GPU> {
  const { create } = await importDawn();
  // Dawn writes a warning where there is no Vulkan.
  const system = systemHasDrivers() ? create(DAWN_OPTIONS) : null;
  const adapter = await system?.requestAdapter({ powerPreference: 'high-performance' });
  if (system !== null && adapter && !adapter.info.isFallbackAdapter) return system;
  const { missing } = driverArchive();
  if (missing === undefined) return sharedGpu('software', progress);
  // Another driver for the CPU is better than none.
  if (system !== null && adapter) return system;
  throw new UserError('P300', `Dawn finds no GPU here, and ${missing.text}`, missing.hint);
}

async function softwareGpu(progress: (line: string) => void): Promise<GPU> {
  const { create } = await importDawn();
  const { loader, manifest } = await unpackDriver(progress);
  const problem = keepLoaded(loader);
  if (problem !== null) {
    const text = `the software driver cannot be loaded: ${problem}`;
    throw new UserError('P300', text, 'name a folder whose files may be executed in POLARC_CACHE');
  }
  // Of two loaded Vulkan loaders Dawn may take either; both look for drivers where the environment says, whenever an
  // instance is made, and each GPU object makes its own.
  const before = DRIVER_VARIABLES.map((name) => process.env[name]);
  for (const name of DRIVER_VARIABLES) process.env[name] = manifest;
  try {
    const gpu = create(DAWN_OPTIONS);
    const opened = await adapterOf(gpu);
    if (opened?.software) return gpu;
    const text = `Dawn does not use the software driver ${manifest}`;
    const hint = isMainThread
      ? undefined
      : 'open it in the main thread, or give the worker `env: SHARE_ENV`';
    throw new UserError('P300', text, hint);
  } finally {
    DRIVER_VARIABLES.forEach((name, at) => {
      const value = before[at];
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    });
  }
}

async function adapterOf(gpu: GPU): Promise<OpenedAdapter | null> {
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) return null;
  const { vendor, architecture, device, description } = adapter.info;
  const software = vendor === 'google' && architecture === 'swiftshader';
  const parts = software ? [description] : [vendor, architecture, device, description];
  return { adapter, name: parts.filter((part) => part !== '').join(', '), software };
}

/** True where Dawn can ask for adapters without a driver of ours. */
function systemHasDrivers(): boolean {
  return process.platform !== 'linux' || loadProblem('libvulkan.so.1') === null;
}

/** Loads a library, so that Dawn finds it by its name; null, or what went wrong. */
function keepLoaded(path: string): string | null {
  return loadProblem(path, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
}

/** Node takes a library for an addon, and complains that it is none when the system has loaded it. */
function loadProblem(path: string, flags = constants.dlopen.RTLD_LAZY): string | null {
  try {
    process.dlopen({ exports: {} }, path, flags);
    return null;
  } catch (error) {
    const { message } = error as Error;
    return message.includes(NO_ADDON) ? null : message;
  }
}

async function importDawn(): Promise<Dawn> {
  const entry = webgpuEntry();
  if (entry === null) throw new UserError('P301', 'there is no WebGPU (Dawn)', WEBGPU_HINT);
  try {
    return await import(pathToFileURL(entry).href);
  } catch (error) {
    const text = `WebGPU (Dawn) cannot be loaded: ${(error as Error).message}`;
    throw new UserError('P301', text, WEBGPU_HINT);
  }
}

/** The package beside polarc, or in the project that calls it: a polarc that is linked has none beside it. */
function webgpuEntry(): string | null {
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      return createRequire(from).resolve('webgpu');
    } catch {}
  }
  return null;
}

function webgpuVersion(entry: string): string {
  const { version } = JSON.parse(readFileSync(join(dirname(entry), 'package.json'), 'utf8'));
  return version === WEBGPU_VERSION ? version : `${version}, tested with ${WEBGPU_VERSION}`;
}
