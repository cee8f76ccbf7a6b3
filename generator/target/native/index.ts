/** Compilers, addons and programs of this machine, for targets whose kernels are native code. */

export {
  type AddonSources,
  buildAddon,
  buildProgram,
  importTypeScript,
} from './addon.ts';
export { cacheFolder, hash, placeSource, produce, readEmitted, type Unit } from './build-cache.ts';
export { flushToZero } from './flush-to-zero.ts';
export { packageFile } from './package-file.ts';
export { type Finished, run } from './run.ts';
export { sanitizerEnvironment } from './sanitizers.ts';
export { checkTools, cpuName } from './tools.ts';
