// polarc · gemma_d256 · decode_key · wgsl
// Generated from polarc.config.ts (plan 986971f7742794ff)
// through templates/wgsl/decode.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Packed slots to rows of 256 numbers, original or preconditioned: one row of a KV head a
// workgroup.
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

// ---- S, S^-T and S^-1 on the vector in workgroup memory; barriers stand around every step ----

var<workgroup> vector: array<f32, 256>;
var<workgroup> spare: array<f32, 256>;

// Bit i: coordinate i changes its sign.
const key_signs = array<u32, 8>(
  3974602407u, 465776514u, 1980758146u, 10128633u, 53972026u, 3832438477u, 1989142733u, 776091648u
);

fn key_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((key_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn key_butterflies(lane: u32) {
  for (var stride = 1u; stride < 256u; stride *= 2u) {
    for (var pair = lane; pair < 256u / 2u; pair += 64u) {
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
    for (var i = lane; i < 256u; i += 64u) { vector[i] = key_signed(i, vector[i]); }
    workgroupBarrier();
  }
  key_butterflies(lane);
  for (var i = lane; i < 256u; i += 64u) {
    let x = vector[i] * 0.0625f;
    vector[i] = select(x, key_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

var<workgroup> slot: i32;
var<workgroup> lost: array<u32, 16>; // of a cell: bit i where radius i is not finite
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
    head * params.cache_head_stride + (token / 32u) * params.cache_unit_stride;
  for (var cell = lane; cell < 16u; cell += 64u) {
    let decoded = key_decode(unit, token % 32u, cell);
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
  for (var i = lane * 2u; i < 256u; i += 128u) {
    var pair = vec2f(vector[i], vector[i + 1u]);
    let cell = i / 16u;
    let is_lost = all_lost || ((lost[cell] >> ((i % 16u) >> 4u)) & 1u) != 0u;
    rows_store(to + i, select(bitcast<vec2u>(pair), vec2u(nan_bits), is_lost));
  }
}
