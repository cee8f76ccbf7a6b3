import type { Target } from '../generator/target/index.ts';

/** A target as the command line finds it: its id is known without loading it. */
export interface TargetEntry {
  readonly id: string;
  load(): Promise<Target>;
}

/** Every target there is. To add one, add its folder and a line here. */
export const TARGETS: readonly TargetEntry[] = [
  { id: 'avx2', load: async () => (await import('./avx2/index.ts')).target },
  { id: 'cuda', load: async () => (await import('./cuda/index.ts')).target },
  { id: 'wgsl', load: async () => (await import('./wgsl/index.ts')).target },
];
