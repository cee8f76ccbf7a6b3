// polarc · llama_d128_rows · combine · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/combine.wgsl.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Partial results of the splits of a sequence, in order, to one output a query head: weighed by
// their log-sum-exps (attention) or added (weighted_sum), in the original basis again, plus the
// mean.

struct Params {
  items: u32, // workgroups with work to do; those beyond end at once
  q_heads: u32,
  heads_per_kv: u32, // heads that share a KV head
  splits: u32, // of a sequence
  sums: u32, // 1: partial results are added, not weighed
  rotate: u32, // 1: original basis, 0: rotated
  mean: u32, // index of the first number in transforms, or none
  matrix: u32, // the same
  dual: u32, // the same
  state: u32, // word of the workspace where rows have their states
  partial: u32, // word of the workspace where partial results begin
  lse: u32, // word of the first, or none
  lse_row_stride: u32, // words
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
@group(0) @binding(1) var<storage, read> workspace: array<u32>;
@group(0) @binding(2) var<storage, read> transforms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

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
const value_signs = array<u32, 4>(
  3974602407u, 465776514u, 1980758146u, 10128633u
);

fn value_signed(i: u32, x: f32) -> f32 {
  return select(x, -x, ((value_signs[i >> 5u] >> (i & 31u)) & 1u) == 1u);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k.
fn value_butterflies(lane: u32) {
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
    for (var i = lane; i < 128u; i += 64u) { vector[i] = value_signed(i, vector[i]); }
    workgroupBarrier();
  }
  value_butterflies(lane);
  for (var i = lane; i < 128u; i += 64u) {
    let x = vector[i] * 0.088388346f;
    vector[i] = select(x, value_signed(i, x), rotation == 2u);
  }
  workgroupBarrier();
}

// ---- A split's partial result: state, exponent, sum of weights, then the weighted sum ----

const split_unseen = 0u; // no token was seen
const split_seen = 1u;
const split_nan = 2u; // a logit was not finite
const least_exponent = -3e38;

var<workgroup> lost: array<u32, 128>; // 1: the coordinate is NaN
var<workgroup> any_lost: atomic<u32>;

@compute @workgroup_size(64)
fn combine(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = work_item(group, groups);
  if (item >= params.items) { return; }
  let row = item / params.q_heads;
  let q_head = item % params.q_heads;
  let kv_head = q_head / params.heads_per_kv;
  let size = 128u + 3u;
  let first = params.partial + item * params.splits * size;
  var failed = workspace[params.state + row * 8u] == none;

  // The greatest exponent, and the sum over all splits that saw something.
  var top = least_exponent;
  var seen = false;
  for (var split = 0u; split < params.splits; split++) {
    let at = first + split * size;
    let state = workspace[at];
    if (state == split_unseen) { continue; }
    seen = true;
    if (state == split_nan) { failed = true; }
    top = max(top, bitcast<f32>(workspace[at + 1u]));
  }
  var total = 0.0;
  for (var split = 0u; split < params.splits; split++) {
    let at = first + split * size;
    if (workspace[at] == split_unseen) { continue; }
    let weight = exp2(max(bitcast<f32>(workspace[at + 1u]) - top, -150.0));
    total += weight * bitcast<f32>(workspace[at + 2u]);
  }
  let normal = select(1.0 / total, 1.0, params.sums != 0u || !seen);

  if (lane == 0u) { atomicStore(&any_lost, 0u); }
  workgroupBarrier();
  for (var i = lane; i < 128u; i += 64u) {
    var sum = 0.0;
    var is_lost = false;
    for (var split = 0u; split < params.splits; split++) {
      let at = first + split * size;
      if (workspace[at] == split_unseen) { continue; }
      let bits = workspace[at + 3u + i];
      if ((bits & 0x7f800000u) == 0x7f800000u) { is_lost = true; }
      let weight = exp2(max(bitcast<f32>(workspace[at + 1u]) - top, -150.0));
      sum += weight * bitcast<f32>(bits);
    }
    vector[i] = select(sum * normal, 0.0, is_lost);
    lost[i] = u32(is_lost);
    if (is_lost) { atomicOr(&any_lost, 1u); }
  }
  workgroupBarrier();
  if (params.rotate != 0u) { rotate_vector(lane, 2u, kv_head); }

  // Every coordinate of the original basis is made of all rotated ones.
  let all_lost = failed || (params.rotate != 0u && atomicLoad(&any_lost) != 0u);
  let mass = select(f32(seen), total, params.sums != 0u);
  let to = params.out_offset + row * params.out_row_stride + q_head * params.out_head_stride;
  for (var i = lane * 2u; i < 128u; i += 128u) {
    var pair = vec2f(vector[i], vector[i + 1u]);
    let is_lost = vec2<bool>(lost[i] != 0u, lost[i + 1u] != 0u) | vec2<bool>(all_lost);
    out_store(to + i, select(bitcast<vec2u>(pair), vec2u(nan_bits), is_lost));
  }
  if (lane == 0u && params.lse != none) {
    let at = params.lse + row * params.lse_row_stride + q_head;
    let value = bitcast<u32>((top + log2(total)) * 0.6931471805599453);
    lse[at] = select(select(minus_infinity_bits, value, seen), nan_bits, failed);
  }
}
