// CUDA C++ on a CPU, for tests: with -DPOLARC_ON_CPU -include cuda_on_cpu.h -x c++ a compiler of
// C++17 takes emitted .cu and .cuh files as they are. Pass -ffp-contract=off and
// -fno-strict-aliasing too.
//
// Every CUDA thread of a block is a fiber. It runs until it must wait for others, at a barrier or
// at a collective operation of its warp; who runs next is drawn at random, so that a result which
// depends on the order of threads changes with the seed. Blocks run one after another, in a random
// order too. What CUDA leaves undefined ends the process with a message that says which thread of
// which block of which kernel did it: barriers and collectives that not all threads reach or that
// they reach at different places of the source, shared memory touched out of bounds or handed out
// unevenly. Shared memory begins as NaN bit patterns, and a cp.async lands as late as it may.
// Device memory is host memory, a launch is done when it returns, and several OS threads may launch
// at once.
//
// Environment:
//   POLARC_CUDA_SEED        a number, default 1: the order of threads and blocks
//   POLARC_CUDA_CAPABILITY  of the device that is played, default 9.0
//   POLARC_CUDA_SMS         multiprocessors that it has, default 132
//   POLARC_CUDA_BLOCKS      a launch gets so many blocks at most, default 3: kernels stride over
//                           their work, and must do so more than once to be tested; 0: all
//
// Not seen here: a __syncwarp that is missing behind a shuffle (which orders no memory on a GPU),
// races between blocks that run at once, bank conflicts, more threads than __launch_bounds__ says,
// misaligned vectors in global memory (UBSan sees these).
//
//   blocks.h         fibers, barriers, warps, shared memory of the block that runs
//   cuda_on_cpu.h    the language: qualifiers, barriers, collectives, atomics, numbers; and what
//                    the emitted files leave to it under POLARC_ON_CPU
//   cuda_runtime.h   launches, devices, memory
//   vectors.h        uint4 and the like
#ifndef POLARC_CUDA_ON_CPU_H
#define POLARC_CUDA_ON_CPU_H

#ifndef POLARC_ON_CPU
#error "compile with -DPOLARC_ON_CPU"
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "blocks.h"
#include "vectors.h"

// Every library that is compiled with this header has its own, of its own version.
#pragma GCC visibility push(hidden)

// ---- Qualifiers and indices ----

#define __host__
#define __device__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __global__ __attribute__((visibility("default"))) // so that dladdr knows its name
#define __forceinline__ inline __attribute__((always_inline))

#define threadIdx (::polarc_on_cpu::sm->running->index)
#define blockIdx (::polarc_on_cpu::sm->block_index)
#define blockDim (::polarc_on_cpu::sm->launch->block)
#define gridDim (::polarc_on_cpu::sm->launch->grid)
constexpr int warpSize = 32;

// ---- Shared memory ----

// An array in shared memory: a pointer that knows its bounds.
template <class T> class Shared {
public:
  Shared() = default;
  Shared(std::nullptr_t) {}
  Shared(T *base, int64_t count, int64_t at = 0) : base(base), count(count), at(at) {}
  operator Shared<const T>() const { return {base, count, at}; }
  explicit operator bool() const { return base != nullptr; }

  T &operator[](int64_t i) const {
    const int64_t index = at + i;
    if (__builtin_expect(static_cast<uint64_t>(index) >= static_cast<uint64_t>(count), false))
      polarc_on_cpu::fail("index %lld of an array of %lld x %zu bytes in shared memory",
                          static_cast<long long>(index), static_cast<long long>(count), sizeof(T));
    return base[index];
  }
  T &operator*() const { return (*this)[0]; }
  T *operator->() const { return &(*this)[0]; }

  Shared &operator+=(int64_t n) { return at += n, *this; }
  Shared &operator-=(int64_t n) { return at -= n, *this; }
  Shared &operator++() { return *this += 1; }
  Shared &operator--() { return *this -= 1; }
  Shared operator++(int) { return {base, count, at++}; }
  Shared operator--(int) { return {base, count, at--}; }
  friend Shared operator+(Shared a, int64_t n) { return a += n; }
  friend Shared operator+(int64_t n, Shared a) { return a += n; }
  friend Shared operator-(Shared a, int64_t n) { return a -= n; }
  friend ptrdiff_t operator-(Shared a, Shared b) { return (a.base + a.at) - (b.base + b.at); }
  friend bool operator==(Shared a, Shared b) { return a.base + a.at == b.base + b.at; }
  friend bool operator!=(Shared a, Shared b) { return !(a == b); }
  friend bool operator<(Shared a, Shared b) { return a - b < 0; }

private:
  T *base = nullptr;
  int64_t count = 0, at = 0;
};

