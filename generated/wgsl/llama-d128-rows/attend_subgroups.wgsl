// polarc · llama_d128_rows · attend_subgroups · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/attend.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT

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
