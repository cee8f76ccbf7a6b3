// polarc · llama_d128_rows · kernels · avx2
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/avx2/cache.cpp.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target avx2
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The kernels of llama_d128_rows
// for x86-64 with AVX2, FMA and F16C.
// The header has the formats and how to build. Everything that the spec decides stands in
// constants; the code below them uses their names.
//
// In encode every operation is one rounded IEEE float32 operation in a fixed order: build with
// -ffp-contract=off. A lane of a register is an item (a row of one head, or a token).
#include "llama-d128-rows.h"

#include <cpuid.h>

// GCC 12 warns of its own header: _mm512_undefined_ps() is what it says.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

namespace {

constexpr int group = 4; // query heads a KV head
constexpr int page_tokens = 64;
constexpr int dense_dtype = POLARC_F16;
// A radius kind beside the dtypes: codes relative to a norm.
[[maybe_unused]] constexpr int radius_log = 3;

// ---- The machine: messages, floating-point state, CPU ----

thread_local char message_text[256] = "";

// Keeps the text of a failure for NAME_avx2_message() and returns its status.
__attribute__((format(printf, 2, 3))) int fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message_text, sizeof message_text, format, arguments);
  va_end(arguments);
  return status;
}

// Round to nearest even, denormals kept, exceptions masked, for as long as it lives.
struct FloatingPoint {
  unsigned saved = _mm_getcsr();
  FloatingPoint() { _mm_setcsr(0x1F80); }
  ~FloatingPoint() { _mm_setcsr(saved); }
  FloatingPoint(const FloatingPoint &) = delete;
  FloatingPoint &operator=(const FloatingPoint &) = delete;
};

// Asked once: cpuid is slow in a virtual machine.
bool cpu_supported() {
  static const bool supported = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }();
  return supported;
}

// What every entry point checks before it reads a parameter. 0: go on.
template <class Params> int refused(const Params *p, const void *stream) {
  if (!cpu_supported())
    return fail(POLARC_UNSUPPORTED, "this CPU lacks AVX2, FMA or F16C: use another target");
  if (!p) return fail(POLARC_INVALID_ARGUMENT, "params is null: give a parameter structure");
  if (p->size != sizeof(Params) || p->version != POLARC_ABI_VERSION)
    return fail(POLARC_VERSION_MISMATCH,
                "params has size %u and version %u: this kernel has size %u and version %u; build "
                "against its header",
                p->size, p->version, static_cast<unsigned>(sizeof(Params)), POLARC_ABI_VERSION);
  if (stream)
    return fail(POLARC_INVALID_ARGUMENT, "stream is not null: a CPU kernel has none, give null");
  return POLARC_OK;
}

template <class Params>
int run(const Params *p, const void *stream, int (*kernel)(const Params &)) {
  if (const int status = refused(p, stream)) return status;
  const FloatingPoint guard;
  return kernel(*p);
}

// Sets a bit of the caller's status word.
inline void raise_flag(uint32_t *flags, uint32_t bit) {
  if (flags) __atomic_fetch_or(flags, bit, __ATOMIC_RELAXED);
}

// ---- Rows: eight elements at a time, as float32 ----

constexpr int lanes = 8; // items a register holds, one float each

inline int64_t element_bytes(int dtype) { return dtype == POLARC_F32 ? 4 : 2; }

template <int dtype> inline __m256 load8(const void *source) {
  if constexpr (dtype == POLARC_F32) {
    return _mm256_loadu_ps(static_cast<const float *>(source));
  } else {
    const __m128i half = _mm_loadu_si128(static_cast<const __m128i *>(source));
    if constexpr (dtype == POLARC_F16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
}

// The first `count` of eight elements, the others zero; reads nothing behind them.
template <int dtype> inline __m256 load_part(const void *source, int count) {
  uint8_t part[32] = {0};
  memcpy(part, source, static_cast<size_t>(count * element_bytes(dtype)));
  return load8<dtype>(part);
}

// float32 to bf16, nearest even; a NaN stays one.
inline __m256i bf16_bits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, is_nan);
}

template <int dtype> inline void store8(void *target, __m256 x) {
  if constexpr (dtype == POLARC_F32) {
    _mm256_storeu_ps(static_cast<float *>(target), x);
  } else if constexpr (dtype == POLARC_F16) {
    const __m128i half = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(static_cast<__m128i *>(target), half);
  } else {
    const __m256i wide = bf16_bits(x);
    const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(wide),
                                          _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128(static_cast<__m128i *>(target), half);
  }
}

inline const uint8_t *row_address(const polarc_rows &rows, int64_t row, int64_t head) {
  return static_cast<const uint8_t *>(rows.data) +
         (row * rows.row_stride + head * rows.head_stride) * element_bytes(rows.dtype);
}

template <int dim, int dtype> void load_row_of(const uint8_t *source, float *x) {
  constexpr int size = dtype == POLARC_F32 ? 4 : 2;
  int i = 0;
  for (; i + 8 <= dim; i += 8) _mm256_storeu_ps(x + i, load8<dtype>(source + i * size));
  if constexpr (dim % 8 != 0) {
    float part[8];
    _mm256_storeu_ps(part, load_part<dtype>(source + i * size, dim % 8));
    memcpy(x + i, part, sizeof(float) * (dim % 8));
  }
}

template <int dim, int dtype> void store_row_of(uint8_t *target, const float *x) {
  constexpr int size = dtype == POLARC_F32 ? 4 : 2;
  int i = 0;
  for (; i + 8 <= dim; i += 8) store8<dtype>(target + i * size, _mm256_loadu_ps(x + i));
  if constexpr (dim % 8 != 0) {
    uint8_t part[32];
    store8<dtype>(part, load_part<POLARC_F32>(x + i, dim % 8));
    memcpy(target + i * size, part, static_cast<size_t>(size * (dim % 8)));
  }
}

template <int dim> void load_row(const polarc_rows &rows, int64_t row, int64_t head, float *x) {
  const uint8_t *source = row_address(rows, row, head);
  switch (rows.dtype) {
    case POLARC_F32: return load_row_of<dim, POLARC_F32>(source, x);
    case POLARC_F16: return load_row_of<dim, POLARC_F16>(source, x);
    default: return load_row_of<dim, POLARC_BF16>(source, x);
  }
}

template <int dim>
void store_row(const polarc_rows &rows, int64_t row, int64_t head, const float *x) {
  uint8_t *target = const_cast<uint8_t *>(row_address(rows, row, head));
  switch (rows.dtype) {
    case POLARC_F32: return store_row_of<dim, POLARC_F32>(target, x);
    case POLARC_F16: return store_row_of<dim, POLARC_F16>(target, x);
    default: return store_row_of<dim, POLARC_BF16>(target, x);
  }
}

// r[i] lane j <-> r[j] lane i.
inline void transpose8(__m256 r[8]) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
  }
}

// ---- Codebooks ----

// table[index] in every lane; tables of fewer than eight entries are repeated to eight.
template <int entries> inline __m256 lookup(const float *table, __m256i index) {
  if constexpr (entries == 1) return _mm256_load_ps(table);
  if constexpr (entries <= 4) return _mm256_permutevar_ps(_mm256_load_ps(table), index);
  if constexpr (entries == 8) return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  if constexpr (entries == 16) {
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  return _mm256_i32gather_ps(table, index, 4);
}

// The number of thresholds t with v > t u, of entries - 1 ascending ones that stand in the order in
// which a binary search meets them: step s finds its own at 2^s - 1 + (number so far).
template <int entries> inline __m256i search(const float *threshold, __m256 u, __m256 v) {
  __m256i code = _mm256_setzero_si256();
  if constexpr (entries > 1) {
    __m256 above = _mm256_cmp_ps(v, _mm256_mul_ps(_mm256_broadcast_ss(threshold), u), _CMP_GT_OQ);
    code = _mm256_sub_epi32(code, _mm256_castps_si256(above));
    if constexpr (entries > 2) {
      const __m256 t = _mm256_blendv_ps(_mm256_broadcast_ss(threshold + 1),
                                        _mm256_broadcast_ss(threshold + 2), above);
      above = _mm256_cmp_ps(v, _mm256_mul_ps(t, u), _CMP_GT_OQ);
      code = _mm256_sub_epi32(_mm256_add_epi32(code, code), _mm256_castps_si256(above));
    }
    if constexpr (entries > 4) {
      const __m128 *four = reinterpret_cast<const __m128 *>(threshold + 3);
      const __m256 t = _mm256_permutevar_ps(_mm256_broadcast_ps(four), code);
      above = _mm256_cmp_ps(v, _mm256_mul_ps(t, u), _CMP_GT_OQ);
      code = _mm256_sub_epi32(_mm256_add_epi32(code, code), _mm256_castps_si256(above));
    }
    for (int step = 8; step < entries; step *= 2) {
      const __m256 t = step == 8    ? lookup<8>(threshold + 7, code)
                       : step == 16 ? lookup<16>(threshold + 15, code)
                                    : lookup<32>(threshold + step - 1, code);
      above = _mm256_cmp_ps(v, _mm256_mul_ps(t, u), _CMP_GT_OQ);
      code = _mm256_sub_epi32(_mm256_add_epi32(code, code), _mm256_castps_si256(above));
    }
  }
  return code;
}

// ---- Items: up to eight (row, head) pairs, one to a lane ----

struct Items {
  int count;
  int64_t row[lanes], head[lanes];
  uint8_t *unit[lanes]; // the record or tile in the pool; null: the row is skipped
  int token[lanes];     // within the unit
};

// Finds the unit of a slot; false and null when the row is skipped.
template <int unit_tokens>
inline bool find_unit(const polarc_pool &pool, int64_t slot, int64_t head, uint32_t *flags,
                      uint8_t *&unit, int &token) {
  unit = nullptr;
  token = 0;
  if (slot < 0) return false;
  const int64_t page = slot / page_tokens, offset = slot % page_tokens;
  if (page >= pool.pages) {
    raise_flag(flags, POLARC_SLOT_OUT_OF_RANGE);
    return false;
  }
  unit = static_cast<uint8_t *>(pool.data) + page * pool.page_stride + head * pool.head_stride +
         offset / unit_tokens * pool.unit_stride;
  token = static_cast<int>(offset % unit_tokens);
  return true;
}

// ---- Arguments: each check returns 0 or a status with its message set ----

inline int check_array(const char *what, const void *data, size_t alignment) {
  if (!data) return fail(POLARC_INVALID_ARGUMENT, "%s is null: give an array", what);
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0)
    return fail(POLARC_INVALID_ARGUMENT, "%s is not aligned: give a multiple of %u bytes", what,
                static_cast<unsigned>(alignment));
  return POLARC_OK;
}

inline int check_optional(const char *what, const void *data, size_t alignment) {
  return data ? check_array(what, data, alignment) : POLARC_OK;
}

inline int check_count(const char *what, int64_t count) {
  if (count < 0)
    return fail(POLARC_INVALID_ARGUMENT, "%s is %lld: give 0 or more", what,
                static_cast<long long>(count));
  return POLARC_OK;
}

inline int check_at_least(const char *what, int64_t value, int64_t least) {
  if (value < least)
    return fail(POLARC_INVALID_ARGUMENT, "%s is %lld: give %lld or more", what,
                static_cast<long long>(value), static_cast<long long>(least));
  return POLARC_OK;
}

// `heads` rows of `dim` elements at each of `count` places.
inline int check_rows(const char *what, const polarc_rows &rows, int64_t count, int64_t heads,
                      int dim) {
  if (rows.dtype != POLARC_F32 && rows.dtype != POLARC_F16 && rows.dtype != POLARC_BF16)
    return fail(POLARC_INVALID_ARGUMENT,
                "%s.dtype is %d: give POLARC_F32 (0), POLARC_F16 (1) or POLARC_BF16 (2)", what,
                rows.dtype);
  char field[64];
  if (count > 0 && heads > 0) {
    snprintf(field, sizeof field, "%s.data", what);
    const size_t alignment = static_cast<size_t>(element_bytes(rows.dtype));
    if (const int status = check_array(field, rows.data, alignment)) return status;
  }
  if (count > 1) {
    snprintf(field, sizeof field, "%s.row_stride", what);
    if (const int status = check_at_least(field, rows.row_stride, dim)) return status;
  }
  if (count > 0 && heads > 1) {
    snprintf(field, sizeof field, "%s.head_stride", what);
    if (const int status = check_at_least(field, rows.head_stride, dim)) return status;
  }
  return POLARC_OK;
}

inline int check_pool(const char *what, const polarc_pool &pool, int64_t heads, int64_t bytes) {
  char field[64];
  snprintf(field, sizeof field, "%s.pages", what);
  if (const int status = check_count(field, pool.pages)) return status;
  if (pool.pages == 0) return POLARC_OK;
  snprintf(field, sizeof field, "%s.data", what);
  if (const int status = check_array(field, pool.data, 16)) return status;
  snprintf(field, sizeof field, "%s.unit_stride", what);
  if (const int status = check_at_least(field, pool.unit_stride, bytes)) return status;
  snprintf(field, sizeof field, "%s.head_stride", what);
  if (heads > 1)
    if (const int status = check_at_least(field, pool.head_stride, bytes)) return status;
  snprintf(field, sizeof field, "%s.page_stride", what);
  if (pool.pages > 1) return check_at_least(field, pool.page_stride, bytes);
  return POLARC_OK;
}

inline int check_heads(int64_t kv_heads, int64_t begin, int64_t end) {
  if (kv_heads <= 0)
    return fail(POLARC_INVALID_ARGUMENT, "kv_heads is %lld: give 1 or more",
                static_cast<long long>(kv_heads));
  if (begin < 0 || end < begin || end > kv_heads)
    return fail(POLARC_INVALID_ARGUMENT,
                "head_begin is %lld and head_end %lld: give 0 <= head_begin <= head_end <= "
                "kv_heads (%lld), or both 0 for all heads",
                static_cast<long long>(begin), static_cast<long long>(end),
                static_cast<long long>(kv_heads));
  return POLARC_OK;
}

inline int check_basis(int basis) {
  if (basis != POLARC_ORIGINAL && basis != POLARC_ROTATED)
    return fail(POLARC_INVALID_ARGUMENT,
                "basis is %d: give POLARC_ORIGINAL (0) or POLARC_ROTATED (1)", basis);
  return POLARC_OK;
}

// A vector or matrix that the format needs for this call; some formats need none.
[[maybe_unused]] inline int check_given(const char *what, const char *field, const float *data,
                                        bool needed) {
  char name[64];
  snprintf(name, sizeof name, "%s.%s", what, field);
  if (needed && !data)
    return fail(POLARC_INVALID_ARGUMENT, "%s is null: this format needs it for this call", name);
  return check_optional(name, data, alignof(float));
}

// ---- Sequences: where a row's tokens lie and which of them it sees ----

constexpr int tile_tokens = 32; // tokens that attention takes at a time

// Lane i of vector v of a tile is this token: the order in which byte planes unpack to words.
constexpr int token_of_lane(int v, int i) { return v * 4 + i % 4 + i / 4 * 16; }

struct Sequence {
  int64_t length = 0;
  const int32_t *pages = nullptr; // page indices, or null: first_page and those behind it
  int64_t first_page = 0;
  const int32_t *positions = nullptr; // or null: first_position + index
  int64_t first_position = 0;
  const uint8_t *always_visible = nullptr;

  int64_t page(int64_t i) const { return pages ? pages[i] : first_page + i; }
  int64_t position(int64_t i) const { return positions ? positions[i] : first_position + i; }
};

