// polarc · llama_d128_rows · binding · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/binding.js.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The kernels of a cache on a WebGPU device: types and documentation are in llama-d128-rows.d.ts.

const NAME = 'LlamaD128Rows';
const GROUP = 4;
const GROUP_PARTS = 1; // workgroups that share a KV head's queries
const PAGE_TOKENS = 64;
const DENSE_DTYPE = 'f16';
const PLAN_HASH = '0261287333362bda45aaa03c124ad34c817d0b08d5b5e53138a0a55a00a34ac3';
const NEEDS_F16 = false;
const FEATURES = ['subgroups'];
const SAME_FORMAT = true;

const KEY = Object.freeze({
  headDim: 128,
  unitTokens: 1,
  unitBytes: 64,
  bytesPerToken: 64,
  formatHash: '4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b',
  needsMean: false,
  needsMatrix: 'no',
  needsDual: false,
});

const VALUE = Object.freeze({
  headDim: 128,
  unitTokens: 1,
  unitBytes: 64,
  bytesPerToken: 64,
  formatHash: '4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b',
  needsMean: false,
  needsMatrix: 'no',
  needsDual: false,
});

// Bindings behind the uniform block and the parameters in it, in the order of the modules.
const KERNELS = {
  encode: {
    bindings: ['read', 'read', 'read', 'write', 'write', 'write'],
    params: (
      'items zero errors kv_heads pages slots mean matrix dual flags rows_dtype rows_offset ' +
      'rows_row_stride rows_head_stride cache_offset cache_page_stride cache_head_stride ' +
      'cache_unit_stride'
    ).split(' '),
  },
  decode: {
    bindings: ['read', 'read', 'read', 'write', 'write'],
    params: (
      'items rotate kv_heads pages slots mean matrix dual flags rows_dtype rows_offset ' +
      'rows_row_stride rows_head_stride cache_offset cache_page_stride cache_head_stride ' +
      'cache_unit_stride'
    ).split(' '),
  },
  rotate: {
    bindings: ['read', 'read', 'write'],
    params: (
      'items heads heads_per_kv rotation matrix dual source_dtype source_offset ' +
      'source_row_stride source_head_stride out_dtype out_offset out_row_stride ' +
      'out_head_stride'
    ).split(' '),
  },
  states: {
    bindings: ['read', 'write', 'write'],
    params: (
      'rows sequences max_tokens pages addressing lengths block_table pages_per_sequence ' +
      'indptr indices indices_count last_page_len first_position positions positions_stride ' +
      'always_visible row_sequence row_position window state flags'
    ).split(' '),
  },
  queries: {
    bindings: ['read', 'read', 'write'],
    params: (
      'items q_heads heads_per_kv rotate mean matrix dual query q_dtype q_offset q_row_stride ' +
      'q_head_stride'
    ).split(' '),
  },
  scores: {
    bindings: ['read', 'read', 'read', 'write'],
    params: (
      'items kv_heads strips max_tokens state listed_pages positions always_visible query ' +
      'scale:f32 softcap:f32 key_offset key_page_stride key_head_stride key_unit_stride ' +
      'scores_offset scores_row_stride scores_head_stride'
    ).split(' '),
  },
  weighted_sum: {
    bindings: ['read', 'read', 'read', 'write'],
    params: (
      'items kv_heads splits split_tokens state listed_pages positions always_visible partial ' +
      'value_offset value_page_stride value_head_stride value_unit_stride weights_offset ' +
      'weights_row_stride weights_head_stride'
    ).split(' '),
  },
  attend: {
    bindings: ['read', 'read', 'read', 'write'],
    params: (
      'items kv_heads splits split_tokens state listed_pages positions always_visible query ' +
      'scale:f32 softcap:f32 partial key_offset key_page_stride key_head_stride ' +
      'key_unit_stride value_offset value_page_stride value_head_stride value_unit_stride'
    ).split(' '),
  },
  attend_dense: {
    bindings: ['read', 'read', 'read', 'write'],
    params: (
      'items kv_heads splits split_tokens state listed_pages positions always_visible query ' +
      'scale:f32 softcap:f32 partial key_offset key_sequence_stride key_token_stride ' +
      'key_head_stride value_offset value_sequence_stride value_token_stride ' +
      'value_head_stride'
    ).split(' '),
  },
  combine: {
    bindings: ['read', 'read', 'write', 'write'],
    params: (
      'items q_heads heads_per_kv splits sums rotate mean matrix dual state partial lse ' +
      'lse_row_stride out_dtype out_offset out_row_stride out_head_stride'
    ).split(' '),
  },
  merge: {
    bindings: ['read', 'read', 'write', 'read', 'write', 'write'],
    params: (
      'items q_heads first_part parts workspace part_lse part_lse_row_stride sink lse ' +
      'lse_row_stride part_dtype part_offset part_row_stride part_head_stride out_dtype ' +
      'out_offset out_row_stride out_head_stride'
    ).split(' '),
  },
};

// Modules with their kernel and entry points.
const MODULES = {
  encode: { kernel: 'encode', entries: ['encode'] },
  decode: { kernel: 'decode', entries: ['decode'] },
  rotate: { kernel: 'rotate', entries: ['rotate', 'rotate_in_place'] },
  states: { kernel: 'states', entries: ['states'] },
  queries: { kernel: 'queries', entries: ['queries'] },
  scores: { kernel: 'scores', entries: ['score_tokens'] },
  weighted_sum: { kernel: 'weighted_sum', entries: ['weighted_sum'] },
  attend: { kernel: 'attend', entries: ['attend'] },
  attend_subgroups: { kernel: 'attend', entries: ['attend'] },
  attend_dense: { kernel: 'attend_dense', entries: ['attend_dense'] },
  attend_dense_subgroups: { kernel: 'attend_dense', entries: ['attend_dense'] },
  combine: { kernel: 'combine', entries: ['combine'] },
  merge: { kernel: 'merge', entries: ['merge_add', 'merge_finish'] },
};

// ---- What follows is the same for every cache ----

const NONE = 0xffffffff; // of an array that was left out
const MOST_WORDS = 2 ** 32 - 1; // words and elements have indices of 32 bits
const STORAGE = 0x80; // GPUBufferUsage
const UNIFORM = 0x40;
const COMPUTE = 0x4; // GPUShaderStage
const MOST_GROUPS = 65535; // workgroups in a dimension of a dispatch
const LEAST_SPLIT = 256; // tokens; of long sequences a 64th
const DTYPES = ['f32', 'f16', 'bf16'];
const ROTATIONS = ['forward', 'dual', 'inverse'];
// The modules that a method dispatches.
const METHODS = {
  encodeKey: ['encode', 'encode_key'],
  encodeValue: ['encode', 'encode_value'],
  decodeKey: ['decode', 'decode_key'],
  decodeValue: ['decode', 'decode_value'],
  rotateKey: ['rotate', 'rotate_key'],
  rotateValue: ['rotate', 'rotate_value'],
  scores: ['states', 'queries', 'scores'],
  weightedSum: ['states', 'weighted_sum', 'combine'],
  attend: ['states', 'queries', 'attend', 'combine'],
  attendDense: ['states', 'queries', 'attend_dense', 'combine'],
  merge: ['merge'],
};
const ADDRESSING = { paged: 0, blockTable: 1, csr: 2, dense: 3 };

function failure(code, message) {
  return Object.assign(new Error(message), { code });
}

function misuse(message) {
  return failure('POLARC_INVALID_ARGUMENT', message);
}

function whole(what, value, least = 0, most = 2 ** 31 - 1) {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw misuse(`${what} must be a whole number from ${least} to ${most}, not ${value}`);
}

function finite(what, value) {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw misuse(`${what} must be a finite number, not ${value}`);
}

function oneOf(what, value, words) {
  const index = words.indexOf(value);
  if (index >= 0) return index;
  throw misuse(`${what} must be ${words.map((word) => `'${word}'`).join(' or ')}, not ${value}`);
}

const roundUp = (value, step) => Math.ceil(value / step) * step;

/** Elements from the first to behind the last one of `[count][heads][d]`. */
function extent(count, heads, d, rowStride, headStride) {
  return count === 0 || heads === 0 ? 0 : (count - 1) * rowStride + (heads - 1) * headStride + d;
}

/** Arrays that share one buffer, as index tables do: where each begins, and where the last ends. */
class Shared {
  constructor(call, what) {
    this.call = call;
    this.what = what;
    this.end = 0;
  }

  /** Index of the first number of an array of `count`, or NONE. */
  place(field, first, count) {
    if (first === undefined) return NONE;
    whole(`${this.call}: ${field}`, first);
    this.end = Math.max(this.end, first + count);
    return first;
  }

  /** The same of an array that the call needs. */
  need(field, first, count) {
    if (first === undefined) throw misuse(`${this.call}: ${field} is missing`);
    return this.place(field, first, count);
  }
}

/** What a rotation and a mean take of S: nothing of it for rows of full precision. */
function usesOf(format, basis) {
  if (basis === null) return { mean: false, matrix: false, dual: false };
  const original = basis === 'original';
  // `orthogonal` is its own dual; a mean is rotated with S itself.
  const matrix = original ? format.needsMatrix === 'shared' : format.needsMean;
  return { mean: true, matrix, dual: original };
}

function basisOf(name, call) {
  const basis = call.basis ?? 'original';
  oneOf(`${name}: basis`, basis, ['original', 'rotated']);
  return basis;
}

function splitsOf(maxTokens, splitTokens) {
  const tokens =
    splitTokens > 0 ? splitTokens : Math.max(LEAST_SPLIT, roundUp(Math.ceil(maxTokens / 64), 32));
  return { tokens, count: Math.max(1, Math.ceil(maxTokens / tokens)) };
}

function splitTokensOf(call, value = 0) {
  if (whole(`${call}: splitTokens`, value) % 32 === 0) return value;
  throw misuse(`${call}: splitTokens is ${value}: it must be a multiple of 32, or 0`);
}

/** Words of a workspace: states of rows, queries, then the partial results of splits. */
function workspaceOf(shape, splits) {
  const rows = whole('rows', shape.rows);
  const heads = rows * whole('kvHeads', shape.kvHeads, 1) * GROUP;
  const query = rows * 8;
  const partial = query + heads * (KEY.headDim + 1);
  return { query, partial, words: partial + heads * splits * (VALUE.headDim + 3) };
}

/** A call with its pipelines, bindings and parameters: records, and allocates nothing. */
class PreparedCall {
  #runtime;
  #steps;
  #blocks;

  constructor(runtime, steps, blocks) {
    this.#runtime = runtime;
    this.#steps = steps;
    this.#blocks = blocks;
  }

  record(target) {
    this.#runtime.requireDevice();
    if (this.#blocks === null) throw misuse(`${NAME}: this call was destroyed`);
    if (typeof target?.dispatchWorkgroups === 'function') {
      this.#dispatch(target);
    } else if (typeof target?.beginComputePass === 'function') {
      const pass = target.beginComputePass();
      this.#dispatch(pass);
      pass.end();
    } else {
      throw misuse(`${NAME}: record takes a GPUCommandEncoder or a GPUComputePassEncoder`);
    }
  }

  #dispatch(pass) {
    for (const { pipeline, bindings, x, y } of this.#steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindings);
      pass.dispatchWorkgroups(x, y);
    }
  }

  destroy() {
    for (const block of this.#blocks ?? []) block.destroy();
    this.#blocks = null;
  }
}

/** What all calls share: device, pipelines, and buffers that stand in for what is left out. */
class Runtime {
  constructor(device, pipelines, layouts) {
    this.device = device;
    this.pipelines = pipelines;
    this.layouts = layouts;
    // One for all that is read, one a binding for what is written: those may not overlap.
    this.standIns = Array.from({ length: 8 }, () =>
      device.createBuffer({ label: `${NAME}: left out`, size: 16, usage: STORAGE }),
    );
    this.lost = null;
    device.lost.then((info) => {
      this.lost = info;
    });
  }

  requireDevice() {
    if (this.lost === null) return;
    const reason = this.lost.message || this.lost.reason || 'no reason given';
    throw failure(
      'POLARC_DEVICE_LOST',
      `${NAME}: the device was lost (${reason}): create a device, then the kernels again`,
    );
  }

  destroy() {
    for (const buffer of this.standIns) buffer.destroy();
  }
}

/** A call that is being checked: arguments become ranges of buffers and parameters. */
class Draft {
  constructor(runtime, name, call) {
    runtime.requireDevice();
    if (typeof call !== 'object' || call === null) throw misuse(`${name} takes an object`);
    this.runtime = runtime;
    this.name = name;
    this.call = call;
    this.steps = [];
    this.blocks = [];
  }

  whole(field, value, least = 0, most = 2 ** 31 - 1) {
    return whole(`${this.name}: ${field}`, value, least, most);
  }

  given(field) {
    const value = this.call[field];
    if (value === undefined) throw misuse(`${this.name}: ${field} is missing`);
    return value;
  }

  // ---- Arguments

  /** Bytes [first, end) of a buffer. A binding begins at a multiple of what the device asks for. */
  bytes(what, buffer, first, end) {
    const name = `${this.name}: ${what}`;
    const { limits } = this.runtime.device;
    if (typeof buffer?.size !== 'number' || typeof buffer.usage !== 'number') {
      throw misuse(`${name} is no GPUBuffer`);
    }
    if ((buffer.usage & STORAGE) === 0) {
      throw misuse(`${name} was created without GPUBufferUsage.STORAGE`);
    }
    if (buffer.mapState !== undefined && buffer.mapState !== 'unmapped') {
      throw misuse(`${name} is mapped: unmap it before the call`);
    }
    const padded = roundUp(end, 4);
    if (padded > buffer.size) {
      throw misuse(`${name} has ${buffer.size} bytes; ${padded} are needed`);
    }
    const start = first - (first % limits.minStorageBufferOffsetAlignment);
    const size = padded - start;
    if (size > limits.maxStorageBufferBindingSize) {
      throw misuse(
        `${name}: ${size} bytes in one binding; this device binds at most ` +
          `${limits.maxStorageBufferBindingSize}: request a greater maxStorageBufferBindingSize ` +
          'with the device, or call for fewer pages, heads or rows at a time',
      );
    }
    return { what, buffer, start, size };
  }

  /** Rows of numbers: their range, and their parameters. */
  rows(what, rows, count, heads, d, prefix) {
    if (rows === undefined) throw misuse(`${this.name}: ${what} is missing`);
    const dtype = oneOf(`${this.name}: ${what}.dtype`, rows.dtype ?? 'f32', DTYPES);
    const width = dtype === 0 ? 4 : 2;
    const offset = this.whole(`${what}.offset`, rows.offset ?? 0, 0, MOST_WORDS);
    const headStride = this.whole(`${what}.headStride`, rows.headStride ?? d, 0, MOST_WORDS);
    const rowStride = rows.rowStride ?? heads * headStride;
    this.whole(`${what}.rowStride`, rowStride, 0, MOST_WORDS);
    const end = offset + extent(count, heads, d, rowStride, headStride);
    const range = this.bytes(`${what}.buffer`, rows.buffer, offset * width, end * width);
    return {
      range,
      params: {
        [`${prefix}_dtype`]: dtype,
        [`${prefix}_offset`]: offset - range.start / width,
        [`${prefix}_row_stride`]: rowStride,
        [`${prefix}_head_stride`]: headStride,
      },
    };
  }

  /** Packed pages: their range, and their parameters in words. */
  pool(what, format, kvHeads, prefix) {
    const pool = this.given(what);
    const bytes = (field, value, least = 0) => {
      this.whole(`${what}.${field}`, value, least, 4 * MOST_WORDS);
      if (value % 4 === 0) return value;
      throw misuse(`${this.name}: ${what}.${field} is ${value}: it must be a multiple of 4 bytes`);
    };
    const units = PAGE_TOKENS / format.unitTokens;
    const pages = this.whole(`${what}.pages`, pool.pages);
    const offset = bytes('offset', pool.offset ?? 0);
    const least = format.unitBytes;
    const unitStride = bytes('unitStride', pool.unitStride ?? least, least);
    const headStride = bytes('headStride', pool.headStride ?? units * unitStride);
    const pageStride = bytes('pageStride', pool.pageStride ?? kvHeads * headStride);
    const page = extent(kvHeads, units, format.unitBytes, headStride, unitStride);
    const end = offset + extent(1, pages, page, 0, pageStride);
    const range = this.bytes(`${what}.buffer`, pool.buffer, offset, end);
    return {
      range,
      pages,
      params: {
        [`${prefix}_offset`]: (offset - range.start) / 4,
        [`${prefix}_page_stride`]: pageStride / 4,
        [`${prefix}_head_stride`]: headStride / 4,
        [`${prefix}_unit_stride`]: unitStride / 4,
      },
    };
  }

  /** `count` words of a buffer that may be left out: their range, and where they begin in it. */
  words(what, words, count) {
    if (words === undefined) return { range: null, at: NONE };
    const offset = this.whole(`${what}.offset`, words.offset ?? 0, 0, MOST_WORDS);
    const range = this.bytes(`${what}.buffer`, words.buffer, offset * 4, (offset + count) * 4);
    return { range, at: offset - range.start / 4 };
  }

  /** `[row][head]` words with strides; `heads` of `width`. */
  strided(what, words, rows, heads, width) {
    const headStride = words?.headStride ?? width;
    this.whole(`${what}.headStride`, headStride, 0, MOST_WORDS);
    const rowStride = words?.rowStride ?? heads * headStride;
    this.whole(`${what}.rowStride`, rowStride, 0, MOST_WORDS);
    const count = extent(rows, heads, width, rowStride, headStride);
    return { ...this.words(what, words, count), rowStride, headStride };
  }

  workspace(words) {
    const { buffer, offset = 0 } = this.given('workspace');
    if (this.whole('workspace.offset', offset, 0, 4 * MOST_WORDS) % 4 !== 0) {
      throw misuse(`${this.name}: workspace.offset is ${offset}: it must be a multiple of 4 bytes`);
    }
    return this.words('workspace', { buffer, offset: offset / 4 }, words);
  }

  shared(shared) {
    if (shared.end === 0) return null;
    return this.bytes(shared.what, this.given(shared.what), 0, shared.end * 4);
  }

  /** Mean, matrix and dual of a role: the range that holds them, and where each begins. */
  transform(role, format, kvHeads, uses) {
    const { headDim: d, needsMean, needsMatrix, needsDual } = format;
    const shared = new Shared(this.name, 'transforms');
    const given = this.call[role];
    const matrices = (needsMatrix === 'shared' ? 1 : kvHeads) * d * d;
    const place = (field, count, needed) =>
      needed ? shared.need(`${role}.${field}`, given?.[field], count) : NONE;
    const params = {
      mean: place('mean', kvHeads * d, needsMean && uses.mean),
      matrix: place('matrix', matrices, needsMatrix !== 'no' && uses.matrix),
      dual: place('dual', matrices, needsDual && uses.dual),
    };
    return { range: this.shared(shared), params };
  }

  /** Rows of a call of slots: what `encode` and `decode` have in common. */
  slots(format, uses) {
    const count = this.whole('count', this.call.count);
    const kvHeads = this.whole('kvHeads', this.call.kvHeads, 1);
    const rows = this.rows('rows', this.call.rows, count, kvHeads, format.headDim, 'rows');
    const cache = this.pool('cache', format, kvHeads, 'cache');
    const tables = new Shared(this.name, 'tables');
    const slots = tables.need('slots', this.call.slots, count);
    const transform = this.transform('transform', format, kvHeads, uses);
    const errors = this.words('errors', this.call.errors, count * kvHeads);
    const flags = this.words('flags', this.call.flags, 1);
    const params = {
      ...rows.params,
      ...cache.params,
      ...transform.params,
      items: count * kvHeads,
      kv_heads: kvHeads,
      pages: cache.pages,
      slots,
      errors: errors.at,
      flags: flags.at,
    };
    return { rows, cache, tables: this.shared(tables), transform, errors, flags, params };
  }

