// polarc · gemma_d256 · scores · wgsl
// Generated from polarc.config.ts (plan 986971f7742794ff)
// through templates/wgsl/scores.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
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

// ---- Queries of a KV head side by side: 2u at a time ----

alias queries = vec2f;
const group = 2u; // query heads of a KV head
const group_width = 2u; // of those, how many a workgroup takes
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

// ---- Keys: 16 cells of 16 coordinates ----
//
// Keys: Hadamard rotation;
// a tile of 3512 bytes for 32 tokens, 878 bits each; 1 radii, each of 256 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       1 x 16     0                           f16
//   code_l1    128 x 4      16, 20 ... 524              signs, angle in the quadrant
//   code_l2     64 x 3      528, 534, 539 ... 875       angle of nodes 2j and 2j+1
//   code_l3     32 x 3      531, 542 ... 872            angle of nodes 2j and 2j+1
//   code_l4     16 x 2      537, 559 ... 867            angle of nodes 2j and 2j+1
//   code_l5      8 x 2      548, 592 ... 856            angle of nodes 2j and 2j+1
//   code_l6      4 x 2      570, 658, 746, 834          angle of nodes 2j and 2j+1
//   code_l7      2 x 2      614, 790                    angle of nodes 2j and 2j+1
//   code_l8      1 x 2      702                         angle of nodes 2j and 2j+1
// Byte q of token t's record is byte 32 q + t of the tile.
// Planes for the last 6 bits of a record follow, 4, 2 bits wide.

// Level 1: cosine and sine, with their signs, of every code.
const key_directions_l1 = array<vec2f, 16>(
  vec2f(0.98078525, 0.19509032), vec2f(-0.98078525, 0.19509032), vec2f(0.8314696, 0.55557024),
  vec2f(-0.8314696, 0.55557024), vec2f(0.55557024, 0.8314696), vec2f(-0.55557024, 0.8314696),
  vec2f(0.19509032, 0.98078525), vec2f(-0.19509032, 0.98078525), vec2f(0.98078525, -0.19509032),
  vec2f(-0.98078525, -0.19509032), vec2f(0.8314696, -0.55557024), vec2f(-0.8314696, -0.55557024),
  vec2f(0.55557024, -0.8314696), vec2f(-0.55557024, -0.8314696), vec2f(0.19509032, -0.98078525),
  vec2f(-0.19509032, -0.98078525)
);
// Of two neighbouring codes, the first in the lower bits.
var<workgroup> key_table_l1: array<vec4<f32>, 256>;

// Level 2: cosine and sine of every code.
const key_directions_l2 = array<vec2f, 8>(
  vec2f(0.9822959, 0.18733618), vec2f(0.928666, 0.37091702), vec2f(0.85343534, 0.52119875),
  vec2f(0.76016456, 0.64973056), vec2f(0.64973056, 0.76016456), vec2f(0.52119875, 0.85343534),
  vec2f(0.37091702, 0.928666), vec2f(0.18733618, 0.9822959)
);
var<workgroup> key_table_l2: array<vec2<f32>, 8>;

// Level 3: cosine and sine of every code.
const key_directions_l3 = array<vec2f, 8>(
  vec2f(0.9530882, 0.30269265), vec2f(0.89012563, 0.4557152), vec2f(0.8218942, 0.56964016),
  vec2f(0.7473401, 0.6644417), vec2f(0.6644417, 0.7473401), vec2f(0.56964016, 0.8218942),
  vec2f(0.4557152, 0.89012563), vec2f(0.30269265, 0.9530882)
);
var<workgroup> key_table_l3: array<vec2<f32>, 8>;

// Level 4: cosine and sine of every code.
const key_directions_l4 = array<vec2f, 4>(
  vec2f(0.8657176, 0.5005328), vec2f(0.7610219, 0.64872617), vec2f(0.64872617, 0.7610219),
  vec2f(0.5005328, 0.8657176)
);
var<workgroup> key_table_l4: array<vec2<f32>, 4>;

// Level 5: cosine and sine of every code.
const key_directions_l5 = array<vec2f, 4>(
  vec2f(0.82617986, 0.56340647), vec2f(0.7458723, 0.66608894), vec2f(0.66608894, 0.7458723),
  vec2f(0.56340647, 0.82617986)
);
var<workgroup> key_table_l5: array<vec2<f32>, 4>;

// Level 6: cosine and sine of every code.
const key_directions_l6 = array<vec2f, 4>(
  vec2f(0.79454374, 0.60720694), vec2f(0.73480064, 0.67828315), vec2f(0.67828315, 0.73480064),
  vec2f(0.60720694, 0.79454374)
);
var<workgroup> key_table_l6: array<vec2<f32>, 4>;