inline int check_index(const polarc_index &index) {
  if (const int status = check_count("index.sequences", index.sequences)) return status;
  if (const int status = check_count("index.max_tokens", index.max_tokens)) return status;
  if (index.sequences == 0) return POLARC_OK;
  constexpr size_t four = alignof(int32_t);
  if (index.block_table && index.indptr)
    return fail(POLARC_INVALID_ARGUMENT,
                "index.block_table and index.indptr are both given: give one of them");
  if (index.indptr) {
    if (const int status = check_array("index.indptr", index.indptr, four)) return status;
    if (const int status = check_count("index.indices_count", index.indices_count)) return status;
    if (index.indices_count > 0)
      if (const int status = check_array("index.indices", index.indices, four)) return status;
    if (const int status = check_array("index.last_page_len", index.last_page_len, four))
      return status;
  } else {
    if (const int status = check_array("index.lengths", index.lengths, four)) return status;
    const char *field = index.block_table ? "index.block_table_stride" : "index.pages_per_sequence";
    const int64_t pages = index.block_table ? index.block_table_stride : index.pages_per_sequence;
    if (const int status = check_count(field, pages)) return status;
    if (const int status = check_optional("index.block_table", index.block_table, four))
      return status;
  }
  if (const int status = check_optional("index.first_position", index.first_position, four))
    return status;
  if (index.positions)
    if (const int status = check_count("index.positions_stride", index.positions_stride))
      return status;
  return check_optional("index.positions", index.positions, four);
}

// False, with a flag raised, where tables or lengths are out of range: the row becomes NaN.
inline bool find_sequence(const polarc_index &index, int64_t s, int64_t pool_pages, uint32_t *flags,
                          Sequence &sequence) {
  const auto out_of_range = [&](uint32_t flag) {
    raise_flag(flags, flag);
    return false;
  };
  if (s < 0 || s >= index.sequences) return out_of_range(POLARC_SEQUENCE_OUT_OF_RANGE);
  int64_t capacity = 0;
  if (index.indptr) {
    const int64_t begin = index.indptr[s], count = index.indptr[s + 1] - begin;
    if (begin < 0 || count < 0 || begin + count > index.indices_count)
      return out_of_range(POLARC_LENGTH_OUT_OF_RANGE);
    const int64_t last = count == 0 ? 0 : index.last_page_len[s];
    if (count > 0 && (last < 1 || last > page_tokens))
      return out_of_range(POLARC_LENGTH_OUT_OF_RANGE);
    sequence.length = count == 0 ? 0 : (count - 1) * page_tokens + last;
    capacity = sequence.length;
    sequence.pages = index.indices ? index.indices + begin : nullptr;
  } else {
    sequence.length = index.lengths[s];
    if (index.block_table) {
      capacity = index.block_table_stride * page_tokens;
      sequence.pages = index.block_table + s * index.block_table_stride;
    } else {
      capacity = index.pages_per_sequence * page_tokens;
      sequence.first_page = s * index.pages_per_sequence;
    }
  }
  if (sequence.length < 0 || sequence.length > index.max_tokens || sequence.length > capacity)
    return out_of_range(POLARC_LENGTH_OUT_OF_RANGE);
  if (index.positions) {
    if (sequence.length > index.positions_stride) return out_of_range(POLARC_LENGTH_OUT_OF_RANGE);
    sequence.positions = index.positions + s * index.positions_stride;
  }
  if (index.first_position) sequence.first_position = index.first_position[s];
  const int64_t count = (sequence.length + page_tokens - 1) / page_tokens;
  for (int64_t i = 0; i < count; i++)
    if (sequence.page(i) < 0 || sequence.page(i) >= pool_pages)
      return out_of_range(POLARC_PAGE_OUT_OF_RANGE);
  return true;
}

// The tokens that a row sees lie in [begin, end); `some` of those may be hidden.
struct Sight {
  int64_t begin = 0, end = 0;
  bool some = false;
  int64_t newest = 0, oldest = 0; // positions seen, both included
};

inline Sight see(const Sequence &sequence, const int32_t *row_position, int64_t row, int window) {
  Sight sight;
  sight.end = sequence.length;
  if (sequence.length == 0) return sight;
  if (row_position) {
    sight.newest = row_position[row];
  } else {
    sight.newest = sequence.position(sequence.length - 1);
    for (int64_t i = 0; sequence.positions && i < sequence.length; i++)
      if (sequence.positions[i] > sight.newest) sight.newest = sequence.positions[i];
  }
  sight.oldest = window > 0 ? sight.newest - window + 1 : INT64_MIN;
  sight.some = sequence.positions || sequence.always_visible;
  if (!sight.some) { // positions ascend: what is seen is one piece
    const int64_t end = sight.newest - sequence.first_position + 1;
    const int64_t begin = window > 0 ? sight.oldest - sequence.first_position : 0;
    sight.end = end < 0 ? 0 : end < sight.end ? end : sight.end;
    sight.begin = begin < 0 ? 0 : begin < sight.end ? begin : sight.end;
  }
  return sight;
}

inline bool sees(const Sequence &sequence, const Sight &sight, int64_t token) {
  if (token < sight.begin || token >= sight.end) return false;
  if (!sight.some) return true;
  if (sequence.always_visible && sequence.always_visible[token]) return true;
  const int64_t position = sequence.position(token);
  return position <= sight.newest && position >= sight.oldest;
}

// The units of 32 tokens: a tile, or records in the order of lanes.
template <int unit_tokens> struct Source {
  const uint8_t *unit[unit_tokens == 1 ? tile_tokens : 1];
};

// Tokens at or beyond `end` have no unit: `nothing` stands in for a record of theirs.
template <int unit_tokens>
inline void locate(const polarc_pool &pool, const Sequence &sequence, int64_t head, int64_t first,
                   int64_t end, const uint8_t *nothing, Source<unit_tokens> &source) {
  const uint8_t *base = static_cast<const uint8_t *>(pool.data) + head * pool.head_stride;
  const auto address = [&](int64_t token) {
    return base + sequence.page(token / page_tokens) * pool.page_stride +
           token % page_tokens / unit_tokens * pool.unit_stride;
  };
  if constexpr (unit_tokens == 1) {
    for (int v = 0; v < 4; v++) {
      for (int i = 0; i < lanes; i++) {
        const int64_t token = first + token_of_lane(v, i);
        source.unit[v * lanes + i] = token < end ? address(token) : nothing;
      }
    }
  } else {
    static_assert(page_tokens % unit_tokens == 0, "pages hold whole tiles");
    static_cast<void>(end);
    static_cast<void>(nothing);
    source.unit[0] = address(first);
  }
}

// Brings part `step` of `steps` of the units' bytes to the second-level cache: the first has too
// few places for lines under way. Inlined always, as all that prefetches: compilers drop calls of
// a function that does nothing else.
template <int unit_tokens, int unit_bytes>
inline __attribute__((always_inline)) void prefetch(const Source<unit_tokens> &source, int step,
                                                    int steps) {
  constexpr int lines = (unit_bytes + 63) / 64;
  constexpr int all = unit_tokens == 1 ? tile_tokens * lines : lines;
  const int share = (all + steps - 1) / steps;
  for (int i = step * share; i < (step + 1) * share && i < all; i++) {
    const uint8_t *unit = source.unit[unit_tokens == 1 ? i / lines : 0];
    _mm_prefetch(reinterpret_cast<const char *>(unit + i % lines * 64), _MM_HINT_T1);
  }
}

// For kernels that bring nothing nearer.
inline void nothing_ahead(int, int, int) {}

// Tiles from token `first` on, of tokens up to `end`: `most` at the most.
template <int most> inline int tiles_of(int64_t first, int64_t end) {
  const int64_t left = end > first ? (end - first + tile_tokens - 1) / tile_tokens : 0;
  return left < most ? static_cast<int>(left) : most;
}

// ---- Softmax ----

// Lets a loop over a compile-time count see its index as a constant.
template <class Body, int... index>
inline __attribute__((always_inline)) void unroll_over(std::integer_sequence<int, index...>,
                                                       Body &&body) {
  (body(std::integral_constant<int, index>{}), ...);
}
template <int count, class Body> inline __attribute__((always_inline)) void unroll(Body &&body) {
  unroll_over(std::make_integer_sequence<int, count>{}, body);
}

inline float sum_of(__m256 x) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline float max_of(__m256 x) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// e^x for x <= 0 to 1.2e-7: 2^n times a polynomial (Cephes' expf). Below -87 it is 0; NaN stays.
inline __m256 exp_of(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(-87.0f);
  const __m256 kept = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);
  x = _mm256_max_ps(lowest, x); // of two operands with a NaN the second
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 y = _mm256_set1_ps(1.9875691500e-4f);
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.3981999507e-3f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(8.3334519073e-3f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(4.1665795894e-2f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.6666665459e-1f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(5.0000001201e-1f));
  y = _mm256_fmadd_ps(_mm256_mul_ps(r, r), y, _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(kept, _mm256_mul_ps(y, _mm256_castsi256_ps(exponent)));
}

// tanh: an odd polynomial near 0, where (1 - e) / (1 + e) would cancel.
inline __m256 tanh_of(__m256 x) {
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 size = _mm256_xor_ps(x, sign);
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 e = exp_of(_mm256_mul_ps(size, _mm256_set1_ps(-2.0f)));
  const __m256 far = _mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e));
  const __m256 square = _mm256_mul_ps(size, size);
  __m256 y = _mm256_set1_ps(62.0f / 2835.0f);
  y = _mm256_fmadd_ps(y, square, _mm256_set1_ps(-17.0f / 315.0f));
  y = _mm256_fmadd_ps(y, square, _mm256_set1_ps(2.0f / 15.0f));
  y = _mm256_fmadd_ps(y, square, _mm256_set1_ps(-1.0f / 3.0f));
  const __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(y, square), size, size);
  const __m256 is_near = _mm256_cmp_ps(size, _mm256_set1_ps(0.2f), _CMP_LT_OQ);
  return _mm256_or_ps(_mm256_blendv_ps(far, near, is_near), sign);
}

// Products q.k to logits, in place: scale, the centred part, the soft cap; hidden tokens to -inf.
inline void to_logits(float *s, int count, float scale, float shift, float softcap,
                      const float *seen) {
  const __m256 factor = _mm256_set1_ps(scale), offset = _mm256_set1_ps(shift);
  const __m256 hidden = _mm256_set1_ps(-__builtin_inff());
  for (int i = 0; i < count; i += 8) {
    __m256 x = _mm256_fmadd_ps(_mm256_load_ps(s + i), factor, offset);
    if (softcap > 0)
      x = _mm256_mul_ps(tanh_of(_mm256_div_ps(x, _mm256_set1_ps(softcap))),
                        _mm256_set1_ps(softcap));
    if (seen) x = _mm256_blendv_ps(hidden, x, _mm256_load_ps(seen + i));
    _mm256_store_ps(s + i, x);
  }
}

// What a query has gathered: weights are relative to e^max. A NaN logit makes `sum` NaN for good.
struct Gathered {
  float max = -__builtin_inff(), sum = 0;
};

// Logits to weights, in place; returns the factor for what was gathered before.
inline float softmax_step(float *s, int count, Gathered &gathered) {
  __m256 top = _mm256_load_ps(s);
  for (int i = 8; i < count; i += 8) top = _mm256_max_ps(_mm256_load_ps(s + i), top);
  // A NaN in `top` is an operand of no comparison that holds.
  const float largest = max_of(top);
  const float max = largest > gathered.max ? largest : gathered.max;
  const float factor = gathered.max == max ? 1.0f : std::exp(gathered.max - max);
  const __m256 reference = _mm256_set1_ps(max == -__builtin_inff() ? 0.0f : max);
  __m256 sum = _mm256_setzero_ps();
  for (int i = 0; i < count; i += 8) {
    const __m256 weight = exp_of(_mm256_sub_ps(_mm256_load_ps(s + i), reference));
    _mm256_store_ps(s + i, weight);
    sum = _mm256_add_ps(sum, weight);
  }
  gathered.sum = gathered.sum * factor + sum_of(sum);
  gathered.max = max;
  return factor;
}

// 1 bits in the lanes of seen tokens; null when all of `tiles` tiles from `first` on are seen.
inline const float *seen_lanes(const Sequence &sequence, const Sight &sight, int64_t first,
                               int tiles, float *seen) {
  if (!sight.some && first >= sight.begin && first + tiles * tile_tokens <= sight.end)
    return nullptr;
  for (int t = 0; t < tiles; t++) {
    for (int lane = 0; lane < tile_tokens; lane++) {
      const int64_t token = first + t * tile_tokens + token_of_lane(lane / 8, lane % 8);
      const uint32_t bits = sees(sequence, sight, token) ? 0xFFFFFFFFu : 0;
      memcpy(seen + t * tile_tokens + lane, &bits, sizeof bits);
    }
  }
  return seen;
}

// ---- Variants: over records token by token there is but one ----

constexpr bool wide_in_use() { return false; }
inline void use_variant(const char *) {}

