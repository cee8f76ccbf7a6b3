/** The emitted kernels on a GPU, through the emitted Node addon. */

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { className, fileStem } from '../../generator/naming/index.ts';
import type { BuildOptions, BuiltCache } from '../../generator/target/index.ts';
import {
  buildAddon,
  cacheFolder as buildFolder,
  hash,
  importTypeScript,
  produce,
  readEmitted,
} from '../../generator/target/native/index.ts';
import { type EmittedKernels, kernelCalls, residentCall } from './gpu-calls.ts';
import { nodeFolder } from './node-view.ts';
import { findTool, type Tool } from './tools.ts';
import { cacheFolder } from './view.ts';

/** No second-level cache of a GPU holds so much. */
const COLD_BYTES = 512 * 2 ** 20;

interface DeviceInfo {
  readonly name: string;
  readonly capability: number;
}

/** What is used here of the class in an emitted NAME.ts. */
interface EmittedClass {
  addon(file: string): object;
  devices(addon: object): readonly DeviceInfo[];
  new (
    addon: object,
    options: { readonly device: number; readonly code?: Uint8Array | string },
  ): EmittedKernels;
}

/** Device code for a GPU, and what made it. */
export interface Code {
  readonly code: Uint8Array | string;
  readonly by: string;
}

/** Where the device code comes from. */
export type CodeFor = (options: BuildOptions, capability: number) => Promise<Code | null>;

/**
 * Compiles, links and loads the emitted files for the GPU that POLARC_CUDA_DEVICE numbers (default 0). Throws a `UserError`
 * that names what is missing, or an Error with CUDA's name for it.
 */
export async function buildOnGpu(
  options: BuildOptions,
  codeFor: CodeFor = byNvcc,
): Promise<BuiltCache> {
  const { plan } = options;
  const classFile = join(
    resolve(options.folder),
    nodeFolder(plan.name),
    `${fileStem(plan.name)}.ts`,
  );
  const emitted = await importTypeScript(classFile);
  const Kernels = emitted[className(plan.name)] as EmittedClass;
  const addon = Kernels.addon(await buildGpuAddon(options));
  const number = Number(process.env.POLARC_CUDA_DEVICE ?? 0);
  const devices = Kernels.devices(addon);
  const info = devices[number];
  const made = info === undefined ? null : await codeFor(options, info.capability);
  const kernels = new Kernels(addon, { device: number, ...(made && { code: made.code }) });
  return {
    calls: kernelCalls(kernels),
    resident: async (name, call) => residentCall(kernels, name, call),
    coldBytes: COLD_BYTES,
    device: `${info!.name}, sm_${info!.capability}, compiled by ${made?.by ?? 'NVRTC'}`,
    close: () => kernels.close(),
  };
}

/** Path of the addon, built if it is not there yet. */
export function buildGpuAddon(options: BuildOptions): Promise<string> {
  const { plan, progress = () => {} } = options;
  const stem = fileStem(plan.name);
  const folder = join(resolve(options.folder), cacheFolder(plan.name));
  const node = join(folder, 'node');
  return buildAddon({
    stem,
    sanitize: false,
    progress,
    kernels: [],
    binding: [
      {
        source: join(node, `${stem}_node.cc`),
        includes: ['h', 'cuh', 'cu'].map((extension) => join(folder, `${stem}.${extension}`)),
        flags: [],
      },
      {
        source: join(node, 'polarc_cuda_node.cc'),
        includes: [join(node, 'polarc_cuda_driver.h'), join(node, 'polarc_abi.h')],
        flags: [],
      },
    ],
    libraries: ['-ldl'],
  });
}

/** nvcc's cubin, with the flags in POLARC_NVCC_FLAGS; null where there is no nvcc: the class has NVRTC. */
async function byNvcc(options: BuildOptions, capability: number): Promise<Code | null> {
  const nvcc = await findTool('nvcc');
  if (nvcc === null) return null;
  const more = (process.env.POLARC_NVCC_FLAGS ?? '').split(' ').filter((flag) => flag !== '');
  const flags = ['-cubin', `-arch=sm_${capability}`, '-std=c++17', '-O3', ...more];
  const by = [`nvcc ${nvcc.version}`, ...more].join(' ');
  return { code: await cubin(options, nvcc, flags), by };
}

async function cubin(options: BuildOptions, nvcc: Tool, flags: readonly string[]): Promise<string> {
  const { plan, progress = () => {} } = options;
  const stem = fileStem(plan.name);
  const source = join(resolve(options.folder), cacheFolder(plan.name), `${stem}.cuh`);
  const key = hash([nvcc.version, ...flags, await readEmitted(source)]);
  const path = join(buildFolder(), 'cubins', key, `${stem}.cubin`);
  if (!existsSync(path)) {
    progress(`compiling ${source}`);
    await produce(path, (out) => [nvcc.path, [...flags, '-x', 'cu', source, '-o', out]]);
  }
  return path;
}
