// polarc · small_d64 · device code · cuda
// Generated from polarc.config.ts (plan 59011a5646394f92)
// through templates/cuda/cache.cuh.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Device code of small_d64, free of host and C++ headers: nvcc and NVRTC take the same text.
//
//   keys of 64 numbers, 5-3-3-3-3-3 bits, f16 radii
//   values of 64 numbers, 4-2-2-2-2-2 bits, f16 radii
//   query heads a KV head: 3; tokens a page: 64
//
// Keys: Hadamard rotation, centred;
// a tile of 1076 bytes for 32 tokens, 269 bits each; 1 radii, each of 64 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       1 x 16     0                           f16
//   code_l1     32 x 5      16, 21 ... 171              signs, angle in the quadrant
//   code_l2     16 x 3      176, 182 ... 266            angle of nodes 2j and 2j+1
//   code_l3      8 x 3      179, 191 ... 263            angle of nodes 2j and 2j+1
//   code_l4      4 x 3      185, 209, 233, 257          angle of nodes 2j and 2j+1
//   code_l5      2 x 3      197, 245                    angle of nodes 2j and 2j+1
//   code_l6      1 x 3      221                         angle of nodes 2j and 2j+1
// Byte q of token t's record is byte 32 q + t of the tile.
// Planes for the last 5 bits of a record follow, 4, 1 bits wide.
//
// Values: Hadamard rotation, centred;
// a tile of 824 bytes for 32 tokens, 206 bits each; 1 radii, each of 64 coordinates.
//
//   field     count x bits  first bits in the record    meaning
//   radius       1 x 16     0                           f16
//   code_l1     32 x 4      16, 20 ... 140              signs, angle in the quadrant
//   code_l2     16 x 2      144, 148 ... 204            angle of nodes 2j and 2j+1
//   code_l3      8 x 2      146, 154 ... 202            angle of nodes 2j and 2j+1
//   code_l4      4 x 2      150, 166, 182, 198          angle of nodes 2j and 2j+1
//   code_l5      2 x 2      158, 190                    angle of nodes 2j and 2j+1
//   code_l6      1 x 2      174                         angle of nodes 2j and 2j+1
// Byte q of token t's record is byte 32 q + t of the tile.
// Planes for the last 6 bits of a record follow, 4, 2 bits wide.
//
// The launchers in small-d64.cu check what a host can see.
// In encode every operation is one rounded IEEE float32 operation in a fixed order.
#ifndef SMALL_D64_CUDA_HH
#define SMALL_D64_CUDA_HH

#ifndef POLARC_ABI_H
#define POLARC_ABI_H
/*
 * The polarc ABI, version 1: the same in every emitted file. docs/abi.md explains it.
 *
 * The caller owns all memory. Structures begin with their size and the version, so that a caller
 * built against another version is refused. Strides are int64: bytes for packed pools, elements for
 * rows. Base pointers of packed pools and workspaces are aligned to 16 bytes, rows to their
 * element. Kernels allocate nothing, print nothing and are re-entrant.
 */
#ifdef __CUDACC_RTC__ /* NVRTC has no headers */
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif

#define POLARC_ABI_VERSION 1u

enum polarc_status {
  POLARC_OK = 0,
  POLARC_INVALID_ARGUMENT = 1,   /* nothing was written */
  POLARC_WORKSPACE_TOO_SMALL = 2,
  POLARC_UNSUPPORTED = 3,        /* this machine cannot run the kernel */
  POLARC_VERSION_MISMATCH = 4,
  POLARC_DEVICE_ERROR = 5        /* of a GPU: the message has its interface's name and text */
};

enum polarc_dtype { POLARC_F32 = 0, POLARC_F16 = 1, POLARC_BF16 = 2 };

/*
 * The space of queries, rows and outputs: as the model has them, or multiplied by S (values, keys)
 * and its dual (queries).
 */
enum polarc_basis { POLARC_ORIGINAL = 0, POLARC_ROTATED = 1 };

/* What `rotate` multiplies with: S, S^-T (queries against keys), S^-1 (outputs). */
enum polarc_rotation { POLARC_FORWARD = 0, POLARC_DUAL = 1, POLARC_INVERSE = 2 };

/*
 * Bits of the optional status word `flags`, set (never cleared) by kernels when run-time tables are
 * out of range.
 */
enum polarc_flag {
  POLARC_PAGE_OUT_OF_RANGE = 1,   /* a page index outside [0, pool.pages) */
  POLARC_LENGTH_OUT_OF_RANGE = 2, /* a length below 0, above max_tokens, or beyond its table */
  POLARC_SEQUENCE_OUT_OF_RANGE = 4,
  POLARC_SLOT_OUT_OF_RANGE = 8    /* a slot at or beyond pages * page_tokens: the row is skipped */
};

/* attend: everything, only the partial results of some work units, or only their combination. */
enum polarc_phase { POLARC_ALL = 0, POLARC_PARTIAL = 1, POLARC_COMBINE = 2 };

/* Packed keys or values. A unit is a token's record (rows) or a tile of 32 tokens (tiles). */
typedef struct polarc_pool {
  void *data;
  int64_t pages;       /* pages in the pool */
  int64_t page_stride; /* bytes */
  int64_t head_stride; /* bytes */
  int64_t unit_stride; /* bytes; at least the bytes of a unit */
} polarc_pool;

/*
 * Which tokens a sequence has, and where. At most one of block_table and indptr is given; with
 * neither, page i of sequence s is page s * pages_per_sequence + i.
 */
typedef struct polarc_index {
  int32_t sequences;
  int32_t max_tokens;             /* upper bound of lengths: fixes grid and workspace */
  const int32_t *lengths;         /* [sequences]; null with CSR */
  const int32_t *block_table;     /* [sequences][block_table_stride] page indices */
  int64_t block_table_stride;
  const int32_t *indptr;          /* CSR: [sequences + 1] */
  const int32_t *indices;         /* CSR: [indptr[sequences]] page indices */
  const int32_t *last_page_len;   /* CSR: [sequences], 1 ... page_tokens if it has pages */
  int64_t indices_count;          /* CSR: entries of indices */
  int64_t pages_per_sequence;     /* without a table */
  const int32_t *first_position;  /* [sequences], null: 0; token i: first_position + i */
  const int32_t *positions;       /* [sequences][positions_stride], null: as above */
  int64_t positions_stride;
} polarc_index;

/* Run-time vectors and matrices of a codec, float32: null where the format does not use them. */
typedef struct polarc_transform {
  const float *mean;   /* [kv_heads][d]: centred formats */
  const float *matrix; /* [kv_heads][d][d]: S. `orthogonal`: the matrix beside the plan, [d][d] */
  const float *dual;   /* [kv_heads][d][d]: S^-T, for `matrix` only */
} polarc_transform;

/* Queries and outputs: rows [row][q_head][d], q_head = kv_head * group + i. */
typedef struct polarc_rows {
  void *data;
  int32_t dtype;
  int32_t reserved;
  int64_t row_stride;  /* elements */
  int64_t head_stride; /* elements */
} polarc_rows;

typedef struct polarc_encode_params {
  uint32_t size, version;
  polarc_rows rows;       /* [count][kv_heads][d], read */
  int64_t count;
  int32_t kv_heads;
  int32_t head_begin, head_end; /* heads of this call; both 0: all */
  int32_t reserved;
  const int64_t *slots;   /* [count]: page * page_tokens + offset; negative: skip the row */
  polarc_pool cache;      /* written */
  polarc_transform transform;
  float *errors;          /* [count][kv_heads] squared, or null; skipped rows are left alone */
  uint32_t *flags;        /* or null */
} polarc_encode_params;

typedef struct polarc_decode_params {
  uint32_t size, version;
  polarc_pool cache;      /* read */
  const int64_t *slots;   /* [count]; negative: skip the row */
  int64_t count;
  int32_t kv_heads;
  int32_t head_begin, head_end;
  int32_t basis;
  polarc_rows rows;       /* [count][kv_heads][d], written */
  polarc_transform transform;
  uint32_t *flags;
} polarc_decode_params;

typedef struct polarc_rotate_params {
  uint32_t size, version;
  polarc_rows in;         /* [count][heads][d] */
  polarc_rows out;        /* may be the same memory with the same strides */
  int64_t count;
  int32_t heads;          /* a multiple of heads_per_kv */
  int32_t heads_per_kv;   /* heads that share a matrix: group for queries, 1 for keys and values */
  int32_t rotation;
  int32_t reserved;
  polarc_transform transform; /* its mean is not used */
} polarc_rotate_params;

/* scores: out[row][q_head][token] = logits of every token; -inf where the query does not see it. */
typedef struct polarc_scores_params {
  uint32_t size, version;
  polarc_rows q;
  float *scores;
  int64_t scores_row_stride, scores_head_stride; /* elements; at least max_tokens */
  int32_t rows, kv_heads;
  int32_t head_begin, head_end;
  int32_t basis;
  int32_t window;               /* 0: none */
  float scale, softcap;         /* softcap 0: none */
  const int32_t *row_sequence;  /* [rows], null: the row's index */
  const int32_t *row_position;  /* [rows], null: the sequence's last position */
  polarc_pool keys;
  polarc_index index;
  polarc_transform key;
  void *workspace;
  size_t workspace_bytes;
  uint32_t *flags;
} polarc_scores_params;

/*
 * weighted_sum: out[row][q_head] = sum over the sequence's tokens of weight * v. Every weight
 * counts; none is masked.
 */
typedef struct polarc_weighted_sum_params {
  uint32_t size, version;
  const float *weights;
  int64_t weights_row_stride, weights_head_stride;
  polarc_rows out;
  int32_t rows, kv_heads;
  int32_t head_begin, head_end;
  int32_t basis;
  int32_t reserved;
  const int32_t *row_sequence;
  polarc_pool values;
  polarc_index index;
  polarc_transform value;
  void *workspace;
  size_t workspace_bytes;
  uint32_t *flags;
} polarc_weighted_sum_params;

typedef struct polarc_attend_params {
  uint32_t size, version;
  polarc_rows q, out;
  float *lse;                   /* [rows][q_heads], stride below, or null */
  int64_t lse_row_stride;       /* elements */
  int32_t rows, kv_heads;
  int32_t basis, window;
  float scale, softcap;
  const int32_t *row_sequence;
  const int32_t *row_position;
  polarc_pool keys, values;
  polarc_index index;
  polarc_transform key, value;
  int32_t split_tokens;         /* 0: chosen by the target; else a multiple of 32 */
  int32_t phase;
  int64_t unit_begin, unit_end; /* work units of this call, of attend_units(); both 0: all */
  void *workspace;
  size_t workspace_bytes;
  uint32_t *flags;
} polarc_attend_params;

/* attend_dense: keys and values as rows [sequence][token][kv_head][d] of one dtype. */
typedef struct polarc_attend_dense_params {
  uint32_t size, version;
  polarc_rows q, out;
  float *lse;
  int64_t lse_row_stride;
  int32_t rows, kv_heads;
  int32_t window, reserved;
  float scale, softcap;
  const int32_t *row_sequence;
  const int32_t *row_position;
  const void *keys, *values;    /* the format's dense dtype */
  int64_t key_sequence_stride, key_token_stride, key_head_stride;       /* elements */
  int64_t value_sequence_stride, value_token_stride, value_head_stride; /* elements */
  int32_t sequences, max_tokens;
  const int32_t *lengths;         /* [sequences] */
  const int32_t *first_position;  /* [sequences] or null */
  const int32_t *positions;       /* [sequences][positions_stride] or null */
  const uint8_t *always_visible;  /* [sequences][positions_stride] or null: non-zero: all see it */
  int64_t positions_stride;
  int32_t split_tokens, phase;
  int64_t unit_begin, unit_end;
  void *workspace;
  size_t workspace_bytes;
  uint32_t *flags;
} polarc_attend_dense_params;

/* merge: parts[i].out (rows of d_v) with parts[i].lse -> out, lse. */
typedef struct polarc_merge_part {
  polarc_rows out;
  const float *lse;
  int64_t lse_row_stride;
} polarc_merge_part;

typedef struct polarc_merge_params {
  uint32_t size, version;
  const polarc_merge_part *parts; /* read */
  int32_t part_count, rows;
  int32_t q_heads, reserved;
  const float *sink;              /* [q_heads] sink logits, or null */
  polarc_rows out;                /* may be one part's rows */
  float *lse;                     /* of the visible tokens, without the sink; or null */
  int64_t lse_row_stride;
} polarc_merge_params;

/*
 * All kernels of one cache on one target: what NAME_TARGET_kernels() returns, for callers that
 * choose among caches.
 */
typedef struct polarc_kernels {
  uint32_t size, version;
  const char *name, *target;
  const char *key_format_hash, *value_format_hash, *plan_hash;
  int32_t key_dim, value_dim, group, page_tokens;
  int32_t key_unit_tokens, value_unit_tokens; /* 1 or 32 */
  int64_t key_unit_bytes, value_unit_bytes;
  int32_t dense_dtype, reserved;
  int (*encode_key)(const polarc_encode_params *, void *stream);
  int (*encode_value)(const polarc_encode_params *, void *stream);
  int (*decode_key)(const polarc_decode_params *, void *stream);
  int (*decode_value)(const polarc_decode_params *, void *stream);
  int (*rotate_key)(const polarc_rotate_params *, void *stream);
  int (*rotate_value)(const polarc_rotate_params *, void *stream);
  int (*scores)(const polarc_scores_params *, void *stream);
  size_t (*scores_workspace)(const polarc_scores_params *);
  int (*weighted_sum)(const polarc_weighted_sum_params *, void *stream);
  size_t (*weighted_sum_workspace)(const polarc_weighted_sum_params *);
  int (*attend)(const polarc_attend_params *, void *stream);
  size_t (*attend_workspace)(const polarc_attend_params *);
  int64_t (*attend_units)(const polarc_attend_params *);
  int (*attend_dense)(const polarc_attend_dense_params *, void *stream);
  size_t (*attend_dense_workspace)(const polarc_attend_dense_params *);
  int64_t (*attend_dense_units)(const polarc_attend_dense_params *);
  int (*merge)(const polarc_merge_params *, void *stream);
  const char *(*variant)(const char *wanted);
  const char *(*message)(void); /* of this thread's last call that did not return OK */
} polarc_kernels;

#endif /* POLARC_ABI_H */

#ifdef POLARC_CUDA_DRIVER // a C++ compiler reads this for the launchers: structures, no code
#define __host__
#define __device__
#endif

