// polarc · the kernels of one cache for the addon over host arrays (templates/shared/node), where a CPU stands in for
// the GPU: `polarc verify` without a device. The names of the cache come from the command line.
//
// SPDX-License-Identifier: Apache-2.0 OR MIT
#include POLARC_CACHE_HEADER

extern "C" {

const polarc_kernels *polarc_node_kernels(void) { return POLARC_CACHE_KERNELS(); }

// Whether one preconditioning matrix serves all KV heads of the keys (0) or the values (1).
int polarc_node_shared_matrix(int role) {
  static const int shared[] = {POLARC_CACHE_SHARED_MATRIX};
  return shared[role];
}

}  // extern "C"
