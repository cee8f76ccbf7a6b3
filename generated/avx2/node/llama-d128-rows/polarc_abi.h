// polarc · llama_d128_rows · ABI · avx2
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/shared/abi.h.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target avx2
// SPDX-License-Identifier: Apache-2.0 OR MIT

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
