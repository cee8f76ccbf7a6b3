/** What compiles, links and loads the emitted files here. */

import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UserError } from '../../generator/diagnostics/index.ts';
import { className, fileStem } from '../../generator/naming/index.ts';
import type {
  BuildOptions,
  BuiltCache,
  Check,
  KernelCalls,
  Variants,
} from '../../generator/target/index.ts';
import {
  buildAddon,
  checkTools,
  cpuName,
  importTypeScript,
} from '../../generator/target/native/index.ts';
import { nodeFolder } from './node-view.ts';

const REQUIRED_CPU_FLAGS = ['avx2', 'fma', 'f16c'];
const WIDE_CPU_FLAGS = ['avx512f', 'avx512bw', 'avx512vbmi'];

/** What NAME_avx2_variant() knows, and the kernels that it chooses for. */
const VARIANTS = ['avx512', 'avx2'];
const VARIED_KERNELS = ['scores', 'weighted_sum', 'attend'];

/** Of the kernels alone; the same as in binding.gyp, beside the level of optimisation. */
const KERNEL_FLAGS = ['-ffp-contract=off', '-mavx2', '-mfma', '-mf16c', '-fno-exceptions'];

/** What this machine can build and run. */
export async function check(): Promise<readonly Check[]> {
  const missing = missingCpuFlags();
  const narrow = missingCpuFlags(WIDE_CPU_FLAGS);
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
    ...(await checkTools()),
  ];
}

/** Compiles, links and loads the emitted files of a cache. Throws a `UserError` that names what is missing. */
export async function build(options: BuildOptions): Promise<BuiltCache> {
  const { plan } = options;
  const missing = missingCpuFlags();
  if (missing.length > 0) {
    const text = `this CPU lacks ${missing.join(', ')}, which the kernels need`;
    throw new UserError('P300', text, 'use another target, or a machine with AVX2');
  }
  const addon = await addonOf(options);
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
function addonOf(options: BuildOptions): Promise<string> {
  const { plan, sanitize = false, optimize = sanitize ? 1 : 3, progress = () => {} } = options;
  const folder = resolve(options.folder);
  const stem = fileStem(plan.name);
  const node = join(folder, nodeFolder(plan.name));
  const header = join(folder, 'avx2', `${stem}.h`);
  return buildAddon({
    stem,
    sanitize,
    progress,
    kernels: [
      {
        source: join(folder, 'avx2', `${stem}.cpp`),
        includes: [header],
        flags: [`-O${optimize}`, ...KERNEL_FLAGS],
      },
    ],
    binding: [
      { source: join(node, `${stem}_node.cc`), includes: [header], flags: [] },
      {
        source: join(node, 'polarc_node.cc'),
        includes: [join(node, 'polarc_abi.h')],
        flags: [],
      },
    ],
  });
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