  /** Where every table of an index stands. `attendDense` has its tables in the call itself. */
  tables(index, isDense) {
    const { call, name } = this;
    const shared = new Shared(name, 'tables');
    const label = (field) => (isDense ? field : `index.${field}`);
    const place = (field, count) => shared.place(label(field), index[field], count);
    const need = (field, count) => shared.need(label(field), index[field], count);
    const number = (field, value) => this.whole(label(field), value);
    const sequences = number('sequences', index.sequences);
    const maxTokens = number('maxTokens', index.maxTokens);
    const pages = Math.ceil(maxTokens / PAGE_TOKENS);
    const stride = number('positionsStride', index.positionsStride ?? maxTokens);
    const params = {
      sequences,
      max_tokens: maxTokens,
      addressing: ADDRESSING.paged,
      lengths: NONE,
      block_table: NONE,
      pages_per_sequence: 0,
      indptr: NONE,
      indices: NONE,
      indices_count: 0,
      last_page_len: NONE,
      first_position: place('firstPosition', sequences),
      positions: place('positions', sequences * stride),
      positions_stride: stride,
      always_visible: isDense ? place('alwaysVisible', sequences * stride) : NONE,
      row_sequence: shared.place('rowSequence', call.rowSequence, call.rows),
      row_position: shared.place('rowPosition', call.rowPosition, call.rows),
    };
    if (isDense) {
      params.addressing = ADDRESSING.dense;
      params.lengths = need('lengths', sequences);
    } else if (index.indptr !== undefined) {
      if (index.blockTable !== undefined) {
        throw misuse(`${name}: index.blockTable and index.indptr are both given: give one of them`);
      }
      const count = number('indicesCount', index.indicesCount ?? 0);
      params.addressing = ADDRESSING.csr;
      params.indptr = place('indptr', sequences + 1);
      params.indices = count === 0 ? 0 : need('indices', count);
      params.indices_count = count;
      params.last_page_len = need('lastPageLen', sequences);
    } else if (index.blockTable !== undefined) {
      const width = number('blockTableStride', index.blockTableStride ?? pages);
      params.addressing = ADDRESSING.blockTable;
      params.lengths = need('lengths', sequences);
      params.block_table = place('blockTable', sequences * width);
      params.pages_per_sequence = width;
    } else {
      params.lengths = need('lengths', sequences);
      params.pages_per_sequence = number('pagesPerSequence', index.pagesPerSequence ?? pages);
    }
    return { range: this.shared(shared), params };
  }

  // ---- Dispatches

  /** One dispatch of `items` workgroups: checked ranges and parameters become a bind group. */
  dispatch(kernel, entry, items, ranges, params) {
    if (items === 0) return;
    const { device, layouts, pipelines, standIns } = this.runtime;
    const x = Math.min(items, MOST_GROUPS);
    const y = Math.ceil(items / x);
    if (y > MOST_GROUPS) {
      throw misuse(`${this.name}: ${items} workgroups are more than a dispatch takes`);
    }
    const { bindings } = KERNELS[kernel];
    if (pipelines[entry] === undefined) {
      throw misuse(`${this.name} was not compiled: name it among the kernels of ${NAME}.create`);
    }
    this.requireApart(bindings, ranges);
    const block = this.block(kernel, { ...params, items });
    const entries = bindings.map((kind, i) => {
      const range = ranges[i];
      const resource =
        range === null
          ? { buffer: standIns[kind === 'read' ? 0 : i + 1] }
          : { buffer: range.buffer, offset: range.start, size: Math.max(4, range.size) };
      return { binding: i + 1, resource };
    });
    const bound = device.createBindGroup({
      label: `${NAME}: ${this.name}`,
      layout: layouts[kernel],
      entries: [{ binding: 0, resource: { buffer: block } }, ...entries],
    });
    this.steps.push({ pipeline: pipelines[entry], bindings: bound, x, y });
  }

  /** A dispatch may not write a buffer that it also reads, nor bytes through two bindings. */
  requireApart(kinds, ranges) {
    ranges.forEach((a, i) => {
      ranges.slice(i + 1).forEach((b, j) => {
        if (a === null || b === null || a.buffer !== b.buffer) return;
        const writes = [kinds[i], kinds[i + 1 + j]].filter((kind) => kind === 'write').length;
        if (writes === 0) return;
        if (writes === 2 && (a.start + a.size <= b.start || b.start + b.size <= a.start)) return;
        throw misuse(
          `${this.name}: ${a.what} and ${b.what} are in one buffer, which the kernel writes: ` +
            'WebGPU lets no dispatch do so; use two buffers',
        );
      });
    });
  }

  /** The uniform block of a dispatch. */
  block(kernel, values) {
    const { params } = KERNELS[kernel];
    const block = this.runtime.device.createBuffer({
      label: `${NAME}: parameters of ${kernel}`,
      size: roundUp(params.length * 4, 16),
      usage: UNIFORM,
      mappedAtCreation: true,
    });
    this.blocks.push(block);
    const bytes = block.getMappedRange();
    const words = new Uint32Array(bytes);
    const floats = new Float32Array(bytes);
    params.forEach((param, i) => {
      const [name, type] = param.split(':');
      const value = name === 'zero' ? 0 : values[name];
      if (value === undefined) throw new Error(`${kernel} lacks the parameter ${name}`);
      if (type === 'f32') floats[i] = value;
      else words[i] = value;
    });
    block.unmap();
    return block;
  }

  prepared() {
    return new PreparedCall(this.runtime, this.steps, this.blocks);
  }
}

/** A draft of a call over sequences: scores, weightedSum and the attentions. */
class SequenceDraft extends Draft {
  constructor(runtime, name, call, isDense) {
    super(runtime, name, call);
    const index = isDense ? call : this.given('index');
    this.basis = isDense ? null : basisOf(name, call);
    this.queryRows = this.whole('rows', call.rows);
    this.kvHeads = this.whole('kvHeads', call.kvHeads, 1);
    this.qHeads = this.kvHeads * GROUP;
    this.index = this.tables(index, isDense);
    this.maxTokens = index.maxTokens;
  }

  /** Cuts sequences into splits, and the workspace into its parts. */
  cut(splits) {
    this.splits = splits;
    const parts = workspaceOf({ rows: this.queryRows, kvHeads: this.kvHeads }, splits.count);
    this.scratch = this.workspace(parts.words);
    this.state = this.scratch.at;
    this.query = this.scratch.at + parts.query;
    this.partial = this.scratch.at + parts.partial;
  }

  /** What each row sees. */
  states(pages) {
    const flags = this.words('flags', this.call.flags, 1);
    const window = this.whole('window', this.call.window ?? 0);
    const params = {
      ...this.index.params,
      rows: this.queryRows,
      pages,
      window,
      state: this.state,
      flags: flags.at,
    };
    const ranges = [this.index.range, this.scratch.range, flags.range];
    this.dispatch('states', 'states', this.queryRows, ranges, params);
  }

  /** Queries in the space of the keys. */
  queries() {
    const { queryRows, qHeads, kvHeads, call } = this;
    const q = this.rows('q', call.q, queryRows, qHeads, KEY.headDim, 'q');
    const transform = this.transform('key', KEY, kvHeads, usesOf(KEY, this.basis));
    const params = {
      ...q.params,
      ...transform.params,
      q_heads: qHeads,
      heads_per_kv: GROUP,
      rotate: Number(this.basis === 'original'),
      query: this.query,
    };
    const ranges = [q.range, transform.range, this.scratch.range];
    this.dispatch('queries', 'queries', queryRows * qHeads, ranges, params);
  }

  /** Parameters that the kernels over tokens share. */
  sight() {
    const { addressing, positions, always_visible } = this.index.params;
    const listed = addressing === ADDRESSING.blockTable || addressing === ADDRESSING.csr;
    return {
      state: this.state,
      query: this.query,
      partial: this.partial,
      kv_heads: this.kvHeads,
      splits: this.splits.count,
      split_tokens: this.splits.tokens,
      listed_pages: Number(listed),
      positions,
      always_visible,
    };
  }

  logits() {
    const { scale, softcap = 0 } = this.call;
    return {
      scale: finite(`${this.name}: scale`, scale),
      softcap: finite(`${this.name}: softcap`, softcap),
    };
  }

  /** Workgroups of a kernel that takes `pieces` of every sequence. */
  items(pieces) {
    return this.queryRows * this.kvHeads * GROUP_PARTS * pieces;
  }

  /** Splits to outputs: by their log-sum-exps, or as sums. */
  combine(sums) {
    const { call, queryRows, qHeads, kvHeads } = this;
    const out = this.rows('out', call.out, queryRows, qHeads, VALUE.headDim, 'out');
    const lse = this.strided('lse', call.lse, queryRows, qHeads, 1);
    const transform = this.transform('value', VALUE, kvHeads, usesOf(VALUE, this.basis));
    const params = {
      ...out.params,
      ...transform.params,
      q_heads: qHeads,
      heads_per_kv: GROUP,
      splits: this.splits.count,
      sums: Number(sums),
      rotate: Number(this.basis === 'original'),
      state: this.state,
      partial: this.partial,
      lse: lse.at,
      lse_row_stride: lse.rowStride,
    };
    const ranges = [this.scratch.range, transform.range, out.range, lse.range];
    this.dispatch('combine', 'combine', queryRows * qHeads, ranges, params);
  }
}

/** Pipelines and layouts of one variant, for the methods that are named. */
async function compile(device, variant, methods) {
  const layouts = {};
  for (const [kernel, { bindings }] of Object.entries(KERNELS)) {
    const entries = bindings.map((kind, i) => ({
      binding: i + 1,
      visibility: COMPUTE,
      buffer: { type: kind === 'read' ? 'read-only-storage' : 'storage' },
    }));
    layouts[kernel] = device.createBindGroupLayout({
      label: `${NAME}: ${kernel}`,
      entries: [{ binding: 0, visibility: COMPUTE, buffer: { type: 'uniform' } }, ...entries],
    });
  }
  const wanted = new Set(methods.flatMap((method) => METHODS[method]));
  const chosen = Object.keys(MODULES).filter((name) => {
    if (!wanted.has(name.replace('_subgroups', ''))) return false;
    return variant === 'subgroups' ? !(`${name}_subgroups` in MODULES) : !/_subgroups$/.test(name);
  });
  const pipelines = {};
  const compiling = chosen.flatMap((name) => {
    const { kernel, entries } = MODULES[name];
    const label = `${NAME}: ${name}`;
    const module = device.createShaderModule({ label, code: WGSL[name] });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [layouts[kernel]] });
    return entries.map(async (entryPoint) => {
      // `encode_key`, `rotate_in_place_key`, `attend`: what a role adds to the entry point.
      const entry = name.replace('_subgroups', '').replace(kernel, entryPoint);
      pipelines[entry] = await device.createComputePipelineAsync({
        label,
        layout,
        compute: { module, entryPoint },
      });
    });
  });
  await Promise.all(compiling);
  return new Runtime(device, pipelines, layouts);
}

export class LlamaD128Rows {
  static key = KEY;
  static value = VALUE;
  static group = GROUP;
  static pageTokens = PAGE_TOKENS;
  static denseDtype = DENSE_DTYPE;
  static bytesPerToken = KEY.bytesPerToken + VALUE.bytesPerToken;
  static planHash = PLAN_HASH;

  #runtime;

  static features(adapter) {
    return FEATURES.filter((name) => adapter.features.has(name));
  }

  static async create(device, options = {}) {
    if (typeof device?.createComputePipelineAsync !== 'function') {
      throw misuse(`${NAME}.create takes a GPUDevice`);
    }
    const has = (feature) => device.features.has(feature);
    const { variant = has('subgroups') ? 'subgroups' : 'core' } = options;
    const { kernels = Object.keys(METHODS) } = options;
    oneOf(`${NAME}.create: variant`, variant, ['subgroups', 'core']);
    for (const name of kernels) oneOf(`${NAME}.create: kernels`, name, Object.keys(METHODS));
    if (NEEDS_F16 && !has('shader-f16')) {
      throw failure(
        'POLARC_UNSUPPORTED',
        `${NAME} computes in f16: create the device with requiredFeatures: ['shader-f16'], or ` +
          "generate the cache without arithmetic wgsl: 'half'",
      );
    }
    if (variant === 'subgroups' && !has('subgroups')) {
      throw failure(
        'POLARC_UNSUPPORTED',
        `${NAME}: the device lacks subgroups: create it with requiredFeatures: ['subgroups'], or ` +
          'leave variant out',
      );
    }
    return new LlamaD128Rows(await compile(device, variant, kernels), variant);
  }

  constructor(runtime, variant) {
    this.#runtime = runtime;
    this.variant = variant;
  }

  destroy() {
    this.#runtime.destroy();
  }

  encodeKey(call) {
    return this.#encode('encodeKey', 'key', KEY, call);
  }

  encodeValue(call) {
    return this.#encode('encodeValue', 'value', VALUE, call);
  }

  decodeKey(call) {
    return this.#decode('decodeKey', 'key', KEY, call);
  }

  decodeValue(call) {
    return this.#decode('decodeValue', 'value', VALUE, call);
  }

  rotateKey(call) {
    return this.#rotate('rotateKey', 'key', KEY, call);
  }

  rotateValue(call) {
    return this.#rotate('rotateValue', 'value', VALUE, call);
  }

  scoresWorkspace(shape) {
    return workspaceOf(shape, 0).words * 4;
  }

  weightedSumWorkspace(shape) {
    return this.attendWorkspace({ ...shape, splitTokens: 0 });
  }

  attendWorkspace(shape) {
    const split = splitTokensOf('attendWorkspace', shape.splitTokens);
    const splits = splitsOf(whole('attendWorkspace: maxTokens', shape.maxTokens), split);
    return workspaceOf(shape, splits.count).words * 4;
  }

  attendDenseWorkspace(shape) {
    return this.attendWorkspace(shape);
  }

  mergeWorkspace({ rows, qHeads }) {
    const items = whole('mergeWorkspace: rows', rows) * whole('mergeWorkspace: qHeads', qHeads);
    return items * (VALUE.headDim + 3) * 4;
  }

