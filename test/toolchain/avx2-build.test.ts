/** Building emitted files: what is cached, what two builds at once do, what a user reads when something is missing. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { UserError } from '../../generator/diagnostics/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

let plan: Plan;
let folder: string;
let cache: string;

beforeEach(() => {
  plan = planOf();
  folder = emitted(plan, target);
  cache = mkdtempSync(join(tmpdir(), 'polarc-cache-'));
  vi.stubEnv('POLARC_CACHE', cache);
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
  rmSync(cache, { recursive: true });
});

const build = async (): Promise<string[]> => {
  const lines: string[] = [];
  const progress = (line: string) => lines.push(line.replace(folder, '').replace(/\/.*\//, ''));
  (await target.build({ folder, plan, optimize: 1, progress })).close();
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
  it('compiles once, also when two build at once, and only what changed after an edit', async () => {
    const all = ['compiling polarc_node.cc', 'compiling small.cpp', 'compiling small_node.cc'];
    const lines = (await Promise.all([build(), build()])).flat();
    expect([...new Set(lines)].sort()).toEqual([...all, 'linking small.node']);
    const files = readdirSync(cache, { recursive: true, encoding: 'utf8' });
    expect(files.filter((file) => file.endsWith('.tmp'))).toEqual([]);
    expect(files.filter((file) => file.endsWith('.node'))).toHaveLength(1);
    expect(await build()).toEqual([]);

    const file = join(folder, 'avx2/small.cpp');
    writeFileSync(file, `${readFileSync(file, 'utf8')}\n// edited\n`);
    expect(await build()).toEqual(['compiling small.cpp', 'linking small.node']);

    // The addon's text is the same for every cache.
    plan = planOf({}, {}, { queryGroup: 1, name: 'other' });
    rmSync(folder, { recursive: true });
    folder = emitted(plan, target);
    expect(await build()).toEqual([
      'compiling other.cpp',
      'compiling other_node.cc',
      'linking other.node',
    ]);
  });

  it('says what is missing', async () => {
    vi.stubEnv('CXX', '/nowhere/c++');
    const noCompiler = await failure();
    vi.stubEnv('CXX', undefined);
    writeFileSync(join(cache, 'file'), '');
    vi.stubEnv('POLARC_CACHE', join(cache, 'file'));
    const noCache = await failure();
    vi.stubEnv('POLARC_CACHE', cache);
    const file = join(folder, 'avx2/small.cpp');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('namespace {', 'namespace {\nwrong;'));
    const wrong = (await failure()).replace(/CACHE.*/, 'CACHE…').replace(/:\d+:\d+/, ':N:N');
    rmSync(file);
    expect([noCompiler, noCache, wrong, await failure()]).toMatchInlineSnapshot(`
      [
        "P301 there is no C++ compiler → install g++ (apt-get install g++) or clang++, or name one in CXX",
        "P302 the build cache CACHE/file/objects cannot be written: ENOTDIR: not a directory, mkdir 'CACHE/file/objects' → name a folder in POLARC_CACHE",
        "P303 g++ failed: OUT/avx2/small.cpp:N:N: error: 'wrong' does not name a type → to see it all: g++ -std=c++17 -fPIC -fvisibility=hidden -O1 -ffp-contract=off -mavx2 -mfma -mf16c -fno-exceptions -c OUT/avx2/small.cpp -o CACHE…",
        "P304 OUT/avx2/small.cpp is missing or cannot be read → emit the cache first: npx polarc generate",
      ]
    `);
  });

  it('wants the sanitizer libraries in the process before it loads what they check', async () => {
    vi.stubEnv('LD_PRELOAD', undefined);
    await expect(target.build({ folder, plan, sanitize: true })).rejects.toThrow(
      'kernels built with sanitizers need the sanitizer libraries in this process from its start',
    );
    const environment = await target.sanitizerEnvironment!();
    expect(environment.LD_PRELOAD).toContain('libasan.so');
  });
});

describe('check', () => {
  it('finds what this machine builds with, and says how to install the rest', async () => {
    const found = await target.check();
    expect(found.map(({ what, ok, required }) => [what, ok, required])).toEqual([
      ['CPU with AVX2, FMA, F16C', true, true],
      ['CPU with AVX-512 F, BW, VBMI', expect.any(Boolean), false],
      ['C++ compiler', true, true],
      ['Node headers', true, true],
      ['node-addon-api', true, true],
      ['node-gyp', true, false],
    ]);
    vi.stubEnv('CXX', '/nowhere/c++');
    const compiler = (await target.check()).find(({ what }) => what === 'C++ compiler')!;
    expect(compiler).toEqual({
      what: 'C++ compiler',
      ok: false,
      detail: 'install g++ (apt-get install g++) or clang++, or name one in CXX',
      required: true,
    });
  });
});
