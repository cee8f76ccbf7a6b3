// polarc · small_d64 · weighted_sum · wgsl
// Generated from polarc.config.ts (plan 59011a5646394f92)
// through templates/wgsl/weighted_sum.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
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
const group = 3u; // query heads of a KV head
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

// ---- Values: 4 cells of 16 coordinates ----
//
// Values: Hadamard rotation, centred;
// a tile of 824 bytes for 32 tokens, 206 bits each; 1 radii, each of 64 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       1 x 16     0                           f16
//   code_l1     32 x 4      16, 20 ... 140              signs, angle in the quadrant
//   code_l2     16 x 2      144, 148 ... 204            angle of nodes 2j and 2j+1
//   code_l3      8 x 2      146, 154 ... 202            angle of nodes 2j and 2j+1
//   code_l4      4 x 2      150, 166, 182, 198          angle of nodes 2j and 2j+1
//   code_l5      2 x 2      158, 190                    angle of nodes 2j and 2j+1
//   code_l6      1 x 2      174                         angle of nodes 2j and 2j+1
// Byte q of token t's record is byte 32 q + t of the tile.
// Planes for the last 6 bits of a record follow, 4, 2 bits wide.

// Level 1: cosine and sine, with their signs, of every code.
const value_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);
// Of two neighbouring codes, the first in the lower bits.
var<workgroup> value_table_l1: array<vec4<f32>, 256>;

// Level 2: cosine and sine of every code.
const value_directions_l2 = array<vec2f, 4>(
  vec2f(0.95240796, 0.30482638), vec2f(0.80567616, 0.5923562), vec2f(0.5923562, 0.80567616),
  vec2f(0.30482638, 0.95240796)
);
var<workgroup> value_table_l2: array<vec2<f32>, 4>;

// Level 3: cosine and sine of every code.
const value_directions_l3 = array<vec2f, 4>(
  vec2f(0.91052276, 0.41345897), vec2f(0.7810911, 0.62441707), vec2f(0.62441707, 0.7810911),
  vec2f(0.41345897, 0.91052276)
);
var<workgroup> value_table_l3: array<vec2<f32>, 4>;

// Level 4: cosine and sine of every code.
const value_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);
var<workgroup> value_table_l4: array<vec2<f32>, 4>;

// Level 5: cosine and sine of every code.
const value_directions_l5 = array<vec2f, 4>(
  vec2f(0.82617986, 0.56340647), vec2f(0.7458723, 0.66608894), vec2f(0.66608894, 0.7458723),
  vec2f(0.56340647, 0.82617986)
);
var<workgroup> value_table_l5: array<vec2<f32>, 4>;

// Level 6: cosine and sine of every code.
const value_directions_l6 = array<vec2f, 4>(
  vec2f(0.79454374, 0.60720694), vec2f(0.73480064, 0.67828315), vec2f(0.67828315, 0.73480064),
  vec2f(0.60720694, 0.79454374)
);
var<workgroup> value_table_l6: array<vec2<f32>, 4>;