namespace key {

constexpr int head_dim = 128, depth = 4;
constexpr int blocks = 8; // head_dim / 2^depth radii a vector
constexpr int unit_tokens = 1, unit_bytes = 64;
constexpr int record_bits = 512; // of one token
[[maybe_unused]] constexpr float scale = 0.088388346f;

// Level 1: sign of x, index within the quadrant, sign of y.
// Thresholds stand in the order in which a binary search meets them.
constexpr int bits_l1 = 4, nodes_l1 = 64, entries_l1 = 4;
alignas(32) constexpr float cos_l1[] = {
    0.98078525f, 0.8314696f, 0.55557024f, 0.19509032f, 0.98078525f, 0.8314696f, 0.55557024f,
    0.19509032f,
};
alignas(32) constexpr float sin_l1[] = {
    0.19509032f, 0.55557024f, 0.8314696f, 0.98078525f, 0.19509032f, 0.55557024f, 0.8314696f,
    0.98078525f,
};
alignas(32) constexpr float threshold_l1[] = {1.0f, 0.41421357f, 2.4142137f};
constexpr uint16_t code_bit_l1[] = {
    6, 12, 16, 22, 38, 44, 26, 0, 70, 76, 80, 86, 102, 108, 90, 64, 134, 140, 144, 150, 166, 172,
    154, 128, 198, 204, 208, 214, 230, 236, 218, 192, 262, 268, 272, 278, 294, 300, 282, 256, 326,
    332, 336, 342, 358, 364, 346, 320, 390, 396, 400, 406, 422, 428, 410, 384, 454, 460, 464, 470,
    486, 492, 474, 448,
};

// Level 2: angles in [0, pi/2].
// Thresholds stand in the order in which a binary search meets them.
constexpr int bits_l2 = 2, nodes_l2 = 32, entries_l2 = 4;
alignas(32) constexpr float cos_l2[] = {
    0.95240796f, 0.80567616f, 0.5923562f, 0.30482638f, 0.95240796f, 0.80567616f, 0.5923562f,
    0.30482638f,
};
alignas(32) constexpr float sin_l2[] = {
    0.30482638f, 0.5923562f, 0.80567616f, 0.95240796f, 0.30482638f, 0.5923562f, 0.80567616f,
    0.95240796f,
};
alignas(32) constexpr float threshold_l2[] = {1.0f, 0.51031834f, 1.9595611f};
constexpr uint16_t code_bit_l2[] = {
    10, 20, 42, 30, 74, 84, 106, 94, 138, 148, 170, 158, 202, 212, 234, 222, 266, 276, 298, 286,
    330, 340, 362, 350, 394, 404, 426, 414, 458, 468, 490, 478,
};

// Level 3: angles in [0, pi/2].
// Thresholds stand in the order in which a binary search meets them.
constexpr int bits_l3 = 2, nodes_l3 = 16, entries_l3 = 4;
alignas(32) constexpr float cos_l3[] = {
    0.91052276f, 0.7810911f, 0.62441707f, 0.41345897f, 0.91052276f, 0.7810911f, 0.62441707f,
    0.41345897f,
};
alignas(32) constexpr float sin_l3[] = {
    0.41345897f, 0.62441707f, 0.7810911f, 0.91052276f, 0.41345897f, 0.62441707f, 0.7810911f,
    0.91052276f,
};
alignas(32) constexpr float threshold_l3[] = {1.0f, 0.61354196f, 1.6298804f};
constexpr uint16_t code_bit_l3[] = {
    32, 34, 96, 98, 160, 162, 224, 226, 288, 290, 352, 354, 416, 418, 480, 482,
};

// Level 4: angles in [0, pi/2].
// Thresholds stand in the order in which a binary search meets them.
constexpr int bits_l4 = 2, nodes_l4 = 8, entries_l4 = 4;
alignas(32) constexpr float cos_l4[] = {
    0.8657176f, 0.7610219f, 0.64872617f, 0.5005328f, 0.8657176f, 0.7610219f, 0.64872617f,
    0.5005328f,
};
alignas(32) constexpr float sin_l4[] = {
    0.5005328f, 0.64872617f, 0.7610219f, 0.8657176f, 0.5005328f, 0.64872617f, 0.7610219f,
    0.8657176f,
};
alignas(32) constexpr float threshold_l4[] = {1.0f, 0.70648f, 1.4154682f};
constexpr uint16_t code_bit_l4[] = {
    36, 100, 164, 228, 292, 356, 420, 484,
};

// The same by level, for code that walks the tree; index 0 is not used.
constexpr int bits[] = {
    0, bits_l1, bits_l2, bits_l3, bits_l4,
};
constexpr int nodes[] = {
    head_dim, nodes_l1, nodes_l2, nodes_l3, nodes_l4,
};
constexpr int entries[] = {
    0, entries_l1, entries_l2, entries_l3, entries_l4,
};
constexpr const float *cosines[] = {
    nullptr, cos_l1, cos_l2, cos_l3, cos_l4,
};
constexpr const float *sines[] = {
    nullptr, sin_l1, sin_l2, sin_l3, sin_l4,
};
constexpr const float *thresholds[] = {
    nullptr, threshold_l1, threshold_l2, threshold_l3, threshold_l4,
};
constexpr const uint16_t *code_bit[] = {
    nullptr, code_bit_l1, code_bit_l2, code_bit_l3, code_bit_l4,
};

// Radii.
[[maybe_unused]] constexpr int radius_kind = POLARC_F16;
constexpr int radius_bits = 16;
constexpr uint16_t radius_bit[] = {
    48, 112, 176, 240, 304, 368, 432, 496,
};

// Rotation: signs (bit i mod 8 of byte i / 8), butterflies over 2^hadamard_log2 coordinates.
[[maybe_unused]] constexpr int hadamard_order = 1;
constexpr int hadamard_log2 = 7;
constexpr uint8_t sign_bits[] = {
    0xa7, 0x9e, 0xe7, 0xec, 0x82, 0x2f, 0xc3, 0x1b, 0x82, 0xf8, 0x0f, 0x76, 0xf9, 0x8c, 0x9a,
    0x00,
};

static_assert(blocks << depth == head_dim, "the tree covers the vector");
static_assert(sizeof radius_bit / sizeof radius_bit[0] == blocks, "one radius a block");
static_assert(unit_bytes * 8 == unit_tokens * record_bits, "a unit is whole records");

// ---- Precondition: y = S x, on eight items at once and on one vector ----

// What a call needs of the run-time transform.
inline int check_transform(const char *what, const polarc_transform &t, bool mean, bool matrix,
                           bool dual) {
  static_cast<void>(mean);
  static_cast<void>(matrix);
  static_cast<void>(dual);
  static_cast<void>(what);
  static_cast<void>(t);
  return POLARC_OK;
}

constexpr int padded_dim = (head_dim + 7) / 8 * 8;
constexpr bool centred = false;

// The signs of eight coordinates from `first` on, as sign bits.
inline __m256 signs_of(int first) {
  const __m256i place = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
  const __m256i bit = _mm256_sllv_epi32(_mm256_set1_epi32(sign_bits[first / 8]), place);
  return _mm256_and_ps(_mm256_castsi256_ps(bit), _mm256_set1_ps(-0.0f));
}

inline void butterfly(__m256 &a, __m256 &b) {
  const __m256 difference = _mm256_sub_ps(a, b);
  a = _mm256_add_ps(a, b);
  b = difference;
}

// All butterflies of 2, 4 or 8 vectors in registers: strides 1, 2, 4 in turn.
template <int radix> inline void butterflies(__m256 *v) {
  for (int j = 0; j < radix; j += 2) butterfly(v[j], v[j + 1]);
  if constexpr (radix >= 4)
    for (int j = 0; j < radix; j += 4)
      for (int k = j; k < j + 2; k++) butterfly(v[k], v[k + 2]);
  if constexpr (radix >= 8)
    for (int k = 0; k < 4; k++) butterfly(v[k], v[k + 4]);
}

// The same for vectors that stand `stride` apart in y.
template <int radix, int stride> inline void butterflies_apart(__m256 *y) {
  for (int base = 0; base < head_dim; base += radix * stride) {
    for (int i = base; i < base + stride; i++) {
      __m256 v[radix];
      for (int j = 0; j < radix; j++) v[j] = y[i + j * stride];
      butterflies<radix>(v);
      for (int j = 0; j < radix; j++) y[i + j * stride] = v[j];
    }
  }
}

// Eight items, coordinate by coordinate; centring, signs and strides up to 4
// were applied when they were read.
[[maybe_unused]] inline void precondition(__m256 *y) {
  butterflies_apart<4, 8>(y);
  butterflies_apart<4, 32>(y);
}

// The unscaled H of one vector; also its inverse times head_dim when `transposed`.
inline void hadamard(float *x, bool transposed) {
  static_cast<void>(transposed);
  for (int stride = 1; stride < 1 << hadamard_log2; stride *= 2) {
    for (int base = 0; base < head_dim; base += 2 * stride) {
      for (int i = base; i < base + stride; i++) {
        const float difference = x[i] - x[i + stride];
        x[i] += x[i + stride];
        x[i + stride] = difference;
      }
    }
  }
}

inline void change_signs(const float *in, float factor, float *out) {
  for (int i = 0; i < head_dim; i++)
    out[i] = in[i] * (sign_bits[i / 8] >> i % 8 & 1 ? -factor : factor);
}

// S x, with S = H diag(signs) / sqrt(head_dim).
inline void rotate_forward(const polarc_transform &, int64_t, const float *in, float *out) {
  change_signs(in, scale, out);
  hadamard(out, false);
}

// S^-T x = S x.
inline void rotate_dual(const polarc_transform &t, int64_t head, const float *in, float *out) {
  rotate_forward(t, head, in, out);
}

// S^-1 x = S^T x.
inline void rotate_inverse(const polarc_transform &, int64_t, const float *in, float *out) {
  memmove(out, in, sizeof(float) * head_dim);
  hadamard(out, true);
  change_signs(out, scale, out);
}

// ---- Records: the bits of eight tokens, word by word ----

constexpr int record_words = (record_bits + 31) / 32;
constexpr int padded_words = (record_words + 7) / 8 * 8;

// Bit i of a token is bit i mod 32 of its lane in word[i / 32].
struct Record {
  __m256i word[padded_words + 1]; // one more than stored: what a last field would carry over
};

// Whether a field of this width crosses from one word to the next at one of these positions.
constexpr bool crosses_words(const uint16_t *positions, int count, int width) {
  for (int i = 0; i < count; i++)
    if (positions[i] % 32 + width > 32) return true;
  return false;
}

// Sets a field of a record in which it is zero.
template <bool crosses> inline void put(Record &record, int bit, __m256i field) {
  const int shift = bit % 32;
  __m256i *word = record.word + bit / 32;
  word[0] = _mm256_or_si256(word[0], _mm256_sll_epi32(field, _mm_cvtsi32_si128(shift)));
  if constexpr (crosses)
    word[1] = _mm256_or_si256(word[1], _mm256_srl_epi32(field, _mm_cvtsi32_si128(32 - shift)));
}

template <int width> inline __m256i get(const Record &record, int bit) {
  const int shift = bit % 32;
  const __m256i *word = record.word + bit / 32;
  const __m256i low = _mm256_srl_epi32(word[0], _mm_cvtsi32_si128(shift));
  const __m256i high = _mm256_sll_epi32(word[1], _mm_cvtsi32_si128(32 - shift));
  const __m256i mask = _mm256_srli_epi32(_mm256_set1_epi32(-1), 32 - width);
  return _mm256_and_si256(_mm256_or_si256(low, high), mask);
}

// Clears a field in the lanes of `which`.
inline void clear(Record &record, int bit, int width, __m256i which) {
  const __m256i ones = _mm256_set1_epi32(width == 32 ? -1 : (1 << width) - 1);
  const int shift = bit % 32;
  __m256i *word = record.word + bit / 32;
  const __m256i low = _mm256_sll_epi32(ones, _mm_cvtsi32_si128(shift));
  const __m256i high = _mm256_srl_epi32(ones, _mm_cvtsi32_si128(32 - shift));
  word[0] = _mm256_andnot_si256(_mm256_and_si256(low, which), word[0]);
  word[1] = _mm256_andnot_si256(_mm256_and_si256(high, which), word[1]);
}

// Eight words of eight tokens: from words of a record to rows of a token, and back.
inline void transpose_words(const __m256i *in, __m256i *out) {
  __m256 r[8];
  for (int i = 0; i < 8; i++) r[i] = _mm256_castsi256_ps(in[i]);
  transpose8(r);
  for (int i = 0; i < 8; i++) out[i] = _mm256_castps_si256(r[i]);
}

// The records as bytes, one token's after the other.
struct Bytes {
  alignas(32) uint8_t token[lanes][padded_words * 4];
};

inline void to_bytes(const Record &record, Bytes &bytes) {
  for (int i = 0; i < padded_words; i += 8) {
    __m256i row[8];
    transpose_words(record.word + i, row);
    for (int lane = 0; lane < lanes; lane++)
      _mm256_store_si256(reinterpret_cast<__m256i *>(bytes.token[lane] + i * 4), row[lane]);
  }
}

inline void from_bytes(const Bytes &bytes, Record &record) {
  for (int i = 0; i < padded_words; i += 8) {
    __m256i row[8];
    for (int lane = 0; lane < lanes; lane++)
      row[lane] =
          _mm256_load_si256(reinterpret_cast<const __m256i *>(bytes.token[lane] + i * 4));
    transpose_words(row, record.word + i);
  }
  record.word[padded_words] = _mm256_setzero_si256();
}

inline void store_records(const Record &record, const Items &items) {
  Bytes bytes;
  to_bytes(record, bytes);
  for (int lane = 0; lane < items.count; lane++)
    if (items.unit[lane]) memcpy(items.unit[lane], bytes.token[lane], unit_bytes);
}

inline void load_records(const Items &items, Record &record) {
  Bytes bytes = {};
  for (int lane = 0; lane < items.count; lane++)
    if (items.unit[lane]) memcpy(bytes.token[lane], items.unit[lane], unit_bytes);
  from_bytes(bytes, record);
}

// ---- Encode: eight rows at a time, nearest codeword ----

// What encoding has found so far: squared errors where they are asked for.
struct Found {
  Record record;
  __m256 error;
};

// Reads the coordinates of eight rows: centred, tiny ones made +0, signs of the rotation applied.
template <int dtype>
__attribute__((noinline)) void read_items(const polarc_encode_params &p, const Items &items,
                                          __m256 *y) {
  constexpr int size = dtype == POLARC_F32 ? 4 : 2;
  const __m256 sign = _mm256_set1_ps(-0.0f), tiny = _mm256_set1_ps(0x1p-64f);
  const uint8_t *row[lanes];
  for (int lane = 0; lane < lanes; lane++) {
    const int item = lane < items.count ? lane : 0; // the tail repeats an item and stores none
    row[lane] = row_address(p.rows, items.row[item], items.head[item]);
  }
  for (int first = 0; first < head_dim; first += 8) {
    const int count = head_dim - first;
    __m256 r[lanes];
    for (int lane = 0; lane < lanes; lane++) {
      const uint8_t *source = row[lane] + first * size;
      __m256 x = count < 8 ? load_part<dtype>(source, count) : load8<dtype>(source);
      x = _mm256_andnot_ps(_mm256_cmp_ps(_mm256_andnot_ps(sign, x), tiny, _CMP_LT_OQ), x);
      x = _mm256_xor_ps(x, signs_of(first));
      r[lane] = x;
    }
    transpose8(r);
    butterflies<8>(r);
    for (int i = 0; i < 8; i++) y[first + i] = r[i];
  }
}

// Of a difference that counts: below 2^-50 none does, so that no denormal reaches a row's error.
inline __m256 squared(__m256 e) {
  const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), e);
  const __m256 counts = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-50f), _CMP_GE_OQ);
  e = _mm256_and_ps(e, counts);
  return _mm256_mul_ps(e, e);
}

// The projection on a codeword goes up the tree; what is orthogonal to it is error.
template <bool with_errors>
inline __m256 project(__m256 u, __m256 v, __m256 cos, __m256 sin, __m256 &error) {
  if constexpr (with_errors) {
    const __m256 e = _mm256_sub_ps(_mm256_mul_ps(u, sin), _mm256_mul_ps(v, cos));
    error = _mm256_add_ps(error, squared(e));
  }
  return _mm256_add_ps(_mm256_mul_ps(u, cos), _mm256_mul_ps(v, sin));
}

// Level 1: y holds coordinates, then the projections of their pairs.
template <bool with_errors> inline void encode_l1(__m256 *y, Found &found) {
  constexpr bool crosses = crosses_words(code_bit_l1, nodes_l1, bits_l1);
  const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f);
  const __m256i top = _mm256_set1_epi32(1 << (bits_l1 - 1));
  __m256 error = found.error;
  for (int j = 0; j < nodes_l1; j++) {
    const __m256 x1 = y[2 * j], x2 = y[2 * j + 1]; // y[j] may be one of them
    const __m256 u = _mm256_andnot_ps(sign, x1), v = _mm256_andnot_ps(sign, x2);
    const __m256i m = search<entries_l1>(thresholds[1], u, v);
    y[j] = project<with_errors>(u, v, lookup<entries_l1>(cos_l1, m),
                                lookup<entries_l1>(sin_l1, m), error);
    const __m256i minus_v = _mm256_castps_si256(_mm256_cmp_ps(x2, zero, _CMP_LT_OQ));
    __m256i code = _mm256_and_si256(minus_v, top);
    if constexpr (bits_l1 > 1) {
      const __m256i minus_u = _mm256_castps_si256(_mm256_cmp_ps(x1, zero, _CMP_LT_OQ));
      code = _mm256_or_si256(code, _mm256_sub_epi32(_mm256_add_epi32(m, m), minus_u));
    }
    put<crosses>(found.record, code_bit_l1[j], code);
  }
  found.error = error;
}

