// The presets: `npx polarc generate` writes them to generated/.
import { codec, defineCache, defineConfig, hadamard, polar, rows, tiles } from 'polarc';

/** The paper's format: 4, 2, 2, 2 bits a level, an f16 radius for 16 coordinates, 3.875 bits each. */
const paper = {
  precondition: hadamard({ seed: 1 }),
  polar: polar({ bits: [4, 2, 2, 2] }),
  radius: 'f16',
} as const;

const llama = codec({ headDim: 128, ...paper, layout: tiles({ tokens: 32 }) });
const llamaRows = codec({ headDim: 128, ...paper, layout: rows() });
const phi = codec({ headDim: 96, ...paper, layout: tiles({ tokens: 32 }) });

/** Full recursion: one radius a vector, so that keys at 3.55 bits have two thirds of the paper's error. */
const gemma = {
  headDim: 256,
  precondition: hadamard({ seed: 1 }),
  layout: tiles({ tokens: 32 }),
} as const;

/** Keys need about a bit more than values; means taken from data go to the kernels at run time. */
const small = {
  headDim: 64,
  precondition: hadamard({ seed: 1 }),
  center: true,
  layout: tiles({ tokens: 32 }),
} as const;

/** On GPUs attention by tensor cores; phi_d96 stays in float32 on all targets. */
const arithmetic = { cuda: 'half' } as const;

export default defineConfig({
  out: 'generated',
  caches: [
    defineCache({ name: 'llama_d128', key: llama, value: llama, queryGroup: 4, arithmetic }),
    defineCache({
      name: 'llama_d128_rows',
      key: llamaRows,
      value: llamaRows,
      queryGroup: 4,
      arithmetic,
    }),
    defineCache({ name: 'phi_d96', key: phi, value: phi, queryGroup: 1 }),
    defineCache({
      name: 'gemma_d256',
      key: codec({ ...gemma, polar: polar({ bits: [4, 3, 3, 2, 2, 2, 2, 2] }) }),
      value: codec({ ...gemma, polar: polar({ bits: [4, 2, 2, 2, 2, 2, 2, 2] }) }),
      queryGroup: 2,
      arithmetic,
    }),
    defineCache({
      name: 'small_d64',
      key: codec({ ...small, polar: polar({ bits: [5, 3, 3, 3, 3, 3] }) }),
      value: codec({ ...small, polar: polar({ bits: [4, 2, 2, 2, 2, 2] }) }),
      queryGroup: 3,
      arithmetic,
    }),
  ],
});