namespace small_d64_cuda {

constexpr int group = 3; // query heads a KV head
constexpr int page_tokens = 64;
constexpr int dense_dtype = POLARC_F16;

// ---- What kernels take: the parameters of the call, and what its launcher decided ----

// What a query row sees of its sequence: the kernels `prepare_…` write one a row, after they have
// checked every table and length. Nothing behind them reads a table unchecked.
struct RowState {
  const int32_t *pages;          // page indices of the sequence, or null: first_page and behind
  const int32_t *positions;      // of its tokens, or null: first_position + token
  const uint8_t *always_visible; // of its tokens, or null
  int64_t first_page;
  int32_t length;
  int32_t begin, end;            // tokens seen lie in [begin, end); all of them if neither
                                 // positions nor always_visible is given
  int32_t first_position;
  int32_t newest, oldest;        // positions seen, both included
  int32_t valid;                 // 0: a table was out of range, the row becomes NaN
  int32_t reserved;
};
static_assert(sizeof(RowState) == 64, "an array of them stays aligned");

// Workspace of a call: states [rows], queries, partial results; each from a multiple of 64 bytes.
struct Work {
  RowState *states;
  float *queries;  // [rows][kv_heads * group][query_stride]: rotated by the dual, then q * mean
  float *partials; // [unit][group][partial_stride]: sums, then the greatest logit, sum of weights
  int64_t unit_begin, unit_end; // units of this launch: (row, KV head, split) in that order
  int32_t splits;               // of every row's sequence
  int32_t split_tokens;
};

__host__ __device__ constexpr int round_up(int x, int to) { return (x + to - 1) / to * to; }

struct ScoresArguments {
  polarc_scores_params p;
  Work work;
};
struct WeightedSumArguments {
  polarc_weighted_sum_params p;
  Work work;
};
struct AttendArguments {
  polarc_attend_params p;
  Work work;
};
struct AttendDenseArguments {
  polarc_attend_dense_params p;
  Work work;
};

// Parts travel with the launch: a kernel cannot read a list of the host's.
constexpr int merge_parts = 64;
struct MergeArguments {
  polarc_merge_params p;
  polarc_merge_part parts[merge_parts];
};
static_assert(sizeof(MergeArguments) <= 4096, "all parameters of a kernel");

// ---- How a kernel is launched ----

struct Shape {
  unsigned threads;      // of a block
  unsigned shared_bytes; // that a block asks for
  int items;             // that a block does at a time
  int parts;             // blocks that an item is the work of
  int alone;             // 1: a block has a multiprocessor to itself, and stays for all its items
};
constexpr int kernel_count = 22;
struct Shapes {
  Shape of[kernel_count];
};

#ifndef POLARC_CUDA_DRIVER

// ---- The machine: what CUDA C++ has no portable words for ----

#ifndef POLARC_ON_CPU // where a CPU stands in for the GPU, its header has these

// An array in shared memory.
template <class T> using Shared = T *;

extern __shared__ __align__(16) unsigned char shared_bytes[];

// Hands out the shared memory of a block, piece by piece, the same pieces to every thread.
struct SharedMemory {
  unsigned used = 0;
  template <class T> __device__ Shared<T> take(int count) {
    Shared<T> array = reinterpret_cast<T *>(shared_bytes + used);
    used += (count * static_cast<unsigned>(sizeof(T)) + 15) / 16 * 16;
    return array;
  }
};

// One IEEE operation, rounded to nearest even, denormals kept: no flag of the compiler changes it.
__device__ inline float mul_rn(float a, float b) {
  float c;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ inline float add_rn(float a, float b) {
  float c;
  asm("add.rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ inline float sub_rn(float a, float b) {
  float c;
  asm("sub.rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
// The product by a power of two, with 0 for a denormal: rounded down, so that none becomes 2^-126.
__device__ inline float mul_flushed(float a, float b) {
  float c;
  asm("mul.rz.ftz.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ inline float magnitude(float x) {
  float y;
  asm("abs.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// a > b, denormals and all.
__device__ inline bool exceeds(float a, float b) {
  uint32_t answer;
  asm("{.reg .pred p; setp.gt.f32 p, %1, %2; selp.u32 %0, 1, 0, p;}"
      : "=r"(answer)
      : "f"(a), "f"(b));
  return answer != 0;
}

// Adds a step to a sum where a > b.
template <uint32_t step>
__device__ inline void add_if_exceeds(uint32_t &sum, float a, float b) {
  asm("{.reg .pred p; setp.gt.f32 p, %1, %2; @p add.u32 %0, %0, %3;}"
      : "+r"(sum)
      : "f"(a), "f"(b), "n"(step));
}

// f16 to float32 and back, ties to even; a NaN stays one.
__device__ inline float from_half(uint16_t half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}
__device__ inline uint16_t to_half(float x) {
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

// The same number, which the compiler cannot compute again from where it came.
__device__ inline uint32_t opaque(uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

// 2^x, to about 2 ulp; of x below -150 it is 0.
__device__ inline float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// An address likewise.
__device__ inline const uint8_t *opaque(const uint8_t *x) {
  asm volatile("" : "+l"(x));
  return x;
}

// Two f16 in a word, the first one in its lower half.
__device__ inline uint32_t to_half2(float low, float high) {
  uint32_t pair;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
      : "=r"(pair)
      : "f"(low), "f"(high));
#endif
  return pair;
}
__device__ inline uint32_t mul_half2(uint32_t a, uint32_t b) {
  uint32_t c;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}

// One half of a word in both; ptxas folds it into the multiplication behind it.
__device__ inline uint32_t low_half(uint32_t pair) {
  uint32_t both;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l};}" : "=r"(both) : "r"(pair));
  return both;
}
__device__ inline uint32_t high_half(uint32_t pair) {
  uint32_t both;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h};}" : "=r"(both) : "r"(pair));
  return both;
}

// Where dynamic shared memory begins from sm_90 on. Look-ups have it as a constant: an address made
// of a symbol takes instructions in their loop. A kernel that has look-ups makes sure of it.
constexpr uint32_t shared_begin = 1024;
__device__ inline void check_shared_begin() {
#if __CUDA_ARCH__ >= 900
  if (__cvta_generic_to_shared(shared_bytes) != shared_begin) __trap();
#endif
}

// The entry at a byte of a table.
template <class T> __device__ inline T look_up(Shared<T> table, uint32_t byte) {
  const unsigned char *const begin = reinterpret_cast<const unsigned char *>(table);
#if __CUDA_ARCH__ >= 900
  const uint32_t at = shared_begin + static_cast<uint32_t>(begin - shared_bytes);
  return *static_cast<const T *>(__cvta_shared_to_generic(at + byte));
#else
  return *reinterpret_cast<const T *>(begin + byte);
#endif
}

// d += a b of a 16 x 16 tile of f16 by a 16 x 8 one: the fragments of mma.m16n8k16.
__device__ inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int i = 0; i < 2; i++)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}

// An 8 x 8 tile of f16, row i in lanes 4 i to 4 i + 3, transposed.
__device__ inline uint32_t transpose_8x8(uint32_t pair) {
  uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(pair));
  return transposed;
}

#endif

constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline float as_float(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline uint32_t as_bits(float x) { return __float_as_uint(x); }

constexpr uint32_t nan_bits = 0x7fc00000u;
constexpr uint32_t infinity_bits = 0x7f800000u;

// Of the bits: a comparison could be folded away by fast-math flags.
__device__ inline bool is_finite(float x) {
  return (as_bits(x) & infinity_bits) != infinity_bits;
}
__device__ inline bool is_nan(float x) { return (as_bits(x) & 0x7fffffffu) > infinity_bits; }

// Sets a bit of the caller's status word.
__device__ inline void raise_flag(uint32_t *flags, uint32_t bit) {
  if (flags) atomicOr(flags, bit);
}

// ---- Rows: their elements as float32; where the token of a slot stands ----

__device__ inline float load_element(const void *data, int dtype, int64_t at) {
  if (dtype == POLARC_F32) return static_cast<const float *>(data)[at];
  const uint16_t bits = static_cast<const uint16_t *>(data)[at];
  return dtype == POLARC_F16 ? from_half(bits) : as_float(static_cast<uint32_t>(bits) << 16);
}

// Words in turn, 16 bytes at a time where they can be.
template <int count>
__device__ inline void load_words(const uint32_t *from, uint32_t (&words)[count]) {
  static_assert(count % 4 == 0, "whole quads");
  const uint4 *quads = reinterpret_cast<const uint4 *>(from);
#pragma unroll
  for (int i = 0; i < count / 4; i++) {
    const uint4 quad = quads[i];
    words[4 * i] = quad.x;
    words[4 * i + 1] = quad.y;
    words[4 * i + 2] = quad.z;
    words[4 * i + 3] = quad.w;
  }
}

// Elements in turn: many at a time where they stand on 16 bytes.
template <int count>
__device__ inline void load_elements(const void *data, int dtype, int64_t at, float (&x)[count]) {
  if constexpr (count % 8 == 0) {
    const unsigned char *from =
        static_cast<const unsigned char *>(data) + at * (dtype == POLARC_F32 ? 4 : 2);
    if (reinterpret_cast<uintptr_t>(from) % 16 == 0) {
      const uint32_t *words_at = reinterpret_cast<const uint32_t *>(from);
      if (dtype == POLARC_F32) {
        uint32_t words[count];
        load_words(words_at, words);
#pragma unroll
        for (int i = 0; i < count; i++) x[i] = as_float(words[i]);
        return;
      }
      uint32_t pairs[count / 2];
      load_words(words_at, pairs);
      if (dtype == POLARC_F16) {
#pragma unroll
        for (int i = 0; i < count / 2; i++) {
          x[2 * i] = from_half(static_cast<uint16_t>(pairs[i]));
          x[2 * i + 1] = from_half(static_cast<uint16_t>(pairs[i] >> 16));
        }
      } else {
#pragma unroll
        for (int i = 0; i < count / 2; i++) {
          x[2 * i] = as_float(pairs[i] << 16);
          x[2 * i + 1] = as_float(pairs[i] & 0xffff0000u);
        }
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < count; i++) x[i] = load_element(data, dtype, at + i);
}

// The bf16 nearest to a float32 that is no NaN, ties to even.
__device__ inline uint32_t to_bf16(float x) {
  const uint32_t bits = as_bits(x);
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// A NaN is stored as the canonical one.
__device__ inline void store_element(void *data, int dtype, int64_t at, float x) {
  if (dtype == POLARC_F32) {
    static_cast<float *>(data)[at] = is_nan(x) ? as_float(nan_bits) : x;
    return;
  }
  uint32_t bits;
  if (dtype == POLARC_F16) bits = is_nan(x) ? 0x7e00u : to_half(x);
  else bits = is_nan(x) ? nan_bits >> 16 : to_bf16(x);
  static_cast<uint16_t *>(data)[at] = static_cast<uint16_t>(bits);
}

// The first element of a row.
__device__ inline int64_t row_start(const polarc_rows &rows, int64_t row, int64_t head) {
  return row * rows.row_stride + head * rows.head_stride;
}

// A (row, head) pair of a call: rows of one head are neighbours.
struct Item {
  int64_t row, head;
};

__device__ inline Item item_of(int64_t index, int64_t rows) {
  // A division of 64 bits costs several times one of 32.
  if ((static_cast<uint64_t>(index | rows) >> 32) == 0) {
    const uint32_t head = static_cast<uint32_t>(index) / static_cast<uint32_t>(rows);
    return {static_cast<uint32_t>(index) - head * static_cast<uint32_t>(rows), head};
  }
  const int64_t head = index / rows;
  return {index - head * rows, head};
}

// Where a token stands in a pool: its record or tile, and its place there.
struct Place {
  unsigned char *unit; // null: the row is skipped
  int token;
};

template <int unit_tokens>
__device__ inline Place find_place(const polarc_pool &pool, int64_t slot, int64_t head,
                                   uint32_t *flags) {
  // Computed for any slot, so that lanes need not part; the page of a negative one is beyond all.
  constexpr uint64_t tokens = page_tokens;
  const uint64_t at = static_cast<uint64_t>(slot), page = at / tokens, offset = at % tokens;
  const uint64_t start = page * static_cast<uint64_t>(pool.page_stride) +
                         static_cast<uint64_t>(head) * static_cast<uint64_t>(pool.head_stride) +
                         offset / unit_tokens * static_cast<uint64_t>(pool.unit_stride);
  const bool found = page < static_cast<uint64_t>(pool.pages);
  if (!found && slot >= 0) raise_flag(flags, POLARC_SLOT_OUT_OF_RANGE);
  unsigned char *units = static_cast<unsigned char *>(pool.data);
  return {found ? units + start : nullptr, static_cast<int>(offset % unit_tokens)};
}

// A barrier of the threads that work on one vector: a warp, or a block.
template <int threads> __device__ inline void meet() {
  static_assert(threads % 32 == 0, "whole warps");
  if constexpr (threads == 32) __syncwarp();
  else __syncthreads();
}

namespace key {

constexpr int head_dim = 64;
constexpr int depth = 6;   // levels of angles
constexpr int blocks = 1; // top radii of a vector
constexpr int unit_tokens = 32; // tokens of a unit of storage
constexpr int unit_bytes = 1076;
constexpr int record_bits = 269; // of a token
constexpr int record_words = 9;
constexpr int whole_bytes = 33; // of a record; its last bits stand in planes of their own
constexpr int rest_bits = 5;
constexpr bool centred = true;
constexpr float scale = 0.125f; // of the top projections

// Level 1: 5 bits, sign of x, index within the quadrant, sign of y.
constexpr int bits_l1 = 5;
constexpr int nodes_l1 = 32;
constexpr int entries_l1 = 8; // of the codebook
__constant__ float cos_l1[8] = {
    0.9951847f, 0.95694035f, 0.8819213f, 0.77301043f, 0.6343933f, 0.47139674f, 0.29028466f,
    0.09801714f
};
__constant__ float sin_l1[8] = {
    0.09801714f, 0.29028466f, 0.47139674f, 0.6343933f, 0.77301043f, 0.8819213f, 0.95694035f,
    0.9951847f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l1[7] = {
    0.19891237f, 0.41421357f, 0.6681786f, 1.0f, 1.4966058f, 2.4142137f, 5.0273395f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l1([[maybe_unused]] uint32_t i) {
  return 16u + 5u * i;
}

// Level 2: 3 bits, angles in [0, pi/2].
constexpr int bits_l2 = 3;
constexpr int nodes_l2 = 16;
constexpr int entries_l2 = 8; // of the codebook
__constant__ float cos_l2[8] = {
    0.9822959f, 0.928666f, 0.85343534f, 0.76016456f, 0.64973056f, 0.52119875f, 0.37091702f,
    0.18733618f
};
__constant__ float sin_l2[8] = {
    0.18733618f, 0.37091702f, 0.52119875f, 0.64973056f, 0.76016456f, 0.85343534f, 0.928666f,
    0.9822959f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l2[7] = {
    0.29213205f, 0.50059766f, 0.7256627f, 1.0f, 1.3780507f, 1.9976122f, 3.4231095f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l2([[maybe_unused]] uint32_t i) {
  return 176u + 6u * i;
}

// Level 3: 3 bits, angles in [0, pi/2].
constexpr int bits_l3 = 3;
constexpr int nodes_l3 = 8;
constexpr int entries_l3 = 8; // of the codebook
__constant__ float cos_l3[8] = {
    0.9530882f, 0.89012563f, 0.8218942f, 0.7473401f, 0.6644417f, 0.56964016f, 0.4557152f,
    0.30269265f
};
__constant__ float sin_l3[8] = {
    0.30269265f, 0.4557152f, 0.56964016f, 0.6644417f, 0.7473401f, 0.8218942f, 0.89012563f,
    0.9530882f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l3[7] = {
    0.4114595f, 0.5989156f, 0.78642297f, 1.0f, 1.2715803f, 1.6696844f, 2.4303727f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l3([[maybe_unused]] uint32_t i) {
  return 179u + 12u * i;
}

// Level 4: 3 bits, angles in [0, pi/2].
constexpr int bits_l4 = 3;
constexpr int nodes_l4 = 4;
constexpr int entries_l4 = 8; // of the codebook
__constant__ float cos_l4[8] = {
    0.9107246f, 0.8495576f, 0.7931715f, 0.7365301f, 0.6764047f, 0.6089983f, 0.5274959f, 0.41301423f
};
__constant__ float sin_l4[8] = {
    0.41301423f, 0.5274959f, 0.6089983f, 0.6764047f, 0.7365301f, 0.7931715f, 0.8495576f, 0.9107246f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l4[7] = {
    0.5342951f, 0.69183296f, 0.8402965f, 1.0f, 1.1900561f, 1.4454355f, 1.871625f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l4([[maybe_unused]] uint32_t i) {
  return 185u + 24u * i;
}

// Level 5: 3 bits, angles in [0, pi/2].
constexpr int bits_l5 = 3;
constexpr int nodes_l5 = 2;
constexpr int entries_l5 = 8; // of the codebook
__constant__ float cos_l5[8] = {
    0.8660474f, 0.81386167f, 0.77004355f, 0.72826093f, 0.68529993f, 0.6379913f, 0.5810587f,
    0.49996194f
};
__constant__ float sin_l5[8] = {
    0.49996194f, 0.5810587f, 0.6379913f, 0.68529993f, 0.72826093f, 0.77004355f, 0.81386167f,
    0.8660474f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l5[7] = {
    0.6434995f, 0.7696484f, 0.8831925f, 1.0f, 1.132256f, 1.2992947f, 1.5540028f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l5([[maybe_unused]] uint32_t i) {
  return 197u + 48u * i;
}

// Level 6: 3 bits, angles in [0, pi/2].
constexpr int bits_l6 = 3;
constexpr int nodes_l6 = 1;
constexpr int entries_l6 = 8; // of the codebook
__constant__ float cos_l6[8] = {
    0.8266466f, 0.7853663f, 0.7525246f, 0.7221997f, 0.6916846f, 0.65856415f, 0.6190313f, 0.56272143f
};
__constant__ float sin_l6[8] = {
    0.56272143f, 0.6190313f, 0.65856415f, 0.6916846f, 0.7221997f, 0.7525246f, 0.7853663f, 0.8266466f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l6[7] = {
    0.73309135f, 0.8307452f, 0.91559404f, 1.0f, 1.092187f, 1.2037385f, 1.3640864f
};
// First bit of the code of node i.
__constant__ uint32_t code_bit_l6_list[1] = {
  221u
};
__device__ inline uint32_t code_bit_l6([[maybe_unused]] uint32_t i) {
  return code_bit_l6_list[i];
}

constexpr int radius_bits = 16;
// First bit of the radius of block i.
__device__ inline uint32_t radius_bit([[maybe_unused]] uint32_t i) {
  return 0u;
}

constexpr int hadamard_order = 1, hadamard_log2 = 6;
// Bit i: coordinate i changes its sign.
__constant__ uint32_t sign_words[(head_dim + 31) / 32] = {
  3974602407u, 465776514u
};

// ---- Precondition: S x, its dual S^-T x and its inverse S^-1 x, in float32 ----
//
// `threads` threads, a warp or a block, work on a vector in shared memory; `spare` has room for
// another. They met before the call, and the result can be read by all of them after it.

// x with the sign of coordinate i. Of the bits: a device may flush a denormal that it negates.
__device__ inline float with_sign(float x, int i) {
  return as_float(as_bits(x) ^ (sign_words[i / 32] >> i % 32) << 31);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k: lane by lane of `lanes`, which is
// a power of two up to a warp, or all threads. Every operation is rounded once, in the order of
// the format: encode has it from here too.
template <int lanes, int threads>
__device__ inline void butterflies(Shared<float> x, int lane) {
  for (int stride = 1; stride < 1 << hadamard_log2; stride *= 2) {
    for (int pair = lane; pair < head_dim / 2; pair += lanes) {
      const int i = pair + (pair & ~(stride - 1));
      const float a = x[i], b = x[i + stride];
      x[i] = add_rn(a, b);
      x[i + stride] = sub_rn(a, b);
    }
    meet<threads>();
  }
}

// H x, or its transpose, times the scale and, if wanted, the signs.
template <int threads, bool transposed>
__device__ inline void hadamard(Shared<float> x, Shared<float> spare, int thread) {
  butterflies<threads, threads>(x, thread);
  Shared<float> y = x;
  static_cast<void>(spare);
  for (int i = thread; i < head_dim; i += threads) {
    const float scaled = y[i] * scale;
    x[i] = transposed ? with_sign(scaled, i) : scaled;
  }
  meet<threads>();
}

// S = H diag(signs) / sqrt(head_dim).
template <int threads>
__device__ inline void rotate_forward(const polarc_transform &, int64_t, Shared<float> x,
                                      Shared<float> spare, int thread) {
  for (int i = thread; i < head_dim; i += threads) x[i] = with_sign(x[i], i);
  meet<threads>();
  hadamard<threads, false>(x, spare, thread);
}

// S is orthogonal: its own dual.
template <int threads>
__device__ inline void rotate_dual(const polarc_transform &t, int64_t head, Shared<float> x,
                                   Shared<float> spare, int thread) {
  rotate_forward<threads>(t, head, x, spare, thread);
}

template <int threads>
__device__ inline void rotate_inverse(const polarc_transform &, int64_t, Shared<float> x,
                                      Shared<float> spare, int thread) {
  hadamard<threads, true>(x, spare, thread);
}

// ---- Records: a token's bits, as words in shared memory, and where they stand in the pool ----

// Sets a field of a record whose bits there are still zero: of at most 32 bits, then one that lies
// within a word.
[[maybe_unused]] __device__ inline void put_bits(Shared<uint32_t> record, uint32_t bit,
                                                 uint32_t bits) {
  const uint32_t shift = bit % 32u;
  atomicOr(&record[bit / 32u], bits << shift);
  const uint32_t left = bits >> 1u >> (31u - shift); // for the next word
  if (left != 0u) atomicOr(&record[bit / 32u + 1u], left);
}
[[maybe_unused]] __device__ inline void put_within(Shared<uint32_t> record, uint32_t bit,
                                                   uint32_t bits) {
  atomicOr(&record[bit / 32u], bits << bit % 32u);
}

// A field of `width` bits.
template <int width>
__device__ inline uint32_t get_bits(Shared<uint32_t> record, uint32_t bit) {
  constexpr uint32_t mask = 0xffffffffu >> (32 - width);
  const uint32_t shift = bit % 32u;
  uint32_t bits = record[bit / 32u] >> shift;
  if (shift + width > 32u) bits |= record[bit / 32u + 1u] << (32u - shift);
  return bits & mask;
}

template <int width> __device__ inline void clear_bits(Shared<uint32_t> record, uint32_t bit) {
  constexpr uint32_t mask = 0xffffffffu >> (32 - width);
  const uint32_t shift = bit % 32u;
  atomicAnd(&record[bit / 32u], ~(mask << shift));
  if (shift + width > 32u) atomicAnd(&record[bit / 32u + 1u], ~(mask >> (32u - shift)));
}

// Where the last bits of a token stand in a plane of `width` bits a token.
template <int width> struct InPlane {
  int word;
  uint32_t shift;
  static constexpr uint32_t mask = (1u << width) - 1u;
  __device__ explicit InPlane(int token)
      : word(token % (4 * width) / 4),
        shift(static_cast<uint32_t>(token % 4 * 8 + width * (token / (4 * width)))) {}
};

// Other tokens' bits of the same word may be written at the same time.
template <int width>
__device__ inline void store_plane(unsigned char *plane, int token, uint32_t bits) {
  const InPlane<width> at(token);
  uint32_t *word = reinterpret_cast<uint32_t *>(plane) + at.word;
  atomicAnd(word, ~(at.mask << at.shift));
  atomicOr(word, (bits & at.mask) << at.shift);
}

template <int width> __device__ inline uint32_t load_plane(const unsigned char *plane, int token) {
  const InPlane<width> at(token);
  return reinterpret_cast<const uint32_t *>(plane)[at.word] >> at.shift & at.mask;
}

// Byte q of token t is byte 32 q + t of the tile; the last bits stand in planes of their own.
template <int lanes>
__device__ inline void store_record(Place place, Shared<uint32_t> record, int lane) {
  for (int q = lane; q < whole_bytes; q += lanes) {
    const uint32_t word = record[q / 4];
    place.unit[32 * q + place.token] = static_cast<unsigned char>(word >> q % 4 * 8);
  }
  if (lane == 0) {
    const uint32_t rest = record[whole_bytes / 4] >> whole_bytes % 4 * 8;
    unsigned char *planes = place.unit + 32 * whole_bytes;
    store_plane<4>(planes + 0, place.token, rest >> 0u);
    store_plane<1>(planes + 16, place.token, rest >> 4u);
  }
}

__device__ inline void load_record(Place place, Shared<uint32_t> record, int lane) {
  for (int i = lane; i < record_words; i += 32) {
    uint32_t word = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int q = 4 * i + k;
      if (q < whole_bytes)
        word |= static_cast<uint32_t>(place.unit[32 * q + place.token]) << 8 * k;
    }
    if (i == whole_bytes / 4) {
      const unsigned char *planes = place.unit + 32 * whole_bytes;
      uint32_t rest = 0;
      rest |= load_plane<4>(planes + 0, place.token) << 0u;
      rest |= load_plane<1>(planes + 16, place.token) << 4u;
      word |= rest << whole_bytes % 4 * 8;
    }
    record[i] = word;
  }
}

// ---- Encode: rows to packed slots, nearest codeword ----
//
// A lane encodes cells of 16 coordinates, so a row is the work of 4 lanes of a warp. Every
// operation is rounded once, in the order of docs/format.md, and keeps denormals. Fused are exact
// products alone, by 1, -1 and powers of two.

constexpr int cell_size = 16, cells = 4;
constexpr int cell_roots = 1; // projections that a cell passes upwards
constexpr int row_lanes = 4;
constexpr int warp_rows = 32 / row_lanes; // rows of a warp at a time
constexpr int nodes = head_dim - blocks;  // of all levels

// Shared memory of a warp.
constexpr int warp_bytes =
    round_up(warp_rows * cells * cell_roots * 4, 16) +
    round_up(warp_rows * record_words * 4, 16) +
    round_up(warp_rows * head_dim * 4, 16);
constexpr int codebook_bytes = 48 * 16;
constexpr int encode_warps = codebook_bytes + 4 * warp_bytes <= 48 * 1024 ? 4 : 2;
constexpr int encode_threads = 32 * encode_warps;
constexpr int encode_block_rows = encode_warps * warp_rows; // of a block at a time
constexpr unsigned encode_shared_bytes = codebook_bytes + encode_warps * warp_bytes;
static_assert(encode_shared_bytes <= 48 * 1024, "what every device has");

// A coordinate, or 0 for one that could lead to denormals: below 2^-64 the first product would be
// one itself. `back` may have a sign, which the coordinate takes. Both products are exact; adding 0
// makes a -0 positive, so that all signs behind count.
constexpr float there = 0x1p-62f, back_again = 0x1p62f;
__device__ inline float cleaned(float x, float back = back_again) {
  return __fmaf_rn(mul_flushed(x, there), back, 0.0f);
}

// Of a difference that counts: below 2^-50 none does.
__device__ inline float squared(float e) {
  return (as_bits(e) & 0x7fffffffu) < 0x26800000u ? 0.0f : mul_rn(e, e);
}

// A codeword, and the threshold above it. Lanes look at different ones at the same time, which
// shared memory answers at once.
struct alignas(16) Codeword {
  float cos, sin, threshold;
};
// The codewords of a level among those of all levels.
constexpr int codebook_l1 = 0;
constexpr int codebook_l2 = 8;
constexpr int codebook_l3 = 16;
constexpr int codebook_l4 = 24;
constexpr int codebook_l5 = 32;
constexpr int codebook_l6 = 40;

template <int entries>
__device__ inline void copy_codebook(Shared<Codeword> codebook, const float (&cos)[entries],
                                     const float (&sin)[entries], const float *threshold) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < entries; i += encode_threads) {
    codebook[i].cos = cos[i];
    codebook[i].sin = sin[i];
    if (i + 1 < entries) codebook[i].threshold = threshold[i];
  }
}
__device__ inline void copy_codebooks(Shared<Codeword> codewords) {
  copy_codebook(codewords + codebook_l1, cos_l1, sin_l1, threshold_l1);
  copy_codebook(codewords + codebook_l2, cos_l2, sin_l2, threshold_l2);
  copy_codebook(codewords + codebook_l3, cos_l3, sin_l3, threshold_l3);
  copy_codebook(codewords + codebook_l4, cos_l4, sin_l4, threshold_l4);
  copy_codebook(codewords + codebook_l5, cos_l5, sin_l5, threshold_l5);
  copy_codebook(codewords + codebook_l6, cos_l6, sin_l6, threshold_l6);
  __syncthreads();
}

// The number of thresholds t with v > t u, by halving: they ascend. The first two comparisons know
// between what they choose, those behind them look it up.
template <uint32_t entries>
__device__ inline uint32_t nearest(float middle, float lower, float upper,
                                   Shared<Codeword> codebook, float u, float v) {
  constexpr uint32_t half = entries / 2, quarter = entries / 4;
  const bool above = exceeds(v, middle == 1.0f ? u : mul_rn(middle, u));
  uint32_t code = above ? half : 0;
  if constexpr (quarter > 0) {
    add_if_exceeds<quarter>(code, v, mul_rn(above ? upper : lower, u));
  }
#pragma unroll
  for (uint32_t step = quarter / 2; step > 0; step /= 2)
    if (exceeds(v, mul_rn(codebook[code + step - 1].threshold, u))) code += step;
  return code;
}
__device__ inline uint32_t nearest_l1(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l1>(1.0f, 0.41421357f, 2.4142137f,
                             codewords + codebook_l1, u, v);
}
__device__ inline uint32_t nearest_l2(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l2>(1.0f, 0.50059766f, 1.9976122f,
                             codewords + codebook_l2, u, v);
}
__device__ inline uint32_t nearest_l3(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l3>(1.0f, 0.5989156f, 1.6696844f,
                             codewords + codebook_l3, u, v);
}
__device__ inline uint32_t nearest_l4(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l4>(1.0f, 0.69183296f, 1.4454355f,
                             codewords + codebook_l4, u, v);
}
__device__ inline uint32_t nearest_l5(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l5>(1.0f, 0.7696484f, 1.2992947f,
                             codewords + codebook_l5, u, v);
}
__device__ inline uint32_t nearest_l6(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l6>(1.0f, 0.8307452f, 1.2037385f,
                             codewords + codebook_l6, u, v);
}

// Of the codeword nearest to (u, v): the projection, which goes up the tree, and what it loses.
__device__ inline float project(float u, float v, const Codeword &nearest) {
  return add_rn(mul_rn(u, nearest.cos), mul_rn(v, nearest.sin));
}
__device__ inline float loss(float u, float v, const Codeword &nearest) {
  return squared(sub_rn(mul_rn(u, nearest.sin), mul_rn(v, nearest.cos)));
}

// Codes of a cell that keep their distances from cell to cell: where they begin.
__device__ inline uint32_t piece_bit_0([[maybe_unused]] uint32_t i) {
  return 16u + 40u * i;
}

// Codes of a cell that keep their distances from cell to cell: where they begin.
__device__ inline uint32_t piece_bit_1([[maybe_unused]] uint32_t i) {
  return 46u + 40u * i;
}

// Codes of a cell that keep their distances from cell to cell: where they begin.
__device__ inline uint32_t piece_bit_2([[maybe_unused]] uint32_t i) {
  return 176u + 24u * i;
}

// The codes of a cell, bottom up, from its coordinates, none of which is -0, to its projections.
template <bool with_errors>
__device__ inline void encode_cell(float (&x)[cell_size], uint32_t cell,
                                   Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses) {
  uint32_t code_l1[8]; // sign of the first coordinate, index in the quadrant, other sign
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float u = magnitude(x[2 * j]), v = magnitude(x[2 * j + 1]);
    // Opaque: a compiler would shift and mask it where one addition does.
    const uint32_t sign_v = opaque(as_bits(x[2 * j + 1]) >> 31);
    const uint32_t code = nearest_l1(codewords, u, v);
    const Codeword nearest = codewords[codebook_l1 + code];
    const uint32_t index_and_sign = code + (sign_v << (bits_l1 - 2));
    code_l1[j] = __funnelshift_l(as_bits(x[2 * j]), index_and_sign, 1);
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[cell * 8u + j] = loss(u, v, nearest);
  }
  uint32_t code_l2[4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l2[j] = nearest_l2(codewords, u, v);
    const Codeword nearest = codewords[codebook_l2 + code_l2[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[32u + cell * 4u + j] = loss(u, v, nearest);
  }
  uint32_t code_l3[2];
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l3[j] = nearest_l3(codewords, u, v);
    const Codeword nearest = codewords[codebook_l3 + code_l3[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[48u + cell * 2u + j] = loss(u, v, nearest);
  }
  uint32_t code_l4[1];
#pragma unroll
  for (int j = 0; j < 1; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l4[j] = nearest_l4(codewords, u, v);
    const Codeword nearest = codewords[codebook_l4 + code_l4[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[56u + cell * 1u + j] = loss(u, v, nearest);
  }
#pragma unroll
  for (int k = 0; k < cell_roots; k++) roots[cell * cell_roots + k] = x[k];
  put_bits(record, piece_bit_0(cell),
             code_l1[0] + (code_l1[1] << 5u) + (code_l1[2] << 10u) + (code_l1[3] << 15u) +
             (code_l1[4] << 20u) + (code_l1[5] << 25u));
  put_bits(record, piece_bit_1(cell),
             code_l1[6] + (code_l1[7] << 5u));
  put_bits(record, piece_bit_2(cell),
             code_l2[0] + (code_l3[0] << 3u) + (code_l2[1] << 6u) + (code_l4[0] << 9u) +
             (code_l2[2] << 12u) + (code_l3[1] << 15u) + (code_l2[3] << 18u));
}

// Level 5, a lane a node: the projections of its children make place for its own.
template <bool with_errors>
__device__ inline void encode_l5(Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses, int lane) {
  static_assert(nodes_l5 <= row_lanes, "a lane a node");
  const uint32_t node = static_cast<uint32_t>(lane);
  const bool has_node = node < nodes_l5;
  float u = 0.0f, v = 0.0f;
  if (has_node) {
    u = roots[2u * node];
    v = roots[2u * node + 1u];
  }
  __syncwarp();
  if (has_node) {
    const uint32_t code = nearest_l5(codewords, u, v);
    const Codeword nearest = codewords[codebook_l5 + code];
    put_within(record, code_bit_l5(node), code);
    roots[node] = project(u, v, nearest);
    if constexpr (with_errors) losses[60u + node] = loss(u, v, nearest);
  }
  __syncwarp();
}

// Level 6, a lane a node: the projections of its children make place for its own.
template <bool with_errors>
__device__ inline void encode_l6(Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses, int lane) {
  static_assert(nodes_l6 <= row_lanes, "a lane a node");
  const uint32_t node = static_cast<uint32_t>(lane);
  const bool has_node = node < nodes_l6;
  float u = 0.0f, v = 0.0f;
  if (has_node) {
    u = roots[2u * node];
    v = roots[2u * node + 1u];
  }
  __syncwarp();
  if (has_node) {
    const uint32_t code = nearest_l6(codewords, u, v);
    const Codeword nearest = codewords[codebook_l6 + code];
    put_within(record, code_bit_l6(node), code);
    roots[node] = project(u, v, nearest);
    if constexpr (with_errors) losses[62u + node] = loss(u, v, nearest);
  }
  __syncwarp();
}

// A block's radius: its projection in the scale of the vector.
__device__ inline float radius_of(float projection) {
  return mul_rn(projection, scale);
}

// A radius as it is stored, and what it decodes to. It is never negative; beyond the largest it is
// the largest.
struct Stored {
  uint32_t bits;
  float decoded;
};
constexpr uint32_t lost_radius = 0x7e00u; // of a block that is not finite
__device__ inline Stored nearest_radius(float radius) {
  const uint32_t half = to_half(radius);
  const uint32_t bits = half < 0x7bffu ? half : 0x7bffu;
  return {bits, from_half(static_cast<uint16_t>(bits))};
}

// Stores the radii of a row. Its lanes are told whether one of their projections is not finite.
template <bool with_errors>
__device__ inline bool encode_radii(Shared<uint32_t> record, Shared<float> roots,
                                    Shared<float> losses, int lane) {
  bool lost = false;
  for (int block = lane; block < blocks; block += row_lanes) {
    const float radius = radius_of(roots[block]);
    const bool finite = is_finite(roots[block]);
    const Stored stored = nearest_radius(radius);
    put_within(record, radius_bit(block), finite ? stored.bits : lost_radius);
    if constexpr (with_errors) losses[nodes + block] = squared(sub_rn(radius, stored.decoded));
    lost |= !finite;
  }
  return lost;
}

// A row with a projection that is not finite: every code below that is 0.
__device__ inline void clear_lost(Shared<uint32_t> record, Shared<float> roots, int lane) {
#pragma unroll 1
  for (int node = lane; node < nodes_l1; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l1 / blocks)]))
      clear_bits<bits_l1>(record, code_bit_l1(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l2; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l2 / blocks)]))
      clear_bits<bits_l2>(record, code_bit_l2(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l3; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l3 / blocks)]))
      clear_bits<bits_l3>(record, code_bit_l3(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l4; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l4 / blocks)]))
      clear_bits<bits_l4>(record, code_bit_l4(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l5; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l5 / blocks)]))
      clear_bits<bits_l5>(record, code_bit_l5(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l6; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l6 / blocks)]))
      clear_bits<bits_l6>(record, code_bit_l6(node));
}


// Whether a lane of the row says so. All lanes of the warp ask.
__device__ inline bool any_of_row(bool said, int warp_row) {
  const uint32_t lanes = __ballot_sync(all_lanes, said);
  return (lanes >> warp_row * row_lanes & all_lanes >> (32 - row_lanes)) != 0;
}

// The squared error of a row, in the order of the format.
__device__ inline float sum_losses(Shared<float> losses) {
  float error = 0.0f;
#pragma unroll 8
  for (int i = 0; i < nodes; i++) error = add_rn(error, losses[i]);
  error = mul_rn(error, 0.015625f); // scale * scale
#pragma unroll 8
  for (int i = nodes; i < head_dim; i++) error = add_rn(error, losses[i]);
  return error;
}

// The coordinates of a cell: centred, clean, with their signs.
__device__ inline void load_cell(const polarc_encode_params &p, const Item &item, uint32_t cell,
                                 const float (&backs)[cell_size], float (&x)[cell_size]) {
  load_elements(p.rows.data, p.rows.dtype,
                row_start(p.rows, item.row, item.head) + cell * cell_size, x);
  float mean[cell_size];
  load_elements(p.transform.mean, POLARC_F32, item.head * head_dim + cell * cell_size, mean);
#pragma unroll
  for (int k = 0; k < cell_size; k++) {
    x[k] = sub_rn(x[k], mean[k]);
    x[k] = cleaned(x[k], backs[k]);
  }
}

// Strides within a cell, then those from lane to lane: all lanes of the warp take part.
__device__ inline void precondition(float (&x)[cell_size], int lane) {
#pragma unroll
  for (int stride = 1; stride < cell_size; stride *= 2) {
#pragma unroll
    for (int i = 0; i < cell_size; i++) {
      if ((i & stride) != 0) continue;
      const float a = x[i], b = x[i + stride];
      x[i] = add_rn(a, b);
      x[i + stride] = sub_rn(a, b);
    }
  }
#pragma unroll
  for (int apart = 1; apart < row_lanes; apart *= 2) {
    // The upper one of two lanes subtracts itself: a product by 1 or -1 is exact.
    const float sign = lane & apart ? -1.0f : 1.0f;
#pragma unroll
    for (int k = 0; k < cell_size; k++) {
      const float other = __shfl_xor_sync(all_lanes, x[k], apart);
      x[k] = __fmaf_rn(x[k], sign, other);
    }
  }
}

template <bool with_errors> __device__ inline void encode_rows(const polarc_encode_params &p) {
  // From unsigned numbers: the compiler sees their ranges, and how often loops over them run.
  const uint32_t thread = threadIdx.x;
  const int warp = static_cast<int>(thread / 32u);
  const int lane = static_cast<int>(thread % row_lanes);
  const int warp_row = static_cast<int>(thread % 32u / row_lanes);
  const int block_row = warp * warp_rows + warp_row;
  constexpr int block_rows = encode_block_rows;

  SharedMemory memory;
  Shared<Codeword> codewords = memory.take<Codeword>(48);
  copy_codebooks(codewords);
  Shared<float> losses = memory.take<float>(block_rows * head_dim) + block_row * head_dim;
  Shared<float> roots = memory.take<float>(block_rows * cells * cell_roots) +
                        block_row * cells * cell_roots;
  Shared<uint32_t> record = memory.take<uint32_t>(block_rows * record_words) +
                            block_row * record_words;

  static_assert(cells == row_lanes, "a lane a cell");
  const uint32_t cell = static_cast<uint32_t>(lane);
  const uint32_t signs = sign_words[cell * cell_size / 32u] >> cell * cell_size % 32u;
  float backs[cell_size];
#pragma unroll
  for (int k = 0; k < cell_size; k++) // opaque: kept, not made anew for every row
    backs[k] = as_float(opaque(as_bits(back_again) ^ signs >> k << 31));

  const int64_t items = p.count * (p.head_end - p.head_begin);
  int64_t first = static_cast<int64_t>(blockIdx.x) * block_rows + warp * warp_rows;
  if (first >= items) return;
  // A division for the first rows and one for the distance from trip to trip: none in the loop.
  const int64_t step = static_cast<int64_t>(gridDim.x) * block_rows;
  const Item ahead = item_of(step, p.count);
  Item next = item_of(first + warp_row, p.count);
  next.head += p.head_begin;
  for (; first < items; first += step) {
    // Lanes without a row, and those of one that is skipped, go along with some row: they are
    // needed, what they find is not.
    const bool has_row = next.head < p.head_end;
    const Item item = has_row ? next : Item{0, p.head_begin};
    const int64_t slot = has_row ? p.slots[item.row] : -1;
    next = {next.row + ahead.row, next.head + ahead.head};
    if (next.row >= p.count) next = {next.row - p.count, next.head + 1};

    float x[cell_size];
    load_cell(p, item, cell, backs, x);
    const Place place = find_place<unit_tokens>(p.cache, slot, item.head,
                                                lane == 0 ? p.flags : nullptr);
    for (int i = lane; i < record_words; i += row_lanes) record[i] = 0;
    precondition(x, lane);
    __syncwarp();
    encode_cell<with_errors>(x, cell, codewords, record, roots, losses);
    __syncwarp();
    encode_l5<with_errors>(codewords, record, roots, losses, lane);
    encode_l6<with_errors>(codewords, record, roots, losses, lane);

    const bool lost = encode_radii<with_errors>(record, roots, losses, lane);
    const bool row_lost = any_of_row(lost, warp_row);
    __syncwarp();
    if (row_lost) clear_lost(record, roots, lane);
    __syncwarp();

    if (place.unit) {
      store_record<row_lanes>(place, record, lane);
      if constexpr (with_errors) {
        if (lane == 0)
          p.errors[item.row * p.kv_heads + item.head] =
              row_lost ? as_float(infinity_bits) : sum_losses(losses);
      }
    }
    __syncwarp();
  }
}

// Twelve warps a multiprocessor are enough: for more the compiler would spill registers.
extern "C" __global__ void __launch_bounds__(encode_threads, 12 / encode_warps)
small_d64_cuda_kernel_encode_key(const __grid_constant__ polarc_encode_params a) {
  if (a.errors) encode_rows<true>(a);
  else encode_rows<false>(a);
}

// ---- Decode: packed slots to rows, original or preconditioned, a warp a row ----

constexpr int decode_warps = 4;
constexpr int decode_threads = 32 * decode_warps;
constexpr int decode_block_rows = decode_warps; // of a block at a time
constexpr unsigned decode_shared_bytes =
    3u * round_up(decode_warps * head_dim * 4, 16) +
    round_up(decode_warps * record_words * 4, 16);

// What the radius of a block decodes to.
__device__ inline float decode_radius(Shared<uint32_t> record, int block) {
  const uint32_t bits = get_bits<radius_bits>(record, radius_bit(block));
  return from_half(static_cast<uint16_t>(bits));
}

// A record to x, in the preconditioned space: from the radii down.
__device__ inline void decode_record(Shared<uint32_t> record, Shared<float> x,
                                     Shared<float> nodes, int lane) {
  for (int block = lane; block < blocks; block += 32) nodes[block] = decode_radius(record, block);
  __syncwarp();
  // Level 6: a node's radius becomes those of its two children.
  {
    static_assert(nodes_l6 <= 32, "a lane a node");
    const uint32_t node = static_cast<uint32_t>(lane);
    const bool has_node = node < nodes_l6;
    const float radius = has_node ? nodes[node] : 0.0f;
    __syncwarp();
    if (has_node) {
      const uint32_t code = get_bits<bits_l6>(record, code_bit_l6(node));
      nodes[2u * node] = radius * cos_l6[code];
      nodes[2u * node + 1u] = radius * sin_l6[code];
    }
    __syncwarp();
  }
  // Level 5: a node's radius becomes those of its two children.
  {
    static_assert(nodes_l5 <= 32, "a lane a node");
    const uint32_t node = static_cast<uint32_t>(lane);
    const bool has_node = node < nodes_l5;
    const float radius = has_node ? nodes[node] : 0.0f;
    __syncwarp();
    if (has_node) {
      const uint32_t code = get_bits<bits_l5>(record, code_bit_l5(node));
      nodes[2u * node] = radius * cos_l5[code];
      nodes[2u * node + 1u] = radius * sin_l5[code];
    }
    __syncwarp();
  }
  for (uint32_t cell = static_cast<uint32_t>(lane); cell < cells; cell += 32u) {
    float y[cell_size];
#pragma unroll
    for (int k = 0; k < cell_roots; k++) y[k] = nodes[cell * cell_roots + k];
#pragma unroll
    for (int j = 1 - 1; j >= 0; j--) {
      const uint32_t node = cell * 1u + j;
      const uint32_t code = get_bits<bits_l4>(record, code_bit_l4(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l4[code];
      y[2 * j + 1] = radius * sin_l4[code];
    }
#pragma unroll
    for (int j = 2 - 1; j >= 0; j--) {
      const uint32_t node = cell * 2u + j;
      const uint32_t code = get_bits<bits_l3>(record, code_bit_l3(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l3[code];
      y[2 * j + 1] = radius * sin_l3[code];
    }
#pragma unroll
    for (int j = 4 - 1; j >= 0; j--) {
      const uint32_t node = cell * 4u + j;
      const uint32_t code = get_bits<bits_l2>(record, code_bit_l2(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l2[code];
      y[2 * j + 1] = radius * sin_l2[code];
    }
    // Level 1 has signs, and an index within the quadrant.
#pragma unroll
    for (int j = 0; j < cell_size / 2; j++) {
      const uint32_t node = cell * (cell_size / 2u) + j;
      const uint32_t code = get_bits<bits_l1>(record, code_bit_l1(node));
      const uint32_t m = code >> 1 & (entries_l1 - 1u);
      const float u = y[j] * cos_l1[m], v = y[j] * sin_l1[m];
      const uint32_t sign_u = bits_l1 > 1 ? code << 31 : 0u, sign_v = code >> (bits_l1 - 1) << 31;
      x[2u * node] = as_float(as_bits(u) ^ sign_u);
      x[2u * node + 1u] = as_float(as_bits(v) ^ sign_v);
    }
  }
  __syncwarp();
}

extern "C" __global__ void __launch_bounds__(decode_threads, 4)
small_d64_cuda_kernel_decode_key(const __grid_constant__ polarc_decode_params a) {
  const int warp = static_cast<int>(threadIdx.x / 32u), lane = static_cast<int>(threadIdx.x % 32u);
  SharedMemory memory;
  Shared<float> x = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<float> spare = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<float> mean = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<uint32_t> record = memory.take<uint32_t>(decode_warps * record_words) +
                            warp * record_words;

  const bool original = a.basis == POLARC_ORIGINAL;
  const int64_t items = a.count * (a.head_end - a.head_begin);
  const int64_t step = static_cast<int64_t>(gridDim.x) * decode_warps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * decode_warps + warp; i < items; i += step) {
    Item item = item_of(i, a.count);
    item.head += a.head_begin;
    const Place place = find_place<unit_tokens>(a.cache, a.slots[item.row], item.head,
                                                lane == 0 ? a.flags : nullptr);
    if (!place.unit) continue;
    load_record(place, record, lane);
    for (int k = lane; k < head_dim; k += 32) mean[k] = a.transform.mean[item.head * head_dim + k];
    __syncwarp();
    if (!original) rotate_forward<32>(a.transform, item.head, mean, spare, lane);
    __syncwarp();
    decode_record(record, x, spare, lane);
    if (original) rotate_inverse<32>(a.transform, item.head, x, spare, lane);
    const int64_t to = row_start(a.rows, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32)
      store_element(a.rows.data, a.rows.dtype, to + k, x[k] + mean[k]);
    __syncwarp();
  }
}

// ---- Rotate: S x, S^-T x or S^-1 x of rows, a warp a row ----

constexpr int rotate_warps = 4;
constexpr int rotate_threads = 32 * rotate_warps;
constexpr int rotate_block_rows = rotate_warps; // of a block at a time
constexpr unsigned rotate_shared_bytes = 2u * round_up(rotate_warps * head_dim * 4, 16);

extern "C" __global__ void __launch_bounds__(rotate_threads, 4)
small_d64_cuda_kernel_rotate_key(const __grid_constant__ polarc_rotate_params a) {
  const int warp = static_cast<int>(threadIdx.x / 32u), lane = static_cast<int>(threadIdx.x % 32u);
  SharedMemory memory;
  Shared<float> x = memory.take<float>(rotate_warps * head_dim) + warp * head_dim;
  Shared<float> spare = memory.take<float>(rotate_warps * head_dim) + warp * head_dim;

  const int64_t items = a.count * a.heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * rotate_warps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * rotate_warps + warp; i < items; i += step) {
    const Item item = item_of(i, a.count);
    const int64_t head = item.head / a.heads_per_kv;
    const int64_t from = row_start(a.in, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32) x[k] = load_element(a.in.data, a.in.dtype, from + k);
    __syncwarp();
    if (a.rotation == POLARC_FORWARD) rotate_forward<32>(a.transform, head, x, spare, lane);
    else if (a.rotation == POLARC_DUAL) rotate_dual<32>(a.transform, head, x, spare, lane);
    else rotate_inverse<32>(a.transform, head, x, spare, lane);
    const int64_t to = row_start(a.out, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32)
      store_element(a.out.data, a.out.dtype, to + k, x[k]);
    __syncwarp();
  }
}

// ---- Cells: 4 of 16 coordinates, each decoded at once by the threads that attend ----

// Cosine and sine of a code of level 1, with the signs of its two coordinates.
__device__ inline float2 direction_l1(uint32_t code) {
  const uint32_t magnitude = code >> 1 & (entries_l1 - 1);
  const bool left = bits_l1 > 1 && (code & 1u), down = code >> (bits_l1 - 1) & 1u;
  const float c = cos_l1[magnitude], s = sin_l1[magnitude];
  return make_float2(left ? -c : c, down ? -s : s);
}

// Cosine and sine of a code of level 2.
__device__ inline float2 direction_l2(uint32_t code) {
  return make_float2(cos_l2[code], sin_l2[code]);
}

// Cosine and sine of a code of level 3.
__device__ inline float2 direction_l3(uint32_t code) {
  return make_float2(cos_l3[code], sin_l3[code]);
}

// Cosine and sine of a code of level 4.
__device__ inline float2 direction_l4(uint32_t code) {
  return make_float2(cos_l4[code], sin_l4[code]);
}

// Cosine and sine of a code of level 5.
__device__ inline float2 direction_l5(uint32_t code) {
  return make_float2(cos_l5[code], sin_l5[code]);
}

// Cosine and sine of a code of level 6.
__device__ inline float2 direction_l6(uint32_t code) {
  return make_float2(cos_l6[code], sin_l6[code]);
}

__device__ inline float2 times(float factor, float2 direction) {
  return make_float2(factor * direction.x, factor * direction.y);
}

// Cosines and sines by code, in shared memory.
struct Tables {
  Shared<float2> l1; // [32]
  Shared<float2> l2; // [8]
  Shared<float2> l3; // [8]
  Shared<float2> l4; // [8]
  Shared<float2> l5; // [8]
  Shared<float2> l6; // [8]
};
constexpr unsigned table_bytes = 576;

__device__ inline Tables take_tables(SharedMemory &memory) {
  Tables tables;
  tables.l1 = memory.take<float2>(32);
  tables.l2 = memory.take<float2>(8);
  tables.l3 = memory.take<float2>(8);
  tables.l4 = memory.take<float2>(8);
  tables.l5 = memory.take<float2>(8);
  tables.l6 = memory.take<float2>(8);
  return tables;
}

// By all threads of a block; a barrier must follow.
template <int threads> __device__ inline void fill_tables(const Tables &tables, int thread) {
  for (int i = thread; i < 32; i += threads)
    tables.l1[i] = direction_l1(i);
  for (int i = thread; i < 8; i += threads)
    tables.l2[i] = direction_l2(i);
  for (int i = thread; i < 8; i += threads)
    tables.l3[i] = direction_l3(i);
  for (int i = thread; i < 8; i += threads)
    tables.l4[i] = direction_l4(i);
  for (int i = thread; i < 8; i += threads)
    tables.l5[i] = direction_l5(i);
  for (int i = thread; i < 8; i += threads)
    tables.l6[i] = direction_l6(i);
}

// A byte of the record of a token in a tile.
__device__ inline uint32_t whole_byte(const unsigned char *unit, uint32_t token, uint32_t byte) {
  return unit[32 * byte + token];
}

// The same where it may be the last bits of the record, or lie behind them and count for nothing.
__device__ inline uint32_t record_byte(const unsigned char *unit, uint32_t token, uint32_t byte) {
  if (byte >= whole_bytes) {
    const unsigned char *in_planes = unit + 32 * whole_bytes;
    uint32_t rest = 0;
    rest |= load_plane<4>(in_planes + 0, static_cast<int>(token)) << 0u;
    rest |= load_plane<1>(in_planes + 16, static_cast<int>(token)) << 4u;
    return rest;
  }
  return whole_byte(unit, token, byte);
}

// At least 8 bits of a record from the given one on.
[[maybe_unused]] __device__ inline uint32_t cell_field(const unsigned char *unit, uint32_t token,
                                                       uint32_t bit) {
  const uint32_t byte = bit / 8u;
  return (record_byte(unit, token, byte) | record_byte(unit, token, byte + 1) << 8) >> bit % 8u;
}

// Bits of a record from the given one to the end of its byte.
[[maybe_unused]] __device__ inline uint32_t cell_field_within(const unsigned char *unit,
                                                              uint32_t token, uint32_t bit) {
  return record_byte(unit, token, bit / 8u) >> bit % 8u;
}

// The 16 or 32 bits of a radius.
[[maybe_unused]] __device__ inline uint32_t whole_field(const unsigned char *unit, uint32_t token,
                                                        uint32_t bit, uint32_t width) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < width / 8; i++)
    bits |= whole_byte(unit, token, bit / 8u + i) << 8 * i;
  return bits;
}

// What a stored radius stands for.
__device__ inline float radius_of(uint32_t bits) {
  return from_half(static_cast<uint16_t>(bits));
}

// First bit of what `codes` below are cut from, cell by cell.
__device__ inline uint32_t cell_codes_bit([[maybe_unused]] uint32_t i) {
  return 16u + 40u * i;
}

// First bit of what `codes_1` below are cut from, cell by cell.
__device__ inline uint32_t cell_codes_1_bit([[maybe_unused]] uint32_t i) {
  return 176u + 24u * i;
}

struct Cell {
  static constexpr int size = 16, count = 4; // coordinates; cells
  float radius;
  float x[size]; // to be multiplied with it
};

// A cell of the token at this place of its unit.
__device__ inline Cell decode_cell(const Tables &tables, const unsigned char *unit,
                                   uint32_t token, uint32_t cell) {
  const uint32_t codes_from = cell_codes_bit(cell);
  const uint32_t codes_at = codes_from / 8u;
  const uint32_t codes_0 =
      whole_byte(unit, token, codes_at) |
      whole_byte(unit, token, codes_at + 1u) << 8u |
      whole_byte(unit, token, codes_at + 2u) << 16u |
      whole_byte(unit, token, codes_at + 3u) << 24u;
  const uint32_t codes_1 =
      whole_byte(unit, token, codes_at + 4u);
  const uint32_t codes_1_from = cell_codes_1_bit(cell);
  const uint32_t codes_1_at = codes_1_from / 8u;
  const uint32_t codes_1_0 =
      whole_byte(unit, token, codes_1_at) |
      whole_byte(unit, token, codes_1_at + 1u) << 8u |
      record_byte(unit, token, codes_1_at + 2u) << 16u;

  Cell decoded;
  const uint32_t radius_at = radius_bit(cell >> 2u);
  decoded.radius = radius_of(whole_field(unit, token, radius_at, radius_bits));
  const uint32_t code_l5 =
      cell_field_within(unit, token, code_bit_l5(cell >> 1u)) & 7u;
  const float2 pair_l5 = tables.l5[code_l5];
  decoded.radius *= (cell >> 0u) & 1u ? pair_l5.y : pair_l5.x;
  const uint32_t code_l6 =
      cell_field_within(unit, token, code_bit_l6(cell >> 2u)) & 7u;
  const float2 pair_l6 = tables.l6[code_l6];
  decoded.radius *= (cell >> 1u) & 1u ? pair_l6.y : pair_l6.x;
  const float2 pair_l4_0 = tables.l4[(codes_1_0 >> 9u) & 7u];
  const float radius_l3_0 = pair_l4_0.x, radius_l3_1 = pair_l4_0.y;
  const float2 pair_l3_0 =
      times(radius_l3_0, tables.l3[(codes_1_0 >> 3u) & 7u]);
  const float radius_l2_0 = pair_l3_0.x, radius_l2_1 = pair_l3_0.y;
  const float2 pair_l3_1 =
      times(radius_l3_1, tables.l3[(codes_1_0 >> 15u) & 7u]);
  const float radius_l2_2 = pair_l3_1.x, radius_l2_3 = pair_l3_1.y;
  const float2 pair_l2_0 =
      times(radius_l2_0, tables.l2[codes_1_0 & 7u]);
  const float2 pair_l2_1 =
      times(radius_l2_1, tables.l2[(codes_1_0 >> 6u) & 7u]);
  const float2 pair_l2_2 =
      times(radius_l2_2, tables.l2[(codes_1_0 >> 12u) & 7u]);
  const float2 pair_l2_3 =
      times(radius_l2_3, tables.l2[(codes_1_0 >> 18u) & 7u]);
  const float2 pair_l1_0 = tables.l1[codes_0 & 31u];
  const float2 pair_l1_1 = tables.l1[(codes_0 >> 5u) & 31u];
  const float2 pair_l1_2 = tables.l1[(codes_0 >> 10u) & 31u];
  const float2 pair_l1_3 = tables.l1[(codes_0 >> 15u) & 31u];
  const float2 pair_l1_4 = tables.l1[(codes_0 >> 20u) & 31u];
  const float2 pair_l1_5 = tables.l1[(codes_0 >> 25u) & 31u];
  const float2 pair_l1_6 = tables.l1[((codes_0 >> 30u) | (codes_1 << 2u)) & 31u];
  const float2 pair_l1_7 = tables.l1[(codes_1 >> 3u) & 31u];
  decoded.x[0] = pair_l1_0.x * pair_l2_0.x;
  decoded.x[1] = pair_l1_0.y * pair_l2_0.x;
  decoded.x[2] = pair_l1_1.x * pair_l2_0.y;
  decoded.x[3] = pair_l1_1.y * pair_l2_0.y;
  decoded.x[4] = pair_l1_2.x * pair_l2_1.x;
  decoded.x[5] = pair_l1_2.y * pair_l2_1.x;
  decoded.x[6] = pair_l1_3.x * pair_l2_1.y;
  decoded.x[7] = pair_l1_3.y * pair_l2_1.y;
  decoded.x[8] = pair_l1_4.x * pair_l2_2.x;
  decoded.x[9] = pair_l1_4.y * pair_l2_2.x;
  decoded.x[10] = pair_l1_5.x * pair_l2_2.y;
  decoded.x[11] = pair_l1_5.y * pair_l2_2.y;
  decoded.x[12] = pair_l1_6.x * pair_l2_3.x;
  decoded.x[13] = pair_l1_6.y * pair_l2_3.x;
  decoded.x[14] = pair_l1_7.x * pair_l2_3.y;
  decoded.x[15] = pair_l1_7.y * pair_l2_3.y;
  return decoded;
}

} // namespace key

namespace value {

constexpr int head_dim = 64;
constexpr int depth = 6;   // levels of angles
constexpr int blocks = 1; // top radii of a vector
constexpr int unit_tokens = 32; // tokens of a unit of storage
constexpr int unit_bytes = 824;
constexpr int record_bits = 206; // of a token
constexpr int record_words = 7;
constexpr int whole_bytes = 25; // of a record; its last bits stand in planes of their own
constexpr int rest_bits = 6;
constexpr bool centred = true;
constexpr float scale = 0.125f; // of the top projections

// Level 1: 4 bits, sign of x, index within the quadrant, sign of y.
constexpr int bits_l1 = 4;
constexpr int nodes_l1 = 32;
constexpr int entries_l1 = 4; // of the codebook
__constant__ float cos_l1[4] = {
    0.98078525f, 0.8314696f, 0.55557024f, 0.19509032f
};
__constant__ float sin_l1[4] = {
    0.19509032f, 0.55557024f, 0.8314696f, 0.98078525f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l1[3] = {
    0.41421357f, 1.0f, 2.4142137f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l1([[maybe_unused]] uint32_t i) {
  return 16u + 4u * i;
}

// Level 2: 2 bits, angles in [0, pi/2].
constexpr int bits_l2 = 2;
constexpr int nodes_l2 = 16;
constexpr int entries_l2 = 4; // of the codebook
__constant__ float cos_l2[4] = {
    0.95240796f, 0.80567616f, 0.5923562f, 0.30482638f
};
__constant__ float sin_l2[4] = {
    0.30482638f, 0.5923562f, 0.80567616f, 0.95240796f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l2[3] = {
    0.51031834f, 1.0f, 1.9595611f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l2([[maybe_unused]] uint32_t i) {
  return 144u + 4u * i;
}

// Level 3: 2 bits, angles in [0, pi/2].
constexpr int bits_l3 = 2;
constexpr int nodes_l3 = 8;
constexpr int entries_l3 = 4; // of the codebook
__constant__ float cos_l3[4] = {
    0.91052276f, 0.7810911f, 0.62441707f, 0.41345897f
};
__constant__ float sin_l3[4] = {
    0.41345897f, 0.62441707f, 0.7810911f, 0.91052276f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l3[3] = {
    0.61354196f, 1.0f, 1.6298804f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l3([[maybe_unused]] uint32_t i) {
  return 146u + 8u * i;
}

// Level 4: 2 bits, angles in [0, pi/2].
constexpr int bits_l4 = 2;
constexpr int nodes_l4 = 4;
constexpr int entries_l4 = 4; // of the codebook
__constant__ float cos_l4[4] = {
    0.8657176f, 0.7610219f, 0.64872617f, 0.5005328f
};
__constant__ float sin_l4[4] = {
    0.5005328f, 0.64872617f, 0.7610219f, 0.8657176f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l4[3] = {
    0.70648f, 1.0f, 1.4154682f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l4([[maybe_unused]] uint32_t i) {
  return 150u + 16u * i;
}

// Level 5: 2 bits, angles in [0, pi/2].
constexpr int bits_l5 = 2;
constexpr int nodes_l5 = 2;
constexpr int entries_l5 = 4; // of the codebook
__constant__ float cos_l5[4] = {
    0.82617986f, 0.7458723f, 0.66608894f, 0.56340647f
};
__constant__ float sin_l5[4] = {
    0.56340647f, 0.66608894f, 0.7458723f, 0.82617986f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l5[3] = {
    0.78209585f, 1.0f, 1.2786157f
};
// First bit of the code of node i.
__device__ inline uint32_t code_bit_l5([[maybe_unused]] uint32_t i) {
  return 158u + 32u * i;
}

// Level 6: 2 bits, angles in [0, pi/2].
constexpr int bits_l6 = 2;
constexpr int nodes_l6 = 1;
constexpr int entries_l6 = 4; // of the codebook
__constant__ float cos_l6[4] = {
    0.79454374f, 0.73480064f, 0.67828315f, 0.60720694f
};
__constant__ float sin_l6[4] = {
    0.60720694f, 0.67828315f, 0.73480064f, 0.79454374f
};
// Tangents of the mid-angles: a code is the number of thresholds t with v > t * u.
__constant__ float threshold_l6[3] = {
    0.8405498f, 1.0f, 1.1896975f
};
// First bit of the code of node i.
__constant__ uint32_t code_bit_l6_list[1] = {
  174u
};
__device__ inline uint32_t code_bit_l6([[maybe_unused]] uint32_t i) {
  return code_bit_l6_list[i];
}

constexpr int radius_bits = 16;
// First bit of the radius of block i.
__device__ inline uint32_t radius_bit([[maybe_unused]] uint32_t i) {
  return 0u;
}

constexpr int hadamard_order = 1, hadamard_log2 = 6;
// Bit i: coordinate i changes its sign.
__constant__ uint32_t sign_words[(head_dim + 31) / 32] = {
  3974602407u, 465776514u
};

// ---- Precondition: S x, its dual S^-T x and its inverse S^-1 x, in float32 ----
//
// `threads` threads, a warp or a block, work on a vector in shared memory; `spare` has room for
// another. They met before the call, and the result can be read by all of them after it.

// x with the sign of coordinate i. Of the bits: a device may flush a denormal that it negates.
__device__ inline float with_sign(float x, int i) {
  return as_float(as_bits(x) ^ (sign_words[i / 32] >> i % 32) << 31);
}

// Sums and differences over strides 1, 2, 4 ... of runs of 2^k: lane by lane of `lanes`, which is
// a power of two up to a warp, or all threads. Every operation is rounded once, in the order of
// the format: encode has it from here too.
template <int lanes, int threads>
__device__ inline void butterflies(Shared<float> x, int lane) {
  for (int stride = 1; stride < 1 << hadamard_log2; stride *= 2) {
    for (int pair = lane; pair < head_dim / 2; pair += lanes) {
      const int i = pair + (pair & ~(stride - 1));
      const float a = x[i], b = x[i + stride];
      x[i] = add_rn(a, b);
      x[i + stride] = sub_rn(a, b);
    }
    meet<threads>();
  }
}

// H x, or its transpose, times the scale and, if wanted, the signs.
template <int threads, bool transposed>
__device__ inline void hadamard(Shared<float> x, Shared<float> spare, int thread) {
  butterflies<threads, threads>(x, thread);
  Shared<float> y = x;
  static_cast<void>(spare);
  for (int i = thread; i < head_dim; i += threads) {
    const float scaled = y[i] * scale;
    x[i] = transposed ? with_sign(scaled, i) : scaled;
  }
  meet<threads>();
}

// S = H diag(signs) / sqrt(head_dim).
template <int threads>
__device__ inline void rotate_forward(const polarc_transform &, int64_t, Shared<float> x,
                                      Shared<float> spare, int thread) {
  for (int i = thread; i < head_dim; i += threads) x[i] = with_sign(x[i], i);
  meet<threads>();
  hadamard<threads, false>(x, spare, thread);
}

// S is orthogonal: its own dual.
template <int threads>
__device__ inline void rotate_dual(const polarc_transform &t, int64_t head, Shared<float> x,
                                   Shared<float> spare, int thread) {
  rotate_forward<threads>(t, head, x, spare, thread);
}

template <int threads>
__device__ inline void rotate_inverse(const polarc_transform &, int64_t, Shared<float> x,
                                      Shared<float> spare, int thread) {
  hadamard<threads, true>(x, spare, thread);
}

// ---- Records: a token's bits, as words in shared memory, and where they stand in the pool ----

// Sets a field of a record whose bits there are still zero: of at most 32 bits, then one that lies
// within a word.
[[maybe_unused]] __device__ inline void put_bits(Shared<uint32_t> record, uint32_t bit,
                                                 uint32_t bits) {
  const uint32_t shift = bit % 32u;
  atomicOr(&record[bit / 32u], bits << shift);
  const uint32_t left = bits >> 1u >> (31u - shift); // for the next word
  if (left != 0u) atomicOr(&record[bit / 32u + 1u], left);
}
[[maybe_unused]] __device__ inline void put_within(Shared<uint32_t> record, uint32_t bit,
                                                   uint32_t bits) {
  atomicOr(&record[bit / 32u], bits << bit % 32u);
}

// A field of `width` bits.
template <int width>
__device__ inline uint32_t get_bits(Shared<uint32_t> record, uint32_t bit) {
  constexpr uint32_t mask = 0xffffffffu >> (32 - width);
  const uint32_t shift = bit % 32u;
  uint32_t bits = record[bit / 32u] >> shift;
  if (shift + width > 32u) bits |= record[bit / 32u + 1u] << (32u - shift);
  return bits & mask;
}

template <int width> __device__ inline void clear_bits(Shared<uint32_t> record, uint32_t bit) {
  constexpr uint32_t mask = 0xffffffffu >> (32 - width);
  const uint32_t shift = bit % 32u;
  atomicAnd(&record[bit / 32u], ~(mask << shift));
  if (shift + width > 32u) atomicAnd(&record[bit / 32u + 1u], ~(mask >> (32u - shift)));
}

// Where the last bits of a token stand in a plane of `width` bits a token.
template <int width> struct InPlane {
  int word;
  uint32_t shift;
  static constexpr uint32_t mask = (1u << width) - 1u;
  __device__ explicit InPlane(int token)
      : word(token % (4 * width) / 4),
        shift(static_cast<uint32_t>(token % 4 * 8 + width * (token / (4 * width)))) {}
};

// Other tokens' bits of the same word may be written at the same time.
template <int width>
__device__ inline void store_plane(unsigned char *plane, int token, uint32_t bits) {
  const InPlane<width> at(token);
  uint32_t *word = reinterpret_cast<uint32_t *>(plane) + at.word;
  atomicAnd(word, ~(at.mask << at.shift));
  atomicOr(word, (bits & at.mask) << at.shift);
}

template <int width> __device__ inline uint32_t load_plane(const unsigned char *plane, int token) {
  const InPlane<width> at(token);
  return reinterpret_cast<const uint32_t *>(plane)[at.word] >> at.shift & at.mask;
}

// Byte q of token t is byte 32 q + t of the tile; the last bits stand in planes of their own.
template <int lanes>
__device__ inline void store_record(Place place, Shared<uint32_t> record, int lane) {
  for (int q = lane; q < whole_bytes; q += lanes) {
    const uint32_t word = record[q / 4];
    place.unit[32 * q + place.token] = static_cast<unsigned char>(word >> q % 4 * 8);
  }
  if (lane == 0) {
    const uint32_t rest = record[whole_bytes / 4] >> whole_bytes % 4 * 8;
    unsigned char *planes = place.unit + 32 * whole_bytes;
    store_plane<4>(planes + 0, place.token, rest >> 0u);
    store_plane<2>(planes + 16, place.token, rest >> 4u);
  }
}

__device__ inline void load_record(Place place, Shared<uint32_t> record, int lane) {
  for (int i = lane; i < record_words; i += 32) {
    uint32_t word = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int q = 4 * i + k;
      if (q < whole_bytes)
        word |= static_cast<uint32_t>(place.unit[32 * q + place.token]) << 8 * k;
    }
    if (i == whole_bytes / 4) {
      const unsigned char *planes = place.unit + 32 * whole_bytes;
      uint32_t rest = 0;
      rest |= load_plane<4>(planes + 0, place.token) << 0u;
      rest |= load_plane<2>(planes + 16, place.token) << 4u;
      word |= rest << whole_bytes % 4 * 8;
    }
    record[i] = word;
  }
}

// ---- Encode: rows to packed slots, nearest codeword ----
//
// A lane encodes cells of 16 coordinates, so a row is the work of 4 lanes of a warp. Every
// operation is rounded once, in the order of docs/format.md, and keeps denormals. Fused are exact
// products alone, by 1, -1 and powers of two.

constexpr int cell_size = 16, cells = 4;
constexpr int cell_roots = 1; // projections that a cell passes upwards
constexpr int row_lanes = 4;
constexpr int warp_rows = 32 / row_lanes; // rows of a warp at a time
constexpr int nodes = head_dim - blocks;  // of all levels

// Shared memory of a warp.
constexpr int warp_bytes =
    round_up(warp_rows * cells * cell_roots * 4, 16) +
    round_up(warp_rows * record_words * 4, 16) +
    round_up(warp_rows * head_dim * 4, 16);
constexpr int codebook_bytes = 24 * 16;
constexpr int encode_warps = codebook_bytes + 4 * warp_bytes <= 48 * 1024 ? 4 : 2;
constexpr int encode_threads = 32 * encode_warps;
constexpr int encode_block_rows = encode_warps * warp_rows; // of a block at a time
constexpr unsigned encode_shared_bytes = codebook_bytes + encode_warps * warp_bytes;
static_assert(encode_shared_bytes <= 48 * 1024, "what every device has");

// A coordinate, or 0 for one that could lead to denormals: below 2^-64 the first product would be
// one itself. `back` may have a sign, which the coordinate takes. Both products are exact; adding 0
// makes a -0 positive, so that all signs behind count.
constexpr float there = 0x1p-62f, back_again = 0x1p62f;
__device__ inline float cleaned(float x, float back = back_again) {
  return __fmaf_rn(mul_flushed(x, there), back, 0.0f);
}

// Of a difference that counts: below 2^-50 none does.
__device__ inline float squared(float e) {
  return (as_bits(e) & 0x7fffffffu) < 0x26800000u ? 0.0f : mul_rn(e, e);
}

// A codeword, and the threshold above it. Lanes look at different ones at the same time, which
// shared memory answers at once.
struct alignas(16) Codeword {
  float cos, sin, threshold;
};
// The codewords of a level among those of all levels.
constexpr int codebook_l1 = 0;
constexpr int codebook_l2 = 4;
constexpr int codebook_l3 = 8;
constexpr int codebook_l4 = 12;
constexpr int codebook_l5 = 16;
constexpr int codebook_l6 = 20;

template <int entries>
__device__ inline void copy_codebook(Shared<Codeword> codebook, const float (&cos)[entries],
                                     const float (&sin)[entries], const float *threshold) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < entries; i += encode_threads) {
    codebook[i].cos = cos[i];
    codebook[i].sin = sin[i];
    if (i + 1 < entries) codebook[i].threshold = threshold[i];
  }
}
__device__ inline void copy_codebooks(Shared<Codeword> codewords) {
  copy_codebook(codewords + codebook_l1, cos_l1, sin_l1, threshold_l1);
  copy_codebook(codewords + codebook_l2, cos_l2, sin_l2, threshold_l2);
  copy_codebook(codewords + codebook_l3, cos_l3, sin_l3, threshold_l3);
  copy_codebook(codewords + codebook_l4, cos_l4, sin_l4, threshold_l4);
  copy_codebook(codewords + codebook_l5, cos_l5, sin_l5, threshold_l5);
  copy_codebook(codewords + codebook_l6, cos_l6, sin_l6, threshold_l6);
  __syncthreads();
}

// The number of thresholds t with v > t u, by halving: they ascend. The first two comparisons know
// between what they choose, those behind them look it up.
template <uint32_t entries>
__device__ inline uint32_t nearest(float middle, float lower, float upper,
                                   Shared<Codeword> codebook, float u, float v) {
  constexpr uint32_t half = entries / 2, quarter = entries / 4;
  const bool above = exceeds(v, middle == 1.0f ? u : mul_rn(middle, u));
  uint32_t code = above ? half : 0;
  if constexpr (quarter > 0) {
    add_if_exceeds<quarter>(code, v, mul_rn(above ? upper : lower, u));
  }
#pragma unroll
  for (uint32_t step = quarter / 2; step > 0; step /= 2)
    if (exceeds(v, mul_rn(codebook[code + step - 1].threshold, u))) code += step;
  return code;
}
__device__ inline uint32_t nearest_l1(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l1>(1.0f, 0.41421357f, 2.4142137f,
                             codewords + codebook_l1, u, v);
}
__device__ inline uint32_t nearest_l2(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l2>(1.0f, 0.51031834f, 1.9595611f,
                             codewords + codebook_l2, u, v);
}
__device__ inline uint32_t nearest_l3(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l3>(1.0f, 0.61354196f, 1.6298804f,
                             codewords + codebook_l3, u, v);
}
__device__ inline uint32_t nearest_l4(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l4>(1.0f, 0.70648f, 1.4154682f,
                             codewords + codebook_l4, u, v);
}
__device__ inline uint32_t nearest_l5(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l5>(1.0f, 0.78209585f, 1.2786157f,
                             codewords + codebook_l5, u, v);
}
__device__ inline uint32_t nearest_l6(Shared<Codeword> codewords, float u, float v) {
  return nearest<entries_l6>(1.0f, 0.8405498f, 1.1896975f,
                             codewords + codebook_l6, u, v);
}

// Of the codeword nearest to (u, v): the projection, which goes up the tree, and what it loses.
__device__ inline float project(float u, float v, const Codeword &nearest) {
  return add_rn(mul_rn(u, nearest.cos), mul_rn(v, nearest.sin));
}
__device__ inline float loss(float u, float v, const Codeword &nearest) {
  return squared(sub_rn(mul_rn(u, nearest.sin), mul_rn(v, nearest.cos)));
}

// Codes of a cell that keep their distances from cell to cell: where they begin.
__device__ inline uint32_t piece_bit_0([[maybe_unused]] uint32_t i) {
  return 16u + 32u * i;
}

// Codes of a cell that keep their distances from cell to cell: where they begin.
__device__ inline uint32_t piece_bit_1([[maybe_unused]] uint32_t i) {
  return 144u + 16u * i;
}

// The codes of a cell, bottom up, from its coordinates, none of which is -0, to its projections.
template <bool with_errors>
__device__ inline void encode_cell(float (&x)[cell_size], uint32_t cell,
                                   Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses) {
  uint32_t code_l1[8]; // sign of the first coordinate, index in the quadrant, other sign
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float u = magnitude(x[2 * j]), v = magnitude(x[2 * j + 1]);
    // Opaque: a compiler would shift and mask it where one addition does.
    const uint32_t sign_v = opaque(as_bits(x[2 * j + 1]) >> 31);
    const uint32_t code = nearest_l1(codewords, u, v);
    const Codeword nearest = codewords[codebook_l1 + code];
    const uint32_t index_and_sign = code + (sign_v << (bits_l1 - 2));
    code_l1[j] = __funnelshift_l(as_bits(x[2 * j]), index_and_sign, 1);
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[cell * 8u + j] = loss(u, v, nearest);
  }
  uint32_t code_l2[4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l2[j] = nearest_l2(codewords, u, v);
    const Codeword nearest = codewords[codebook_l2 + code_l2[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[32u + cell * 4u + j] = loss(u, v, nearest);
  }
  uint32_t code_l3[2];
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l3[j] = nearest_l3(codewords, u, v);
    const Codeword nearest = codewords[codebook_l3 + code_l3[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[48u + cell * 2u + j] = loss(u, v, nearest);
  }
  uint32_t code_l4[1];
#pragma unroll
  for (int j = 0; j < 1; j++) {
    const float u = x[2 * j], v = x[2 * j + 1];
    code_l4[j] = nearest_l4(codewords, u, v);
    const Codeword nearest = codewords[codebook_l4 + code_l4[j]];
    x[j] = project(u, v, nearest);
    if constexpr (with_errors) losses[56u + cell * 1u + j] = loss(u, v, nearest);
  }
#pragma unroll
  for (int k = 0; k < cell_roots; k++) roots[cell * cell_roots + k] = x[k];
  put_bits(record, piece_bit_0(cell),
             code_l1[0] + (code_l1[1] << 4u) + (code_l1[2] << 8u) + (code_l1[3] << 12u) +
             (code_l1[4] << 16u) + (code_l1[5] << 20u) + (code_l1[6] << 24u) +
             (code_l1[7] << 28u));
  put_within(record, piece_bit_1(cell),
             code_l2[0] + (code_l3[0] << 2u) + (code_l2[1] << 4u) + (code_l4[0] << 6u) +
             (code_l2[2] << 8u) + (code_l3[1] << 10u) + (code_l2[3] << 12u));
}

// Level 5, a lane a node: the projections of its children make place for its own.
template <bool with_errors>
__device__ inline void encode_l5(Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses, int lane) {
  static_assert(nodes_l5 <= row_lanes, "a lane a node");
  const uint32_t node = static_cast<uint32_t>(lane);
  const bool has_node = node < nodes_l5;
  float u = 0.0f, v = 0.0f;
  if (has_node) {
    u = roots[2u * node];
    v = roots[2u * node + 1u];
  }
  __syncwarp();
  if (has_node) {
    const uint32_t code = nearest_l5(codewords, u, v);
    const Codeword nearest = codewords[codebook_l5 + code];
    put_within(record, code_bit_l5(node), code);
    roots[node] = project(u, v, nearest);
    if constexpr (with_errors) losses[60u + node] = loss(u, v, nearest);
  }
  __syncwarp();
}

// Level 6, a lane a node: the projections of its children make place for its own.
template <bool with_errors>
__device__ inline void encode_l6(Shared<Codeword> codewords, Shared<uint32_t> record,
                                   Shared<float> roots, Shared<float> losses, int lane) {
  static_assert(nodes_l6 <= row_lanes, "a lane a node");
  const uint32_t node = static_cast<uint32_t>(lane);
  const bool has_node = node < nodes_l6;
  float u = 0.0f, v = 0.0f;
  if (has_node) {
    u = roots[2u * node];
    v = roots[2u * node + 1u];
  }
  __syncwarp();
  if (has_node) {
    const uint32_t code = nearest_l6(codewords, u, v);
    const Codeword nearest = codewords[codebook_l6 + code];
    put_within(record, code_bit_l6(node), code);
    roots[node] = project(u, v, nearest);
    if constexpr (with_errors) losses[62u + node] = loss(u, v, nearest);
  }
  __syncwarp();
}

// A block's radius: its projection in the scale of the vector.
__device__ inline float radius_of(float projection) {
  return mul_rn(projection, scale);
}

// A radius as it is stored, and what it decodes to. It is never negative; beyond the largest it is
// the largest.
struct Stored {
  uint32_t bits;
  float decoded;
};
constexpr uint32_t lost_radius = 0x7e00u; // of a block that is not finite
__device__ inline Stored nearest_radius(float radius) {
  const uint32_t half = to_half(radius);
  const uint32_t bits = half < 0x7bffu ? half : 0x7bffu;
  return {bits, from_half(static_cast<uint16_t>(bits))};
}

// Stores the radii of a row. Its lanes are told whether one of their projections is not finite.
template <bool with_errors>
__device__ inline bool encode_radii(Shared<uint32_t> record, Shared<float> roots,
                                    Shared<float> losses, int lane) {
  bool lost = false;
  for (int block = lane; block < blocks; block += row_lanes) {
    const float radius = radius_of(roots[block]);
    const bool finite = is_finite(roots[block]);
    const Stored stored = nearest_radius(radius);
    put_within(record, radius_bit(block), finite ? stored.bits : lost_radius);
    if constexpr (with_errors) losses[nodes + block] = squared(sub_rn(radius, stored.decoded));
    lost |= !finite;
  }
  return lost;
}

// A row with a projection that is not finite: every code below that is 0.
__device__ inline void clear_lost(Shared<uint32_t> record, Shared<float> roots, int lane) {
#pragma unroll 1
  for (int node = lane; node < nodes_l1; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l1 / blocks)]))
      clear_bits<bits_l1>(record, code_bit_l1(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l2; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l2 / blocks)]))
      clear_bits<bits_l2>(record, code_bit_l2(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l3; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l3 / blocks)]))
      clear_bits<bits_l3>(record, code_bit_l3(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l4; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l4 / blocks)]))
      clear_bits<bits_l4>(record, code_bit_l4(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l5; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l5 / blocks)]))
      clear_bits<bits_l5>(record, code_bit_l5(node));
#pragma unroll 1
  for (int node = lane; node < nodes_l6; node += row_lanes)
    if (!is_finite(roots[node / (nodes_l6 / blocks)]))
      clear_bits<bits_l6>(record, code_bit_l6(node));
}


// Whether a lane of the row says so. All lanes of the warp ask.
__device__ inline bool any_of_row(bool said, int warp_row) {
  const uint32_t lanes = __ballot_sync(all_lanes, said);
  return (lanes >> warp_row * row_lanes & all_lanes >> (32 - row_lanes)) != 0;
}

// The squared error of a row, in the order of the format.
__device__ inline float sum_losses(Shared<float> losses) {
  float error = 0.0f;
#pragma unroll 8
  for (int i = 0; i < nodes; i++) error = add_rn(error, losses[i]);
  error = mul_rn(error, 0.015625f); // scale * scale
#pragma unroll 8
  for (int i = nodes; i < head_dim; i++) error = add_rn(error, losses[i]);
  return error;
}

// The coordinates of a cell: centred, clean, with their signs.
__device__ inline void load_cell(const polarc_encode_params &p, const Item &item, uint32_t cell,
                                 const float (&backs)[cell_size], float (&x)[cell_size]) {
  load_elements(p.rows.data, p.rows.dtype,
                row_start(p.rows, item.row, item.head) + cell * cell_size, x);
  float mean[cell_size];
  load_elements(p.transform.mean, POLARC_F32, item.head * head_dim + cell * cell_size, mean);
#pragma unroll
  for (int k = 0; k < cell_size; k++) {
    x[k] = sub_rn(x[k], mean[k]);
    x[k] = cleaned(x[k], backs[k]);
  }
}

// Strides within a cell, then those from lane to lane: all lanes of the warp take part.
__device__ inline void precondition(float (&x)[cell_size], int lane) {
#pragma unroll
  for (int stride = 1; stride < cell_size; stride *= 2) {
#pragma unroll
    for (int i = 0; i < cell_size; i++) {
      if ((i & stride) != 0) continue;
      const float a = x[i], b = x[i + stride];
      x[i] = add_rn(a, b);
      x[i + stride] = sub_rn(a, b);
    }
  }
#pragma unroll
  for (int apart = 1; apart < row_lanes; apart *= 2) {
    // The upper one of two lanes subtracts itself: a product by 1 or -1 is exact.
    const float sign = lane & apart ? -1.0f : 1.0f;
#pragma unroll
    for (int k = 0; k < cell_size; k++) {
      const float other = __shfl_xor_sync(all_lanes, x[k], apart);
      x[k] = __fmaf_rn(x[k], sign, other);
    }
  }
}

template <bool with_errors> __device__ inline void encode_rows(const polarc_encode_params &p) {
  // From unsigned numbers: the compiler sees their ranges, and how often loops over them run.
  const uint32_t thread = threadIdx.x;
  const int warp = static_cast<int>(thread / 32u);
  const int lane = static_cast<int>(thread % row_lanes);
  const int warp_row = static_cast<int>(thread % 32u / row_lanes);
  const int block_row = warp * warp_rows + warp_row;
  constexpr int block_rows = encode_block_rows;

  SharedMemory memory;
  Shared<Codeword> codewords = memory.take<Codeword>(24);
  copy_codebooks(codewords);
  Shared<float> losses = memory.take<float>(block_rows * head_dim) + block_row * head_dim;
  Shared<float> roots = memory.take<float>(block_rows * cells * cell_roots) +
                        block_row * cells * cell_roots;
  Shared<uint32_t> record = memory.take<uint32_t>(block_rows * record_words) +
                            block_row * record_words;

  static_assert(cells == row_lanes, "a lane a cell");
  const uint32_t cell = static_cast<uint32_t>(lane);
  const uint32_t signs = sign_words[cell * cell_size / 32u] >> cell * cell_size % 32u;
  float backs[cell_size];
#pragma unroll
  for (int k = 0; k < cell_size; k++) // opaque: kept, not made anew for every row
    backs[k] = as_float(opaque(as_bits(back_again) ^ signs >> k << 31));

  const int64_t items = p.count * (p.head_end - p.head_begin);
  int64_t first = static_cast<int64_t>(blockIdx.x) * block_rows + warp * warp_rows;
  if (first >= items) return;
  // A division for the first rows and one for the distance from trip to trip: none in the loop.
  const int64_t step = static_cast<int64_t>(gridDim.x) * block_rows;
  const Item ahead = item_of(step, p.count);
  Item next = item_of(first + warp_row, p.count);
  next.head += p.head_begin;
  for (; first < items; first += step) {
    // Lanes without a row, and those of one that is skipped, go along with some row: they are
    // needed, what they find is not.
    const bool has_row = next.head < p.head_end;
    const Item item = has_row ? next : Item{0, p.head_begin};
    const int64_t slot = has_row ? p.slots[item.row] : -1;
    next = {next.row + ahead.row, next.head + ahead.head};
    if (next.row >= p.count) next = {next.row - p.count, next.head + 1};

    float x[cell_size];
    load_cell(p, item, cell, backs, x);
    const Place place = find_place<unit_tokens>(p.cache, slot, item.head,
                                                lane == 0 ? p.flags : nullptr);
    for (int i = lane; i < record_words; i += row_lanes) record[i] = 0;
    precondition(x, lane);
    __syncwarp();
    encode_cell<with_errors>(x, cell, codewords, record, roots, losses);
    __syncwarp();
    encode_l5<with_errors>(codewords, record, roots, losses, lane);
    encode_l6<with_errors>(codewords, record, roots, losses, lane);

    const bool lost = encode_radii<with_errors>(record, roots, losses, lane);
    const bool row_lost = any_of_row(lost, warp_row);
    __syncwarp();
    if (row_lost) clear_lost(record, roots, lane);
    __syncwarp();

    if (place.unit) {
      store_record<row_lanes>(place, record, lane);
      if constexpr (with_errors) {
        if (lane == 0)
          p.errors[item.row * p.kv_heads + item.head] =
              row_lost ? as_float(infinity_bits) : sum_losses(losses);
      }
    }
    __syncwarp();
  }
}

// Twelve warps a multiprocessor are enough: for more the compiler would spill registers.
extern "C" __global__ void __launch_bounds__(encode_threads, 12 / encode_warps)
small_d64_cuda_kernel_encode_value(const __grid_constant__ polarc_encode_params a) {
  if (a.errors) encode_rows<true>(a);
  else encode_rows<false>(a);
}

// ---- Decode: packed slots to rows, original or preconditioned, a warp a row ----

constexpr int decode_warps = 4;
constexpr int decode_threads = 32 * decode_warps;
constexpr int decode_block_rows = decode_warps; // of a block at a time
constexpr unsigned decode_shared_bytes =
    3u * round_up(decode_warps * head_dim * 4, 16) +
    round_up(decode_warps * record_words * 4, 16);

// What the radius of a block decodes to.
__device__ inline float decode_radius(Shared<uint32_t> record, int block) {
  const uint32_t bits = get_bits<radius_bits>(record, radius_bit(block));
  return from_half(static_cast<uint16_t>(bits));
}

// A record to x, in the preconditioned space: from the radii down.
__device__ inline void decode_record(Shared<uint32_t> record, Shared<float> x,
                                     Shared<float> nodes, int lane) {
  for (int block = lane; block < blocks; block += 32) nodes[block] = decode_radius(record, block);
  __syncwarp();
  // Level 6: a node's radius becomes those of its two children.
  {
    static_assert(nodes_l6 <= 32, "a lane a node");
    const uint32_t node = static_cast<uint32_t>(lane);
    const bool has_node = node < nodes_l6;
    const float radius = has_node ? nodes[node] : 0.0f;
    __syncwarp();
    if (has_node) {
      const uint32_t code = get_bits<bits_l6>(record, code_bit_l6(node));
      nodes[2u * node] = radius * cos_l6[code];
      nodes[2u * node + 1u] = radius * sin_l6[code];
    }
    __syncwarp();
  }
  // Level 5: a node's radius becomes those of its two children.
  {
    static_assert(nodes_l5 <= 32, "a lane a node");
    const uint32_t node = static_cast<uint32_t>(lane);
    const bool has_node = node < nodes_l5;
    const float radius = has_node ? nodes[node] : 0.0f;
    __syncwarp();
    if (has_node) {
      const uint32_t code = get_bits<bits_l5>(record, code_bit_l5(node));
      nodes[2u * node] = radius * cos_l5[code];
      nodes[2u * node + 1u] = radius * sin_l5[code];
    }
    __syncwarp();
  }
  for (uint32_t cell = static_cast<uint32_t>(lane); cell < cells; cell += 32u) {
    float y[cell_size];
#pragma unroll
    for (int k = 0; k < cell_roots; k++) y[k] = nodes[cell * cell_roots + k];
#pragma unroll
    for (int j = 1 - 1; j >= 0; j--) {
      const uint32_t node = cell * 1u + j;
      const uint32_t code = get_bits<bits_l4>(record, code_bit_l4(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l4[code];
      y[2 * j + 1] = radius * sin_l4[code];
    }
#pragma unroll
    for (int j = 2 - 1; j >= 0; j--) {
      const uint32_t node = cell * 2u + j;
      const uint32_t code = get_bits<bits_l3>(record, code_bit_l3(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l3[code];
      y[2 * j + 1] = radius * sin_l3[code];
    }
#pragma unroll
    for (int j = 4 - 1; j >= 0; j--) {
      const uint32_t node = cell * 4u + j;
      const uint32_t code = get_bits<bits_l2>(record, code_bit_l2(node));
      const float radius = y[j];
      y[2 * j] = radius * cos_l2[code];
      y[2 * j + 1] = radius * sin_l2[code];
    }
    // Level 1 has signs, and an index within the quadrant.
#pragma unroll
    for (int j = 0; j < cell_size / 2; j++) {
      const uint32_t node = cell * (cell_size / 2u) + j;
      const uint32_t code = get_bits<bits_l1>(record, code_bit_l1(node));
      const uint32_t m = code >> 1 & (entries_l1 - 1u);
      const float u = y[j] * cos_l1[m], v = y[j] * sin_l1[m];
      const uint32_t sign_u = bits_l1 > 1 ? code << 31 : 0u, sign_v = code >> (bits_l1 - 1) << 31;
      x[2u * node] = as_float(as_bits(u) ^ sign_u);
      x[2u * node + 1u] = as_float(as_bits(v) ^ sign_v);
    }
  }
  __syncwarp();
}

extern "C" __global__ void __launch_bounds__(decode_threads, 4)
small_d64_cuda_kernel_decode_value(const __grid_constant__ polarc_decode_params a) {
  const int warp = static_cast<int>(threadIdx.x / 32u), lane = static_cast<int>(threadIdx.x % 32u);
  SharedMemory memory;
  Shared<float> x = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<float> spare = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<float> mean = memory.take<float>(decode_warps * head_dim) + warp * head_dim;
  Shared<uint32_t> record = memory.take<uint32_t>(decode_warps * record_words) +
                            warp * record_words;

  const bool original = a.basis == POLARC_ORIGINAL;
  const int64_t items = a.count * (a.head_end - a.head_begin);
  const int64_t step = static_cast<int64_t>(gridDim.x) * decode_warps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * decode_warps + warp; i < items; i += step) {
    Item item = item_of(i, a.count);
    item.head += a.head_begin;
    const Place place = find_place<unit_tokens>(a.cache, a.slots[item.row], item.head,
                                                lane == 0 ? a.flags : nullptr);
    if (!place.unit) continue;
    load_record(place, record, lane);
    for (int k = lane; k < head_dim; k += 32) mean[k] = a.transform.mean[item.head * head_dim + k];
    __syncwarp();
    if (!original) rotate_forward<32>(a.transform, item.head, mean, spare, lane);
    __syncwarp();
    decode_record(record, x, spare, lane);
    if (original) rotate_inverse<32>(a.transform, item.head, x, spare, lane);
    const int64_t to = row_start(a.rows, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32)
      store_element(a.rows.data, a.rows.dtype, to + k, x[k] + mean[k]);
    __syncwarp();
  }
}

// ---- Rotate: S x, S^-T x or S^-1 x of rows, a warp a row ----

constexpr int rotate_warps = 4;
constexpr int rotate_threads = 32 * rotate_warps;
constexpr int rotate_block_rows = rotate_warps; // of a block at a time
constexpr unsigned rotate_shared_bytes = 2u * round_up(rotate_warps * head_dim * 4, 16);

extern "C" __global__ void __launch_bounds__(rotate_threads, 4)
small_d64_cuda_kernel_rotate_value(const __grid_constant__ polarc_rotate_params a) {
  const int warp = static_cast<int>(threadIdx.x / 32u), lane = static_cast<int>(threadIdx.x % 32u);
  SharedMemory memory;
  Shared<float> x = memory.take<float>(rotate_warps * head_dim) + warp * head_dim;
  Shared<float> spare = memory.take<float>(rotate_warps * head_dim) + warp * head_dim;

  const int64_t items = a.count * a.heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * rotate_warps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * rotate_warps + warp; i < items; i += step) {
    const Item item = item_of(i, a.count);
    const int64_t head = item.head / a.heads_per_kv;
    const int64_t from = row_start(a.in, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32) x[k] = load_element(a.in.data, a.in.dtype, from + k);
    __syncwarp();
    if (a.rotation == POLARC_FORWARD) rotate_forward<32>(a.transform, head, x, spare, lane);
    else if (a.rotation == POLARC_DUAL) rotate_dual<32>(a.transform, head, x, spare, lane);
    else rotate_inverse<32>(a.transform, head, x, spare, lane);
    const int64_t to = row_start(a.out, item.row, item.head);
    for (int k = lane; k < head_dim; k += 32)
      store_element(a.out.data, a.out.dtype, to + k, x[k]);
    __syncwarp();
  }
}

// ---- Cells: 4 of 16 coordinates, each decoded at once by the threads that attend ----

// Cosine and sine of a code of level 1, with the signs of its two coordinates.
__device__ inline float2 direction_l1(uint32_t code) {
  const uint32_t magnitude = code >> 1 & (entries_l1 - 1);
  const bool left = bits_l1 > 1 && (code & 1u), down = code >> (bits_l1 - 1) & 1u;
  const float c = cos_l1[magnitude], s = sin_l1[magnitude];
  return make_float2(left ? -c : c, down ? -s : s);
}

// Cosine and sine of a code of level 2.
__device__ inline float2 direction_l2(uint32_t code) {
  return make_float2(cos_l2[code], sin_l2[code]);
}

// Cosine and sine of a code of level 3.
__device__ inline float2 direction_l3(uint32_t code) {
  return make_float2(cos_l3[code], sin_l3[code]);
}

// Cosine and sine of a code of level 4.
__device__ inline float2 direction_l4(uint32_t code) {
  return make_float2(cos_l4[code], sin_l4[code]);
}

// Cosine and sine of a code of level 5.
__device__ inline float2 direction_l5(uint32_t code) {
  return make_float2(cos_l5[code], sin_l5[code]);
}

// Cosine and sine of a code of level 6.
__device__ inline float2 direction_l6(uint32_t code) {
  return make_float2(cos_l6[code], sin_l6[code]);
}

__device__ inline float2 times(float factor, float2 direction) {
  return make_float2(factor * direction.x, factor * direction.y);
}

// Cosines and sines by code, in shared memory.
struct Tables {
  Shared<float2> l1; // [16]
  Shared<float2> l2; // [4]
  Shared<float2> l3; // [4]
  Shared<float2> l4; // [4]
  Shared<float2> l5; // [4]
  Shared<float2> l6; // [4]
};
constexpr unsigned table_bytes = 288;

__device__ inline Tables take_tables(SharedMemory &memory) {
  Tables tables;
  tables.l1 = memory.take<float2>(16);
  tables.l2 = memory.take<float2>(4);
  tables.l3 = memory.take<float2>(4);
  tables.l4 = memory.take<float2>(4);
  tables.l5 = memory.take<float2>(4);
  tables.l6 = memory.take<float2>(4);
  return tables;
}

// By all threads of a block; a barrier must follow.
template <int threads> __device__ inline void fill_tables(const Tables &tables, int thread) {
  for (int i = thread; i < 16; i += threads)
    tables.l1[i] = direction_l1(i);
  for (int i = thread; i < 4; i += threads)
    tables.l2[i] = direction_l2(i);
  for (int i = thread; i < 4; i += threads)
    tables.l3[i] = direction_l3(i);
  for (int i = thread; i < 4; i += threads)
    tables.l4[i] = direction_l4(i);
  for (int i = thread; i < 4; i += threads)
    tables.l5[i] = direction_l5(i);
  for (int i = thread; i < 4; i += threads)
    tables.l6[i] = direction_l6(i);
}

// A byte of the record of a token in a tile.
__device__ inline uint32_t whole_byte(const unsigned char *unit, uint32_t token, uint32_t byte) {
  return unit[32 * byte + token];
}

// The same where it may be the last bits of the record, or lie behind them and count for nothing.
__device__ inline uint32_t record_byte(const unsigned char *unit, uint32_t token, uint32_t byte) {
  if (byte >= whole_bytes) {
    const unsigned char *in_planes = unit + 32 * whole_bytes;
    uint32_t rest = 0;
    rest |= load_plane<4>(in_planes + 0, static_cast<int>(token)) << 0u;
    rest |= load_plane<2>(in_planes + 16, static_cast<int>(token)) << 4u;
    return rest;
  }
  return whole_byte(unit, token, byte);
}

// At least 8 bits of a record from the given one on.
[[maybe_unused]] __device__ inline uint32_t cell_field(const unsigned char *unit, uint32_t token,
                                                       uint32_t bit) {
  const uint32_t byte = bit / 8u;
  return (record_byte(unit, token, byte) | record_byte(unit, token, byte + 1) << 8) >> bit % 8u;
}

// Bits of a record from the given one to the end of its byte.
[[maybe_unused]] __device__ inline uint32_t cell_field_within(const unsigned char *unit,
                                                              uint32_t token, uint32_t bit) {
  return record_byte(unit, token, bit / 8u) >> bit % 8u;
}

// The 16 or 32 bits of a radius.
[[maybe_unused]] __device__ inline uint32_t whole_field(const unsigned char *unit, uint32_t token,
                                                        uint32_t bit, uint32_t width) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < width / 8; i++)
    bits |= whole_byte(unit, token, bit / 8u + i) << 8 * i;
  return bits;
}

// What a stored radius stands for.
__device__ inline float radius_of(uint32_t bits) {
  return from_half(static_cast<uint16_t>(bits));
}

// First bit of what `codes` below are cut from, cell by cell.
__device__ inline uint32_t cell_codes_bit([[maybe_unused]] uint32_t i) {
  return 16u + 32u * i;
}

// First bit of what `codes_1` below are cut from, cell by cell.
__device__ inline uint32_t cell_codes_1_bit([[maybe_unused]] uint32_t i) {
  return 144u + 16u * i;
}

struct Cell {
  static constexpr int size = 16, count = 4; // coordinates; cells
  float radius;
  float x[size]; // to be multiplied with it
};

// A cell of the token at this place of its unit.
__device__ inline Cell decode_cell(const Tables &tables, const unsigned char *unit,
                                   uint32_t token, uint32_t cell) {
  const uint32_t codes_from = cell_codes_bit(cell);
  const uint32_t codes_at = codes_from / 8u;
  const uint32_t codes_0 =
      whole_byte(unit, token, codes_at) |
      whole_byte(unit, token, codes_at + 1u) << 8u |
      whole_byte(unit, token, codes_at + 2u) << 16u |
      whole_byte(unit, token, codes_at + 3u) << 24u;
  const uint32_t codes_1_from = cell_codes_1_bit(cell);
  const uint32_t codes_1_at = codes_1_from / 8u;
  const uint32_t codes_1_0 =
      whole_byte(unit, token, codes_1_at) |
      record_byte(unit, token, codes_1_at + 1u) << 8u;

  Cell decoded;
  const uint32_t radius_at = radius_bit(cell >> 2u);
  decoded.radius = radius_of(whole_field(unit, token, radius_at, radius_bits));
  const uint32_t code_l5 =
      cell_field_within(unit, token, code_bit_l5(cell >> 1u)) & 3u;
  const float2 pair_l5 = tables.l5[code_l5];
  decoded.radius *= (cell >> 0u) & 1u ? pair_l5.y : pair_l5.x;
  const uint32_t code_l6 =
      cell_field_within(unit, token, code_bit_l6(cell >> 2u)) & 3u;
  const float2 pair_l6 = tables.l6[code_l6];
  decoded.radius *= (cell >> 1u) & 1u ? pair_l6.y : pair_l6.x;
  const float2 pair_l4_0 = tables.l4[(codes_1_0 >> 6u) & 3u];
  const float radius_l3_0 = pair_l4_0.x, radius_l3_1 = pair_l4_0.y;
  const float2 pair_l3_0 =
      times(radius_l3_0, tables.l3[(codes_1_0 >> 2u) & 3u]);
  const float radius_l2_0 = pair_l3_0.x, radius_l2_1 = pair_l3_0.y;
  const float2 pair_l3_1 =
      times(radius_l3_1, tables.l3[(codes_1_0 >> 10u) & 3u]);
  const float radius_l2_2 = pair_l3_1.x, radius_l2_3 = pair_l3_1.y;
  const float2 pair_l2_0 =
      times(radius_l2_0, tables.l2[codes_1_0 & 3u]);
  const float2 pair_l2_1 =
      times(radius_l2_1, tables.l2[(codes_1_0 >> 4u) & 3u]);
  const float2 pair_l2_2 =
      times(radius_l2_2, tables.l2[(codes_1_0 >> 8u) & 3u]);
  const float2 pair_l2_3 =
      times(radius_l2_3, tables.l2[(codes_1_0 >> 12u) & 3u]);
  const float2 pair_l1_0 = tables.l1[codes_0 & 15u];
  const float2 pair_l1_1 = tables.l1[(codes_0 >> 4u) & 15u];
  const float2 pair_l1_2 = tables.l1[(codes_0 >> 8u) & 15u];
  const float2 pair_l1_3 = tables.l1[(codes_0 >> 12u) & 15u];
  const float2 pair_l1_4 = tables.l1[(codes_0 >> 16u) & 15u];
  const float2 pair_l1_5 = tables.l1[(codes_0 >> 20u) & 15u];
  const float2 pair_l1_6 = tables.l1[(codes_0 >> 24u) & 15u];
  const float2 pair_l1_7 = tables.l1[codes_0 >> 28u];
  decoded.x[0] = pair_l1_0.x * pair_l2_0.x;
  decoded.x[1] = pair_l1_0.y * pair_l2_0.x;
  decoded.x[2] = pair_l1_1.x * pair_l2_0.y;
  decoded.x[3] = pair_l1_1.y * pair_l2_0.y;
  decoded.x[4] = pair_l1_2.x * pair_l2_1.x;
  decoded.x[5] = pair_l1_2.y * pair_l2_1.x;
  decoded.x[6] = pair_l1_3.x * pair_l2_1.y;
  decoded.x[7] = pair_l1_3.y * pair_l2_1.y;
  decoded.x[8] = pair_l1_4.x * pair_l2_2.x;
  decoded.x[9] = pair_l1_4.y * pair_l2_2.x;
  decoded.x[10] = pair_l1_5.x * pair_l2_2.y;
  decoded.x[11] = pair_l1_5.y * pair_l2_2.y;
  decoded.x[12] = pair_l1_6.x * pair_l2_3.x;
  decoded.x[13] = pair_l1_6.y * pair_l2_3.x;
  decoded.x[14] = pair_l1_7.x * pair_l2_3.y;
  decoded.x[15] = pair_l1_7.y * pair_l2_3.y;
  return decoded;
}

} // namespace value

// ---- Sequences: where the tokens of a row lie, and which of them it sees ----

constexpr int key_dim = key::head_dim, value_dim = value::head_dim;
constexpr int query_stride = round_up(key_dim + 1, 4); // floats of a query in the workspace
constexpr int partial_stride = round_up(value_dim + 2, 4); // floats of a query's partial result

// Page of the pool that holds a token.
__device__ inline int64_t page_of(const RowState &state, int32_t token) {
  const int32_t i = token / page_tokens;
  return state.pages ? state.pages[i] : state.first_page + i;
}

// Bytes from the begin of a pool to the unit that holds a token.
template <int unit_tokens>
__device__ inline int64_t unit_offset(const polarc_pool &pool, const RowState &state, int64_t head,
                                      int32_t token) {
  return page_of(state, token) * pool.page_stride + head * pool.head_stride +
         token % page_tokens / unit_tokens * pool.unit_stride;
}

template <int unit_tokens>
__device__ inline const unsigned char *unit_address(const polarc_pool &pool, const RowState &state,
                                                    int64_t head, int32_t token) {
  return static_cast<const unsigned char *>(pool.data) +
         unit_offset<unit_tokens>(pool, state, head, token);
}

__device__ inline bool sees(const RowState &state, int32_t token) {
  if (token < state.begin || token >= state.end) return false;
  if (!state.positions && !state.always_visible) return true;
  if (state.always_visible && state.always_visible[token]) return true;
  const int64_t position =
      state.positions ? state.positions[token] : static_cast<int64_t>(state.first_position) + token;
  return position <= state.newest && position >= state.oldest;
}

// A unit of work: a split of the sequence of a row, for the queries of a KV head.
struct Unit {
  int64_t row, head;
  int32_t split;
};

__device__ inline Unit unit_of(int64_t index, int32_t splits, int32_t heads) {
  const int64_t pair = index / splits;
  return {pair / heads, pair % heads, static_cast<int32_t>(index % splits)};
}

// Tokens [begin, end) of a split.
struct Range {
  int32_t begin, end;
};

__device__ inline Range split_range(const Work &work, int32_t split, int32_t begin, int32_t end) {
  const int64_t from = static_cast<int64_t>(split) * work.split_tokens;
  const int64_t to = from + work.split_tokens;
  return {from > begin ? static_cast<int32_t>(from < end ? from : end) : begin,
          to < end ? static_cast<int32_t>(to) : end};
}

// Where the partial results of a unit's queries begin.
__device__ inline float *partials_of(const Work &work, int64_t unit) {
  return work.partials + unit * group * partial_stride;
}

// ---- Functions: to about two units in the last place, whatever flags a compiler is given ----

constexpr uint32_t minus_infinity_bits = 0xff800000u;
constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

// e^x of x <= 0.
__device__ inline float exp_of(float x) { return exp2_of(x * log2_e); }

// Natural logarithm of a positive number: a polynomial around 1 (Cephes' logf) and the exponent.
// NaN stays.
__device__ inline float log_of(float x) {
  if (is_nan(x)) return x;
  uint32_t bits = as_bits(x) - 0x3f3504f3u; // from the root of 1/2 on
  const float exponent = static_cast<float>(static_cast<int32_t>(bits) >> 23);
  bits = (bits & 0x007fffffu) + 0x3f3504f3u;
  const float r = as_float(bits) - 1.0f, square = r * r;
  float y = 7.0376836292e-2f;
  y = fmaf(y, r, -1.1514610310e-1f);
  y = fmaf(y, r, 1.1676998740e-1f);
  y = fmaf(y, r, -1.2420140846e-1f);
  y = fmaf(y, r, 1.4249322787e-1f);
  y = fmaf(y, r, -1.6668057665e-1f);
  y = fmaf(y, r, 2.0000714765e-1f);
  y = fmaf(y, r, -2.4999993993e-1f);
  y = fmaf(y, r, 3.3333331174e-1f);
  y = fmaf(y * r, square, -0.5f * square);
  return fmaf(exponent, ln_2, r + y);
}

// tanh: an odd polynomial near 0 (Cephes' tanhf), where (1 - e) / (1 + e) would cancel.
__device__ inline float tanh_of(float x) {
  const uint32_t sign = as_bits(x) & 0x80000000u;
  const float size = as_float(as_bits(x) ^ sign);
  const float e = exp_of(-2.0f * size);
  const float far = __fdiv_rn(1.0f - e, 1.0f + e);
  const float square = size * size;
  float y = -5.70498872745e-3f;
  y = fmaf(y, square, 2.06390887954e-2f);
  y = fmaf(y, square, -5.37397155531e-2f);
  y = fmaf(y, square, 1.33314422036e-1f);
  y = fmaf(y, square, -3.33332819422e-1f);
  const float near = fmaf(y * square, size, size);
  return as_float(as_bits(size < 0.625f ? near : far) ^ sign);
}

// scale * (q * k + constant), capped.
__device__ inline float logit_of(float product, float constant, float scale, float softcap) {
  const float logit = scale * (product + constant);
  return softcap > 0.0f ? softcap * tanh_of(__fdiv_rn(logit, softcap)) : logit;
}

// ---- Blocks: four warps, a token each thread, and queries side by side ----

constexpr int block_threads = 128;
constexpr int block_warps = block_threads / 32;
// Blocks that a multiprocessor shall have room for at least: they leave threads 128 registers, or
// 168 where sums need them. Compilers aim at fewer and spill some if they are not told.
constexpr int many_blocks = 4, few_blocks = 3;

// What an array takes of a block's shared memory.
template <class T> __host__ __device__ constexpr unsigned bytes_of(int count) {
  return (count * static_cast<unsigned>(sizeof(T)) + 15) / 16 * 16;
}

// Parts of a group's queries of at most so many, as equal as can be, and queries of a part.
__host__ __device__ constexpr int parts_of(int most) { return (group + most - 1) / most; }
__host__ __device__ constexpr int width_of(int most) {
  return (group + parts_of(most) - 1) / parts_of(most);
}

// A number for each query of a part.
template <int width> struct alignas(width == 1 ? 4 : width == 2 ? 8 : 16) PerQuery {
  float of[width == 3 ? 4 : width > 4 ? 8 : width];
};

// The state of a row for all threads of a block, in shared memory: registers are for sums. A
// barrier must follow.
__device__ inline void load_state(const Work &work, int64_t row, Shared<RowState> state,
                                  int thread) {
  if (thread == 0) state[0] = work.states[row];
}

// Joins what the lanes of a warp have, pair by pair: the same result in all of them.
template <class T, class Join> __device__ inline T over_warp(T x, Join join) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) x = join(x, __shfl_xor_sync(all_lanes, x, apart));
  return x;
}
__device__ inline float warp_sum(float x) {
  return over_warp(x, [](float a, float b) { return a + b; });
}
__device__ inline float warp_max(float x) {
  return over_warp(x, [](float a, float b) { return a > b ? a : b; });
}

// The same over a block, by way of `room`, an entry a warp; a barrier stands before its next use.
template <class T, class Join>
__device__ inline T over_block(T x, Shared<T> room, int thread, Join join) {
  x = over_warp(x, join);
  if (thread % 32 == 0) room[thread / 32] = x;
  __syncthreads();
  x = room[0];
#pragma unroll
  for (int warp = 1; warp < block_warps; warp++) x = join(x, room[warp]);
  __syncthreads();
  return x;
}

// ---- Prepare: what every row sees, and its queries in the space of the packed keys ----

constexpr int32_t least_position = -2147483647 - 1, greatest_position = 2147483647;

// A row that nothing is known of: no token of it is read.
__device__ inline RowState empty_state() {
  RowState state = {};
  state.newest = state.oldest = least_position;
  return state;
}

// Flags to raise, 0 for none. Pages and positions are not read yet.
__device__ inline uint32_t find_sequence(const polarc_index &index, int64_t s, RowState &state) {
  if (s < 0 || s >= index.sequences) return POLARC_SEQUENCE_OUT_OF_RANGE;
  int64_t length, capacity;
  if (index.indptr) {
    const int64_t begin = index.indptr[s], count = index.indptr[s + 1] - begin;
    if (begin < 0 || count < 0 || begin + count > index.indices_count)
      return POLARC_LENGTH_OUT_OF_RANGE;
    const int64_t last = count > 0 ? index.last_page_len[s] : 0;
    if (count > 0 && (last < 1 || last > page_tokens)) return POLARC_LENGTH_OUT_OF_RANGE;
    length = capacity = count > 0 ? (count - 1) * page_tokens + last : 0;
    if (count > 0) state.pages = index.indices + begin;
  } else {
    length = index.lengths[s];
    if (index.block_table) {
      capacity = index.block_table_stride * page_tokens;
      state.pages = index.block_table + s * index.block_table_stride;
    } else {
      capacity = index.pages_per_sequence * page_tokens;
      state.first_page = s * index.pages_per_sequence;
    }
  }
  if (length < 0 || length > index.max_tokens || length > capacity)
    return POLARC_LENGTH_OUT_OF_RANGE;
  if (index.positions) {
    if (length > index.positions_stride) return POLARC_LENGTH_OUT_OF_RANGE;
    state.positions = index.positions + s * index.positions_stride;
  }
  if (index.first_position) state.first_position = index.first_position[s];
  state.length = static_cast<int32_t>(length);
  return 0;
}

// Whether a page that holds a token lies outside the pool. All threads of a block ask together.
__device__ inline uint32_t check_pages(const RowState &state, int64_t pool_pages,
                                       Shared<uint32_t> room, int thread) {
  const int32_t count = state.length / page_tokens + (state.length % page_tokens != 0);
  uint32_t flags = 0;
  if (state.pages) {
#pragma unroll 8
    for (int32_t i = thread; i < count; i += block_threads)
      if (state.pages[i] < 0 || state.pages[i] >= pool_pages) flags = POLARC_PAGE_OUT_OF_RANGE;
  } else if (count > 0 && state.first_page + count > pool_pages) {
    flags = POLARC_PAGE_OUT_OF_RANGE;
  }
  return over_block(flags, room, thread, [](uint32_t a, uint32_t b) { return a | b; });
}

// The position of the last token, or the greatest one where they are listed.
__device__ inline int64_t last_position(const RowState &state, Shared<int32_t> room, int thread) {
  if (!state.positions) return static_cast<int64_t>(state.first_position) + state.length - 1;
  int32_t greatest = least_position;
#pragma unroll 8
  for (int32_t i = thread; i < state.length; i += block_threads) {
    const int32_t position = state.positions[i];
    greatest = position > greatest ? position : greatest;
  }
  return over_block(greatest, room, thread, [](int32_t a, int32_t b) { return a > b ? a : b; });
}

// What a query at position `newest` sees; a window of 0 is none.
__device__ inline void look_from(RowState &state, int64_t newest, int32_t window) {
  const int64_t oldest = window > 0 ? newest - window + 1 : least_position;
  state.begin = 0;
  state.end = state.length;
  if (!state.positions && !state.always_visible) { // positions ascend: what is seen is one piece
    const int64_t end = newest - state.first_position + 1;
    const int64_t begin = window > 0 ? oldest - state.first_position : 0;
    if (end < state.end) state.end = end > 0 ? static_cast<int32_t>(end) : 0;
    if (begin > 0) state.begin = begin < state.end ? static_cast<int32_t>(begin) : state.end;
  }
  state.newest = static_cast<int32_t>(newest < greatest_position ? newest : greatest_position);
  state.oldest = static_cast<int32_t>(oldest > least_position ? oldest : least_position);
}

// Arrays of a block that prepares: of rows, and of queries a team of threads each.
constexpr int prepare_team = group < 4 ? block_threads : 32;
constexpr int prepare_teams = block_threads / prepare_team;
struct Preparation {
  Shared<uint32_t> flags;
  Shared<int32_t> positions;
};
constexpr int key_floats = round_up(key_dim, 4);
constexpr unsigned state_shared_bytes = bytes_of<uint32_t>(block_warps) +
                                        bytes_of<int32_t>(block_warps);
constexpr unsigned query_shared_bytes =
    bytes_of<float>(key_dim) + 2 * bytes_of<float>(prepare_teams * key_floats) +
    bytes_of<float>(block_warps);

__device__ inline Preparation take_preparation(SharedMemory &memory) {
  Preparation preparation;
  preparation.flags = memory.take<uint32_t>(block_warps);
  preparation.positions = memory.take<int32_t>(block_warps);
  return preparation;
}

// The state of a row over packed tokens, checked by all threads of a block together; the first one
// raises the flags.
__device__ inline RowState pool_state(const polarc_index &index, int64_t pool_pages,
                                      const int32_t *row_sequence, const int32_t *row_position,
                                      int64_t row, int32_t window, uint32_t *raised,
                                      const Preparation &room, int thread) {
  RowState state = empty_state();
  const int64_t sequence = row_sequence ? row_sequence[row] : row;
  uint32_t flags = find_sequence(index, sequence, state);
  if (!flags) flags = check_pages(state, pool_pages, room.flags, thread);
  if (flags) {
    if (thread == 0) raise_flag(raised, flags);
    return empty_state();
  }
  const int64_t newest =
      row_position ? row_position[row] : last_position(state, room.positions, thread);
  look_from(state, newest, window);
  state.valid = 1;
  return state;
}

// The queries of a row and KV head in float32, multiplied by the dual of S where they are in the
// original basis, and behind each the constant that it has with the mean.
__device__ inline void prepare_queries(SharedMemory memory, const polarc_rows &q,
                                       const polarc_transform &transform, bool original,
                                       int64_t row, int64_t head, int32_t kv_heads,
                                       float *queries, int thread) {
  Shared<float> mean = memory.take<float>(key_dim);
  Shared<float> vectors = memory.take<float>(prepare_teams * key_floats);
  Shared<float> spares = memory.take<float>(prepare_teams * key_floats);
  Shared<float> room = memory.take<float>(block_warps);
  const int team = thread / prepare_team, member = thread % prepare_team;
  Shared<float> vector = vectors + team * key_floats;
  Shared<float> spare = spares + team * key_floats;

  // The mean, in the basis of the queries.
  if (key::centred) {
    for (int i = thread; i < key_dim; i += block_threads)
      mean[i] = transform.mean[head * key_dim + i];
    __syncthreads();
    if (!original) key::rotate_forward<block_threads>(transform, head, mean, vectors, thread);
  }

  for (int j = team; j < group; j += prepare_teams) {
    const int64_t q_head = head * group + j;
    float *to = queries + (row * kv_heads * group + q_head) * query_stride;
    const int64_t from = row_start(q, row, q_head);
    float constant = 0.0f;
    for (int i = member; i < key_dim; i += prepare_team) {
      const float x = load_element(q.data, q.dtype, from + i);
      vector[i] = x;
      if (key::centred) constant = fmaf(x, mean[i], constant);
    }
    meet<prepare_team>();
    if (key::centred) {
      if constexpr (prepare_team == 32) constant = warp_sum(constant);
      else
        constant = over_block(constant, room, thread, [](float a, float b) { return a + b; });
    }
    if (original) key::rotate_dual<prepare_team>(transform, head, vector, spare, member);
    for (int i = member; i < key_dim; i += prepare_team) to[i] = vector[i];
    if (member == 0) to[key_dim] = constant;
    meet<prepare_team>(); // the vector may be filled again
  }
}

constexpr int prepare_scores_threads = block_threads;
constexpr unsigned prepare_scores_shared_bytes = state_shared_bytes + query_shared_bytes;

extern "C" __global__ void __launch_bounds__(prepare_scores_threads, many_blocks)
    small_d64_cuda_kernel_prepare_scores(
        const __grid_constant__ ScoresArguments a) {
  SharedMemory memory;
  const Preparation room = take_preparation(memory);
  const polarc_scores_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  const bool all = p.head_begin == 0 && p.head_end == 0;
  const int64_t head_begin = p.head_begin, heads = (all ? p.kv_heads : p.head_end) - head_begin;
  for (int64_t item = blockIdx.x; item < p.rows * heads; item += gridDim.x) {
    const int64_t row = item / heads, head = head_begin + item % heads;
    if (head == head_begin) {
      const RowState state = pool_state(p.index, p.keys.pages, p.row_sequence, p.row_position, row,
                                        p.window, p.flags, room, thread);
      if (thread == 0) a.work.states[row] = state;
    }
    prepare_queries(memory, p.q, p.key, p.basis == POLARC_ORIGINAL, row, head, p.kv_heads,
                    a.work.queries, thread);
    __syncthreads();
  }
}

constexpr int prepare_attend_threads = block_threads;
constexpr unsigned prepare_attend_shared_bytes = state_shared_bytes + query_shared_bytes;

extern "C" __global__ void __launch_bounds__(prepare_attend_threads, many_blocks)
    small_d64_cuda_kernel_prepare_attend(
        const __grid_constant__ AttendArguments a) {
  SharedMemory memory;
  const Preparation room = take_preparation(memory);
  const polarc_attend_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t pages = p.keys.pages < p.values.pages ? p.keys.pages : p.values.pages;
  const int64_t heads = p.kv_heads;
  for (int64_t item = blockIdx.x; item < p.rows * heads; item += gridDim.x) {
    const int64_t row = item / heads, head = item % heads;
    if (head == 0) {
      const RowState state = pool_state(p.index, pages, p.row_sequence, p.row_position, row,
                                        p.window, p.flags, room, thread);
      if (thread == 0) a.work.states[row] = state;
    }
    prepare_queries(memory, p.q, p.key, p.basis == POLARC_ORIGINAL, row, head, p.kv_heads,
                    a.work.queries, thread);
    __syncthreads();
  }
}

constexpr int prepare_weighted_sum_threads = block_threads;
constexpr unsigned prepare_weighted_sum_shared_bytes = state_shared_bytes;

// One block a row: every token counts, whatever its position.
extern "C" __global__ void __launch_bounds__(prepare_weighted_sum_threads, many_blocks)
    small_d64_cuda_kernel_prepare_weighted_sum(
        const __grid_constant__ WeightedSumArguments a) {
  SharedMemory memory;
  const Preparation room = take_preparation(memory);
  const polarc_weighted_sum_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    RowState state = pool_state(p.index, p.values.pages, p.row_sequence, nullptr, row, 0, p.flags,
                                room, thread);
    state.positions = nullptr;
    state.begin = 0;
    state.end = state.length;
    if (thread == 0) a.work.states[row] = state;
    __syncthreads();
  }
}

constexpr int prepare_attend_dense_threads = block_threads;
constexpr unsigned prepare_attend_dense_shared_bytes = state_shared_bytes;

// Flags to raise, 0 for none.
__device__ inline uint32_t find_dense(const polarc_attend_dense_params &p, int64_t s,
                                      RowState &state) {
  if (s < 0 || s >= p.sequences) return POLARC_SEQUENCE_OUT_OF_RANGE;
  const int32_t length = p.lengths[s];
  const bool listed = p.positions || p.always_visible;
  if (length < 0 || length > p.max_tokens || (listed && length > p.positions_stride))
    return POLARC_LENGTH_OUT_OF_RANGE;
  if (p.positions) state.positions = p.positions + s * p.positions_stride;
  if (p.always_visible) state.always_visible = p.always_visible + s * p.positions_stride;
  if (p.first_position) state.first_position = p.first_position[s];
  state.first_page = s; // where its rows lie
  state.length = length;
  return 0;
}

// Queries as they are, in float32.
extern "C" __global__ void __launch_bounds__(prepare_attend_dense_threads, many_blocks)
    small_d64_cuda_kernel_prepare_attend_dense(
        const __grid_constant__ AttendDenseArguments a) {
  SharedMemory memory;
  const Preparation room = take_preparation(memory);
  const polarc_attend_dense_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t heads = p.kv_heads;
  for (int64_t item = blockIdx.x; item < p.rows * heads; item += gridDim.x) {
    const int64_t row = item / heads, head = item % heads;
    if (head == 0) {
      RowState state = empty_state();
      const uint32_t flags = find_dense(p, p.row_sequence ? p.row_sequence[row] : row, state);
      if (flags) {
        state = empty_state();
        if (thread == 0) raise_flag(p.flags, flags);
      } else {
        const int64_t newest = p.row_position ? p.row_position[row]
                                              : last_position(state, room.positions, thread);
        look_from(state, newest, p.window);
        state.valid = 1;
      }
      if (thread == 0) a.work.states[row] = state;
    }
    for (int j = 0; j < group; j++) {
      const int64_t q_head = head * group + j, from = row_start(p.q, row, q_head);
      float *to = a.work.queries + (row * heads * group + q_head) * query_stride;
      for (int i = thread; i < key_dim; i += block_threads)
        to[i] = load_element(p.q.data, p.q.dtype, from + i);
      if (thread == 0) to[key_dim] = 0.0f;
    }
    __syncthreads();
  }
}

// ---- Scores: products of queries and packed keys, a token each thread ----

// Neighbouring coordinates of a part's queries, as many as a thread loads at once, of `size` that
// it needs together.
template <int width, int size>
struct alignas(width > 2 ? 16 : width * 4 * (size < 4 / width ? size : 4 / width)) QueryStep {
  static constexpr int count = width > 2 ? 1 : size < 4 / width ? size : 4 / width;
  PerQuery<width> at[count];
};

// A part's queries in shared memory, and behind them the constants.
template <int width, int size> using Query = Shared<QueryStep<width, size>>;
template <int width, int size> __host__ __device__ constexpr unsigned query_bytes() {
  return bytes_of<QueryStep<width, size>>(key_dim / QueryStep<width, size>::count + 1);
}
template <int width, int size>
__device__ inline Query<width, size> take_query(SharedMemory &memory) {
  return memory.take<QueryStep<width, size>>(key_dim / QueryStep<width, size>::count + 1);
}
template <int width, int size>
__device__ inline PerQuery<width> constants_of(Query<width, size> query) {
  return query[key_dim / QueryStep<width, size>::count].at[0];
}

// Beyond the group the last query stands in.
template <int width, int size>
__device__ inline void load_queries(const Work &work, int64_t row, int64_t head, int32_t kv_heads,
                                    int part, Query<width, size> query, int thread) {
  constexpr int count = QueryStep<width, size>::count;
  const float *from = work.queries + (row * kv_heads + head) * group * query_stride;
  for (int i = thread; i <= key_dim; i += block_threads) {
    PerQuery<width> at;
#pragma unroll
    for (int j = 0; j < width; j++) {
      const int in_group = part * width + j < group ? part * width + j : group - 1;
      at.of[j] = from[in_group * query_stride + i];
    }
    query[i / count].at[i % count] = at;
  }
}

// Products of a part's queries with the packed key of a token.
template <int width>
__device__ inline void key_products(const key::Tables &tables, const unsigned char *unit,
                                    uint32_t token, Query<width, key::Cell::size> query,
                                    float (&product)[width]) {
  constexpr int size = key::Cell::size, step = QueryStep<width, size>::count;
#pragma unroll
  for (int j = 0; j < width; j++) product[j] = 0.0f;
#pragma unroll 2
  for (int cell = 0; cell < key::Cell::count; cell++) {
    const key::Cell decoded = key::decode_cell(tables, unit, token, cell);
    float sum[width] = {};
#pragma unroll
    for (int i = 0; i < size; i += step) {
      const QueryStep<width, size> q = query[cell * (size / step) + i / step];
#pragma unroll
      for (int k = 0; k < step; k++)
#pragma unroll
        for (int j = 0; j < width; j++) sum[j] = fmaf(q.at[k].of[j], decoded.x[i + k], sum[j]);
    }
#pragma unroll
    for (int j = 0; j < width; j++) product[j] = fmaf(decoded.radius, sum[j], product[j]);
  }
}

constexpr int scores_parts = parts_of(8), scores_width = width_of(8);
constexpr int scores_threads = block_threads;
constexpr unsigned scores_shared_bytes =
    key::table_bytes + query_bytes<scores_width, key::Cell::size>() + bytes_of<RowState>(1);

// Items are (row, KV head, split, part of the group).
extern "C" __global__ void __launch_bounds__(scores_threads, many_blocks)
    small_d64_cuda_kernel_scores(
        const __grid_constant__ ScoresArguments a) {
  SharedMemory memory;
  const key::Tables tables = key::take_tables(memory);
  const Query<scores_width, key::Cell::size> query =
      take_query<scores_width, key::Cell::size>(memory);
  Shared<RowState> states = memory.take<RowState>(1);
  const polarc_scores_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  key::fill_tables<scores_threads>(tables, thread);

  const bool all = p.head_begin == 0 && p.head_end == 0;
  const int32_t heads = (all ? p.kv_heads : p.head_end) - p.head_begin;
  const int64_t items = static_cast<int64_t>(p.rows) * heads * a.work.splits * scores_parts;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int part = static_cast<int>(item % scores_parts);
    const Unit unit = unit_of(item / scores_parts, a.work.splits, heads);
    const int64_t head = p.head_begin + unit.head;
    __syncthreads(); // nobody reads what the last unit had any more
    load_state(a.work, unit.row, states, thread);
    load_queries<scores_width, key::Cell::size>(a.work, unit.row, head, p.kv_heads, part, query,
                                                thread);
    __syncthreads();
    const RowState &state = states[0];
    const PerQuery<scores_width> constants = constants_of<scores_width, key::Cell::size>(query);

    const int first = part * scores_width; // query
    const int count = group - first < scores_width ? group - first : scores_width;
    float *out = p.scores + unit.row * p.scores_row_stride +
                 (head * group + first) * p.scores_head_stride;
    const Range range = split_range(a.work, unit.split, 0, p.index.max_tokens);
    for (int64_t at = static_cast<int64_t>(range.begin) + thread; at < range.end;
         at += scores_threads) {
      const int32_t token = static_cast<int32_t>(at);
      const bool seen = sees(state, token);
      float product[scores_width] = {};
      if (seen)
        key_products<scores_width>(
            tables, unit_address<key::unit_tokens>(p.keys, state, head, token),
            static_cast<uint32_t>(token) % key::unit_tokens, query, product);
#pragma unroll
      for (int j = 0; j < scores_width; j++) {
        if (j >= count) break;
        const float logit = logit_of(product[j], constants.of[j], p.scale, p.softcap);
        const bool lost = !state.valid || !is_finite(logit);
        const uint32_t blank = state.valid ? minus_infinity_bits : nan_bits;
        out[j * p.scores_head_stride + token] =
            as_float(!seen ? blank : lost ? nan_bits : as_bits(logit));
      }
    }
  }
}

// ---- Weighted sums: thread = (slot, cell), a slot takes every `slots`th token of a chunk ----

constexpr int chunk = block_threads; // tokens

// Queries whose sums a thread can keep in registers.
__host__ __device__ constexpr int most_queries(int size, int cells) {
  const int numbers = size * ((cells + block_threads - 1) / block_threads);
  return numbers >= 64 ? 1 : numbers <= 8 ? 8 : 64 / numbers;
}

template <int width_, int size_, int cells_> struct ValueSums {
  static constexpr int width = width_, size = size_, cells = cells_;
  static constexpr int slots = cells < block_threads ? block_threads / cells : 1;
  static constexpr int per_thread = (cells + block_threads - 1) / block_threads; // cells
  // Coordinates of all cells and slots that pass through shared memory at once, and its entries.
  static constexpr int most_at_once = 64 / static_cast<int>(sizeof(PerQuery<width>));
  static constexpr int at_once = size < most_at_once ? size : most_at_once;
  static constexpr int exchange = block_threads * (slots > 1 ? at_once : 1);

  float sum[per_thread][size][width];
};

template <class Sums> __device__ inline void clear_sums(Sums &sums) {
#pragma unroll
  for (int k = 0; k < Sums::per_thread; k++)
#pragma unroll
    for (int i = 0; i < Sums::size; i++)
#pragma unroll
      for (int j = 0; j < Sums::width; j++) sums.sum[k][i][j] = 0.0f;
}

template <class Sums>
__device__ inline void scale_sums(Sums &sums, const PerQuery<Sums::width> &factor) {
  bool changes = false;
#pragma unroll
  for (int j = 0; j < Sums::width; j++) changes |= as_bits(factor.of[j]) != as_bits(1.0f);
  if (!changes) return; // mostly: the greatest logit was seen long ago
#pragma unroll
  for (int k = 0; k < Sums::per_thread; k++)
#pragma unroll
    for (int i = 0; i < Sums::size; i++)
#pragma unroll
      for (int j = 0; j < Sums::width; j++) sums.sum[k][i][j] *= factor.of[j];
}

// Adds `count` tokens of a chunk: decode(token of the chunk, cell, x) gives the coordinates of a
// cell and returns the factor they have in common.
template <bool masked, class Sums, class Decode>
__device__ inline void add_values(Sums &sums, Shared<PerQuery<Sums::width>> weights, int count,
                                  int thread, Decode decode) {
  constexpr int slots = Sums::slots, cells = Sums::cells;
  const int slot = slots > 1 ? thread / cells : 0;
  if (slot >= slots) return;
#pragma unroll
  for (int k = 0; k < Sums::per_thread; k++) {
    const int cell = slots > 1 ? thread % cells : thread + k * block_threads;
    if (cell >= cells) break;
    for (int token = slot; token < count; token += slots) {
      const PerQuery<Sums::width> weight = weights[token];
      if (masked && weight.of[0] < 0.0f) continue; // not seen
      float x[Sums::size];
      const float radius = decode(token, cell, x);
#pragma unroll
      for (int j = 0; j < Sums::width; j++) {
        const float scaled = weight.of[j] * radius;
#pragma unroll
        for (int i = 0; i < Sums::size; i++)
          sums.sum[k][i][j] = fmaf(scaled, x[i], sums.sum[k][i][j]);
      }
    }
  }
}

// Packed values of a chunk that begins at token `first`; places[i] is where the unit of its i-th
// token stands in the pool.
template <bool masked, class Sums>
__device__ inline void add_packed(Sums &sums, const value::Tables &tables, const polarc_pool &pool,
                                  Shared<int64_t> places, int32_t first, int count,
                                  Shared<PerQuery<Sums::width>> weights, int thread) {
  const unsigned char *data = static_cast<const unsigned char *>(pool.data);
  const auto decode = [&](int token, int cell, float (&x)[Sums::size]) {
    const uint32_t in_unit = static_cast<uint32_t>(first + token) % value::unit_tokens;
    const value::Cell decoded = value::decode_cell(tables, data + places[token], in_unit, cell);
#pragma unroll
    for (int i = 0; i < Sums::size; i++) x[i] = decoded.x[i];
    return decoded.radius;
  };
  add_values<masked>(sums, weights, count, thread, decode);
}

// Writes the sums of `count` queries to their partial results, slots added in order; nobody reads
// weights any more, whose place `exchange` may be.
template <class Sums>
__device__ inline void write_sums(const Sums &sums, float *partials, int count,
                                  Shared<PerQuery<Sums::width>> exchange, int thread) {
  constexpr int width = Sums::width, cells = Sums::cells, slots = Sums::slots, size = Sums::size;
  if constexpr (slots > 1) {
    constexpr int at_once = Sums::at_once;
#pragma unroll
    for (int first = 0; first < size; first += at_once) {
      const int coordinates = size - first < at_once ? size - first : at_once;
#pragma unroll
      for (int i = 0; i < at_once; i++) {
        if (first + i >= size) break;
        PerQuery<width> mine;
#pragma unroll
        for (int j = 0; j < width; j++) mine.of[j] = sums.sum[0][first + i][j];
        exchange[i * block_threads + thread] = mine;
      }
      __syncthreads();
      for (int item = thread; item < coordinates * cells; item += block_threads) {
        const int i = item / cells, cell = item % cells;
        PerQuery<width> all = exchange[i * block_threads + cell];
        for (int slot = 1; slot < slots; slot++) {
          const PerQuery<width> other = exchange[i * block_threads + slot * cells + cell];
#pragma unroll
          for (int j = 0; j < width; j++) all.of[j] += other.of[j];
        }
#pragma unroll
        for (int j = 0; j < width; j++)
          if (j < count) partials[j * partial_stride + cell * size + first + i] = all.of[j];
      }
      __syncthreads();
    }
  } else {
#pragma unroll
    for (int k = 0; k < Sums::per_thread; k++) {
      const int cell = thread + k * block_threads;
      if (cell >= cells) break;
#pragma unroll
      for (int i = 0; i < size; i++)
#pragma unroll
        for (int j = 0; j < width; j++)
          if (j < count) partials[j * partial_stride + cell * size + i] = sums.sum[k][i][j];
    }
  }
}

// Behind the sums: the greatest logits, and the sums of weights over all threads.
template <int width>
__device__ inline void write_weights(const float (&top)[width], const float (&mass)[width],
                                     float *partials, int count, Shared<PerQuery<width>> room,
                                     int thread) {
  PerQuery<width> sum;
#pragma unroll
  for (int j = 0; j < width; j++) sum.of[j] = warp_sum(mass[j]);
  if (thread % 32 == 0) room[thread / 32] = sum;
  __syncthreads();
  if (thread != 0) return;
#pragma unroll
  for (int warp = 1; warp < block_warps; warp++) {
    const PerQuery<width> other = room[warp];
#pragma unroll
    for (int j = 0; j < width; j++) sum.of[j] += other.of[j];
  }
#pragma unroll
  for (int j = 0; j < width; j++) {
    if (j >= count) break;
    partials[j * partial_stride + value_dim] = top[j];
    partials[j * partial_stride + value_dim + 1] = sum.of[j];
  }
}

// The partial results of a row whose tables are out of range.
__device__ inline void lose_partials(float *partials, int count, int thread) {
  for (int i = thread; i < count * partial_stride; i += block_threads)
    partials[i] = as_float(nan_bits);
}

constexpr int packed_parts = parts_of(most_queries(value::Cell::size, value::Cell::count));
constexpr int packed_width = width_of(most_queries(value::Cell::size, value::Cell::count));
using PackedSums = ValueSums<packed_width, value::Cell::size, value::Cell::count>;

constexpr int weighted_sum_parts = packed_parts;
constexpr int weighted_sum_threads = block_threads;
constexpr unsigned weighted_sum_shared_bytes =
    value::table_bytes + bytes_of<PerQuery<packed_width>>(PackedSums::exchange) +
    bytes_of<int64_t>(chunk) + bytes_of<PerQuery<packed_width>>(block_warps) +
    bytes_of<RowState>(1);

// Items are (row, KV head, split, part of the group); partial results have a maximum of 0.
extern "C" __global__ void __launch_bounds__(weighted_sum_threads, few_blocks)
    small_d64_cuda_kernel_weighted_sum(
        const __grid_constant__ WeightedSumArguments a) {
  constexpr int width = packed_width;
  SharedMemory memory;
  const value::Tables tables = value::take_tables(memory);
  Shared<PerQuery<width>> weights = memory.take<PerQuery<width>>(PackedSums::exchange);
  Shared<int64_t> places = memory.take<int64_t>(chunk);
  Shared<PerQuery<width>> room = memory.take<PerQuery<width>>(block_warps);
  Shared<RowState> states = memory.take<RowState>(1);
  const polarc_weighted_sum_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  value::fill_tables<weighted_sum_threads>(tables, thread);

  const bool all = p.head_begin == 0 && p.head_end == 0;
  const int32_t heads = (all ? p.kv_heads : p.head_end) - p.head_begin;
  const int64_t items = static_cast<int64_t>(p.rows) * heads * a.work.splits * packed_parts;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int part = static_cast<int>(item % packed_parts);
    const Unit unit = unit_of(item / packed_parts, a.work.splits, heads);
    const int64_t head = p.head_begin + unit.head;
    __syncthreads(); // nobody reads what the last unit had any more
    load_state(a.work, unit.row, states, thread);
    __syncthreads();
    const RowState &state = states[0];
    const int first = part * width; // query
    const int count = group - first < width ? group - first : width;
    float *partials = partials_of(a.work, (unit.row * p.kv_heads + head) * a.work.splits +
                                              unit.split) + first * partial_stride;
    if (!state.valid) {
      lose_partials(partials, count, thread);
      continue;
    }
    const float *given = p.weights + unit.row * p.weights_row_stride +
                         (head * group + first) * p.weights_head_stride;
    float top[width] = {}, mass[width] = {};
    PackedSums sums;
    clear_sums(sums);
    const Range range = split_range(a.work, unit.split, 0, state.length);
    for (int32_t begin = range.begin; begin < range.end;) {
      const int tokens = range.end - begin < chunk ? range.end - begin : chunk;
      if (thread < tokens) {
        PerQuery<width> weight;
#pragma unroll
        for (int j = 0; j < width; j++) {
          const int query = j < count ? j : 0;
          weight.of[j] = given[query * p.weights_head_stride + begin + thread];
          mass[j] += weight.of[j];
        }
        weights[thread] = weight;
        places[thread] = unit_offset<value::unit_tokens>(p.values, state, head, begin + thread);
      }
      __syncthreads();
      add_packed<false>(sums, tables, p.values, places, begin, tokens, weights, thread);
      __syncthreads();
      begin += tokens;
    }
    write_sums(sums, partials, count, weights, thread);
    write_weights<width>(top, mass, partials, count, room, thread);
  }
}