  scores(call) {
    const draft = new SequenceDraft(this.#runtime, 'scores', call, false);
    draft.cut({ count: 0, tokens: 0 });
    const { maxTokens } = draft;
    draft.given('scores');
    const out = draft.strided('scores', call.scores, draft.queryRows, draft.qHeads, maxTokens);
    const keys = draft.pool('keys', KEY, draft.kvHeads, 'key');
    draft.states(keys.pages);
    draft.queries();
    const strips = Math.ceil(maxTokens / 64);
    const params = {
      ...draft.sight(),
      ...draft.logits(),
      ...keys.params,
      strips,
      max_tokens: maxTokens,
      scores_offset: out.at,
      scores_row_stride: out.rowStride,
      scores_head_stride: out.headStride,
    };
    const ranges = [keys.range, draft.index.range, draft.scratch.range, out.range];
    draft.dispatch('scores', 'score_tokens', draft.items(strips), ranges, params);
    return draft.prepared();
  }

  weightedSum(call) {
    const draft = new SequenceDraft(this.#runtime, 'weightedSum', call, false);
    const { maxTokens } = draft;
    draft.cut(splitsOf(maxTokens, 0));
    draft.given('weights');
    const given = draft.strided('weights', call.weights, draft.queryRows, draft.qHeads, maxTokens);
    const values = draft.pool('values', VALUE, draft.kvHeads, 'value');
    draft.states(values.pages);
    const params = {
      ...draft.sight(),
      ...values.params,
      weights_offset: given.at,
      weights_row_stride: given.rowStride,
      weights_head_stride: given.headStride,
    };
    const ranges = [values.range, draft.index.range, given.range, draft.scratch.range];
    const items = draft.items(draft.splits.count);
    draft.dispatch('weighted_sum', 'weighted_sum', items, ranges, params);
    draft.combine(true);
    return draft.prepared();
  }

  attend(call) {
    const draft = new SequenceDraft(this.#runtime, 'attend', call, false);
    draft.cut(splitsOf(draft.maxTokens, splitTokensOf('attend', call.splitTokens)));
    const keys = draft.pool('keys', KEY, draft.kvHeads, 'key');
    const values = draft.pool('values', VALUE, draft.kvHeads, 'value');
    draft.states(Math.min(keys.pages, values.pages));
    draft.queries();
    const params = { ...draft.sight(), ...draft.logits(), ...keys.params, ...values.params };
    const ranges = [keys.range, values.range, draft.index.range, draft.scratch.range];
    draft.dispatch('attend', 'attend', draft.items(draft.splits.count), ranges, params);
    draft.combine(false);
    return draft.prepared();
  }

  attendDense(call) {
    const draft = new SequenceDraft(this.#runtime, 'attendDense', call, true);
    draft.cut(splitsOf(draft.maxTokens, splitTokensOf('attendDense', call.splitTokens)));
    const keys = this.#dense(draft, 'keys', 'key', KEY.headDim);
    const values = this.#dense(draft, 'values', 'value', VALUE.headDim);
    draft.states(0);
    draft.queries();
    const params = { ...draft.sight(), ...draft.logits(), ...keys.params, ...values.params };
    const ranges = [keys.range, values.range, draft.index.range, draft.scratch.range];
    draft.dispatch('attend_dense', 'attend_dense', draft.items(draft.splits.count), ranges, params);
    draft.combine(false);
    return draft.prepared();
  }

  merge(call) {
    const draft = new Draft(this.#runtime, 'merge', call);
    const rows = draft.whole('rows', call.rows);
    const qHeads = draft.whole('qHeads', call.qHeads);
    const items = rows * qHeads;
    const d = VALUE.headDim;
    const parts = draft.given('parts');
    if (!Array.isArray(parts)) throw misuse('merge: parts must be an array');
    const workspace = draft.workspace(items * (d + 3));
    const out = draft.rows('out', call.out, rows, qHeads, d, 'out');
    const lse = draft.strided('lse', call.lse, rows, qHeads, 1);
    const sink = draft.words('sink', call.sink, qHeads);
    const nothing = { part_dtype: 0, part_offset: 0, part_row_stride: 0, part_head_stride: 0 };
    const common = {
      ...nothing,
      ...out.params,
      q_heads: qHeads,
      first_part: 0,
      parts: parts.length,
      workspace: workspace.at,
      part_lse: 0,
      part_lse_row_stride: 0,
      sink: sink.at,
      lse: lse.at,
      lse_row_stride: lse.rowStride,
    };
    parts.forEach((part, i) => {
      const given = draft.rows(`parts[${i}].out`, part.out, rows, qHeads, d, 'part');
      if (part.lse === undefined) throw misuse(`merge: parts[${i}].lse is missing`);
      const sums = draft.strided(`parts[${i}].lse`, part.lse, rows, qHeads, 1);
      const params = {
        ...common,
        ...given.params,
        first_part: Number(i === 0),
        part_lse: sums.at,
        part_lse_row_stride: sums.rowStride,
      };
      const ranges = [given.range, sums.range, workspace.range, null, null, null];
      draft.dispatch('merge', 'merge_add', items, ranges, params);
    });
    const ranges = [null, null, workspace.range, sink.range, out.range, lse.range];
    draft.dispatch('merge', 'merge_finish', items, ranges, common);
    return draft.prepared();
  }

  /** The pipeline of a role: one serves both where keys and values have the same format. */
  #entry(entry, role) {
    return SAME_FORMAT ? entry : `${entry}_${role}`;
  }

  #encode(name, role, format, call) {
    const draft = new Draft(this.#runtime, name, call);
    const uses = { mean: true, matrix: true, dual: false };
    const slots = draft.slots(format, uses);
    const { rows, tables, transform, cache, errors, flags } = slots;
    const ranges = [rows, { range: tables }, transform, cache, errors, flags];
    const bound = ranges.map(({ range }) => range);
    const { params } = slots;
    draft.dispatch('encode', this.#entry('encode', role), params.items, bound, params);
    return draft.prepared();
  }

  #decode(name, role, format, call) {
    const draft = new Draft(this.#runtime, name, call);
    const basis = basisOf(name, call);
    const slots = draft.slots(format, usesOf(format, basis));
    const { rows, tables, transform, cache, flags } = slots;
    const ranges = [cache, { range: tables }, transform, rows, flags];
    const params = { ...slots.params, rotate: Number(basis === 'original') };
    const bound = ranges.map(({ range }) => range);
    draft.dispatch('decode', this.#entry('decode', role), params.items, bound, params);
    return draft.prepared();
  }

  #rotate(name, role, format, call) {
    const draft = new Draft(this.#runtime, name, call);
    const count = draft.whole('count', call.count);
    const heads = draft.whole('heads', call.heads, 1);
    const perKv = draft.whole('headsPerKv', call.headsPerKv ?? 1, 1);
    if (heads % perKv !== 0) {
      throw misuse(`${name}: heads is ${heads}, no multiple of headsPerKv, ${perKv}`);
    }
    const rotation = oneOf(`${name}: rotation`, call.rotation, ROTATIONS);
    const source = draft.rows('in', call.in, count, heads, format.headDim, 'source');
    const out = draft.rows('out', call.out, count, heads, format.headDim, 'out');
    const inPlace = source.range.buffer === out.range.buffer;
    const same = ['dtype', 'offset', 'row_stride', 'head_stride'].every(
      (field) => source.params[`source_${field}`] === out.params[`out_${field}`],
    );
    if (inPlace && !(same && source.range.start === out.range.start)) {
      throw misuse(
        `${name}: in and out are in one buffer: give them the same offset, strides and dtype, or ` +
          'two buffers',
      );
    }
    const matrix = rotation === 0 || format.needsMatrix === 'shared';
    const uses = { mean: false, matrix, dual: rotation !== 0 };
    const transform = draft.transform('transform', format, heads / perKv, uses);
    const params = {
      ...source.params,
      ...out.params,
      ...transform.params,
      heads,
      heads_per_kv: perKv,
      rotation,
    };
    const ranges = [inPlace ? null : source.range, transform.range, out.range];
    const entry = this.#entry(inPlace ? 'rotate_in_place' : 'rotate', role);
    draft.dispatch('rotate', entry, count * heads, ranges, params);
    return draft.prepared();
  }

  /** Rows of full precision: their range, and their parameters in elements. */
  #dense(draft, what, role, d) {
    const given = draft.given(what);
    const { kvHeads, maxTokens } = draft;
    const { sequences } = draft.index.params;
    const width = DENSE_DTYPE === 'f32' ? 4 : 2;
    const number = (field, value) => draft.whole(`${what}.${field}`, value, 0, MOST_WORDS);
    const offset = number('offset', given.offset ?? 0);
    const headStride = number('headStride', given.headStride ?? d);
    const tokenStride = number('tokenStride', given.tokenStride ?? kvHeads * headStride);
    const sequenceStride = given.sequenceStride ?? maxTokens * tokenStride;
    number('sequenceStride', sequenceStride);
    const one = extent(maxTokens, kvHeads, d, tokenStride, headStride);
    const end = offset + extent(1, sequences, one, 0, sequenceStride);
    const range = draft.bytes(`${what}.buffer`, given.buffer, offset * width, end * width);
    return {
      range,
      params: {
        [`${role}_offset`]: offset - range.start / width,
        [`${role}_sequence_stride`]: sequenceStride,
        [`${role}_token_stride`]: tokenStride,
        [`${role}_head_stride`]: headStride,
      },
    };
  }
}

// ---- The modules, as they stand in the .wgsl files beside this one ----

const WGSL = {
  encode: `
// Rows of 128 numbers to packed slots, nearest codeword, the same bytes on every target: one
// row of a KV head a workgroup. Every product passes through an integer operation with a zero that
// only the caller knows, so that no compiler fuses it with the sum behind it (docs/format.md has
// the order of the operations).
//
// Keys and values: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  zero: u32, // 0: products pass through an exclusive or with it
  errors: u32, // word of the first, or none
  kv_heads: u32,
  pages: u32, // of the pool, the smaller one of two
  slots: u32, // index of the first in tables
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  flags: u32, // word of the status word, or none
  rows_dtype: u32, // 0: f32, 1: f16, 2: bf16
  rows_offset: u32, // elements
  rows_row_stride: u32, // elements
  rows_head_stride: u32, // elements
  cache_offset: u32, // words
  cache_page_stride: u32, // words
  cache_head_stride: u32, // words
  cache_unit_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const slot_out_of_range = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<i32>;
@group(0) @binding(3) var<storage, read> transforms: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> errors: array<f32>;
@group(0) @binding(6) var<storage, read_write> flags: array<atomic<u32>>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// An element of the rows.
fn rows_element(at: u32) -> f32 {
  if (params.rows_dtype == dtype_f32) { return bitcast<f32>(rows[at]); }
  let bits = (rows[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.rows_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

// A product that stays a product.
fn times(a: f32, b: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(a * b) ^ params.zero);
}

// Of a difference that counts: below 2^-50 none does, so that no denormal reaches a row's error.
fn squared(e: f32) -> f32 {
  return select(times(e, e), 0.0, abs(e) < 8.881784e-16f);
}

// Level 1: cosine and sine of every magnitude, and tangents of the mid-angles.
const book_l1 = array<vec2f, 4>(
  vec2f(0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525)
);
const thresholds_l1 = array<f32, 3>(
  0.41421357f, 1.0f, 2.4142137f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l1(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l1[code + step - 1u], u)) { code += step; }
  }
  return code;
}

const key_code_bit_l1_list = array<u32, 8>(
  6u, 12u, 16u, 22u, 38u, 44u, 26u, 0u
);
fn key_code_bit_l1(i: u32) -> u32 {
  return 64u * (i / 8u) + key_code_bit_l1_list[i % 8u];
}

// Level 2: cosine and sine of every code, and tangents of the mid-angles.
const book_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);
const thresholds_l2 = array<f32, 3>(
  0.51031834f, 1.0f, 1.9595611f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l2(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l2[code + step - 1u], u)) { code += step; }
  }
  return code;
}

const key_code_bit_l2_list = array<u32, 4>(
  10u, 20u, 42u, 30u
);
fn key_code_bit_l2(i: u32) -> u32 {
  return 64u * (i / 4u) + key_code_bit_l2_list[i % 4u];
}

// Level 3: cosine and sine of every code, and tangents of the mid-angles.
const book_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);
const thresholds_l3 = array<f32, 3>(
  0.61354196f, 1.0f, 1.6298804f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l3(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l3[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l3(i: u32) -> u32 {
  return 32u + 64u * (i / 2u) + 2u * (i % 2u);
}

// Level 4: cosine and sine of every code, and tangents of the mid-angles.
const book_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);
const thresholds_l4 = array<f32, 3>(
  0.70648f, 1.0f, 1.4154682f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l4(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l4[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l4(i: u32) -> u32 {
  return 36u + 64u * i;
}

fn key_radius_bit(i: u32) -> u32 {
  return 48u + 64u * i;
}

// ---- One row ----

var<workgroup> slot: i32;
var<workgroup> vector: array<f32, 128>; // preconditioned
var<workgroup> spare: array<f32, 128>; // before that; then what every node loses, squared
var<workgroup> projections: array<f32, 128>; // level after level
var<workgroup> codes: array<u32, 120>; // level after level
var<workgroup> stored: array<f32, 8>; // what a stored radius decodes to
var<workgroup> lost: atomic<u32>; // a projection at the top is not finite
var<workgroup> record: array<atomic<u32>, 16>;

// Bit i: coordinate i changes its sign.
const signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn put_bits(bit: u32, bits: u32) {
  let at = bit >> 5u;
  let shift = bit & 31u;
  atomicOr(&record[at], bits << shift);
  // Nothing is left for the next word where the field ends in this one.
  let left = select(bits >> (32u - shift), 0u, shift == 0u);
  if (left != 0u) { atomicOr(&record[at + 1u], left); }
}

fn precondition(lane: u32, kv_head: u32) {
  for (var stride = 1u; stride < 128u; stride *= 2u) {
    for (var pair = lane; pair < 128u / 2u; pair += 64u) {
      let i = (pair / stride) * 2u * stride + pair % stride;
      let a = vector[i];
      let b = vector[i + stride];
      vector[i] = a + b;
      vector[i + stride] = a - b;
    }
    workgroupBarrier();
  }
}

// Codes of every level, bottom up: a node passes its projection on the nearest codeword upwards.
fn find_codes(lane: u32) {
  for (var node = lane; node < 64u; node += 64u) {
    let x = vector[2u * node];
    let y = vector[2u * node + 1u];
    let u = abs(x);
    let v = abs(y);
    let m = search_l1(u, v);
    let direction = book_l1[m];
    codes[node] = u32(x < 0.0) | (m << 1u) | (u32(y < 0.0) << 3u);
    projections[node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 32u; node += 64u) {
    let u = projections[0u + 2u * node];
    let v = projections[0u + 2u * node + 1u];
    let code = search_l2(u, v);
    let direction = book_l2[code];
    codes[64u + node] = code;
    projections[64u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[64u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 16u; node += 64u) {
    let u = projections[64u + 2u * node];
    let v = projections[64u + 2u * node + 1u];
    let code = search_l3(u, v);
    let direction = book_l3[code];
    codes[96u + node] = code;
    projections[96u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[96u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 8u; node += 64u) {
    let u = projections[96u + 2u * node];
    let v = projections[96u + 2u * node + 1u];
    let code = search_l4(u, v);
    let direction = book_l4[code];
    codes[112u + node] = code;
    projections[112u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[112u + node] = squared(across);
  }
  workgroupBarrier();
}

fn top_projection(block: u32) -> f32 {
  return projections[112u + block];
}

fn scaled_projection(block: u32) -> f32 {
  return times(top_projection(block), 0.088388346f);
}

fn put_codes(lane: u32) {
  for (var node = lane; node < 64u; node += 64u) {
    if (is_finite(top_projection(node / 8u))) {
      put_bits(key_code_bit_l1(node), codes[0u + node]);
    }
  }
  for (var node = lane; node < 32u; node += 64u) {
    if (is_finite(top_projection(node / 4u))) {
      put_bits(key_code_bit_l2(node), codes[64u + node]);
    }
  }
  for (var node = lane; node < 16u; node += 64u) {
    if (is_finite(top_projection(node / 2u))) {
      put_bits(key_code_bit_l3(node), codes[96u + node]);
    }
  }
  for (var node = lane; node < 8u; node += 64u) {
    if (is_finite(top_projection(node / 1u))) {
      put_bits(key_code_bit_l4(node), codes[112u + node]);
    }
  }
}

// A radius a block; the canonical NaN where the projection is not finite.
fn put_radii(lane: u32) {
  for (var block = lane; block < 8u; block += 64u) {
    let radius = scaled_projection(block);
    var bits = bitcast<u32>(radius);
    if (!is_finite(top_projection(block))) { bits = nan_bits; }
    let half = to_f16(bits, 0x7bffu);
    stored[block] = from_f16(half);
    put_bits(key_radius_bit(block), half);
  }
}

// The squared error of the row, in the order of the format.
fn row_error() -> f32 {
  var error = 0.0;
  for (var i = 0u; i < 120u; i++) { error += spare[i]; }
  error = times(error, 0.0078124995f);
  for (var block = 0u; block < 8u; block++) {
    let delta = scaled_projection(block) - stored[block];
    error += squared(delta);
  }
  return error;
}

fn store_record(unit: u32, t: u32, lane: u32) {
  for (var i = lane; i < 16u; i += 64u) { keys[unit + i] = atomicLoad(&record[i]); }
}

@compute @workgroup_size(64)
fn encode(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.kv_heads;
  let head = item % params.kv_heads;
  if (lane == 0u) { slot = tables[params.slots + row]; }
  let to = workgroupUniformLoad(&slot);
  if (to < 0) { return; }
  let page = u32(to) / page_tokens;
  let token = u32(to) % page_tokens;
  if (page >= params.pages) {
    if (lane == 0u && params.flags != none) { atomicOr(&flags[params.flags], slot_out_of_range); }
    return;
  }

  let start = params.rows_offset + row * params.rows_row_stride + head * params.rows_head_stride;
  for (var i = lane; i < 128u; i += 64u) {
    var x = rows_element(start + i);
    // No denormal may decide a code: below 2^-64 is zero.
    x = select(x, 0.0, (bitcast<u32>(x) & 0x7fffffffu) < 0x1f800000u);
    x = select(x, -x, ((signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
    vector[i] = x;
  }
  for (var i = lane; i < 16u; i += 64u) { atomicStore(&record[i], 0u); }
  if (lane == 0u) { atomicStore(&lost, 0u); }
  workgroupBarrier();
  precondition(lane, head);
  find_codes(lane);
  for (var block = lane; block < 8u; block += 64u) {
    if (!is_finite(top_projection(block))) { atomicStore(&lost, 1u); }
  }
  workgroupBarrier();
  let is_lost = atomicLoad(&lost) != 0u;
  put_codes(lane);
  put_radii(lane);
  workgroupBarrier();
  let unit = params.cache_offset + page * params.cache_page_stride +
    head * params.cache_head_stride + (token / 1u) * params.cache_unit_stride;
  store_record(unit, token % 1u, lane);
  if (lane == 0u && params.errors != none) {
    let infinity = bitcast<f32>(0x7f800000u | params.zero);
    errors[params.errors + item] = select(row_error(), infinity, is_lost);
  }
}
`,
  decode: `
// Packed slots to rows of 128 numbers, original or preconditioned: one row of a KV head a
// workgroup.
//
// Keys and values: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  rotate: u32, // 1: original basis, 0: rotated
  kv_heads: u32,
  pages: u32, // of the pool, the smaller one of two
  slots: u32, // index of the first in tables
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  flags: u32, // word of the status word, or none
  rows_dtype: u32, // 0: f32, 1: f16, 2: bf16
  rows_offset: u32, // elements
  rows_row_stride: u32, // elements
  rows_head_stride: u32, // elements
  cache_offset: u32, // words
  cache_page_stride: u32, // words
  cache_head_stride: u32, // words
  cache_unit_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const slot_out_of_range = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<i32>;
@group(0) @binding(3) var<storage, read> transforms: array<f32>;
@group(0) @binding(4) var<storage, read_write> rows: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> flags: array<atomic<u32>>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// 32 bits of two words from bit shift of the lower one on; shift is below 32.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(high << (32u - shift), 0u, shift == 0u);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// Half a word: its other half may belong to another row.
fn rows_store_half(at: u32, half: u32) {
  let shift = (at & 1u) * 16u;
  atomicAnd(&rows[at >> 1u], ~(0xffffu << shift));
  atomicOr(&rows[at >> 1u], half << shift);
}

// Two neighbouring elements of the rows, from the bits of float32 numbers.
fn rows_store(at: u32, bits: vec2u) {
  if (params.rows_dtype == dtype_f32) {
    atomicStore(&rows[at], bits.x);
    atomicStore(&rows[at + 1u], bits.y);
    return;
  }
  var halves = vec2u(to_f16(bits.x, 0x7c00u), to_f16(bits.y, 0x7c00u));
  if (params.rows_dtype != dtype_f16) {
    halves = vec2u(to_bf16(bits.x, 0x7f80u), to_bf16(bits.y, 0x7f80u));
  }
  if ((at & 1u) == 0u) {
    atomicStore(&rows[at >> 1u], halves.x | (halves.y << 16u));
  } else {
    rows_store_half(at, halves.x);
    rows_store_half(at + 1u, halves.y);
  }
}

// Level 1: cosine and sine, with their signs, of every code.
const key_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);

// Level 2: cosine and sine of every code.
const key_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);

// Level 3: cosine and sine of every code.
const key_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);

// Level 4: cosine and sine of every code.
const key_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);

// Coordinates under a radius of 1 at level 2:
// of four, the left two by their code and, in higher bits, the code of level 2;
// the right two by the code of level 2 and, in higher bits, their code.
var<workgroup> key_table_left: array<vec2<f32>, 64>;
var<workgroup> key_table_right: array<vec2<f32>, 64>;

// Radii at level 2 under a root of 1,
// by the two codes of level 3 and the code of level 4.
var<workgroup> key_table_joint: array<vec4<f32>, 64>;

// Every lane copies its share; a barrier must follow.
fn key_fill_tables(lane: u32) {
  for (var i = lane; i < 64u; i += 64u) {
    let left = key_directions_l2[i / 16u].x;
    let right = key_directions_l2[i % 4u].y;
    key_table_left[i] = left * key_directions_l1[i % 16u];
    key_table_right[i] = right * key_directions_l1[i / 4u];
  }
  for (var i = lane; i < 64u; i += 64u) {
    let root = key_directions_l4[i / 16u];
    let first = root.x * key_directions_l3[i % 4u];
    let second = root.y * key_directions_l3[(i / 4u) % 4u];
    key_table_joint[i] = vec4<f32>(vec4f(first, second));
  }
}

// At least 8 bits of the record at word unit from the given one on.
fn key_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (keys[at] >> shift) | select(keys[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn key_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return keys[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn key_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn key_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct key_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn key_decode(unit: u32, t: u32, cell: u32) -> key_cell {
  let codes_from = key_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = keys[codes_at];
  let codes_1 = keys[codes_at + 1u];

  var decoded: key_cell;
  var bad = false;
  let root_0 = key_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = key_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    key_table_left[(codes_0 >> 6u) & 63u],
    key_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    key_table_left[(codes_0 >> 16u) & 63u],
    key_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    key_table_left[(codes_1 >> 6u) & 63u],
    key_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    key_table_left[codes_0 >> 26u],
    key_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// ---- S, S^-T and S^-1 on the vector in workgroup memory; barriers stand around every step ----

var<workgroup> vector: array<f32, 128>;
var<workgroup> spare: array<f32, 128>;

// Bit i: coordinate i changes its sign.
const key_signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn key_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((key_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn key_butterflies(lane: u32) {
  for (var stride = 1u; stride < 128u; stride *= 2u) {
    for (var pair = lane; pair < 128u / 2u; pair += 64u) {
      let i = (pair / stride) * 2u * stride + pair % stride;
      let a = vector[i];
      let b = vector[i + stride];
      vector[i] = a + b;
      vector[i + stride] = a - b;
    }
    workgroupBarrier();
  }
}

// Multiplies with S (0), its dual S^-T (1) or its inverse (2).
fn rotate_vector(lane: u32, rotation: u32, kv_head: u32) {
  if (rotation != 2u) {
    for (var i = lane; i < 128u; i += 64u) { vector[i] = key_signed(i, vector[i]); }
    workgroupBarrier();
  }
  key_butterflies(lane);
  for (var i = lane; i < 128u; i += 64u) {
    let x = vector[i] * 0.088388346f;
    vector[i] = select(x, key_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

var<workgroup> slot: i32;
var<workgroup> lost: array<u32, 8>; // of a cell: bit i where radius i is not finite
var<workgroup> any_lost: atomic<u32>;

@compute @workgroup_size(64)
fn decode(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.kv_heads;
  let head = item % params.kv_heads;
  if (lane == 0u) { slot = tables[params.slots + row]; }
  let start = workgroupUniformLoad(&slot);
  if (start < 0) { return; }
  let page = u32(start) / page_tokens;
  let token = u32(start) % page_tokens;
  if (page >= params.pages) {
    if (lane == 0u && params.flags != none) { atomicOr(&flags[params.flags], slot_out_of_range); }
    return;
  }

  key_fill_tables(lane);
  if (lane == 0u) { atomicStore(&any_lost, 0u); }
  workgroupBarrier();
  let unit = params.cache_offset + page * params.cache_page_stride +
    head * params.cache_head_stride + (token / 1u) * params.cache_unit_stride;
  for (var cell = lane; cell < 8u; cell += 64u) {
    let decoded = key_decode(unit, token % 1u, cell);
    vector[cell * 16u + 0] = decoded.radius * decoded.parts[0].x;
    vector[cell * 16u + 1] = decoded.radius * decoded.parts[0].y;
    vector[cell * 16u + 2] = decoded.radius * decoded.parts[0].z;
    vector[cell * 16u + 3] = decoded.radius * decoded.parts[0].w;
    vector[cell * 16u + 4] = decoded.radius * decoded.parts[1].x;
    vector[cell * 16u + 5] = decoded.radius * decoded.parts[1].y;
    vector[cell * 16u + 6] = decoded.radius * decoded.parts[1].z;
    vector[cell * 16u + 7] = decoded.radius * decoded.parts[1].w;
    vector[cell * 16u + 8] = decoded.radius * decoded.parts[2].x;
    vector[cell * 16u + 9] = decoded.radius * decoded.parts[2].y;
    vector[cell * 16u + 10] = decoded.radius * decoded.parts[2].z;
    vector[cell * 16u + 11] = decoded.radius * decoded.parts[2].w;
    vector[cell * 16u + 12] = decoded.radius * decoded.parts[3].x;
    vector[cell * 16u + 13] = decoded.radius * decoded.parts[3].y;
    vector[cell * 16u + 14] = decoded.radius * decoded.parts[3].z;
    vector[cell * 16u + 15] = decoded.radius * decoded.parts[3].w;
    lost[cell] = decoded.bad;
    if (decoded.bad != 0u) { atomicOr(&any_lost, 1u); }
  }
  workgroupBarrier();
  if (params.rotate != 0u) { rotate_vector(lane, 2u, head); }

  // Every coordinate of the original basis is made of all rotated ones.
  let all_lost = params.rotate != 0u && atomicLoad(&any_lost) != 0u;
  let to = params.rows_offset + row * params.rows_row_stride + head * params.rows_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    var pair = vec2f(vector[i], vector[i + 1u]);
    let cell = i / 16u;
    let is_lost = all_lost || ((lost[cell] >> ((i % 16u) >> 4u)) & 1u) != 0u;
    rows_store(to + i, select(bitcast<vec2u>(pair), vec2u(nan_bits), is_lost));
  }
}
`,
  rotate: `
// Rows of 128 numbers times S, its dual S^-T or its inverse: one row of a head a workgroup.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  rotation: u32, // 0: S, 1: its dual, 2: its inverse
  matrix: u32, // the same
  dual: u32, // the same
  source_dtype: u32, // 0: f32, 1: f16, 2: bf16
  source_offset: u32, // elements
  source_row_stride: u32, // elements
  source_head_stride: u32, // elements
  out_dtype: u32, // 0: f32, 1: f16, 2: bf16
  out_offset: u32, // elements
  out_row_stride: u32, // elements
  out_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<atomic<u32>>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// An element of the rows.
fn source_element(at: u32) -> f32 {
  if (params.source_dtype == dtype_f32) { return bitcast<f32>(source[at]); }
  let bits = (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.source_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

// Half a word: its other half may belong to another row.
fn out_store_half(at: u32, half: u32) {
  let shift = (at & 1u) * 16u;
  atomicAnd(&out[at >> 1u], ~(0xffffu << shift));
  atomicOr(&out[at >> 1u], half << shift);
}

// Two neighbouring elements of the rows, from the bits of float32 numbers.
fn out_store(at: u32, bits: vec2u) {
  if (params.out_dtype == dtype_f32) {
    atomicStore(&out[at], bits.x);
    atomicStore(&out[at + 1u], bits.y);
    return;
  }
  var halves = vec2u(to_f16(bits.x, 0x7c00u), to_f16(bits.y, 0x7c00u));
  if (params.out_dtype != dtype_f16) {
    halves = vec2u(to_bf16(bits.x, 0x7f80u), to_bf16(bits.y, 0x7f80u));
  }
  if ((at & 1u) == 0u) {
    atomicStore(&out[at >> 1u], halves.x | (halves.y << 16u));
  } else {
    out_store_half(at, halves.x);
    out_store_half(at + 1u, halves.y);
  }
}

// ---- S, S^-T and S^-1 on the vector in workgroup memory; barriers stand around every step ----

var<workgroup> vector: array<f32, 128>;
var<workgroup> spare: array<f32, 128>;

// Bit i: coordinate i changes its sign.
const key_signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn key_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((key_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn key_butterflies(lane: u32) {
  for (var stride = 1u; stride < 128u; stride *= 2u) {
    for (var pair = lane; pair < 128u / 2u; pair += 64u) {
      let i = (pair / stride) * 2u * stride + pair % stride;
      let a = vector[i];
      let b = vector[i + stride];
      vector[i] = a + b;
      vector[i + stride] = a - b;
    }
    workgroupBarrier();
  }
}

// Multiplies with S (0), its dual S^-T (1) or its inverse (2).
fn rotate_vector(lane: u32, rotation: u32, kv_head: u32) {
  if (rotation != 2u) {
    for (var i = lane; i < 128u; i += 64u) { vector[i] = key_signed(i, vector[i]); }
    workgroupBarrier();
  }
  key_butterflies(lane);
  for (var i = lane; i < 128u; i += 64u) {
    let x = vector[i] * 0.088388346f;
    vector[i] = select(x, key_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

// An element of the rows that are overwritten.
fn out_element(at: u32) -> f32 {
  if (params.out_dtype == dtype_f32) { return bitcast<f32>(atomicLoad(&out[at])); }
  let bits = (atomicLoad(&out[at >> 1u]) >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.out_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

fn rotate_row(item: u32, lane: u32) {
  let row = item / params.heads;
  let head = item % params.heads;
  rotate_vector(lane, params.rotation, head / params.heads_per_kv);
  let to = params.out_offset + row * params.out_row_stride + head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    out_store(to + i, vec2u(bitcast<u32>(vector[i]), bitcast<u32>(vector[i + 1u])));
  }
}

@compute @workgroup_size(64)
fn rotate(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let start = params.source_offset + (item / params.heads) * params.source_row_stride +
    (item % params.heads) * params.source_head_stride;
  for (var i = lane; i < 128u; i += 64u) { vector[i] = source_element(start + i); }
  workgroupBarrier();
  rotate_row(item, lane);
}

// The same where source is the memory of out, with the same strides.
@compute @workgroup_size(64)
fn rotate_in_place(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let start = params.out_offset + (item / params.heads) * params.out_row_stride +
    (item % params.heads) * params.out_head_stride;
  for (var i = lane; i < 128u; i += 64u) { vector[i] = out_element(start + i); }
  workgroupBarrier();
  rotate_row(item, lane);
}
`,
  states: `
// What each query row sees, once for all heads: checks tables and lengths, and writes a state of
// eight words a row to the workspace. Nothing behind this kernel reads a table unchecked.

struct Params {
  rows: u32,
  sequences: u32,
  max_tokens: u32,
  pages: u32, // of the pool, the smaller one of two
  addressing: u32, // 0: no table, 1: block table, 2: CSR, 3: dense rows
  lengths: u32, // index of a table in tables, as the ones below; none: left out
  block_table: u32,
  pages_per_sequence: u32, // entries from sequence to sequence
  indptr: u32,
  indices: u32,
  indices_count: u32,
  last_page_len: u32,
  first_position: u32,
  positions: u32, // index in tables, or none
  positions_stride: u32, // entries
  always_visible: u32, // index in tables, or none
  row_sequence: u32,
  row_position: u32,
  window: u32, // tokens that a row sees; 0: all
  state: u32, // word of the workspace where rows have their states
  flags: u32, // word of the status word, or none
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const paged = 0u; // addressing: page numbers follow from the sequence
const block_table = 1u;
const csr = 2u;
const dense_rows = 3u;
const page_out_of_range = 1u; // bits of the status word
const length_out_of_range = 2u;
const sequence_out_of_range = 4u;
const least = -2147483647i - 1i;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<i32>;
@group(0) @binding(2) var<storage, read_write> workspace: array<u32>;
@group(0) @binding(3) var<storage, read_write> flags: array<atomic<u32>>;

var<workgroup> found: atomic<u32>; // flags of this row
var<workgroup> newest_token: atomic<i32>;

fn entry(table: u32, i: u32) -> i32 {
  return tables[table + i];
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

@compute @workgroup_size(64)
fn states(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = work_item(group, groups);
  if (row >= params.rows) { return; }
  var flag = 0u;
  var sequence = i32(row);
  if (params.row_sequence != none) { sequence = entry(params.row_sequence, row); }
  let s = u32(max(sequence, 0));
  var length = 0i;
  var pages = 0u; // where the sequence's pages are listed, or its first page
  if (sequence < 0 || s >= params.sequences) {
    flag = sequence_out_of_range;
  } else if (params.addressing == csr) {
    let first = entry(params.indptr, s);
    let end = entry(params.indptr, s + 1u);
    // Compared before they are subtracted: a difference may overflow.
    if (first < 0 || end < first || u32(end) > params.indices_count) {
      flag = length_out_of_range;
    } else if (end > first) {
      let last = entry(params.last_page_len, s);
      let full = u32(end - first) - 1u;
      if (last < 1 || u32(last) > page_tokens || full > params.max_tokens / page_tokens) {
        flag = length_out_of_range;
      } else {
        length = i32(full * page_tokens) + last;
        pages = params.indices + u32(first);
      }
    }
  } else {
    length = entry(params.lengths, s);
    if (params.addressing != dense_rows) {
      let room = params.pages_per_sequence;
      if (length > 0 && (u32(length) - 1u) / page_tokens >= room) { flag = length_out_of_range; }
      pages = s * room;
      if (params.addressing == block_table) { pages += params.block_table; }
    }
  }
  if (flag == 0u && (length < 0 || u32(length) > params.max_tokens)) { flag = length_out_of_range; }
  let listed = params.positions != none || params.always_visible != none;
  if (flag == 0u && listed && u32(length) > params.positions_stride) {
    flag = length_out_of_range;
  }
  if (flag != 0u) { length = 0; }

  // Every page that holds a token of the sequence, and the greatest position where they are listed.
  let has_positions = params.positions != none;
  let positions = params.positions + s * params.positions_stride;
  if (lane == 0u) {
    atomicStore(&found, flag);
    atomicStore(&newest_token, least);
  }
  workgroupBarrier();
  let count = u32(length);
  if (params.addressing != dense_rows) {
    for (var i = lane; i * page_tokens < count; i += 64u) {
      var page = i32(pages + i);
      if (params.addressing != paged) { page = entry(pages, i); }
      if (page < 0 || u32(page) >= params.pages) { atomicOr(&found, page_out_of_range); }
    }
  }
  if (has_positions && params.row_position == none) {
    for (var i = lane; i < count; i += 64u) { atomicMax(&newest_token, entry(positions, i)); }
  }
  workgroupBarrier();
  if (lane != 0u) { return; }

  let met = atomicLoad(&found);
  if (met != 0u) { length = 0; } // nothing of it is read
  if (met != 0u && params.flags != none) { atomicOr(&flags[params.flags], met); }
  var first_position = 0i;
  if (met == 0u && params.first_position != none) {
    first_position = entry(params.first_position, s);
  }
  var newest = first_position + length - 1;
  if (params.row_position != none) {
    newest = entry(params.row_position, row);
  } else if (has_positions) {
    newest = atomicLoad(&newest_token);
  }
  var oldest = least;
  if (params.window > 0u) {
    let back = i32(params.window - 1u);
    oldest = select(newest - back, least, newest < least + back);
  }
  // Where positions ascend, what is seen is one piece [begin, end).
  var begin = 0u;
  var end = u32(length);
  if (!listed) {
    let ahead = bitcast<u32>(newest) - bitcast<u32>(first_position);
    end = select(min(ahead, end - 1u) + 1u, 0u, end == 0u || newest < first_position);
    let behind = bitcast<u32>(oldest) - bitcast<u32>(first_position);
    begin = select(0u, min(behind, end), oldest > first_position);
  }
  let state = params.state + row * 8u;
  workspace[state] = select(s, none, met != 0u);
  workspace[state + 1u] = begin;
  workspace[state + 2u] = end;
  workspace[state + 3u] = bitcast<u32>(newest);
  workspace[state + 4u] = bitcast<u32>(oldest);
  workspace[state + 5u] = pages;
  workspace[state + 6u] = s * params.positions_stride;
  workspace[state + 7u] = bitcast<u32>(first_position);
}
`,
  queries: `
// Queries ready for dot products with decoded keys: multiplied by the dual of S where they are in
// the original basis, in float32 in the workspace, and behind each the constant q * mean.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  rotate: u32, // 1: original basis, 0: rotated
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  query: u32, // word of the workspace where queries begin
  q_dtype: u32, // 0: f32, 1: f16, 2: bf16
  q_offset: u32, // elements
  q_row_stride: u32, // elements
  q_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> workspace: array<u32>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// An element of the rows.
fn q_element(at: u32) -> f32 {
  if (params.q_dtype == dtype_f32) { return bitcast<f32>(q[at]); }
  let bits = (q[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.q_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

// ---- S, S^-T and S^-1 on the vector in workgroup memory; barriers stand around every step ----

var<workgroup> vector: array<f32, 128>;
var<workgroup> spare: array<f32, 128>;

// Bit i: coordinate i changes its sign.
const key_signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn key_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((key_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn key_butterflies(lane: u32) {
  for (var stride = 1u; stride < 128u; stride *= 2u) {
    for (var pair = lane; pair < 128u / 2u; pair += 64u) {
      let i = (pair / stride) * 2u * stride + pair % stride;
      let a = vector[i];
      let b = vector[i + stride];
      vector[i] = a + b;
      vector[i + stride] = a - b;
    }
    workgroupBarrier();
  }
}

// Multiplies with S (0), its dual S^-T (1) or its inverse (2).
fn rotate_vector(lane: u32, rotation: u32, kv_head: u32) {
  if (rotation != 2u) {
    for (var i = lane; i < 128u; i += 64u) { vector[i] = key_signed(i, vector[i]); }
    workgroupBarrier();
  }
  key_butterflies(lane);
  for (var i = lane; i < 128u; i += 64u) {
    let x = vector[i] * 0.088388346f;
    vector[i] = select(x, key_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

var<workgroup> products: array<f32, 64>;

@compute @workgroup_size(64)
fn queries(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let kv_head = q_head / params.heads_per_kv;
  let start = params.q_offset + row * params.q_row_stride + q_head * params.q_head_stride;
  let to = params.query + item * (128u + 1u);

  // The constant: q with the mean, both in the original basis or both rotated.
  var product = 0.0;
  if (params.mean != none) {
    for (var i = lane; i < 128u; i += 64u) {
      vector[i] = transforms[params.mean + kv_head * 128u + i];
    }
    workgroupBarrier();
    if (params.rotate == 0u) { rotate_vector(lane, 0u, kv_head); }
    for (var i = lane; i < 128u; i += 64u) {
      product = fma(q_element(start + i), vector[i], product);
    }
  }
  products[lane] = product;
  workgroupBarrier();

  for (var i = lane; i < 128u; i += 64u) { vector[i] = q_element(start + i); }
  workgroupBarrier();
  if (params.rotate != 0u) { rotate_vector(lane, 1u, kv_head); }
  for (var i = lane; i < 128u; i += 64u) { workspace[to + i] = bitcast<u32>(vector[i]); }
  if (lane == 0u) {
    var sum = 0.0;
    for (var i = 0u; i < 64u; i++) { sum += products[i]; }
    workspace[to + 128u] = bitcast<u32>(sum);
  }
}
`,
  scores: `
// Logits of one row's queries of a KV head against 64 packed tokens, a token a lane.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  strips: u32, // of 64 tokens, in max_tokens
  max_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  query: u32, // word of the workspace where queries begin
  scale: f32,
  softcap: f32, // 0: none
  key_offset: u32, // words
  key_page_stride: u32, // words
  key_head_stride: u32, // words
  key_unit_stride: u32, // words
  scores_offset: u32, // words
  scores_row_stride: u32, // words
  scores_head_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<i32>;
@group(0) @binding(3) var<storage, read> workspace: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.positions == none) { return true; }
  let position = tables[params.positions + sight.positions + token];
  return position <= sight.newest && position >= sight.oldest;
}

// 32 bits of two words from bit shift of the lower one on; shift is below 32.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(high << (32u - shift), 0u, shift == 0u);
}

// ---- Keys: 8 cells of 16 coordinates ----
//
// Keys: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// Level 1: cosine and sine, with their signs, of every code.
const key_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);

// Level 2: cosine and sine of every code.
const key_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);

// Level 3: cosine and sine of every code.
const key_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);

// Level 4: cosine and sine of every code.
const key_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);

// Coordinates under a radius of 1 at level 2:
// of four, the left two by their code and, in higher bits, the code of level 2;
// the right two by the code of level 2 and, in higher bits, their code.
var<workgroup> key_table_left: array<vec2<f32>, 64>;
var<workgroup> key_table_right: array<vec2<f32>, 64>;

// Radii at level 2 under a root of 1,
// by the two codes of level 3 and the code of level 4.
var<workgroup> key_table_joint: array<vec4<f32>, 64>;

// Every lane copies its share; a barrier must follow.
fn key_fill_tables(lane: u32) {
  for (var i = lane; i < 64u; i += 64u) {
    let left = key_directions_l2[i / 16u].x;
    let right = key_directions_l2[i % 4u].y;
    key_table_left[i] = left * key_directions_l1[i % 16u];
    key_table_right[i] = right * key_directions_l1[i / 4u];
  }
  for (var i = lane; i < 64u; i += 64u) {
    let root = key_directions_l4[i / 16u];
    let first = root.x * key_directions_l3[i % 4u];
    let second = root.y * key_directions_l3[(i / 4u) % 4u];
    key_table_joint[i] = vec4<f32>(vec4f(first, second));
  }
}

// At least 8 bits of the record at word unit from the given one on.
fn key_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (keys[at] >> shift) | select(keys[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn key_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return keys[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn key_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn key_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct key_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn key_decode(unit: u32, t: u32, cell: u32) -> key_cell {
  let codes_from = key_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = keys[codes_at];
  let codes_1 = keys[codes_at + 1u];

  var decoded: key_cell;
  var bad = false;
  let root_0 = key_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = key_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    key_table_left[(codes_0 >> 6u) & 63u],
    key_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    key_table_left[(codes_0 >> 16u) & 63u],
    key_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    key_table_left[(codes_1 >> 6u) & 63u],
    key_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    key_table_left[codes_0 >> 26u],
    key_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn key_base(sight: Sight, head: u32) -> u32 {
  return params.key_offset + head * params.key_head_stride;
}

// Word of the unit that holds a token.
fn key_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.key_page_stride +
    ((token % page_tokens) / 1u) * params.key_unit_stride;
}

// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (128u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 2u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 3u) + i]),
  );
}

var<workgroup> query: array<queries, 128>;

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn tanh_of(x: queries) -> queries {
  // WGSL's tanh may be off by 1e-5: by e^-2|x| where that is exact enough, else by its series.
  let e = exp(-2.0 * min(abs(x), queries(40.0)));
  let far = sign(x) * (queries(1.0) - e) / (queries(1.0) + e);
  let square = x * x;
  let near = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * -0.053968254)));
  return select(far, near, abs(x) < queries(0.25));
}

// scale * (q * k + constant), capped.
fn logits_of(product: queries, constants: queries) -> queries {
  let logit = params.scale * (product + constants);
  if (params.softcap == 0.0) { return logit; }
  return params.softcap * tanh_of(logit / params.softcap);
}

// Bit i: the logit of query i is not finite.
fn not_finite(x: queries) -> u32 {
  var bits = 0u;
  bits |= u32(!is_finite(x[0u])) << 0u;
  bits |= u32(!is_finite(x[1u])) << 1u;
  bits |= u32(!is_finite(x[2u])) << 2u;
  bits |= u32(!is_finite(x[3u])) << 3u;
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec4u(1u, 2u, 4u, 8u);
  return select(x, queries(0.0), (vec4u(lost) & bits) != vec4u(0u));
}

// Products of the workgroup's queries with the key of a token; bad where a radius is not finite.
fn key_products(
  unit: u32, t: u32,
  bad: ptr<function, bool>,
) -> queries {
  var sum = queries(0.0);
  for (var cell = 0u; cell < 8u; cell++) {
    let decoded = key_decode(unit, t, cell);
    let first = cell * 16u;
    var part_sum = queries(0.0);
    part_sum = fma(query[first], queries(decoded.parts[0].x), part_sum);
    part_sum = fma(query[first + 1u], queries(decoded.parts[0].y), part_sum);
    part_sum = fma(query[first + 2u], queries(decoded.parts[0].z), part_sum);
    part_sum = fma(query[first + 3u], queries(decoded.parts[0].w), part_sum);
    part_sum = fma(query[first + 4u], queries(decoded.parts[1].x), part_sum);
    part_sum = fma(query[first + 5u], queries(decoded.parts[1].y), part_sum);
    part_sum = fma(query[first + 6u], queries(decoded.parts[1].z), part_sum);
    part_sum = fma(query[first + 7u], queries(decoded.parts[1].w), part_sum);
    part_sum = fma(query[first + 8u], queries(decoded.parts[2].x), part_sum);
    part_sum = fma(query[first + 9u], queries(decoded.parts[2].y), part_sum);
    part_sum = fma(query[first + 10u], queries(decoded.parts[2].z), part_sum);
    part_sum = fma(query[first + 11u], queries(decoded.parts[2].w), part_sum);
    part_sum = fma(query[first + 12u], queries(decoded.parts[3].x), part_sum);
    part_sum = fma(query[first + 13u], queries(decoded.parts[3].y), part_sum);
    part_sum = fma(query[first + 14u], queries(decoded.parts[3].z), part_sum);
    part_sum = fma(query[first + 15u], queries(decoded.parts[3].w), part_sum);
    sum = fma(queries(decoded.radius), part_sum, sum);
    *bad |= decoded.bad != 0u;
  }
  return sum;
}

@compute @workgroup_size(64)
fn score_tokens(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let strip = item % params.strips;
  let part = (item / params.strips) % group_parts;
  let head = (item / params.strips / group_parts) % params.kv_heads;
  let row = item / params.strips / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  key_fill_tables(lane);
  for (var i = lane; i < 128u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 128u);
  workgroupBarrier();

  let token = strip * 64u + lane;
  if (token >= params.max_tokens) { return; }
  var logit = queries(0.0);
  var lost = select(0u, 15u, sight.sequence == none);
  var seen = lost != 0u;
  if (token >= sight.begin && token < sight.end && sees(sight, token)) {
    seen = true;
    let base = key_base(sight, head);
    var bad = false;
    let unit = key_unit(sight, base, token);
    let t = token % 1u;
    let product = key_products(unit, t, &bad);
    logit = logits_of(product, constants);
    lost = select(not_finite(logit), 15u, bad);
  }
  let count = min(group_width, group - part * group_width);
  let q_head = head * group + part * group_width;
  for (var query_index = 0u; query_index < count; query_index++) {
    let at = params.scores_offset + row * params.scores_row_stride +
      (q_head + query_index) * params.scores_head_stride + token;
    let is_lost = ((lost >> query_index) & 1u) != 0u;
    let bits = select(bitcast<u32>(query_of(logit, query_index)), nan_bits, is_lost);
    scores[at] = select(minus_infinity_bits, bits, seen);
  }
}
`,
  weighted_sum: `
// Sums of packed values by given weights: one row's queries of a KV head over one split of a
// sequence. Partial results go to the workspace.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  splits: u32, // of a sequence
  split_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  partial: u32, // word of the workspace where partial results begin
  value_offset: u32, // words
  value_page_stride: u32, // words
  value_head_stride: u32, // words
  value_unit_stride: u32, // words
  weights_offset: u32, // words
  weights_row_stride: u32, // words
  weights_head_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const chunk = 256u; // tokens whose weights are in workgroup memory

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<i32>;
@group(0) @binding(3) var<storage, read> given: array<f32>;
@group(0) @binding(4) var<storage, read_write> workspace: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.positions == none) { return true; }
  let position = tables[params.positions + sight.positions + token];
  return position <= sight.newest && position >= sight.oldest;
}

// 32 bits of two words from bit shift of the lower one on; shift is below 32.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(high << (32u - shift), 0u, shift == 0u);
}

// ---- Values: 8 cells of 16 coordinates ----
//
// Values: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// Level 1: cosine and sine, with their signs, of every code.
const value_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);

// Level 2: cosine and sine of every code.
const value_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);

// Level 3: cosine and sine of every code.
const value_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);

// Level 4: cosine and sine of every code.
const value_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);

// Coordinates under a radius of 1 at level 2:
// of four, the left two by their code and, in higher bits, the code of level 2;
// the right two by the code of level 2 and, in higher bits, their code.
var<workgroup> value_table_left: array<vec2<f32>, 64>;
var<workgroup> value_table_right: array<vec2<f32>, 64>;

// Radii at level 2 under a root of 1,
// by the two codes of level 3 and the code of level 4.
var<workgroup> value_table_joint: array<vec4<f32>, 64>;

// Every lane copies its share; a barrier must follow.
fn value_fill_tables(lane: u32) {
  for (var i = lane; i < 64u; i += 64u) {
    let left = value_directions_l2[i / 16u].x;
    let right = value_directions_l2[i % 4u].y;
    value_table_left[i] = left * value_directions_l1[i % 16u];
    value_table_right[i] = right * value_directions_l1[i / 4u];
  }
  for (var i = lane; i < 64u; i += 64u) {
    let root = value_directions_l4[i / 16u];
    let first = root.x * value_directions_l3[i % 4u];
    let second = root.y * value_directions_l3[(i / 4u) % 4u];
    value_table_joint[i] = vec4<f32>(vec4f(first, second));
  }
}

// At least 8 bits of the record at word unit from the given one on.
fn value_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (values[at] >> shift) | select(values[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn value_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return values[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn value_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn value_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct value_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn value_decode(unit: u32, t: u32, cell: u32) -> value_cell {
  let codes_from = value_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = values[codes_at];
  let codes_1 = values[codes_at + 1u];

  var decoded: value_cell;
  var bad = false;
  let root_0 = value_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = value_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    value_table_left[(codes_0 >> 6u) & 63u],
    value_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    value_table_left[(codes_0 >> 16u) & 63u],
    value_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    value_table_left[(codes_1 >> 6u) & 63u],
    value_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    value_table_left[codes_0 >> 26u],
    value_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn value_base(sight: Sight, head: u32) -> u32 {
  return params.value_offset + head * params.value_head_stride;
}

// Word of the unit that holds a token.
fn value_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.value_page_stride +
    ((token % page_tokens) / 1u) * params.value_unit_stride;
}

// ---- Over all lanes, the result in every lane ----

var<workgroup> reduced: array<queries, 64>;

struct Lanes {
  lane: u32,
}

fn number_lanes(lane: u32) -> Lanes {
  return Lanes(lane);
}

// Eight lanes reduce eight entries each, then every lane the eight results.
fn reduce_max(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part = max(part, reduced[lanes.lane + i]); }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result = max(result, reduced[i]); }
  workgroupBarrier();
  return result;
}

fn reduce_add(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part += reduced[lanes.lane + i]; }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result += reduced[i]; }
  workgroupBarrier();
  return result;
}

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 8th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 8>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 8u;
const slots = 8u;

// Of a lane: 1 x 16 coordinates.
alias value_sums = array<queries, 16>;

fn prepare_sum(lane: u32) {
  for (var cell = lane; cell < cells; cell += 64u) { atomicStore(&lost_blocks[cell], 0u); }
  if (lane == 0u) { atomicStore(&lost_queries, 0u); }
}

fn scale_sums(sums: ptr<function, value_sums>, factor: queries) {
  (*sums)[0] *= factor;
  (*sums)[1] *= factor;
  (*sums)[2] *= factor;
  (*sums)[3] *= factor;
  (*sums)[4] *= factor;
  (*sums)[5] *= factor;
  (*sums)[6] *= factor;
  (*sums)[7] *= factor;
  (*sums)[8] *= factor;
  (*sums)[9] *= factor;
  (*sums)[10] *= factor;
  (*sums)[11] *= factor;
  (*sums)[12] *= factor;
  (*sums)[13] *= factor;
  (*sums)[14] *= factor;
  (*sums)[15] *= factor;
}

fn add_values(
  sums: ptr<function, value_sums>, sight: Sight, head: u32, begin: u32, count: u32, lane: u32,
) {
  let base = value_base(sight, head);
  let slot = lane / cells;
  let cell = lane % cells;
  if (slot < slots) {
    var lost = 0u;
    for (var j = slot; j < count; j += slots) {
      let weight = weights[j];
      let token = begin + j;
      let unit = value_unit(sight, base, token);
      let decoded = value_decode(unit, token % 1u, cell);
      let scaled = weight * decoded.radius;
      (*sums)[0] = fma(scaled, queries(decoded.parts[0].x), (*sums)[0]);
      (*sums)[1] = fma(scaled, queries(decoded.parts[0].y), (*sums)[1]);
      (*sums)[2] = fma(scaled, queries(decoded.parts[0].z), (*sums)[2]);
      (*sums)[3] = fma(scaled, queries(decoded.parts[0].w), (*sums)[3]);
      (*sums)[4] = fma(scaled, queries(decoded.parts[1].x), (*sums)[4]);
      (*sums)[5] = fma(scaled, queries(decoded.parts[1].y), (*sums)[5]);
      (*sums)[6] = fma(scaled, queries(decoded.parts[1].z), (*sums)[6]);
      (*sums)[7] = fma(scaled, queries(decoded.parts[1].w), (*sums)[7]);
      (*sums)[8] = fma(scaled, queries(decoded.parts[2].x), (*sums)[8]);
      (*sums)[9] = fma(scaled, queries(decoded.parts[2].y), (*sums)[9]);
      (*sums)[10] = fma(scaled, queries(decoded.parts[2].z), (*sums)[10]);
      (*sums)[11] = fma(scaled, queries(decoded.parts[2].w), (*sums)[11]);
      (*sums)[12] = fma(scaled, queries(decoded.parts[3].x), (*sums)[12]);
      (*sums)[13] = fma(scaled, queries(decoded.parts[3].y), (*sums)[13]);
      (*sums)[14] = fma(scaled, queries(decoded.parts[3].z), (*sums)[14]);
      (*sums)[15] = fma(scaled, queries(decoded.parts[3].w), (*sums)[15]);
      lost |= decoded.bad;
    }
    if (lost != 0u) { atomicOr(&lost_blocks[cell], lost); }
  }
}

// Writes the split's partial result, slots added; weights is used up.
fn write_sums(
  sums: ptr<function, value_sums>, lane: u32, row: u32, head: u32, part: u32, split: u32,
  top: queries, total: queries,
) {
  let size = 128u + 3u;
  let q_head = (row * params.kv_heads + head) * group + part * group_width;
  let to = params.partial + (q_head * params.splits + split) * size;
  let next = params.splits * size; // from query to query
  let count = min(group_width, group - part * group_width);
  workgroupBarrier();
  // Coordinates 0 to 3 of every cell.
  weights[lane] = (*sums)[0];
  weights[lane + 64u] = (*sums)[1];
  weights[lane + 128u] = (*sums)[2];
  weights[lane + 192u] = (*sums)[3];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round, sum);
  }
  workgroupBarrier();
  // Coordinates 4 to 7 of every cell.
  weights[lane] = (*sums)[4];
  weights[lane + 64u] = (*sums)[5];
  weights[lane + 128u] = (*sums)[6];
  weights[lane + 192u] = (*sums)[7];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 4u, sum);
  }
  workgroupBarrier();
  // Coordinates 8 to 11 of every cell.
  weights[lane] = (*sums)[8];
  weights[lane + 64u] = (*sums)[9];
  weights[lane + 128u] = (*sums)[10];
  weights[lane + 192u] = (*sums)[11];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 8u, sum);
  }
  workgroupBarrier();
  // Coordinates 12 to 15 of every cell.
  weights[lane] = (*sums)[12];
  weights[lane + 64u] = (*sums)[13];
  weights[lane + 128u] = (*sums)[14];
  weights[lane + 192u] = (*sums)[15];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 12u, sum);
  }
  workgroupBarrier();
  if (lane < count) {
    let mass = query_of(total, lane);
    var state = select(split_seen, split_unseen, false);
    if ((atomicLoad(&lost_queries) & (1u << lane)) != 0u) { state = split_nan; }
    workspace[to + lane * next] = state;
    workspace[to + lane * next + 1u] = bitcast<u32>(query_of(top, lane));
    workspace[to + lane * next + 2u] = bitcast<u32>(mass);
  }
}

fn write_coordinate(to: u32, next: u32, count: u32, cell: u32, i: u32, sum: queries) {
  let lost = (atomicLoad(&lost_blocks[cell]) >> (i >> 4u)) & 1u;
  for (var query = 0u; query < count; query++) {
    workspace[to + query * next + 3u + cell * 16u + i] =
      select(bitcast<u32>(query_of(sum, query)), nan_bits, lost != 0u);
  }
}

// Weight of a token for query i of this workgroup; beyond the group the last one stands in.
fn given_weight(row: u32, head: u32, part: u32, i: u32, token: u32) -> f32 {
  let q_head = head * group + min(part * group_width + i, group - 1u);
  return given[params.weights_offset + row * params.weights_row_stride +
    q_head * params.weights_head_stride + token];
}

@compute @workgroup_size(64)
fn weighted_sum(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let split = item % params.splits;
  let part = (item / params.splits) % group_parts;
  let head = (item / params.splits / group_parts) % params.kv_heads;
  let row = item / params.splits / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  let start = split * params.split_tokens;
  let end = min(sight.end, start + params.split_tokens);
  let lanes = number_lanes(lane);
  prepare_sum(lane);
  value_fill_tables(lane);
  workgroupBarrier();

  var mass = queries(0.0); // this lane's share of the sum of weights
  var sums: value_sums;
  for (var begin = start; begin < end; begin += chunk) {
    let count = min(chunk, end - begin);
    for (var j = lane; j < count; j += 64u) {
      let weight = queries(
        given_weight(row, head, part, 0u, begin + j),
        given_weight(row, head, part, 1u, begin + j),
        given_weight(row, head, part, 2u, begin + j),
        given_weight(row, head, part, 3u, begin + j),
      );
      weights[j] = weight;
      mass += weight;
    }
    workgroupBarrier();
    add_values(&sums, sight, head, begin, count, lane);
    workgroupBarrier();
  }
  let total = reduce_add(lanes, mass);
  write_sums(&sums, lane, row, head, part, split, queries(0.0), total);
}
`,
  attend: `
// Softmax attention of one row's queries of a KV head over one split of a sequence's packed
// tokens, 256 at a time: lanes are tokens for the logits, then 8 tokens times cells of
// 16 coordinates for the weighted sum. Partial results go to the workspace.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  splits: u32, // of a sequence
  split_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  query: u32, // word of the workspace where queries begin
  scale: f32,
  softcap: f32, // 0: none
  partial: u32, // word of the workspace where partial results begin
  key_offset: u32, // words
  key_page_stride: u32, // words
  key_head_stride: u32, // words
  key_unit_stride: u32, // words
  value_offset: u32, // words
  value_page_stride: u32, // words
  value_head_stride: u32, // words
  value_unit_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const chunk = 256u; // tokens whose weights are in workgroup memory

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<i32>;
@group(0) @binding(4) var<storage, read_write> workspace: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.positions == none) { return true; }
  let position = tables[params.positions + sight.positions + token];
  return position <= sight.newest && position >= sight.oldest;
}

// 32 bits of two words from bit shift of the lower one on; shift is below 32.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(high << (32u - shift), 0u, shift == 0u);
}

// ---- Keys: 8 cells of 16 coordinates ----
//
// Keys: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// Level 1: cosine and sine, with their signs, of every code.
const codec_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);

// Level 2: cosine and sine of every code.
const codec_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);

// Level 3: cosine and sine of every code.
const codec_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);

// Level 4: cosine and sine of every code.
const codec_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);

// Coordinates under a radius of 1 at level 2:
// of four, the left two by their code and, in higher bits, the code of level 2;
// the right two by the code of level 2 and, in higher bits, their code.
var<workgroup> codec_table_left: array<vec2<f32>, 64>;
var<workgroup> codec_table_right: array<vec2<f32>, 64>;

// Radii at level 2 under a root of 1,
// by the two codes of level 3 and the code of level 4.
var<workgroup> codec_table_joint: array<vec4<f32>, 64>;

// Every lane copies its share; a barrier must follow.
fn codec_fill_tables(lane: u32) {
  for (var i = lane; i < 64u; i += 64u) {
    let left = codec_directions_l2[i / 16u].x;
    let right = codec_directions_l2[i % 4u].y;
    codec_table_left[i] = left * codec_directions_l1[i % 16u];
    codec_table_right[i] = right * codec_directions_l1[i / 4u];
  }
  for (var i = lane; i < 64u; i += 64u) {
    let root = codec_directions_l4[i / 16u];
    let first = root.x * codec_directions_l3[i % 4u];
    let second = root.y * codec_directions_l3[(i / 4u) % 4u];
    codec_table_joint[i] = vec4<f32>(vec4f(first, second));
  }
}

// At least 8 bits of the record at word unit from the given one on.
fn key_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (keys[at] >> shift) | select(keys[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn key_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return keys[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn key_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn key_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct key_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn key_decode(unit: u32, t: u32, cell: u32) -> key_cell {
  let codes_from = key_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = keys[codes_at];
  let codes_1 = keys[codes_at + 1u];

  var decoded: key_cell;
  var bad = false;
  let root_0 = key_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = codec_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    codec_table_left[(codes_0 >> 6u) & 63u],
    codec_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    codec_table_left[(codes_0 >> 16u) & 63u],
    codec_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    codec_table_left[(codes_1 >> 6u) & 63u],
    codec_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    codec_table_left[codes_0 >> 26u],
    codec_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn key_base(sight: Sight, head: u32) -> u32 {
  return params.key_offset + head * params.key_head_stride;
}

// Word of the unit that holds a token.
fn key_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.key_page_stride +
    ((token % page_tokens) / 1u) * params.key_unit_stride;
}

// ---- Values: 8 cells of 16 coordinates ----
//
// Values: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// At least 8 bits of the record at word unit from the given one on.
fn value_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (values[at] >> shift) | select(values[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn value_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return values[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn value_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn value_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct value_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn value_decode(unit: u32, t: u32, cell: u32) -> value_cell {
  let codes_from = value_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = values[codes_at];
  let codes_1 = values[codes_at + 1u];

  var decoded: value_cell;
  var bad = false;
  let root_0 = value_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = codec_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    codec_table_left[(codes_0 >> 6u) & 63u],
    codec_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    codec_table_left[(codes_0 >> 16u) & 63u],
    codec_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    codec_table_left[(codes_1 >> 6u) & 63u],
    codec_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    codec_table_left[codes_0 >> 26u],
    codec_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn value_base(sight: Sight, head: u32) -> u32 {
  return params.value_offset + head * params.value_head_stride;
}

// Word of the unit that holds a token.
fn value_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.value_page_stride +
    ((token % page_tokens) / 1u) * params.value_unit_stride;
}

// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (128u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 2u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 3u) + i]),
  );
}

var<workgroup> query: array<queries, 128>;

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn tanh_of(x: queries) -> queries {
  // WGSL's tanh may be off by 1e-5: by e^-2|x| where that is exact enough, else by its series.
  let e = exp(-2.0 * min(abs(x), queries(40.0)));
  let far = sign(x) * (queries(1.0) - e) / (queries(1.0) + e);
  let square = x * x;
  let near = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * -0.053968254)));
  return select(far, near, abs(x) < queries(0.25));
}

// scale * (q * k + constant), capped.
fn logits_of(product: queries, constants: queries) -> queries {
  let logit = params.scale * (product + constants);
  if (params.softcap == 0.0) { return logit; }
  return params.softcap * tanh_of(logit / params.softcap);
}

// Bit i: the logit of query i is not finite.
fn not_finite(x: queries) -> u32 {
  var bits = 0u;
  bits |= u32(!is_finite(x[0u])) << 0u;
  bits |= u32(!is_finite(x[1u])) << 1u;
  bits |= u32(!is_finite(x[2u])) << 2u;
  bits |= u32(!is_finite(x[3u])) << 3u;
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec4u(1u, 2u, 4u, 8u);
  return select(x, queries(0.0), (vec4u(lost) & bits) != vec4u(0u));
}

// Products of the workgroup's queries with the key of a token; bad where a radius is not finite.
fn key_products(
  unit: u32, t: u32,
  bad: ptr<function, bool>,
) -> queries {
  var sum = queries(0.0);
  for (var cell = 0u; cell < 8u; cell++) {
    let decoded = key_decode(unit, t, cell);
    let first = cell * 16u;
    var part_sum = queries(0.0);
    part_sum = fma(query[first], queries(decoded.parts[0].x), part_sum);
    part_sum = fma(query[first + 1u], queries(decoded.parts[0].y), part_sum);
    part_sum = fma(query[first + 2u], queries(decoded.parts[0].z), part_sum);
    part_sum = fma(query[first + 3u], queries(decoded.parts[0].w), part_sum);
    part_sum = fma(query[first + 4u], queries(decoded.parts[1].x), part_sum);
    part_sum = fma(query[first + 5u], queries(decoded.parts[1].y), part_sum);
    part_sum = fma(query[first + 6u], queries(decoded.parts[1].z), part_sum);
    part_sum = fma(query[first + 7u], queries(decoded.parts[1].w), part_sum);
    part_sum = fma(query[first + 8u], queries(decoded.parts[2].x), part_sum);
    part_sum = fma(query[first + 9u], queries(decoded.parts[2].y), part_sum);
    part_sum = fma(query[first + 10u], queries(decoded.parts[2].z), part_sum);
    part_sum = fma(query[first + 11u], queries(decoded.parts[2].w), part_sum);
    part_sum = fma(query[first + 12u], queries(decoded.parts[3].x), part_sum);
    part_sum = fma(query[first + 13u], queries(decoded.parts[3].y), part_sum);
    part_sum = fma(query[first + 14u], queries(decoded.parts[3].z), part_sum);
    part_sum = fma(query[first + 15u], queries(decoded.parts[3].w), part_sum);
    sum = fma(queries(decoded.radius), part_sum, sum);
    *bad |= decoded.bad != 0u;
  }
  return sum;
}

// ---- Over all lanes, the result in every lane ----

var<workgroup> reduced: array<queries, 64>;

struct Lanes {
  lane: u32,
}

fn number_lanes(lane: u32) -> Lanes {
  return Lanes(lane);
}

// Eight lanes reduce eight entries each, then every lane the eight results.
fn reduce_max(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part = max(part, reduced[lanes.lane + i]); }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result = max(result, reduced[i]); }
  workgroupBarrier();
  return result;
}

fn reduce_add(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part += reduced[lanes.lane + i]; }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result += reduced[i]; }
  workgroupBarrier();
  return result;
}

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 8th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 8>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 8u;
const slots = 8u;

// Of a lane: 1 x 16 coordinates.
alias value_sums = array<queries, 16>;

fn prepare_sum(lane: u32) {
  for (var cell = lane; cell < cells; cell += 64u) { atomicStore(&lost_blocks[cell], 0u); }
  if (lane == 0u) { atomicStore(&lost_queries, 0u); }
}

fn scale_sums(sums: ptr<function, value_sums>, factor: queries) {
  (*sums)[0] *= factor;
  (*sums)[1] *= factor;
  (*sums)[2] *= factor;
  (*sums)[3] *= factor;
  (*sums)[4] *= factor;
  (*sums)[5] *= factor;
  (*sums)[6] *= factor;
  (*sums)[7] *= factor;
  (*sums)[8] *= factor;
  (*sums)[9] *= factor;
  (*sums)[10] *= factor;
  (*sums)[11] *= factor;
  (*sums)[12] *= factor;
  (*sums)[13] *= factor;
  (*sums)[14] *= factor;
  (*sums)[15] *= factor;
}

fn add_values(
  sums: ptr<function, value_sums>, sight: Sight, head: u32, begin: u32, count: u32, lane: u32,
) {
  let base = value_base(sight, head);
  let slot = lane / cells;
  let cell = lane % cells;
  if (slot < slots) {
    var lost = 0u;
    for (var j = slot; j < count; j += slots) {
      let weight = weights[j];
      if (weight.x < 0.0) { continue; } // not seen
      let token = begin + j;
      let unit = value_unit(sight, base, token);
      let decoded = value_decode(unit, token % 1u, cell);
      let scaled = weight * decoded.radius;
      (*sums)[0] = fma(scaled, queries(decoded.parts[0].x), (*sums)[0]);
      (*sums)[1] = fma(scaled, queries(decoded.parts[0].y), (*sums)[1]);
      (*sums)[2] = fma(scaled, queries(decoded.parts[0].z), (*sums)[2]);
      (*sums)[3] = fma(scaled, queries(decoded.parts[0].w), (*sums)[3]);
      (*sums)[4] = fma(scaled, queries(decoded.parts[1].x), (*sums)[4]);
      (*sums)[5] = fma(scaled, queries(decoded.parts[1].y), (*sums)[5]);
      (*sums)[6] = fma(scaled, queries(decoded.parts[1].z), (*sums)[6]);
      (*sums)[7] = fma(scaled, queries(decoded.parts[1].w), (*sums)[7]);
      (*sums)[8] = fma(scaled, queries(decoded.parts[2].x), (*sums)[8]);
      (*sums)[9] = fma(scaled, queries(decoded.parts[2].y), (*sums)[9]);
      (*sums)[10] = fma(scaled, queries(decoded.parts[2].z), (*sums)[10]);
      (*sums)[11] = fma(scaled, queries(decoded.parts[2].w), (*sums)[11]);
      (*sums)[12] = fma(scaled, queries(decoded.parts[3].x), (*sums)[12]);
      (*sums)[13] = fma(scaled, queries(decoded.parts[3].y), (*sums)[13]);
      (*sums)[14] = fma(scaled, queries(decoded.parts[3].z), (*sums)[14]);
      (*sums)[15] = fma(scaled, queries(decoded.parts[3].w), (*sums)[15]);
      lost |= decoded.bad;
    }
    if (lost != 0u) { atomicOr(&lost_blocks[cell], lost); }
  }
}

// Writes the split's partial result, slots added; weights is used up.
fn write_sums(
  sums: ptr<function, value_sums>, lane: u32, row: u32, head: u32, part: u32, split: u32,
  top: queries, total: queries,
) {
  let size = 128u + 3u;
  let q_head = (row * params.kv_heads + head) * group + part * group_width;
  let to = params.partial + (q_head * params.splits + split) * size;
  let next = params.splits * size; // from query to query
  let count = min(group_width, group - part * group_width);
  workgroupBarrier();
  // Coordinates 0 to 3 of every cell.
  weights[lane] = (*sums)[0];
  weights[lane + 64u] = (*sums)[1];
  weights[lane + 128u] = (*sums)[2];
  weights[lane + 192u] = (*sums)[3];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round, sum);
  }
  workgroupBarrier();
  // Coordinates 4 to 7 of every cell.
  weights[lane] = (*sums)[4];
  weights[lane + 64u] = (*sums)[5];
  weights[lane + 128u] = (*sums)[6];
  weights[lane + 192u] = (*sums)[7];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 4u, sum);
  }
  workgroupBarrier();
  // Coordinates 8 to 11 of every cell.
  weights[lane] = (*sums)[8];
  weights[lane + 64u] = (*sums)[9];
  weights[lane + 128u] = (*sums)[10];
  weights[lane + 192u] = (*sums)[11];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 8u, sum);
  }
  workgroupBarrier();
  // Coordinates 12 to 15 of every cell.
  weights[lane] = (*sums)[12];
  weights[lane + 64u] = (*sums)[13];
  weights[lane + 128u] = (*sums)[14];
  weights[lane + 192u] = (*sums)[15];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 12u, sum);
  }
  workgroupBarrier();
  if (lane < count) {
    let mass = query_of(total, lane);
    var state = select(split_seen, split_unseen, mass == 0.0);
    if ((atomicLoad(&lost_queries) & (1u << lane)) != 0u) { state = split_nan; }
    workspace[to + lane * next] = state;
    workspace[to + lane * next + 1u] = bitcast<u32>(query_of(top, lane));
    workspace[to + lane * next + 2u] = bitcast<u32>(mass);
  }
}

fn write_coordinate(to: u32, next: u32, count: u32, cell: u32, i: u32, sum: queries) {
  let lost = (atomicLoad(&lost_blocks[cell]) >> (i >> 4u)) & 1u;
  for (var query = 0u; query < count; query++) {
    workspace[to + query * next + 3u + cell * 16u + i] =
      select(bitcast<u32>(query_of(sum, query)), nan_bits, lost != 0u);
  }
}

@compute @workgroup_size(64)
fn attend(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let split = item % params.splits;
  let part = (item / params.splits) % group_parts;
  let head = (item / params.splits / group_parts) % params.kv_heads;
  let row = item / params.splits / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  let start = split * params.split_tokens;
  let first = max(sight.begin, start);
  let end = min(sight.end, start + params.split_tokens);
  let lanes = number_lanes(lane);
  prepare_sum(lane);
  codec_fill_tables(lane);
  for (var i = lane; i < 128u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 128u);
  workgroupBarrier();

  let base = key_base(sight, head);
  var top = queries(least_exponent); // of the logits so far, in powers of two
  var mass = queries(0.0); // this lane's share of the sum of weights
  var bad_queries = 0u;
  var sums: value_sums;
  for (var begin = start + (first - start) / chunk * chunk; begin < end; begin += chunk) {
    // Logits: a lane takes every 64th token.
    let count = min(chunk, end - begin);
    var highest = queries(least_exponent);
    for (var j = lane; j < chunk; j += 64u) {
      let token = begin + j;
      var logit = queries(least_exponent);
      if (token >= first && j < count && sees(sight, token)) {
        let unit = key_unit(sight, base, token);
        let t = token % 1u;
        var bad = false;
        let product = key_products(unit, t, &bad);
        logit = logits_of(product, constants);
        let lost = select(not_finite(logit), 15u, bad);
        bad_queries |= lost;
        logit = finite_or_zero(logit, lost) * 1.4426950408889634;
        logit = clamp(logit, queries(-1e38), queries(1e38));
      }
      weights[j] = logit;
      highest = max(highest, logit);
    }
    highest = max(top, reduce_max(lanes, highest));
    let shrink = exp2(max(top - highest, queries(-150.0)));
    top = highest;
    mass *= shrink;
    scale_sums(&sums, shrink);

    // Weights; of a token that is not seen less than zero.
    for (var j = lane; j < chunk; j += 64u) {
      let logit = weights[j];
      let seen = logit.x > least_exponent;
      let weight = exp2(max(logit - top, queries(-150.0)));
      weights[j] = select(queries(-1.0), weight, seen);
      mass += select(queries(0.0), weight, seen);
    }
    workgroupBarrier();
    add_values(&sums, sight, head, begin, count, lane);
    workgroupBarrier();
  }

  let total = reduce_add(lanes, mass);
  if (bad_queries != 0u) { atomicOr(&lost_queries, bad_queries); }
  write_sums(&sums, lane, row, head, part, split, top, total);
}
`,
  attend_subgroups: `
enable subgroups;
// Softmax attention of one row's queries of a KV head over one split of a sequence's packed
// tokens, 256 at a time: lanes are tokens for the logits, then 8 tokens times cells of
// 16 coordinates for the weighted sum. Partial results go to the workspace.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  splits: u32, // of a sequence
  split_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  query: u32, // word of the workspace where queries begin
  scale: f32,
  softcap: f32, // 0: none
  partial: u32, // word of the workspace where partial results begin
  key_offset: u32, // words
  key_page_stride: u32, // words
  key_head_stride: u32, // words
  key_unit_stride: u32, // words
  value_offset: u32, // words
  value_page_stride: u32, // words
  value_head_stride: u32, // words
  value_unit_stride: u32, // words
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const page_tokens = 64u;
const chunk = 256u; // tokens whose weights are in workgroup memory

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<i32>;
@group(0) @binding(4) var<storage, read_write> workspace: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.positions == none) { return true; }
  let position = tables[params.positions + sight.positions + token];
  return position <= sight.newest && position >= sight.oldest;
}

// 32 bits of two words from bit shift of the lower one on; shift is below 32.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
  return (low >> shift) | select(high << (32u - shift), 0u, shift == 0u);
}

// ---- Keys: 8 cells of 16 coordinates ----
//
// Keys: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// Level 1: cosine and sine, with their signs, of every code.
const codec_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);

// Level 2: cosine and sine of every code.
const codec_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);

// Level 3: cosine and sine of every code.
const codec_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);

// Level 4: cosine and sine of every code.
const codec_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);

// Coordinates under a radius of 1 at level 2:
// of four, the left two by their code and, in higher bits, the code of level 2;
// the right two by the code of level 2 and, in higher bits, their code.
var<workgroup> codec_table_left: array<vec2<f32>, 64>;
var<workgroup> codec_table_right: array<vec2<f32>, 64>;

// Radii at level 2 under a root of 1,
// by the two codes of level 3 and the code of level 4.
var<workgroup> codec_table_joint: array<vec4<f32>, 64>;

// Every lane copies its share; a barrier must follow.
fn codec_fill_tables(lane: u32) {
  for (var i = lane; i < 64u; i += 64u) {
    let left = codec_directions_l2[i / 16u].x;
    let right = codec_directions_l2[i % 4u].y;
    codec_table_left[i] = left * codec_directions_l1[i % 16u];
    codec_table_right[i] = right * codec_directions_l1[i / 4u];
  }
  for (var i = lane; i < 64u; i += 64u) {
    let root = codec_directions_l4[i / 16u];
    let first = root.x * codec_directions_l3[i % 4u];
    let second = root.y * codec_directions_l3[(i / 4u) % 4u];
    codec_table_joint[i] = vec4<f32>(vec4f(first, second));
  }
}

// At least 8 bits of the record at word unit from the given one on.
fn key_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (keys[at] >> shift) | select(keys[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn key_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return keys[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn key_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn key_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct key_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn key_decode(unit: u32, t: u32, cell: u32) -> key_cell {
  let codes_from = key_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = keys[codes_at];
  let codes_1 = keys[codes_at + 1u];

  var decoded: key_cell;
  var bad = false;
  let root_0 = key_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = codec_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    codec_table_left[(codes_0 >> 6u) & 63u],
    codec_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    codec_table_left[(codes_0 >> 16u) & 63u],
    codec_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    codec_table_left[(codes_1 >> 6u) & 63u],
    codec_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    codec_table_left[codes_0 >> 26u],
    codec_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn key_base(sight: Sight, head: u32) -> u32 {
  return params.key_offset + head * params.key_head_stride;
}

// Word of the unit that holds a token.
fn key_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.key_page_stride +
    ((token % page_tokens) / 1u) * params.key_unit_stride;
}

// ---- Values: 8 cells of 16 coordinates ----
//
// Values: Hadamard rotation;
// a record of 64 bytes a token; 8 radii, each of 16 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       8 x 16     48, 112 ... 496             f16
//   code_l1     64 x 4      6, 12, 16 ... 448           signs, angle in the quadrant
//   code_l2     32 x 2      10, 20, 42 ... 478          angle of nodes 2j and 2j+1
//   code_l3     16 x 2      32, 34, 96 ... 482          angle of nodes 2j and 2j+1
//   code_l4      8 x 2      36, 100 ... 484             angle of nodes 2j and 2j+1
// Least significant bit first; bits without a field are zero.

// At least 8 bits of the record at word unit from the given one on.
fn value_field(unit: u32, t: u32, bit: u32) -> u32 {
  let at = unit + (bit >> 5u);
  let shift = bit & 31u;
  return (values[at] >> shift) | select(values[at + 1u] << (32u - shift), 0u, shift == 0u);
}

// Bits of a record from the given one to the end of its word.
fn value_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return values[unit + (bit >> 5u)] >> (bit & 31u);
}

// A stored radius; bad where it is not finite.
fn value_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn value_codes_bit(i: u32) -> u32 {
  return 64u * i;
}

// 16 coordinates: radius times the parts.
struct value_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn value_decode(unit: u32, t: u32, cell: u32) -> value_cell {
  let codes_from = value_codes_bit(cell);
  let codes_at = unit + (codes_from >> 5u);
  let codes_0 = values[codes_at];
  let codes_1 = values[codes_at + 1u];

  var decoded: value_cell;
  var bad = false;
  let root_0 = value_radius(codes_1 >> 16u, &bad);
  decoded.bad |= select(0u, 1u, bad);
  decoded.radius = root_0;
  let radii_l2 = codec_table_joint[codes_1 & 63u];
  let radius_l2_0 = radii_l2.x;
  let radius_l2_1 = radii_l2.y;
  let radius_l2_2 = radii_l2.z;
  let radius_l2_3 = radii_l2.w;
  let pair_0 = vec4<f32>(
    codec_table_left[(codes_0 >> 6u) & 63u],
    codec_table_right[(codes_0 >> 10u) & 63u]);
  decoded.parts[0] = vec4f(pair_0 * radius_l2_0);
  let pair_1 = vec4<f32>(
    codec_table_left[(codes_0 >> 16u) & 63u],
    codec_table_right[(codes_0 >> 20u) & 63u]);
  decoded.parts[1] = vec4f(pair_1 * radius_l2_1);
  let pair_2 = vec4<f32>(
    codec_table_left[(codes_1 >> 6u) & 63u],
    codec_table_right[(codes_1 >> 10u) & 63u]);
  decoded.parts[2] = vec4f(pair_2 * radius_l2_2);
  let pair_3 = vec4<f32>(
    codec_table_left[codes_0 >> 26u],
    codec_table_right[((codes_0 >> 30u) | (codes_0 << 2u)) & 63u]);
  decoded.parts[3] = vec4f(pair_3 * radius_l2_3);
  return decoded;
}

// Word where a head's units begin in page 0.
fn value_base(sight: Sight, head: u32) -> u32 {
  return params.value_offset + head * params.value_head_stride;
}

// Word of the unit that holds a token.
fn value_unit(sight: Sight, base: u32, token: u32) -> u32 {
  let i = token / page_tokens;
  var page = sight.pages + i;
  if (params.listed_pages != 0u) { page = u32(tables[page]); }
  return base + page * params.value_page_stride +
    ((token % page_tokens) / 1u) * params.value_unit_stride;
}

// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (128u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 2u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 3u) + i]),
  );
}

var<workgroup> query: array<queries, 128>;

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn tanh_of(x: queries) -> queries {
  // WGSL's tanh may be off by 1e-5: by e^-2|x| where that is exact enough, else by its series.
  let e = exp(-2.0 * min(abs(x), queries(40.0)));
  let far = sign(x) * (queries(1.0) - e) / (queries(1.0) + e);
  let square = x * x;
  let near = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * -0.053968254)));
  return select(far, near, abs(x) < queries(0.25));
}

// scale * (q * k + constant), capped.
fn logits_of(product: queries, constants: queries) -> queries {
  let logit = params.scale * (product + constants);
  if (params.softcap == 0.0) { return logit; }
  return params.softcap * tanh_of(logit / params.softcap);
}

// Bit i: the logit of query i is not finite.
fn not_finite(x: queries) -> u32 {
  var bits = 0u;
  bits |= u32(!is_finite(x[0u])) << 0u;
  bits |= u32(!is_finite(x[1u])) << 1u;
  bits |= u32(!is_finite(x[2u])) << 2u;
  bits |= u32(!is_finite(x[3u])) << 3u;
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec4u(1u, 2u, 4u, 8u);
  return select(x, queries(0.0), (vec4u(lost) & bits) != vec4u(0u));
}

// Products of the workgroup's queries with the key of a token; bad where a radius is not finite.
fn key_products(
  unit: u32, t: u32,
  bad: ptr<function, bool>,
) -> queries {
  var sum = queries(0.0);
  for (var cell = 0u; cell < 8u; cell++) {
    let decoded = key_decode(unit, t, cell);
    let first = cell * 16u;
    var part_sum = queries(0.0);
    part_sum = fma(query[first], queries(decoded.parts[0].x), part_sum);
    part_sum = fma(query[first + 1u], queries(decoded.parts[0].y), part_sum);
    part_sum = fma(query[first + 2u], queries(decoded.parts[0].z), part_sum);
    part_sum = fma(query[first + 3u], queries(decoded.parts[0].w), part_sum);
    part_sum = fma(query[first + 4u], queries(decoded.parts[1].x), part_sum);
    part_sum = fma(query[first + 5u], queries(decoded.parts[1].y), part_sum);
    part_sum = fma(query[first + 6u], queries(decoded.parts[1].z), part_sum);
    part_sum = fma(query[first + 7u], queries(decoded.parts[1].w), part_sum);
    part_sum = fma(query[first + 8u], queries(decoded.parts[2].x), part_sum);
    part_sum = fma(query[first + 9u], queries(decoded.parts[2].y), part_sum);
    part_sum = fma(query[first + 10u], queries(decoded.parts[2].z), part_sum);
    part_sum = fma(query[first + 11u], queries(decoded.parts[2].w), part_sum);
    part_sum = fma(query[first + 12u], queries(decoded.parts[3].x), part_sum);
    part_sum = fma(query[first + 13u], queries(decoded.parts[3].y), part_sum);
    part_sum = fma(query[first + 14u], queries(decoded.parts[3].z), part_sum);
    part_sum = fma(query[first + 15u], queries(decoded.parts[3].w), part_sum);
    sum = fma(queries(decoded.radius), part_sum, sum);
    *bad |= decoded.bad != 0u;
  }
  return sum;
}

// ---- Over all lanes, the result in every lane ----

var<workgroup> reduced: array<queries, 64>; // an entry a subgroup
var<workgroup> leads: array<u32, 64>; // 1 where a lane is the first of its subgroup

struct Lanes {
  lane: u32,
  slot: u32, // of the subgroup
  count: u32, // subgroups of the workgroup
}

// Numbers the subgroups by their first lanes: sums have one order, whatever runs first.
fn number_lanes(lane: u32) -> Lanes {
  let first = subgroupMin(lane);
  leads[lane] = u32(first == lane);
  workgroupBarrier();
  var slot = 0u;
  var count = 0u;
  for (var i = 0u; i < 64u; i++) {
    slot += select(0u, leads[i], i < first);
    count += leads[i];
  }
  return Lanes(lane, slot, count);
}

fn reduce_max(lanes: Lanes, x: queries) -> queries {
  let mine = subgroupMax(x);
  if (subgroupElect()) { reduced[lanes.slot] = mine; }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < lanes.count; i++) { result = max(result, reduced[i]); }
  workgroupBarrier();
  return result;
}

fn reduce_add(lanes: Lanes, x: queries) -> queries {
  let mine = subgroupAdd(x);
  if (subgroupElect()) { reduced[lanes.slot] = mine; }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < lanes.count; i++) { result += reduced[i]; }
  workgroupBarrier();
  return result;
}

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 8th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 8>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 8u;
const slots = 8u;

// Of a lane: 1 x 16 coordinates.
alias value_sums = array<queries, 16>;

fn prepare_sum(lane: u32) {
  for (var cell = lane; cell < cells; cell += 64u) { atomicStore(&lost_blocks[cell], 0u); }
  if (lane == 0u) { atomicStore(&lost_queries, 0u); }
}

fn scale_sums(sums: ptr<function, value_sums>, factor: queries) {
  (*sums)[0] *= factor;
  (*sums)[1] *= factor;
  (*sums)[2] *= factor;
  (*sums)[3] *= factor;
  (*sums)[4] *= factor;
  (*sums)[5] *= factor;
  (*sums)[6] *= factor;
  (*sums)[7] *= factor;
  (*sums)[8] *= factor;
  (*sums)[9] *= factor;
  (*sums)[10] *= factor;
  (*sums)[11] *= factor;
  (*sums)[12] *= factor;
  (*sums)[13] *= factor;
  (*sums)[14] *= factor;
  (*sums)[15] *= factor;
}

fn add_values(
  sums: ptr<function, value_sums>, sight: Sight, head: u32, begin: u32, count: u32, lane: u32,
) {
  let base = value_base(sight, head);
  let slot = lane / cells;
  let cell = lane % cells;
  if (slot < slots) {
    var lost = 0u;
    for (var j = slot; j < count; j += slots) {
      let weight = weights[j];
      if (weight.x < 0.0) { continue; } // not seen
      let token = begin + j;
      let unit = value_unit(sight, base, token);
      let decoded = value_decode(unit, token % 1u, cell);
      let scaled = weight * decoded.radius;
      (*sums)[0] = fma(scaled, queries(decoded.parts[0].x), (*sums)[0]);
      (*sums)[1] = fma(scaled, queries(decoded.parts[0].y), (*sums)[1]);
      (*sums)[2] = fma(scaled, queries(decoded.parts[0].z), (*sums)[2]);
      (*sums)[3] = fma(scaled, queries(decoded.parts[0].w), (*sums)[3]);
      (*sums)[4] = fma(scaled, queries(decoded.parts[1].x), (*sums)[4]);
      (*sums)[5] = fma(scaled, queries(decoded.parts[1].y), (*sums)[5]);
      (*sums)[6] = fma(scaled, queries(decoded.parts[1].z), (*sums)[6]);
      (*sums)[7] = fma(scaled, queries(decoded.parts[1].w), (*sums)[7]);
      (*sums)[8] = fma(scaled, queries(decoded.parts[2].x), (*sums)[8]);
      (*sums)[9] = fma(scaled, queries(decoded.parts[2].y), (*sums)[9]);
      (*sums)[10] = fma(scaled, queries(decoded.parts[2].z), (*sums)[10]);
      (*sums)[11] = fma(scaled, queries(decoded.parts[2].w), (*sums)[11]);
      (*sums)[12] = fma(scaled, queries(decoded.parts[3].x), (*sums)[12]);
      (*sums)[13] = fma(scaled, queries(decoded.parts[3].y), (*sums)[13]);
      (*sums)[14] = fma(scaled, queries(decoded.parts[3].z), (*sums)[14]);
      (*sums)[15] = fma(scaled, queries(decoded.parts[3].w), (*sums)[15]);
      lost |= decoded.bad;
    }
    if (lost != 0u) { atomicOr(&lost_blocks[cell], lost); }
  }
}

// Writes the split's partial result, slots added; weights is used up.
fn write_sums(
  sums: ptr<function, value_sums>, lane: u32, row: u32, head: u32, part: u32, split: u32,
  top: queries, total: queries,
) {
  let size = 128u + 3u;
  let q_head = (row * params.kv_heads + head) * group + part * group_width;
  let to = params.partial + (q_head * params.splits + split) * size;
  let next = params.splits * size; // from query to query
  let count = min(group_width, group - part * group_width);
  workgroupBarrier();
  // Coordinates 0 to 3 of every cell.
  weights[lane] = (*sums)[0];
  weights[lane + 64u] = (*sums)[1];
  weights[lane + 128u] = (*sums)[2];
  weights[lane + 192u] = (*sums)[3];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round, sum);
  }
  workgroupBarrier();
  // Coordinates 4 to 7 of every cell.
  weights[lane] = (*sums)[4];
  weights[lane + 64u] = (*sums)[5];
  weights[lane + 128u] = (*sums)[6];
  weights[lane + 192u] = (*sums)[7];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 4u, sum);
  }
  workgroupBarrier();
  // Coordinates 8 to 11 of every cell.
  weights[lane] = (*sums)[8];
  weights[lane + 64u] = (*sums)[9];
  weights[lane + 128u] = (*sums)[10];
  weights[lane + 192u] = (*sums)[11];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 8u, sum);
  }
  workgroupBarrier();
  // Coordinates 12 to 15 of every cell.
  weights[lane] = (*sums)[12];
  weights[lane + 64u] = (*sums)[13];
  weights[lane + 128u] = (*sums)[14];
  weights[lane + 192u] = (*sums)[15];
  workgroupBarrier();
  for (var i = lane; i < 4u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round + 12u, sum);
  }
  workgroupBarrier();
  if (lane < count) {
    let mass = query_of(total, lane);
    var state = select(split_seen, split_unseen, mass == 0.0);
    if ((atomicLoad(&lost_queries) & (1u << lane)) != 0u) { state = split_nan; }
    workspace[to + lane * next] = state;
    workspace[to + lane * next + 1u] = bitcast<u32>(query_of(top, lane));
    workspace[to + lane * next + 2u] = bitcast<u32>(mass);
  }
}

fn write_coordinate(to: u32, next: u32, count: u32, cell: u32, i: u32, sum: queries) {
  let lost = (atomicLoad(&lost_blocks[cell]) >> (i >> 4u)) & 1u;
  for (var query = 0u; query < count; query++) {
    workspace[to + query * next + 3u + cell * 16u + i] =
      select(bitcast<u32>(query_of(sum, query)), nan_bits, lost != 0u);
  }
}

@compute @workgroup_size(64)
fn attend(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let split = item % params.splits;
  let part = (item / params.splits) % group_parts;
  let head = (item / params.splits / group_parts) % params.kv_heads;
  let row = item / params.splits / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  let start = split * params.split_tokens;
  let first = max(sight.begin, start);
  let end = min(sight.end, start + params.split_tokens);
  let lanes = number_lanes(lane);
  prepare_sum(lane);
  codec_fill_tables(lane);
  for (var i = lane; i < 128u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 128u);
  workgroupBarrier();

  let base = key_base(sight, head);
  var top = queries(least_exponent); // of the logits so far, in powers of two
  var mass = queries(0.0); // this lane's share of the sum of weights
  var bad_queries = 0u;
  var sums: value_sums;
  for (var begin = start + (first - start) / chunk * chunk; begin < end; begin += chunk) {
    // Logits: a lane takes every 64th token.
    let count = min(chunk, end - begin);
    var highest = queries(least_exponent);
    for (var j = lane; j < chunk; j += 64u) {
      let token = begin + j;
      var logit = queries(least_exponent);
      if (token >= first && j < count && sees(sight, token)) {
        let unit = key_unit(sight, base, token);
        let t = token % 1u;
        var bad = false;
        let product = key_products(unit, t, &bad);
        logit = logits_of(product, constants);
        let lost = select(not_finite(logit), 15u, bad);
        bad_queries |= lost;
        logit = finite_or_zero(logit, lost) * 1.4426950408889634;
        logit = clamp(logit, queries(-1e38), queries(1e38));
      }
      weights[j] = logit;
      highest = max(highest, logit);
    }
    highest = max(top, reduce_max(lanes, highest));
    let shrink = exp2(max(top - highest, queries(-150.0)));
    top = highest;
    mass *= shrink;
    scale_sums(&sums, shrink);

    // Weights; of a token that is not seen less than zero.
    for (var j = lane; j < chunk; j += 64u) {
      let logit = weights[j];
      let seen = logit.x > least_exponent;
      let weight = exp2(max(logit - top, queries(-150.0)));
      weights[j] = select(queries(-1.0), weight, seen);
      mass += select(queries(0.0), weight, seen);
    }
    workgroupBarrier();
    add_values(&sums, sight, head, begin, count, lane);
    workgroupBarrier();
  }

  let total = reduce_add(lanes, mass);
  if (bad_queries != 0u) { atomicOr(&lost_queries, bad_queries); }
  write_sums(&sums, lane, row, head, part, split, top, total);
}
`,
  attend_dense: `
// Softmax attention of one row's queries of a KV head over one split of a sequence's rows of full
// precision (f16), 256 tokens at a time. Partial results go to the workspace.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  splits: u32, // of a sequence
  split_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  query: u32, // word of the workspace where queries begin
  scale: f32,
  softcap: f32, // 0: none
  partial: u32, // word of the workspace where partial results begin
  key_offset: u32, // elements
  key_sequence_stride: u32, // elements
  key_token_stride: u32, // elements
  key_head_stride: u32, // elements
  value_offset: u32, // elements
  value_sequence_stride: u32, // elements
  value_token_stride: u32, // elements
  value_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const chunk = 256u; // tokens whose weights are in workgroup memory

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<i32>;
@group(0) @binding(4) var<storage, read_write> workspace: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.always_visible != none) {
    if (tables[params.always_visible + sight.positions + token] != 0) { return true; }
  }
  if (params.positions == none && params.always_visible == none) { return true; }
  var position = sight.first_position + i32(token);
  if (params.positions != none) { position = tables[params.positions + sight.positions + token]; }
  return position <= sight.newest && position >= sight.oldest;
}

// Two neighbouring elements of the keys.
fn key_pair(at: u32) -> vec2f {
  var word = keys[at >> 1u];
  if ((at & 1u) != 0u) { word = (word >> 16u) | (keys[(at >> 1u) + 1u] << 16u); }
  return unpack2x16float(word);
}

// Element where the first token's row begins.
fn key_base(sight: Sight, head: u32) -> u32 {
  return params.key_offset + sight.sequence * params.key_sequence_stride +
    head * params.key_head_stride;
}

// Element where a token's row begins.
fn key_unit(sight: Sight, base: u32, token: u32) -> u32 {
  return base + token * params.key_token_stride;
}

// Two neighbouring elements of the values.
fn value_pair(at: u32) -> vec2f {
  var word = values[at >> 1u];
  if ((at & 1u) != 0u) { word = (word >> 16u) | (values[(at >> 1u) + 1u] << 16u); }
  return unpack2x16float(word);
}

// Element where the first token's row begins.
fn value_base(sight: Sight, head: u32) -> u32 {
  return params.value_offset + sight.sequence * params.value_sequence_stride +
    head * params.value_head_stride;
}

// Element where a token's row begins.
fn value_unit(sight: Sight, base: u32, token: u32) -> u32 {
  return base + token * params.value_token_stride;
}


// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (128u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 2u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 3u) + i]),
  );
}

var<workgroup> query: array<queries, 128>;

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn tanh_of(x: queries) -> queries {
  // WGSL's tanh may be off by 1e-5: by e^-2|x| where that is exact enough, else by its series.
  let e = exp(-2.0 * min(abs(x), queries(40.0)));
  let far = sign(x) * (queries(1.0) - e) / (queries(1.0) + e);
  let square = x * x;
  let near = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * -0.053968254)));
  return select(far, near, abs(x) < queries(0.25));
}

// scale * (q * k + constant), capped.
fn logits_of(product: queries, constants: queries) -> queries {
  let logit = params.scale * (product + constants);
  if (params.softcap == 0.0) { return logit; }
  return params.softcap * tanh_of(logit / params.softcap);
}

// Bit i: the logit of query i is not finite.
fn not_finite(x: queries) -> u32 {
  var bits = 0u;
  bits |= u32(!is_finite(x[0u])) << 0u;
  bits |= u32(!is_finite(x[1u])) << 1u;
  bits |= u32(!is_finite(x[2u])) << 2u;
  bits |= u32(!is_finite(x[3u])) << 3u;
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec4u(1u, 2u, 4u, 8u);
  return select(x, queries(0.0), (vec4u(lost) & bits) != vec4u(0u));
}

// Products of the workgroup's queries with the key of a token.
fn key_products(unit: u32) -> queries {
  var sum = queries(0.0);
  for (var i = 0u; i < 128u; i += 2u) {
    let pair = key_pair(unit + i);
    sum = fma(query[i], queries(pair.x), sum);
    sum = fma(query[i + 1u], queries(pair.y), sum);
  }
  return sum;
}

// ---- Over all lanes, the result in every lane ----

var<workgroup> reduced: array<queries, 64>;

struct Lanes {
  lane: u32,
}

fn number_lanes(lane: u32) -> Lanes {
  return Lanes(lane);
}

// Eight lanes reduce eight entries each, then every lane the eight results.
fn reduce_max(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part = max(part, reduced[lanes.lane + i]); }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result = max(result, reduced[i]); }
  workgroupBarrier();
  return result;
}

fn reduce_add(lanes: Lanes, x: queries) -> queries {
  reduced[lanes.lane] = x;
  workgroupBarrier();
  if (lanes.lane < 8u) {
    var part = reduced[lanes.lane];
    for (var i = 8u; i < 64u; i += 8u) { part += reduced[lanes.lane + i]; }
    reduced[lanes.lane] = part;
  }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < 8u; i++) { result += reduced[i]; }
  workgroupBarrier();
  return result;
}

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 1th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 64>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 64u;
const slots = 1u;

// Of a lane: 1 x 2 coordinates.
alias value_sums = array<queries, 2>;

fn prepare_sum(lane: u32) {
  for (var cell = lane; cell < cells; cell += 64u) { atomicStore(&lost_blocks[cell], 0u); }
  if (lane == 0u) { atomicStore(&lost_queries, 0u); }
}

fn scale_sums(sums: ptr<function, value_sums>, factor: queries) {
  (*sums)[0] *= factor;
  (*sums)[1] *= factor;
}

fn add_values(
  sums: ptr<function, value_sums>, sight: Sight, head: u32, begin: u32, count: u32, lane: u32,
) {
  let base = value_base(sight, head);
  let slot = lane / cells;
  let cell = lane % cells;
  if (slot < slots) {
    for (var j = slot; j < count; j += slots) {
      let weight = weights[j];
      if (weight.x < 0.0) { continue; } // not seen
      let token = begin + j;
      let unit = value_unit(sight, base, token);
      // What is not finite shows in the sum.
      let pair = value_pair(unit + 2u * cell);
      (*sums)[0] = fma(weight, queries(pair.x), (*sums)[0]);
      (*sums)[1] = fma(weight, queries(pair.y), (*sums)[1]);
    }
  }
}

// Writes the split's partial result, slots added; weights is used up.
fn write_sums(
  sums: ptr<function, value_sums>, lane: u32, row: u32, head: u32, part: u32, split: u32,
  top: queries, total: queries,
) {
  let size = 128u + 3u;
  let q_head = (row * params.kv_heads + head) * group + part * group_width;
  let to = params.partial + (q_head * params.splits + split) * size;
  let next = params.splits * size; // from query to query
  let count = min(group_width, group - part * group_width);
  workgroupBarrier();
  // Coordinates 0 to 1 of every cell.
  weights[lane] = (*sums)[0];
  weights[lane + 64u] = (*sums)[1];
  workgroupBarrier();
  for (var i = lane; i < 2u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round, sum);
  }
  workgroupBarrier();
  if (lane < count) {
    let mass = query_of(total, lane);
    var state = select(split_seen, split_unseen, mass == 0.0);
    if ((atomicLoad(&lost_queries) & (1u << lane)) != 0u) { state = split_nan; }
    workspace[to + lane * next] = state;
    workspace[to + lane * next + 1u] = bitcast<u32>(query_of(top, lane));
    workspace[to + lane * next + 2u] = bitcast<u32>(mass);
  }
}

fn write_coordinate(to: u32, next: u32, count: u32, cell: u32, i: u32, sum: queries) {
  let lost = (atomicLoad(&lost_blocks[cell]) >> (i >> 0u)) & 1u;
  for (var query = 0u; query < count; query++) {
    workspace[to + query * next + 3u + cell * 2u + i] =
      select(bitcast<u32>(query_of(sum, query)), nan_bits, lost != 0u);
  }
}

@compute @workgroup_size(64)
fn attend_dense(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let split = item % params.splits;
  let part = (item / params.splits) % group_parts;
  let head = (item / params.splits / group_parts) % params.kv_heads;
  let row = item / params.splits / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  let start = split * params.split_tokens;
  let first = max(sight.begin, start);
  let end = min(sight.end, start + params.split_tokens);
  let lanes = number_lanes(lane);
  prepare_sum(lane);
  for (var i = lane; i < 128u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 128u);
  workgroupBarrier();

  let base = key_base(sight, head);
  var top = queries(least_exponent); // of the logits so far, in powers of two
  var mass = queries(0.0); // this lane's share of the sum of weights
  var bad_queries = 0u;
  var sums: value_sums;
  for (var begin = start + (first - start) / chunk * chunk; begin < end; begin += chunk) {
    // Logits: a lane takes every 64th token.
    let count = min(chunk, end - begin);
    var highest = queries(least_exponent);
    for (var j = lane; j < chunk; j += 64u) {
      let token = begin + j;
      var logit = queries(least_exponent);
      if (token >= first && j < count && sees(sight, token)) {
        let unit = key_unit(sight, base, token);
        logit = logits_of(key_products(unit), constants);
        let lost = not_finite(logit);
        bad_queries |= lost;
        logit = finite_or_zero(logit, lost) * 1.4426950408889634;
        logit = clamp(logit, queries(-1e38), queries(1e38));
      }
      weights[j] = logit;
      highest = max(highest, logit);
    }
    highest = max(top, reduce_max(lanes, highest));
    let shrink = exp2(max(top - highest, queries(-150.0)));
    top = highest;
    mass *= shrink;
    scale_sums(&sums, shrink);

    // Weights; of a token that is not seen less than zero.
    for (var j = lane; j < chunk; j += 64u) {
      let logit = weights[j];
      let seen = logit.x > least_exponent;
      let weight = exp2(max(logit - top, queries(-150.0)));
      weights[j] = select(queries(-1.0), weight, seen);
      mass += select(queries(0.0), weight, seen);
    }
    workgroupBarrier();
    add_values(&sums, sight, head, begin, count, lane);
    workgroupBarrier();
  }

  let total = reduce_add(lanes, mass);
  if (bad_queries != 0u) { atomicOr(&lost_queries, bad_queries); }
  write_sums(&sums, lane, row, head, part, split, top, total);
}
`,
  attend_dense_subgroups: `
enable subgroups;
// Softmax attention of one row's queries of a KV head over one split of a sequence's rows of full
// precision (f16), 256 tokens at a time. Partial results go to the workspace.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  kv_heads: u32,
  splits: u32, // of a sequence
  split_tokens: u32,
  state: u32, // word of the workspace where rows have their states
  listed_pages: u32, // 1: page numbers stand in tables
  positions: u32, // index in tables, or none
  always_visible: u32, // index in tables, or none
  query: u32, // word of the workspace where queries begin
  scale: f32,
  softcap: f32, // 0: none
  partial: u32, // word of the workspace where partial results begin
  key_offset: u32, // elements
  key_sequence_stride: u32, // elements
  key_token_stride: u32, // elements
  key_head_stride: u32, // elements
  value_offset: u32, // elements
  value_sequence_stride: u32, // elements
  value_token_stride: u32, // elements
  value_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;
const chunk = 256u; // tokens whose weights are in workgroup memory

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<i32>;
@group(0) @binding(4) var<storage, read_write> workspace: array<u32>;

// ---- Queries of a KV head side by side: 4u at a time ----

alias queries = vec4f;
const group = 4u; // query heads of a KV head
const group_width = 4u; // of those, how many a workgroup takes
const group_parts = 1u;

fn query_of(x: queries, i: u32) -> f32 {
  return x[i];
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// ---- What a row sees: the state that states wrote ----

struct Sight {
  sequence: u32, // none: a table was out of range, the row becomes NaN
  begin: u32, // tokens seen lie in [begin, end)
  end: u32,
  newest: i32, // positions seen, both included
  oldest: i32,
  pages: u32, // where its pages are listed, or its first page
  positions: u32, // its first entry in rows of positions
  first_position: i32,
}

var<workgroup> row_sight: Sight;

// Of all lanes together: the same value for all.
fn load_sight(row: u32, lane: u32) -> Sight {
  if (lane == 0u) {
    let state = params.state + row * 8u;
    row_sight = Sight(
      workspace[state], workspace[state + 1u], workspace[state + 2u],
      bitcast<i32>(workspace[state + 3u]), bitcast<i32>(workspace[state + 4u]),
      workspace[state + 5u], workspace[state + 6u], bitcast<i32>(workspace[state + 7u]),
    );
  }
  return workgroupUniformLoad(&row_sight);
}

// Whether the row sees a token of [begin, end).
fn sees(sight: Sight, token: u32) -> bool {
  if (params.always_visible != none) {
    if (tables[params.always_visible + sight.positions + token] != 0) { return true; }
  }
  if (params.positions == none && params.always_visible == none) { return true; }
  var position = sight.first_position + i32(token);
  if (params.positions != none) { position = tables[params.positions + sight.positions + token]; }
  return position <= sight.newest && position >= sight.oldest;
}

// Two neighbouring elements of the keys.
fn key_pair(at: u32) -> vec2f {
  var word = keys[at >> 1u];
  if ((at & 1u) != 0u) { word = (word >> 16u) | (keys[(at >> 1u) + 1u] << 16u); }
  return unpack2x16float(word);
}

// Element where the first token's row begins.
fn key_base(sight: Sight, head: u32) -> u32 {
  return params.key_offset + sight.sequence * params.key_sequence_stride +
    head * params.key_head_stride;
}

// Element where a token's row begins.
fn key_unit(sight: Sight, base: u32, token: u32) -> u32 {
  return base + token * params.key_token_stride;
}

// Two neighbouring elements of the values.
fn value_pair(at: u32) -> vec2f {
  var word = values[at >> 1u];
  if ((at & 1u) != 0u) { word = (word >> 16u) | (values[(at >> 1u) + 1u] << 16u); }
  return unpack2x16float(word);
}

// Element where the first token's row begins.
fn value_base(sight: Sight, head: u32) -> u32 {
  return params.value_offset + sight.sequence * params.value_sequence_stride +
    head * params.value_head_stride;
}

// Element where a token's row begins.
fn value_unit(sight: Sight, base: u32, token: u32) -> u32 {
  return base + token * params.value_token_stride;
}


// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (128u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 2u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 3u) + i]),
  );
}

var<workgroup> query: array<queries, 128>;

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn tanh_of(x: queries) -> queries {
  // WGSL's tanh may be off by 1e-5: by e^-2|x| where that is exact enough, else by its series.
  let e = exp(-2.0 * min(abs(x), queries(40.0)));
  let far = sign(x) * (queries(1.0) - e) / (queries(1.0) + e);
  let square = x * x;
  let near = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * -0.053968254)));
  return select(far, near, abs(x) < queries(0.25));
}

// scale * (q * k + constant), capped.
fn logits_of(product: queries, constants: queries) -> queries {
  let logit = params.scale * (product + constants);
  if (params.softcap == 0.0) { return logit; }
  return params.softcap * tanh_of(logit / params.softcap);
}

// Bit i: the logit of query i is not finite.
fn not_finite(x: queries) -> u32 {
  var bits = 0u;
  bits |= u32(!is_finite(x[0u])) << 0u;
  bits |= u32(!is_finite(x[1u])) << 1u;
  bits |= u32(!is_finite(x[2u])) << 2u;
  bits |= u32(!is_finite(x[3u])) << 3u;
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec4u(1u, 2u, 4u, 8u);
  return select(x, queries(0.0), (vec4u(lost) & bits) != vec4u(0u));
}

// Products of the workgroup's queries with the key of a token.
fn key_products(unit: u32) -> queries {
  var sum = queries(0.0);
  for (var i = 0u; i < 128u; i += 2u) {
    let pair = key_pair(unit + i);
    sum = fma(query[i], queries(pair.x), sum);
    sum = fma(query[i + 1u], queries(pair.y), sum);
  }
  return sum;
}

// ---- Over all lanes, the result in every lane ----

var<workgroup> reduced: array<queries, 64>; // an entry a subgroup
var<workgroup> leads: array<u32, 64>; // 1 where a lane is the first of its subgroup

struct Lanes {
  lane: u32,
  slot: u32, // of the subgroup
  count: u32, // subgroups of the workgroup
}

// Numbers the subgroups by their first lanes: sums have one order, whatever runs first.
fn number_lanes(lane: u32) -> Lanes {
  let first = subgroupMin(lane);
  leads[lane] = u32(first == lane);
  workgroupBarrier();
  var slot = 0u;
  var count = 0u;
  for (var i = 0u; i < 64u; i++) {
    slot += select(0u, leads[i], i < first);
    count += leads[i];
  }
  return Lanes(lane, slot, count);
}

fn reduce_max(lanes: Lanes, x: queries) -> queries {
  let mine = subgroupMax(x);
  if (subgroupElect()) { reduced[lanes.slot] = mine; }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < lanes.count; i++) { result = max(result, reduced[i]); }
  workgroupBarrier();
  return result;
}

fn reduce_add(lanes: Lanes, x: queries) -> queries {
  let mine = subgroupAdd(x);
  if (subgroupElect()) { reduced[lanes.slot] = mine; }
  workgroupBarrier();
  var result = reduced[0];
  for (var i = 1u; i < lanes.count; i++) { result += reduced[i]; }
  workgroupBarrier();
  return result;
}

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 1th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 64>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 64u;
const slots = 1u;

// Of a lane: 1 x 2 coordinates.
alias value_sums = array<queries, 2>;

fn prepare_sum(lane: u32) {
  for (var cell = lane; cell < cells; cell += 64u) { atomicStore(&lost_blocks[cell], 0u); }
  if (lane == 0u) { atomicStore(&lost_queries, 0u); }
}

fn scale_sums(sums: ptr<function, value_sums>, factor: queries) {
  (*sums)[0] *= factor;
  (*sums)[1] *= factor;
}

fn add_values(
  sums: ptr<function, value_sums>, sight: Sight, head: u32, begin: u32, count: u32, lane: u32,
) {
  let base = value_base(sight, head);
  let slot = lane / cells;
  let cell = lane % cells;
  if (slot < slots) {
    for (var j = slot; j < count; j += slots) {
      let weight = weights[j];
      if (weight.x < 0.0) { continue; } // not seen
      let token = begin + j;
      let unit = value_unit(sight, base, token);
      // What is not finite shows in the sum.
      let pair = value_pair(unit + 2u * cell);
      (*sums)[0] = fma(weight, queries(pair.x), (*sums)[0]);
      (*sums)[1] = fma(weight, queries(pair.y), (*sums)[1]);
    }
  }
}

// Writes the split's partial result, slots added; weights is used up.
fn write_sums(
  sums: ptr<function, value_sums>, lane: u32, row: u32, head: u32, part: u32, split: u32,
  top: queries, total: queries,
) {
  let size = 128u + 3u;
  let q_head = (row * params.kv_heads + head) * group + part * group_width;
  let to = params.partial + (q_head * params.splits + split) * size;
  let next = params.splits * size; // from query to query
  let count = min(group_width, group - part * group_width);
  workgroupBarrier();
  // Coordinates 0 to 1 of every cell.
  weights[lane] = (*sums)[0];
  weights[lane + 64u] = (*sums)[1];
  workgroupBarrier();
  for (var i = lane; i < 2u * cells; i += 64u) {
    let cell = i % cells;
    let in_round = i / cells;
    var sum = weights[in_round * 64u + cell];
    for (var slot = 1u; slot < slots; slot++) {
      sum += weights[in_round * 64u + slot * cells + cell];
    }
    write_coordinate(to, next, count, cell, in_round, sum);
  }
  workgroupBarrier();
  if (lane < count) {
    let mass = query_of(total, lane);
    var state = select(split_seen, split_unseen, mass == 0.0);
    if ((atomicLoad(&lost_queries) & (1u << lane)) != 0u) { state = split_nan; }
    workspace[to + lane * next] = state;
    workspace[to + lane * next + 1u] = bitcast<u32>(query_of(top, lane));
    workspace[to + lane * next + 2u] = bitcast<u32>(mass);
  }
}

fn write_coordinate(to: u32, next: u32, count: u32, cell: u32, i: u32, sum: queries) {
  let lost = (atomicLoad(&lost_blocks[cell]) >> (i >> 0u)) & 1u;
  for (var query = 0u; query < count; query++) {
    workspace[to + query * next + 3u + cell * 2u + i] =
      select(bitcast<u32>(query_of(sum, query)), nan_bits, lost != 0u);
  }
}

@compute @workgroup_size(64)
fn attend_dense(
  @builtin(workgroup_id) group_id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group_id, groups);
  if (item >= params.items) { return; }
  let split = item % params.splits;
  let part = (item / params.splits) % group_parts;
  let head = (item / params.splits / group_parts) % params.kv_heads;
  let row = item / params.splits / group_parts / params.kv_heads;
  let sight = load_sight(row, lane);
  let start = split * params.split_tokens;
  let first = max(sight.begin, start);
  let end = min(sight.end, start + params.split_tokens);
  let lanes = number_lanes(lane);
  prepare_sum(lane);
  for (var i = lane; i < 128u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 128u);
  workgroupBarrier();

  let base = key_base(sight, head);
  var top = queries(least_exponent); // of the logits so far, in powers of two
  var mass = queries(0.0); // this lane's share of the sum of weights
  var bad_queries = 0u;
  var sums: value_sums;
  for (var begin = start + (first - start) / chunk * chunk; begin < end; begin += chunk) {
    // Logits: a lane takes every 64th token.
    let count = min(chunk, end - begin);
    var highest = queries(least_exponent);
    for (var j = lane; j < chunk; j += 64u) {
      let token = begin + j;
      var logit = queries(least_exponent);
      if (token >= first && j < count && sees(sight, token)) {
        let unit = key_unit(sight, base, token);
        logit = logits_of(key_products(unit), constants);
        let lost = not_finite(logit);
        bad_queries |= lost;
        logit = finite_or_zero(logit, lost) * 1.4426950408889634;
        logit = clamp(logit, queries(-1e38), queries(1e38));
      }
      weights[j] = logit;
      highest = max(highest, logit);
    }
    highest = max(top, reduce_max(lanes, highest));
    let shrink = exp2(max(top - highest, queries(-150.0)));
    top = highest;
    mass *= shrink;
    scale_sums(&sums, shrink);

    // Weights; of a token that is not seen less than zero.
    for (var j = lane; j < chunk; j += 64u) {
      let logit = weights[j];
      let seen = logit.x > least_exponent;
      let weight = exp2(max(logit - top, queries(-150.0)));
      weights[j] = select(queries(-1.0), weight, seen);
      mass += select(queries(0.0), weight, seen);
    }
    workgroupBarrier();
    add_values(&sums, sight, head, begin, count, lane);
    workgroupBarrier();
  }

  let total = reduce_add(lanes, mass);
  if (bad_queries != 0u) { atomicOr(&lost_queries, bad_queries); }
  write_sums(&sums, lane, row, head, part, split, top, total);
}
`,
  combine: `
// Partial results of the splits of a sequence, in order, to one output a query head: weighed by
// their log-sum-exps (attention) or added (weighted_sum), in the original basis again, plus the
// mean.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  splits: u32, // of a sequence
  sums: u32, // 1: partial results are added, not weighed
  rotate: u32, // 1: original basis, 0: rotated
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  state: u32, // word of the workspace where rows have their states
  partial: u32, // word of the workspace where partial results begin
  lse: u32, // word of the first, or none
  lse_row_stride: u32, // words
  out_dtype: u32, // 0: f32, 1: f16, 2: bf16
  out_offset: u32, // elements
  out_row_stride: u32, // elements
  out_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> workspace: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// Half a word: its other half may belong to another row.
fn out_store_half(at: u32, half: u32) {
  let shift = (at & 1u) * 16u;
  atomicAnd(&out[at >> 1u], ~(0xffffu << shift));
  atomicOr(&out[at >> 1u], half << shift);
}

// Two neighbouring elements of the rows, from the bits of float32 numbers.
fn out_store(at: u32, bits: vec2u) {
  if (params.out_dtype == dtype_f32) {
    atomicStore(&out[at], bits.x);
    atomicStore(&out[at + 1u], bits.y);
    return;
  }
  var halves = vec2u(to_f16(bits.x, 0x7c00u), to_f16(bits.y, 0x7c00u));
  if (params.out_dtype != dtype_f16) {
    halves = vec2u(to_bf16(bits.x, 0x7f80u), to_bf16(bits.y, 0x7f80u));
  }
  if ((at & 1u) == 0u) {
    atomicStore(&out[at >> 1u], halves.x | (halves.y << 16u));
  } else {
    out_store_half(at, halves.x);
    out_store_half(at + 1u, halves.y);
  }
}

// ---- S, S^-T and S^-1 on the vector in workgroup memory; barriers stand around every step ----

var<workgroup> vector: array<f32, 128>;
var<workgroup> spare: array<f32, 128>;

// Bit i: coordinate i changes its sign.
const value_signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn value_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((value_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn value_butterflies(lane: u32) {
  for (var stride = 1u; stride < 128u; stride *= 2u) {
    for (var pair = lane; pair < 128u / 2u; pair += 64u) {
      let i = (pair / stride) * 2u * stride + pair % stride;
      let a = vector[i];
      let b = vector[i + stride];
      vector[i] = a + b;
      vector[i + stride] = a - b;
    }
    workgroupBarrier();
  }
}

// Multiplies with S (0), its dual S^-T (1) or its inverse (2).
fn rotate_vector(lane: u32, rotation: u32, kv_head: u32) {
  if (rotation != 2u) {
    for (var i = lane; i < 128u; i += 64u) { vector[i] = value_signed(i, vector[i]); }
    workgroupBarrier();
  }
  value_butterflies(lane);
  for (var i = lane; i < 128u; i += 64u) {
    let x = vector[i] * 0.088388346f;
    vector[i] = select(x, value_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

var<workgroup> lost: array<u32, 128>; // 1: the coordinate is NaN
var<workgroup> any_lost: atomic<u32>;

@compute @workgroup_size(64)
fn combine(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let kv_head = q_head / params.heads_per_kv;
  let size = 128u + 3u;
  let first = params.partial + item * params.splits * size;
  var failed = workspace[params.state + row * 8u] == none;

  // The greatest exponent, and the sum over all splits that saw something.
  var top = least_exponent;
  var seen = false;
  for (var split = 0u; split < params.splits; split++) {
    let at = first + split * size;
    let state = workspace[at];
    if (state == split_unseen) { continue; }
    seen = true;
    if (state == split_nan) { failed = true; }
    top = max(top, bitcast<f32>(workspace[at + 1u]));
  }
  var total = 0.0;
  for (var split = 0u; split < params.splits; split++) {
    let at = first + split * size;
    if (workspace[at] == split_unseen) { continue; }
    let weight = exp2(max(bitcast<f32>(workspace[at + 1u]) - top, -150.0));
    total += weight * bitcast<f32>(workspace[at + 2u]);
  }
  let normal = select(1.0 / total, 1.0, params.sums != 0u || !seen);

  if (lane == 0u) { atomicStore(&any_lost, 0u); }
  workgroupBarrier();
  for (var i = lane; i < 128u; i += 64u) {
    var sum = 0.0;
    var is_lost = false;
    for (var split = 0u; split < params.splits; split++) {
      let at = first + split * size;
      if (workspace[at] == split_unseen) { continue; }
      let bits = workspace[at + 3u + i];
      if ((bits & 0x7f800000u) == 0x7f800000u) { is_lost = true; }
      let weight = exp2(max(bitcast<f32>(workspace[at + 1u]) - top, -150.0));
      sum += weight * bitcast<f32>(bits);
    }
    vector[i] = select(sum * normal, 0.0, is_lost);
    lost[i] = u32(is_lost);
    if (is_lost) { atomicOr(&any_lost, 1u); }
  }
  workgroupBarrier();
  if (params.rotate != 0u) { rotate_vector(lane, 2u, kv_head); }

  // Every coordinate of the original basis is made of all rotated ones.
  let all_lost = failed || (params.rotate != 0u && atomicLoad(&any_lost) != 0u);
  let mass = select(f32(seen), total, params.sums != 0u);
  let to = params.out_offset + row * params.out_row_stride + q_head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    var pair = vec2f(vector[i], vector[i + 1u]);
    let is_lost = vec2<bool>(lost[i] != 0u, lost[i + 1u] != 0u) | vec2<bool>(all_lost);
    out_store(to + i, select(bitcast<vec2u>(pair), vec2u(nan_bits), is_lost));
  }
  if (lane == 0u && params.lse != none) {
    let at = params.lse + row * params.lse_row_stride + q_head;
    let value = bitcast<u32>((top + log2(total)) * 0.6931471805599453);
    lse[at] = select(select(minus_infinity_bits, value, seen), nan_bits, failed);
  }
}
`,
  merge: `
// Partial results of parts of a sequence to one, part after part in float32: merge_add takes a
// part into the workspace, merge_finish applies the sink logit, once, and writes the output. One
// row of a query head a workgroup.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  first_part: u32, // 1: the workspace holds nothing yet
  parts: u32,
  workspace: u32, // word where it begins
  part_lse: u32, // word of the first
  part_lse_row_stride: u32, // words
  sink: u32, // word of the first, or none
  lse: u32, // word of the first, or none
  lse_row_stride: u32, // words
  part_dtype: u32, // 0: f32, 1: f16, 2: bf16
  part_offset: u32, // elements
  part_row_stride: u32, // elements
  part_head_stride: u32, // elements
  out_dtype: u32, // 0: f32, 1: f16, 2: bf16
  out_offset: u32, // elements
  out_row_stride: u32, // elements
  out_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> part: array<u32>;
@group(0) @binding(2) var<storage, read> part_lse: array<u32>;
@group(0) @binding(3) var<storage, read_write> workspace: array<u32>;
@group(0) @binding(4) var<storage, read> sink: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// ---- Floats as bits: integer code, as WGSL fixes neither rounding nor denormals ----

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits without the lowest shift, rounded to nearest, ties to even.
fn round_off(bits: u32, shift: u32) -> u32 {
  let kept = bits >> shift;
  let rest = bits & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
}

// The f16 nearest to a float32 given as bits; what is beyond becomes largest.
fn to_f16(bits: u32, largest: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | largest; }
  if (magnitude >= 0x38800000u) { return sign | round_off(magnitude - 0x38000000u, 13u); }
  if (magnitude <= 0x33000000u) { return sign; }
  return sign | round_off((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

// The same for bf16.
fn to_bf16(bits: u32, largest: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7fc0u; }
  return ((bits >> 16u) & 0x8000u) | min(round_off(magnitude, 16u), largest);
}

fn from_f16(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude << 13u)); }
  if (magnitude >= 0x0400u) { return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u)); }
  let value = f32(magnitude) * 5.9604645e-08f; // 2^-24
  return bitcast<f32>(bitcast<u32>(value) | sign);
}

// Which of the call's items a workgroup takes: more than 65535 of them lie in two dimensions.
fn work_item(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

// An element of the rows.
fn part_element(at: u32) -> f32 {
  if (params.part_dtype == dtype_f32) { return bitcast<f32>(part[at]); }
  let bits = (part[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.part_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

// Half a word: its other half may belong to another row.
fn out_store_half(at: u32, half: u32) {
  let shift = (at & 1u) * 16u;
  atomicAnd(&out[at >> 1u], ~(0xffffu << shift));
  atomicOr(&out[at >> 1u], half << shift);
}

// Two neighbouring elements of the rows, from the bits of float32 numbers.
fn out_store(at: u32, bits: vec2u) {
  if (params.out_dtype == dtype_f32) {
    atomicStore(&out[at], bits.x);
    atomicStore(&out[at + 1u], bits.y);
    return;
  }
  var halves = vec2u(to_f16(bits.x, 0x7c00u), to_f16(bits.y, 0x7c00u));
  if (params.out_dtype != dtype_f16) {
    halves = vec2u(to_bf16(bits.x, 0x7f80u), to_bf16(bits.y, 0x7f80u));
  }
  if ((at & 1u) == 0u) {
    atomicStore(&out[at >> 1u], halves.x | (halves.y << 16u));
  } else {
    out_store_half(at, halves.x);
    out_store_half(at + 1u, halves.y);
  }
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

const size = 128u + 3u; // of a row's state: state, exponent, sum of weights, weighted sum

@compute @workgroup_size(64)
fn merge_add(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let at = params.workspace + item * size;
  var state = split_unseen;
  var top = least_exponent;
  var mass = 0.0;
  if (params.first_part == 0u) {
    state = workspace[at];
    top = bitcast<f32>(workspace[at + 1u]);
    mass = bitcast<f32>(workspace[at + 2u]);
  }
  let bits = part_lse[params.part_lse + row * params.part_lse_row_stride + q_head];
  let seen = bits != minus_infinity_bits;
  let broken = seen && (bits & 0x7f800000u) == 0x7f800000u;
  let finite_bits = select(bits, 0u, broken);
  let exponent = bitcast<f32>(select(bitcast<u32>(least_exponent), finite_bits, seen));
  let highest = max(top, exponent);
  let shrink = exp(max(top - highest, -100.0));
  let weight = select(0.0, exp(max(exponent - highest, -100.0)), seen);
  let start = params.part_offset + row * params.part_row_stride + q_head * params.part_head_stride;
  for (var i = lane; i < 128u; i += 64u) {
    var before = 0u;
    if (params.first_part == 0u) { before = workspace[at + 3u + i]; }
    var sum = before;
    if (seen) {
      let x = part_element(start + i);
      let lost = (before & 0x7f800000u) == 0x7f800000u || !is_finite(x);
      let added = bitcast<f32>(before) * shrink + weight * x;
      sum = select(bitcast<u32>(added), nan_bits, lost);
    }
    workspace[at + 3u + i] = sum;
  }
  storageBarrier();
  if (lane == 0u) {
    workspace[at] = select(select(max(state, split_seen), split_nan, broken), state, !seen);
    workspace[at + 1u] = bitcast<u32>(highest);
    workspace[at + 2u] = bitcast<u32>(mass * shrink + weight);
  }
}

@compute @workgroup_size(64)
fn merge_finish(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let at = params.workspace + item * size;
  var state = split_unseen;
  var top = least_exponent;
  var mass = 0.0;
  if (params.parts != 0u) {
    state = workspace[at];
    top = bitcast<f32>(workspace[at + 1u]);
    mass = bitcast<f32>(workspace[at + 2u]);
  }
  let seen = state != split_unseen;
  var failed = state == split_nan;
  var divisor = mass;
  var factor = 1.0;
  if (params.sink != none) {
    let bits = sink[params.sink + q_head];
    if (bits != minus_infinity_bits) {
      failed |= (bits & 0x7f800000u) == 0x7f800000u;
      let highest = max(top, bitcast<f32>(bits));
      factor = exp(max(top - highest, -100.0));
      divisor = mass * factor + exp(max(bitcast<f32>(bits) - highest, -100.0));
    }
  }
  let scale = select(0.0, factor / divisor, seen);
  let to = params.out_offset + row * params.out_row_stride + q_head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    var pair = vec2u(0u);
    if (seen) {
      let bits = vec2u(workspace[at + 3u + i], workspace[at + 4u + i]);
      let lost = ((bits & vec2u(0x7f800000u)) == vec2u(0x7f800000u)) | vec2<bool>(failed);
      pair = select(bitcast<vec2u>(bitcast<vec2f>(bits) * scale), vec2u(nan_bits), lost);
    }
    out_store(to + i, pair);
  }
  if (lane == 0u && params.lse != none) {
    let value = bitcast<u32>(top + log(mass));
    let to_lse = params.lse + row * params.lse_row_stride + q_head;
    lse[to_lse] = select(select(minus_infinity_bits, value, seen), nan_bits, failed);
  }
}
`,
};
