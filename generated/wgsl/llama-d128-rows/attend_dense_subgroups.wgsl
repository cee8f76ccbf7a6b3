// polarc · llama_d128_rows · attend_dense_subgroups · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/attend_dense.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT

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
