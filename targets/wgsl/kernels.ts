/**
 * The shader modules of a cache: entry points, bindings and parameters of each. WGSL and the JavaScript binding are both
 * printed from this list, so that neither can count bindings or order parameters in its own way.
 */

export interface Param {
  readonly name: string;
  readonly type: 'u32' | 'f32';
  /** What it holds, or its unit; empty where the name says it. */
  readonly note: string;
}

export interface Kernel {
  readonly name: string;
  readonly entries: readonly string[];
  /** Of bindings 1, 2 …; binding 0 is the uniform block of parameters. */
  readonly bindings: readonly ('read' | 'write')[];
  readonly params: readonly Param[];
}

const NOTES: Readonly<Record<string, string>> = {
  items: 'workgroups with work to do; those beyond end at once',
  zero: '0: products pass through an exclusive or with it',
  pages: 'of the pool, the smaller one of two',
  slots: 'index of the first in tables',
  mean: 'index of the first number in transforms, or none',
  matrix: 'the same',
  dual: 'the same',
  rotate: '1: original basis, 0: rotated',
  rotation: '0: S, 1: its dual, 2: its inverse',
  errors: 'word of the first, or none',
  flags: 'word of the status word, or none',
  lse: 'word of the first, or none',
  lse_row_stride: 'words',
  sink: 'word of the first, or none',
  heads_per_kv: 'heads that share a KV head',
  addressing: '0: no table, 1: block table, 2: CSR, 3: dense rows',
  lengths: 'index of a table in tables, as the ones below; none: left out',
  pages_per_sequence: 'entries from sequence to sequence',
  positions_stride: 'entries',
  window: 'tokens that a row sees; 0: all',
  state: 'word of the workspace where rows have their states',
  query: 'word of the workspace where queries begin',
  partial: 'word of the workspace where partial results begin',
  workspace: 'word where it begins',
  listed_pages: '1: page numbers stand in tables',
  positions: 'index in tables, or none',
  always_visible: 'index in tables, or none',
  softcap: '0: none',
  strips: 'of 64 tokens, in max_tokens',
  splits: 'of a sequence',
  sums: '1: partial results are added, not weighed',
  first_part: '1: the workspace holds nothing yet',
  part_lse: 'word of the first',
  part_lse_row_stride: 'words',
};

/** Parameters in their order: `name`, `name:f32`, `name#unit`. */
const words = (text: string): Param[] =>
  text
    .trim()
    .split(/\s+/)
    .map((word) => {
      const [typed, unit] = word.split('#') as [string, string?];
      const [name, type = 'u32'] = typed.split(':') as [string, 'f32'?];
      return {
        name,
        type,
        note: unit === 'dtype' ? '0: f32, 1: f16, 2: bf16' : (unit ?? NOTES[name] ?? ''),
      };
    });

const rows = (name: string): string =>
  `${name}_dtype#dtype ${name}_offset#elements ${name}_row_stride#elements ${name}_head_stride#elements`;
const pool = (name: string): string =>
  `${name}_offset#words ${name}_page_stride#words ${name}_head_stride#words ${name}_unit_stride#words`;
const denseRows = (name: string): string =>
  `${name}_offset#elements ${name}_sequence_stride#elements ${name}_token_stride#elements ${name}_head_stride#elements`;
const tokenRows = (name: string): string =>
  `${name}_offset#words ${name}_row_stride#words ${name}_head_stride#words`;

const slots = `kv_heads pages slots mean matrix dual flags ${rows('rows')} ${pool('cache')}`;

const sight = 'state listed_pages positions always_visible';
const logits = 'query scale:f32 softcap:f32';

/** Of one codec: each stands once where keys and values have the same format. */
export const CODERS: readonly Kernel[] = [
  {
    name: 'encode',
    entries: ['encode'],
    bindings: ['read', 'read', 'read', 'write', 'write', 'write'],
    params: words(`items zero errors ${slots}`),
  },
  {
    name: 'decode',
    entries: ['decode'],
    bindings: ['read', 'read', 'read', 'write', 'write'],
    params: words(`items rotate ${slots}`),
  },
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
      ${tokenRows('scores')}`),
  },
  {
    name: 'weighted_sum',
    entries: ['weighted_sum'],
    bindings: ['read', 'read', 'read', 'write'],
    params: words(`items kv_heads splits split_tokens ${sight} partial ${pool('value')}
      ${tokenRows('weights')}`),
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
