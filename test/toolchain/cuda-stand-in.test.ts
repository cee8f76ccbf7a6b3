/** Building emitted CUDA files for the CPU stand-in: what is cached, what a user reads when something is missing. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { UserError } from '../../generator/diagnostics/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import { target } from '../../targets/cuda/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

let plan: Plan;
let folder: string;
let cache: string;

beforeAll(() => {
  cache = mkdtempSync(join(tmpdir(), 'polarc-cache-'));
});
afterAll(() => rmSync(cache, { recursive: true }));

beforeEach(() => {
  plan = planOf();
  folder = emitted(plan, target);
  vi.stubEnv('POLARC_CACHE', cache);
  vi.stubEnv('POLARC_CUDA_DEVICE', 'cpu');
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const build = async (): Promise<string[]> => {
  const lines: string[] = [];
  const progress = (line: string) => lines.push(line.replace(/\/.*\//, ''));
  (await target.build({ folder, plan, progress })).close();
  return lines.sort();
};

const failure = async (): Promise<string> => {
  const error = await build().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(UserError);
  const { code, message, hint } = error as UserError;
  return `${code} ${message} → ${hint}`.replaceAll(folder, 'OUT').replaceAll(cache, 'CACHE');
};

describe('build', () => {
  it('compiles once, and only what changed after an edit or elsewhere', async () => {
    expect(await build()).toEqual([
      'compiling cache.cc',
      'compiling polarc_node.cc',
      'compiling small.cu',
      'linking small.node',
    ]);
    expect(await build()).toEqual([]);

    rmSync(folder, { recursive: true });
    folder = emitted(plan, target);
    expect(await build()).toEqual([]);

    const file = join(folder, 'cuda/small/small.cuh');
    writeFileSync(file, `${readFileSync(file, 'utf8')}\n// edited\n`);
    expect(await build()).toEqual(['compiling small.cu', 'linking small.node']);
  });

  it('says which order of threads it draws', async () => {
    vi.stubEnv('POLARC_CUDA_SEED', '7');
    const built = await target.build({ folder, plan, threads: 3 });
    expect(built.device).toMatch(
      /^CUDA on the CPU stand-in \(.+\), 3 threads, random thread order of seed 7$/,
    );
    built.close();
  });

  it('says what is missing', async () => {
    vi.stubEnv('CXX', '/nowhere/c++');
    const noCompiler = await failure();
    vi.stubEnv('CXX', undefined);
    writeFileSync(join(cache, 'file'), '');
    vi.stubEnv('POLARC_CACHE', join(cache, 'file'));
    const noCache = (await failure()).replace(/file\/\w+\/\w+/g, 'file/…');
    vi.stubEnv('POLARC_CACHE', cache);
    const file = join(folder, 'cuda/small/small.cu');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('namespace {', 'namespace {\nwrong;'));
    const wrong = (await failure()).replace(/ → .*/, '').replace(/:\d+:\d+/, ':N:N');
    rmSync(file);
    expect([noCompiler, noCache, wrong, await failure()]).toMatchInlineSnapshot(`
      [
        "P301 there is no C++ compiler → install g++ (apt-get install g++) or clang++, or name one in CXX",
        "P302 the build cache CACHE/file/… cannot be written: ENOTDIR: not a directory, mkdir 'CACHE/file/…' → name a folder in POLARC_CACHE",
        "P303 g++ failed: OUT/cuda/small/small.cu:N:N: error: 'wrong' does not name a type",
        "P304 OUT/cuda/small/small.cu is missing or cannot be read → emit the cache first: npx polarc generate",
      ]
    `);
  });

  it('refuses kernels of another plan', async () => {
    plan = planOf({}, {}, { queryGroup: 3 });
    expect(await failure()).toMatch(
      /^P304 the kernels are of plan [0-9a-f]{16}, not [0-9a-f]{16} → emit the cache again: npx polarc generate$/,
    );
  });

  it('wants the sanitizer libraries in the process before it loads what they check', async () => {
    vi.stubEnv('LD_PRELOAD', undefined);
    await expect(target.build({ folder, plan, sanitize: true })).rejects.toThrow(
      'kernels built with sanitizers need the sanitizer libraries in this process from its start',
    );
  });
});
