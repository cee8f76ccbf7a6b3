// polarc · llama_d128_rows · Node addon · cuda
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/cuda/node/cache_node.cc.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The cache of this addon: its launchers, for polarc_cuda_node.cc. They are built by the C++
// compiler, without CUDA's headers: the kernels come from a module that is loaded at run time.

#define POLARC_CUDA_DRIVER
#include "../llama-d128-rows.cu"

extern "C" {

const polarc_kernels *polarc_node_kernels(void) {
  return llama_d128_rows_cuda_kernels();
}

void polarc_node_use_driver(const polarc_cuda_driver *driver) {
  llama_d128_rows_cuda_use_driver(driver);
}

// Whether one preconditioning matrix serves all KV heads of the keys (0) or the values (1).
int polarc_node_shared_matrix(int role) {
  static const int shared[] = { 0, 0 };
  return shared[role];
}

}  // extern "C"