// Hands out the shared memory of a block, piece by piece, the same pieces to every thread.
struct SharedMemory {
  unsigned used = 0;
  template <class T> Shared<T> take(int count) {
    unsigned char *piece = polarc_on_cpu::take_shared(used, count, sizeof(T));
    used += (static_cast<unsigned>(count) * static_cast<unsigned>(sizeof(T)) + 15) / 16 * 16;
    return {reinterpret_cast<T *>(piece), count};
  }
};

// ---- Barriers and collectives ----

inline void __syncthreads(polarc_on_cpu::Place place = {}) {
  polarc_on_cpu::meet_block("__syncthreads", place, false);
}
inline int __syncthreads_count(int vote, polarc_on_cpu::Place place = {}) {
  return polarc_on_cpu::meet_block("__syncthreads_count", place, vote != 0);
}
inline int __syncthreads_or(int vote, polarc_on_cpu::Place place = {}) {
  return polarc_on_cpu::meet_block("__syncthreads_or", place, vote != 0) > 0;
}
inline int __syncthreads_and(int vote, polarc_on_cpu::Place place = {}) {
  return polarc_on_cpu::meet_block("__syncthreads_and", place, vote == 0) == 0;
}

inline void __syncwarp(unsigned mask = ~0u, polarc_on_cpu::Place place = {}) {
  char nothing = 0;
  polarc_on_cpu::meet_warp("__syncwarp", mask, place, nothing, [](auto &, unsigned) {});
}

namespace polarc_on_cpu {

inline int lane() { return static_cast<int>(sm->running->number % lanes); }

// Every lane gets the value of the lane it names.
template <class T>
inline T shuffle(const char *name, unsigned mask, T value, int source, Place place) {
  static_assert(std::is_arithmetic<T>::value, "shuffles move numbers");
  struct Lane {
    T value, result;
    int source;
  } mine{value, value, source};
  meet_warp(name, mask, place, mine, [&](Given<Lane> given, unsigned lane) {
    const int from = given[lane].source;
    if (!(mask >> from & 1))
      fail("lane %u reads lane %d in %s, where that is missing", lane, from,
           text({name, mask, place}));
    given[lane].result = given[static_cast<unsigned>(from)].value;
  });
  return mine.result;
}

// Every lane gets the sum, or the like, of all of them.
template <class T, class Join>
inline T reduce(const char *name, unsigned mask, T value, Join join, Place place) {
  struct Lane {
    T value, result;
  } mine{value, value};
  meet_warp(name, mask, place, mine, [&](Given<Lane> given, unsigned lane) {
    const unsigned first = static_cast<unsigned>(__builtin_ctz(mask));
    if (lane == first) {
      T all = given[first].value;
      for (unsigned rest = mask & (mask - 1); rest; rest &= rest - 1)
        all = join(all, given[static_cast<unsigned>(__builtin_ctz(rest))].value);
      given[first].result = all;
    }
    given[lane].result = given[first].result;
  });
  return mine.result;
}

} // namespace polarc_on_cpu

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
                     polarc_on_cpu::Place place = {}) {
  const int self = polarc_on_cpu::lane();
  const int source = (self & ~(width - 1)) | (lane & (width - 1));
  return polarc_on_cpu::shuffle("__shfl_sync", mask, value, source, place);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32,
                         polarc_on_cpu::Place place = {}) {
  const int self = polarc_on_cpu::lane(), source = self ^ flip;
  const bool beyond = source > (self | (width - 1));
  return polarc_on_cpu::shuffle("__shfl_xor_sync", mask, value, beyond ? self : source, place);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        polarc_on_cpu::Place place = {}) {
  const int self = polarc_on_cpu::lane(), source = self - static_cast<int>(delta);
  const bool beyond = source < (self & ~(width - 1));
  return polarc_on_cpu::shuffle("__shfl_up_sync", mask, value, beyond ? self : source, place);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          polarc_on_cpu::Place place = {}) {
  const int self = polarc_on_cpu::lane(), source = self + static_cast<int>(delta);
  const bool beyond = source > (self | (width - 1));
  return polarc_on_cpu::shuffle("__shfl_down_sync", mask, value, beyond ? self : source, place);
}