// Level 7: cosine and sine of every code.
const key_directions_l7 = array<vec2f, 4>(
  vec2f(0.7704688, 0.63747776), vec2f(0.726821, 0.6868269), vec2f(0.6868269, 0.726821),
  vec2f(0.63747776, 0.7704688)
);
var<workgroup> key_table_l7: array<vec2<f32>, 4>;

// Level 8: cosine and sine of every code.
const key_directions_l8 = array<vec2f, 4>(
  vec2f(0.7526462, 0.65842515), vec2f(0.72111017, 0.69282037), vec2f(0.69282037, 0.72111017),
  vec2f(0.65842515, 0.7526462)
);
var<workgroup> key_table_l8: array<vec2<f32>, 4>;

// Every lane copies its share; a barrier must follow.
fn key_fill_tables(lane: u32) {
  for (var i = lane; i < 256u; i += 64u) {
    let first = key_directions_l1[i % 16u];
    let second = key_directions_l1[i / 16u];
    key_table_l1[i] = vec4<f32>(vec4f(first, second));
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l2[i] = vec2<f32>(key_directions_l2[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l3[i] = vec2<f32>(key_directions_l3[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    key_table_l4[i] = vec2<f32>(key_directions_l4[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    key_table_l5[i] = vec2<f32>(key_directions_l5[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    key_table_l6[i] = vec2<f32>(key_directions_l6[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    key_table_l7[i] = vec2<f32>(key_directions_l7[i]);
  }
  for (var i = lane; i < 4u; i += 64u) {
    key_table_l8[i] = vec2<f32>(key_directions_l8[i]);
  }
}

// A byte of the record of token t in the tile at word unit.
fn key_byte(unit: u32, t: u32, byte: u32) -> u32 {
  if (byte >= 109u) { // the last bits of a record stand in planes of their own
    var bits = 0u;
    {
      let column = t % 16u;
      let word = keys[unit + 872u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (4u * (t / 16u))) & 15u) << 0u;
    }
    {
      let column = t % 8u;
      let word = keys[unit + 876u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (2u * (t / 8u))) & 3u) << 4u;
    }
    return bits;
  }
  return (keys[unit + 8u * byte + (t >> 2u)] >> ((t & 3u) * 8u)) & 0xffu;
}

// At least 8 bits of a record from the given one on.
fn key_field(unit: u32, t: u32, bit: u32) -> u32 {
  let byte = bit >> 3u;
  return (key_byte(unit, t, byte) | (key_byte(unit, t, byte + 1u) << 8u)) >> (bit & 7u);
}

// Bits of a record from the given one to the end of its byte.
fn key_field_within(unit: u32, t: u32, bit: u32) -> u32 {
  return key_byte(unit, t, bit >> 3u) >> (bit & 7u);
}

// A stored radius; bad where it is not finite.
fn key_radius(bits: u32, bad: ptr<function, bool>) -> f32 {
  *bad = (bits & 0x7c00u) == 0x7c00u;
  return unpack2x16float(select(bits, 0u, *bad)).x;
}

fn key_radius_bit(i: u32) -> u32 {
  return 0u;
}

// Bits of the radius of a block, or its code.
fn key_radius_bits(unit: u32, t: u32, block: u32) -> u32 {
  let bit = key_radius_bit(block);
  let byte = bit / 8u;
  return key_byte(unit, t, byte) | (key_byte(unit, t, byte + 1u) << 8u);
}

fn key_codes_bit(i: u32) -> u32 {
  return 16u + 32u * i;
}

fn key_codes_1_bit(i: u32) -> u32 {
  return 528u + 22u * i;
}

fn key_code_bit_l5(i: u32) -> u32 {
  return 548u + 44u * i;
}

fn key_code_bit_l6(i: u32) -> u32 {
  return 570u + 88u * i;
}

fn key_code_bit_l7(i: u32) -> u32 {
  return 614u + 176u * i;
}

const key_code_bit_l8_list = array<u32, 1>(
  702u
);
fn key_code_bit_l8(i: u32) -> u32 {
  return key_code_bit_l8_list[i];
}

// 16 coordinates: radius times the parts.
struct key_cell {
  radius: f32,
  parts: array<vec4f, 4>,
  bad: u32, // bit i: radius i of the cell is not finite
}

fn key_decode(unit: u32, t: u32, cell: u32) -> key_cell {
  let codes_from = key_codes_bit(cell);
  let codes_at = codes_from >> 3u;
  let codes_0 =
    (key_byte(unit, t, codes_at))
    | (key_byte(unit, t, codes_at + 1u) << 8u)
    | (key_byte(unit, t, codes_at + 2u) << 16u)
    | (key_byte(unit, t, codes_at + 3u) << 24u);
  let codes_1_from = key_codes_1_bit(cell);
  let codes_1_at = codes_1_from >> 3u;
  let codes_1_raw_0 =
    (key_byte(unit, t, codes_1_at))
    | (key_byte(unit, t, codes_1_at + 1u) << 8u)
    | (key_byte(unit, t, codes_1_at + 2u) << 16u)
    | (key_byte(unit, t, codes_1_at + 3u) << 24u);
  let codes_1_shift = codes_1_from & 7u;
  let codes_1_0 = funnel(codes_1_raw_0, 0u, codes_1_shift);

  var decoded: key_cell;
  var bad = false;
  decoded.radius = key_radius(key_radius_bits(unit, t, cell >> 4u), &bad);
  decoded.bad = u32(bad);
  let code_l5 = key_field_within(unit, t, key_code_bit_l5(cell >> 1u)) & 3u;
  decoded.radius *= key_table_l5[code_l5][(cell >> 0u) & 1u];
  let code_l6 = key_field_within(unit, t, key_code_bit_l6(cell >> 2u)) & 3u;
  decoded.radius *= key_table_l6[code_l6][(cell >> 1u) & 1u];
  let code_l7 = key_field_within(unit, t, key_code_bit_l7(cell >> 3u)) & 3u;
  decoded.radius *= key_table_l7[code_l7][(cell >> 2u) & 1u];
  let code_l8 = key_field_within(unit, t, key_code_bit_l8(cell >> 4u)) & 3u;
  decoded.radius *= key_table_l8[code_l8][(cell >> 3u) & 1u];
  let pair_l4_0 = key_table_l4[(codes_1_0 >> 9u) & 3u];
  let radius_l3_0 = pair_l4_0.x;
  let radius_l3_1 = pair_l4_0.y;
  let pair_l3_0 = radius_l3_0 * key_table_l3[(codes_1_0 >> 3u) & 7u];
  let radius_l2_0 = pair_l3_0.x;
  let radius_l2_1 = pair_l3_0.y;
  let pair_l3_1 = radius_l3_1 * key_table_l3[(codes_1_0 >> 14u) & 7u];
  let radius_l2_2 = pair_l3_1.x;
  let radius_l2_3 = pair_l3_1.y;
  let pair_l2_0 = radius_l2_0 * key_table_l2[codes_1_0 & 7u];
  let pair_l2_1 = radius_l2_1 * key_table_l2[(codes_1_0 >> 6u) & 7u];
  let pair_l2_2 = radius_l2_2 * key_table_l2[(codes_1_0 >> 11u) & 7u];
  let pair_l2_3 = radius_l2_3 * key_table_l2[(codes_1_0 >> 17u) & 7u];
  let pair_0 = key_table_l1[codes_0 & 255u];
  decoded.parts[0] = vec4f(pair_0 * pair_l2_0.xxyy);
  let pair_1 = key_table_l1[(codes_0 >> 8u) & 255u];
  decoded.parts[1] = vec4f(pair_1 * pair_l2_1.xxyy);
  let pair_2 = key_table_l1[(codes_0 >> 16u) & 255u];
  decoded.parts[2] = vec4f(pair_2 * pair_l2_2.xxyy);
  let pair_3 = key_table_l1[codes_0 >> 24u];
  decoded.parts[3] = vec4f(pair_3 * pair_l2_3.xxyy);
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
    ((token % page_tokens) / 32u) * params.key_unit_stride;
}

// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (256u + 1u);
}

// Coordinate i of all queries of this workgroup.
fn gather(row: u32, head: u32, part: u32, i: u32) -> queries {
  return queries(
    bitcast<f32>(workspace[query_from(row, head, part, 0u) + i]),
    bitcast<f32>(workspace[query_from(row, head, part, 1u) + i]),
  );
}

var<workgroup> query: array<queries, 256>;

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
  return bits;
}

fn finite_or_zero(x: queries, lost: u32) -> queries {
  let bits = vec2u(1u, 2u);
  return select(x, queries(0.0), (vec2u(lost) & bits) != vec2u(0u));
}

// Products of the workgroup's queries with the key of a token; bad where a radius is not finite.
fn key_products(
  unit: u32, t: u32,
  bad: ptr<function, bool>,
) -> queries {
  var sum = queries(0.0);
  for (var cell = 0u; cell < 16u; cell++) {
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
  for (var i = lane; i < 256u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 256u);
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
    let t = token % 32u;
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