// Levels from 2 on: y holds the projections of the level below, then those of this one.
template <int level, bool with_errors> inline void encode_level(__m256 *y, Found &found) {
  constexpr bool crosses = crosses_words(code_bit[level], nodes[level], bits[level]);
  __m256 error = found.error;
  for (int j = 0; j < nodes[level]; j++) {
    const __m256 u = y[2 * j], v = y[2 * j + 1];
    const __m256i code = search<entries[level]>(thresholds[level], u, v);
    y[j] = project<with_errors>(u, v, lookup<entries[level]>(cosines[level], code),
                                lookup<entries[level]>(sines[level], code), error);
    put<crosses>(found.record, code_bit[level][j], code);
  }
  found.error = error;
}

// Clears every code under a block in the lanes of `which`.
inline void clear_block(Record &record, int block, __m256i which) {
  for (int level = 1; level <= depth; level++) {
    const int count = 1 << (depth - level);
    for (int j = block * count; j < (block + 1) * count; j++)
      clear(record, code_bit[level][j], bits[level], which);
  }
}

// Lanes whose value is NaN or infinite.
inline __m256i not_finite(__m256 x) {
  const __m256i infinity = _mm256_set1_epi32(0x7F800000);
  const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(x), infinity);
  return _mm256_cmpeq_epi32(exponent, infinity);
}

// A radius for every block, rounded to nearest even and at most the largest finite value.
template <bool with_errors> inline void encode_radii(const __m256 *p, Found &found) {
  constexpr bool crosses = crosses_words(radius_bit, blocks, radius_bits);
  __m256i any_broken = _mm256_setzero_si256();
  for (int i = 0; i < blocks; i++) {
    const __m256i broken = not_finite(p[i]);
    const __m256 radius = _mm256_mul_ps(p[i], _mm256_set1_ps(scale));
    const __m128i half = _mm256_cvtps_ph(_mm256_min_ps(radius, _mm256_set1_ps(65504.0f)),
                                         _MM_FROUND_TO_NEAREST_INT);
    __m256i stored = _mm256_cvtepu16_epi32(half);
    const __m256 decoded = _mm256_cvtph_ps(half);
    const __m256i nan = _mm256_set1_epi32(0x7E00);
    if constexpr (with_errors) {
      const __m256 rest = _mm256_sub_ps(radius, decoded);
      found.error = _mm256_add_ps(found.error, squared(rest));
    }
    if (_mm256_movemask_epi8(broken)) {
      clear_block(found.record, i, broken);
      stored = _mm256_blendv_epi8(stored, nan, broken);
      any_broken = _mm256_or_si256(any_broken, broken);
    }
    put<crosses>(found.record, radius_bit[i], stored);
  }
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  found.error = _mm256_blendv_ps(found.error, infinity, _mm256_castsi256_ps(any_broken));
}

template <bool with_errors>
__attribute__((noinline)) void encode_items(const polarc_encode_params &p, const Items &items) {
  __m256 y[padded_dim];
  switch (p.rows.dtype) {
    case POLARC_F32: read_items<POLARC_F32>(p, items, y); break;
    case POLARC_F16: read_items<POLARC_F16>(p, items, y); break;
    default: read_items<POLARC_BF16>(p, items, y);
  }
  precondition(y);

  Found found = {};
  encode_l1<with_errors>(y, found);
  encode_level<2, with_errors>(y, found);
  encode_level<3, with_errors>(y, found);
  encode_level<4, with_errors>(y, found);
  found.error = _mm256_mul_ps(found.error, _mm256_set1_ps(scale * scale));
  encode_radii<with_errors>(y, found);

  store_records(found.record, items);
  if constexpr (with_errors) {
    float error[lanes];
    _mm256_storeu_ps(error, found.error);
    for (int lane = 0; lane < items.count; lane++)
      if (items.unit[lane]) p.errors[items.row[lane] * p.kv_heads + items.head[lane]] = error[lane];
  }
}

int encode(const polarc_encode_params &p) {
  if (const int status = check_count("count", p.count)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_rows("rows", p.rows, p.count, p.kv_heads, head_dim)) return status;
  if (const int status = check_pool("cache", p.cache, p.kv_heads, unit_bytes)) return status;
  if (p.count > 0)
    if (const int status = check_array("slots", p.slots, alignof(int64_t))) return status;
  if (const int status = check_transform("transform", p.transform, true, true, false))
    return status;
  if (const int status = check_optional("errors", p.errors, alignof(float))) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  const bool all_heads = p.head_begin == 0 && p.head_end == 0;
  const int64_t head_end = all_heads ? p.kv_heads : p.head_end;
  Items items = {};
  const auto flush = [&] {
    if (items.count == 0) return;
    if (p.errors) encode_items<true>(p, items);
    else encode_items<false>(p, items);
    items.count = 0;
  };
  for (int64_t head = p.head_begin; head < head_end; head++) {
    for (int64_t row = 0; row < p.count; row++) {
      const int lane = items.count;
      if (!find_unit<unit_tokens>(p.cache, p.slots[row], head, p.flags, items.unit[lane],
                                  items.token[lane]))
        continue;
      items.row[lane] = row;
      items.head[lane] = head;
      if (++items.count == lanes) flush();
    }
  }
  flush();
  return POLARC_OK;
}

// ---- Decode: eight records at a time, from the radii down ----

// The top radii of eight tokens.
inline void decode_radii(const Record &record, __m256 *y) {
  for (int i = 0; i < blocks; i++) {
    const __m256i stored = get<radius_bits>(record, radius_bit[i]);
    y[i] = _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(stored),
                                            _mm256_extracti128_si256(stored, 1)));
  }
}

// A level from 2 on: y holds its nodes, then their children.
template <int level> inline void decode_level(const Record &record, __m256 *y) {
  for (int j = nodes[level] - 1; j >= 0; j--) {
    const __m256i code = get<bits[level]>(record, code_bit[level][j]);
    const __m256 radius = y[j];
    y[2 * j + 1] = _mm256_mul_ps(radius, lookup<entries[level]>(sines[level], code));
    y[2 * j] = _mm256_mul_ps(radius, lookup<entries[level]>(cosines[level], code));
  }
}

// Level 1: y holds pairs, then coordinates.
inline void decode_l1(const Record &record, __m256 *y) {
  const __m256i index_mask = _mm256_set1_epi32(entries_l1 - 1);
  for (int j = nodes_l1 - 1; j >= 0; j--) {
    const __m256i code = get<bits_l1>(record, code_bit_l1[j]);
    const __m256i m = _mm256_and_si256(_mm256_srli_epi32(code, 1), index_mask);
    const __m256 radius = y[j];
    const __m256i top = _mm256_slli_epi32(code, 32 - bits_l1);
    const __m256 sign_v = _mm256_and_ps(_mm256_castsi256_ps(top), _mm256_set1_ps(-0.0f));
    const __m256 sign_u = _mm256_castsi256_ps(_mm256_slli_epi32(code, 31));
    const __m256 v = _mm256_mul_ps(radius, lookup<entries_l1>(sin_l1, m));
    const __m256 u = _mm256_mul_ps(radius, lookup<entries_l1>(cos_l1, m));
    y[2 * j + 1] = _mm256_xor_ps(v, sign_v);
    y[2 * j] = bits_l1 > 1 ? _mm256_xor_ps(u, sign_u) : u;
  }
}

// Eight records as rows of the preconditioned space.
inline void decode_items(const Items &items, float (*row)[padded_dim]) {
  Record record;
  load_records(items, record);
  __m256 y[padded_dim] = {};
  decode_radii(record, y);
  decode_level<4>(record, y);
  decode_level<3>(record, y);
  decode_level<2>(record, y);
  decode_l1(record, y);
  for (int first = 0; first < head_dim; first += 8) {
    transpose8(y + first);
    for (int lane = 0; lane < lanes; lane++) _mm256_storeu_ps(row[lane] + first, y[first + lane]);
  }
}

int decode(const polarc_decode_params &p) {
  if (const int status = check_count("count", p.count)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_pool("cache", p.cache, p.kv_heads, unit_bytes)) return status;
  if (const int status = check_rows("rows", p.rows, p.count, p.kv_heads, head_dim)) return status;
  if (p.count > 0)
    if (const int status = check_array("slots", p.slots, alignof(int64_t))) return status;
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status =
          check_transform("transform", p.transform, true, centred && !original, original))
    return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  const bool all_heads = p.head_begin == 0 && p.head_end == 0;
  const int64_t head_end = all_heads ? p.kv_heads : p.head_end;
  Items items = {};
  const auto flush = [&] {
    if (items.count == 0) return;
    alignas(32) float row[lanes][padded_dim];
    decode_items(items, row);
    for (int lane = 0; lane < items.count; lane++) {
      const int64_t head = items.head[lane];
      if (original) rotate_inverse(p.transform, head, row[lane], row[lane]);
      store_row<head_dim>(p.rows, items.row[lane], head, row[lane]);
    }
    items.count = 0;
  };
  for (int64_t head = p.head_begin; head < head_end; head++) {
    for (int64_t index = 0; index < p.count; index++) {
      const int lane = items.count;
      if (!find_unit<unit_tokens>(p.cache, p.slots[index], head, p.flags, items.unit[lane],
                                  items.token[lane]))
        continue;
      items.row[lane] = index;
      items.head[lane] = head;
      if (++items.count == lanes) flush();
    }
  }
  flush();
  return POLARC_OK;
}

// ---- Rotate: S x, S^-T x, S^-1 x ----

int rotate(const polarc_rotate_params &p) {
  if (const int status = check_count("count", p.count)) return status;
  if (const int status = check_at_least("heads", p.heads, 1)) return status;
  if (p.heads_per_kv < 1 || p.heads % p.heads_per_kv != 0)
    return fail(POLARC_INVALID_ARGUMENT,
                "heads_per_kv is %d for %d heads: give the number of heads that share a KV head",
                p.heads_per_kv, p.heads);
  const bool forward = p.rotation == POLARC_FORWARD;
  if (!forward && p.rotation != POLARC_DUAL && p.rotation != POLARC_INVERSE)
    return fail(POLARC_INVALID_ARGUMENT,
                "rotation is %d: give POLARC_FORWARD (0), POLARC_DUAL (1) or POLARC_INVERSE (2)",
                p.rotation);
  if (const int status = check_rows("in", p.in, p.count, p.heads, head_dim)) return status;
  if (const int status = check_rows("out", p.out, p.count, p.heads, head_dim)) return status;
  if (const int status = check_transform("transform", p.transform, false, forward, !forward))
    return status;

  for (int64_t row = 0; row < p.count; row++) {
    for (int64_t i = 0; i < p.heads; i++) {
      const int64_t head = i / p.heads_per_kv;
      alignas(32) float x[padded_dim];
      load_row<head_dim>(p.in, row, i, x);
      if (forward) rotate_forward(p.transform, head, x, x);
      else if (p.rotation == POLARC_DUAL) rotate_dual(p.transform, head, x, x);
      else rotate_inverse(p.transform, head, x, x);
      store_row<head_dim>(p.out, row, i, x);
    }
  }
  return POLARC_OK;
}

// ---- Unpack: 32 tokens' records as words in which every code lies whole ----

constexpr int unit_level = depth < 4 ? depth : 4; // attention works on units of at most 16 ...
constexpr int unit_dim = 1 << unit_level;         // ... coordinates, each with one radius
constexpr int units = head_dim / unit_dim, unit_pairs = unit_dim / 2;

// Four bytes of a record each; a code begins at bit i % 32 of window i / 32, i as below.
constexpr int windows = 16;
constexpr uint16_t window_byte[] = {
    0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60,
};
constexpr uint16_t window_bit_l1[] = {
    6, 12, 16, 22, 38, 44, 26, 0, 70, 76, 80, 86, 102, 108, 90, 64, 134, 140, 144, 150, 166, 172,
    154, 128, 198, 204, 208, 214, 230, 236, 218, 192, 262, 268, 272, 278, 294, 300, 282, 256, 326,
    332, 336, 342, 358, 364, 346, 320, 390, 396, 400, 406, 422, 428, 410, 384, 454, 460, 464, 470,
    486, 492, 474, 448,
};
constexpr uint16_t window_bit_l2[] = {
    10, 20, 42, 30, 74, 84, 106, 94, 138, 148, 170, 158, 202, 212, 234, 222, 266, 276, 298, 286,
    330, 340, 362, 350, 394, 404, 426, 414, 458, 468, 490, 478,
};
constexpr uint16_t window_bit_l3[] = {
    32, 34, 96, 98, 160, 162, 224, 226, 288, 290, 352, 354, 416, 418, 480, 482,
};
constexpr uint16_t window_bit_l4[] = {
    36, 100, 164, 228, 292, 356, 420, 484,
};
constexpr const uint16_t *window_bit[] = {
    nullptr, window_bit_l1, window_bit_l2, window_bit_l3, window_bit_l4,
};
constexpr uint16_t radius_byte[] = {6, 14, 22, 30, 38, 46, 54, 62}; // of each radius

static_assert(sizeof window_byte / sizeof window_byte[0] == windows, "one start a window");

// Level 1 with signs: [index, sign of x] of the cosine, [sign of y, index] of the sine.
[[maybe_unused]] alignas(32) constexpr float signed_cos_l1[] = {
    0.98078525f, -0.98078525f, 0.8314696f, -0.8314696f, 0.55557024f, -0.55557024f, 0.19509032f,
    -0.19509032f,
};
[[maybe_unused]] alignas(32) constexpr float signed_sin_l1[] = {
    0.19509032f, 0.55557024f, 0.8314696f, 0.98078525f, -0.19509032f, -0.55557024f, -0.8314696f,
    -0.98078525f,
};

// Words and radii of up to 8 tiles; lane i of tile t stands at [...][t * 32 + i].
constexpr int tiles_at_once = 8;

template <int tiles> struct Unpacked {
  alignas(32) uint32_t window[windows][tiles * tile_tokens];
  alignas(32) float radius[units][tiles * tile_tokens];
};

using Tokens = Source<unit_tokens>;
constexpr uint8_t nothing[unit_bytes] = {}; // stands in for records that are not there

// Bytes `first` ... `first` + 3 of 32 records: four vectors of words.
[[maybe_unused]] inline void load_window(const Tokens &tokens, int first, __m256i word[4]) {
  for (int v = 0; v < 4; v++) {
    alignas(32) uint32_t lane[lanes];
    for (int i = 0; i < lanes; i++)
      memcpy(&lane[i], tokens.unit[v * lanes + i] + first, sizeof lane[i]);
    word[v] = _mm256_load_si256(reinterpret_cast<const __m256i *>(lane));
  }
}

// Whether windows w ... w + 7 follow each other without overlap.
constexpr bool eight_in_a_row(int w) {
  for (int i = 1; i < 8; i++)
    if (w + i >= windows || window_byte[w + i] != window_byte[w] + 4 * i) return false;
  return true;
}

inline void load_windows(const Tokens &tokens, uint32_t *window, int stride) {
  int w = 0;
  while (w < windows) {
    if (eight_in_a_row(w)) { // a transposition of eight records
      for (int v = 0; v < 4; v++) {
        __m256 r[8];
        for (int i = 0; i < lanes; i++)
          r[i] = _mm256_loadu_ps(
              reinterpret_cast<const float *>(tokens.unit[v * lanes + i] + window_byte[w]));
        transpose8(r);
        for (int i = 0; i < 8; i++)
          _mm256_store_ps(reinterpret_cast<float *>(window + (w + i) * stride + v * lanes), r[i]);
      }
      w += 8;
    } else {
      __m256i word[4];
      load_window(tokens, window_byte[w], word);
      for (int v = 0; v < 4; v++)
        _mm256_store_si256(reinterpret_cast<__m256i *>(window + w * stride + v * lanes), word[v]);
      w++;
    }
  }
}

