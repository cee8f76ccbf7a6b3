// Encodes 512 tokens into a paged cache and attends over them, on a stream:
//   g++ -std=c++17 cuda-example.cpp -Lbuild -lllama-d128_cuda -lcudart
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama-d128.h"

constexpr int tokens = 512, kv_heads = 2, group = 4, dim = 128, q_heads = kv_heads * group;

#define CHECK(call, ok, text)                                                                      \
  if ((call) != (ok)) return fprintf(stderr, "%s: %s\n", #call, text), 1
#define CHECK_CUDA(call) CHECK(call, cudaSuccess, cudaGetErrorString(cudaGetLastError()))
#define CHECK_POLARC(call) CHECK(call, POLARC_OK, llama_d128_cuda_message())

// The caller owns all memory: here a vector's copy on the device, for as long as the program runs.
template <class T> T *on_device(const std::vector<T> &host) {
  T *memory = nullptr;
  if (cudaMalloc(&memory, host.size() * sizeof(T)) != cudaSuccess) exit(1);
  cudaMemcpy(memory, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
  return memory;
}

int main() {
  const polarc_kernels *k = llama_d128_cuda_kernels();
  std::vector<float> rows(tokens * kv_heads * dim), q(q_heads * dim), out(q_heads * dim);
  for (float &x : rows) x = static_cast<float>(rand()) / static_cast<float>(RAND_MAX) - 0.5f;
  for (int head = 0; head < q_heads; head++) // query head h asks for token h
    for (int i = 0; i < dim; i++)
      q[head * dim + i] = 8 * rows[(head * kv_heads + head / group) * dim + i];

  // Pages of the sequence, in any order; tokens go to slots page * page_tokens + offset.
  const int pages = tokens / k->page_tokens;
  std::vector<int32_t> table(pages);
  std::vector<int64_t> slots(tokens);
  for (int i = 0; i < pages; i++) table[i] = pages - 1 - i;
  for (int t = 0; t < tokens; t++)
    slots[t] = table[t / k->page_tokens] * k->page_tokens + t % k->page_tokens;

  cudaStream_t stream;
  CHECK_CUDA(cudaStreamCreate(&stream));
  const int64_t head_bytes = k->page_tokens / k->key_unit_tokens * k->key_unit_bytes;
  const std::vector<unsigned char> empty(pages * kv_heads * head_bytes);

  polarc_encode_params e = {};
  e.size = sizeof e, e.version = POLARC_ABI_VERSION;
  e.rows = {on_device(rows), POLARC_F32, 0, kv_heads * dim, dim};
  e.count = tokens, e.kv_heads = kv_heads, e.slots = on_device(slots);
  polarc_attend_params a = {};
  a.size = sizeof a, a.version = POLARC_ABI_VERSION;
  e.cache = a.keys = {on_device(empty), pages, kv_heads * head_bytes, head_bytes, k->key_unit_bytes};
  CHECK_POLARC(k->encode_key(&e, stream));
  e.cache = a.values = {on_device(empty), pages, kv_heads * head_bytes, head_bytes, k->key_unit_bytes};
  CHECK_POLARC(k->encode_value(&e, stream)); // the example's values are its keys

  a.rows = 1, a.kv_heads = kv_heads, a.scale = 1 / std::sqrt(static_cast<float>(dim));
  a.q = {on_device(q), POLARC_F32, 0, q_heads * dim, dim};
  a.out = {on_device(out), POLARC_F32, 0, q_heads * dim, dim};
  a.index.sequences = 1, a.index.max_tokens = tokens;
  a.index.lengths = on_device(std::vector<int32_t>{tokens});
  a.index.block_table = on_device(table), a.index.block_table_stride = pages;
  a.workspace_bytes = k->attend_workspace(&a);
  a.workspace = on_device(std::vector<unsigned char>(a.workspace_bytes));
  CHECK_POLARC(k->attend(&a, stream));

  CHECK_CUDA(cudaMemcpyAsync(out.data(), a.out.data, out.size() * sizeof(float),
                             cudaMemcpyDeviceToHost, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  for (int head = 0; head < q_heads; head++) {
    const float *row = &rows[(head * kv_heads + head / group) * dim], *x = &out[head * dim];
    double dot = 0, xx = 0, yy = 0;
    for (int i = 0; i < dim; i++) dot += x[i] * row[i], xx += x[i] * x[i], yy += row[i] * row[i];
    printf("query head %d: cosine of output and row %.4f\n", head, dot / std::sqrt(xx * yy));
  }
}
