// polarc · the rate at which threads read memory: plain sums over blocks that no cache holds, as one stream and as two in
// turns (keys and values are two), the best of several prefetch distances and repeats. Prints bytes a second.
//
//   read_bandwidth THREADS
//
// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr size_t block_bytes = size_t{192} << 20;
constexpr size_t page_bytes = 4096;
constexpr size_t turn_bytes = 2048; // of a stream, before the other's turn
constexpr int repeats = 7;

volatile int kept; // keeps the sums from being removed

// The streams are equal parts of the block.
void read_block(const char *block, size_t bytes, size_t distance, size_t streams) {
  __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  const size_t part = bytes / streams / turn_bytes * turn_bytes;
  for (size_t turn = 0; turn < part * streams; turn += turn_bytes) {
    const char *from = block + turn / turn_bytes % streams * part + turn / streams / turn_bytes * turn_bytes;
    for (size_t at = 0; at < turn_bytes; at += 128) {
      if (distance != 0) {
        _mm_prefetch(from + at + distance, _MM_HINT_T0);
        _mm_prefetch(from + at + distance + 64, _MM_HINT_T0);
      }
      const __m256i *lanes = reinterpret_cast<const __m256i *>(from + at);
      sum0 = _mm256_xor_si256(sum0, _mm256_load_si256(lanes));
      sum1 = _mm256_xor_si256(sum1, _mm256_load_si256(lanes + 1));
      sum2 = _mm256_xor_si256(sum2, _mm256_load_si256(lanes + 2));
      sum3 = _mm256_xor_si256(sum3, _mm256_load_si256(lanes + 3));
    }
  }
  const __m256i sum = _mm256_xor_si256(_mm256_xor_si256(sum0, sum1), _mm256_xor_si256(sum2, sum3));
  kept = _mm256_extract_epi32(sum, 0);
}

} // namespace

int main(int count, char **arguments) {
  const int threads = count > 1 ? std::max(1, std::atoi(arguments[1])) : 1;
  char *memory = static_cast<char *>(std::aligned_alloc(page_bytes, block_bytes));
  if (memory == nullptr) {
    std::fputs("not enough memory\n", stderr);
    return 1;
  }
  std::memset(memory, 1, block_bytes);
  const size_t share = block_bytes / threads / page_bytes * page_bytes;
  double best = 0;
  for (const size_t streams : {1, 2}) {
    for (const size_t distance : {0, 512, 1024, 2048}) {
      for (int repeat = 0; repeat < repeats; repeat++) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> others;
        for (int i = 1; i < threads; i++) {
          others.emplace_back(read_block, memory + i * share, share, distance, streams);
        }
        read_block(memory, share, distance, streams);
        for (std::thread &other : others) other.join();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, static_cast<double>(share) * threads / seconds.count());
      }
    }
  }
  std::printf("%.0f\n", best);
  std::free(memory);
  return 0;
}
