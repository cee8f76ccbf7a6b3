// polarc · llama_d128_rows · rotate · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/rotate.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Rows of 128 numbers times S, its dual S^-T or its inverse: one row of a head a workgroup.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  rotation: u32, // 0: S, 1: its dual, 2: its inverse
  matrix: u32, // the same
  dual: u32, // the same
  source_dtype: u32, // 0: f32, 1: f16, 2: bf16
  source_offset: u32, // elements
  source_row_stride: u32, // elements
  source_head_stride: u32, // elements
  out_dtype: u32, // 0: f32, 1: f16, 2: bf16
  out_offset: u32, // elements
  out_row_stride: u32, // elements
  out_head_stride: u32, // elements
}
const none = 0xffffffffu; // of an array that was left out
const nan_bits = 0x7fc00000u;
const minus_infinity_bits = 0xff800000u;
const dtype_f32 = 0u;
const dtype_f16 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<atomic<u32>>;

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
fn source_element(at: u32) -> f32 {
  if (params.source_dtype == dtype_f32) { return bitcast<f32>(source[at]); }
  let bits = (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.source_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

// Half a word: its other half may belong to another row.
fn out_store_half(at: u32, half: u32) {
  let shift = (at & 1u) * 16u;
  atomicAnd(&out[at >> 1u], ~(0xffffu << shift));
  atomicOr(&out[at >> 1u], half << shift);
}

// Two neighbouring elements of the rows, from the bits of float32 numbers.
fn out_store(at: u32, bits: vec2u) {
  if (params.out_dtype == dtype_f32) {
    atomicStore(&out[at], bits.x);
    atomicStore(&out[at + 1u], bits.y);
    return;
  }
  var halves = vec2u(to_f16(bits.x, 0x7c00u), to_f16(bits.y, 0x7c00u));
  if (params.out_dtype != dtype_f16) {
    halves = vec2u(to_bf16(bits.x, 0x7f80u), to_bf16(bits.y, 0x7f80u));
  }
  if ((at & 1u) == 0u) {
    atomicStore(&out[at >> 1u], halves.x | (halves.y << 16u));
  } else {
    out_store_half(at, halves.x);
    out_store_half(at + 1u, halves.y);
  }
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

// An element of the rows that are overwritten.
fn out_element(at: u32) -> f32 {
  if (params.out_dtype == dtype_f32) { return bitcast<f32>(atomicLoad(&out[at])); }
  let bits = (atomicLoad(&out[at >> 1u]) >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.out_dtype == dtype_f16) { return from_f16(bits); }
  return bitcast<f32>(bits << 16u);
}

fn rotate_row(item: u32, lane: u32) {
  let row = item / params.heads;
  let head = item % params.heads;
  rotate_vector(lane, params.rotation, head / params.heads_per_kv);
  let to = params.out_offset + row * params.out_row_stride + head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    out_store(to + i, vec2u(bitcast<u32>(vector[i]), bitcast<u32>(vector[i + 1u])));
  }
}

@compute @workgroup_size(64)
fn rotate(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let start = params.source_offset + (item / params.heads) * params.source_row_stride +
    (item % params.heads) * params.source_head_stride;
  for (var i = lane; i < 128u; i += 64u) { vector[i] = source_element(start + i); }
  workgroupBarrier();
  rotate_row(item, lane);
}

// The same where source is the memory of out, with the same strides.
@compute @workgroup_size(64)
fn rotate_in_place(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let start = params.out_offset + (item / params.heads) * params.out_row_stride +
    (item % params.heads) * params.out_head_stride;
  for (var i = lane; i < 128u; i += 64u) { vector[i] = out_element(start + i); }
  workgroupBarrier();
  rotate_row(item, lane);
}