// 16-bit fields at a whole byte, as halves of eight tokens each.
[[maybe_unused]] inline void load_halves(const Tokens &tokens, int first, __m128i half[4]) {
  for (int v = 0; v < 4; v++) {
    alignas(16) uint16_t lane[lanes];
    for (int i = 0; i < lanes; i++)
      memcpy(&lane[i], tokens.unit[v * lanes + i] + first, sizeof lane[i]);
    half[v] = _mm_load_si128(reinterpret_cast<const __m128i *>(lane));
  }
}

// The code at bit `place` of the windows, for `lookup`: bits above it may be anything unless the
// table is gathered from.
template <int entries, int skip = 0>
inline __m256i code_at(const uint32_t *window, int stride, int place) {
  const __m256i word =
      _mm256_load_si256(reinterpret_cast<const __m256i *>(window + place / 32 * stride));
  const __m256i code = _mm256_srli_epi32(word, place % 32 + skip);
  return entries > 16 ? _mm256_and_si256(code, _mm256_set1_epi32(entries - 1)) : code;
}

template <int level> inline __m256i upper_code(const uint32_t *window, int stride, int node) {
  return code_at<entries[level]>(window, stride, window_bit[level][node]);
}

// Signed cosine and sine of a pair.
struct Direction {
  __m256 x, y;
};

inline Direction direction(const uint32_t *window, int stride, int pair) {
  const int place = window_bit_l1[pair];
  if constexpr (bits_l1 == 1) {
    return {_mm256_setzero_ps(), lookup<2>(signed_sin_l1, code_at<2>(window, stride, place))};
  } else if constexpr (bits_l1 <= 4) {
    constexpr int n = 1 << (bits_l1 - 1);
    return {lookup<n>(signed_cos_l1, code_at<n>(window, stride, place)),
            lookup<n>(signed_sin_l1, code_at<n, 1>(window, stride, place))};
  } else {
    const __m256i m = code_at<entries_l1, 1>(window, stride, place);
    const __m256i code = code_at<1>(window, stride, place);
    const __m256 top = _mm256_set1_ps(-0.0f);
    const __m256 sign_x = _mm256_castsi256_ps(_mm256_slli_epi32(code, 31));
    const __m256 sign_y = _mm256_castsi256_ps(_mm256_slli_epi32(code, 32 - bits_l1));
    return {_mm256_xor_ps(lookup<entries_l1>(cos_l1, m), sign_x),
            _mm256_xor_ps(lookup<entries_l1>(sin_l1, m), _mm256_and_ps(sign_y, top))};
  }
}

// One radius a unit: the stored radii, and for deeper trees what the levels above 4 make of them.
inline void load_radii(const Tokens &tokens, const uint32_t *window, float *radius, int stride) {
  constexpr int span = units / blocks > 0 ? units / blocks : 1; // units below a stored radius
  for (int i = 0; i < blocks; i++) {
    float *out = radius + i * span * stride;
    __m128i half[4];
    load_halves(tokens, radius_byte[i], half);
    for (int v = 0; v < 4; v++)
      _mm256_store_ps(out + v * lanes, _mm256_cvtph_ps(half[v]));
  }
  static_cast<void>(window);
}

inline void unpack(const Tokens &tokens, uint32_t *window, float *radius, int stride) {
  load_windows(tokens, window, stride);
  load_radii(tokens, window, radius, stride);
}

// The radius of a node below the top of a unit spreads to its children; `leaf(pair, radius)` at
// level 1. Node and pair count over the whole vector.
template <int level, class Leaf>
inline __attribute__((always_inline)) void spread(const uint32_t *window, int stride, int node,
                                                  __m256 radius, Leaf &&leaf) {
  if constexpr (level == 1) {
    leaf(node, radius);
  } else {
    const __m256i code = upper_code<level>(window, stride, node);
    const __m256 left = _mm256_mul_ps(radius, lookup<entries[level]>(cosines[level], code));
    const __m256 right = _mm256_mul_ps(radius, lookup<entries[level]>(sines[level], code));
    spread<level - 1>(window, stride, 2 * node, left, leaf);
    spread<level - 1>(window, stride, 2 * node + 1, right, leaf);
  }
}

// Calls body(unit) for every unit: with a constant for as many as keep the code small.
template <class Body> inline void each_unit(Body &&body) {
  if constexpr (head_dim <= 128) {
    unroll<units>(body);
  } else {
    for (int unit = 0; unit < units; unit++) body(unit);
  }
}

// ---- Keys: products of 32 tokens with `queries` preconditioned queries ----

// The inner product below a node, from products of its pairs.
template <int level, class Pair>
inline __attribute__((always_inline)) __m256 gather_products(const uint32_t *window, int stride,
                                                             int node, Pair &&pair) {
  if constexpr (level == 1) {
    return pair(node);
  } else {
    const __m256 left = gather_products<level - 1>(window, stride, 2 * node, pair);
    const __m256 right = gather_products<level - 1>(window, stride, 2 * node + 1, pair);
    const __m256i code = upper_code<level>(window, stride, node);
    return _mm256_fmadd_ps(lookup<entries[level]>(cosines[level], code), left,
                           _mm256_mul_ps(lookup<entries[level]>(sines[level], code), right));
  }
}

// The coordinates of a unit for eight tokens, `stride` apart.
[[maybe_unused]] inline __attribute__((always_inline)) void
reconstruct(const uint32_t *window, int stride, int unit, __m256 radius, float *out) {
  spread<unit_level>(window, stride, unit, radius,
                     [&](int pair, __m256 r) __attribute__((always_inline)) {
                       const Direction d = direction(window, stride, pair);
                       float *x = out + (pair - unit * unit_pairs) * 2 * stride;
                       _mm256_store_ps(x, _mm256_mul_ps(r, d.x));
                       _mm256_store_ps(x + stride, _mm256_mul_ps(r, d.y));
                     });
}

// Units reconstructed at once for several queries: at most 128 coordinates, 16 KiB.
constexpr int units_at_once = units < 128 / unit_dim ? units : 128 / unit_dim;

// out [queries][stride] += q [queries][head_dim] * coordinate [count][32].
template <int queries>
inline void multiply_keys(const float (*coordinate)[tile_tokens], int count, const float *q,
                          float *out, int stride) {
  constexpr int vectors = 2; // of tokens: 2 * queries sums stay in registers
  for (int v = 0; v < 4; v += vectors) {
    __m256 sum[queries][vectors];
    for (int j = 0; j < queries; j++)
      for (int i = 0; i < vectors; i++)
        sum[j][i] = _mm256_load_ps(out + j * stride + (v + i) * lanes);
    for (int c = 0; c < count; c++) {
      __m256 k[vectors];
      for (int i = 0; i < vectors; i++) k[i] = _mm256_load_ps(coordinate[c] + (v + i) * lanes);
      for (int j = 0; j < queries; j++) {
        const __m256 query = _mm256_broadcast_ss(q + j * head_dim + c);
        for (int i = 0; i < vectors; i++) sum[j][i] = _mm256_fmadd_ps(k[i], query, sum[j][i]);
      }
    }
    for (int j = 0; j < queries; j++)
      for (int i = 0; i < vectors; i++)
        _mm256_store_ps(out + j * stride + (v + i) * lanes, sum[j][i]);
  }
}

// Several queries: keys are reconstructed once for all of them.
template <int queries>
inline void key_products_of_many(const Unpacked<1> &tile, const float *q, float *out, int stride) {
  for (int j = 0; j < queries; j++)
    for (int v = 0; v < 4; v++)
      _mm256_store_ps(out + j * stride + v * lanes, _mm256_setzero_ps());
  alignas(32) float coordinate[units_at_once * unit_dim][tile_tokens];
  const auto multiply = [&](int first, int count) {
    constexpr int at_once = queries < 4 ? queries : 4, rest = queries % at_once;
    const float *from = q + first * unit_dim;
    for (int j = 0; j + at_once <= queries; j += at_once)
      multiply_keys<at_once>(coordinate, count * unit_dim, from + j * head_dim, out + j * stride,
                             stride);
    if constexpr (rest > 0)
      multiply_keys<rest>(coordinate, count * unit_dim, from + (queries - rest) * head_dim,
                          out + (queries - rest) * stride, stride);
  };
  each_unit([&](int unit) __attribute__((always_inline)) {
    const int place = unit % units_at_once;
    for (int v = 0; v < 4; v++)
      reconstruct(tile.window[0] + v * lanes, tile_tokens, unit,
                  _mm256_load_ps(&tile.radius[unit][v * lanes]),
                  &coordinate[place * unit_dim][v * lanes]);
    if (place == units_at_once - 1 || unit == units - 1) multiply(unit - place, place + 1);
  });
}

// What a query brings to every tile.
template <int queries> struct KeyQueries {
  const float *q; // [queries][head_dim]

  explicit KeyQueries(const float *queries_of) : q(queries_of) {
  }
};

// One query: up the tree, so that factors meet products of pairs and not coordinates.
[[maybe_unused]] inline void key_products_of_one([[maybe_unused]] const Tokens &tokens,
                                                 const Unpacked<1> &tile,
                                                 const KeyQueries<1> &query, float *out) {
  for (int v = 0; v < 4; v++) _mm256_store_ps(out + v * lanes, _mm256_setzero_ps());
  each_unit([&](int unit) __attribute__((always_inline)) {
    for (int v = 0; v < 4; v++) {
      const uint32_t *words = tile.window[0] + v * lanes;
      const __m256 product = gather_products<unit_level>(
          words, tile_tokens, unit, [&](int pair) __attribute__((always_inline)) {
            const Direction d = direction(words, tile_tokens, pair);
            const __m256 y = _mm256_mul_ps(d.y, _mm256_broadcast_ss(query.q + 2 * pair + 1));
            return _mm256_fmadd_ps(d.x, _mm256_broadcast_ss(query.q + 2 * pair), y);
          });
      const __m256 radius = _mm256_load_ps(&tile.radius[unit][v * lanes]);
      const __m256 sum = _mm256_load_ps(out + v * lanes);
      _mm256_store_ps(out + v * lanes, _mm256_fmadd_ps(product, radius, sum));
    }
  });
}

// out [queries][stride]: products with `tiles` tiles, in lane order. Calls ahead(tile, step, steps)
// at even distances, for what should come nearer meanwhile.
template <int queries, class Ahead>
inline void key_products(const Tokens *tokens, int tiles, const KeyQueries<queries> &query,
                         float *out, int stride, Ahead &&ahead) {
  for (int t = 0; t < tiles; t++) {
    ahead(t, 0, 1);
    float *products = out + t * tile_tokens;
    Unpacked<1> tile;
    unpack(tokens[t], tile.window[0], tile.radius[0], tile_tokens);
    if constexpr (queries == 1)
      key_products_of_one(tokens[t], tile, query, products);
    else
      key_products_of_many<queries>(tile, query.q, products, stride);
  }
}

// ---- Values: weighted sums of up to tiles_at_once tiles ----

constexpr int superblock = tiles_at_once * tile_tokens;

// Sums [queries][head_dim] of eight lanes each, which stand for their total.
template <int queries> struct Sums {
  alignas(32) float lane[queries][head_dim][lanes];
};

// The sums of `pairs` pairs in registers for a few queries, over one superblock.
template <int queries, int pairs> struct PairSums {
  __m256 x[queries][pairs], y[queries][pairs];

  inline __attribute__((always_inline)) void load(const float (*sums)[head_dim][lanes], int pair,
                                                  const float *factor) {
    for (int j = 0; j < queries; j++) {
      const __m256 f = _mm256_broadcast_ss(factor + j);
      for (int i = 0; i < pairs; i++) {
        x[j][i] = _mm256_mul_ps(f, _mm256_load_ps(sums[j][2 * (pair + i)]));
        y[j][i] = _mm256_mul_ps(f, _mm256_load_ps(sums[j][2 * (pair + i) + 1]));
      }
    }
  }

  inline __attribute__((always_inline)) void store(float (*sums)[head_dim][lanes], int pair) const {
    for (int j = 0; j < queries; j++) {
      for (int i = 0; i < pairs; i++) {
        _mm256_store_ps(sums[j][2 * (pair + i)], x[j][i]);
        _mm256_store_ps(sums[j][2 * (pair + i) + 1], y[j][i]);
      }
    }
  }
};

// A pair of coordinates for further queries.
template <int queries>
inline void multiply_values(const float (*coordinate)[superblock], int count, const float *weight,
                            const float *factor, float (*sums)[head_dim][lanes], int pair) {
  PairSums<queries, 1> sum;
  sum.load(sums, pair, factor);
  for (int v = 0; v < count; v += lanes) {
    const __m256 x = _mm256_load_ps(coordinate[0] + v), y = _mm256_load_ps(coordinate[1] + v);
    for (int j = 0; j < queries; j++) {
      const __m256 w = _mm256_load_ps(weight + j * superblock + v);
      sum.x[j][0] = _mm256_fmadd_ps(x, w, sum.x[j][0]);
      sum.y[j][0] = _mm256_fmadd_ps(y, w, sum.y[j][0]);
    }
  }
  sum.store(sums, pair);
}

// The radii of a unit's pairs go to a scratch; then a few pairs at a time meet their directions and
// the weights in one loop over tokens, so that look-ups and products overlap. Up to four queries
// share that loop; it leaves the coordinates to the queries beyond them. A single query's weight
// goes in at the top of the tree: level 1 then needs no product of its own.
template <int queries>
inline void add_unpacked_values(const Unpacked<tiles_at_once> &block, int count,
                                const float *weight, const float *factor,
                                float (*sums)[head_dim][lanes]) {
  constexpr int at_once = queries < 4 ? queries : 4, rest = queries % at_once;
  constexpr int most_pairs = 4 / at_once; // eight sums in registers
  constexpr int pairs = unit_pairs < most_pairs ? unit_pairs : most_pairs;
  alignas(32) float pair_radius[unit_pairs][superblock];
  each_unit([&](int unit) __attribute__((always_inline)) {
    for (int v = 0; v < count; v += lanes) {
      __m256 radius = _mm256_load_ps(&block.radius[unit][v]);
      if constexpr (queries == 1) radius = _mm256_mul_ps(radius, _mm256_load_ps(weight + v));
      spread<unit_level>(block.window[0] + v, superblock, unit, radius,
                         [&](int pair, __m256 r) __attribute__((always_inline)) {
                           _mm256_store_ps(&pair_radius[pair - unit * unit_pairs][v], r);
                         });
    }
    unroll<unit_pairs / pairs>([&](int step) __attribute__((always_inline)) {
      const int k = step * pairs, pair = unit * unit_pairs + k;
      alignas(32) float coordinate[queries > at_once ? 2 * pairs : 1][superblock];
      PairSums<at_once, pairs> sum;
      sum.load(sums, pair, factor);
      for (int v = 0; v < count; v += lanes) {
        for (int i = 0; i < pairs; i++) {
          const Direction d = direction(block.window[0] + v, superblock, pair + i);
          const __m256 r = _mm256_load_ps(&pair_radius[k + i][v]);
          if constexpr (queries == 1) {
            sum.x[0][i] = _mm256_fmadd_ps(r, d.x, sum.x[0][i]);
            sum.y[0][i] = _mm256_fmadd_ps(r, d.y, sum.y[0][i]);
          } else {
            const __m256 x = _mm256_mul_ps(r, d.x), y = _mm256_mul_ps(r, d.y);
            for (int j = 0; j < at_once; j++) {
              const __m256 w = _mm256_load_ps(weight + j * superblock + v);
              sum.x[j][i] = _mm256_fmadd_ps(x, w, sum.x[j][i]);
              sum.y[j][i] = _mm256_fmadd_ps(y, w, sum.y[j][i]);
            }
            if constexpr (queries > at_once) {
              _mm256_store_ps(&coordinate[2 * i][v], x);
              _mm256_store_ps(&coordinate[2 * i + 1][v], y);
            }
          }
        }
      }
      sum.store(sums, pair);
      if constexpr (queries > at_once) {
        for (int i = 0; i < pairs; i++) {
          for (int j = at_once; j + at_once <= queries; j += at_once)
            multiply_values<at_once>(coordinate + 2 * i, count, weight + j * superblock,
                                     factor + j, sums + j, pair + i);
          if constexpr (rest > 0)
            multiply_values<rest>(coordinate + 2 * i, count,
                                  weight + (queries - rest) * superblock, factor + queries - rest,
                                  sums + queries - rest, pair + i);
        }
      }
    });
  });
}

