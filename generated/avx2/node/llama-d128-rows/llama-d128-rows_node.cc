// polarc · llama_d128_rows · Node addon · avx2
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/avx2/node/cache_node.cc.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target avx2
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The cache of this addon: its kernels, for polarc_node.cc.

#include "../../llama-d128-rows.h"

extern "C" {

const polarc_kernels *polarc_node_kernels(void) {
  return llama_d128_rows_avx2_kernels();
}

// Whether one preconditioning matrix serves all KV heads of the keys (0) or the values (1).
int polarc_node_shared_matrix(int role) {
  static const int shared[] = { 0, 0 };
  return shared[role];
}

}  // extern "C"
