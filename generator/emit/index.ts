export { emitCache, sharedFiles } from './cache.ts';
export {
  type Change,
  type Changes,
  compare,
  type OutputCache,
  type OutputFile,
  type Scope,
  type State,
} from './changes.ts';
export { createTemplates, packageTemplates, type Templates } from './environment.ts';
export type { Source } from './header.ts';
export { lint } from './lint.ts';
export { MANIFEST, type Manifest, type ManifestCache, parseManifest } from './manifest.ts';
export { type RenderedFile, render } from './render.ts';
export { type WriteOptions, write } from './write.ts';
