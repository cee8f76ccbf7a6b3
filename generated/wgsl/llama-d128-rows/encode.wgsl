// polarc · llama_d128_rows · encode · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/encode.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
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
