/** The emitted kernels on a CPU that stands in for the GPU: an addon over host arrays, for verification. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { UserError } from '../../generator/diagnostics/index.ts';
import { fileStem, symbolPrefix } from '../../generator/naming/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import type {
  BuildOptions,
  BuiltCache,
  KernelCalls,
  Variants,
} from '../../generator/target/index.ts';
import {
  buildAddon,
  cpuName,
  packageFile,
  placeSource,
} from '../../generator/target/native/index.ts';
import { architecturesOf } from './choices.ts';
import { noHalf, versionsOf } from './half-view.ts';
import { sharedFlag } from './node-view.ts';
import { cacheFolder } from './view.ts';

/** The harness is not emitted: an embedder's calls go to a GPU, and `verify` has it in the package. */
const EMULATOR = ['cuda_on_cpu.h', 'blocks.h', 'vectors.h', 'cuda_runtime.h'];
/** Kernels read rows as words of other types, as CUDA's compilers let them. */
const EMULATOR_FLAGS = ['-DPOLARC_ON_CPU', '-ffp-contract=off', '-fno-strict-aliasing'];
const ADDON = 'shared/node/polarc_node.cc';
const CACHE = 'templates/cuda/node/on_cpu/cache.cc';
const ABI = 'templates/shared/abi.h.hbs';

/** What is used here of the addon. */
interface Addon {
  readonly name: string;
  readonly planHash: string;
  readonly Kernels: new (threads: number) => KernelCalls & { close(): void };
}

export async function buildOnCpu(options: BuildOptions): Promise<BuiltCache> {
  const { plan, threads = 1 } = options;
  const addon = createRequire(import.meta.url)(await addonOf(options)) as Addon;
  if (addon.planHash !== plan.planHash) {
    const text = `the kernels are of plan ${addon.planHash.slice(0, 16)}, not ${plan.planHash.slice(0, 16)}`;
    throw new UserError('P304', text, 'emit the cache again: npx polarc generate');
  }
  const calls = new addon.Kernels(threads);
  const variants = variantsOf(plan);
  const device = [
    `CUDA on the CPU stand-in (${cpuName()})`,
    `${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    `random thread order of seed ${process.env.POLARC_CUDA_SEED ?? '1'}`,
  ].join(', ');
  return { calls, device, ...(variants && { variants }), close: () => calls.close() };
}

/** Compute capability of the device that the stand-in plays. */
const CAPABILITY = 'POLARC_CUDA_CAPABILITY';

/** Kernels for devices with less shared memory, each on a device that takes it; one device if one is asked for. */
function variantsOf(plan: Plan): Variants | undefined {
  if (process.env[CAPABILITY] || plan.arithmetic.cuda !== 'half' || noHalf(plan) !== null) {
    return undefined;
  }
  const versions = versionsOf(plan);
  const capabilities = new Map(
    architecturesOf(plan, versions).flatMap(([architecture], i) => {
      if (architecture === undefined) return [];
      const digits = architecture.replace('sm_', '');
      return [[versions[i]!.name, `${digits.slice(0, -1)}.${digits.slice(-1)}`]];
    }),
  );
  const [usual] = capabilities.keys();
  return {
    names: [...capabilities.keys()],
    kernels: ['attend'],
    use: (name) => {
      if (name === usual) delete process.env[CAPABILITY];
      else process.env[CAPABILITY] = capabilities.get(name)!;
    },
  };
}

/** Path of the addon, built if it is not there yet. */
async function addonOf(options: BuildOptions): Promise<string> {
  const { plan, sanitize = false, optimize = 1, progress = () => {} } = options;
  const stem = fileStem(plan.name);
  const folder = join(resolve(options.folder), cacheFolder(plan.name));
  const header = join(folder, `${stem}.h`);
  const emulator = EMULATOR.map((file) => packageFile(`templates/cuda/on_cpu/${file}`));
  const cache = packageFile(CACHE);
  const cpp = ['-x', 'c++'];
  return buildAddon({
    stem,
    sanitize,
    progress,
    kernels: [
      {
        source: join(folder, `${stem}.cu`),
        includes: [header, join(folder, `${stem}.cuh`), ...emulator],
        flags: [`-O${optimize}`, ...EMULATOR_FLAGS, ...cpp],
        paths: ['-include', emulator[0]!],
      },
    ],
    binding: [
      {
        source: cache,
        includes: [header],
        paths: [`-DPOLARC_CACHE_HEADER="${header}"`],
        flags: [
          `-DPOLARC_CACHE_KERNELS=${symbolPrefix(plan.name, 'cuda')}_kernels`,
          `-DPOLARC_CACHE_SHARED_MATRIX=${[plan.key, plan.value].map(sharedFlag).join(',')}`,
        ],
      },
      {
        source: await placeSource('polarc_node.cc', expanded(ADDON)),
        includes: [packageFile(ABI)],
        paths: [`-I${dirname(cache)}`],
        flags: cpp,
      },
    ],
  });
}

/** A template of text and partials alone. */
function expanded(name: string): string {
  const text = readFileSync(packageFile(`templates/${name}.hbs`), 'utf8');
  return text.replace(/^\{\{> (\S+)\}\}\n/gm, (_line, partial: string) => expanded(partial));
}
