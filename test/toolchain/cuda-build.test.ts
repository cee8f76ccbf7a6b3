/** The emitted CUDA folders by themselves: nvcc for every architecture, CMake, NVRTC, a C++ compiler alone, the programs that show their use. */

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fileStem } from '../../generator/naming/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { normalize } from '../../generator/spec/index.ts';
import presets from '../../polarc.config.ts';
import { target } from '../../targets/cuda/index.ts';
import { emitted } from '../fixtures/emitted.ts';

const ARCHITECTURES = ['75', '80', '90', '100', '120'];

const STAND_IN = fileURLToPath(new URL('../../templates/cuda/on_cpu', import.meta.url));
const NVRTC_PROBE = fileURLToPath(new URL('../fixtures/nvrtc.cpp', import.meta.url));
const EXAMPLE = fileURLToPath(new URL('../../docs/cuda-example.cpp', import.meta.url));

const starts = (command: string): boolean => spawnSync(command, ['--version']).status === 0;
const withNvcc = starts('nvcc');
const withCmake = withNvcc && starts('cmake');
const nvrtc = [process.env.POLARC_LIBNVRTC, '/usr/local/cuda/lib64/libnvrtc.so'].find(
  (file) => file !== undefined && existsSync(file),
);

const folders = new Map<string, string>();
/** The folder of a cache, emitted when it is first asked for. */
function folderOf(name: string): string {
  let folder = folders.get(name);
  if (folder === undefined) {
    const spec = presets.caches.find((cache) => cache.name === name)!;
    folder = emitted(lower(normalize(spec)), target);
    folders.set(name, folder);
  }
  return join(folder, 'cuda', fileStem(name));
}

afterAll(() => {
  for (const folder of folders.values()) rmSync(folder, { recursive: true });
});

describe.skipIf(!withNvcc)(`nvcc${withNvcc ? '' : ' is not installed: see docs/cuda.md'}`, () => {
  const run = promisify(execFile);
  const compiled = new Map<string, Promise<string>>();

  /** What ptxas says of every kernel; rejects at any warning. */
  const compile = async (name: string): Promise<string> => {
    const code = ARCHITECTURES.flatMap((architecture) => [
      '-gencode',
      `arch=compute_${architecture},code=sm_${architecture}`,
    ]);
    const host = ['-Xcompiler', '-Wall,-Wextra,-Werror', '-o', 'kernels.o'];
    const flags = ['-std=c++17', '-O3', '-Werror', 'all-warnings', '-Xptxas', '-v', ...host];
    const file = `${fileStem(name)}.cu`;
    return (await run('nvcc', [...flags, ...code, '-c', file], { cwd: folderOf(name) })).stderr;
  };

  beforeAll(() => {
    // Two at a time.
    const names = presets.caches.map(({ name }) => name);
    const lanes: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
    names.forEach((name, i) => {
      const result = lanes[i % 2]!.then(() => compile(name));
      lanes[i % 2] = result.catch(() => {});
      compiled.set(name, result);
    });
  });

  test.each(presets.caches.map(({ name }) => name))(
    'compiles %s without a warning, a spill or local memory',
    async (name) => {
      const said = await compiled.get(name)!;
      const kernels = [...said.matchAll(/Compiling entry function '(\w+)' for '(\w+)'\n.*\n(.*)/g)];
      const architectures = new Set(kernels.map(([, , architecture]) => architecture));
      expect(architectures.size).toBe(ARCHITECTURES.length);
      expect(kernels.length / architectures.size).toBeGreaterThanOrEqual(15);
      const faults = kernels
        .filter(
          ([, , , memory]) =>
            !/^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads$/.test(memory!),
        )
        .map(([, kernel, architecture, memory]) => `${kernel} ${architecture}:${memory}`);
      expect(faults).toEqual([]);
    },
    600_000,
  );
});

describe.skipIf(!withCmake)(
  `CMake${withCmake ? '' : ' or nvcc is not installed: see docs/cuda.md'}`,
  () => {
    let folder: string;

    test('builds the emitted folder into a shared library and its example', () => {
      folder = folderOf('llama_d128');
      const flags = ['-B', 'build', '-DCMAKE_CUDA_ARCHITECTURES=90-real'];
      execFileSync('cmake', flags, { cwd: folder, stdio: 'pipe' });
      execFileSync('cmake', ['--build', 'build'], { cwd: folder, stdio: 'pipe' });
      const library = join(folder, 'build/libllama-d128_cuda.so');
      const symbols = execFileSync('nm', ['-D', '--defined-only', library], { encoding: 'utf8' });
      expect(symbols).toMatch(/ T llama_d128_cuda_kernels$/m);
      expect(existsSync(join(folder, 'build/example'))).toBe(true);
    }, 600_000);

    test('builds nothing that the program of the docs lacks', () => {
      copyFileSync(EXAMPLE, join(folder, 'cuda-example.cpp'));
      const cuda = cudaFolder();
      const flags = ['-std=c++17', '-Wall', '-Wextra', '-Wpedantic', '-Werror'];
      const places = ['-isystem', join(cuda, 'include'), '-Lbuild', `-L${join(cuda, 'lib64')}`];
      const libraries = ['-lllama-d128_cuda', '-lcudart', '-o', 'docs-example'];
      execFileSync('g++', [...flags, 'cuda-example.cpp', ...places, ...libraries], { cwd: folder });
      const LD_LIBRARY_PATH = `${join(folder, 'build')}:${join(cuda, 'lib64')}`;
      const ran = spawnSync(join(folder, 'docs-example'), {
        encoding: 'utf8',
        env: { ...process.env, LD_LIBRARY_PATH },
      });
      // Without a GPU the first call of CUDA says so.
      if (ran.status === 0) expectCosines(ran.stdout);
      else expect(ran.stderr).toMatch(/driver|device/);
    });
  },
);