// sums <- factor * sums + weights * values. weight [queries][superblock] in lane order; `seen`
// null or the lanes whose values count: others may hold anything. ahead(tile, step, steps) as for
// keys.
template <int queries, class Ahead>
inline void add_values(const Tokens *tokens, int tiles, const float *seen, const float *weight,
                       const float *factor, Sums<queries> &sums, Ahead &&ahead) {
  Unpacked<tiles_at_once> block;
  const int count = tiles * tile_tokens;
  for (int t = 0; t < tiles; t++) {
    ahead(t, 0, 1);
    const int first = t * tile_tokens;
    unpack(tokens[t], &block.window[0][first], &block.radius[0][first], superblock);
  }
  if (seen) {
    for (int unit = 0; unit < units; unit++) {
      for (int v = 0; v < count; v += lanes) {
        float *radius = &block.radius[unit][v];
        _mm256_store_ps(radius, _mm256_and_ps(_mm256_load_ps(seen + v), _mm256_load_ps(radius)));
      }
    }
  }
  add_unpacked_values<queries>(block, count, weight, factor, sums.lane);
}

// The variants of these sums, for the kernels above them.
struct Narrow {
  template <int queries> using Queries = KeyQueries<queries>;
  template <class... Arguments> static void products(Arguments &&...arguments) {
    key_products(arguments...);
  }
  template <class... Arguments> static void add(Arguments &&...arguments) {
    add_values(arguments...);
  }
};

using Wide = Narrow; // records lie token by token: nothing to cut words from

} // namespace key

namespace value = key; // one format for both

// ---- Queries and outputs of one row and KV head ----

constexpr int key_dim = key::head_dim, value_dim = value::head_dim;

// Queries at once: 64 KiB of sums of values, and of products with level-1 codes of keys.
constexpr int most_sums = 65536 / (value_dim * lanes * 4);
constexpr int most_products = 65536 / (key_dim / 2 * (key::bits_l1 == 5 ? 32 : 16) * 4);
constexpr int most_queries = most_sums < most_products ? most_sums : most_products;
constexpr int queries_at_once = group < most_queries ? group : most_queries < 1 ? 1 : most_queries;

// Calls body(number of queries as a constant, first query) until the group is done.
template <class Body> inline void each_queries(Body &&body) {
  for (int j = 0; j + queries_at_once <= group; j += queries_at_once)
    body(std::integral_constant<int, queries_at_once>{}, j);
  constexpr int rest = group % queries_at_once;
  if constexpr (rest > 0) body(std::integral_constant<int, rest>{}, group - rest);
}

// Queries in the space of the packed keys, and what the mean adds to each product.
template <int queries> struct Queries {
  alignas(32) float q[queries][key_dim];
  float shift[queries] = {0};
};

template <int queries>
inline void load_queries(const polarc_rows &rows, int64_t row, int64_t head, int first,
                         const polarc_transform &transform, bool original, Queries<queries> &out) {
  for (int j = 0; j < queries; j++) {
    load_row<key_dim>(rows, row, head * group + first + j, out.q[j]);
    if (key::centred) {
      alignas(32) float mean[key_dim];
      memcpy(mean, transform.mean + head * key_dim, sizeof mean);
      if (!original) key::rotate_forward(transform, head, mean, mean);
      double sum = 0;
      for (int i = 0; i < key_dim; i++) sum += static_cast<double>(out.q[j][i]) * mean[i];
      out.shift[j] = static_cast<float>(sum);
    }
    if (original) key::rotate_dual(transform, head, out.q[j], out.q[j]);
  }
}

// A weighted sum of packed values to an output: out of their space, and the mean with all weights.
inline void finish_output(float *sum, float total, const polarc_transform &transform, int64_t head,
                          bool original) {
  if (original) value::rotate_inverse(transform, head, sum, sum);
  if (value::centred) {
    alignas(32) float mean[value_dim];
    memcpy(mean, transform.mean + head * value_dim, sizeof mean);
    if (!original) value::rotate_forward(transform, head, mean, mean);
    for (int i = 0; i < value_dim; i++) sum[i] += total * mean[i];
  }
}

// What scores, weighted_sum and attend ask of the transforms.
inline int check_key_transform(const polarc_transform &transform, bool original) {
  return key::check_transform("key", transform, true, key::centred && !original, original);
}
inline int check_value_transform(const polarc_transform &transform, bool original) {
  return value::check_transform("value", transform, true, value::centred && !original, original);
}

inline int check_row_tables(const int32_t *row_sequence, const int32_t *row_position) {
  constexpr size_t four = alignof(int32_t);
  if (const int status = check_optional("row_sequence", row_sequence, four)) return status;
  return check_optional("row_position", row_position, four);
}

inline int check_scale(float scale, float softcap, int window) {
  if (!(scale - scale == 0))
    return fail(POLARC_INVALID_ARGUMENT, "scale is not finite: give for example 1/sqrt(d)");
  if (!(softcap >= 0) || softcap - softcap != 0)
    return fail(POLARC_INVALID_ARGUMENT, "softcap is %g: give 0 (none) or a positive number",
                static_cast<double>(softcap));
  return check_count("window", window);
}

// ---- Scores: logits of every token ----

size_t scores_workspace(const polarc_scores_params &) { return 0; }

template <int queries, class Keys>
void scores_of(const polarc_scores_params &p, const Sequence &sequence, const Sight &sight,
               int64_t row, int64_t head, int first_query, float *out) {
  Queries<queries> query;
  load_queries(p.q, row, head, first_query, p.key, p.basis == POLARC_ORIGINAL, query);
  const typename Keys::template Queries<queries> key_queries(query.q[0]);
  for (int64_t first = sight.begin / tile_tokens * tile_tokens; first < sight.end;
       first += tile_tokens) {
    key::Tokens tokens;
    locate(p.keys, sequence, head, first, sequence.length, key::nothing, tokens);
    alignas(64) float s[queries][tile_tokens], mask[tile_tokens];
    Keys::products(&tokens, 1, key_queries, s[0], tile_tokens, nothing_ahead);
    const float *seen = seen_lanes(sequence, sight, first, 1, mask);
    for (int j = 0; j < queries; j++) {
      to_logits(s[j], tile_tokens, p.scale, p.scale * query.shift[j], p.softcap, seen);
      for (int lane = 0; lane < tile_tokens; lane++) {
        const int64_t token = first + token_of_lane(lane / lanes, lane % lanes);
        if (token < sequence.length) out[j * p.scores_head_stride + token] = s[j][lane];
      }
    }
  }
}

int scores(const polarc_scores_params &p) {
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_scale(p.scale, p.softcap, p.window)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("q", p.q, p.rows, q_heads, key_dim)) return status;
  if (const int status = check_index(p.index)) return status;
  const int64_t width = p.index.max_tokens;
  if (p.rows > 0 && width > 0)
    if (const int status = check_array("scores", p.scores, alignof(float))) return status;
  if (const int status = check_at_least("scores_head_stride", p.scores_head_stride, width))
    return status;
  if (p.rows > 1)
    if (const int status = check_at_least("scores_row_stride", p.scores_row_stride, width))
      return status;
  if (const int status = check_row_tables(p.row_sequence, p.row_position)) return status;
  if (const int status = check_pool("keys", p.keys, p.kv_heads, key::unit_bytes)) return status;
  if (const int status = check_key_transform(p.key, original)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  const bool wide = wide_in_use();
  const bool all_heads = p.head_begin == 0 && p.head_end == 0;
  const int64_t head_end = all_heads ? p.kv_heads : p.head_end;
  for (int64_t row = 0; row < p.rows; row++) {
    Sequence sequence;
    const bool found = find_sequence(p.index, p.row_sequence ? p.row_sequence[row] : row,
                                     p.keys.pages, p.flags, sequence);
    const Sight sight = found ? see(sequence, p.row_position, row, p.window) : Sight();
    for (int64_t head = p.head_begin; head < head_end; head++) {
      float *out = p.scores + row * p.scores_row_stride + head * group * p.scores_head_stride;
      const float blank = found ? -__builtin_inff() : __builtin_nanf("");
      for (int j = 0; j < group; j++)
        for (int64_t token = 0; token < width; token++)
          out[j * p.scores_head_stride + token] = blank;
      if (!found) continue;
      each_queries([&](auto queries, int first) {
        const auto logits = wide ? scores_of<queries(), key::Wide>
                                 : scores_of<queries(), key::Narrow>;
        logits(p, sequence, sight, row, head, first, out + first * p.scores_head_stride);
      });
    }
  }
  return POLARC_OK;
}

// ---- Weighted sum of packed values ----

size_t weighted_sum_workspace(const polarc_weighted_sum_params &) { return 0; }

template <int queries, class Values>
void weighted_sum_of(const polarc_weighted_sum_params &p, const Sequence &sequence, int64_t row,
                     int64_t head, int first_query) {
  const int64_t q_head = head * group + first_query;
  const float *weights =
      p.weights + row * p.weights_row_stride + q_head * p.weights_head_stride;
  value::Sums<queries> sums = {};
  double total[queries] = {0};
  float factor[queries];
  for (int j = 0; j < queries; j++) factor[j] = 1;

  Sight all;
  all.end = sequence.length;
  for (int64_t first = 0; first < sequence.length; first += value::superblock) {
    const int tiles = tiles_of<value::tiles_at_once>(first, sequence.length);
    value::Tokens tokens[value::tiles_at_once];
    alignas(64) float weight[queries][value::superblock], mask[value::superblock];
    for (int t = 0; t < tiles; t++)
      locate(p.values, sequence, head, first + t * tile_tokens, sequence.length, value::nothing,
             tokens[t]);
    for (int j = 0; j < queries; j++) {
      for (int i = 0; i < tiles * tile_tokens; i++) {
        const int lane = i % tile_tokens;
        const int64_t token = first + i - lane + token_of_lane(lane / lanes, lane % lanes);
        const bool in = token < sequence.length;
        weight[j][i] = in ? weights[j * p.weights_head_stride + token] : 0;
        if (in) total[j] += weights[j * p.weights_head_stride + token];
      }
    }
    const float *seen = seen_lanes(sequence, all, first, tiles, mask);
    Values::add(tokens, tiles, seen, weight[0], factor, sums, nothing_ahead);
  }
  for (int j = 0; j < queries; j++) {
    alignas(32) float out[value_dim];
    for (int i = 0; i < value_dim; i++) out[i] = sum_of(_mm256_load_ps(sums.lane[j][i]));
    finish_output(out, static_cast<float>(total[j]), p.value, head, p.basis == POLARC_ORIGINAL);
    store_row<value_dim>(p.out, row, q_head + j, out);
  }
}

inline void store_nan(const polarc_rows &rows, int64_t row, int64_t q_head) {
  alignas(32) float out[value_dim];
  for (int i = 0; i < value_dim; i++) out[i] = __builtin_nanf("");
  store_row<value_dim>(rows, row, q_head, out);
}

int weighted_sum(const polarc_weighted_sum_params &p) {
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("out", p.out, p.rows, q_heads, value_dim)) return status;
  if (const int status = check_index(p.index)) return status;
  const int64_t width = p.index.max_tokens;
  if (p.rows > 0 && width > 0)
    if (const int status = check_array("weights", p.weights, alignof(float))) return status;
  if (const int status = check_at_least("weights_head_stride", p.weights_head_stride, width))
    return status;
  if (p.rows > 1)
    if (const int status = check_at_least("weights_row_stride", p.weights_row_stride, width))
      return status;
  if (const int status = check_row_tables(p.row_sequence, nullptr)) return status;
  if (const int status = check_pool("values", p.values, p.kv_heads, value::unit_bytes))
    return status;
  if (const int status = check_value_transform(p.value, p.basis == POLARC_ORIGINAL)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  const bool wide = wide_in_use();
  const bool all_heads = p.head_begin == 0 && p.head_end == 0;
  const int64_t head_end = all_heads ? p.kv_heads : p.head_end;
  for (int64_t row = 0; row < p.rows; row++) {
    Sequence sequence;
    const bool found = find_sequence(p.index, p.row_sequence ? p.row_sequence[row] : row,
                                     p.values.pages, p.flags, sequence);
    for (int64_t head = p.head_begin; head < head_end; head++) {
      if (found)
        each_queries([&](auto queries, int first) {
          const auto sum = wide ? weighted_sum_of<queries(), value::Wide>
                                : weighted_sum_of<queries(), value::Narrow>;
          sum(p, sequence, row, head, first);
        });
      else
        for (int j = 0; j < group; j++) store_nan(p.out, row, head * group + j);
    }
  }
  return POLARC_OK;
}

// ---- Work units: (row, KV head, split) in that order, and the partial results of each ----

// Tokens of a split when the caller leaves the choice: enough splits for many threads, few starts.
constexpr int64_t chosen_split(int64_t max_tokens) { return max_tokens < 16384 ? 2048 : 4096; }

// A query's share of one split: weights relative to e^max.
struct Partial {
  float max, sum;
  float padding[6]; // sums begin on a boundary of 32 bytes
  float out[(value_dim + 7) / 8 * 8];
};
static_assert(sizeof(Partial) % 32 == 0, "an array of them stays aligned");

template <class Params> inline int64_t split_length(const Params &p, int64_t max_tokens) {
  return p.split_tokens > 0 ? p.split_tokens : chosen_split(max_tokens);
}

template <class Params> inline int64_t split_count(const Params &p, int64_t max_tokens) {
  const int64_t length = split_length(p, max_tokens);
  const int64_t count = (max_tokens + length - 1) / length;
  return count > 1 ? count : 1;
}

template <class Params> inline int64_t unit_count(const Params &p, int64_t max_tokens) {
  return p.rows > 0 && p.kv_heads > 0 && max_tokens >= 0
             ? static_cast<int64_t>(p.rows) * p.kv_heads * split_count(p, max_tokens)
             : 0;
}

template <class Params> inline size_t partial_bytes(const Params &p, int64_t max_tokens) {
  return static_cast<size_t>(unit_count(p, max_tokens)) * group * sizeof(Partial);
}

