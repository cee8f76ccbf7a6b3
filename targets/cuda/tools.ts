/** NVIDIA's programs and driver on this machine. The kernels are built and verified on a CPU without any of them. */

import { constants } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { UserError } from '../../generator/diagnostics/index.ts';
import type { Check } from '../../generator/target/index.ts';
import { cacheFolder, run } from '../../generator/target/native/index.ts';

export const TOOLS = ['nvcc', 'cuobjdump', 'nvdisasm'] as const;
export type ToolName = (typeof TOOLS)[number];

export interface Tool {
  readonly path: string;
  /** `13.0.88`. */
  readonly version: string;
}

/** The same versions stand in requirements.txt, from which CI installs them. */
const PACKAGES: Readonly<Record<Exclude<ToolName, 'nvcc'>, string>> = {
  cuobjdump: 'nvidia-cuda-cuobjdump==13.5.37',
  nvdisasm: 'nvidia-cuda-nvdisasm==13.5.37',
};

/** Where `hint` has them installed, beside folders that others install to. */
const VENV = 'cuda-tools';

function hint(tool: ToolName): string {
  if (tool === 'nvcc') {
    return 'only for compiling for a GPU: install the CUDA toolkit, or name its folder in CUDA_HOME';
  }
  const venv = join(cacheFolder(), VENV);
  const packages = Object.values(PACKAGES).join(' ');
  return (
    'only for counting instructions: ' +
    `python3 -m venv ${venv} && ${join(venv, 'bin', 'pip')} install ${packages}`
  );
}

/** The first that answers of those on PATH, in CUDA_HOME, in the usual places, in Python's packages. */
export async function findTool(tool: ToolName): Promise<Tool | null> {
  for (const folders of [ownFolders, pythonFolders]) {
    for (const folder of await folders()) {
      const path = join(folder, tool);
      const runs = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (!runs) continue;
      const { code, stdout } = await run(path, ['--version']);
      const version = /\bV(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
      if (code === 0 && version !== undefined) return { path, version };
    }
  }
  return null;
}

export async function requireTool(tool: ToolName): Promise<Tool> {
  const found = await findTool(tool);
  if (found === null) throw new UserError('P301', `there is no ${tool}`, hint(tool));
  return found;
}

async function ownFolders(): Promise<readonly string[]> {
  const { PATH = '', CUDA_HOME, CUDA_PATH } = process.env;
  const homes = [CUDA_HOME, CUDA_PATH, '/usr/local/cuda'].filter((home) => home !== undefined);
  return [
    ...PATH.split(delimiter).filter((folder) => folder !== ''),
    ...homes.map((home) => join(home, 'bin')),
    ...(await packageFolders(join(cacheFolder(), VENV, 'lib'), 'site-packages')),
  ];
}

/** Of the python3 that this machine has. */
async function pythonFolders(): Promise<readonly string[]> {
  const script = 'import site, sys; print(*sys.path, site.getusersitepackages(), sep="\\n")';
  const { code, stdout } = await run('python3', ['-c', script]);
  if (code !== 0) return [];
  const folders = await Promise.all(
    stdout
      .split('\n')
      .filter((path) => path.startsWith('/'))
      .map((path) => nvidiaFolders(path)),
  );
  return folders.flat();
}

/** `lib/python3.11/site-packages`, for whatever version. */
async function packageFolders(lib: string, name: string): Promise<readonly string[]> {
  const folders = await Promise.all(
    (await entries(lib)).map((version) => nvidiaFolders(join(lib, version, name))),
  );
  return folders.flat();
}

/** `nvidia/cu13/bin` of a folder of Python packages. */
async function nvidiaFolders(packages: string): Promise<readonly string[]> {
  const nvidia = join(packages, 'nvidia');
  return (await entries(nvidia)).map((name) => join(nvidia, name, 'bin'));
}

const entries = (folder: string): Promise<readonly string[]> => readdir(folder).catch(() => []);

/** `cuobjdump` with the `nvdisasm` that it calls. Throws a `UserError` that names what is missing. */
export async function dump(cubin: string, flags: readonly string[]): Promise<string> {
  const cuobjdump = await requireTool('cuobjdump');
  const nvdisasm = await requireTool('nvdisasm');
  const call = [`NVDISASM_PATH=${dirname(nvdisasm.path)}`, cuobjdump.path, ...flags, cubin];
  const { code, stdout, stderr } = await run('env', call);
  if (code === 0) return stdout;
  const text = `cuobjdump failed: ${stderr.trim()}`;
  throw new UserError('P303', text, `to see it again: env ${call.join(' ')}`);
}

/** The name of a GPU that can be used here; null: there is none, or no driver for it. */
export async function findGpu(): Promise<string | null> {
  if (!(await hasDriver())) return null;
  const devices = (await entries('/dev')).filter((name) => /^(nvidia\d+|dxg|nvgpu)$/.test(name));
  if (devices.length === 0) return null;
  const query = ['--query-gpu=name', '--format=csv,noheader'];
  const { code, stdout } = await run('nvidia-smi', query);
  return (code === 0 && stdout.split('\n')[0]!.trim()) || 'a GPU of NVIDIA';
}

const DRIVER = 'libcuda.so.1';

async function hasDriver(): Promise<boolean> {
  const folders = [
    ...(process.env.LD_LIBRARY_PATH ?? '').split(delimiter).filter((folder) => folder !== ''),
    ...['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'],
    ...['/usr/lib/wsl/lib', '/usr/local/nvidia/lib64', '/usr/local/cuda/compat'],
  ];
  for (const folder of folders) if ((await entries(folder)).includes(DRIVER)) return true;
  const { stdout } = await run('ldconfig', ['-p']);
  return stdout.includes(DRIVER);
}

/** Why kernels do not run on a GPU here; null: they do. */
export async function noGpu(): Promise<string | null> {
  if (process.env.POLARC_CUDA_DEVICE === 'cpu')
    return 'POLARC_CUDA_DEVICE asks for the CPU stand-in';
  if (!(await hasDriver())) return 'no CUDA driver: kernels run on the CPU stand-in';
  if ((await findGpu()) === null) return 'no GPU of NVIDIA: kernels run on the CPU stand-in';
  return null;
}

/** Lines of `doctor`. */
export async function nvccChecks(): Promise<readonly Check[]> {
  const [tools, reason, gpu] = await Promise.all([
    Promise.all(TOOLS.map(findTool)),
    noGpu(),
    findGpu(),
  ]);
  const lines = TOOLS.map(async (what, index): Promise<Check> => {
    const tool = tools[index]!;
    const detail = tool === null ? hint(what) : `${tool.version} (${tool.path})`;
    const more = tool !== null && what === 'nvcc' ? await architectures(tool) : '';
    return { what, ok: tool !== null, detail: `${detail}${more}`, required: false };
  });
  return [
    ...(await Promise.all(lines)),
    { what: 'NVIDIA GPU', ok: reason === null, detail: reason ?? gpu!, required: false },
  ];
}

/** `, for sm_75 to sm_121`. */
async function architectures({ path }: Tool): Promise<string> {
  const { stdout } = await run(path, ['--list-gpu-code']);
  const numbers = [...stdout.matchAll(/\bsm_(\d+)/g)].map(([, number]) => Number(number));
  if (numbers.length === 0) return '';
  return `, for sm_${Math.min(...numbers)} to sm_${Math.max(...numbers)}`;
}