inline unsigned __ballot_sync(unsigned mask, int vote, polarc_on_cpu::Place place = {}) {
  const unsigned mine = vote ? 1u << polarc_on_cpu::lane() : 0;
  const auto join = [](unsigned a, unsigned b) { return a | b; };
  return polarc_on_cpu::reduce("__ballot_sync", mask, mine, join, place);
}
inline int __any_sync(unsigned mask, int vote, polarc_on_cpu::Place place = {}) {
  const auto join = [](int a, int b) { return a | b; };
  return polarc_on_cpu::reduce("__any_sync", mask, int(vote != 0), join, place);
}
inline int __all_sync(unsigned mask, int vote, polarc_on_cpu::Place place = {}) {
  const auto join = [](int a, int b) { return a & b; };
  return polarc_on_cpu::reduce("__all_sync", mask, int(vote != 0), join, place);
}

#define POLARC_REDUCE(name, type, expression)                                                      \
  inline type name(unsigned mask, type value, polarc_on_cpu::Place place = {}) {                   \
    const auto join = [](type a, type b) -> type { return expression; };                           \
    return polarc_on_cpu::reduce(#name, mask, value, join, place);                                 \
  }
POLARC_REDUCE(__reduce_add_sync, unsigned, a + b)
POLARC_REDUCE(__reduce_add_sync, int, static_cast<int>(static_cast<unsigned>(a) + unsigned(b)))
POLARC_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
POLARC_REDUCE(__reduce_min_sync, int, a < b ? a : b)
POLARC_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
POLARC_REDUCE(__reduce_max_sync, int, a > b ? a : b)
POLARC_REDUCE(__reduce_or_sync, unsigned, a | b)
POLARC_REDUCE(__reduce_and_sync, unsigned, a & b)
POLARC_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef POLARC_REDUCE

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// ---- Atomics: other OS threads may be at the same memory ----

namespace polarc_on_cpu {

// Replaces a value by what `change` makes of it; answers the old one.
template <class T, class Change> inline T atomically(T *at, Change change) {
  T old;
  __atomic_load(at, &old, __ATOMIC_RELAXED);
  for (;;) {
    T wanted = change(old);
    if (__atomic_compare_exchange(at, &old, &wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return old;
  }
}

} // namespace polarc_on_cpu

#define POLARC_ATOMIC(name, type, expression)                                                      \
  inline type name(type *at, type b) {                                                             \
    return polarc_on_cpu::atomically(at, [b](type a) -> type { return expression; });              \
  }
#define POLARC_ATOMICS(type)                                                                       \
  POLARC_ATOMIC(atomicMax, type, a > b ? a : b)                                                    \
  POLARC_ATOMIC(atomicMin, type, a < b ? a : b)                                                    \
  POLARC_ATOMIC(atomicOr, type, a | b)                                                             \
  POLARC_ATOMIC(atomicAnd, type, a & b)                                                            \
  POLARC_ATOMIC(atomicXor, type, a ^ b)                                                            \
  POLARC_ATOMIC(atomicExch, type, (static_cast<void>(a), b))                                       \
  inline type atomicCAS(type *at, type expected, type wanted) {                                    \
    return polarc_on_cpu::atomically(at, [=](type a) { return a == expected ? wanted : a; });      \
  }
POLARC_ATOMICS(int)
POLARC_ATOMICS(unsigned)
POLARC_ATOMICS(unsigned long long)
POLARC_ATOMIC(atomicExch, float, (static_cast<void>(a), b))
POLARC_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(a) + unsigned(b)))
POLARC_ATOMIC(atomicAdd, unsigned, a + b)
POLARC_ATOMIC(atomicAdd, unsigned long long, a + b)
POLARC_ATOMIC(atomicAdd, float, a + b)
POLARC_ATOMIC(atomicAdd, double, a + b)
#undef POLARC_ATOMICS
#undef POLARC_ATOMIC

// ---- Bits and numbers ----

namespace polarc_on_cpu {

template <class To, class From> inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

inline bool is_nan(float x) { return (bits_as<uint32_t>(x) & 0x7fffffffu) > 0x7f800000u; }

// The one NaN that a GPU's arithmetic makes.
inline float canonical(float x) { return is_nan(x) ? bits_as<float>(0x7fffffffu) : x; }

} // namespace polarc_on_cpu

// clang-format off
inline unsigned __float_as_uint(float x) { return polarc_on_cpu::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return polarc_on_cpu::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return polarc_on_cpu::bits_as<float>(x); }
inline float __int_as_float(int x) { return polarc_on_cpu::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return polarc_on_cpu::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return polarc_on_cpu::bits_as<double>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) {
  return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t(a) * b >> 32);
}
// clang-format on

inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}

// Four of the bytes of b and a (a's first), chosen by the low three bits of four nibbles.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = uint64_t(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++)
    result |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? low : __funnelshift_l(low, high, shift);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? high : __funnelshift_r(low, high, shift);
}

template <class T> inline T __ldg(const T *at) { return *at; }
template <class T> inline T __ldcs(const T *at) { return *at; }
template <class T> inline T __ldcg(const T *at) { return *at; }
template <class T> inline void __stcs(T *at, T value) { *at = value; }
template <class T> inline void __stcg(T *at, T value) { *at = value; }

#define POLARC_MIN_MAX(type, a_type, b_type)                                                       \
  inline type min(a_type a, b_type b) {                                                            \
    const type x = static_cast<type>(a), y = static_cast<type>(b);                                 \
    return x < y ? x : y;                                                                          \
  }                                                                                                \
  inline type max(a_type a, b_type b) {                                                            \
    const type x = static_cast<type>(a), y = static_cast<type>(b);                                 \
    return x > y ? x : y;                                                                          \
  }
POLARC_MIN_MAX(int, int, int)
POLARC_MIN_MAX(unsigned, unsigned, unsigned)
POLARC_MIN_MAX(unsigned, int, unsigned)
POLARC_MIN_MAX(unsigned, unsigned, int)
POLARC_MIN_MAX(long, long, long)
POLARC_MIN_MAX(unsigned long, unsigned long, unsigned long)
POLARC_MIN_MAX(long long, long long, long long)
POLARC_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
#undef POLARC_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// One instruction for one IEEE operation: no flag of the compiler changes it. Flush-to-zero and
// denormals-are-zero of who launches stand for nvcc's -ftz=true: plain arithmetic has them, these
// have not, as PTX that does not say .ftz.
namespace polarc_on_cpu {

inline bool flushes() {
  unsigned state;
  asm("stmxcsr %0" : "=m"(state));
  return __builtin_expect(state & 0x8040, 0);
}

} // namespace polarc_on_cpu

#ifdef __AVX__
#define POLARC_INSTRUCTION(operation) "v" operation " %[b], %[a], %[a]"
#else
#define POLARC_INSTRUCTION(operation) operation " %[b], %[a]"
#endif
#define POLARC_OPERATION(name, operation)                                                          \
  inline float name(float a, float b) {                                                            \
    if (polarc_on_cpu::flushes()) {                                                                \
      unsigned before, usual = 0x1f80;                                                             \
      asm("stmxcsr %[before]\n\tldmxcsr %[usual]\n\t" POLARC_INSTRUCTION(operation)               \
          "\n\tldmxcsr %[before]"                                                                  \
          : [a] "+x"(a), [before] "=&m"(before)                                                    \
          : [b] "x"(b), [usual] "m"(usual));                                                       \
    } else {                                                                                       \
      asm(POLARC_INSTRUCTION(operation) : [a] "+x"(a) : [b] "x"(b));                               \
    }                                                                                              \
    return polarc_on_cpu::canonical(a);                                                            \
  }
POLARC_OPERATION(mul_rn, "mulss")
POLARC_OPERATION(add_rn, "addss")
POLARC_OPERATION(sub_rn, "subss")
POLARC_OPERATION(__fdiv_rn, "divss")
#undef POLARC_INSTRUCTION
#undef POLARC_OPERATION

