// polarc · llama_d128_rows · Node addon · cuda
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/cuda/node/polarc_cuda_driver.h.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the launchers reach the driver through: the table as the header of the cache has it.
#include "polarc_abi.h"
/*
 * The launchers built by a C++ compiler alone, with this macro: they reach CUDA through the
 * driver's functions of these names, wherever the caller has them from, and the kernels in a module
 * that the caller has loaded.
 */
#ifndef POLARC_CUDA_DRIVER_TABLE
#define POLARC_CUDA_DRIVER_TABLE
typedef struct polarc_cuda_driver {
  uint32_t size, version;
  /* The CUmodule with the kernels of a cache in the current context; null: there is none. */
  void *(*module)(const char *cache);
  int (*cuCtxGetDevice)(int *device);
  int (*cuDeviceGetAttribute)(int *value, int attribute, int device);
  int (*cuModuleGetFunction)(void **function, void *module, const char *name);
  int (*cuModuleGetGlobal)(unsigned long long *address, size_t *bytes, void *module,
                           const char *name);
  int (*cuMemcpyDtoH)(void *to, unsigned long long from, size_t bytes);
  int (*cuFuncSetAttribute)(void *function, int attribute, int value);
  int (*cuLaunchKernel)(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,
                        unsigned threads_x, unsigned threads_y, unsigned threads_z,
                        unsigned shared_bytes, void *stream, void **arguments, void **extra);
  int (*cuGetErrorName)(int error, const char **name);
  int (*cuGetErrorString)(int error, const char **text);
} polarc_cuda_driver;
#endif
