// polarc · llama_d128_rows · queries · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/queries.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Queries ready for dot products with decoded keys: multiplied by the dual of S where they are in
// the original basis, in float32 in the workspace, and behind each the constant q * mean.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  rotate: u32, // 1: original basis, 0: rotated
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  query: u32, // word of the workspace where queries begin
  q_dtype: u32, // 0: f32, 1: f16, 2: bf16
  q_offset: u32, // elements
  q_row_stride: u32, // elements
  q_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> workspace: array<u32>;

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
fn q_element(at: u32) -> f32 {
  if (params.q_dtype == dtype_f32) { return bitcast<f32>(q[at]); }
  let bits = (q[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.q_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
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

var<workgroup> products: array<f32, 64>;

@compute @workgroup_size(64)
fn queries(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let kv_head = q_head / params.heads_per_kv;
  let start = params.q_offset + row * params.q_row_stride + q_head * params.q_head_stride;
  let to = params.query + item * (128u + 1u);

  // The constant: q with the mean, both in the original basis or both rotated.
  var product = 0.0;
  if (params.mean != none) {
    for (var i = lane; i < 128u; i += 64u) {
      vector[i] = transforms[params.mean + kv_head * 128u + i];
    }
    workgroupBarrier();
    if (params.rotate == 0u) { rotate_vector(lane, 0u, kv_head); }
    for (var i = lane; i < 128u; i += 64u) {
      product = fma(q_element(start + i), vector[i], product);
    }
  }
  products[lane] = product;
  workgroupBarrier();

  for (var i = lane; i < 128u; i += 64u) { vector[i] = q_element(start + i); }
  workgroupBarrier();
  if (params.rotate != 0u) { rotate_vector(lane, 1u, kv_head); }
  for (var i = lane; i < 128u; i += 64u) { workspace[to + i] = bitcast<u32>(vector[i]); }
  if (lane == 0u) {
    var sum = 0.0;
    for (var i = 0u; i < 64u; i++) { sum += products[i]; }
    workspace[to + 128u] = bitcast<u32>(sum);
  }
}
