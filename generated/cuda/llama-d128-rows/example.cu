// polarc · llama_d128_rows · example · cuda
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/cuda/example.cu.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Encodes the keys and values of one sequence, attends over them, and prints what a token takes and
// how far the outputs are from attention over the numbers as they were. CMakeLists.txt builds it.
#include "llama-d128-rows.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kv_heads = 2, tokens = 1000;

using Floats = std::vector<float>;

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", cudaGetErrorName(error), cudaGetErrorString(error));
  exit(1);
}

void check(int status) {
  if (status == POLARC_OK) return;
  fprintf(stderr, "%s\n", llama_d128_rows_cuda_message());
  exit(1);
}

// Memory lives as long as the program.
template <class T> T *on_device(size_t count, const T *from = nullptr) {
  T *memory = nullptr;
  check(cudaMalloc(&memory, count * sizeof(T)));
  if (from) check(cudaMemcpy(memory, from, count * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}
template <class T> T *on_device(const std::vector<T> &from) {
  return on_device(from.size(), from.data());
}

// Close enough to normal: twelve uniform numbers, summed.
Floats normal_rows(size_t rows, int dim, uint32_t seed) {
  Floats x(rows * static_cast<size_t>(dim), -6.0f);
  for (float &number : x)
    for (int i = 0; i < 12; i++) {
      seed = seed * 1664525u + 1013904223u;
      number += static_cast<float>(seed >> 8) / 16777216.0f;
    }
  return x;
}

template <class Params> Params params() {
  Params p = {};
  p.size = sizeof p;
  p.version = POLARC_ABI_VERSION;
  return p;
}

polarc_rows rows_of(float *data, int heads, int dim) {
  return {data, POLARC_F32, 0, static_cast<int64_t>(heads) * dim, dim};
}

// A mean of zeros and identities: formats without them do not look, others want yours.
polarc_transform plain_transform(int dim) {
  const size_t d = static_cast<size_t>(dim);
  Floats matrix(kv_heads * d * d);
  for (size_t i = 0; i < kv_heads * d; i++) matrix[i * d + i % d] = 1;
  const float *identity = on_device(matrix);
  return {on_device(Floats(kv_heads * d)), identity, identity};
}

// Rows of keys or values to a pool of pages, tokens of a head together.
polarc_pool encoded(int (*encode)(const polarc_encode_params *, void *), const Floats &rows,
                    int dim, int64_t page_tokens, int64_t unit_tokens, int64_t unit_bytes,
                    const polarc_transform &transform) {
  const int64_t pages = (tokens + page_tokens - 1) / page_tokens;
  const int64_t head_bytes = page_tokens / unit_tokens * unit_bytes;
  std::vector<int64_t> slots(tokens);
  for (int i = 0; i < tokens; i++) slots[static_cast<size_t>(i)] = i;

  auto p = params<polarc_encode_params>();
  p.rows = rows_of(on_device(rows), kv_heads, dim);
  p.count = tokens;
  p.kv_heads = kv_heads;
  p.slots = on_device(slots);
  p.cache.data = on_device<unsigned char>(static_cast<size_t>(pages * kv_heads * head_bytes));
  p.cache.pages = pages;
  p.cache.page_stride = kv_heads * head_bytes;
  p.cache.head_stride = head_bytes;
  p.cache.unit_stride = unit_bytes;
  p.transform = transform;
  check(encode(&p, nullptr));
  return p.cache;
}

} // namespace

int main() {
  const polarc_kernels *k = llama_d128_rows_cuda_kernels();
  const int key_dim = k->key_dim, value_dim = k->value_dim, group = k->group;
  const int q_heads = kv_heads * group;
  const Floats keys = normal_rows(tokens * kv_heads, key_dim, 1);
  const Floats values = normal_rows(tokens * kv_heads, value_dim, 2);
  const Floats queries = normal_rows(static_cast<size_t>(q_heads), key_dim, 3);

  // One row of queries over one sequence that lies in the first pages.
  auto p = params<polarc_attend_params>();
  p.key = plain_transform(key_dim);
  p.value = plain_transform(value_dim);
  p.keys = encoded(k->encode_key, keys, key_dim, k->page_tokens, k->key_unit_tokens,
                   k->key_unit_bytes, p.key);
  p.values = encoded(k->encode_value, values, value_dim, k->page_tokens, k->value_unit_tokens,
                     k->value_unit_bytes, p.value);
  p.q = rows_of(on_device(queries), q_heads, key_dim);
  p.out = rows_of(on_device<float>(static_cast<size_t>(q_heads * value_dim)), q_heads, value_dim);
  p.rows = 1;
  p.kv_heads = kv_heads;
  p.scale = 1 / std::sqrt(static_cast<float>(key_dim));
  p.index.sequences = 1;
  p.index.max_tokens = tokens;
  p.index.lengths = on_device(std::vector<int32_t>{tokens});
  p.index.pages_per_sequence = p.keys.pages;
  p.workspace_bytes = k->attend_workspace(&p);
  p.workspace = on_device<unsigned char>(p.workspace_bytes);
  check(k->attend(&p, nullptr));

  Floats out(static_cast<size_t>(q_heads * value_dim));
  check(cudaMemcpy(out.data(), p.out.data, out.size() * sizeof(float), cudaMemcpyDeviceToHost));

  printf("%s: %g + %g bytes a token and KV head, %d + %d in bf16\n", k->name,
         static_cast<double>(k->key_unit_bytes) / k->key_unit_tokens,
         static_cast<double>(k->value_unit_bytes) / k->value_unit_tokens, 2 * key_dim,
         2 * value_dim);
  for (int head = 0; head < q_heads; head++) {
    const auto row_of = [&](const Floats &rows, int token, int dim) {
      return rows.data() + (token * kv_heads + head / group) * dim;
    };
    const float *query = queries.data() + head * key_dim;
    std::vector<double> exact(static_cast<size_t>(value_dim));
    double total = 0, error = 0, energy = 0;
    for (int token = 0; token < tokens; token++) {
      const float *key = row_of(keys, token, key_dim);
      double logit = 0;
      for (int i = 0; i < key_dim; i++) logit += query[i] * key[i];
      const double weight = std::exp(logit * p.scale);
      total += weight;
      for (int i = 0; i < value_dim; i++)
        exact[static_cast<size_t>(i)] += weight * row_of(values, token, value_dim)[i];
    }
    for (int i = 0; i < value_dim; i++) {
      const double x = exact[static_cast<size_t>(i)] / total;
      const double difference = out[static_cast<size_t>(head * value_dim + i)] - x;
      error += difference * difference;
      energy += x * x;
    }
    printf("query head %d: relative error of the output %.3f\n", head, std::sqrt(error / energy));
  }
}