// ---- Attend: softmax over the packed tokens of a split ----

constexpr float lowest = -3e38f; // below every logit
constexpr float hidden = -1.0f;  // stands for the weights of a token that is not seen

// What a block has gathered of a part's queries, relative to e^top. A logit that is not finite
// makes the mass NaN for good.
template <int width> struct Softmax {
  float top[width];  // the greatest logit so far
  float mass[width]; // this thread's share of the sum of weights
};

template <int width> __device__ inline void clear(Softmax<width> &softmax) {
#pragma unroll
  for (int j = 0; j < width; j++) {
    softmax.top[j] = lowest;
    softmax.mass[j] = 0.0f;
  }
}

// Where nothing was seen, the greatest logit is minus infinity.
template <int width> __device__ inline void finish(Softmax<width> &softmax) {
#pragma unroll
  for (int j = 0; j < width; j++)
    if (softmax.top[j] == lowest) softmax.top[j] = as_float(minus_infinity_bits);
}

// From the logits of a chunk, a token each thread, to its weights in shared memory; gives the
// factors for what was gathered before. Barriers stand before and behind the writing of weights.
template <int width>
__device__ inline PerQuery<width> softmax_step(Softmax<width> &softmax, float (&logit)[width],
                                               bool seen, Shared<PerQuery<width>> weights,
                                               Shared<PerQuery<width>> room, int thread) {
  PerQuery<width> highest, shrink, weight;
#pragma unroll
  for (int j = 0; j < width; j++) {
    const bool lost = seen && !is_finite(logit[j]);
    if (lost) softmax.mass[j] = as_float(nan_bits);
    const float bounded = logit[j] < -1e38f ? -1e38f : logit[j] > 1e38f ? 1e38f : logit[j];
    logit[j] = seen && !lost ? bounded : lowest;
    highest.of[j] = warp_max(logit[j]);
  }
  if (thread % 32 == 0) room[thread / 32] = highest;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < block_warps; warp++) {
    const PerQuery<width> other = room[warp];
#pragma unroll
    for (int j = 0; j < width; j++)
      highest.of[j] = other.of[j] > highest.of[j] ? other.of[j] : highest.of[j];
  }