// What attend and attend_dense have in common.
template <class Params> inline int check_attention(const Params &p, int64_t max_tokens) {
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_at_least("kv_heads", p.kv_heads, 1)) return status;
  if (const int status = check_scale(p.scale, p.softcap, p.window)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("q", p.q, p.rows, q_heads, key_dim)) return status;
  if (const int status = check_rows("out", p.out, p.rows, q_heads, value_dim)) return status;
  if (const int status = check_optional("lse", p.lse, alignof(float))) return status;
  if (p.lse && p.rows > 1)
    if (const int status = check_at_least("lse_row_stride", p.lse_row_stride, q_heads))
      return status;
  if (const int status = check_row_tables(p.row_sequence, p.row_position)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;
  if (p.split_tokens < 0 || p.split_tokens % tile_tokens != 0)
    return fail(POLARC_INVALID_ARGUMENT,
                "split_tokens is %d: give a multiple of %d, or 0 for the kernel's choice",
                p.split_tokens, tile_tokens);
  if (p.phase != POLARC_ALL && p.phase != POLARC_PARTIAL && p.phase != POLARC_COMBINE)
    return fail(POLARC_INVALID_ARGUMENT,
                "phase is %d: give POLARC_ALL (0), POLARC_PARTIAL (1) or POLARC_COMBINE (2)",
                p.phase);
  const int64_t count = unit_count(p, max_tokens);
  if (p.unit_begin < 0 || p.unit_end < p.unit_begin || p.unit_end > count)
    return fail(POLARC_INVALID_ARGUMENT,
                "unit_begin is %lld and unit_end %lld: give 0 <= unit_begin <= unit_end <= %lld, "
                "or both 0 for all units",
                static_cast<long long>(p.unit_begin), static_cast<long long>(p.unit_end),
                static_cast<long long>(count));
  const size_t needed = partial_bytes(p, max_tokens);
  if (needed == 0) return POLARC_OK;
  if (p.workspace_bytes < needed)
    return fail(POLARC_WORKSPACE_TOO_SMALL,
                "workspace_bytes is %llu: give %llu, the size that the workspace query returns",
                static_cast<unsigned long long>(p.workspace_bytes),
                static_cast<unsigned long long>(needed));
  return check_array("workspace", p.workspace, 16);
}

template <int queries>
inline void keep_partial(const Gathered *gathered, const value::Sums<queries> &sums,
                         Partial *partial) {
  for (int j = 0; j < queries; j++) {
    partial[j].max = gathered[j].max;
    partial[j].sum = gathered[j].sum;
    for (int i = 0; i < value_dim; i++)
      partial[j].out[i] = sum_of(_mm256_load_ps(sums.lane[j][i]));
  }
}

inline void lose_partials(Partial *partial) {
  for (int j = 0; j < group; j++) {
    partial[j].max = partial[j].sum = __builtin_nanf("");
    for (int i = 0; i < value_dim; i++) partial[j].out[i] = __builtin_nanf("");
  }
}

// The splits of one row and query in order, to its output and log-sum-exp.
template <class Params, class Finish>
inline void combine(const Params &p, int64_t row, int64_t q_head, const Partial *first,
                    int64_t splits, Finish &&finish) {
  float max = -__builtin_inff();
  for (int64_t s = 0; s < splits; s++)
    if (first[s * group].max > max) max = first[s * group].max;
  float sum = 0;
  alignas(32) float out[value_dim] = {0};
  for (int64_t s = 0; s < splits; s++) {
    const Partial &partial = first[s * group];
    if (partial.sum == 0) continue; // saw nothing
    const float factor = partial.max == max ? 1.0f : std::exp(partial.max - max);
    sum += factor * partial.sum;
    for (int i = 0; i < value_dim; i++) out[i] += factor * partial.out[i];
  }
  if (sum != 0) {
    const float share = 1 / sum;
    for (int i = 0; i < value_dim; i++) out[i] *= share;
    finish(out);
  }
  store_row<value_dim>(p.out, row, q_head, out);
  if (p.lse)
    p.lse[row * p.lse_row_stride + q_head] = sum == 0 ? -__builtin_inff() : max + std::log(sum);
}

// Runs the phases of a call: partial(row, head, split, results) for its units, then the rows whose
// first unit is among them.
template <class Params, class Part, class Finish>
inline void run_units(const Params &p, int64_t max_tokens, Part &&part, Finish &&finish) {
  const int64_t splits = split_count(p, max_tokens);
  const bool all = p.unit_begin == 0 && p.unit_end == 0;
  const int64_t begin = p.unit_begin, end = all ? unit_count(p, max_tokens) : p.unit_end;
  Partial *partials = static_cast<Partial *>(p.workspace);
  if (p.phase != POLARC_COMBINE)
    for (int64_t unit = begin; unit < end; unit++) {
      const int64_t head = unit / splits % p.kv_heads, row = unit / splits / p.kv_heads;
      part(row, head, unit % splits, partials + unit * group);
    }
  if (p.phase != POLARC_PARTIAL)
    for (int64_t unit = (begin + splits - 1) / splits * splits; unit < end; unit += splits) {
      const int64_t head = unit / splits % p.kv_heads, row = unit / splits / p.kv_heads;
      for (int j = 0; j < group; j++)
        combine(p, row, head * group + j, partials + unit * group + j, splits,
                [&](float *out) { finish(head, out); });
    }
}

// ---- Attention over packed keys and values ----

size_t attend_workspace(const polarc_attend_params &p) {
  return partial_bytes(p, p.index.max_tokens);
}

int64_t attend_units(const polarc_attend_params &p) { return unit_count(p, p.index.max_tokens); }

// Tokens [begin, end) of one row and head, for `queries` of its queries. A superblock of scores is
// made and turned to weights before its values are touched: one rescale of the sums for each.
template <int queries, class Keys, class Values>
void attend_tokens(const polarc_attend_params &p, const Sequence &sequence, const Sight &sight,
                   int64_t row, int64_t head, int first_query, int64_t begin, int64_t end,
                   Partial *partial) {
  constexpr int superblock = value::superblock, most_tiles = value::tiles_at_once;
  Gathered gathered[queries];
  value::Sums<queries> sums = {};
  Queries<queries> query;
  load_queries(p.q, row, head, first_query, p.key, p.basis == POLARC_ORIGINAL, query);
  const typename Keys::template Queries<queries> key_queries(query.q[0]);
  key::Tokens keys[most_tiles];
  const auto find_keys = [&](int64_t first) { // the number of tiles there
    const int tiles = tiles_of<most_tiles>(first, end);
    for (int t = 0; t < tiles; t++)
      locate(p.keys, sequence, head, first + t * tile_tokens, sequence.length, key::nothing,
             keys[t]);
    return tiles;
  };
  int64_t first = begin / tile_tokens * tile_tokens;
  for (int tiles = find_keys(first); tiles > 0; first += superblock) {
    value::Tokens values[most_tiles];
    for (int t = 0; t < tiles; t++)
      locate(p.values, sequence, head, first + t * tile_tokens, sequence.length, value::nothing,
             values[t]);
    // Values come nearer while their keys are worked on, and the next keys while the values are.
    alignas(64) float s[queries][superblock], mask[superblock];
    Keys::products(keys, tiles, key_queries, s[0], superblock,
                   [&](int t, int step, int steps) __attribute__((always_inline)) {
                     prefetch<value::unit_tokens, value::unit_bytes>(values[t], step, steps);
                   });
    const float *seen = seen_lanes(sequence, sight, first, tiles, mask);
    float factor[queries];
    for (int j = 0; j < queries; j++) {
      to_logits(s[j], tiles * tile_tokens, p.scale, p.scale * query.shift[j], p.softcap, seen);
      factor[j] = softmax_step(s[j], tiles * tile_tokens, gathered[j]);
    }
    const int next_tiles = find_keys(first + superblock);
    Values::add(values, tiles, seen, s[0], factor, sums,
                [&](int t, int step, int steps) __attribute__((always_inline)) {
                  if (t < next_tiles)
                    prefetch<key::unit_tokens, key::unit_bytes>(keys[t], step, steps);
                });
    tiles = next_tiles;
  }
  keep_partial<queries>(gathered, sums, partial);
}

int attend(const polarc_attend_params &p) {
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_index(p.index)) return status;
  const int64_t max_tokens = p.index.max_tokens;
  if (const int status = check_attention(p, max_tokens)) return status;
  if (const int status = check_pool("keys", p.keys, p.kv_heads, key::unit_bytes)) return status;
  if (const int status = check_pool("values", p.values, p.kv_heads, value::unit_bytes))
    return status;
  if (const int status = check_key_transform(p.key, original)) return status;
  if (const int status = check_value_transform(p.value, original)) return status;

  const int64_t pages = p.keys.pages < p.values.pages ? p.keys.pages : p.values.pages;
  const int64_t length = split_length(p, max_tokens);
  const bool wide = wide_in_use();
  const auto part = [&](int64_t row, int64_t head, int64_t split, Partial *partial) {
    Sequence sequence;
    if (!find_sequence(p.index, p.row_sequence ? p.row_sequence[row] : row, pages, p.flags,
                       sequence))
      return lose_partials(partial);
    const Sight sight = see(sequence, p.row_position, row, p.window);
    const int64_t from = split * length, to = from + length;
    const int64_t begin = sight.begin > from ? sight.begin : from;
    const int64_t end = sight.end < to ? sight.end : to;
    each_queries([&](auto queries, int first) {
      const auto tokens = wide ? attend_tokens<queries(), key::Wide, value::Wide>
                               : attend_tokens<queries(), key::Narrow, value::Narrow>;
      tokens(p, sequence, sight, row, head, first, begin, end, partial + first);
    });
  };
  run_units(p, max_tokens, part, [&](int64_t head, float *out) {
    finish_output(out, 1, p.value, head, original);
  });
  return POLARC_OK;
}

// ---- Attention over rows of full precision ----

size_t attend_dense_workspace(const polarc_attend_dense_params &p) {
  return partial_bytes(p, p.max_tokens);
}

int64_t attend_dense_units(const polarc_attend_dense_params &p) {
  return unit_count(p, p.max_tokens);
}

constexpr int dense_bytes = 2; // of an element
// Tokens between rescales. Small groups wait for memory, which likes keys and values in short
// turns; larger ones for their sums, which like long ones.
constexpr int dense_block = group <= 2 ? 8 : 64;
constexpr int values_at_once = group == 1 ? 4 : 8; // rows
constexpr int score_stride = dense_block + 8;

// Eight elements; the last ones of a row that eight does not divide are loaded by themselves.
template <int dim> inline __m256 dense8(const uint8_t *row, int i) {
  if (dim % 8 != 0 && i + 8 > dim)
    return load_part<dense_dtype>(row + i * dense_bytes, dim % 8);
  return load8<dense_dtype>(row + i * dense_bytes);
}

inline const uint8_t *dense_row(const void *rows, int64_t sequence, int64_t sequence_stride,
                                int64_t head, int64_t head_stride) {
  return static_cast<const uint8_t *>(rows) +
         (sequence * sequence_stride + head * head_stride) * dense_bytes;
}

// Eight sums of eight lanes each.
inline __m256 sums_of_eight(const __m256 *a) {
  const __m256 ab = _mm256_hadd_ps(a[0], a[1]), cd = _mm256_hadd_ps(a[2], a[3]);
  const __m256 ef = _mm256_hadd_ps(a[4], a[5]), gh = _mm256_hadd_ps(a[6], a[7]);
  const __m256 low = _mm256_hadd_ps(ab, cd), high = _mm256_hadd_ps(ef, gh);
  return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                       _mm256_permute2f128_ps(low, high, 0x31));
}

constexpr int padded_key = (key_dim + 7) / 8 * 8, padded_value = (value_dim + 7) / 8 * 8;

constexpr int key_row_bytes = key_dim * dense_bytes, value_row_bytes = value_dim * dense_bytes;

// Rows are read one after the other, a few at a time, which lets the prefetchers of the hardware
// follow, and these rows ahead are asked for. To the second-level cache: the first has too few
// places for lines under way.
constexpr int rows_ahead = group <= 2 ? 8 : 32;

inline __attribute__((always_inline)) void prefetch_row(const uint8_t *row, int bytes) {
  for (int i = 0; i < bytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char *>(row + i), _MM_HINT_T1);
}

// Products of `queries` queries with `tokens` keys, in eight lanes each: a key is read once for all
// of them. Few sums are kept in two parts, so that additions do not wait for each other.
template <int queries, int tokens>
inline void dense_dots(const uint8_t *const *row, const float (*q)[padded_key], __m256 *dots) {
  constexpr int parts = queries * tokens <= 4 && padded_key % 16 == 0 ? 2 : 1;
  __m256 sum[queries * tokens][parts];
  for (int i = 0; i < queries * tokens; i++)
    for (int part = 0; part < parts; part++) sum[i][part] = _mm256_setzero_ps();
  for (int c = 0; c < padded_key; c += 8 * parts) {
    for (int part = 0; part < parts; part++) {
      __m256 k[tokens];
      for (int t = 0; t < tokens; t++) k[t] = dense8<key_dim>(row[t], c + part * 8);
      for (int j = 0; j < queries; j++) {
        const __m256 query = _mm256_load_ps(q[j] + c + part * 8);
        for (int t = 0; t < tokens; t++) {
          __m256 &s = sum[j * tokens + t][part];
          s = _mm256_fmadd_ps(k[t], query, s);
        }
      }
    }
  }
  for (int i = 0; i < queries * tokens; i++)
    dots[i] = parts == 1 ? sum[i][0] : _mm256_add_ps(sum[i][0], sum[i][parts - 1]);
}

// Products of `queries` queries with the next 8 / queries keys.
template <int queries>
inline void dense_products(const uint8_t *const *row, const float (*q)[padded_key], float *s) {
  constexpr int tokens = 8 / queries, at_once = tokens < 2 ? tokens : 2;
  __m256 sum[8];
  for (int i = queries * tokens; i < 8; i++) sum[i] = _mm256_setzero_ps();
  for (int t = 0; t < tokens; t += at_once) {
    __m256 dots[queries * at_once];
    dense_dots<queries, at_once>(row + t, q, dots);
    for (int j = 0; j < queries; j++)
      for (int i = 0; i < at_once; i++) sum[j * tokens + t + i] = dots[j * at_once + i];
  }
  alignas(32) float products[8];
  _mm256_store_ps(products, sums_of_eight(sum));
  for (int j = 0; j < queries; j++)
    memcpy(s + j * score_stride, products + j * tokens, sizeof(float) * tokens);
}

// out [queries] <- factor * out + weights * values, `vectors` vectors of coordinates at a time.
template <int queries, int vectors>
inline void dense_columns(const uint8_t *const *row, int tokens, int first, const float *weight,
                          const float *factor, float (*out)[padded_value]) {
  __m256 sum[queries][vectors];
  for (int j = 0; j < queries; j++)
    for (int i = 0; i < vectors; i++)
      sum[j][i] = _mm256_mul_ps(_mm256_load_ps(out[j] + first + i * 8),
                                _mm256_broadcast_ss(factor + j));
  for (int t = 0; t < tokens; t++) {
    __m256 w[queries];
    for (int j = 0; j < queries; j++) w[j] = _mm256_broadcast_ss(weight + j * score_stride + t);
    for (int i = 0; i < vectors; i++) {
      const __m256 v = dense8<value_dim>(row[t], first + i * 8);
      for (int j = 0; j < queries; j++) sum[j][i] = _mm256_fmadd_ps(v, w[j], sum[j][i]);
    }
  }
  for (int j = 0; j < queries; j++)
    for (int i = 0; i < vectors; i++) _mm256_store_ps(out[j] + first + i * 8, sum[j][i]);
}

