/**
 * The shader modules of a cache: entry points, bindings and parameters of each. WGSL and the JavaScript binding are both
 * printed from this list, so that neither can count bindings or order parameters in its own way.
 */

export type BindingKind = 'uniform' | 'read' | 'write';

export interface Param {
  readonly name: string;
  readonly type: 'u32' | 'f32';
}

export interface Kernel {
  readonly name: string;
  readonly entries: readonly string[];
  /** Of bindings 1, 2 …; binding 0 is the uniform block of parameters. */
  readonly bindings: readonly ('read' | 'write')[];
  readonly params: readonly Param[];
}

const words = (text: string): Param[] =>
  text
    .trim()
    .split(/\s+/)
    .map((name) =>
      name.endsWith(':f32') ? { name: name.slice(0, -4), type: 'f32' } : { name, type: 'u32' },
    );

const rows = (name: string): string =>
  `${name}_dtype ${name}_offset ${name}_row_stride ${name}_head_stride`;
const pool = (name: string): string =>
  `${name}_offset ${name}_page_stride ${name}_head_stride ${name}_unit_stride`;
const denseRows = (name: string): string =>
  `${name}_offset ${name}_sequence_stride ${name}_token_stride ${name}_head_stride`;

const coder = (name: 'encode' | 'decode'): Kernel => ({
  name,
  entries: [name],
  bindings:
    name === 'encode'
      ? ['read', 'read', 'read', 'write', 'write', 'write']
      : ['read', 'read', 'read', 'write', 'write'],
  params: words(
    `items zero kv_heads pages slots mean matrix dual rotate errors flags ${rows('rows')} ${pool('cache')}`,
  ),
});

const sight = 'state listed_pages positions always_visible';
const logits = 'query scale:f32 softcap:f32';

/** Of one codec: each stands once where keys and values have the same format. */
export const CODERS: readonly Kernel[] = [
  coder('encode'),
  coder('decode'),
  {
    name: 'rotate',
    entries: ['rotate', 'rotate_in_place'],
    bindings: ['read', 'read', 'write'],
    params: words(`items heads heads_per_kv rotation matrix dual ${rows('source')} ${rows('out')}`),
  },
];

export const ATTENTION: readonly Kernel[] = [
  {
    name: 'states',
    entries: ['states'],
    bindings: ['read', 'write', 'write'],
    params: words(`rows sequences max_tokens pages addressing lengths block_table pages_per_sequence
      indptr indices indices_count last_page_len first_position positions positions_stride
      always_visible row_sequence row_position window state flags`),
  },
  {
    name: 'queries',
    entries: ['queries'],
    bindings: ['read', 'read', 'write'],
    params: words(`items q_heads heads_per_kv rotate mean matrix dual query ${rows('q')}`),
  },
  {
    name: 'scores',
    entries: ['score_tokens'],
    bindings: ['read', 'read', 'read', 'write'],
    params: words(`items kv_heads strips max_tokens ${sight} ${logits} ${pool('key')}
      scores_offset scores_row_stride scores_head_stride`),
  },
  {
    name: 'weighted_sum',
    entries: ['weighted_sum'],
    bindings: ['read', 'read', 'read', 'write'],
    params: words(`items kv_heads splits split_tokens ${sight} partial ${pool('value')}
      weights_offset weights_row_stride weights_head_stride`),
  },
  {
    name: 'attend',
    entries: ['attend'],
    bindings: ['read', 'read', 'read', 'write'],
    params: words(
      `items kv_heads splits split_tokens ${sight} ${logits} partial ${pool('key')} ${pool('value')}`,
    ),
  },
  {
    name: 'attend_dense',
    entries: ['attend_dense'],
    bindings: ['read', 'read', 'read', 'write'],
    params: words(
      `items kv_heads splits split_tokens ${sight} ${logits} partial ${denseRows('key')} ${denseRows('value')}`,
    ),
  },
  {
    name: 'combine',
    entries: ['combine'],
    bindings: ['read', 'read', 'write', 'write'],
    params: words(`items q_heads heads_per_kv splits sums rotate mean matrix dual state partial
      lse lse_row_stride ${rows('out')}`),
  },
  {
    name: 'merge',
    entries: ['merge_add', 'merge_finish'],
    bindings: ['read', 'read', 'write', 'read', 'write', 'write'],
    params: words(`items q_heads first_part parts workspace part_lse part_lse_row_stride sink
      lse lse_row_stride ${rows('part')} ${rows('out')}`),
  },
];
