// polarc · small_d64 · attend_subgroups · wgsl
// Generated from polarc.config.ts (plan 59011a5646394f92)
// through templates/wgsl/attend.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT

enable subgroups;
// Softmax attention of one row's queries of a KV head over one split of a sequence's packed
// tokens, 256 at a time: lanes are tokens for the logits, then 16 tokens times cells of
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

// ---- Keys: 4 cells of 16 coordinates ----
//
// Keys: Hadamard rotation, centred;
// a tile of 1076 bytes for 32 tokens, 269 bits each; 1 radii, each of 64 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       1 x 16     0                           f16
//   code_l1     32 x 5      16, 21 ... 171              signs, angle in the quadrant
//   code_l2     16 x 3      176, 182 ... 266            angle of nodes 2j and 2j+1
//   code_l3      8 x 3      179, 191 ... 263            angle of nodes 2j and 2j+1
//   code_l4      4 x 3      185, 209, 233, 257          angle of nodes 2j and 2j+1
//   code_l5      2 x 3      197, 245                    angle of nodes 2j and 2j+1
//   code_l6      1 x 3      221                         angle of nodes 2j and 2j+1
// Byte q of token t's record is byte 32 q + t of the tile.
// Planes for the last 5 bits of a record follow, 4, 1 bits wide.

// Level 1: cosine and sine, with their signs, of every code.
const key_directions_l1 = array<vec2f, 32>(
  vec2f(0.9951847, 0.09801714), vec2f(-0.9951847, 0.09801714), vec2f(0.95694035, 0.29028466),
  vec2f(-0.95694035, 0.29028466), vec2f(0.8819213, 0.47139674), vec2f(-0.8819213, 0.47139674),
  vec2f(0.77301043, 0.6343933), vec2f(-0.77301043, 0.6343933), vec2f(0.6343933, 0.77301043),
  vec2f(-0.6343933, 0.77301043), vec2f(0.47139674, 0.8819213), vec2f(-0.47139674, 0.8819213),
  vec2f(0.29028466, 0.95694035), vec2f(-0.29028466, 0.95694035), vec2f(0.09801714, 0.9951847),
  vec2f(-0.09801714, 0.9951847), vec2f(0.9951847, -0.09801714), vec2f(-0.9951847, -0.09801714),
  vec2f(0.95694035, -0.29028466), vec2f(-0.95694035, -0.29028466), vec2f(0.8819213, -0.47139674),
  vec2f(-0.8819213, -0.47139674), vec2f(0.77301043, -0.6343933), vec2f(-0.77301043, -0.6343933),
  vec2f(0.6343933, -0.77301043), vec2f(-0.6343933, -0.77301043), vec2f(0.47139674, -0.8819213),
  vec2f(-0.47139674, -0.8819213), vec2f(0.29028466, -0.95694035), vec2f(-0.29028466, -0.95694035),
  vec2f(0.09801714, -0.9951847), vec2f(-0.09801714, -0.9951847)
);
var<workgroup> key_table_l1: array<vec2<f32>, 32>;

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
const key_directions_l4 = array<vec2f, 8>(
  vec2f(0.9107246, 0.41301423), vec2f(0.8495576, 0.5274959), vec2f(0.7931715, 0.6089983),
  vec2f(0.7365301, 0.6764047), vec2f(0.6764047, 0.7365301), vec2f(0.6089983, 0.7931715),
  vec2f(0.5274959, 0.8495576), vec2f(0.41301423, 0.9107246)
);
var<workgroup> key_table_l4: array<vec2<f32>, 8>;

// Level 5: cosine and sine of every code.
const key_directions_l5 = array<vec2f, 8>(
  vec2f(0.8660474, 0.49996194), vec2f(0.81386167, 0.5810587), vec2f(0.77004355, 0.6379913),
  vec2f(0.72826093, 0.68529993), vec2f(0.68529993, 0.72826093), vec2f(0.6379913, 0.77004355),
  vec2f(0.5810587, 0.81386167), vec2f(0.49996194, 0.8660474)
);
var<workgroup> key_table_l5: array<vec2<f32>, 8>;

// Level 6: cosine and sine of every code.
const key_directions_l6 = array<vec2f, 8>(
  vec2f(0.8266466, 0.56272143), vec2f(0.7853663, 0.6190313), vec2f(0.7525246, 0.65856415),
  vec2f(0.7221997, 0.6916846), vec2f(0.6916846, 0.7221997), vec2f(0.65856415, 0.7525246),
  vec2f(0.6190313, 0.7853663), vec2f(0.56272143, 0.8266466)
);
var<workgroup> key_table_l6: array<vec2<f32>, 8>;

