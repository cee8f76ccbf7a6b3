/** What compiles, links and loads the emitted files here. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus, homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '../../generator/diagnostics/index.ts';
import { className, fileStem } from '../../generator/naming/index.ts';
import type {
  BuildOptions,
  BuiltCache,
  Check,
  KernelCalls,
  Variants,
} from '../../generator/target/index.ts';
import { nodeFolder } from './node-view.ts';
import { run } from './run.ts';

const REQUIRED_CPU_FLAGS = ['avx2', 'fma', 'f16c'];
const WIDE_CPU_FLAGS = ['avx512f', 'avx512bw', 'avx512vbmi'];

/** What NAME_avx2_variant() knows, and the kernels that it chooses for. */
const VARIANTS = ['avx512', 'avx2'];
const VARIED_KERNELS = ['scores', 'weighted_sum', 'attend'];

/** Of the kernels alone; the same as in binding.gyp, beside the level of optimisation. */
const KERNEL_FLAGS = ['-ffp-contract=off', '-mavx2', '-mfma', '-mf16c', '-fno-exceptions'];
const COMMON_FLAGS = ['-std=c++17', '-fPIC', '-fvisibility=hidden'];
const ADDON_FLAGS = ['-O2', '-DNAPI_VERSION=8', '-DNAPI_CPP_EXCEPTIONS'];
const SANITIZER_FLAGS = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-fno-omit-frame-pointer',
  '-g',
];
/** Libraries that must be in the process before an addon built with sanitizers is loaded. */
const SANITIZER_LIBRARIES = ['libasan.so', 'libubsan.so', 'libstdc++.so.6'];

interface Compiler {
  readonly command: string;
  readonly version: string;
}

/** What this machine can build and run. */
export async function check(): Promise<readonly Check[]> {
  const compiler = await findCompiler();
  const headers = nodeHeaders();
  const addonApi = nodeAddonApi();
  const missing = missingCpuFlags();
  const narrow = missingCpuFlags(WIDE_CPU_FLAGS);
  const gyp = resolvable('node-gyp/package.json');
  return [
    {
      what: 'CPU with AVX2, FMA, F16C',
      ok: missing.length === 0,
      detail: missing.length === 0 ? cpuName() : `${cpuName()} lacks ${missing.join(', ')}`,
      required: true,
    },
    {
      what: 'CPU with AVX-512 F, BW, VBMI',
      ok: narrow.length === 0,
      detail:
        narrow.length === 0
          ? 'attention over tiles uses its avx512 variant'
          : `${cpuName()} lacks ${narrow.join(', ')}: the avx512 variant is compiled, not run`,
      required: false,
    },
    {
      what: 'C++ compiler',
      ok: compiler !== null,
      detail: compiler === null ? COMPILER_HINT : `${compiler.version} (${compiler.command})`,
      required: true,
    },
    {
      what: 'Node headers',
      ok: headers !== null,
      detail: headers ?? HEADERS_HINT,
      required: true,
    },
    {
      what: 'node-addon-api',
      ok: addonApi !== null,
      detail: addonApi ?? ADDON_API_HINT,
      required: true,
    },
    {
      what: 'node-gyp',
      ok: gyp !== null,
      detail: gyp ?? 'only for building an emitted folder by itself: npm install node-gyp',
      required: false,
    },
  ];
}

const COMPILER_HINT = 'install g++ (apt-get install g++) or clang++, or name one in CXX';
const HEADERS_HINT =
  'install a Node with headers (nodejs.org archives and the nodejs package have them), or libnode-dev';
const ADDON_API_HINT = 'npm install node-addon-api';

/**
 * Compiles, links and loads the emitted files of a cache. Objects and addons stand in a cache folder
 * (`POLARC_CACHE`, else `~/.cache/polarc`) under the hash of all that decides them; parallel builds do not disturb
 * each other. Throws a `UserError` that names what is missing.
 */
