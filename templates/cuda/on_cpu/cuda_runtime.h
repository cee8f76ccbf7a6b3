// The CUDA runtime, as much of it as launchers use. Device memory is host memory, and a launch is
// done when it returns. Part of cuda_on_cpu.h; also what `#include <cuda_runtime.h>` finds.
#ifndef POLARC_CUDA_RUNTIME_H
#define POLARC_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "blocks.h"

#pragma GCC visibility push(hidden)

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400
};
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
using cudaStream_t = struct CUstream_st *;

namespace polarc_on_cpu {

inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t kept(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Blocks of a launch at most, unless the environment says otherwise.
constexpr long usual_blocks = 3;

// Shared memory beyond the usual 48 KiB that kernels have asked for.
constexpr size_t usual_shared_bytes = 48 * 1024;
inline std::mutex asked_lock;
inline std::map<void (*)(), size_t> asked;

// Ten times the compute capability: 90 for 9.0.
inline int capability() {
  const char *given = getenv("POLARC_CUDA_CAPABILITY");
  return given && *given ? static_cast<int>(lround(10 * strtod(given, nullptr))) : 90;
}

inline int most_shared_bytes() {
  switch (capability()) {
  case 75: return 64 * 1024;
  case 80: case 87: return 163 * 1024;
  case 86: case 89: case 120: case 121: return 99 * 1024;
  default: return capability() >= 90 ? 227 * 1024 : 48 * 1024;
  }
}

// Another device has another number, since launchers keep what they know of one by its number: the
// environment's capabilities in the order in which they were seen.
inline int device_number() {
  static std::mutex lock;
  static std::vector<int> seen;
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = std::find(seen.begin(), seen.end(), capability());
  const int number = static_cast<int>(found - seen.begin());
  if (found == seen.end()) seen.push_back(capability());
  return number;
}

// A name with T in it, for messages.
template <class T> const char *type_name() { return __PRETTY_FUNCTION__; }

} // namespace polarc_on_cpu

inline const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return "cudaSuccess";
  case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
  case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
  case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
  case cudaErrorInvalidDeviceFunction: return "cudaErrorInvalidDeviceFunction";
  case cudaErrorNoDevice: return "cudaErrorNoDevice";
  case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
  case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
  }
  return "unrecognized error code";
}
inline const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return "no error";
  case cudaErrorInvalidValue: return "invalid argument";
  case cudaErrorMemoryAllocation: return "out of memory";
  case cudaErrorInvalidConfiguration: return "invalid configuration argument";
  case cudaErrorInvalidDeviceFunction: return "invalid device function";
  case cudaErrorNoDevice: return "no CUDA-capable device is detected";
  case cudaErrorInvalidDevice: return "invalid device ordinal";
  case cudaErrorInvalidResourceHandle: return "invalid resource handle";
  }
  return "unrecognized error code";
}
inline cudaError_t cudaPeekAtLastError() { return polarc_on_cpu::last_error; }
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = polarc_on_cpu::last_error;
  polarc_on_cpu::last_error = cudaSuccess;
  return error;
}

inline cudaError_t cudaGetDeviceCount(int *count) {
  return *count = polarc_on_cpu::device_number() + 1, cudaSuccess;
}
inline cudaError_t cudaGetDevice(int *device) {
  return *device = polarc_on_cpu::device_number(), cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  const bool is_current = device == polarc_on_cpu::device_number();
  return polarc_on_cpu::kept(is_current ? cudaSuccess : cudaErrorInvalidDevice);
}
inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  if (device != polarc_on_cpu::device_number())
    return polarc_on_cpu::kept(cudaErrorInvalidDevice);
  const char *multiprocessors = getenv("POLARC_CUDA_SMS");
  const int capability = polarc_on_cpu::capability(), most = polarc_on_cpu::most_shared_bytes();
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock: *value = polarc_on_cpu::most_threads; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = polarc_on_cpu::usual_shared_bytes; break;
  case cudaDevAttrWarpSize: *value = polarc_on_cpu::lanes; break;
  case cudaDevAttrMultiProcessorCount:
    *value = multiprocessors && *multiprocessors ? atoi(multiprocessors) : 132;
    break;
  case cudaDevAttrComputeCapabilityMajor: *value = capability / 10; break;
  case cudaDevAttrComputeCapabilityMinor: *value = capability % 10; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
    *value = capability == 75 ? most : most + 1024;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = most; break;
  default: return polarc_on_cpu::kept(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

template <class Arguments>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Arguments), cudaFuncAttribute attribute,
                                        int value) {
  if (!kernel) return polarc_on_cpu::kept(cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > polarc_on_cpu::most_shared_bytes())
    return polarc_on_cpu::kept(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> guard(polarc_on_cpu::asked_lock);
  polarc_on_cpu::asked[reinterpret_cast<void (*)()>(kernel)] = static_cast<size_t>(value);
  return cudaSuccess;
}

// Runs the kernel, which takes one structure by value, to its end.
template <class Arguments>
inline cudaError_t cudaLaunchKernel(void (*kernel)(Arguments), dim3 grid, dim3 block,
                                    void **arguments, size_t shared_bytes = 0,
                                    cudaStream_t = nullptr) {
  using namespace polarc_on_cpu;
  const auto any = reinterpret_cast<void (*)()>(kernel);
  if (!kernel) return kept(cudaErrorInvalidDeviceFunction);
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > most_threads || block.z > 64 || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff)
    return kept(cudaErrorInvalidConfiguration);
  if (shared_bytes > usual_shared_bytes) {
    const std::lock_guard<std::mutex> guard(asked_lock);
    const auto found = asked.find(any);
    if (found == asked.end() || found->second < shared_bytes) return kept(cudaErrorInvalidValue);
  }
  const auto call = [](void (*function)(), const void *argument) {
    reinterpret_cast<void (*)(Arguments)>(function)(*static_cast<const Arguments *>(argument));
  };
  const char *wanted = getenv("POLARC_CUDA_BLOCKS");
  const long most = wanted && *wanted ? atol(wanted) : usual_blocks;
  if (most > 0 && grid.x > static_cast<unsigned long>(most)) grid.x = static_cast<unsigned>(most);
  run({any, call, arguments[0], type_name<Arguments>(), grid, block, shared_bytes});
  return cudaSuccess;
}

inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t *stream) { return *stream = nullptr, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
template <class T> inline cudaError_t cudaMalloc(T **memory, size_t bytes) {
  void *got = nullptr;
  if (posix_memalign(&got, 256, bytes + !bytes))
    return polarc_on_cpu::kept(cudaErrorMemoryAllocation);
  memset(got, 0xff, bytes); // NaN: nobody may count on zeros
  *memory = static_cast<T *>(got);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void *memory) { return free(memory), cudaSuccess; }
inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
  return memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  return memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemset(void *to, int byte, size_t bytes) {
  return memset(to, byte, bytes), cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t = nullptr) {
  return memset(to, byte, bytes), cudaSuccess;
}

#pragma GCC visibility pop

#endif
