// polarc · llama_d128_rows · decode · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/decode.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
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