export async function build(options: BuildOptions): Promise<BuiltCache> {
  const { plan, sanitize = false, progress = () => {} } = options;
  const missing = missingCpuFlags();
  if (missing.length > 0) {
    const text = `this CPU lacks ${missing.join(', ')}, which the kernels need`;
    throw new UserError('P300', text, 'use another target, or a machine with AVX2');
  }
  if (sanitize) requirePreload();
  const addon = await buildAddon(options, progress);
  const classFile = join(
    resolve(options.folder),
    nodeFolder(plan.name),
    `${fileStem(plan.name)}.ts`,
  );
  const emitted = await importTypeScript(classFile);
  const { load } = emitted[className(plan.name)] as EmittedClass;
  const threads = options.threads ?? 1;
  const calls = load.call(emitted[className(plan.name)], addon, { threads });
  const variants = variantsOf(calls);
  const tiles = [plan.key, plan.value].some(({ layout }) => layout.id === 'tiles32/1');
  const narrow = missingCpuFlags(WIDE_CPU_FLAGS);
  const device = [
    cpuName(),
    `${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    variants.names.join(' and '),
    ...(tiles && narrow.length > 0 ? [`avx512 not run (no ${narrow.join(', ')})`] : []),
  ].join(', ');
  return {
    calls,
    device,
    variants,
    bytes: (length) => calls.bytes(length),
    close: () => calls.close(),
  };
}

interface EmittedKernels extends KernelCalls {
  variant(wanted?: string): string;
  bytes(length: number): Uint8Array;
  close(): void;
}

interface EmittedClass {
  load(addon: string, options: { threads: number }): EmittedKernels;
}

function variantsOf(calls: EmittedKernels): Variants {
  const first = calls.variant();
  const names = VARIANTS.filter((name) => calls.variant(name) === name);
  calls.variant(first);
  return {
    names: [first, ...names.filter((name) => name !== first)],
    kernels: VARIED_KERNELS,
    use: (name) => {
      calls.variant(name);
    },
  };
}

/** Path of the addon, built if it is not there yet. */
async function buildAddon(
  options: BuildOptions,
  progress: (line: string) => void,
): Promise<string> {
  const { plan, sanitize = false, optimize = sanitize ? 1 : 3 } = options;
  const folder = resolve(options.folder);
  const stem = fileStem(plan.name);
  const node = join(folder, nodeFolder(plan.name));
  const compiler = await findCompiler();
  if (compiler === null) throw new UserError('P301', 'there is no C++ compiler', COMPILER_HINT);
  const headers = nodeHeaders();
  if (headers === null) throw new UserError('P301', 'there are no Node headers', HEADERS_HINT);
  const addonApi = nodeAddonApi();
  if (addonApi === null) throw new UserError('P301', 'there is no node-addon-api', ADDON_API_HINT);

  const common = sanitize ? [...COMMON_FLAGS, ...SANITIZER_FLAGS] : COMMON_FLAGS;
  const addonFlags = [...common, ...ADDON_FLAGS, `-I${headers}`, `-I${addonApi}`];
  const header = join(folder, 'avx2', `${stem}.h`);
  const units: Unit[] = [
    {
      source: join(folder, 'avx2', `${stem}.cpp`),
      includes: [header],
      flags: [...common, `-O${optimize}`, ...KERNEL_FLAGS],
    },
    { source: join(node, `${stem}_node.cc`), includes: [header], flags: addonFlags },
    {
      source: join(node, 'polarc_node.cc'),
      includes: [join(node, 'polarc_abi.h')],
      flags: addonFlags,
    },
  ];
  const cache = cacheFolder();
  const objects = await Promise.all(
    units.map((unit) => compileUnit(unit, compiler, cache, progress)),
  );

  const key = hash([...objects, compiler.version, String(sanitize)]);
  const addon = join(cache, 'addons', key, `${stem}.node`);
  if (!existsSync(addon)) {
    progress(`linking ${stem}.node`);
    const flags = sanitize ? SANITIZER_FLAGS : [];
    await produce(addon, (out) => [
      compiler.command,
      ['-shared', '-pthread', ...flags, ...objects, '-o', out],
    ]);
  }
  return addon;
}

/** Path of a program of one C++ file, compiled if it is not there yet. */
export function buildProgram(source: string): Promise<string> {
  return buildOne(source, 'program', ['-std=c++17', '-O2', '-mavx2', '-pthread']);
}

/** Path of a Node addon of one C++ file that uses Node's C interface alone. */
export function buildPlainAddon(source: string): Promise<string> {
  const headers = nodeHeaders();
  if (headers === null) throw new UserError('P301', 'there are no Node headers', HEADERS_HINT);
  return buildOne(source, 'plain.node', [...COMMON_FLAGS, '-O1', '-shared', `-I${headers}`]);
}

async function buildOne(source: string, name: string, flags: readonly string[]): Promise<string> {
  const compiler = await findCompiler();
  if (compiler === null) throw new UserError('P301', 'there is no C++ compiler', COMPILER_HINT);
  const key = hash([name, compiler.version, ...flags, await readEmitted(source)]);
  const path = join(cacheFolder(), 'programs', key, name);
  if (!existsSync(path)) {
    await produce(path, (out) => [compiler.command, [...flags, source, '-o', out]]);
  }
  return path;
}

interface Unit {
  readonly source: string;
  readonly includes: readonly string[];
  readonly flags: readonly string[];
}

/** Path of a unit's object file, compiled if it is not there yet. */
async function compileUnit(
  unit: Unit,
  compiler: Compiler,
  cache: string,
  progress: (line: string) => void,
): Promise<string> {
  const texts = await Promise.all([unit.source, ...unit.includes].map(readEmitted));
  // The comment at the head of a file names spec and plan; what follows it may be the same for all caches.
  const bodies = texts.map((text) => text.replace(/^(\/\/.*\n)+/, ''));
  const key = hash([compiler.version, process.version, ...unit.flags, ...bodies]);
  const object = join(cache, 'objects', `${key}.o`);
  if (!existsSync(object)) {
    progress(`compiling ${unit.source}`);
    await produce(object, (out) => [
      compiler.command,
      [...unit.flags, '-c', unit.source, '-o', out],
    ]);
  }
  return object;
}

/** Lets a command write a file beside its place and moves it there, so that nobody sees half of it. */
async function produce(
  path: string,
  command: (out: string) => readonly [string, readonly string[]],
): Promise<void> {
  const temporary = `${path}.${process.pid}.${++produced}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (error) {
    const text = `the build cache ${dirname(path)} cannot be written: ${(error as Error).message}`;
    throw new UserError('P302', text, 'name a folder in POLARC_CACHE');
  }
  const [program, args] = command(temporary);
  const { code, stderr } = await run(program, args);
  if (code !== 0) {
    await rm(temporary, { force: true });
    const lines = stderr.split('\n').filter((line) => /error|undefined reference/i.test(line));
    const text = `${program} failed: ${(lines.length > 0 ? lines.slice(0, 3) : [stderr.trim()]).join('\n')}`;
    throw new UserError('P303', text, `to see it all: ${program} ${args.join(' ')}`);
  }
  await rename(temporary, path);
}
let produced = 0;

async function readEmitted(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    const text = `${path} is missing or cannot be read`;
    throw new UserError('P304', text, 'emit the cache first: npx polarc generate');
  }
}

