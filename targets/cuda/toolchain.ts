/** What builds and runs the emitted files here: a GPU where there is one, else a CPU that stands in for it. */

import type { BuildOptions, BuiltCache, Check } from '../../generator/target/index.ts';
import { checkTools } from '../../generator/target/native/index.ts';
import { buildOnCpu } from './on-cpu.ts';
import { buildOnGpu } from './on-gpu.ts';
import { noGpu, nvccChecks } from './tools.ts';

/** What this machine can build and run. */
export async function check(): Promise<readonly Check[]> {
  return [...(await checkTools()), ...(await nvccChecks())];
}

/**
 * Compiles, links and loads the emitted files of a cache: for the GPU of this machine if there is one, unless sanitizers
 * are asked for or POLARC_CUDA_DEVICE is `cpu`. Throws a `UserError` that names what is missing.
 */
export async function build(options: BuildOptions): Promise<BuiltCache> {
  if (options.sanitize || process.env.POLARC_CUDA_DEVICE === 'cpu') return buildOnCpu(options);
  if ((await noGpu()) !== null) return buildOnCpu(options);
  try {
    return await buildOnGpu(options);
  } catch (error) {
    // There is a GPU, and nothing to compile for it: what can be verified is, and the report says where.
    if ((error as { code?: string }).code !== 'POLARC_UNSUPPORTED') throw error;
    const built = await buildOnCpu(options);
    const reason = `the GPU is not used: ${(error as Error).message}`;
    return { ...built, device: `${built.device}; ${reason}` };
  }
}
