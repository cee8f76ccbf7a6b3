/** The processor's treatment of denormals, for tests. */

import { createRequire } from 'node:module';
import { packageFile } from './package-file.ts';
import { buildPlainAddon } from './toolchain.ts';

/** A switch for FTZ and DAZ of this thread's MXCSR. */
export async function flushToZero(): Promise<(on: boolean) => void> {
  const addon = await buildPlainAddon(packageFile('templates/avx2/flush_to_zero.cpp'));
  const { setFlushToZero } = createRequire(import.meta.url)(addon) as {
    setFlushToZero(on: boolean): void;
  };
  return setFlushToZero;
}