function hash(parts: readonly string[]): string {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part).update('\0');
  return sum.digest('hex').slice(0, 32);
}

function cacheFolder(): string {
  return resolve(process.env.POLARC_CACHE ?? join(homedir(), '.cache', 'polarc'));
}

/** The first of $CXX, g++ and clang++ that answers. */
async function findCompiler(): Promise<Compiler | null> {
  const named = process.env.CXX;
  for (const command of named ? [named] : ['g++', 'clang++']) {
    const { code, stdout } = await run(command, ['--version']);
    if (code === 0) return { command, version: stdout.split('\n')[0]!.trim() };
  }
  return null;
}

/** The folder that holds `node_api.h` of this Node. */
function nodeHeaders(): string | null {
  const prefixes = [dirname(dirname(process.execPath)), '/usr', '/usr/local'];
  const folders = prefixes.map((prefix) => join(prefix, 'include', 'node'));
  return folders.find((folder) => existsSync(join(folder, 'node_api.h'))) ?? null;
}

function nodeAddonApi(): string | null {
  const file = resolvable('node-addon-api/package.json');
  return file === null ? null : dirname(file);
}

function resolvable(module: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(module);
  } catch {
    return null;
  }
}

let cpuFlags: ReadonlySet<string> | undefined;

/** What the CPU lacks of the given flags. Where the system does not tell, the kernels find out themselves. */
function missingCpuFlags(flags: readonly string[] = REQUIRED_CPU_FLAGS): readonly string[] {
  if (process.arch !== 'x64') return ['x86-64'];
  cpuFlags ??= readCpuFlags();
  const known = cpuFlags;
  return known.size === 0 ? [] : flags.filter((flag) => !known.has(flag));
}

function readCpuFlags(): ReadonlySet<string> {
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    return new Set(/^flags\s*:\s*(.*)$/m.exec(info)?.[1]?.split(' ') ?? []);
  } catch {
    return new Set();
  }
}

function cpuName(): string {
  return cpus()[0]?.model.trim().replace(/\s+/g, ' ') ?? 'an unknown CPU';
}

/**
 * Variables for a process that loads addons built with sanitizers: those libraries must be there before Node's own
 * allocations. Throws a `UserError` where the compiler has none.
 */
export async function sanitizerEnvironment(): Promise<Readonly<Record<string, string>>> {
  const compiler = await findCompiler();
  if (compiler === null) throw new UserError('P301', 'there is no C++ compiler', COMPILER_HINT);
  const paths: string[] = [];
  for (const library of SANITIZER_LIBRARIES) {
    const { stdout } = await run(compiler.command, [`-print-file-name=${library}`]);
    const path = stdout.trim();
    if (!path.includes('/')) {
      const text = `${compiler.command} has no ${library}`;
      throw new UserError('P305', text, 'build with g++, or install the sanitizer libraries');
    }
    paths.push(path);
  }
  return {
    LD_PRELOAD: paths.join(' '),
    // Node frees nothing at its end; what matters is what the kernels touch.
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
}

function requirePreload(): void {
  if (process.env.LD_PRELOAD?.includes('libasan')) return;
  const preload = SANITIZER_LIBRARIES.map((name) => `$(g++ -print-file-name=${name})`).join(' ');
  throw new UserError(
    'P305',
    'kernels built with sanitizers need the sanitizer libraries in this process from its start',
    `start it with LD_PRELOAD="${preload}" ASAN_OPTIONS=detect_leaks=0`,
  );
}

/** The exports of an emitted TypeScript file; Node 20 cannot import it by itself. */
async function importTypeScript(path: string): Promise<Readonly<Record<string, unknown>>> {
  await readEmitted(path);
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, {
    moduleCache: false,
    fsCache: join(cacheFolder(), 'classes'),
  });
  return jiti.import(pathToFileURL(path).href);
}
