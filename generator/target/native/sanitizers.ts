/** AddressSanitizer and UndefinedBehaviorSanitizer in addons. */

import { UserError } from '../../diagnostics/index.ts';
import { run } from './run.ts';
import { requireCompiler } from './tools.ts';

export const SANITIZER_FLAGS: readonly string[] = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-fno-omit-frame-pointer',
  '-g',
];
/** Libraries that must be in the process before an addon built with sanitizers is loaded. */
const SANITIZER_LIBRARIES = ['libasan.so', 'libubsan.so', 'libstdc++.so.6'];

/**
 * Variables for a process that loads addons built with sanitizers: those libraries must be there before Node's own
 * allocations. Throws a `UserError` where the compiler has none.
 */
export async function sanitizerEnvironment(): Promise<Readonly<Record<string, string>>> {
  const compiler = await requireCompiler();
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

export function requirePreload(): void {
  if (process.env.LD_PRELOAD?.includes('libasan')) return;
  const preload = SANITIZER_LIBRARIES.map((name) => `$(g++ -print-file-name=${name})`).join(' ');
  throw new UserError(
    'P305',
    'kernels built with sanitizers need the sanitizer libraries in this process from its start',
    `start it with LD_PRELOAD="${preload}" ASAN_OPTIONS=detect_leaks=0`,
  );
}
