// polarc · llama_d128_rows · merge · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/merge.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Partial results of parts of a sequence to one, part after part in float32: merge_add takes a
// part into the workspace, merge_finish applies the sink logit, once, and writes the output. One
// row of a query head a workgroup.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  first_part: u32, // 1: the workspace holds nothing yet
  parts: u32,
  workspace: u32, // word where it begins
  part_lse: u32, // word of the first
  part_lse_row_stride: u32, // words
  sink: u32, // word of the first, or none
  lse: u32, // word of the first, or none
  lse_row_stride: u32, // words
  part_dtype: u32, // 0: f32, 1: f16, 2: bf16
  part_offset: u32, // elements
  part_row_stride: u32, // elements
  part_head_stride: u32, // elements
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
@group(0) @binding(1) var<storage, read> part: array<u32>;
@group(0) @binding(2) var<storage, read> part_lse: array<u32>;
@group(0) @binding(3) var<storage, read_write> workspace: array<u32>;
@group(0) @binding(4) var<storage, read> sink: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

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
fn part_element(at: u32) -> f32 {
  if (params.part_dtype == dtype_f32) { return bitcast<f32>(part[at]); }
  let bits = (part[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  if (params.part_dtype == dtype_f16) { return from_f16(bits); }
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

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

const size = 128u + 3u; // of a row's state: state, exponent, sum of weights, weighted sum

@compute @workgroup_size(64)
fn merge_add(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let at = params.workspace + item * size;
  var state = split_unseen;
  var top = least_exponent;
  var mass = 0.0;
  if (params.first_part == 0u) {
    state = workspace[at];
    top = bitcast<f32>(workspace[at + 1u]);
    mass = bitcast<f32>(workspace[at + 2u]);
  }
  let bits = part_lse[params.part_lse + row * params.part_lse_row_stride + q_head];
  let seen = bits != minus_infinity_bits;
  let broken = seen && (bits & 0x7f800000u) == 0x7f800000u;
  let finite_bits = select(bits, 0u, broken);
  let exponent = bitcast<f32>(select(bitcast<u32>(least_exponent), finite_bits, seen));
  let highest = max(top, exponent);
  let shrink = exp(max(top - highest, -100.0));
  let weight = select(0.0, exp(max(exponent - highest, -100.0)), seen);
  let start = params.part_offset + row * params.part_row_stride + q_head * params.part_head_stride;
  for (var i = lane; i < 128u; i += 64u) {
    var before = 0u;
    if (params.first_part == 0u) { before = workspace[at + 3u + i]; }
    var sum = before;
    if (seen) {
      let x = part_element(start + i);
      let lost = (before & 0x7f800000u) == 0x7f800000u || !is_finite(x);
      let added = bitcast<f32>(before) * shrink + weight * x;
      sum = select(bitcast<u32>(added), nan_bits, lost);
    }
    workspace[at + 3u + i] = sum;
  }
  storageBarrier();
  if (lane == 0u) {
    workspace[at] = select(select(max(state, split_seen), split_nan, broken), state, !seen);
    workspace[at + 1u] = bitcast<u32>(highest);
    workspace[at + 2u] = bitcast<u32>(mass * shrink + weight);
  }
}

@compute @workgroup_size(64)
fn merge_finish(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let at = params.workspace + item * size;
  var state = split_unseen;
  var top = least_exponent;
  var mass = 0.0;
  if (params.parts != 0u) {
    state = workspace[at];
    top = bitcast<f32>(workspace[at + 1u]);
    mass = bitcast<f32>(workspace[at + 2u]);
  }
  let seen = state != split_unseen;
  var failed = state == split_nan;
  var divisor = mass;
  var factor = 1.0;
  if (params.sink != none) {
    let bits = sink[params.sink + q_head];
    if (bits != minus_infinity_bits) {
      failed |= (bits & 0x7f800000u) == 0x7f800000u;
      let highest = max(top, bitcast<f32>(bits));
      factor = exp(max(top - highest, -100.0));
      divisor = mass * factor + exp(max(bitcast<f32>(bits) - highest, -100.0));
    }
  }
  let scale = select(0.0, factor / divisor, seen);
  let to = params.out_offset + row * params.out_row_stride + q_head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    var pair = vec2u(0u);
    if (seen) {
      let bits = vec2u(workspace[at + 3u + i], workspace[at + 4u + i]);
      let lost = ((bits & vec2u(0x7f800000u)) == vec2u(0x7f800000u)) | vec2<bool>(failed);
      pair = select(bitcast<vec2u>(bitcast<vec2f>(bits) * scale), vec2u(nan_bits), lost);
    }
    out_store(to + i, pair);
  }
  if (lane == 0u && params.lse != none) {
    let value = bitcast<u32>(top + log(mass));
    let to_lse = params.lse + row * params.lse_row_stride + q_head;
    lse[to_lse] = select(select(minus_infinity_bits, value, seen), nan_bits, failed);
  }
}