template <int queries>
inline void dense_values(const uint8_t *const *row, int tokens, const float *weight,
                         const float *factor, float (*out)[padded_value]) {
  constexpr int vectors = 8 / queries, columns = padded_value / 8, rest = columns % vectors;
  for (int c = 0; c + vectors <= columns; c += vectors)
    dense_columns<queries, vectors>(row, tokens, c * 8, weight, factor, out);
  if constexpr (rest > 0)
    dense_columns<queries, rest>(row, tokens, (columns - rest) * 8, weight, factor, out);
}

// Calls body(number of queries as a constant, first query): four at a time, then the rest.
template <class Body> inline void each_four(Body &&body) {
  constexpr int at_once = group < 4 ? group : 4, rest = group % at_once;
  for (int j = 0; j + at_once <= group; j += at_once)
    body(std::integral_constant<int, at_once>{}, j);
  if constexpr (rest > 0) body(std::integral_constant<int, rest>{}, group - rest);
}

// Blocks hold seen tokens only, so that hidden rows are never read into a sum.
void attend_dense_tokens(const polarc_attend_dense_params &p, const Sequence &sequence,
                         const Sight &sight, int64_t index, int64_t row, int64_t head,
                         int64_t begin, int64_t end, Partial *partial) {
  const uint8_t *keys =
      dense_row(p.keys, index, p.key_sequence_stride, head, p.key_head_stride);
  const uint8_t *values =
      dense_row(p.values, index, p.value_sequence_stride, head, p.value_head_stride);
  const int64_t key_step = p.key_token_stride * dense_bytes;
  const int64_t value_step = p.value_token_stride * dense_bytes;
  alignas(32) float q[group][padded_key] = {}, out[group][padded_value] = {};
  for (int j = 0; j < group; j++) load_row<key_dim>(p.q, row, head * group + j, q[j]);
  Gathered gathered[group];

  for (int64_t token = begin; token < end;) {
    const uint8_t *key_row[dense_block + 8], *value_row[dense_block];
    int count = 0;
    for (; token < end && count < dense_block; token++) {
      if (sight.some && !sees(sequence, sight, token)) continue;
      key_row[count] = keys + token * key_step;
      value_row[count++] = values + token * value_step;
    }
    if (count == 0) break;
    for (int i = 0; i < 8; i++) key_row[count + i] = key_row[count - 1]; // fills a last step

    // In the order of reading: keys, values, the next keys. Behind the last token that is the
    // address of nothing, which a prefetch may have.
    const auto bring = [&](int i) __attribute__((always_inline)) {
      if (i < count)
        prefetch_row(key_row[i], key_row_bytes);
      else if (i < 2 * count)
        prefetch_row(value_row[i - count], value_row_bytes);
      else
        prefetch_row(keys + (token + i - 2 * count) * key_step, key_row_bytes);
    };

    alignas(32) float s[group][score_stride];
    each_four([&](auto queries, int first) {
      constexpr int step = 8 / queries();
      for (int t = 0; t < count; t += step) {
        for (int i = t; first == 0 && i < t + step && i < count; i++) bring(i + rows_ahead);
        dense_products<queries()>(key_row + t, q + first, s[first] + t);
      }
    });
    const int padded = (count + 7) / 8 * 8;
    float factor[group];
    for (int j = 0; j < group; j++) {
      for (int i = count; i < padded; i++) s[j][i] = 0;
      to_logits(s[j], padded, p.scale, 0, p.softcap, nullptr);
      for (int i = count; i < padded; i++) s[j][i] = -__builtin_inff();
      factor[j] = softmax_step(s[j], padded, gathered[j]);
    }
    for (int t = 0; t < count; t += values_at_once) {
      const int step = count - t < values_at_once ? count - t : values_at_once;
      for (int i = t; i < t + step; i++) bring(count + i + rows_ahead);
      each_four([&](auto queries, int first) {
        dense_values<queries()>(value_row + t, step, s[first] + t, factor + first, out + first);
      });
      for (int j = 0; j < group; j++) factor[j] = 1;
    }
  }
  for (int j = 0; j < group; j++) {
    partial[j].max = gathered[j].max;
    partial[j].sum = gathered[j].sum;
    memcpy(partial[j].out, out[j], sizeof(float) * value_dim);
  }
}

// False, with a flag raised, where a sequence or its length is out of range.
inline bool find_dense(const polarc_attend_dense_params &p, int64_t s, Sequence &sequence) {
  if (s < 0 || s >= p.sequences) {
    raise_flag(p.flags, POLARC_SEQUENCE_OUT_OF_RANGE);
    return false;
  }
  sequence.length = p.lengths[s];
  const bool listed = p.positions || p.always_visible;
  if (sequence.length < 0 || sequence.length > p.max_tokens ||
      (listed && sequence.length > p.positions_stride)) {
    raise_flag(p.flags, POLARC_LENGTH_OUT_OF_RANGE);
    return false;
  }
  if (p.positions) sequence.positions = p.positions + s * p.positions_stride;
  if (p.always_visible) sequence.always_visible = p.always_visible + s * p.positions_stride;
  if (p.first_position) sequence.first_position = p.first_position[s];
  return true;
}

inline int check_dense_strides(const char *what, int64_t token_stride, int64_t head_stride,
                               int64_t heads, int64_t tokens, int dim) {
  char field[48];
  snprintf(field, sizeof field, "%s_token_stride", what);
  if (tokens > 1)
    if (const int status = check_at_least(field, token_stride, dim)) return status;
  snprintf(field, sizeof field, "%s_head_stride", what);
  if (heads > 1) return check_at_least(field, head_stride, dim);
  return POLARC_OK;
}

int attend_dense(const polarc_attend_dense_params &p) {
  if (const int status = check_count("sequences", p.sequences)) return status;
  if (const int status = check_count("max_tokens", p.max_tokens)) return status;
  if (const int status = check_attention(p, p.max_tokens)) return status;
  if (p.sequences > 0) {
    if (const int status = check_array("lengths", p.lengths, alignof(int32_t))) return status;
    if (p.max_tokens > 0) {
      if (const int status = check_array("keys", p.keys, dense_bytes)) return status;
      if (const int status = check_array("values", p.values, dense_bytes)) return status;
    }
  }
  if (const int status = check_dense_strides("key", p.key_token_stride, p.key_head_stride,
                                             p.kv_heads, p.max_tokens, key_dim))
    return status;
  if (const int status = check_dense_strides("value", p.value_token_stride, p.value_head_stride,
                                             p.kv_heads, p.max_tokens, value_dim))
    return status;
  if (const int status = check_optional("first_position", p.first_position, alignof(int32_t)))
    return status;
  if (const int status = check_optional("positions", p.positions, alignof(int32_t)))
    return status;
  if (p.positions || p.always_visible)
    if (const int status = check_count("positions_stride", p.positions_stride)) return status;

  const int64_t length = split_length(p, p.max_tokens);
  const auto part = [&](int64_t row, int64_t head, int64_t split, Partial *partial) {
    const int64_t index = p.row_sequence ? p.row_sequence[row] : row;
    Sequence sequence;
    if (!find_dense(p, index, sequence)) return lose_partials(partial);
    const Sight sight = see(sequence, p.row_position, row, p.window);
    const int64_t from = split * length, to = from + length;
    const int64_t begin = sight.begin > from ? sight.begin : from;
    const int64_t end = sight.end < to ? sight.end : to;
    attend_dense_tokens(p, sequence, sight, index, row, head, begin, end, partial);
  };
  run_units(p, p.max_tokens, part, [](int64_t, float *) {});
  return POLARC_OK;
}

// ---- Merge: partial outputs by their log-sum-exp, and the sink logit once ----

int merge(const polarc_merge_params &p) {
  constexpr int dim = value::head_dim;
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_at_least("q_heads", p.q_heads, 1)) return status;
  if (const int status = check_at_least("part_count", p.part_count, 1)) return status;
  if (const int status = check_array("parts", p.parts, alignof(polarc_merge_part))) return status;
  for (int i = 0; i < p.part_count; i++) {
    char field[48];
    const polarc_merge_part &part = p.parts[i];
    snprintf(field, sizeof field, "parts[%d].out", i);
    if (const int status = check_rows(field, part.out, p.rows, p.q_heads, dim)) return status;
    snprintf(field, sizeof field, "parts[%d].lse", i);
    if (p.rows > 0)
      if (const int status = check_array(field, part.lse, alignof(float))) return status;
    snprintf(field, sizeof field, "parts[%d].lse_row_stride", i);
    if (p.rows > 1)
      if (const int status = check_at_least(field, part.lse_row_stride, p.q_heads)) return status;
  }
  if (const int status = check_optional("sink", p.sink, alignof(float))) return status;
  if (const int status = check_rows("out", p.out, p.rows, p.q_heads, dim)) return status;
  if (const int status = check_optional("lse", p.lse, alignof(float))) return status;
  if (p.lse && p.rows > 1)
    if (const int status = check_at_least("lse_row_stride", p.lse_row_stride, p.q_heads))
      return status;

  constexpr float nothing = -__builtin_inff();
  for (int64_t row = 0; row < p.rows; row++) {
    for (int64_t head = 0; head < p.q_heads; head++) {
      const auto lse_of = [&](int i) {
        return p.parts[i].lse[row * p.parts[i].lse_row_stride + head];
      };
      // The greatest exponent, so that none overflows; NaN parts make their weight NaN below.
      const float sink = p.sink ? p.sink[head] : nothing;
      float top = nothing;
      for (int i = 0; i < p.part_count; i++)
        if (lse_of(i) > top) top = lse_of(i);
      const float greatest = sink > top ? sink : top;

      double total = 0, seen = 0;
      double sum[dim] = {0};
      for (int i = 0; i < p.part_count; i++) {
        const float lse = lse_of(i);
        if (lse == nothing) continue;
        alignas(32) float x[dim];
        load_row<dim>(p.parts[i].out, row, head, x);
        seen += lse == top ? 1 : std::exp(static_cast<double>(lse) - top);
        const double weight =
            lse == greatest ? 1 : std::exp(static_cast<double>(lse) - greatest);
        total += weight;
        for (int j = 0; j < dim; j++) sum[j] += weight * x[j];
      }
      const bool none_seen = seen == 0;
      if (sink != nothing)
        total += sink == greatest ? 1 : std::exp(static_cast<double>(sink) - greatest);

      alignas(32) float out[dim];
      for (int j = 0; j < dim; j++)
        out[j] = none_seen ? 0.0f : static_cast<float>(sum[j] / total);
      store_row<dim>(p.out, row, head, out);
      if (p.lse)
        p.lse[row * p.lse_row_stride + head] =
            none_seen ? nothing : static_cast<float>(top + std::log(seen));
    }
  }
  return POLARC_OK;
}

} // namespace

// ---- Entry points ----

extern "C" {

int llama_d128_rows_avx2_encode_key(const polarc_encode_params *p, void *stream) {
  return run(p, stream, key::encode);
}

int llama_d128_rows_avx2_decode_key(const polarc_decode_params *p, void *stream) {
  return run(p, stream, key::decode);
}

int llama_d128_rows_avx2_rotate_key(const polarc_rotate_params *p, void *stream) {
  return run(p, stream, key::rotate);
}

int llama_d128_rows_avx2_encode_value(const polarc_encode_params *p, void *stream) {
  return run(p, stream, value::encode);
}

int llama_d128_rows_avx2_decode_value(const polarc_decode_params *p, void *stream) {
  return run(p, stream, value::decode);
}

int llama_d128_rows_avx2_rotate_value(const polarc_rotate_params *p, void *stream) {
  return run(p, stream, value::rotate);
}

int llama_d128_rows_avx2_scores(const polarc_scores_params *p, void *stream) {
  return run(p, stream, scores);
}

size_t llama_d128_rows_avx2_scores_workspace(const polarc_scores_params *p) {
  return refused(p, nullptr) ? 0 : scores_workspace(*p);
}

int llama_d128_rows_avx2_weighted_sum(const polarc_weighted_sum_params *p, void *stream) {
  return run(p, stream, weighted_sum);
}

size_t llama_d128_rows_avx2_weighted_sum_workspace(const polarc_weighted_sum_params *p) {
  return refused(p, nullptr) ? 0 : weighted_sum_workspace(*p);
}

int llama_d128_rows_avx2_attend(const polarc_attend_params *p, void *stream) {
  return run(p, stream, attend);
}

size_t llama_d128_rows_avx2_attend_workspace(const polarc_attend_params *p) {
  return refused(p, nullptr) ? 0 : attend_workspace(*p);
}

int64_t llama_d128_rows_avx2_attend_units(const polarc_attend_params *p) {
  return refused(p, nullptr) ? 0 : attend_units(*p);
}

int llama_d128_rows_avx2_attend_dense(const polarc_attend_dense_params *p, void *stream) {
  return run(p, stream, attend_dense);
}

size_t llama_d128_rows_avx2_attend_dense_workspace(const polarc_attend_dense_params *p) {
  return refused(p, nullptr) ? 0 : attend_dense_workspace(*p);
}

int64_t llama_d128_rows_avx2_attend_dense_units(const polarc_attend_dense_params *p) {
  return refused(p, nullptr) ? 0 : attend_dense_units(*p);
}

int llama_d128_rows_avx2_merge(const polarc_merge_params *p, void *stream) {
  return run(p, stream, merge);
}

const char *llama_d128_rows_avx2_variant(const char *wanted) {
  if (wanted) use_variant(wanted);
  return wide_in_use() ? "avx512" : "avx2";
}

const char *llama_d128_rows_avx2_message(void) {
  return message_text;
}

const polarc_kernels *llama_d128_rows_avx2_kernels(void) {
  static constexpr polarc_kernels table = {
      sizeof(polarc_kernels),
      POLARC_ABI_VERSION,
      "llama_d128_rows",
      "avx2",
      "4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b",
      "4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b",
      "0261287333362bda45aaa03c124ad34c817d0b08d5b5e53138a0a55a00a34ac3",
      key::head_dim,
      value::head_dim,
      group,
      page_tokens,
      key::unit_tokens,
      value::unit_tokens,
      key::unit_bytes,
      value::unit_bytes,
      dense_dtype,
      0,
      llama_d128_rows_avx2_encode_key,
      llama_d128_rows_avx2_encode_value,
      llama_d128_rows_avx2_decode_key,
      llama_d128_rows_avx2_decode_value,
      llama_d128_rows_avx2_rotate_key,
      llama_d128_rows_avx2_rotate_value,
      llama_d128_rows_avx2_scores,
      llama_d128_rows_avx2_scores_workspace,
      llama_d128_rows_avx2_weighted_sum,
      llama_d128_rows_avx2_weighted_sum_workspace,
      llama_d128_rows_avx2_attend,
      llama_d128_rows_avx2_attend_workspace,
      llama_d128_rows_avx2_attend_units,
      llama_d128_rows_avx2_attend_dense,
      llama_d128_rows_avx2_attend_dense_workspace,
      llama_d128_rows_avx2_attend_dense_units,
      llama_d128_rows_avx2_merge,
      llama_d128_rows_avx2_variant,
      llama_d128_rows_avx2_message,
  };
  return &table;
}

} // extern "C"
