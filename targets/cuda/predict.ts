/** What GPUs would make of emitted attention and encode, counted in its machine code: `bench` prints it where there is none. */

import type { BuildOptions, Prediction } from '../../generator/target/index.ts';
import { type CompiledKernel, compiledKernels } from './cubin.ts';
import { type TokenLoop, tokenLoopsOf } from './hot-loops.ts';
import { forecast, headroom } from './sass-count.ts';
import { isLocalAccess } from './sass-pipes.ts';
import { ARCHITECTURES, type Architecture, GPUS } from './sass-rates.ts';
import { residentWarps } from './sass-resources.ts';

/**
 * Kernels that do not fit into the shared memory of an architecture are left out there. Throws a `UserError` that names
 * what is missing to compile and count.
 */
export async function predict(
  options: Pick<BuildOptions, 'folder' | 'plan' | 'progress'>,
  loops: readonly TokenLoop[] = tokenLoopsOf(options.plan),
  architectures: readonly Architecture[] = ARCHITECTURES,
): Promise<readonly Prediction[]> {
  const { folder, plan, progress } = options;
  if (loops.length === 0) return [];
  const byArchitecture = await Promise.all(
    architectures.map(async (architecture) => {
      const { name } = architecture;
      const kernels = { folder, plan, architecture: name, kernels: loops, progress };
      return (await compiledKernels(kernels)).map((kernel, index) =>
        predictionOf(kernel, loops[index]!, architecture),
      );
    }),
  );
  return loops
    .flatMap((_, index) => byArchitecture.map((each) => each[index]!))
    .filter(({ warps }) => warps > 0);
}

function predictionOf(
  { sass, resources, constants }: CompiledKernel,
  { kernel, size, ...hints }: TokenLoop,
  architecture: Architecture,
): Prediction {
  const {
    threads,
    sharedBytes,
    tokens,
    rounds = 1,
  } = constants as {
    readonly [name in keyof TokenLoop['constants']]: number;
  };
  const { registers } = resources;
  const coordinates = (size.coordinates * tokens) / rounds;
  const bytes = (size.bytes * tokens) / rounds;
  const { count, cycles, bound } = forecast(sass, hints, architecture);
  return {
    kernel,
    architecture: architecture.name,
    registers,
    sharedBytes,
    warps: residentWarps({ registers, threads, sharedBytes }, architecture.limits),
    spills: sass.instructions.filter(isLocalAccess).length,
    instructions: (count.instructions * 32) / coordinates,
    cycles: Object.fromEntries(
      Object.entries(cycles).map(([pipe, value]) => [pipe, (value * BLOCK) / coordinates]),
    ),
    bound,
    machines: GPUS.filter((gpu) => gpu.architecture === architecture.name).map((gpu) => ({
      name: gpu.name,
      headroom: headroom(cycles, gpu, bytes),
    })),
    notes: [
      ...count.unknown.map((opcode) => `${opcode} counts as an instruction of whole numbers`),
      ...count.path.notFound.map((mnemonic) => `${kernel} has no ${mnemonic}: no detour counts`),
      ...(count.calls > 0 ? [`${count.calls} calls are not counted`] : []),
      ...(count.path.uncounted > 0 ? [`${count.path.uncounted} inner loops count once`] : []),
    ],
  };
}

/** 16 coordinates on each of 32 lanes. */
const BLOCK = 512;