// Every lane copies its share; a barrier must follow.
fn value_fill_tables(lane: u32) {
  for (var i = lane; i < 256u; i += 64u) {
    let first = value_directions_l1[i % 16u];
    let second = value_directions_l1[i / 16u];
    value_table_l1[i] = vec4<f32>(vec4f(first, second));
  }
  for (var i = lane; i < 4u; i += 64u) {
    value_table_l2[i] = vec2<f32>(value_directions_l2[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    value_table_l3[i] = vec2<f32>(value_directions_l3[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    value_table_l4[i] = vec2<f32>(value_directions_l4[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    value_table_l5[i] = vec2<f32>(value_directions_l5[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    value_table_l6[i] = vec2<f32>(value_directions_l6[i]);
  }
}

// A byte of the record of token t in the tile at word unit.
fn value_byte(unit: u32, t: u32, byte: u32) -> u32 {
  if (byte >= 25u) { // the last bits of a record stand in planes of their own
    var bits = 0u;
    {
      let column = t % 16u;
      let word = values[unit + 200u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (4u * (t / 16u))) & 15u) << 0u;
    }
    {
      let column = t % 8u;
      let word = values[unit + 204u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (2u * (t / 8u))) & 3u) << 4u;
    }
    return bits;
  }
  return (values[unit + 8u * byte + (t >> 2u)] >> ((t & 3u) * 8u)) & 0xffu;
}

// At least 8 bits of a record from the given one on.
fn value_field(unit: u32, t: u32, bit: u32) -> u32 {
  let byte = bit >> 3u;
  return (value_byte(unit, t, byte) | (value_byte(unit, t, byte + 1u) << 8u)) >> (bit & 7u);
}

// Bits of a record from the given one to the end of its byte.
fn value_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return value_byte(unit, t, bit >> 3u) >> (bit & 7u);
}

// A stored radius; bad where it is not finite.
fn value_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn value_radius_bit(i: u32) -> u32 {
  return 0u;
}

// Bits of the radius of a block, or its code.
fn value_radius_bits(unit: u32, t: u32, block: u32) -> u32 {
  let bit = value_radius_bit(block);
  let byte = bit / 8u;
  return value_byte(unit, t, byte) | (value_byte(unit, t, byte + 1u) << 8u);
}

fn value_codes_bit(i: u32) -> u32 {
  return 16u + 32u * i;
}

fn value_codes_1_bit(i: u32) -> u32 {
  return 144u + 16u * i;
}

fn value_code_bit_l5(i: u32) -> u32 {
  return 158u + 32u * i;
}

const value_code_bit_l6_list = array<u32, 1>(
  174u
);
fn value_code_bit_l6(i: u32) -> u32 {
  return value_code_bit_l6_list[i];
}

// 16 coordinates: radius times the parts.
struct value_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn value_decode(unit: u32, t: u32, cell: u32) -> value_cell {
  let codes_from = value_codes_bit(cell);
  let codes_at = codes_from >> 3u;
  let codes_0 =
    (value_byte(unit, t, codes_at))
    | (value_byte(unit, t, codes_at + 1u) << 8u)
    | (value_byte(unit, t, codes_at + 2u) << 16u)
    | (value_byte(unit, t, codes_at + 3u) << 24u);
  let codes_1_from = value_codes_1_bit(cell);
  let codes_1_at = codes_1_from >> 3u;
  let codes_1_0 =
    (value_byte(unit, t, codes_1_at))
    | (value_byte(unit, t, codes_1_at + 1u) << 8u);

  var decoded: value_cell;
  var bad = false;
  decoded.radius = value_radius(value_radius_bits(unit, t, cell >> 2u), &bad);
  decoded.bad = u32(bad);
  let code_l5 = value_field_within(unit, t, value_code_bit_l5(cell >> 1u)) & 3u;
  decoded.radius *= value_table_l5[code_l5][(cell >> 0u) & 1u];
  let code_l6 = value_field_within(unit, t, value_code_bit_l6(cell >> 2u)) & 3u;
  decoded.radius *= value_table_l6[code_l6][(cell >> 1u) & 1u];
  let pair_l4_0 = value_table_l4[(codes_1_0 >> 6u) & 3u];
  let radius_l3_0 = pair_l4_0.x;
  let radius_l3_1 = pair_l4_0.y;
  let pair_l3_0 = radius_l3_0 * value_table_l3[(codes_1_0 >> 2u) & 3u];
  let radius_l2_0 = pair_l3_0.x;
  let radius_l2_1 = pair_l3_0.y;
  let pair_l3_1 = radius_l3_1 * value_table_l3[(codes_1_0 >> 10u) & 3u];
  let radius_l2_2 = pair_l3_1.x;
  let radius_l2_3 = pair_l3_1.y;
  let pair_l2_0 = radius_l2_0 * value_table_l2[codes_1_0 & 3u];
  let pair_l2_1 = radius_l2_1 * value_table_l2[(codes_1_0 >> 4u) & 3u];
  let pair_l2_2 = radius_l2_2 * value_table_l2[(codes_1_0 >> 8u) & 3u];
  let pair_l2_3 = radius_l2_3 * value_table_l2[(codes_1_0 >> 12u) & 3u];
  let pair_0 = value_table_l1[codes_0 & 255u];
  decoded.parts[0] = vec4f(pair_0 * pair_l2_0.xxyy);
  let pair_1 = value_table_l1[(codes_0 >> 8u) & 255u];
  decoded.parts[1] = vec4f(pair_1 * pair_l2_1.xxyy);
  let pair_2 = value_table_l1[(codes_0 >> 16u) & 255u];
  decoded.parts[2] = vec4f(pair_2 * pair_l2_2.xxyy);
  let pair_3 = value_table_l1[codes_0 >> 24u];
  decoded.parts[3] = vec4f(pair_3 * pair_l2_3.xxyy);
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
    ((token % page_tokens) / 32u) * params.value_unit_stride;
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

// ---- The weighted sum: lane = (token slot, cell), a slot takes every 16th token ----

var<workgroup> weights: array<queries, 256>;
var<workgroup> lost_blocks: array<atomic<u32>, 4>; // bit i: radius i of the cell
var<workgroup> lost_queries: atomic<u32>;
const cells = 4u;
const slots = 16u;

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
      let decoded = value_decode(unit, token % 32u, cell);
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
  let size = 64u + 3u;
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