// Every lane copies its share; a barrier must follow.
fn key_fill_tables(lane: u32) {
  for (var i = lane; i < 32u; i += 64u) {
    key_table_l1[i] = vec2<f32>(key_directions_l1[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l2[i] = vec2<f32>(key_directions_l2[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l3[i] = vec2<f32>(key_directions_l3[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l4[i] = vec2<f32>(key_directions_l4[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l5[i] = vec2<f32>(key_directions_l5[i]);
  }
  for (var i = lane; i < 8u; i += 64u) {
    key_table_l6[i] = vec2<f32>(key_directions_l6[i]);
  }
}

// A byte of the record of token t in the tile at word unit.
fn key_byte(unit: u32, t: u32, byte: u32) -> u32 {
  if (byte >= 33u) { // the last bits of a record stand in planes of their own
    var bits = 0u;
    {
      let column = t % 16u;
      let word = keys[unit + 264u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (4u * (t / 16u))) & 15u) << 0u;
    }
    {
      let column = t % 4u;
      let word = keys[unit + 268u + (column >> 2u)] >> ((column & 3u) * 8u);
      bits |= ((word >> (1u * (t / 4u))) & 1u) << 4u;
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
  return 16u + 40u * i;
}

fn key_codes_1_bit(i: u32) -> u32 {
  return 176u + 24u * i;
}

fn key_code_bit_l5(i: u32) -> u32 {
  return 197u + 48u * i;
}

const key_code_bit_l6_list = array<u32, 1>(
  221u
);
fn key_code_bit_l6(i: u32) -> u32 {
  return key_code_bit_l6_list[i];
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
  let codes_1 =
    (key_byte(unit, t, codes_at + 4u));
  let codes_1_from = key_codes_1_bit(cell);
  let codes_1_at = codes_1_from >> 3u;
  let codes_1_0 =
    (key_byte(unit, t, codes_1_at))
    | (key_byte(unit, t, codes_1_at + 1u) << 8u)
    | (key_byte(unit, t, codes_1_at + 2u) << 16u);

  var decoded: key_cell;
  var bad = false;
  decoded.radius = key_radius(key_radius_bits(unit, t, cell >> 2u), &bad);
  decoded.bad = u32(bad);
  let code_l5 = key_field_within(unit, t, key_code_bit_l5(cell >> 1u)) & 7u;
  decoded.radius *= key_table_l5[code_l5][(cell >> 0u) & 1u];
  let code_l6 = key_field_within(unit, t, key_code_bit_l6(cell >> 2u)) & 7u;
  decoded.radius *= key_table_l6[code_l6][(cell >> 1u) & 1u];
  let pair_l4_0 = key_table_l4[(codes_1_0 >> 9u) & 7u];
  let radius_l3_0 = pair_l4_0.x;
  let radius_l3_1 = pair_l4_0.y;
  let pair_l3_0 = radius_l3_0 * key_table_l3[(codes_1_0 >> 3u) & 7u];
  let radius_l2_0 = pair_l3_0.x;
  let radius_l2_1 = pair_l3_0.y;
  let pair_l3_1 = radius_l3_1 * key_table_l3[(codes_1_0 >> 15u) & 7u];
  let radius_l2_2 = pair_l3_1.x;
  let radius_l2_3 = pair_l3_1.y;
  let pair_l2_0 = radius_l2_0 * key_table_l2[codes_1_0 & 7u];
  let pair_l2_1 = radius_l2_1 * key_table_l2[(codes_1_0 >> 6u) & 7u];
  let pair_l2_2 = radius_l2_2 * key_table_l2[(codes_1_0 >> 12u) & 7u];
  let pair_l2_3 = radius_l2_3 * key_table_l2[(codes_1_0 >> 18u) & 7u];
  let pair_0 = vec4<f32>(
    key_table_l1[codes_0 & 31u],
    key_table_l1[(codes_0 >> 5u) & 31u]);
  decoded.parts[0] = vec4f(pair_0 * pair_l2_0.xxyy);
  let pair_1 = vec4<f32>(
    key_table_l1[(codes_0 >> 10u) & 31u],
    key_table_l1[(codes_0 >> 15u) & 31u]);
  decoded.parts[1] = vec4f(pair_1 * pair_l2_1.xxyy);
  let pair_2 = vec4<f32>(
    key_table_l1[(codes_0 >> 20u) & 31u],
    key_table_l1[(codes_0 >> 25u) & 31u]);
  decoded.parts[2] = vec4f(pair_2 * pair_l2_2.xxyy);
  let pair_3 = vec4<f32>(
    key_table_l1[((codes_0 >> 30u) | (codes_1 << 2u)) & 31u],
    key_table_l1[(codes_1 >> 3u) & 31u]);
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

// The word where query i of this workgroup begins; beyond the group the last one stands in.
fn query_from(row: u32, head: u32, part: u32, i: u32) -> u32 {
  let in_group = min(part * group_width + i, group - 1u);
  return params.query + ((row * params.kv_heads + head) * group + in_group) * (64u + 1u);
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

var<workgroup> query: array<queries, 64>;

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
  for (var cell = 0u; cell < 4u; cell++) {
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
      if (weight.x < 0.0) { continue; } // not seen
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
  key_fill_tables(lane);
  value_fill_tables(lane);
  for (var i = lane; i < 64u; i += 64u) { query[i] = gather(row, head, part, i); }
  let constants = gather(row, head, part, 64u);
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
        let t = token % 32u;
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