#pragma unroll
  for (int j = 0; j < width; j++) {
    const float top = softmax.top[j] > highest.of[j] ? softmax.top[j] : highest.of[j];
    shrink.of[j] = exp_of(softmax.top[j] - top);
    softmax.top[j] = top;
    weight.of[j] = seen ? exp_of(logit[j] - top) : hidden;
    softmax.mass[j] = fmaf(softmax.mass[j], shrink.of[j], seen ? weight.of[j] : 0.0f);
  }
  weights[thread] = weight;
  __syncthreads();
  return shrink;
}

constexpr int attend_parts = packed_parts;
constexpr int attend_threads = block_threads;
constexpr unsigned attend_shared_bytes =
    key::table_bytes +
    value::table_bytes +
    query_bytes<packed_width, key::Cell::size>() +
    bytes_of<PerQuery<packed_width>>(PackedSums::exchange) + bytes_of<int64_t>(chunk) +
    bytes_of<PerQuery<packed_width>>(block_warps) + bytes_of<RowState>(1);
static_assert(attend_shared_bytes <= 48 * 1024, "what every GPU has for a block");

// Items are (row, KV head, split, part of the group).
extern "C" __global__ void __launch_bounds__(attend_threads, few_blocks)
    small_d64_cuda_kernel_attend(
        const __grid_constant__ AttendArguments a) {
  constexpr int width = packed_width;
  SharedMemory memory;
  const key::Tables key_tables = key::take_tables(memory);
  const value::Tables value_tables = value::take_tables(memory);
  const Query<width, key::Cell::size> query = take_query<width, key::Cell::size>(memory);
  Shared<PerQuery<width>> weights = memory.take<PerQuery<width>>(PackedSums::exchange);
  Shared<int64_t> places = memory.take<int64_t>(chunk);
  Shared<PerQuery<width>> room = memory.take<PerQuery<width>>(block_warps);
  Shared<RowState> states = memory.take<RowState>(1);
  const polarc_attend_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  key::fill_tables<attend_threads>(key_tables, thread);
  value::fill_tables<attend_threads>(value_tables, thread);

  const int64_t items = (a.work.unit_end - a.work.unit_begin) * packed_parts;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int part = static_cast<int>(item % packed_parts);
    const int64_t index = a.work.unit_begin + item / packed_parts;
    const Unit unit = unit_of(index, a.work.splits, p.kv_heads);
    const int first = part * width; // query
    const int count = group - first < width ? group - first : width;
    float *partials = partials_of(a.work, index) + first * partial_stride;
    __syncthreads(); // nobody reads what the last unit had any more
    load_state(a.work, unit.row, states, thread);
    load_queries<width, key::Cell::size>(a.work, unit.row, unit.head, p.kv_heads, part, query,
                                         thread);
    __syncthreads();
    const RowState &state = states[0];
    if (!state.valid) {
      lose_partials(partials, count, thread);
      continue;
    }

    Softmax<width> gathered;
    clear(gathered);
    PackedSums sums;
    clear_sums(sums);
    const Range range = split_range(a.work, unit.split, state.begin, state.end);
    for (int32_t begin = range.begin; begin < range.end;) {
      const int tokens = range.end - begin < chunk ? range.end - begin : chunk;
      const bool seen = thread < tokens && sees(state, begin + thread);
      float logit[width] = {};
      if (seen) {
        const int32_t token = begin + thread;
        places[thread] = unit_offset<value::unit_tokens>(p.values, state, unit.head, token);
        key_products<width>(
            key_tables, unit_address<key::unit_tokens>(p.keys, state, unit.head, token),
            static_cast<uint32_t>(token) % key::unit_tokens, query, logit);
        const PerQuery<width> constants = constants_of<width, key::Cell::size>(query);
#pragma unroll
        for (int j = 0; j < width; j++)
          logit[j] = logit_of(logit[j], constants.of[j], p.scale, p.softcap);
      }
      const PerQuery<width> shrink = softmax_step(gathered, logit, seen, weights, room, thread);
      scale_sums(sums, shrink);
      add_packed<true>(sums, value_tables, p.values, places, begin, tokens, weights, thread);
      __syncthreads();
      begin += tokens;
    }
    write_sums(sums, partials, count, weights, thread);
    finish(gathered);
    write_weights<width>(gathered.top, gathered.mass, partials, count, room, thread);
  }
}