describe.skipIf(nvrtc === undefined)(
  `NVRTC${nvrtc === undefined ? ' is not installed: name its file in POLARC_LIBNVRTC (docs/cuda.md)' : ''}`,
  () => {
    test.each(presets.caches.map(({ name }) => name))(
      'compiles the device code of %s alone, and keeps what launchers look up',
      (name) => {
        const folder = folderOf(name);
        const probe = join(folder, 'nvrtc');
        execFileSync('g++', ['-std=c++17', NVRTC_PROBE, '-ldl', '-o', probe]);
        const architectures = ['sm_90'];
        const ran = spawnSync(
          probe,
          [nvrtc!, join(folder, `${fileStem(name)}.cuh`), ...architectures],
          {
            encoding: 'utf8',
            env: { ...process.env, LD_LIBRARY_PATH: dirname(nvrtc!) },
          },
        );
        const lines = ran.stdout.split('\n').filter((line) => /^sm_|error/.test(line));
        expect(lines).toEqual(architectures.map((architecture) => `${architecture}: compiled`));
      },
    );
  },
);

describe.each(presets.caches.map(({ name }) => name))('%s', (name) => {
  test('has device code that needs no header and no flag of NVRTC', () => {
    const text = readFileSync(join(folderOf(name), `${fileStem(name)}.cuh`), 'utf8');
    const includes = [...text.matchAll(/#include .*/g)].map(([line]) => line);
    expect(includes).toEqual(['#include <stddef.h>', '#include <stdint.h>']); // of the ABI, elsewhere
    expect(text).not.toContain('std::');
    // NVRTC takes a function without an execution space for the host's, and refuses it.
    const bare = [
      ...text.matchAll(/^(?:template <[^\n]*>\s+)?(?:constexpr|inline|static) [\w:]+ \w+\(/gm),
    ];
    expect(bare.map(([line]) => line)).toEqual([]);
  });

  test('has launchers that a C++ compiler takes without CUDA', () => {
    const flags = ['-std=c++17', '-O1', '-Wall', '-Wextra', '-Wpedantic', '-Werror'];
    const file = `${fileStem(name)}.cu`;
    execFileSync(
      'g++',
      [...flags, '-DPOLARC_CUDA_DRIVER', '-x', 'c++', '-c', file, '-o', 'launchers.o'],
      { cwd: folderOf(name) },
    );
  });
});

describe('the programs that show the use of a cache, on the CPU that stands in', () => {
  const build = (name: string, program: string): string => {
    const folder = folderOf(name);
    const flags = ['-std=c++17', '-O1', '-w', '-pthread', '-fvisibility=hidden'];
    const stand = ['-DPOLARC_ON_CPU', '-ffp-contract=off', '-fno-strict-aliasing', `-I${STAND_IN}`];
    const include = ['-include', join(STAND_IN, 'cuda_on_cpu.h'), '-I', folder, '-x', 'c++'];
    const sources = [join(folder, `${fileStem(name)}.cu`), program];
    const output = join(folder, 'on-cpu');
    execFileSync('g++', [...flags, ...stand, ...include, ...sources, '-o', output]);
    return execFileSync(output, { encoding: 'utf8' });
  };

  test.each(['llama_d128', 'small_d64'])('example.cu of %s is as near as its format', (name) => {
    const lines = build(name, join(folderOf(name), 'example.cu'))
      .trimEnd()
      .split('\n');
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines.slice(1)) {
      const error = Number(/relative error of the output ([\d.]+)$/.exec(line)?.[1]);
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(0.4);
    }
  });

  test('the one of the docs finds the rows that it asks for', () => {
    expectCosines(build('llama_d128', EXAMPLE));
  });
});

function expectCosines(printed: string): void {
  const lines = printed.trimEnd().split('\n');
  expect(lines).toHaveLength(8);
  for (const line of lines) {
    const cosine = Number(/cosine of output and row ([\d.]+)$/.exec(line)?.[1]);
    expect(cosine).toBeGreaterThan(0.95);
    expect(cosine).toBeLessThan(1);
  }
}

/** Where nvcc has its headers and libraries. */
function cudaFolder(): string {
  const text = execFileSync('nvcc', ['--dryrun', '-x', 'cu', '/dev/null'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return /TOP=(.*)$/m.exec(text)?.[1] ?? '/usr/local/cuda';
}
