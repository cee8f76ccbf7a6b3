// polarc · llama_d128_rows · states · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/states.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
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
