/* Encodes 256 tokens and attends over them: cc example.c llama-d128.o -lstdc++ -lm */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "llama-d128.h"

enum { TOKENS = 256, DIM = 128, GROUP = 4 };
static float rows[TOKENS][DIM], q[GROUP][DIM], out[GROUP][DIM], lse[GROUP];
static int64_t slots[TOKENS];

int main(void) {
  const polarc_kernels *k = llama_d128_avx2_kernels();
  const int64_t pages = TOKENS / k->page_tokens;
  const int64_t page_bytes = k->page_tokens / k->key_unit_tokens * k->key_unit_bytes;
  for (int i = 0; i < TOKENS * DIM; i++) rows[i / DIM][i % DIM] = (float)rand() / (float)RAND_MAX - 0.5f;
  for (int i = 0; i < GROUP * DIM; i++) q[i / DIM][i % DIM] = 8 * rows[i / DIM][i % DIM];
  for (int t = 0; t < TOKENS; t++) slots[t] = t;

  polarc_encode_params e = {.size = sizeof e, .version = POLARC_ABI_VERSION, .count = TOKENS, .kv_heads = 1};
  e.rows = (polarc_rows){rows, POLARC_F32, 0, DIM, DIM}, e.slots = slots;
  e.cache = (polarc_pool){aligned_alloc(64, pages * page_bytes), pages, page_bytes, page_bytes, k->key_unit_bytes};
  polarc_attend_params a = {.size = sizeof a, .version = POLARC_ABI_VERSION, .rows = 1, .kv_heads = 1};
  a.keys = e.cache; /* this format is the same for keys and values */
  if (k->encode_key(&e, NULL)) return fprintf(stderr, "%s\n", k->message()), 1;
  e.cache.data = aligned_alloc(64, pages * page_bytes), a.values = e.cache;
  if (k->encode_value(&e, NULL)) return fprintf(stderr, "%s\n", k->message()), 1;

  const int32_t length = TOKENS;
  a.q = (polarc_rows){q, POLARC_F32, 0, GROUP * DIM, DIM}, a.scale = 1 / sqrtf(DIM);
  a.out = (polarc_rows){out, POLARC_F32, 0, GROUP * DIM, DIM}, a.lse = lse;
  a.index = (polarc_index){.sequences = 1, .max_tokens = TOKENS, .lengths = &length, .pages_per_sequence = pages};
  a.workspace_bytes = k->attend_workspace(&a), a.workspace = aligned_alloc(32, a.workspace_bytes);
  if (k->attend(&a, NULL)) return fprintf(stderr, "%s\n", k->message()), 1;

  for (int j = 0; j < GROUP; j++) { /* query j is 8 times row j: the output leans to that row */
    double dot = 0, aa = 0, bb = 0;
    for (int i = 0; i < DIM; i++) dot += out[j][i] * rows[j][i], aa += out[j][i] * out[j][i], bb += rows[j][i] * rows[j][i];
    printf("query %d: log-sum-exp %.4f, cosine of output and row %.4f\n", j, lse[j], dot / sqrt(aa * bb));
  }
  return 0;
}