// ---- Attention in half precision: decoded once for the queries of a group, by tensor cores ----
//
// A lane owns whole cells of 16 coordinates, so that nothing is decoded twice and no decoded number
// leaves the lane. Of keys it holds two rows of a matrix of 16 tokens, g = lane / 4 and g + 8, and
// a quarter of their cells; of values the pairs of coordinates of cell g, tokens being what is
// summed over together with the parity of a coordinate. Columns are queries: four of them, twice,
// the second time for odd coordinates of values.

constexpr int half_step = 32; // tokens of a step of a warp
constexpr int half_sets = half_step / 16;
constexpr int half_quads = 1; // of four queries, at once
constexpr int half_parts = 1; // rounds over the queries of a group
constexpr int half_warps = 12;         // of a block, where records stand side by side
constexpr int half_strided_warps = 8; // where addresses take registers too
constexpr bool half_ahead = true; // words of the next step are loaded a step ahead
constexpr int half_slots = 4; // warps that hand over their sums at a time
constexpr int attend_half_threads = 32 * half_warps;
constexpr int attend_half_strided_threads = 32 * half_strided_warps;

// Tokens of a step, and of those whose lanes differ in g (keys) or t (values) the first one. A row
// of keys is number h of two in a set; lane t sums in part v over values h = 0 and 1. The bytes of
// a tile come four tokens at a time.
__device__ constexpr int half_key_token(int set, int h) {
  return half_step == 16 ? 8 * h : 2 * set + h;
}
constexpr int half_key_lane = half_step == 16 ? 1 : 4;
__device__ constexpr int half_value_token(int v, int h) {
  return half_step == 16 ? 8 * v + h : 4 * h + v;
}
constexpr int half_value_lane = half_step == 16 ? 2 : 8;

