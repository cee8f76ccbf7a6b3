/** Emitted device code compiled for one architecture, and what its machine code says. */

import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileStem, symbolPrefix } from '../../generator/naming/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import { cacheFolder, hash, produce, readEmitted } from '../../generator/target/native/index.ts';
import { parseSass, type SassKernel } from './sass.ts';
import { parseResources, type Resources } from './sass-resources.ts';
import { dump, requireTool, TOOLS } from './tools.ts';
import { ID, cacheFolder as sourceFolder } from './view.ts';

export interface CompiledKernel {
  readonly sass: SassKernel;
  readonly resources: Resources;
  /** Values of the constants that were asked for. */
  readonly constants: Readonly<Record<string, number>>;
}

/** A kernel by its name behind `NAME_cuda_kernel_`, and constants beside it. */
export interface Wanted {
  readonly kernel: string;
  readonly constants: Readonly<Record<string, string>>;
}

interface Options {
  readonly folder: string;
  readonly plan: Plan;
  readonly architecture: string;
  readonly kernels: readonly Wanted[];
  readonly progress?: ((line: string) => void) | undefined;
}

const FLAGS = ['-std=c++17', '-O3', '-cubin'];

/** Throws a `UserError` that names what is missing. */
export async function compiledKernels(options: Options): Promise<readonly CompiledKernel[]> {
  // Before minutes go into compiling.
  for (const tool of TOOLS) await requireTool(tool);
  const text = await dump(await cubinOf(options), ['-sass', '-res-usage']);
  const sass = new Map(parseSass(text).kernels.map((kernel) => [kernel.name, kernel]));
  const resources = new Map(parseResources(text).map((each) => [each.name, each]));
  return options.kernels.map((wanted) => {
    const symbol = `${symbolPrefix(options.plan.name, ID)}_kernel_${wanted.kernel}`;
    const kernel = sass.get(symbol);
    const use = resources.get(symbol);
    if (kernel === undefined || use === undefined) throw new Error(`${symbol} was not compiled`);
    return { sass: kernel, resources: use, constants: constantsOf([...resources.keys()], wanted) };
  });
}

/** Path of the machine code, compiled if it is not there yet. */
async function cubinOf(options: Options): Promise<string> {
  const { plan, architecture, kernels, progress = () => {} } = options;
  const nvcc = await requireTool('nvcc');
  const folder = join(resolve(options.folder), sourceFolder(plan.name));
  const header = join(folder, `${fileStem(plan.name)}.cuh`);
  const source = kernels.map((wanted) => nameWithConstants(plan, wanted)).join('');
  // The comment at the head of a file names spec and plan; what follows it may be the same for all caches.
  const body = (await readEmitted(header)).replace(/^(\/\/.*\n)+/, '');
  const key = hash([nvcc.version, architecture, ...FLAGS, body, source]);
  const cubin = join(cacheFolder(), 'cubins', `${key}.cubin`);
  if (existsSync(cubin)) return cubin;
  progress(`compiling ${header} for ${architecture}`);
  const temporary = await mkdtemp(join(tmpdir(), 'polarc-cubin-'));
  try {
    const file = join(temporary, 'constants.cu');
    await writeFile(file, source);
    const flags = [...FLAGS, `-arch=${architecture}`, '-include', header];
    await produce(cubin, (out) => [nvcc.path, [...flags, file, '-o', out]]);
  } finally {
    await rm(temporary, { recursive: true });
  }
  return cubin;
}

/** Machine code does not show constants: an empty kernel bears them in its name. */
function nameWithConstants(plan: Plan, { kernel, constants }: Wanted): string {
  const names = Object.keys(constants);
  const parameters = names.map((name) => `long ${name}`).join(', ');
  const space = symbolPrefix(plan.name, ID);
  const values = Object.values(constants).map((name) => `${space}::${name}`);
  return `template <${parameters}> __global__ void ${PREFIX}_${kernel}() {}
template __global__ void ${PREFIX}_${kernel}<${values.join(', ')}>();
`;
}
const PREFIX = 'polarc_constants_of';

function constantsOf(symbols: readonly string[], { kernel, constants }: Wanted) {
  const mangled = new RegExp(`^_Z\\d+${PREFIX}_${kernel}I((?:Ll\\d+E)+)Evv$`);
  for (const symbol of symbols) {
    const values = mangled.exec(symbol)?.[1]?.match(/\d+/g);
    if (values === undefined || values === null) continue;
    return Object.fromEntries(Object.keys(constants).map((name, at) => [name, Number(values[at])]));
  }
  throw new Error(`the constants of ${kernel} were not compiled`);
}