inline float __fmul_rn(float a, float b) { return mul_rn(a, b); }
inline float __fadd_rn(float a, float b) { return add_rn(a, b); }
inline float __fsub_rn(float a, float b) { return sub_rn(a, b); }
inline float __frcp_rn(float x) { return __fdiv_rn(1.0f, x); }
inline float __fsqrt_rn(float x) {
#ifdef __AVX__
  asm("vsqrtss %0, %0, %0" : "+x"(x));
#else
  asm("sqrtss %0, %0" : "+x"(x));
#endif
  return polarc_on_cpu::canonical(x);
}
inline float __fmaf_rn(float a, float b, float c) {
  return polarc_on_cpu::canonical(fmaf(a, b, c));
}
inline float __frsqrt_rn(float x) { return static_cast<float>(1 / sqrt(static_cast<double>(x))); }
inline float rsqrtf(float x) { return __frsqrt_rn(x); }

// Numbers to integers: NaN is 0, what does not fit becomes the nearest that does.
inline int __float2int_rz(float x) {
  if (polarc_on_cpu::is_nan(x)) return 0;
  return x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : static_cast<int>(x);
}
inline unsigned __float2uint_rz(float x) {
  if (polarc_on_cpu::is_nan(x) || x <= 0) return 0;
  return x >= 4294967296.0f ? UINT32_MAX : static_cast<unsigned>(x);
}
inline int __float2int_rn(float x) { return __float2int_rz(nearbyintf(x)); }
inline int __float2int_rd(float x) { return __float2int_rz(floorf(x)); }
inline int __float2int_ru(float x) { return __float2int_rz(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return __float2uint_rz(nearbyintf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

// ---- The machine: what machine.cuh says in PTX ----

inline float magnitude(float x) { return __uint_as_float(__float_as_uint(x) & 0x7fffffffu); }

// The product by a power of two, with 0 for a denormal.
inline float mul_flushed(float a, float b) {
  const double product = static_cast<double>(a) * static_cast<double>(b); // exact
  return fabs(product) < 0x1p-126 ? copysignf(0.0f, static_cast<float>(product)) : mul_rn(a, b);
}

// a > b by their bits, whose order is that of the numbers, denormals and all.
inline bool exceeds(float a, float b) {
  if (polarc_on_cpu::is_nan(a) || polarc_on_cpu::is_nan(b)) return false;
  const auto order = [](float x) {
    const auto bits = static_cast<int32_t>(__float_as_uint(x));
    return bits < 0 ? -(bits & 0x7fffffff) : bits;
  };
  return order(a) > order(b);
}

template <uint32_t step> inline void add_if_exceeds(uint32_t &sum, float a, float b) {
  if (exceeds(a, b)) sum += step;
}

// f16 to float32 and back, ties to even; a NaN stays one.
inline float from_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  if (magnitude > 0x7c00u) return __uint_as_float(0x7fffffffu);
  if (magnitude == 0x7c00u) return __uint_as_float(sign | 0x7f800000u);
  if (magnitude >= 0x400u) return __uint_as_float(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return __uint_as_float(sign | __float_as_uint(subnormal));
}
inline uint16_t to_half(float x) {
  const uint32_t bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) { // from 65520 on
    magnitude = 0x7c00u;
  } else if (magnitude < 0x38800000u) { // below 2^-14; the last bit of 0.5 + x is that of a half
    magnitude = __float_as_uint(add_rn(__uint_as_float(magnitude), 0.5f)) - 0x3f000000u;
  } else {
    magnitude = (magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  }
  return static_cast<uint16_t>(sign | magnitude);
}

// Two f16 in a word, the first one in its lower half.
inline uint32_t to_half2(float low, float high) {
  return uint32_t(to_half(high)) << 16 | to_half(low);
}
inline uint32_t mul_half2(uint32_t a, uint32_t b) { // products are exact in float32
  const auto half = [](uint32_t pair, int i) { return from_half(uint16_t(pair >> 16 * i)); };
  return to_half2(mul_rn(half(a, 0), half(b, 0)), mul_rn(half(a, 1), half(b, 1)));
}

inline uint32_t low_half(uint32_t pair) { return pair << 16 | (pair & 0xffffu); }
inline uint32_t high_half(uint32_t pair) { return (pair & 0xffff0000u) | pair >> 16; }

// The entry at a byte of a table.
template <class T> inline T look_up(Shared<T> table, uint32_t byte) {
  if (byte % sizeof(T) != 0)
    polarc_on_cpu::fail("byte %u of a table whose entries have %zu", byte, sizeof(T));
  return table[byte / sizeof(T)];
}

inline void check_shared_begin() {}

inline uint32_t opaque(uint32_t x) { return x; }
inline const uint8_t *opaque(const uint8_t *x) { return x; }

// As sqrt.approx.ftz, as far off as it may be: denormals are 0.
inline float sqrt_of(float x) { return fabsf(x) < 0x1p-126f ? 0 : sqrtf(x) * (1 + 0x1p-22f); }

// 2^x as ex2.approx.ftz: denormals, given or made, are 0.
inline float exp2_of(float x) {
  if (polarc_on_cpu::is_nan(x)) return __uint_as_float(0x7fffffffu);
  const float y = exp2f(x);
  return __float_as_uint(y) < 0x00800000u ? 0.0f : y;
}

// d += a b of a 16 x 16 tile of f16 by a 16 x 8 one: the fragments of mma.m16n8k16. Products are
// exact, sums float32 one after another; a GPU sums in an order and precision of its own.
inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                      polarc_on_cpu::Place place = {}) {
  struct Lane {
    float *d;
    const uint32_t *a, *b;
  } mine{d, a, b};
  const auto finish = [](polarc_on_cpu::Given<Lane> given, unsigned lane) {
    if (lane != 0) return; // the first one does it for all
    float left[16][16], right[16][8];
    for (unsigned l = 0; l < 32; l++)
      for (unsigned second = 0; second < 2; second++) {
        const unsigned row = l / 4, column = l % 4 * 2 + second;
        const auto half = [&](uint32_t pair) { return from_half(uint16_t(pair >> 16 * second)); };
        for (unsigned i = 0; i < 4; i++)
          left[row + i % 2 * 8][column + i / 2 * 8] = half(given[l].a[i]);
        for (unsigned i = 0; i < 2; i++) right[column + i * 8][row] = half(given[l].b[i]);
      }
    for (unsigned row = 0; row < 16; row++) {
      float sums[8];
      for (unsigned n = 0; n < 8; n++) sums[n] = given[row % 8 * 4 + n / 2].d[row / 8 * 2 + n % 2];
      for (unsigned k = 0; k < 16; k++)
        for (unsigned n = 0; n < 8; n++) sums[n] += left[row][k] * right[k][n];
      for (unsigned n = 0; n < 8; n++) given[row % 8 * 4 + n / 2].d[row / 8 * 2 + n % 2] = sums[n];
    }
  };
  polarc_on_cpu::meet_warp("mma_16816", ~0u, place, mine, finish);
}

// An 8 x 8 tile of f16, row i in lanes 4 i to 4 i + 3, transposed.
inline uint32_t transpose_8x8(uint32_t pair, polarc_on_cpu::Place place = {}) {
  struct Lane {
    uint32_t pair, transposed;
  } mine{pair, 0};
  const auto finish = [](polarc_on_cpu::Given<Lane> given, unsigned lane) {
    const unsigned row = lane / 4, column = lane % 4 * 2; // of the transposed tile
    const auto half = [&](unsigned i, unsigned j) {
      return given[4 * i + j / 2].pair >> j % 2 * 16 & 0xffff;
    };
    given[lane].transposed = half(column + 1, row) << 16 | half(column, row);
  };
  polarc_on_cpu::meet_warp("transpose_8x8", ~0u, place, mine, finish);
  return mine.transposed;
}

// Sixteen bytes from global to shared memory, in the background: garbage until a wait for all
// groups but the last `ahead` ones.
inline void copy_async(Shared<uint4> to, const void *from) {
  polarc_on_cpu::Thread &self = *polarc_on_cpu::sm->running;
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0)
    polarc_on_cpu::fail("copies from %p, which is not aligned to 16 bytes", from);
  polarc_on_cpu::Copy copy{&*to, {}, self.copy_groups};
  memcpy(&copy.bytes, from, 16);
  memset(copy.to, 0x7f, 16);
  self.copies.push_back(copy);
}
inline void commit_copies() { polarc_on_cpu::sm->running->copy_groups++; }
template <int ahead> inline void wait_for_copies() {
  polarc_on_cpu::Thread &self = *polarc_on_cpu::sm->running;
  size_t landed = 0;
  for (; landed < self.copies.size(); landed++) {
    const polarc_on_cpu::Copy &copy = self.copies[landed];
    if (copy.group + ahead >= self.copy_groups) break;
    *copy.to = copy.bytes;
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(landed));
}

#pragma GCC visibility pop

#include "cuda_runtime.h"

#endif