namespace key {

constexpr int half_cells = 4;
constexpr int half_words = 6; // of a cell and token, as they are loaded

// The first byte of the codes of a cell.
__device__ inline uint32_t half_codes([[maybe_unused]] uint32_t i) {
  return 0u;
}

// The first byte of the codes_1 of a cell.
__device__ inline uint32_t half_codes_1([[maybe_unused]] uint32_t i) {
  return 2u + 5u * i;
}

// The first byte of the codes_2 of a cell.
__device__ inline uint32_t half_codes_2([[maybe_unused]] uint32_t i) {
  return 22u + 3u * i;
}

// The first byte of the codes_3 of a cell.
__device__ inline uint32_t half_codes_3([[maybe_unused]] uint32_t i) {
  return 24u + 6u * (i / 2u);
}

// The first byte of the codes_4 of a cell.
__device__ inline uint32_t half_codes_4([[maybe_unused]] uint32_t i) {
  return 27u;
}
// The last bits of the records of four tokens, a byte each.
__device__ inline uint32_t rest_column(const uint8_t *tile, uint32_t first) {
  uint32_t column = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) column |= record_byte(tile, first + i, whole_bytes) << (8 * i);
  return column;
}

// The bytes of a cell of four tokens, `first` and behind: of word w of token i they are bytes i of
// columns 4 w to 4 w + 3. `from` is the place of the codes of another cell of the first token.
__device__ inline void load_cells(const uint8_t *from, uint32_t from_cell, uint32_t cell, int first,
                                  uint32_t (&column)[4 * half_words]) {
  {
    const int at = static_cast<int>(half_codes(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 0 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
    column[4 * 0 + 1] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_1(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 1 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
    column[4 * 1 + 1] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens));
    column[4 * 1 + 2] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 2 * unit_tokens));
    column[4 * 1 + 3] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 3 * unit_tokens));
    column[4 * 2 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 4 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_2(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    const int left = whole_bytes - static_cast<int>(half_codes_2(cell)); // in planes of bytes
    column[4 * 3 + 0] =
        0 < left ? __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens))
        : 0 == left
            ? rest_column(from - half_codes(from_cell) * unit_tokens - first, first)
            : 0;
    column[4 * 3 + 1] =
        1 < left ? __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens))
        : 1 == left
            ? rest_column(from - half_codes(from_cell) * unit_tokens - first, first)
            : 0;
    column[4 * 3 + 2] =
        2 < left ? __ldg(reinterpret_cast<const uint32_t *>(bytes + 2 * unit_tokens))
        : 2 == left
            ? rest_column(from - half_codes(from_cell) * unit_tokens - first, first)
            : 0;
  }
  {
    const int at = static_cast<int>(half_codes_3(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 4 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_4(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 5 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
  }
  static_cast<void>(first);
}

// Columns of four tokens to the words of each; what stands behind the last byte of a cell is left.
__device__ inline void to_tokens(const uint32_t (&column)[4 * half_words],
                                 uint32_t (&raw)[4][half_words]) {
  {
    const uint32_t *c = column + 4 * 0;
    raw[0][0] = __byte_perm(c[0], c[1], 0x0040);
    raw[1][0] = __byte_perm(c[0], c[1], 0x0051);
    raw[2][0] = __byte_perm(c[0], c[1], 0x0062);
    raw[3][0] = __byte_perm(c[0], c[1], 0x0073);
  }
  {
    const uint32_t *c = column + 4 * 1;
    const uint32_t a = __byte_perm(c[0], c[1], 0x5140), b = __byte_perm(c[0], c[1], 0x7362);
    const uint32_t d = __byte_perm(c[2], c[3], 0x5140), e = __byte_perm(c[2], c[3], 0x7362);
    raw[0][1] = __byte_perm(a, d, 0x5410);
    raw[1][1] = __byte_perm(a, d, 0x7632);
    raw[2][1] = __byte_perm(b, e, 0x5410);
    raw[3][1] = __byte_perm(b, e, 0x7632);
  }
  {
    const uint32_t *c = column + 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) raw[i][2] = c[0] >> (8 * i);
  }
  {
    const uint32_t *c = column + 4 * 3;
    const uint32_t a = __byte_perm(c[0], c[1], 0x5140), b = __byte_perm(c[0], c[1], 0x7362);
    raw[0][3] = __byte_perm(a, c[2], 0x0410);
    raw[1][3] = __byte_perm(a, c[2], 0x0532);
    raw[2][3] = __byte_perm(b, c[2], 0x0610);
    raw[3][3] = __byte_perm(b, c[2], 0x0732);
  }
  {
    const uint32_t *c = column + 4 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) raw[i][4] = c[0] >> (8 * i);
  }
  {
    const uint32_t *c = column + 4 * 5;
#pragma unroll
    for (int i = 0; i < 4; i++) raw[i][5] = c[0] >> (8 * i);
  }
}

} // namespace key

namespace value {

constexpr int half_cells = 4;
constexpr int half_words = 5; // of a cell and token, as they are loaded

// The first byte of the codes of a cell.
__device__ inline uint32_t half_codes([[maybe_unused]] uint32_t i) {
  return 0u;
}

// The first byte of the codes_1 of a cell.
__device__ inline uint32_t half_codes_1([[maybe_unused]] uint32_t i) {
  return 2u + 4u * i;
}

// The first byte of the codes_2 of a cell.
__device__ inline uint32_t half_codes_2([[maybe_unused]] uint32_t i) {
  return 18u + 2u * i;
}

// The first byte of the codes_3 of a cell.
__device__ inline uint32_t half_codes_3([[maybe_unused]] uint32_t i) {
  return 19u + 4u * (i / 2u);
}

// The first byte of the codes_4 of a cell.
__device__ inline uint32_t half_codes_4([[maybe_unused]] uint32_t i) {
  return 21u;
}
// The last bits of the records of four tokens, a byte each.
__device__ inline uint32_t rest_column(const uint8_t *tile, uint32_t first) {
  uint32_t column = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) column |= record_byte(tile, first + i, whole_bytes) << (8 * i);
  return column;
}

// The bytes of a cell of four tokens, `first` and behind: of word w of token i they are bytes i of
// columns 4 w to 4 w + 3. `from` is the place of the codes of another cell of the first token.
__device__ inline void load_cells(const uint8_t *from, uint32_t from_cell, uint32_t cell, int first,
                                  uint32_t (&column)[4 * half_words]) {
  {
    const int at = static_cast<int>(half_codes(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 0 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
    column[4 * 0 + 1] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_1(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 1 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
    column[4 * 1 + 1] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens));
    column[4 * 1 + 2] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 2 * unit_tokens));
    column[4 * 1 + 3] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 3 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_2(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    const int left = whole_bytes - static_cast<int>(half_codes_2(cell)); // in planes of bytes
    column[4 * 2 + 0] =
        0 < left ? __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens))
        : 0 == left
            ? rest_column(from - half_codes(from_cell) * unit_tokens - first, first)
            : 0;
    column[4 * 2 + 1] =
        1 < left ? __ldg(reinterpret_cast<const uint32_t *>(bytes + 1 * unit_tokens))
        : 1 == left
            ? rest_column(from - half_codes(from_cell) * unit_tokens - first, first)
            : 0;
  }
  {
    const int at = static_cast<int>(half_codes_3(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 3 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
  }
  {
    const int at = static_cast<int>(half_codes_4(cell) - half_codes(from_cell));
    const uint8_t *bytes = from + at * unit_tokens;
    column[4 * 4 + 0] =
        __ldg(reinterpret_cast<const uint32_t *>(bytes + 0 * unit_tokens));
  }
  static_cast<void>(first);
}

// Columns of four tokens to the words of each; what stands behind the last byte of a cell is left.
__device__ inline void to_tokens(const uint32_t (&column)[4 * half_words],
                                 uint32_t (&raw)[4][half_words]) {
  {
    const uint32_t *c = column + 4 * 0;
    raw[0][0] = __byte_perm(c[0], c[1], 0x0040);
    raw[1][0] = __byte_perm(c[0], c[1], 0x0051);
    raw[2][0] = __byte_perm(c[0], c[1], 0x0062);
    raw[3][0] = __byte_perm(c[0], c[1], 0x0073);
  }
  {
    const uint32_t *c = column + 4 * 1;
    const uint32_t a = __byte_perm(c[0], c[1], 0x5140), b = __byte_perm(c[0], c[1], 0x7362);
    const uint32_t d = __byte_perm(c[2], c[3], 0x5140), e = __byte_perm(c[2], c[3], 0x7362);
    raw[0][1] = __byte_perm(a, d, 0x5410);
    raw[1][1] = __byte_perm(a, d, 0x7632);
    raw[2][1] = __byte_perm(b, e, 0x5410);
    raw[3][1] = __byte_perm(b, e, 0x7632);
  }
  {
    const uint32_t *c = column + 4 * 2;
    raw[0][2] = __byte_perm(c[0], c[1], 0x0040);
    raw[1][2] = __byte_perm(c[0], c[1], 0x0051);
    raw[2][2] = __byte_perm(c[0], c[1], 0x0062);
    raw[3][2] = __byte_perm(c[0], c[1], 0x0073);
  }
  {
    const uint32_t *c = column + 4 * 3;
#pragma unroll
    for (int i = 0; i < 4; i++) raw[i][3] = c[0] >> (8 * i);
  }
  {
    const uint32_t *c = column + 4 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) raw[i][4] = c[0] >> (8 * i);
  }
}

} // namespace value

// Tables of joint10: every entry takes 128 bytes, in sixteen copies of two words or 32 of one, so
// that the lanes of a warp never meet in a bank. Numbers in a table are times a factor for which
// they round best to f16; the factors are divided out of the queries and of the result.
struct Half_joint10 {
  // the radius of one child of a node of level 6
  Shared<float> key_above_l6;
  // the radius of one child of a node of level 5
  Shared<float> key_above_l5;
  // radii below a node of level 4, in float32
  Shared<float2> key_exact_l4;
  // radii at level 1 below a node of level 3, times 0.91796875f
  Shared<uint2> key_triple_l3;
  // a pair of coordinates, times 0.50878906f
  Shared<uint32_t> key_pair;
  // the radius of one child of a node of level 6
  Shared<float> value_above_l6;
  // the radius of one child of a node of level 5
  Shared<float> value_above_l5;
  // radii below a node of level 4, in float32
  Shared<float2> value_exact_l4;
  // radii at level 1 below a node of level 3, times 0.8046875f
  Shared<uint2> value_triple_l3;
  // two pairs of coordinates, times 0.5839844f
  Shared<uint2> value_pairs;

  static constexpr unsigned table_bytes =
      128 * (16 + 16 + 8 + 512 + 32 + 8 + 8 + 4 + 64 + 256);
  static constexpr float key_scale = 0.46705246f;
  static constexpr bool key_turned = false;
  static constexpr float value_scale = 0.46992493f;
  static constexpr bool value_turned = false;

  __device__ void take(SharedMemory &memory) {
    key_above_l6 = memory.take<float>(16 * 32);
    key_above_l5 = memory.take<float>(16 * 32);
    key_exact_l4 = memory.take<float2>(8 * 16);
    key_triple_l3 = memory.take<uint2>(512 * 16);
    key_pair = memory.take<uint32_t>(32 * 32);
    value_above_l6 = memory.take<float>(8 * 32);
    value_above_l5 = memory.take<float>(8 * 32);
    value_exact_l4 = memory.take<float2>(4 * 16);
    value_triple_l3 = memory.take<uint2>(64 * 16);
    value_pairs = memory.take<uint2>(256 * 16);
  }

