/** The processor's treatment of denormals, for tests. */

import { createRequire } from 'node:module';
import { buildPlainAddon } from './addon.ts';
import { packageFile } from './package-file.ts';

/** A switch for FTZ and DAZ of this thread's MXCSR. */
export async function flushToZero(): Promise<(on: boolean) => void> {
  const addon = await buildPlainAddon(packageFile('templates/shared/node/flush_to_zero.cpp'));
  const { setFlushToZero } = createRequire(import.meta.url)(addon) as {
    setFlushToZero(on: boolean): void;
  };
  return setFlushToZero;
}
