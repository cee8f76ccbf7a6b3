// polarc · gemma_d256 · encode_key · wgsl
// Generated from polarc.config.ts (plan 986971f7742794ff)
// through templates/wgsl/encode.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Rows of 256 numbers to packed slots, nearest codeword, the same bytes on every target: one
// row of a KV head a workgroup. Every product passes through an integer operation with a zero that
// only the caller knows, so that no compiler fuses it with the sum behind it (docs/format.md has
// the order of the operations).
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
@group(0) @binding(4) var<storage, read_write> keys: array<atomic<u32>>;
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

fn key_code_bit_l1(i: u32) -> u32 {
  return 16u + 4u * i;
}

// Level 2: cosine and sine of every code, and tangents of the mid-angles.
const book_l2 = array<vec2f, 8>(
  vec2f(0.9822959, 0.18733618), vec2f(0.928666, 0.37091702), vec2f(0.85343534, 0.52119875),
  vec2f(0.76016456, 0.64973056), vec2f(0.64973056, 0.76016456), vec2f(0.52119875, 0.85343534),
  vec2f(0.37091702, 0.928666), vec2f(0.18733618, 0.9822959)
);
const thresholds_l2 = array<f32, 7>(
  0.29213205f, 0.50059766f, 0.7256627f, 1.0f, 1.3780507f, 1.9976122f, 3.4231095f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l2(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 4u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l2[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l2(i: u32) -> u32 {
  return 528u + 11u * (i / 2u) + 6u * (i % 2u);
}

// Level 3: cosine and sine of every code, and tangents of the mid-angles.
const book_l3 = array<vec2f, 8>(
  vec2f(0.9530882, 0.30269265), vec2f(0.89012563, 0.4557152), vec2f(0.8218942, 0.56964016),
  vec2f(0.7473401, 0.6644417), vec2f(0.6644417, 0.7473401), vec2f(0.56964016, 0.8218942),
  vec2f(0.4557152, 0.89012563), vec2f(0.30269265, 0.9530882)
);
const thresholds_l3 = array<f32, 7>(
  0.4114595f, 0.5989156f, 0.78642297f, 1.0f, 1.2715803f, 1.6696844f, 2.4303727f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l3(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 4u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l3[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l3(i: u32) -> u32 {
  return 531u + 11u * i;
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
  return 537u + 22u * i;
}

// Level 5: cosine and sine of every code, and tangents of the mid-angles.
const book_l5 = array<vec2f, 4>(
  vec2f(0.82617986, 0.56340647), vec2f(0.7458723, 0.66608894), vec2f(0.66608894, 0.7458723),
  vec2f(0.56340647, 0.82617986)
);
const thresholds_l5 = array<f32, 3>(
  0.78209585f, 1.0f, 1.2786157f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l5(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l5[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l5(i: u32) -> u32 {
  return 548u + 44u * i;
}

// Level 6: cosine and sine of every code, and tangents of the mid-angles.
const book_l6 = array<vec2f, 4>(
  vec2f(0.79454374, 0.60720694), vec2f(0.73480064, 0.67828315), vec2f(0.67828315, 0.73480064),
  vec2f(0.60720694, 0.79454374)
);
const thresholds_l6 = array<f32, 3>(
  0.8405498f, 1.0f, 1.1896975f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l6(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l6[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l6(i: u32) -> u32 {
  return 570u + 88u * i;
}

// Level 7: cosine and sine of every code, and tangents of the mid-angles.
const book_l7 = array<vec2f, 4>(
  vec2f(0.7704688, 0.63747776), vec2f(0.726821, 0.6868269), vec2f(0.6868269, 0.726821),
  vec2f(0.63747776, 0.7704688)
);
const thresholds_l7 = array<f32, 3>(
  0.88446784f, 1.0f, 1.1306233f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l7(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l7[code + step - 1u], u)) { code += step; }
  }
  return code;
}

fn key_code_bit_l7(i: u32) -> u32 {
  return 614u + 176u * i;
}

// Level 8: cosine and sine of every code, and tangents of the mid-angles.
const book_l8 = array<vec2f, 4>(
  vec2f(0.7526462, 0.65842515), vec2f(0.72111017, 0.69282037), vec2f(0.69282037, 0.72111017),
  vec2f(0.65842515, 0.7526462)
);
const thresholds_l8 = array<f32, 3>(
  0.9168717f, 1.0f, 1.0906651f
);

// The number of thresholds t with v > t * u; they ascend.
fn search_l8(u: f32, v: f32) -> u32 {
  var code = 0u;
  for (var step = 2u; step > 0u; step >>= 1u) {
    if (v > times(thresholds_l8[code + step - 1u], u)) { code += step; }
  }
  return code;
}

const key_code_bit_l8_list = array<u32, 1>(
  702u
);
fn key_code_bit_l8(i: u32) -> u32 {
  return key_code_bit_l8_list[i];
}

fn key_radius_bit(i: u32) -> u32 {
  return 0u;
}

// ---- One row ----

var<workgroup> slot: i32;
var<workgroup> vector: array<f32, 256>; // preconditioned
var<workgroup> spare: array<f32, 256>; // before that; then what every node loses, squared
var<workgroup> projections: array<f32, 256>; // level after level
var<workgroup> codes: array<u32, 255>; // level after level
var<workgroup> stored: array<f32, 1>; // what a stored radius decodes to
var<workgroup> lost: atomic<u32>; // a projection at the top is not finite
var<workgroup> record: array<atomic<u32>, 28>;

// Bit i: coordinate i changes its sign.
const signs = array<u32, 8>(
  3974602407u, 465776514u, 1980758146u, 10128633u, 53972026u, 3832438477u, 1989142733u, 776091648u
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

// Codes of every level, bottom up: a node passes its projection on the nearest codeword upwards.
fn find_codes(lane: u32) {
  for (var node = lane; node < 128u; node += 64u) {
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
  for (var node = lane; node < 64u; node += 64u) {
    let u = projections[0u + 2u * node];
    let v = projections[0u + 2u * node + 1u];
    let code = search_l2(u, v);
    let direction = book_l2[code];
    codes[128u + node] = code;
    projections[128u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[128u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 32u; node += 64u) {
    let u = projections[128u + 2u * node];
    let v = projections[128u + 2u * node + 1u];
    let code = search_l3(u, v);
    let direction = book_l3[code];
    codes[192u + node] = code;
    projections[192u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[192u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 16u; node += 64u) {
    let u = projections[192u + 2u * node];
    let v = projections[192u + 2u * node + 1u];
    let code = search_l4(u, v);
    let direction = book_l4[code];
    codes[224u + node] = code;
    projections[224u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[224u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 8u; node += 64u) {
    let u = projections[224u + 2u * node];
    let v = projections[224u + 2u * node + 1u];
    let code = search_l5(u, v);
    let direction = book_l5[code];
    codes[240u + node] = code;
    projections[240u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[240u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 4u; node += 64u) {
    let u = projections[240u + 2u * node];
    let v = projections[240u + 2u * node + 1u];
    let code = search_l6(u, v);
    let direction = book_l6[code];
    codes[248u + node] = code;
    projections[248u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[248u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 2u; node += 64u) {
    let u = projections[248u + 2u * node];
    let v = projections[248u + 2u * node + 1u];
    let code = search_l7(u, v);
    let direction = book_l7[code];
    codes[252u + node] = code;
    projections[252u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[252u + node] = squared(across);
  }
  workgroupBarrier();
  for (var node = lane; node < 1u; node += 64u) {
    let u = projections[252u + 2u * node];
    let v = projections[252u + 2u * node + 1u];
    let code = search_l8(u, v);
    let direction = book_l8[code];
    codes[254u + node] = code;
    projections[254u + node] = times(u, direction.x) + times(v, direction.y);
    let across = times(u, direction.y) - times(v, direction.x);
    spare[254u + node] = squared(across);
  }
  workgroupBarrier();
}

fn top_projection(block: u32) -> f32 {
  return projections[254u + block];
}

fn scaled_projection(block: u32) -> f32 {
  return times(top_projection(block), 0.0625f);
}

fn put_codes(lane: u32) {
  for (var node = lane; node < 128u; node += 64u) {
    if (is_finite(top_projection(node / 128u))) {
      put_bits(key_code_bit_l1(node), codes[0u + node]);
    }
  }
  for (var node = lane; node < 64u; node += 64u) {
    if (is_finite(top_projection(node / 64u))) {
      put_bits(key_code_bit_l2(node), codes[128u + node]);
    }
  }
  for (var node = lane; node < 32u; node += 64u) {
    if (is_finite(top_projection(node / 32u))) {
      put_bits(key_code_bit_l3(node), codes[192u + node]);
    }
  }
  for (var node = lane; node < 16u; node += 64u) {
    if (is_finite(top_projection(node / 16u))) {
      put_bits(key_code_bit_l4(node), codes[224u + node]);
    }
  }
  for (var node = lane; node < 8u; node += 64u) {
    if (is_finite(top_projection(node / 8u))) {
      put_bits(key_code_bit_l5(node), codes[240u + node]);
    }
  }
  for (var node = lane; node < 4u; node += 64u) {
    if (is_finite(top_projection(node / 4u))) {
      put_bits(key_code_bit_l6(node), codes[248u + node]);
    }
  }
  for (var node = lane; node < 2u; node += 64u) {
    if (is_finite(top_projection(node / 2u))) {
      put_bits(key_code_bit_l7(node), codes[252u + node]);
    }
  }
  for (var node = lane; node < 1u; node += 64u) {
    if (is_finite(top_projection(node / 1u))) {
      put_bits(key_code_bit_l8(node), codes[254u + node]);
    }
  }
}

// A radius a block; the canonical NaN where the projection is not finite.
fn put_radii(lane: u32) {
  for (var block = lane; block < 1u; block += 64u) {
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
  for (var i = 0u; i < 255u; i++) { error += spare[i]; }
  error = times(error, 0.00390625f);
  for (var block = 0u; block < 1u; block++) {
    let delta = scaled_projection(block) - stored[block];
    error += squared(delta);
  }
  return error;
}

// Only bits of this token change: others of the same word may be written at the same time.
fn change_bits(at: u32, mask: u32, bits: u32) {
  atomicXor(&keys[at], (atomicLoad(&keys[at]) ^ bits) & mask);
}

fn store_record(unit: u32, t: u32, lane: u32) {
  for (var byte = lane; byte < 109u; byte += 64u) {
    let shift = (t & 3u) * 8u;
    let bits = (atomicLoad(&record[byte >> 2u]) >> ((byte & 3u) * 8u)) & 0xffu;
    change_bits(unit + 8u * byte + (t >> 2u), 0xffu << shift, bits << shift);
  }
  // The last bits stand in planes of their own.
  if (lane == 0u) {
    let rest = atomicLoad(&record[109u >> 2u]) >> ((109u & 3u) * 8u);
    {
      let column = t % 16u;
      let shift = (column & 3u) * 8u + 4u * (t / 16u);
      let bits = (rest >> 0u) & 15u;
      change_bits(unit + 872u + (column >> 2u), 15u << shift, bits << shift);
    }
    {
      let column = t % 8u;
      let shift = (column & 3u) * 8u + 2u * (t / 8u);
      let bits = (rest >> 4u) & 3u;
      change_bits(unit + 876u + (column >> 2u), 3u << shift, bits << shift);
    }
  }
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
  for (var i = lane; i < 256u; i += 64u) {
    var x = rows_element(start + i);
    // No denormal may decide a code: below 2^-64 is zero.
    x = select(x, 0.0, (bitcast<u32>(x) & 0x7fffffffu) < 0x1f800000u);
    x = select(x, -x, ((signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
    vector[i] = x;
  }
  for (var i = lane; i < 28u; i += 64u) { atomicStore(&record[i], 0u); }
  if (lane == 0u) { atomicStore(&lost, 0u); }
  workgroupBarrier();
  precondition(lane, head);
  find_codes(lane);
  for (var block = lane; block < 1u; block += 64u) {
    if (!is_finite(top_projection(block))) { atomicStore(&lost, 1u); }
  }
  workgroupBarrier();
  let is_lost = atomicLoad(&lost) != 0u;
  put_codes(lane);
  put_radii(lane);
  workgroupBarrier();
  let unit = params.cache_offset + page * params.cache_page_stride +
    head * params.cache_head_stride + (token / 32u) * params.cache_unit_stride;
  store_record(unit, token % 32u, lane);
  if (lane == 0u && params.errors != none) {
    let infinity = bitcast<f32>(0x7f800000u | params.zero);
    errors[params.errors + item] = select(row_error(), infinity, is_lost);
  }
}