  __device__ void fill(int thread, int threads) {
    for (uint32_t i = thread; i < 16 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = key::direction_l6(((e >> 1u) & 7u));
      key_above_l6[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 16 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = key::direction_l5(((e >> 1u) & 7u));
      key_above_l5[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 8 * 16; i += threads) {
      const uint32_t e = i / 16;
      key_exact_l4[i] = key::direction_l4(((e >> 0u) & 7u));
    }
    for (uint32_t i = thread; i < 512 * 16; i += threads) {
      const uint32_t e = i / 16;
      const float2 left = key::direction_l2(((e >> 0u) & 7u));
      const float2 right = key::direction_l2(((e >> 6u) & 7u));
      const float2 parent = key::direction_l3(((e >> 3u) & 7u));
      key_triple_l3[i] = make_uint2(
          to_half2(0.91796875f * (parent.x * left.x), 0.91796875f * (parent.x * left.y)),
          to_half2(0.91796875f * (parent.y * right.x), 0.91796875f * (parent.y * right.y)));
    }
    for (uint32_t i = thread; i < 32 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 left = key::direction_l1(((e >> 0u) & 31u));
      key_pair[i] = to_half2(0.50878906f * left.x, 0.50878906f * left.y);
    }
    for (uint32_t i = thread; i < 8 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = value::direction_l6(((e >> 1u) & 3u));
      value_above_l6[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 8 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = value::direction_l5(((e >> 1u) & 3u));
      value_above_l5[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 4 * 16; i += threads) {
      const uint32_t e = i / 16;
      value_exact_l4[i] = value::direction_l4(((e >> 0u) & 3u));
    }
    for (uint32_t i = thread; i < 64 * 16; i += threads) {
      const uint32_t e = i / 16;
      const float2 left = value::direction_l2(((e >> 0u) & 3u));
      const float2 right = value::direction_l2(((e >> 4u) & 3u));
      const float2 parent = value::direction_l3(((e >> 2u) & 3u));
      value_triple_l3[i] = make_uint2(
          to_half2(0.8046875f * (parent.x * left.x), 0.8046875f * (parent.x * left.y)),
          to_half2(0.8046875f * (parent.y * right.x), 0.8046875f * (parent.y * right.y)));
    }
    for (uint32_t i = thread; i < 256 * 16; i += threads) {
      const uint32_t e = i / 16;
      const float2 left = value::direction_l1(((e >> 0u) & 15u));
      const float2 right = value::direction_l1(((e >> 4u) & 15u));
      value_pairs[i] = make_uint2(to_half2(0.5839844f * left.x, 0.5839844f * left.y),
                               to_half2(0.5839844f * right.x, 0.5839844f * right.y));
    }
  }

  // The coordinates of a cell as eight pairs. `wide` and `narrow` are the lane's places in entries
  // of two words and of one.
  __device__ void decode_key(
      const uint32_t (&raw)[key::half_words], uint32_t cell, uint32_t wide, uint32_t narrow,
      uint32_t (&pair)[8]) const {
    const uint32_t codes_0 = raw[0];
    const uint32_t codes_1_0 = raw[1];
    const uint32_t codes_1_1 = raw[2];
    const uint32_t codes_2_0 = raw[3];
    const uint32_t codes_3_0 = raw[4];
    const uint32_t codes_4_0 = raw[5];
    const float radius_0 = from_half(static_cast<uint16_t>(codes_0));
    const float radius_l5 = radius_0 *
        look_up(key_above_l6, ((codes_4_0 << 3u) & 0x700u) | ((cell >> 1u & 1u) << 7u) | narrow);
    const float radius_l4 = radius_l5 *
        look_up(key_above_l5, ((codes_3_0 << 3u) & 0x700u) | ((cell >> 0u & 1u) << 7u) | narrow);
    const float2 node_l4_0 = look_up(key_exact_l4, ((codes_2_0 >> 2u) & 0x380u) | wide);
    const float radius_l3_0 = radius_l4 * node_l4_0.x;
    const float radius_l3_1 = radius_l4 * node_l4_0.y;
    const uint32_t radii_l3_0 = to_half2(radius_l3_0, radius_l3_1);
    const uint2 triple_l3_0 = look_up(key_triple_l3, ((codes_2_0 << 7u) & 0xff80u) | wide);
    const uint32_t radii_l1_0 = mul_half2(triple_l3_0.x, low_half(radii_l3_0));
    const uint32_t radii_l1_1 = mul_half2(triple_l3_0.y, low_half(radii_l3_0));
    const uint2 triple_l3_1 = look_up(key_triple_l3, ((codes_2_0 >> 5u) & 0xff80u) | wide);
    const uint32_t radii_l1_2 = mul_half2(triple_l3_1.x, high_half(radii_l3_0));
    const uint32_t radii_l1_3 = mul_half2(triple_l3_1.y, high_half(radii_l3_0));
    const uint32_t leaf_0 = look_up(key_pair, ((codes_1_0 << 7u) & 0xf80u) | narrow);
    const uint32_t pair_0 = mul_half2(leaf_0, low_half(radii_l1_0));
    const uint32_t leaf_1 = look_up(key_pair, ((codes_1_0 << 2u) & 0xf80u) | narrow);
    const uint32_t pair_1 = mul_half2(leaf_1, high_half(radii_l1_0));
    const uint32_t leaf_2 = look_up(key_pair, ((codes_1_0 >> 3u) & 0xf80u) | narrow);
    const uint32_t pair_2 = mul_half2(leaf_2, low_half(radii_l1_1));
    const uint32_t leaf_3 = look_up(key_pair, ((codes_1_0 >> 8u) & 0xf80u) | narrow);
    const uint32_t pair_3 = mul_half2(leaf_3, high_half(radii_l1_1));
    const uint32_t leaf_4 = look_up(key_pair, ((codes_1_0 >> 13u) & 0xf80u) | narrow);
    const uint32_t pair_4 = mul_half2(leaf_4, low_half(radii_l1_2));
    const uint32_t leaf_5 = look_up(key_pair, ((codes_1_0 >> 18u) & 0xf80u) | narrow);
    const uint32_t pair_5 = mul_half2(leaf_5, high_half(radii_l1_2));
    const uint32_t leaf_6 =
        look_up(key_pair, (__funnelshift_r(codes_1_0, codes_1_1, 23u) & 0xf80u) | narrow);
    const uint32_t pair_6 = mul_half2(leaf_6, low_half(radii_l1_3));
    const uint32_t leaf_7 = look_up(key_pair, ((codes_1_1 << 4u) & 0xf80u) | narrow);
    const uint32_t pair_7 = mul_half2(leaf_7, high_half(radii_l1_3));
    pair[0] = pair_0;
    pair[1] = pair_1;
    pair[2] = pair_2;
    pair[3] = pair_3;
    pair[4] = pair_4;
    pair[5] = pair_5;
    pair[6] = pair_6;
    pair[7] = pair_7;
    static_cast<void>(cell);
    static_cast<void>(wide);
    static_cast<void>(narrow);
  }

  // The coordinates of a cell as eight pairs. `wide` and `narrow` are the lane's places in entries
  // of two words and of one.
  __device__ void decode_value(
      const uint32_t (&raw)[value::half_words], uint32_t cell, uint32_t wide, uint32_t narrow,
      uint32_t (&pair)[8]) const {
    const uint32_t codes_0 = raw[0];
    const uint32_t codes_1_0 = raw[1];
    const uint32_t codes_2_0 = raw[2];
    const uint32_t codes_3_0 = raw[3];
    const uint32_t codes_4_0 = raw[4];
    const float radius_0 = from_half(static_cast<uint16_t>(codes_0));
    const float radius_l5 = radius_0 *
        look_up(value_above_l6, ((codes_4_0 << 2u) & 0x300u) | ((cell >> 1u & 1u) << 7u) | narrow);
    const float radius_l4 = radius_l5 *
        look_up(value_above_l5, ((codes_3_0 << 2u) & 0x300u) | ((cell >> 0u & 1u) << 7u) | narrow);
    const float2 node_l4_0 = look_up(value_exact_l4, ((codes_2_0 << 1u) & 0x180u) | wide);
    const float radius_l3_0 = radius_l4 * node_l4_0.x;
    const float radius_l3_1 = radius_l4 * node_l4_0.y;
    const uint32_t radii_l3_0 = to_half2(radius_l3_0, radius_l3_1);
    const uint2 triple_l3_0 =
        look_up(value_triple_l3, ((codes_2_0 << 7u) & 0x1f80u) | wide);
    const uint32_t radii_l1_0 = mul_half2(triple_l3_0.x, low_half(radii_l3_0));
    const uint32_t radii_l1_1 = mul_half2(triple_l3_0.y, low_half(radii_l3_0));
    const uint2 triple_l3_1 =
        look_up(value_triple_l3, ((codes_2_0 >> 1u) & 0x1f80u) | wide);
    const uint32_t radii_l1_2 = mul_half2(triple_l3_1.x, high_half(radii_l3_0));
    const uint32_t radii_l1_3 = mul_half2(triple_l3_1.y, high_half(radii_l3_0));
    const uint2 leaves_1 = look_up(value_pairs, ((codes_1_0 << 7u) & 0x7f80u) | wide);
    const uint32_t pair_0 = mul_half2(leaves_1.x, low_half(radii_l1_0));
    const uint32_t pair_1 = mul_half2(leaves_1.y, high_half(radii_l1_0));
    const uint2 leaves_3 = look_up(value_pairs, ((codes_1_0 >> 1u) & 0x7f80u) | wide);
    const uint32_t pair_2 = mul_half2(leaves_3.x, low_half(radii_l1_1));
    const uint32_t pair_3 = mul_half2(leaves_3.y, high_half(radii_l1_1));
    const uint2 leaves_5 = look_up(value_pairs, ((codes_1_0 >> 9u) & 0x7f80u) | wide);
    const uint32_t pair_4 = mul_half2(leaves_5.x, low_half(radii_l1_2));
    const uint32_t pair_5 = mul_half2(leaves_5.y, high_half(radii_l1_2));
    const uint2 leaves_7 = look_up(value_pairs, ((codes_1_0 >> 17u) & 0x7f80u) | wide);
    const uint32_t pair_6 = mul_half2(leaves_7.x, low_half(radii_l1_3));
    const uint32_t pair_7 = mul_half2(leaves_7.y, high_half(radii_l1_3));
    pair[0] = pair_0;
    pair[1] = pair_1;
    pair[2] = pair_2;
    pair[3] = pair_3;
    pair[4] = pair_4;
    pair[5] = pair_5;
    pair[6] = pair_6;
    pair[7] = pair_7;
    static_cast<void>(cell);
    static_cast<void>(wide);
    static_cast<void>(narrow);
  }
};

// Tables of joint8: every entry takes 128 bytes, in sixteen copies of two words or 32 of one, so
// that the lanes of a warp never meet in a bank. Numbers in a table are times a factor for which
// they round best to f16; the factors are divided out of the queries and of the result.
struct Half_joint8 {
  // the radius of one child of a node of level 6
  Shared<float> key_above_l6;
  // the radius of one child of a node of level 5
  Shared<float> key_above_l5;
  // radii below a node of level 4, in float32
  Shared<float2> key_exact_l4;
  // radii below a node of level 3, in float32
  Shared<float2> key_exact_l3;
  // radii below a node of level 2, times 0.91015625f
  Shared<uint32_t> key_node_l2;
  // a pair of coordinates, times 0.50878906f
  Shared<uint32_t> key_pair;
  // the radius of one child of a node of level 6
  Shared<float> value_above_l6;
  // the radius of one child of a node of level 5
  Shared<float> value_above_l5;
  // radii below a node of level 4, in float32
  Shared<float2> value_exact_l4;
  // radii at level 1 below a node of level 3, times 0.8046875f
  Shared<uint2> value_triple_l3;
  // a pair of coordinates, times 0.5839844f
  Shared<uint32_t> value_pair;

  static constexpr unsigned table_bytes =
      128 * (16 + 16 + 8 + 8 + 8 + 32 + 8 + 8 + 4 + 64 + 16);
  static constexpr float key_scale = 0.46307755f;
  static constexpr bool key_turned = false;
  static constexpr float value_scale = 0.46992493f;
  static constexpr bool value_turned = false;

  __device__ void take(SharedMemory &memory) {
    key_above_l6 = memory.take<float>(16 * 32);
    key_above_l5 = memory.take<float>(16 * 32);
    key_exact_l4 = memory.take<float2>(8 * 16);
    key_exact_l3 = memory.take<float2>(8 * 16);
    key_node_l2 = memory.take<uint32_t>(8 * 32);
    key_pair = memory.take<uint32_t>(32 * 32);
    value_above_l6 = memory.take<float>(8 * 32);
    value_above_l5 = memory.take<float>(8 * 32);
    value_exact_l4 = memory.take<float2>(4 * 16);
    value_triple_l3 = memory.take<uint2>(64 * 16);
    value_pair = memory.take<uint32_t>(16 * 32);
  }

  __device__ void fill(int thread, int threads) {
    for (uint32_t i = thread; i < 16 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = key::direction_l6(((e >> 1u) & 7u));
      key_above_l6[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 16 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = key::direction_l5(((e >> 1u) & 7u));
      key_above_l5[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 8 * 16; i += threads) {
      const uint32_t e = i / 16;
      key_exact_l4[i] = key::direction_l4(((e >> 0u) & 7u));
    }
    for (uint32_t i = thread; i < 8 * 16; i += threads) {
      const uint32_t e = i / 16;
      key_exact_l3[i] = key::direction_l3(((e >> 0u) & 7u));
    }
    for (uint32_t i = thread; i < 8 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 left = key::direction_l2(((e >> 0u) & 7u));
      key_node_l2[i] = to_half2(0.91015625f * left.x, 0.91015625f * left.y);
    }
    for (uint32_t i = thread; i < 32 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 left = key::direction_l1(((e >> 0u) & 31u));
      key_pair[i] = to_half2(0.50878906f * left.x, 0.50878906f * left.y);
    }
    for (uint32_t i = thread; i < 8 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = value::direction_l6(((e >> 1u) & 3u));
      value_above_l6[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 8 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 children = value::direction_l5(((e >> 1u) & 3u));
      value_above_l5[i] = e & 1u ? children.y : children.x;
    }
    for (uint32_t i = thread; i < 4 * 16; i += threads) {
      const uint32_t e = i / 16;
      value_exact_l4[i] = value::direction_l4(((e >> 0u) & 3u));
    }
    for (uint32_t i = thread; i < 64 * 16; i += threads) {
      const uint32_t e = i / 16;
      const float2 left = value::direction_l2(((e >> 0u) & 3u));
      const float2 right = value::direction_l2(((e >> 4u) & 3u));
      const float2 parent = value::direction_l3(((e >> 2u) & 3u));
      value_triple_l3[i] = make_uint2(
          to_half2(0.8046875f * (parent.x * left.x), 0.8046875f * (parent.x * left.y)),
          to_half2(0.8046875f * (parent.y * right.x), 0.8046875f * (parent.y * right.y)));
    }
    for (uint32_t i = thread; i < 16 * 32; i += threads) {
      const uint32_t e = i / 32;
      const float2 left = value::direction_l1(((e >> 0u) & 15u));
      value_pair[i] = to_half2(0.5839844f * left.x, 0.5839844f * left.y);
    }
  }

  // The coordinates of a cell as eight pairs. `wide` and `narrow` are the lane's places in entries
  // of two words and of one.
  __device__ void decode_key(
      const uint32_t (&raw)[key::half_words], uint32_t cell, uint32_t wide, uint32_t narrow,
      uint32_t (&pair)[8]) const {
    const uint32_t codes_0 = raw[0];
    const uint32_t codes_1_0 = raw[1];
    const uint32_t codes_1_1 = raw[2];
    const uint32_t codes_2_0 = raw[3];
    const uint32_t codes_3_0 = raw[4];
    const uint32_t codes_4_0 = raw[5];
    const float radius_0 = from_half(static_cast<uint16_t>(codes_0));
    const float radius_l5 = radius_0 *
        look_up(key_above_l6, ((codes_4_0 << 3u) & 0x700u) | ((cell >> 1u & 1u) << 7u) | narrow);
    const float radius_l4 = radius_l5 *
        look_up(key_above_l5, ((codes_3_0 << 3u) & 0x700u) | ((cell >> 0u & 1u) << 7u) | narrow);
    const float2 node_l4_0 = look_up(key_exact_l4, ((codes_2_0 >> 2u) & 0x380u) | wide);
    const float radius_l3_0 = radius_l4 * node_l4_0.x;
    const float radius_l3_1 = radius_l4 * node_l4_0.y;
    const float2 node_l3_0 = look_up(key_exact_l3, ((codes_2_0 << 4u) & 0x380u) | wide);
    const float radius_l2_0 = radius_l3_0 * node_l3_0.x;
    const float radius_l2_1 = radius_l3_0 * node_l3_0.y;
    const uint32_t radii_l2_0 = to_half2(radius_l2_0, radius_l2_1);
    const uint32_t node_l2_0 = look_up(key_node_l2, ((codes_2_0 << 7u) & 0x380u) | narrow);
    const uint32_t radii_l1_0 = mul_half2(node_l2_0, low_half(radii_l2_0));
    const uint32_t node_l2_1 = look_up(key_node_l2, ((codes_2_0 << 1u) & 0x380u) | narrow);
    const uint32_t radii_l1_1 = mul_half2(node_l2_1, high_half(radii_l2_0));
    const float2 node_l3_1 = look_up(key_exact_l3, ((codes_2_0 >> 8u) & 0x380u) | wide);
    const float radius_l2_2 = radius_l3_1 * node_l3_1.x;
    const float radius_l2_3 = radius_l3_1 * node_l3_1.y;
    const uint32_t radii_l2_1 = to_half2(radius_l2_2, radius_l2_3);
    const uint32_t node_l2_2 = look_up(key_node_l2, ((codes_2_0 >> 5u) & 0x380u) | narrow);
    const uint32_t radii_l1_2 = mul_half2(node_l2_2, low_half(radii_l2_1));
    const uint32_t node_l2_3 = look_up(key_node_l2, ((codes_2_0 >> 11u) & 0x380u) | narrow);
    const uint32_t radii_l1_3 = mul_half2(node_l2_3, high_half(radii_l2_1));
    const uint32_t leaf_0 = look_up(key_pair, ((codes_1_0 << 7u) & 0xf80u) | narrow);
    const uint32_t pair_0 = mul_half2(leaf_0, low_half(radii_l1_0));
    const uint32_t leaf_1 = look_up(key_pair, ((codes_1_0 << 2u) & 0xf80u) | narrow);
    const uint32_t pair_1 = mul_half2(leaf_1, high_half(radii_l1_0));
    const uint32_t leaf_2 = look_up(key_pair, ((codes_1_0 >> 3u) & 0xf80u) | narrow);
    const uint32_t pair_2 = mul_half2(leaf_2, low_half(radii_l1_1));
    const uint32_t leaf_3 = look_up(key_pair, ((codes_1_0 >> 8u) & 0xf80u) | narrow);
    const uint32_t pair_3 = mul_half2(leaf_3, high_half(radii_l1_1));
    const uint32_t leaf_4 = look_up(key_pair, ((codes_1_0 >> 13u) & 0xf80u) | narrow);
    const uint32_t pair_4 = mul_half2(leaf_4, low_half(radii_l1_2));
    const uint32_t leaf_5 = look_up(key_pair, ((codes_1_0 >> 18u) & 0xf80u) | narrow);
    const uint32_t pair_5 = mul_half2(leaf_5, high_half(radii_l1_2));
    const uint32_t leaf_6 =
        look_up(key_pair, (__funnelshift_r(codes_1_0, codes_1_1, 23u) & 0xf80u) | narrow);
    const uint32_t pair_6 = mul_half2(leaf_6, low_half(radii_l1_3));
    const uint32_t leaf_7 = look_up(key_pair, ((codes_1_1 << 4u) & 0xf80u) | narrow);
    const uint32_t pair_7 = mul_half2(leaf_7, high_half(radii_l1_3));
    pair[0] = pair_0;
    pair[1] = pair_1;
    pair[2] = pair_2;
    pair[3] = pair_3;
    pair[4] = pair_4;
    pair[5] = pair_5;
    pair[6] = pair_6;
    pair[7] = pair_7;
    static_cast<void>(cell);
    static_cast<void>(wide);
    static_cast<void>(narrow);
  }

  // The coordinates of a cell as eight pairs. `wide` and `narrow` are the lane's places in entries
  // of two words and of one.
  __device__ void decode_value(
      const uint32_t (&raw)[value::half_words], uint32_t cell, uint32_t wide, uint32_t narrow,
      uint32_t (&pair)[8]) const {
    const uint32_t codes_0 = raw[0];
    const uint32_t codes_1_0 = raw[1];
    const uint32_t codes_2_0 = raw[2];
    const uint32_t codes_3_0 = raw[3];
    const uint32_t codes_4_0 = raw[4];
    const float radius_0 = from_half(static_cast<uint16_t>(codes_0));
    const float radius_l5 = radius_0 *
        look_up(value_above_l6, ((codes_4_0 << 2u) & 0x300u) | ((cell >> 1u & 1u) << 7u) | narrow);
    const float radius_l4 = radius_l5 *
        look_up(value_above_l5, ((codes_3_0 << 2u) & 0x300u) | ((cell >> 0u & 1u) << 7u) | narrow);
    const float2 node_l4_0 = look_up(value_exact_l4, ((codes_2_0 << 1u) & 0x180u) | wide);
    const float radius_l3_0 = radius_l4 * node_l4_0.x;
    const float radius_l3_1 = radius_l4 * node_l4_0.y;
    const uint32_t radii_l3_0 = to_half2(radius_l3_0, radius_l3_1);
    const uint2 triple_l3_0 =
        look_up(value_triple_l3, ((codes_2_0 << 7u) & 0x1f80u) | wide);
    const uint32_t radii_l1_0 = mul_half2(triple_l3_0.x, low_half(radii_l3_0));
    const uint32_t radii_l1_1 = mul_half2(triple_l3_0.y, low_half(radii_l3_0));
    const uint2 triple_l3_1 =
        look_up(value_triple_l3, ((codes_2_0 >> 1u) & 0x1f80u) | wide);
    const uint32_t radii_l1_2 = mul_half2(triple_l3_1.x, high_half(radii_l3_0));
    const uint32_t radii_l1_3 = mul_half2(triple_l3_1.y, high_half(radii_l3_0));
    const uint32_t leaf_0 = look_up(value_pair, ((codes_1_0 << 7u) & 0x780u) | narrow);
    const uint32_t pair_0 = mul_half2(leaf_0, low_half(radii_l1_0));
    const uint32_t leaf_1 = look_up(value_pair, ((codes_1_0 << 3u) & 0x780u) | narrow);
    const uint32_t pair_1 = mul_half2(leaf_1, high_half(radii_l1_0));
    const uint32_t leaf_2 = look_up(value_pair, ((codes_1_0 >> 1u) & 0x780u) | narrow);
    const uint32_t pair_2 = mul_half2(leaf_2, low_half(radii_l1_1));
    const uint32_t leaf_3 = look_up(value_pair, ((codes_1_0 >> 5u) & 0x780u) | narrow);
    const uint32_t pair_3 = mul_half2(leaf_3, high_half(radii_l1_1));
    const uint32_t leaf_4 = look_up(value_pair, ((codes_1_0 >> 9u) & 0x780u) | narrow);
    const uint32_t pair_4 = mul_half2(leaf_4, low_half(radii_l1_2));
    const uint32_t leaf_5 = look_up(value_pair, ((codes_1_0 >> 13u) & 0x780u) | narrow);
    const uint32_t pair_5 = mul_half2(leaf_5, high_half(radii_l1_2));
    const uint32_t leaf_6 = look_up(value_pair, ((codes_1_0 >> 17u) & 0x780u) | narrow);
    const uint32_t pair_6 = mul_half2(leaf_6, low_half(radii_l1_3));
    const uint32_t leaf_7 = look_up(value_pair, ((codes_1_0 >> 21u) & 0x780u) | narrow);
    const uint32_t pair_7 = mul_half2(leaf_7, high_half(radii_l1_3));
    pair[0] = pair_0;
    pair[1] = pair_1;
    pair[2] = pair_2;
    pair[3] = pair_3;
    pair[4] = pair_4;
    pair[5] = pair_5;
    pair[6] = pair_6;
    pair[7] = pair_7;
    static_cast<void>(cell);
    static_cast<void>(wide);
    static_cast<void>(narrow);
  }
};

// What a lane has of a step's keys: words on their way from memory. `packed`: records stand side by
// side on multiples of eight bytes.
template <bool packed> struct HalfKeys {
  static constexpr int per_lane = (key::half_cells + 3) / 4; // cells of a lane, side by side
  static constexpr int held = half_ahead ? per_lane : 1;     // whose words are in registers

  __device__ static uint32_t cell(int t, int i) {
    const int cell = t * per_lane + i;
    if (key::half_cells % 4 == 0) return cell;
    return cell < key::half_cells ? cell : key::half_cells - 1; // queries are zero beyond
  }
  uint32_t column[held][4 * key::half_words];

  __device__ static const uint8_t *place(const uint8_t *tile, int64_t, int g, int t) {
    return tile + half_key_lane * g + key::unit_tokens * key::half_codes(cell(t, 0));
  }
  __device__ void load_cell(int i, const uint8_t *from, int64_t, int g, int t) {
    key::load_cells(from, cell(t, 0), cell(t, i), half_key_lane * g,
                    column[half_ahead ? i : 0]);
  }
  __device__ void load(const uint8_t *from, int64_t stride, int g, int t) {
#pragma unroll
    for (int i = 0; i < per_lane; i++) load_cell(i, from, stride, g, t);
  }
};

template <bool packed> struct HalfValues {
  // Few cells: lanes 16 to 31 take the second token of a pair, the others the first one.
  static constexpr bool split = value::half_cells <= 4;
  static constexpr int rows = split ? 4 : 8; // cells that a warp takes at a time
  static constexpr int per_lane = (value::half_cells + rows - 1) / rows;
  static constexpr int held = half_ahead ? per_lane : 1;
  static constexpr int tokens = split ? 1 : 2;
  static constexpr int parts = half_step / 8;

  __device__ static uint32_t cell(int g, int i) {
    const int cell = g % rows + rows * i;
    if (value::half_cells % rows == 0) return cell;
    return cell < value::half_cells ? cell : value::half_cells - 1; // a result that nobody reads
  }
  // The lane's first token of a step.
  __device__ static int token(int g, int t) {
    return half_value_lane * t + (split ? half_value_token(0, g / 4) : 0);
  }
  uint32_t column[tokens][held][4 * value::half_words];

  __device__ static const uint8_t *place(const uint8_t *tile, int64_t, int g, int t) {
    return tile + token(g, t) + value::unit_tokens * value::half_codes(cell(g, 0));
  }
  __device__ void load_cell(int i, const uint8_t *from, int64_t, int g, int t) {
#pragma unroll
    for (int h = 0; h < tokens; h++)
      value::load_cells(from + half_value_token(0, h), cell(g, 0), cell(g, i),
                        token(g, t) + half_value_token(0, h), column[h][half_ahead ? i : 0]);
  }
  // Forgets a token: as zeros it decodes to zero.
  __device__ void keep(int i, int v, int h, bool seen) {
#pragma unroll
    for (int k = 0; k < 4 * value::half_words; k++)
      column[h][half_ahead ? i : 0][k] &= seen ? 0xffffffffu : ~(0xffu << (8 * v));
  }
  __device__ void load(const uint8_t *from, int64_t stride, int g, int t) {
#pragma unroll
    for (int i = 0; i < per_lane; i++) load_cell(i, from, stride, g, t);
  }
};

constexpr int half_columns = 4 * half_quads; // queries of a round
constexpr int half_pairs = key::head_dim / 2; // of coordinates of a query

// Sums of a warp.
constexpr int half_slot_floats = half_quads * HalfValues<true>::per_lane * 16 * 32;

template <class Tables>
constexpr unsigned attend_half_shared_bytes =
    Tables::table_bytes +
    4 * (2 * round_up(half_warps * half_columns, 4) + 2 * half_columns + 8 +
         half_slots * half_slot_floats + half_columns * half_pairs);

// Softmax attention of a row's queries of a KV head over one split of packed tokens, cut into equal
// shares for the warps. Logits are in powers of two; their reference moves only when weights of a
// lane exceed 256 together, so that the common step has no exchange between lanes.
template <class Tables, bool packed> __device__ void attend_half(const AttendArguments &a) {
  using Keys = HalfKeys<packed>;
  using Values = HalfValues<packed>;
  constexpr int warps = packed ? half_warps : half_strided_warps, threads = 32 * warps;
  constexpr int per_key = Keys::per_lane, per_value = Values::per_lane;
  const polarc_attend_params &p = a.p;
  const Work &work = a.work;

  SharedMemory memory;
  Tables tables;
  tables.take(memory);
  Shared<float> tops = memory.take<float>(warps * half_columns);
  Shared<float> masses = memory.take<float>(warps * half_columns);
  Shared<float2> lines = memory.take<float2>(half_columns);
  Shared<int64_t> items = memory.take<int64_t>(4);
  constexpr int slot_floats = half_slot_floats;
  Shared<float> slots = memory.take<float>(half_slots * slot_floats);
  Shared<uint32_t> pairs = memory.take<uint32_t>(half_columns * half_pairs);
  check_shared_begin();
  tables.fill(threadIdx.x, threads);

  // Places in table entries, and bytes that move a weight to even or odd coordinates.
  const int self = static_cast<int>(threadIdx.x) % 32; // the lane
  const uint32_t wide = opaque((self & 15) * 8), narrow = opaque(self * 4);
  const uint32_t first_weight = opaque(self < 16 ? 0x4410 : 0x1044);
  const uint32_t second_weight = opaque(self < 16 ? 0x4432 : 0x3244);

  // The block's item stands in shared memory meanwhile: registers are for the common step.
  const int64_t count = (work.unit_end - work.unit_begin) * half_parts;
  const auto go_on = [&](int64_t item) {
    __syncthreads();
    if (threadIdx.x == 0) items[0] = item;
    __syncthreads();
  };
  for (go_on(blockIdx.x); items[0] < count; go_on(items[0] + gridDim.x)) {
    // Made again for each item: registers hold no places of a lane meanwhile.
    const int thread = opaque(threadIdx.x);
    const int warp = __shfl_sync(all_lanes, thread / 32, 0), lane = thread & 31;
    const int g = lane / 4, t = lane % 4;
    const int64_t unit = work.unit_begin + items[0] / half_parts;
    const int part = static_cast<int>(items[0] % half_parts) * half_columns; // first query
    const int64_t split = unit % work.splits, head = unit / work.splits % p.kv_heads;
    const int64_t row = unit / work.splits / p.kv_heads;
    const RowState &state = work.states[row];
    const auto partial_of = [&](int j) { // of the part's queries
      const int64_t of_unit = (work.unit_begin + items[0] / half_parts) * group;
      const int64_t of_part = items[0] % half_parts * half_columns;
      return work.partials + (of_unit + of_part + j) * partial_stride;
    };
    const int queries = group - part < half_columns ? group - part : half_columns;
    if (!state.valid) {
      for (int i = thread; i < queries * partial_stride; i += threads)
        partial_of(0)[i] = as_float(nan_bits);
      continue;
    }
    // Tokens of the split that the row may see, in equal shares of whole steps.
    const int64_t from = split * work.split_tokens, to = from + work.split_tokens;
    const int begin = static_cast<int>(state.begin > from ? state.begin : from);
    const int end = static_cast<int>(state.end < to ? state.end : to);
    const int aligned = begin / half_step * half_step;
    const int steps = end > begin ? (end - aligned + half_step - 1) / half_step : 0;
    const int share = (steps + warps - 1) / warps;
    const int first = warp * share, last = first + share < steps ? first + share : steps;

    // Steps count from the first one that is seen whole, if any is: of so many. Logits are capped
    // where tokens are hidden, out of the way of the common step.
    const int origin = (begin + half_step - 1) / half_step * half_step;
    const bool common = end > origin && !state.positions && !(p.softcap > 0);
    const unsigned whole_steps = common ? (end - origin) / half_step : 0;

    // Queries in f16, scaled by a power of two so that it holds them. A logit, in powers of two, is
    // x * product + y of their line.
    for (int j = warp; j < half_columns; j += warps) {
      const bool is = j < queries;
      const float *q = work.queries +
                       ((row * p.kv_heads + head) * group + part + (is ? j : 0)) * query_stride;
      float greatest = 0;
      for (int i = lane; i < key::head_dim; i += 32) greatest = fmaxf(greatest, fabsf(q[i]));
      greatest = warp_max(greatest);
      int exponent = static_cast<int>(as_bits(greatest) >> 23);
      exponent = exponent < 16 ? 16 : exponent > 240 ? 240 : exponent;
      const float up = as_float(static_cast<uint32_t>(261 - exponent) << 23); // 2^(7 - exponent)
      const float down = as_float(static_cast<uint32_t>(exponent - 7) << 23);
      for (int i = lane; i < half_pairs; i += 32) {
        const int turn = Tables::key_turned ? i & 1 : 0;
        const float left = q[2 * i + turn] * up, right = q[2 * i + 1 - turn] * up;
        pairs[j * half_pairs + i] = is ? to_half2(left, right) : 0;
      }
      if (lane == 0)
        lines[j] = make_float2(p.scale * (log2_e / Tables::key_scale * down),
                               p.scale * (log2_e * q[key::head_dim]));
    }
    if (thread == 0) { // page 0 of the head, or of a sequence without a table
      const int64_t first_page = state.pages ? 0 : state.first_page;
      items[1] = reinterpret_cast<int64_t>(p.keys.data) + head * p.keys.head_stride +
                 first_page * p.keys.page_stride;
      items[2] = reinterpret_cast<int64_t>(p.values.data) + head * p.values.head_stride +
                 first_page * p.values.page_stride;
    }
    __syncthreads();

    // As columns of B: of lane (g, t) query g mod 4, the pairs that lane t decodes.
    const auto query_pair = [&](int quad, int i, int k) -> uint32_t {
      const int at = (self % 4 * per_key + i) * 8 + k;
      return at < half_pairs ? pairs[(quad * 4 + self / 4 % 4) * half_pairs + at] : 0;
    };
    uint32_t query[half_quads][Keys::held][8];
    float factor[half_quads][2], constant[half_quads][2];
#pragma unroll
    for (int quad = 0; quad < half_quads; quad++) {
      if (half_ahead)
#pragma unroll
        for (int i = 0; i < per_key; i++)
#pragma unroll
          for (int k = 0; k < 8; k++) query[quad][i][k] = query_pair(quad, i, k);
#pragma unroll
      for (int c = 0; c < 2; c++) {
        // Capped logits take the place of products.
        const float2 line = lines[quad * 4 + (2 * t + c) % 4];
        factor[quad][c] = p.softcap > 0 ? 1 : line.x;
        constant[quad][c] = key::centred && !(p.softcap > 0) ? line.y : 0;
      }
    }

    // Weights are relative to a reference: factor * product + offset is the logit less it.
    float offset[half_quads][2], mass[half_quads][2];
    float sum[half_quads][per_value][4][4];
#pragma unroll
    for (int quad = 0; quad < half_quads; quad++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        offset[quad][c] = 1e30f;
        mass[quad][c] = 0;
      }
#pragma unroll
      for (int i = 0; i < per_value; i++)
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
          for (int c = 0; c < 4; c++) sum[quad][i][k][c] = 0;
    }

    const int64_t key_stride = packed ? key::unit_bytes : p.keys.unit_stride;
    const int64_t value_stride = packed ? value::unit_bytes : p.values.unit_stride;

    // Words are loaded `ahead` steps before they are needed. What is loaded in step i stands at
    // key_page + i * key_bytes until step `stop`, where a page ends, or the share at `until`: one
    // comparison for both, and one multiplication where moving an address takes two additions.
    constexpr int ahead = half_ahead ? 1 : 0, page_steps = page_tokens / half_step;
    const int64_t key_bytes = half_step / key::unit_tokens * key_stride;
    const int64_t value_bytes = half_step / value::unit_tokens * value_stride;
    const uint8_t *key_page = nullptr, *value_page = nullptr;
    int step = first - (origin - aligned) / half_step - ahead;
    const int until = step + last - first;
    const bool any = step < until;
    int stop = step - (aligned + first * half_step) % page_tokens / half_step;
    // Pages are looked up one ahead, behind the first page of sequences without a table.
    const auto page_at = [&](int i) -> int32_t {
      const int page = static_cast<unsigned>(origin + (i + ahead) * half_step) / page_tokens;
      return state.pages ? state.pages[page] : page;
    };
    int32_t page_ahead = any ? page_at(step) : 0;
    // To the page that begins at `stop`.
    const auto turn_page = [&] {
      const int back = opaque(-stop), next = stop + page_steps;
      const uint32_t page = page_ahead; // not negative
      const int again = opaque(thread) & 31; // the lane: its places take no registers meanwhile
      const uint8_t *keys_of = reinterpret_cast<const uint8_t *>(items[1]);
      const uint8_t *values_of = reinterpret_cast<const uint8_t *>(items[2]);
      keys_of = Keys::place(keys_of, key_stride, again / 4, again % 4);
      values_of = Values::place(values_of, value_stride, again / 4, again % 4);
      key_page = opaque(keys_of + back * key_bytes) + page * p.keys.page_stride;
      value_page = opaque(values_of + back * value_bytes) + page * p.values.page_stride;
      if (next < until) page_ahead = page_at(next);
      stop = next < until ? next : until;
    };
    // Whether a step is left.
    const auto go_on_at_stop = [&] {
      if (step < until) {
        turn_page();
      } else if (half_ahead && step == until) {
        key_page -= key_bytes; // the last step is read again
        value_page -= value_bytes;
        stop++;
      } else {
        return false;
      }
      return true;
    };
    Keys keys;
    Values values;
    if (any) {
      turn_page();
      if (half_ahead) {
        keys.load(key_page + step * key_bytes, key_stride, g, t);
        values.load(value_page + step * value_bytes, value_stride, g, t);
        if (++step == stop) go_on_at_stop();
      }
    }
    if (any) for (;;) {
      const bool whole = static_cast<unsigned>(step) < whole_steps;
      const uint8_t *key_at = key_page + step * key_bytes;
      const uint8_t *value_at = value_page + step * value_bytes;

      // Products with queries: rows are tokens.
      float product[half_sets][half_quads][4];
#pragma unroll
      for (int set = 0; set < half_sets; set++)
#pragma unroll
        for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
          for (int c = 0; c < 4; c++) product[set][quad][c] = 0;
#pragma unroll (half_ahead ? per_key : 1)
      for (int i = 0; i < per_key; i++) {
        if (!half_ahead) {
          keys.load_cell(i, key_at, key_stride, g, t);
#pragma unroll
          for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
            for (int k = 0; k < 8; k++) query[quad][0][k] = query_pair(quad, i, k);
        }
        uint32_t raw[4][key::half_words];
        key::to_tokens(keys.column[half_ahead ? i : 0], raw);
#pragma unroll
        for (int set = 0; set < half_sets; set++) {
          uint32_t low[8], high[8];
          const uint32_t cell = Keys::cell(t, i);
          tables.decode_key(raw[2 * set], cell, wide, narrow, low);
          tables.decode_key(raw[2 * set + 1], cell, wide, narrow, high);
#pragma unroll
          for (int k = 0; k < 8; k += 2) {
            const uint32_t rows[4] = {low[k], high[k], low[k + 1], high[k + 1]};
#pragma unroll
            for (int quad = 0; quad < half_quads; quad++) {
              const uint32_t (&q)[8] = query[quad][half_ahead ? i : 0];
              const uint32_t columns[2] = {q[k], q[k + 1]};
              mma_16816(product[set][quad], rows, columns);
            }
          }
        }
      }
      if (half_ahead) keys.load(key_at, key_stride, g, t);

      // Weights of tokens and their sums. They stand but where a token is hidden, logits are capped
      // or the reference has to move.
      float w[half_sets][half_quads][4], more[half_quads][2];
      bool unusual = !whole;
#pragma unroll
      for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          more[quad][c] = 0;
#pragma unroll
          for (int set = 0; set < half_sets; set++)
#pragma unroll
            for (int h = 0; h < 4; h += 2) {
              float &x = w[set][quad][c + h];
              x = exp2_of(fmaf(product[set][quad][c + h], factor[quad][c], offset[quad][c]));
              more[quad][c] = set + h == 0 ? x : more[quad][c] + x;
            }
          unusual |= !(more[quad][c] <= 256);
        }
      // A weight of zero would not hide a value that is not finite.
      const auto hide = [&](int i, int first) {
#pragma unroll
        for (int v = 0; v < Values::parts; v++)
#pragma unroll
          for (int h = 0; h < Values::tokens; h++)
            values.keep(i, v, h, sees(state, first + half_value_token(v, h)));
      };
      const int token = origin + step * half_step;
      if (__any_sync(all_lanes, unusual)) {
        const int again = opaque(thread) & 31; // the lane: its places take no registers meanwhile
        if (p.softcap > 0) {
#pragma unroll
          for (int set = 0; set < half_sets; set++)
#pragma unroll
            for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
              for (int c = 0; c < 4; c++) {
                const float2 line = lines[quad * 4 + (2 * again + c % 2) % 4];
                const float logit = fmaf(product[set][quad][c], line.x, line.y) * ln_2;
                product[set][quad][c] =
                    p.softcap * (log2_e * tanh_of(__fdiv_rn(logit, p.softcap)));
              }
        }
        bool seen[half_sets][2];
#pragma unroll
        for (int set = 0; set < half_sets; set++)
#pragma unroll
          for (int h = 0; h < 2; h++)
            seen[set][h] =
                whole || sees(state, token + half_key_lane * (again / 4) + half_key_token(set, h));
        if (half_ahead && !whole)
#pragma unroll
          for (int i = 0; i < per_value; i++) hide(i, token + Values::token(again / 4, again % 4));
        // The reference moves to the greatest logit so far.
#pragma unroll
        for (int quad = 0; quad < half_quads; quad++) {
          float shrink[2];
#pragma unroll
          for (int c = 0; c < 2; c++) {
            const float before = constant[quad][c] - offset[quad][c];
            float greatest = before;
#pragma unroll
            for (int set = 0; set < half_sets; set++)
#pragma unroll
              for (int h = 0; h < 2; h++)
                if (seen[set][h])
                  greatest = fmaxf(
                      greatest,
                      fmaf(product[set][quad][c + 2 * h], factor[quad][c], constant[quad][c]));
#pragma unroll
            for (int other = 4; other < 32; other *= 2)
              greatest = fmaxf(greatest, __shfl_xor_sync(all_lanes, greatest, other));
            offset[quad][c] = constant[quad][c] - greatest;
            shrink[c] = exp2_of(before - greatest);
            mass[quad][c] *= shrink[c];
            more[quad][c] = 0;
#pragma unroll
            for (int set = 0; set < half_sets; set++)
#pragma unroll
              for (int h = 0; h < 2; h++) {
                float &x = w[set][quad][c + 2 * h];
                x = exp2_of(
                    fmaf(product[set][quad][c + 2 * h], factor[quad][c], offset[quad][c]));
                x = seen[set][h] ? x : 0;
                more[quad][c] += x;
              }
          }
#pragma unroll
          for (int i = 0; i < per_value; i++)
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
              for (int c = 0; c < 4; c++) sum[quad][i][k][c] *= shrink[c % 2];
        }
      }

      // Turned from rows of tokens to columns of queries.
      uint32_t weight[half_quads][Values::parts];
#pragma unroll
      for (int quad = 0; quad < half_quads; quad++) {
#pragma unroll
        for (int c = 0; c < 2; c++) mass[quad][c] += more[quad][c];
#pragma unroll
        for (int set = 0; set < half_sets; set++)
#pragma unroll
          for (int h = 0; h < 2; h++)
            weight[quad][2 * set + h] =
                transpose_8x8(to_half2(w[set][quad][2 * h], w[set][quad][2 * h + 1]));
      }

      // Values: rows are pairs of coordinates.
#pragma unroll
      for (int i = 0; i < per_value; i++) {
        if (!half_ahead) values.load_cell(i, value_at, value_stride, g, t);
        if (!half_ahead && !whole) hide(i, token + Values::token(g, t));
        uint32_t raw[Values::tokens][4][value::half_words];
#pragma unroll
        for (int h = 0; h < Values::tokens; h++)
          value::to_tokens(values.column[h][half_ahead ? i : 0], raw[h]);
#pragma unroll
        for (int v = 0; v < Values::parts; v++) {
          uint32_t pair[2][8];
#pragma unroll
          for (int h = 0; h < Values::tokens; h++) {
            const uint32_t (&words)[value::half_words] = raw[h][v];
            tables.decode_value(words, Values::cell(g, i), wide, narrow, pair[h]);
          }
#pragma unroll
          for (int k = 0; k < 4; k++) {
            uint32_t rows[4] = {pair[0][2 * k], pair[0][2 * k + 1], 0, 0};
            if (Values::split) {
              rows[2] = g < 4 ? 0 : rows[0];
              rows[3] = g < 4 ? 0 : rows[1];
              rows[0] = g < 4 ? rows[0] : 0;
              rows[1] = g < 4 ? rows[1] : 0;
            } else {
              rows[2] = pair[Values::tokens - 1][2 * k];
              rows[3] = pair[Values::tokens - 1][2 * k + 1];
            }
#pragma unroll
            for (int quad = 0; quad < half_quads; quad++) {
              const uint32_t columns[2] = {__byte_perm(weight[quad][v], 0, first_weight),
                                           __byte_perm(weight[quad][v], 0, second_weight)};
              mma_16816(sum[quad][i][k], rows, columns);
            }
          }
        }
      }
      if (half_ahead) values.load(value_at, value_stride, g, t);
      if (++step != stop) continue;
      if (!go_on_at_stop()) break;
    }

    // The warps' sums to one: relative to the greatest reference of all, then half of the warps at
    // a time hand theirs over.
#pragma unroll
    for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
      for (int c = 0; c < 2; c++) {
#pragma unroll
        for (int other = 4; other < 32; other *= 2)
          mass[quad][c] += __shfl_xor_sync(all_lanes, mass[quad][c], other);
        if (g == 0 && t < 2) {
          tops[warp * half_columns + quad * 4 + 2 * t + c] = constant[quad][c] - offset[quad][c];
          masses[warp * half_columns + quad * 4 + 2 * t + c] = mass[quad][c];
        }
      }
    __syncthreads();
#pragma unroll
    for (int quad = 0; quad < half_quads; quad++) {
      float shrink[2];
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int j = quad * 4 + (2 * t + c) % 4;
        float greatest = -1e30f;
        for (int w = 0; w < warps; w++)
          greatest = fmaxf(greatest, tops[w * half_columns + j]);
        shrink[c] = exp2_of(constant[quad][c] - offset[quad][c] - greatest);
      }
#pragma unroll
      for (int i = 0; i < per_value; i++)
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
          for (int c = 0; c < 4; c++) {
            float &x = sum[quad][i][k][c];
            x *= shrink[c % 2];
            // Lanes 16 to 31 have summed over other tokens.
            if (Values::split) x += __shfl_xor_sync(all_lanes, x, 16);
          }
    }
    for (int active = warps; active > 1; active = (active + 1) / 2) {
      const int keep = (active + 1) / 2; // the warps behind them hand over
      for (int giver = keep; giver < active; giver += half_slots) {
        const int give = warp - giver, take = warp - giver + keep; // places of a warp, if any
        const bool gives = give >= 0 && give < half_slots && warp < active;
        const bool takes = take >= 0 && take < half_slots && warp + keep < active;
        const int place = (gives ? give : take) * slot_floats;
#pragma unroll
        for (int step = 0; step < 2; step++) {
          if (step == 0 ? gives : takes) {
#pragma unroll
            for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
              for (int i = 0; i < per_value; i++)
#pragma unroll
                for (int k = 0; k < 4; k++)
#pragma unroll
                  for (int c = 0; c < 4; c++) {
                    const int at = (((quad * per_value + i) * 4 + k) * 4 + c) * 32 + lane;
                    if (step == 0) slots[place + at] = sum[quad][i][k][c];
                    else sum[quad][i][k][c] += slots[place + at];
                  }
          }
          __syncthreads();
        }
      }
    }

    if (warp == 0) {
#pragma unroll
      for (int quad = 0; quad < half_quads; quad++)
#pragma unroll
        for (int i = 0; i < per_value; i++)
#pragma unroll
          for (int k = 0; k < 4; k++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
              const int cell = g % Values::rows + Values::rows * i;
              const int j = quad * 4 + 2 * (t % 2) + c % 2;
              const int turn = Tables::value_turned ? c / 2 : 0;
              const int at = cell * 16 + 4 * k + 2 * (c / 2) + (t / 2 ^ turn);
              if (cell < value::half_cells && g < Values::rows && j < queries)
                partial_of(j)[at] =
                    sum[quad][i][k][c] * (1 / Tables::value_scale);
            }
    }
    if (thread < queries) {
      float greatest = -1e30f, total = 0;
      for (int w = 0; w < warps; w++)
        greatest = fmaxf(greatest, tops[w * half_columns + thread]);
      for (int w = 0; w < warps; w++)
        total += masses[w * half_columns + thread] *
                 exp2_of(tops[w * half_columns + thread] - greatest);
      float *end_of = partial_of(thread) + value::head_dim;
      end_of[0] = total == 0 ? -as_float(infinity_bits) : greatest * ln_2;
      end_of[1] = total;
    }
  }
}

constexpr unsigned attend_half_joint10_shared_bytes = attend_half_shared_bytes<Half_joint10>;
constexpr unsigned attend_half_joint10_strided_shared_bytes = attend_half_joint10_shared_bytes;
extern "C" __global__ void __launch_bounds__(attend_half_threads, 1)
    small_d64_cuda_kernel_attend_half_joint10(const __grid_constant__ AttendArguments a) {
  attend_half<Half_joint10, true>(a);
}
extern "C" __global__ void __launch_bounds__(attend_half_strided_threads, 1)
    small_d64_cuda_kernel_attend_half_joint10_strided(
        const __grid_constant__ AttendArguments a) {
  attend_half<Half_joint10, false>(a);
}

constexpr unsigned attend_half_joint8_shared_bytes = attend_half_shared_bytes<Half_joint8>;
constexpr unsigned attend_half_joint8_strided_shared_bytes = attend_half_joint8_shared_bytes;
extern "C" __global__ void __launch_bounds__(attend_half_threads, 1)
    small_d64_cuda_kernel_attend_half_joint8(const __grid_constant__ AttendArguments a) {
  attend_half<Half_joint8, true>(a);
}
extern "C" __global__ void __launch_bounds__(attend_half_strided_threads, 1)
    small_d64_cuda_kernel_attend_half_joint8_strided(
        const __grid_constant__ AttendArguments a) {
  attend_half<Half_joint8, false>(a);
}


// ---- Attend over rows of full precision ----

constexpr int dense_bytes = dense_dtype == POLARC_F32 ? 4 : 2; // of an element

// Elements of a row that a thread takes at a time: 16 bytes, or what divides the row.
__host__ __device__ constexpr int piece_of(int dim) {
  int elements = 16 / dense_bytes;
  while (dim % elements != 0) elements /= 2;
  return elements;
}
constexpr int key_piece = piece_of(key_dim), value_piece = piece_of(value_dim);

// Whether every piece of the rows stands where a machine loads it at once.
__device__ inline bool are_aligned(const void *rows, int64_t sequence_stride, int64_t token_stride,
                                   int64_t head_stride, int piece) {
  const uint64_t places = reinterpret_cast<uint64_t>(rows) |
                          static_cast<uint64_t>(sequence_stride * dense_bytes) |
                          static_cast<uint64_t>(token_stride * dense_bytes) |
                          static_cast<uint64_t>(head_stride * dense_bytes);
  return places % static_cast<uint64_t>(piece * dense_bytes) == 0;
}

// Elements of a word.
__device__ inline void put_elements(uint32_t word, float *x) {
  if (dense_dtype == POLARC_F32) {
    x[0] = as_float(word);
  } else if (dense_dtype == POLARC_F16) {
    x[0] = from_half(static_cast<uint16_t>(word));
    x[1] = from_half(static_cast<uint16_t>(word >> 16));
  } else {
    x[0] = as_float(word << 16);
    x[1] = as_float(word & 0xffff0000u);
  }
}

// A piece of rows that begin at `rows`, from an element on.
template <int piece>
__device__ inline void load_piece(const void *rows, int64_t element, bool aligned,
                                  float (&x)[piece]) {
  constexpr int bytes = piece * dense_bytes, elements = 4 / dense_bytes; // of a word
  const unsigned char *at = static_cast<const unsigned char *>(rows) + element * dense_bytes;
  if (!aligned) {
#pragma unroll
    for (int i = 0; i < piece; i++) x[i] = load_element(rows, dense_dtype, element + i);
  } else if constexpr (bytes == 16) {
    const uint4 words = *reinterpret_cast<const uint4 *>(at);
    put_elements(words.x, x);
    put_elements(words.y, x + elements);
    put_elements(words.z, x + 2 * elements);
    put_elements(words.w, x + 3 * elements);
  } else if constexpr (bytes == 8) {
    const uint2 words = *reinterpret_cast<const uint2 *>(at);
    put_elements(words.x, x);
    put_elements(words.y, x + elements);
  } else {
    put_elements(*reinterpret_cast<const uint32_t *>(at), x);
  }
}

constexpr int dense_most = most_queries(value_piece, value_dim / value_piece);
constexpr int dense_width = width_of(dense_most);
using DenseSums = ValueSums<dense_width, value_piece, value_dim / value_piece>;

// Lanes that share the key of a token: enough that their loads make whole sectors of memory.
constexpr int key_lanes = key_dim / key_piece >= 4 ? 4 : key_dim / key_piece >= 2 ? 2 : 1;
constexpr int keys_at_once = 32 / key_lanes;

// Products of a part's queries with the keys of a warp's 32 tokens, of those that are seen: lane i
// gets those of token i. `first` is the element where the key of token 0 begins.
template <int width>
__device__ inline void dense_products(const void *keys, int64_t first, int64_t token_stride,
                                      bool aligned, bool seen, Query<width, key_piece> query,
                                      int lane, float (&product)[width]) {
  constexpr int query_step = QueryStep<width, key_piece>::count;
  const uint32_t seen_lanes = __ballot_sync(all_lanes, seen);
#pragma unroll
  for (int step = 0; step < key_lanes; step++) {
    const int token = step * keys_at_once + lane / key_lanes;
    float sum[width] = {};
    if (seen_lanes >> token & 1u) {
      const int64_t row = first + token * token_stride;
#pragma unroll 2
      for (int at = lane % key_lanes * key_piece; at < key_dim; at += key_lanes * key_piece) {
        float x[key_piece];
        load_piece<key_piece>(keys, row + at, aligned, x);
#pragma unroll
        for (int i = 0; i < key_piece; i += query_step) {
          const QueryStep<width, key_piece> q = query[(at + i) / query_step];
#pragma unroll
          for (int k = 0; k < query_step; k++)
#pragma unroll
            for (int j = 0; j < width; j++) sum[j] = fmaf(q.at[k].of[j], x[i + k], sum[j]);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < width; j++) {
#pragma unroll
      for (int apart = key_lanes / 2; apart > 0; apart /= 2)
        sum[j] += __shfl_xor_sync(all_lanes, sum[j], apart);
      const float mine = __shfl_sync(all_lanes, sum[j], lane % keys_at_once * key_lanes);
      if (lane / keys_at_once == step) product[j] = mine;
    }
  }
}

constexpr int attend_dense_parts = parts_of(dense_most);
constexpr int attend_dense_threads = block_threads;
constexpr unsigned attend_dense_shared_bytes =
    query_bytes<dense_width, key_piece>() +
    bytes_of<PerQuery<dense_width>>(DenseSums::exchange) +
    bytes_of<PerQuery<dense_width>>(block_warps) + bytes_of<RowState>(1);

// Items are (row, KV head, split, part of the group).
extern "C" __global__ void __launch_bounds__(attend_dense_threads,
                                             dense_width > 4 ? few_blocks : many_blocks)
    small_d64_cuda_kernel_attend_dense(
        const __grid_constant__ AttendDenseArguments a) {
  constexpr int width = dense_width;
  SharedMemory memory;
  const Query<width, key_piece> query = take_query<width, key_piece>(memory);
  Shared<PerQuery<width>> weights = memory.take<PerQuery<width>>(DenseSums::exchange);
  Shared<PerQuery<width>> room = memory.take<PerQuery<width>>(block_warps);
  Shared<RowState> states = memory.take<RowState>(1);
  const polarc_attend_dense_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  const bool keys_aligned = are_aligned(p.keys, p.key_sequence_stride, p.key_token_stride,
                                        p.key_head_stride, key_piece);
  const bool values_aligned = are_aligned(p.values, p.value_sequence_stride, p.value_token_stride,
                                          p.value_head_stride, value_piece);

  const int64_t items = (a.work.unit_end - a.work.unit_begin) * attend_dense_parts;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int part = static_cast<int>(item % attend_dense_parts);
    const int64_t index = a.work.unit_begin + item / attend_dense_parts;
    const Unit unit = unit_of(index, a.work.splits, p.kv_heads);
    const int first = part * width; // query
    const int count = group - first < width ? group - first : width;
    float *partials = partials_of(a.work, index) + first * partial_stride;
    __syncthreads(); // nobody reads what the last unit had any more
    load_state(a.work, unit.row, states, thread);
    load_queries<width, key_piece>(a.work, unit.row, unit.head, p.kv_heads, part, query, thread);
    __syncthreads();
    const RowState &state = states[0];
    if (!state.valid) {
      lose_partials(partials, count, thread);
      continue;
    }

    const int64_t keys =
        state.first_page * p.key_sequence_stride + unit.head * p.key_head_stride;
    const int64_t values =
        state.first_page * p.value_sequence_stride + unit.head * p.value_head_stride;
    Softmax<width> gathered;
    clear(gathered);
    DenseSums sums;
    clear_sums(sums);
    const Range range = split_range(a.work, unit.split, state.begin, state.end);
    for (int32_t begin = range.begin; begin < range.end;) {
      const int tokens = range.end - begin < chunk ? range.end - begin : chunk;
      const bool seen = thread < tokens && sees(state, begin + thread);
      float logit[width] = {};
      const int64_t warp_begin = static_cast<int64_t>(begin) + thread / 32 * 32;
      dense_products<width>(p.keys, keys + warp_begin * p.key_token_stride, p.key_token_stride,
                            keys_aligned, seen, query, thread % 32, logit);
#pragma unroll
      for (int j = 0; j < width; j++) logit[j] = logit_of(logit[j], 0.0f, p.scale, p.softcap);
      const PerQuery<width> shrink = softmax_step(gathered, logit, seen, weights, room, thread);
      scale_sums(sums, shrink);
      const auto load = [&](int token, int cell, float (&x)[value_piece]) {
        const int64_t row =
            values + (begin + static_cast<int64_t>(token)) * p.value_token_stride;
        load_piece<value_piece>(p.values, row + cell * value_piece, values_aligned, x);
        return 1.0f;
      };
      add_values<true>(sums, weights, tokens, thread, load);
      __syncthreads();
      begin += tokens;
    }
    write_sums(sums, partials, count, weights, thread);
    finish(gathered);
    write_weights<width>(gathered.top, gathered.mass, partials, count, room, thread);
  }
}

// ---- Combine: the partial results of a row's splits, in order, to its outputs ----

constexpr int combine_threads = block_threads;
constexpr unsigned combine_shared_bytes =
    3 * bytes_of<float>(value_dim) + bytes_of<float>(block_warps) +
    2 * bytes_of<float>(combine_threads);

// A query's splits, and what becomes of them.
struct Combination {
  const float *partials; // of its first split; from split to split are group * partial_stride
  int32_t splits;
  bool is_softmax; // weighed by their log-sum-exps, else only added
  bool unrotate;   // to the original basis
  int64_t row, head, q_head;
};

// One block a query: writes the output, and gives the log-sum-exp to thread 0.
__device__ inline float combine_splits(SharedMemory memory, const Combination &c,
                                       const polarc_rows &out, const polarc_transform *transform,
                                       int thread) {
  constexpr int per_thread = (value_dim + combine_threads - 1) / combine_threads;
  constexpr int64_t step = static_cast<int64_t>(group) * partial_stride; // from split to split
  Shared<float> vector = memory.take<float>(value_dim);
  Shared<float> spare = memory.take<float>(value_dim);
  Shared<float> mean = memory.take<float>(value_dim);
  Shared<float> room = memory.take<float>(block_warps);
  Shared<float> factors = memory.take<float>(combine_threads);
  Shared<float> masses = memory.take<float>(combine_threads);

  // The greatest logit, so that no weight overflows.
  float top = lowest;
  if (c.is_softmax) {
    for (int32_t split = thread; split < c.splits; split += combine_threads) {
      const float max = c.partials[split * step + value_dim];
      top = max > top ? max : top;
    }
    top = over_block(top, room, thread, [](float a, float b) { return a > b ? a : b; });
  }

  // Split after split, as many factors at a time as there are threads.
  float total = 0.0f, sum[per_thread] = {};
  bool seen = !c.is_softmax;
  for (int32_t first = 0; first < c.splits; first += combine_threads) {
    const int count = c.splits - first < combine_threads ? c.splits - first : combine_threads;
    if (thread < count) {
      const float *end = c.partials + (first + thread) * step + value_dim;
      const float mass = end[1];
      factors[thread] = c.is_softmax && !is_nan(mass) ? exp_of(end[0] - top) : 1.0f;
      masses[thread] = mass;
    }
    __syncthreads();
#pragma unroll 4
    for (int i = 0; i < count; i++) {
      const float mass = masses[i], factor = factors[i]; // both 0 where nothing was seen
      seen |= as_bits(mass) != 0;
      total = fmaf(factor, mass, total);
      const float *from = c.partials + (first + i) * step;
#pragma unroll
      for (int k = 0; k < per_thread; k++) {
        const int at = thread + k * combine_threads;
        if (at < value_dim) sum[k] = fmaf(factor, from[at], sum[k]);
      }
    }
    __syncthreads();
  }

  // The average, out of the space of the packed values, plus the mean.
  const bool lost = is_nan(total) && c.is_softmax;
  const float share = !c.is_softmax ? 1.0f : seen ? __fdiv_rn(1.0f, total) : 0.0f;
#pragma unroll
  for (int k = 0; k < per_thread; k++) {
    const int at = thread + k * combine_threads;
    if (at < value_dim) vector[at] = lost ? as_float(nan_bits) : sum[k] * share;
  }
  __syncthreads();
  if (transform) {
    if (c.unrotate)
      value::rotate_inverse<combine_threads>(*transform, c.head, vector, spare, thread);
    if (value::centred && seen) {
      for (int i = thread; i < value_dim; i += combine_threads)
        mean[i] = transform->mean[c.head * value_dim + i];
      __syncthreads();
      if (!c.unrotate)
        value::rotate_forward<combine_threads>(*transform, c.head, mean, spare, thread);
      const float mass = c.is_softmax ? 1.0f : total;
      for (int i = thread; i < value_dim; i += combine_threads)
        vector[i] = fmaf(mass, mean[i], vector[i]);
      __syncthreads();
    }
  }
  const int64_t to = row_start(out, c.row, c.q_head);
  for (int i = thread; i < value_dim; i += combine_threads)
    store_element(out.data, out.dtype, to + i, vector[i]);
  __syncthreads(); // the arrays may be filled again
  if (lost) return as_float(nan_bits);
  return seen ? top + log_of(total) : as_float(minus_infinity_bits);
}

// The rows of a call over units whose first unit is among those of this launch.
template <class Params>
__device__ inline void combine_units(SharedMemory memory, const Params &p, const Work &work,
                                     bool unrotate, const polarc_transform *transform) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t splits = work.splits;
  const int64_t begin = (work.unit_begin + splits - 1) / splits;
  const int64_t end = (work.unit_end + splits - 1) / splits;
  for (int64_t item = blockIdx.x; item < (end - begin) * group; item += gridDim.x) {
    const int64_t pair = begin + item / group;
    const int j = static_cast<int>(item % group);
    Combination c;
    c.partials = partials_of(work, pair * splits) + j * partial_stride;
    c.splits = work.splits;
    c.is_softmax = true;
    c.unrotate = unrotate;
    c.row = pair / p.kv_heads;
    c.head = pair % p.kv_heads;
    c.q_head = c.head * group + j;
    const float lse = combine_splits(memory, c, p.out, transform, thread);
    if (p.lse && thread == 0) p.lse[c.row * p.lse_row_stride + c.q_head] = lse;
  }
}

constexpr int combine_attend_threads = combine_threads;
constexpr unsigned combine_attend_shared_bytes = combine_shared_bytes;

extern "C" __global__ void __launch_bounds__(combine_attend_threads, many_blocks)
    small_d64_cuda_kernel_combine_attend(
        const __grid_constant__ AttendArguments a) {
  SharedMemory memory;
  combine_units(memory, a.p, a.work, a.p.basis == POLARC_ORIGINAL, &a.p.value);
}

constexpr int combine_attend_dense_threads = combine_threads;
constexpr unsigned combine_attend_dense_shared_bytes = combine_shared_bytes;

extern "C" __global__ void __launch_bounds__(combine_attend_dense_threads, many_blocks)
    small_d64_cuda_kernel_combine_attend_dense(
        const __grid_constant__ AttendDenseArguments a) {
  SharedMemory memory;
  combine_units(memory, a.p, a.work, false, nullptr);
}

constexpr int combine_weighted_sum_threads = combine_threads;
constexpr unsigned combine_weighted_sum_shared_bytes = combine_shared_bytes;

extern "C" __global__ void __launch_bounds__(combine_weighted_sum_threads, many_blocks)
    small_d64_cuda_kernel_combine_weighted_sum(
        const __grid_constant__ WeightedSumArguments a) {
  SharedMemory memory;
  const polarc_weighted_sum_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  const bool all = p.head_begin == 0 && p.head_end == 0;
  const int64_t heads = (all ? p.kv_heads : p.head_end) - p.head_begin;
  for (int64_t item = blockIdx.x; item < p.rows * heads * group; item += gridDim.x) {
    const int j = static_cast<int>(item % group);
    Combination c;
    c.row = item / group / heads;
    c.head = p.head_begin + item / group % heads;
    c.q_head = c.head * group + j;
    c.partials = partials_of(a.work, (c.row * p.kv_heads + c.head) * a.work.splits) +
                 j * partial_stride;
    c.splits = a.work.splits;
    c.is_softmax = false;
    c.unrotate = p.basis == POLARC_ORIGINAL;
    combine_splits(memory, c, p.out, &p.value, thread);
  }
}

// ---- Merge: parts by their log-sum-exps, and the sink logit once ----

constexpr int merge_threads = block_threads;
constexpr unsigned merge_shared_bytes = 0;

// One block a row of a query head.
extern "C" __global__ void __launch_bounds__(merge_threads)
    small_d64_cuda_kernel_merge(
        const __grid_constant__ MergeArguments a) {
  const polarc_merge_params &p = a.p;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t item = blockIdx.x; item < static_cast<int64_t>(p.rows) * p.q_heads;
       item += gridDim.x) {
    const int64_t row = item / p.q_heads, head = item % p.q_heads;
    const auto lse_of = [&](int i) {
      return a.parts[i].lse[row * a.parts[i].lse_row_stride + head];
    };
    // The greatest exponent, so that none overflows; a NaN is seen, and makes its weight NaN.
    float top = lowest;
    bool seen = false;
    for (int i = 0; i < p.part_count; i++) {
      const float lse = lse_of(i);
      if (as_bits(lse) == minus_infinity_bits) continue;
      seen = true;
      top = lse > top ? lse : top;
    }
    const float sink = p.sink ? p.sink[head] : as_float(minus_infinity_bits);
    const float greatest = sink > top ? sink : top;

    // Of the sum of weights, and with the sink what the weighted sum is divided by.
    float total = 0.0f;
    for (int i = 0; i < p.part_count; i++) {
      const float lse = lse_of(i);
      if (as_bits(lse) != minus_infinity_bits) total += exp_of(lse - top);
    }
    const float shrink = exp_of(top - greatest);
    const float divisor = fmaf(total, shrink, exp_of(sink - greatest));

    // A part's row may be the output's: a thread reads and writes the same elements.
    const int64_t to = row_start(p.out, row, head);
    for (int at = thread; at < value_dim; at += merge_threads) {
      float sum = 0.0f;
      for (int i = 0; seen && i < p.part_count; i++) {
        const float lse = lse_of(i);
        if (as_bits(lse) == minus_infinity_bits) continue; // whatever its row holds
        const polarc_rows &rows = a.parts[i].out;
        const float x = load_element(rows.data, rows.dtype, row_start(rows, row, head) + at);
        sum = fmaf(exp_of(lse - top), x, sum);
      }
      store_element(p.out.data, p.out.dtype, to + at,
                    seen ? __fdiv_rn(sum * shrink, divisor) : 0.0f);
    }
    __syncthreads(); // all have read a part's `lse`, which the output's may be
    if (p.lse && thread == 0)
      p.lse[row * p.lse_row_stride + head] =
          seen ? top + log_of(total) : as_float(minus_infinity_bits);
  }
}

// ---- Shapes of all kernels, in the order that the launchers number them in ----

constexpr Shapes shapes = { {
    {key::encode_threads, key::encode_shared_bytes, key::encode_block_rows, 1, 0},
    {key::decode_threads, key::decode_shared_bytes, key::decode_block_rows, 1, 0},
    {key::rotate_threads, key::rotate_shared_bytes, key::rotate_block_rows, 1, 0},
    {value::encode_threads, value::encode_shared_bytes, value::encode_block_rows, 1, 0},
    {value::decode_threads, value::decode_shared_bytes, value::decode_block_rows, 1, 0},
    {value::rotate_threads, value::rotate_shared_bytes, value::rotate_block_rows, 1, 0},
    {prepare_scores_threads, prepare_scores_shared_bytes, 1, 1, 0},
    {prepare_weighted_sum_threads, prepare_weighted_sum_shared_bytes, 1, 1, 0},
    {prepare_attend_threads, prepare_attend_shared_bytes, 1, 1, 0},
    {prepare_attend_dense_threads, prepare_attend_dense_shared_bytes, 1, 1, 0},
    {scores_threads, scores_shared_bytes, 1, scores_parts, 0},
    {weighted_sum_threads, weighted_sum_shared_bytes, 1, weighted_sum_parts, 0},
    {attend_threads, attend_shared_bytes, 1, attend_parts, 0},
    {attend_dense_threads, attend_dense_shared_bytes, 1, attend_dense_parts, 0},
    {combine_weighted_sum_threads, combine_weighted_sum_shared_bytes, 1, 1, 0},
    {combine_attend_threads, combine_attend_shared_bytes, 1, 1, 0},
    {combine_attend_dense_threads, combine_attend_dense_shared_bytes, 1, 1, 0},
    {merge_threads, merge_shared_bytes, 1, 1, 0},
    {attend_half_threads, attend_half_joint10_shared_bytes, 1, half_parts, 1},
    {attend_half_strided_threads, attend_half_joint10_strided_shared_bytes, 1, half_parts, 1},
    {attend_half_threads, attend_half_joint8_shared_bytes, 1, half_parts, 1},
    {attend_half_strided_threads, attend_half_joint8_strided_shared_bytes, 1, half_parts, 1},
} };

#endif

} // namespace small_d64_cuda

// For launchers that have the module and not this text.
#if !defined(POLARC_CUDA_DRIVER) && !defined(POLARC_ON_CPU)
extern "C" {
__constant__ small_d64_cuda::Shapes small_d64_cuda_shapes = small_d64_cuda::shapes;
}
#endif

#endif
