// polarc · small_d64 · launchers · cuda
// Generated from polarc.config.ts (plan 59011a5646394f92)
// through templates/cuda/cache.cu.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Launchers of small_d64: what a host can see is checked
// here, work is cut into blocks, kernels are put on the caller's stream.
#include "small-d64.h"
#include "small-d64.cuh"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace small_d64_cuda {
namespace host {
namespace {

// ---- Messages and numbers ----

thread_local char message_text[512] = "";

// Keeps the text of a failure for small_d64_cuda_message() and returns its status.
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message_text, sizeof message_text, format, arguments);
  va_end(arguments);
  return status;
}

// What every entry point checks before it reads a parameter. 0: go on.
template <class Params> int refused(const Params *p) {
  if (!p) return fail(POLARC_INVALID_ARGUMENT, "params is null: give a parameter structure");
  if (p->size != sizeof(Params) || p->version != POLARC_ABI_VERSION)
    return fail(POLARC_VERSION_MISMATCH,
                "params has size %u and version %u: this kernel has size %u and version %u; build "
                "against its header",
                p->size, p->version, static_cast<unsigned>(sizeof(Params)), POLARC_ABI_VERSION);
  return POLARC_OK;
}

constexpr int64_t largest = 0x7fffffffffffffff;

// The largest number in place of any beyond it.
constexpr int64_t product(int64_t a, int64_t b) {
  return a > 0 && b > largest / a ? largest : a * b;
}

// ---- Kernels, and what each takes ----

template <class Arguments> struct Kernel {
  int number;
  const char *name;
#ifndef POLARC_CUDA_DRIVER
  void (*function)(Arguments);
#endif
};

// Without the device code at hand kernels are found by name, and their shapes in the module.
#ifdef POLARC_CUDA_DRIVER
#define POLARC_FUNCTION(name)
#else
#define POLARC_FUNCTION(name) name
#endif

constexpr Kernel<polarc_encode_params> encode_key_kernel = {
    0, "small_d64_cuda_kernel_encode_key",
    POLARC_FUNCTION(key::small_d64_cuda_kernel_encode_key)};
constexpr Kernel<polarc_decode_params> decode_key_kernel = {
    1, "small_d64_cuda_kernel_decode_key",
    POLARC_FUNCTION(key::small_d64_cuda_kernel_decode_key)};
constexpr Kernel<polarc_rotate_params> rotate_key_kernel = {
    2, "small_d64_cuda_kernel_rotate_key",
    POLARC_FUNCTION(key::small_d64_cuda_kernel_rotate_key)};
constexpr Kernel<polarc_encode_params> encode_value_kernel = {
    3, "small_d64_cuda_kernel_encode_value",
    POLARC_FUNCTION(value::small_d64_cuda_kernel_encode_value)};
constexpr Kernel<polarc_decode_params> decode_value_kernel = {
    4, "small_d64_cuda_kernel_decode_value",
    POLARC_FUNCTION(value::small_d64_cuda_kernel_decode_value)};
constexpr Kernel<polarc_rotate_params> rotate_value_kernel = {
    5, "small_d64_cuda_kernel_rotate_value",
    POLARC_FUNCTION(value::small_d64_cuda_kernel_rotate_value)};
constexpr Kernel<ScoresArguments> prepare_scores_kernel = {
    6, "small_d64_cuda_kernel_prepare_scores",
    POLARC_FUNCTION(small_d64_cuda_kernel_prepare_scores)};
constexpr Kernel<WeightedSumArguments> prepare_weighted_sum_kernel = {
    7, "small_d64_cuda_kernel_prepare_weighted_sum",
    POLARC_FUNCTION(small_d64_cuda_kernel_prepare_weighted_sum)};
constexpr Kernel<AttendArguments> prepare_attend_kernel = {
    8, "small_d64_cuda_kernel_prepare_attend",
    POLARC_FUNCTION(small_d64_cuda_kernel_prepare_attend)};
constexpr Kernel<AttendDenseArguments> prepare_attend_dense_kernel = {
    9, "small_d64_cuda_kernel_prepare_attend_dense",
    POLARC_FUNCTION(small_d64_cuda_kernel_prepare_attend_dense)};
constexpr Kernel<ScoresArguments> scores_kernel = {
    10, "small_d64_cuda_kernel_scores",
    POLARC_FUNCTION(small_d64_cuda_kernel_scores)};
constexpr Kernel<WeightedSumArguments> weighted_sum_kernel = {
    11, "small_d64_cuda_kernel_weighted_sum",
    POLARC_FUNCTION(small_d64_cuda_kernel_weighted_sum)};
constexpr Kernel<AttendArguments> attend_kernel = {
    12, "small_d64_cuda_kernel_attend",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend)};
constexpr Kernel<AttendDenseArguments> attend_dense_kernel = {
    13, "small_d64_cuda_kernel_attend_dense",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend_dense)};
constexpr Kernel<WeightedSumArguments> combine_weighted_sum_kernel = {
    14, "small_d64_cuda_kernel_combine_weighted_sum",
    POLARC_FUNCTION(small_d64_cuda_kernel_combine_weighted_sum)};
constexpr Kernel<AttendArguments> combine_attend_kernel = {
    15, "small_d64_cuda_kernel_combine_attend",
    POLARC_FUNCTION(small_d64_cuda_kernel_combine_attend)};
constexpr Kernel<AttendDenseArguments> combine_attend_dense_kernel = {
    16, "small_d64_cuda_kernel_combine_attend_dense",
    POLARC_FUNCTION(small_d64_cuda_kernel_combine_attend_dense)};
constexpr Kernel<MergeArguments> merge_kernel = {
    17, "small_d64_cuda_kernel_merge",
    POLARC_FUNCTION(small_d64_cuda_kernel_merge)};
constexpr Kernel<AttendArguments> attend_half_joint10_kernel = {
    18, "small_d64_cuda_kernel_attend_half_joint10",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend_half_joint10)};
constexpr Kernel<AttendArguments> attend_half_joint10_strided_kernel = {
    19, "small_d64_cuda_kernel_attend_half_joint10_strided",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend_half_joint10_strided)};
constexpr Kernel<AttendArguments> attend_half_joint8_kernel = {
    20, "small_d64_cuda_kernel_attend_half_joint8",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend_half_joint8)};
constexpr Kernel<AttendArguments> attend_half_joint8_strided_kernel = {
    21, "small_d64_cuda_kernel_attend_half_joint8_strided",
    POLARC_FUNCTION(small_d64_cuda_kernel_attend_half_joint8_strided)};

#undef POLARC_FUNCTION

constexpr const char *kernel_names[] = {
    encode_key_kernel.name,
    decode_key_kernel.name,
    rotate_key_kernel.name,
    encode_value_kernel.name,
    decode_value_kernel.name,
    rotate_value_kernel.name,
    prepare_scores_kernel.name,
    prepare_weighted_sum_kernel.name,
    prepare_attend_kernel.name,
    prepare_attend_dense_kernel.name,
    scores_kernel.name,
    weighted_sum_kernel.name,
    attend_kernel.name,
    attend_dense_kernel.name,
    combine_weighted_sum_kernel.name,
    combine_attend_kernel.name,
    combine_attend_dense_kernel.name,
    merge_kernel.name,
    attend_half_joint10_kernel.name,
    attend_half_joint10_strided_kernel.name,
    attend_half_joint8_kernel.name,
    attend_half_joint8_strided_kernel.name,
};
static_assert(sizeof kernel_names / sizeof *kernel_names == kernel_count, "all of them");

// ---- The device: what it is, and how kernels get there ----

constexpr int least_capability = 75;
constexpr unsigned usual_shared_bytes = 48 * 1024; // a kernel that needs more must ask
constexpr int most_devices = 64; // that are kept in mind

// Known from the first call on: the driver takes longer to answer than to launch.
struct Device {
  int number, capability, multiprocessors;
  unsigned shared_bytes; // most that a block can have
#ifdef POLARC_CUDA_DRIVER
  void *module, *functions[kernel_count];
  Shapes shapes;
#endif
};

#ifdef POLARC_CUDA_DRIVER

const polarc_cuda_driver *driver = nullptr;

int checked(const char *what, int error) {
  if (!error) return POLARC_OK;
  const char *name = nullptr, *text = nullptr;
  driver->cuGetErrorName(error, &name);
  driver->cuGetErrorString(error, &text);
  return fail(POLARC_DEVICE_ERROR, "%s: %s (%s)", what, name ? name : "an error without a name",
              text ? text : "unknown");
}

// Both interfaces number them alike.
constexpr int multiprocessor_count = 16, capability_major = 75, capability_minor = 76;
constexpr int most_shared_bytes = 97, function_shared_bytes = 8;

int current_device(Device &device) {
  if (!driver)
    return fail(POLARC_UNSUPPORTED,
                "there is no CUDA driver: give its functions to "
                "small_d64_cuda_use_driver");
  device.module = driver->module("small_d64");
  if (!device.module)
    return fail(POLARC_UNSUPPORTED,
                "the current CUDA context has no kernels: load them as a module first");
  return checked("cuCtxGetDevice", driver->cuCtxGetDevice(&device.number));
}

bool same_device(const Device &a, const Device &b) { return a.module == b.module; }

int ask_device(int *value, int attribute, const Device &device) {
  return checked("cuDeviceGetAttribute",
                 driver->cuDeviceGetAttribute(value, attribute, device.number));
}

// The kernels of a module, and what their blocks ask for.
int find_kernels(Device &device) {
  const char *shapes = "small_d64_cuda_shapes";
  unsigned long long address = 0;
  size_t bytes = 0;
  if (const int status =
          checked(shapes, driver->cuModuleGetGlobal(&address, &bytes, device.module, shapes)))
    return status;
  if (bytes != sizeof device.shapes)
    return fail(POLARC_VERSION_MISMATCH, "the CUDA module is not of these launchers: build both");
  if (const int status = checked(shapes, driver->cuMemcpyDtoH(&device.shapes, address, bytes)))
    return status;
  for (int i = 0; i < kernel_count; i++) {
    const char *name = kernel_names[i];
    void *&function = device.functions[i];
    if (const int status =
            checked(name, driver->cuModuleGetFunction(&function, device.module, name)))
      return status;
    const unsigned shared_bytes = device.shapes.of[i].shared_bytes;
    if (shared_bytes <= usual_shared_bytes || shared_bytes > device.shared_bytes) continue;
    const int asked = static_cast<int>(shared_bytes);
    if (const int status =
            checked(name, driver->cuFuncSetAttribute(function, function_shared_bytes, asked)))
      return status;
  }
  return POLARC_OK;
}

template <class Arguments> Shape shape_of(const Kernel<Arguments> &kernel, const Device &device) {
  return device.shapes.of[kernel.number];
}

template <class Arguments>
int start(const Kernel<Arguments> &kernel, const Device &device, unsigned blocks, void **arguments,
          void *stream) {
  const Shape shape = shape_of(kernel, device);
  void *function = device.functions[kernel.number];
  return checked(kernel.name,
                 driver->cuLaunchKernel(function, blocks, 1, 1, shape.threads, 1, 1,
                                        shape.shared_bytes, stream, arguments, nullptr));
}

#else

int checked(const char *what, cudaError_t error) {
  if (error == cudaSuccess) return POLARC_OK;
  static_cast<void>(cudaGetLastError()); // it is told here: no later call shall stumble over it
  return fail(POLARC_DEVICE_ERROR, "%s: %s (%s)", what, cudaGetErrorName(error),
              cudaGetErrorString(error));
}

constexpr cudaDeviceAttr multiprocessor_count = cudaDevAttrMultiProcessorCount;
constexpr cudaDeviceAttr capability_major = cudaDevAttrComputeCapabilityMajor;
constexpr cudaDeviceAttr capability_minor = cudaDevAttrComputeCapabilityMinor;
constexpr cudaDeviceAttr most_shared_bytes = cudaDevAttrMaxSharedMemoryPerBlockOptin;

int current_device(Device &device) {
  return checked("cudaGetDevice", cudaGetDevice(&device.number));
}

bool same_device(const Device &a, const Device &b) { return a.number == b.number; }

int ask_device(int *value, cudaDeviceAttr attribute, const Device &device) {
  return checked("cudaDeviceGetAttribute", cudaDeviceGetAttribute(value, attribute, device.number));
}

// Lets a kernel have the shared memory that it asks for.
template <class Arguments>
int may_share(const Kernel<Arguments> &kernel, const Device &device) {
  const unsigned shared_bytes = shapes.of[kernel.number].shared_bytes;
  if (shared_bytes <= usual_shared_bytes || shared_bytes > device.shared_bytes) return POLARC_OK;
  return checked(kernel.name,
                 cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared_bytes)));
}

int find_kernels(const Device &device) {
  if (const int status = may_share(encode_key_kernel, device)) return status;
  if (const int status = may_share(decode_key_kernel, device)) return status;
  if (const int status = may_share(rotate_key_kernel, device)) return status;
  if (const int status = may_share(encode_value_kernel, device)) return status;
  if (const int status = may_share(decode_value_kernel, device)) return status;
  if (const int status = may_share(rotate_value_kernel, device)) return status;
  if (const int status = may_share(prepare_scores_kernel, device)) return status;
  if (const int status = may_share(prepare_weighted_sum_kernel, device)) return status;
  if (const int status = may_share(prepare_attend_kernel, device)) return status;
  if (const int status = may_share(prepare_attend_dense_kernel, device)) return status;
  if (const int status = may_share(scores_kernel, device)) return status;
  if (const int status = may_share(weighted_sum_kernel, device)) return status;
  if (const int status = may_share(attend_kernel, device)) return status;
  if (const int status = may_share(attend_dense_kernel, device)) return status;
  if (const int status = may_share(combine_weighted_sum_kernel, device)) return status;
  if (const int status = may_share(combine_attend_kernel, device)) return status;
  if (const int status = may_share(combine_attend_dense_kernel, device)) return status;
  if (const int status = may_share(merge_kernel, device)) return status;
  if (const int status = may_share(attend_half_joint10_kernel, device)) return status;
  if (const int status = may_share(attend_half_joint10_strided_kernel, device)) return status;
  if (const int status = may_share(attend_half_joint8_kernel, device)) return status;
  if (const int status = may_share(attend_half_joint8_strided_kernel, device)) return status;
  return POLARC_OK;
}

template <class Arguments> Shape shape_of(const Kernel<Arguments> &kernel, const Device &) {
  return shapes.of[kernel.number];
}

template <class Arguments>
int start(const Kernel<Arguments> &kernel, const Device &device, unsigned blocks, void **arguments,
          void *stream) {
  const Shape shape = shape_of(kernel, device);
  return checked(kernel.name, cudaLaunchKernel(kernel.function, dim3(blocks), dim3(shape.threads),
                                               arguments, shape.shared_bytes,
                                               static_cast<cudaStream_t>(stream)));
}

#endif

std::mutex devices_lock;
Device devices[most_devices];
int device_count = 0;

// The calling thread's current device, if the kernels run there.
int find_device(Device &device) {
  if (const int status = current_device(device)) return status;
  const std::lock_guard<std::mutex> guard(devices_lock);
  for (int i = 0; i < device_count; i++)
    if (same_device(devices[i], device)) {
      device = devices[i];
      return POLARC_OK;
    }

  int major = 0, minor = 0, shared_bytes = 0;
  if (const int status = ask_device(&major, capability_major, device)) return status;
  if (const int status = ask_device(&minor, capability_minor, device)) return status;
  if (const int status = ask_device(&shared_bytes, most_shared_bytes, device)) return status;
  if (const int status = ask_device(&device.multiprocessors, multiprocessor_count, device))
    return status;
  device.capability = 10 * major + minor;
  device.shared_bytes = static_cast<unsigned>(shared_bytes);
  if (device.capability < least_capability)
    return fail(POLARC_UNSUPPORTED,
                "device %d has compute capability %d.%d: the kernels need %d.%d or above",
                device.number, major, minor, least_capability / 10, least_capability % 10);
  if (const int status = find_kernels(device)) return status;
  if (device_count < most_devices) devices[device_count++] = device;
  return POLARC_OK;
}

// Blocks of a kernel that a device runs at once, about: a multiprocessor has registers for 512
// threads of 128 each, and its shared memory.
template <class Arguments>
int64_t blocks_at_once(const Kernel<Arguments> &kernel, const Device &device) {
  const Shape shape = shape_of(kernel, device);
  if (shape.alone) return device.multiprocessors;
  const int64_t by_threads = 512u / shape.threads;
  const int64_t by_memory = device.shared_bytes / (shape.shared_bytes + 1024);
  const int64_t blocks = by_threads < by_memory ? by_threads : by_memory;
  return device.multiprocessors * (blocks > 1 ? blocks : 1);
}

constexpr int64_t most_rounds = 16; // of blocks: further ones would only take time to begin

// Puts a kernel on the stream. Its blocks stride over the items, so that any number of them does.
template <class Arguments>
int launch(const Kernel<Arguments> &kernel, const Device &device, int64_t items,
           Arguments arguments, void *stream) {
  if (items <= 0) return POLARC_OK;
  const Shape shape = shape_of(kernel, device);
  if (shape.shared_bytes > device.shared_bytes)
    return fail(POLARC_UNSUPPORTED,
                "%s needs %u bytes of shared memory a block: device %d has %u at most", kernel.name,
                shape.shared_bytes, device.number, device.shared_bytes);
  const int64_t most = blocks_at_once(kernel, device) * (shape.alone ? 1 : most_rounds);
  const int64_t needed = product((items - 1) / shape.items + 1, shape.parts);
  void *pointers[] = {&arguments};
  return start(kernel, device, static_cast<unsigned>(needed < most ? needed : most), pointers,
               stream);
}

// A call of an entry point: the parameters can be read, the current device can run it.
template <class Params>
int run(const Params *p, void *stream, int (*call)(const Params &, const Device &, void *)) {
  Device device = {};
  if (const int status = refused(p)) return status;
  if (const int status = find_device(device)) return status;
  return call(*p, device, stream);
}

// ---- Arguments: each check returns 0 or a status with its message set ----

// What a host must know of a packed format.
struct Format {
  int head_dim, unit_bytes, unit_tokens;
  bool centred;    // has a mean
  bool orthogonal; // one matrix for all heads, given at run time
  bool matrix;     // a matrix for each head, with its dual
};
constexpr Format key_format = {
    64, 1076, 32, true, false, false,
};
constexpr Format value_format = {
    64, 824, 32, true, false, false,
};

// Floats in a workspace: of a query and its constant, of a query's sums, maximum and mass.
constexpr int query_floats = round_up(key_format.head_dim + 1, 4);
constexpr int partial_floats = round_up(value_format.head_dim + 2, 4);
#ifndef POLARC_CUDA_DRIVER
static_assert(query_floats == query_stride, "as kernels have it");
static_assert(partial_floats == partial_stride, "as kernels have it");
static_assert(key_format.unit_bytes == key::unit_bytes, "as kernels have it");
static_assert(value_format.unit_bytes == value::unit_bytes, "as kernels have it");
#endif

int check_array(const char *what, const void *data, size_t alignment) {
  if (!data) return fail(POLARC_INVALID_ARGUMENT, "%s is null: give an array", what);
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0)
    return fail(POLARC_INVALID_ARGUMENT, "%s is not aligned: give a multiple of %u bytes", what,
                static_cast<unsigned>(alignment));
  return POLARC_OK;
}

int check_optional(const char *what, const void *data, size_t alignment) {
  return data ? check_array(what, data, alignment) : POLARC_OK;
}

int check_count(const char *what, int64_t count) {
  if (count < 0)
    return fail(POLARC_INVALID_ARGUMENT, "%s is %lld: give 0 or more", what,
                static_cast<long long>(count));
  return POLARC_OK;
}

int check_at_least(const char *what, int64_t value, int64_t least) {
  if (value < least)
    return fail(POLARC_INVALID_ARGUMENT, "%s is %lld: give %lld or more", what,
                static_cast<long long>(value), static_cast<long long>(least));
  return POLARC_OK;
}

// `heads` rows of `dim` elements at each of `count` places.
int check_rows(const char *what, const polarc_rows &rows, int64_t count, int64_t heads, int dim) {
  if (rows.dtype != POLARC_F32 && rows.dtype != POLARC_F16 && rows.dtype != POLARC_BF16)
    return fail(POLARC_INVALID_ARGUMENT,
                "%s.dtype is %d: give POLARC_F32 (0), POLARC_F16 (1) or POLARC_BF16 (2)", what,
                rows.dtype);
  char field[64];
  if (count > 0 && heads > 0) {
    snprintf(field, sizeof field, "%s.data", what);
    if (const int status = check_array(field, rows.data, rows.dtype == POLARC_F32 ? 4 : 2))
      return status;
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

// Records are read and written by words of 32 bits.
int check_stride(const char *what, const char *field, int64_t stride, int64_t least, bool used) {
  char name[64];
  snprintf(name, sizeof name, "%s.%s", what, field);
  if (!used) return POLARC_OK;
  if (const int status = check_at_least(name, stride, least)) return status;
  if (stride % 4 != 0)
    return fail(POLARC_INVALID_ARGUMENT, "%s is %lld: give a multiple of 4 bytes", name,
                static_cast<long long>(stride));
  return POLARC_OK;
}

int check_pool(const char *what, const polarc_pool &pool, int64_t heads, const Format &format) {
  char field[64];
  snprintf(field, sizeof field, "%s.pages", what);
  if (const int status = check_count(field, pool.pages)) return status;
  if (pool.pages == 0) return POLARC_OK;
  snprintf(field, sizeof field, "%s.data", what);
  if (const int status = check_array(field, pool.data, 16)) return status;
  const int64_t bytes = format.unit_bytes;
  if (const int status = check_stride(what, "unit_stride", pool.unit_stride, bytes, true))
    return status;
  if (const int status = check_stride(what, "head_stride", pool.head_stride, bytes, heads > 1))
    return status;
  return check_stride(what, "page_stride", pool.page_stride, bytes, pool.pages > 1);
}

int check_heads(int64_t kv_heads, int64_t begin, int64_t end) {
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

int check_basis(int basis) {
  if (basis != POLARC_ORIGINAL && basis != POLARC_ROTATED)
    return fail(POLARC_INVALID_ARGUMENT,
                "basis is %d: give POLARC_ORIGINAL (0) or POLARC_ROTATED (1)", basis);
  return POLARC_OK;
}

// A vector or matrix that the format needs for this call; some formats need none.
int check_given(const char *what, const char *field, const float *data, bool needed) {
  char name[64];
  snprintf(name, sizeof name, "%s.%s", what, field);
  if (needed && !data)
    return fail(POLARC_INVALID_ARGUMENT, "%s is null: this format needs it for this call", name);
  return check_optional(name, data, alignof(float));
}

int check_transform(const char *what, const polarc_transform &t, const Format &format, bool mean,
                    bool matrix, bool dual) {
  if (format.centred)
    if (const int status = check_given(what, "mean", t.mean, mean)) return status;
  if (format.orthogonal || format.matrix)
    if (const int status = check_given(what, "matrix", t.matrix, format.orthogonal || matrix))
      return status;
  if (format.matrix) return check_given(what, "dual", t.dual, dual);
  return POLARC_OK;
}

int check_index(const polarc_index &index) {
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

int check_row_tables(const int32_t *row_sequence, const int32_t *row_position) {
  constexpr size_t four = alignof(int32_t);
  if (const int status = check_optional("row_sequence", row_sequence, four)) return status;
  return check_optional("row_position", row_position, four);
}

// By its bits: flags of the host compiler could fold a comparison away.
bool finite(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits & 0x7f800000u) != 0x7f800000u;
}

int check_scale(float scale, float softcap, int window) {
  if (!finite(scale))
    return fail(POLARC_INVALID_ARGUMENT, "scale is not finite: give for example 1/sqrt(d)");
  if (!finite(softcap) || softcap < 0)
    return fail(POLARC_INVALID_ARGUMENT, "softcap is %g: give 0 (none) or a positive number",
                static_cast<double>(softcap));
  return check_count("window", window);
}

// ---- Encode, decode, rotate ----

// Heads of a call: both 0 stand for all of them.
template <class Params> void settle_heads(Params &p) {
  if (p.head_begin == 0 && p.head_end == 0) p.head_end = p.kv_heads;
}

int encode(const Format &format, const Kernel<polarc_encode_params> &kernel,
           polarc_encode_params p, const Device &device, void *stream) {
  if (const int status = check_count("count", p.count)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_rows("rows", p.rows, p.count, p.kv_heads, format.head_dim))
    return status;
  if (const int status = check_pool("cache", p.cache, p.kv_heads, format)) return status;
  if (p.count > 0)
    if (const int status = check_array("slots", p.slots, alignof(int64_t))) return status;
  if (const int status = check_transform("transform", p.transform, format, true, true, false))
    return status;
  if (const int status = check_optional("errors", p.errors, alignof(float))) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  settle_heads(p);
  return launch(kernel, device, product(p.count, p.head_end - p.head_begin), p, stream);
}

int decode(const Format &format, const Kernel<polarc_decode_params> &kernel,
           polarc_decode_params p, const Device &device, void *stream) {
  if (const int status = check_count("count", p.count)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_pool("cache", p.cache, p.kv_heads, format)) return status;
  if (const int status = check_rows("rows", p.rows, p.count, p.kv_heads, format.head_dim))
    return status;
  if (p.count > 0)
    if (const int status = check_array("slots", p.slots, alignof(int64_t))) return status;
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status = check_transform("transform", p.transform, format, true,
                                         format.centred && !original, original))
    return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;

  settle_heads(p);
  return launch(kernel, device, product(p.count, p.head_end - p.head_begin), p, stream);
}

int rotate(const Format &format, const Kernel<polarc_rotate_params> &kernel,
           const polarc_rotate_params &p, const Device &device, void *stream) {
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
  if (const int status = check_rows("in", p.in, p.count, p.heads, format.head_dim)) return status;
  if (const int status = check_rows("out", p.out, p.count, p.heads, format.head_dim)) return status;
  if (const int status =
          check_transform("transform", p.transform, format, false, forward, !forward))
    return status;
  return launch(kernel, device, product(p.count, p.heads), p, stream);
}

int encode_key(const polarc_encode_params &p, const Device &device, void *stream) {
  return encode(key_format, encode_key_kernel, p, device, stream);
}

int decode_key(const polarc_decode_params &p, const Device &device, void *stream) {
  return decode(key_format, decode_key_kernel, p, device, stream);
}

int rotate_key(const polarc_rotate_params &p, const Device &device, void *stream) {
  return rotate(key_format, rotate_key_kernel, p, device, stream);
}

int encode_value(const polarc_encode_params &p, const Device &device, void *stream) {
  return encode(value_format, encode_value_kernel, p, device, stream);
}

int decode_value(const polarc_decode_params &p, const Device &device, void *stream) {
  return decode(value_format, decode_value_kernel, p, device, stream);
}

int rotate_value(const polarc_rotate_params &p, const Device &device, void *stream) {
  return rotate(value_format, rotate_value_kernel, p, device, stream);
}

// ---- Work units: (row, KV head, split) in that order, and the workspace of a call ----

// How the tokens of a row's sequence are cut: into `count` splits, at least one, of `tokens`.
struct Splits {
  int64_t tokens, count;
};

Splits splits_of(int64_t tokens, int64_t max_tokens) {
  const int64_t count = (max_tokens + tokens - 1) / tokens;
  return {tokens, count > 1 ? count : 1};
}

constexpr int64_t split_step = 32;    // splits begin at its multiples
constexpr int64_t least_split = 256;  // tokens
constexpr int64_t most_split = 0x7fffffe0; // kernels count them in int32
constexpr int64_t start_tokens = 128; // what a split costs beside its own tokens, in tokens

// At most `wanted` splits, as equal as can be; more only where one cannot hold its share.
Splits splits_into(int64_t wanted, int64_t max_tokens) {
  const int64_t count = wanted > 1 ? wanted : 1, step = split_step * count;
  const int64_t tokens = (max_tokens + step - 1) / step * split_step;
  const int64_t most = tokens < most_split ? tokens : most_split;
  return splits_of(most > least_split ? most : least_split, max_tokens);
}

// The splits that are done first where `blocks` run at once and `sequences` of such a length are
// to be cut: as many as some rounds of blocks hold.
Splits quickest_splits(int64_t sequences, int64_t max_tokens, int64_t blocks) {
  Splits best = splits_into(1, max_tokens);
  int64_t least = largest;
  for (int64_t rounds = 1; rounds <= 16; rounds++) {
    const Splits splits = splits_into(rounds * blocks / sequences, max_tokens);
    const int64_t needed = (product(sequences, splits.count) - 1) / blocks + 1;
    const int64_t time = product(needed, splits.tokens + start_tokens);
    if (time < least) best = splits, least = time;
  }
  return best;
}

// The splits of attention: the caller's, or those for this batch and device.
template <class Arguments>
Splits choose_splits(int64_t split_tokens, int64_t pairs, int64_t max_tokens,
                     const Kernel<Arguments> &kernel, const Device &device) {
  if (split_tokens > 0) return splits_of(split_tokens, max_tokens);
  if (pairs <= 0 || max_tokens <= 0) return splits_of(least_split, 0);
  return quickest_splits(product(pairs, shape_of(kernel, device).parts), max_tokens,
                         blocks_at_once(kernel, device));
}

// A call's workspace, and its work; of a call that has no work, nothing.
struct Workspace {
  int64_t units, bytes;
  Work work;
};

// Pieces of a workspace; where it begins at null they are only counted.
struct Pieces {
  char *begin;
  int64_t bytes;
  template <class T> T *take(int64_t count) {
    T *piece = begin ? reinterpret_cast<T *>(begin + bytes) : nullptr;
    const int64_t more = product(count, sizeof(T));
    bytes = more > largest - 63 - bytes ? largest : bytes + (more + 63) / 64 * 64;
    return piece;
  }
};

Workspace make_workspace(void *begin, int64_t rows, int64_t kv_heads, int64_t max_tokens,
                         bool queries, bool partials, const Splits &splits) {
  Workspace space = {};
  if (rows <= 0 || kv_heads <= 0 || max_tokens < 0) return space;
  const int64_t pairs = product(rows, kv_heads);
  space.units = product(pairs, splits.count);
  Pieces pieces = {static_cast<char *>(begin), 0};
  Work &work = space.work;
  work.states = pieces.take<RowState>(rows);
  if (queries) work.queries = pieces.take<float>(product(pairs, group * query_floats));
  if (partials) work.partials = pieces.take<float>(product(space.units, group * partial_floats));
  work.unit_end = space.units;
  work.splits = static_cast<int32_t>(splits.count);
  work.split_tokens = static_cast<int32_t>(splits.tokens);
  space.bytes = pieces.bytes;
  return space;
}

int check_workspace(const void *workspace, size_t bytes, const Workspace &space) {
  if (space.bytes == 0) return POLARC_OK;
  if (bytes < static_cast<uint64_t>(space.bytes))
    return fail(POLARC_WORKSPACE_TOO_SMALL,
                "workspace_bytes is %llu: give %llu, the size that the workspace query returns",
                static_cast<unsigned long long>(bytes),
                static_cast<unsigned long long>(space.bytes));
  return check_array("workspace", workspace, 16);
}

// The workspace and units of a call that may be incomplete: none where it cannot run.
template <class Params, class Space> Workspace ask(const Params *p, Space &&space) {
  Device device = {};
  if (refused(p) || find_device(device)) return {};
  return space(*p, device);
}

// ---- Scores and weighted sums ----

int check_key_transform(const polarc_transform &transform, bool original) {
  return check_transform("key", transform, key_format, true, key_format.centred && !original,
                         original);
}
int check_value_transform(const polarc_transform &transform, bool original) {
  return check_transform("value", transform, value_format, true,
                         value_format.centred && !original, original);
}

Workspace scores_space(const polarc_scores_params &p, const Device &device) {
  const Splits splits = choose_splits(0, product(p.rows, p.kv_heads), p.index.max_tokens,
                                      scores_kernel, device);
  return make_workspace(p.workspace, p.rows, p.kv_heads, p.index.max_tokens, true, false, splits);
}

int scores(const polarc_scores_params &p, const Device &device, void *stream) {
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_scale(p.scale, p.softcap, p.window)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("q", p.q, p.rows, q_heads, key_format.head_dim)) return status;
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
  if (const int status = check_pool("keys", p.keys, p.kv_heads, key_format)) return status;
  if (const int status = check_key_transform(p.key, original)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;
  const Workspace space = scores_space(p, device);
  if (const int status = check_workspace(p.workspace, p.workspace_bytes, space)) return status;

  ScoresArguments arguments = {p, space.work};
  settle_heads(arguments.p);
  const int64_t heads = arguments.p.head_end - arguments.p.head_begin;
  if (space.units == 0 || heads == 0) return POLARC_OK;
  const int64_t pairs = product(p.rows, heads);
  if (const int status = launch(prepare_scores_kernel, device, pairs, arguments, stream))
    return status;
  const int64_t units = width > 0 ? product(pairs, space.work.splits) : 0;
  return launch(scores_kernel, device, units, arguments, stream);
}

constexpr int64_t weighted_sum_splits = 64; // at most: neither batch nor device decide

Workspace weighted_sum_space(const polarc_weighted_sum_params &p, const Device &) {
  return make_workspace(p.workspace, p.rows, p.kv_heads, p.index.max_tokens, false, true,
                        splits_into(weighted_sum_splits, p.index.max_tokens));
}

int weighted_sum(const polarc_weighted_sum_params &p, const Device &device, void *stream) {
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_heads(p.kv_heads, p.head_begin, p.head_end)) return status;
  if (const int status = check_basis(p.basis)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("out", p.out, p.rows, q_heads, value_format.head_dim))
    return status;
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
  if (const int status = check_pool("values", p.values, p.kv_heads, value_format)) return status;
  if (const int status = check_value_transform(p.value, p.basis == POLARC_ORIGINAL)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;
  const Workspace space = weighted_sum_space(p, device);
  if (const int status = check_workspace(p.workspace, p.workspace_bytes, space)) return status;

  WeightedSumArguments arguments = {p, space.work};
  settle_heads(arguments.p);
  const int64_t heads = arguments.p.head_end - arguments.p.head_begin;
  if (space.units == 0 || heads == 0) return POLARC_OK;
  const int64_t pairs = product(p.rows, heads);
  const int64_t units = product(pairs, space.work.splits);
  if (const int status = launch(prepare_weighted_sum_kernel, device, p.rows, arguments, stream))
    return status;
  if (const int status = launch(weighted_sum_kernel, device, units, arguments, stream))
    return status;
  return launch(combine_weighted_sum_kernel, device, product(pairs, group), arguments, stream);
}

// ---- Attention ----

// What attend and attend_dense have in common.
template <class Params> int check_attention(const Params &p, const Workspace &space) {
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_at_least("kv_heads", p.kv_heads, 1)) return status;
  if (const int status = check_scale(p.scale, p.softcap, p.window)) return status;
  const int64_t q_heads = static_cast<int64_t>(p.kv_heads) * group;
  if (const int status = check_rows("q", p.q, p.rows, q_heads, key_format.head_dim)) return status;
  if (const int status = check_rows("out", p.out, p.rows, q_heads, value_format.head_dim))
    return status;
  if (const int status = check_optional("lse", p.lse, alignof(float))) return status;
  if (p.lse && p.rows > 1)
    if (const int status = check_at_least("lse_row_stride", p.lse_row_stride, q_heads))
      return status;
  if (const int status = check_row_tables(p.row_sequence, p.row_position)) return status;
  if (const int status = check_optional("flags", p.flags, alignof(uint32_t))) return status;
  if (p.split_tokens < 0 || p.split_tokens % split_step != 0)
    return fail(POLARC_INVALID_ARGUMENT,
                "split_tokens is %d: give a multiple of %d, or 0 for the kernel's choice",
                p.split_tokens, static_cast<int>(split_step));
  if (p.phase != POLARC_ALL && p.phase != POLARC_PARTIAL && p.phase != POLARC_COMBINE)
    return fail(POLARC_INVALID_ARGUMENT,
                "phase is %d: give POLARC_ALL (0), POLARC_PARTIAL (1) or POLARC_COMBINE (2)",
                p.phase);
  if (p.unit_begin < 0 || p.unit_end < p.unit_begin || p.unit_end > space.units)
    return fail(POLARC_INVALID_ARGUMENT,
                "unit_begin is %lld and unit_end %lld: give 0 <= unit_begin <= unit_end <= %lld, "
                "or both 0 for all units",
                static_cast<long long>(p.unit_begin), static_cast<long long>(p.unit_end),
                static_cast<long long>(space.units));
  return check_workspace(p.workspace, p.workspace_bytes, space);
}

// The phases of a call. Every launch of partial results prepares its rows: the ranges of a call may
// run in any order.
template <class Arguments>
int launch_phases(const Kernel<Arguments> &prepare, const Kernel<Arguments> &partial,
                  const Kernel<Arguments> &combine, Arguments &arguments, const Device &device,
                  void *stream) {
  const auto &p = arguments.p;
  Work &work = arguments.work;
  if (p.unit_begin != 0 || p.unit_end != 0)
    work.unit_begin = p.unit_begin, work.unit_end = p.unit_end;
  const int64_t units = work.unit_end - work.unit_begin;
  if (units == 0) return POLARC_OK;
  if (p.phase != POLARC_COMBINE) {
    const int64_t pairs = product(p.rows, p.kv_heads);
    if (const int status = launch(prepare, device, pairs, arguments, stream)) return status;
    if (const int status = launch(partial, device, units, arguments, stream)) return status;
  }
  if (p.phase == POLARC_PARTIAL) return POLARC_OK;
  // Pairs of a row and a KV head whose first unit is among them.
  const int64_t pairs = (work.unit_end + work.splits - 1) / work.splits -
                        (work.unit_begin + work.splits - 1) / work.splits;
  return launch(combine, device, product(pairs, group), arguments, stream);
}

// Whether the units of a pool stand side by side, on multiples of eight bytes.
bool side_by_side(const polarc_pool &pool, const Format &format) {
  return pool.unit_stride == format.unit_bytes && pool.page_stride % 8 == 0 &&
         pool.head_stride % 8 == 0;
}

// The kernel whose tables are the largest that a block has room for; where none fits, the one in
// float32. Splits are chosen for packed pools: a workspace query need not know the pools.
const Kernel<AttendArguments> &kernel_of_attend(const Device &device, bool packed) {
  if (shape_of(attend_half_joint10_kernel, device).shared_bytes <= device.shared_bytes)
    return packed ? attend_half_joint10_kernel : attend_half_joint10_strided_kernel;
  if (shape_of(attend_half_joint8_kernel, device).shared_bytes <= device.shared_bytes)
    return packed ? attend_half_joint8_kernel : attend_half_joint8_strided_kernel;
  return attend_kernel;
}

Workspace attend_space(const polarc_attend_params &p, const Device &device) {
  const int64_t pairs = product(p.rows, p.kv_heads), max_tokens = p.index.max_tokens;
  const Kernel<AttendArguments> &kernel = kernel_of_attend(device, true);
  const Splits splits = choose_splits(p.split_tokens, pairs, max_tokens, kernel, device);
  return make_workspace(p.workspace, p.rows, p.kv_heads, p.index.max_tokens, true, true, splits);
}

int attend(const polarc_attend_params &p, const Device &device, void *stream) {
  const bool original = p.basis == POLARC_ORIGINAL;
  if (const int status = check_basis(p.basis)) return status;
  if (const int status = check_index(p.index)) return status;
  const Workspace space = attend_space(p, device);
  if (const int status = check_attention(p, space)) return status;
  if (const int status = check_pool("keys", p.keys, p.kv_heads, key_format)) return status;
  if (const int status = check_pool("values", p.values, p.kv_heads, value_format)) return status;
  if (const int status = check_key_transform(p.key, original)) return status;
  if (const int status = check_value_transform(p.value, original)) return status;

  AttendArguments arguments = {p, space.work};
  const bool packed = side_by_side(p.keys, key_format) && side_by_side(p.values, value_format);
  const Kernel<AttendArguments> &kernel = kernel_of_attend(device, packed);
  return launch_phases(prepare_attend_kernel, kernel, combine_attend_kernel, arguments, device,
                       stream);
}

int check_dense_strides(const char *what, int64_t token_stride, int64_t head_stride, int64_t heads,
                        int64_t tokens, int dim) {
  char field[48];
  snprintf(field, sizeof field, "%s_token_stride", what);
  if (tokens > 1)
    if (const int status = check_at_least(field, token_stride, dim)) return status;
  snprintf(field, sizeof field, "%s_head_stride", what);
  if (heads > 1) return check_at_least(field, head_stride, dim);
  return POLARC_OK;
}

Workspace attend_dense_space(const polarc_attend_dense_params &p, const Device &device) {
  const Splits splits = choose_splits(p.split_tokens, product(p.rows, p.kv_heads), p.max_tokens,
                                      attend_dense_kernel, device);
  return make_workspace(p.workspace, p.rows, p.kv_heads, p.max_tokens, true, true, splits);
}

int attend_dense(const polarc_attend_dense_params &p, const Device &device, void *stream) {
  constexpr size_t element = dense_dtype == POLARC_F32 ? 4 : 2;
  if (const int status = check_count("sequences", p.sequences)) return status;
  if (const int status = check_count("max_tokens", p.max_tokens)) return status;
  const Workspace space = attend_dense_space(p, device);
  if (const int status = check_attention(p, space)) return status;
  if (p.sequences > 0) {
    if (const int status = check_array("lengths", p.lengths, alignof(int32_t))) return status;
    if (p.max_tokens > 0) {
      if (const int status = check_array("keys", p.keys, element)) return status;
      if (const int status = check_array("values", p.values, element)) return status;
    }
  }
  if (const int status = check_dense_strides("key", p.key_token_stride, p.key_head_stride,
                                             p.kv_heads, p.max_tokens, key_format.head_dim))
    return status;
  if (const int status = check_dense_strides("value", p.value_token_stride, p.value_head_stride,
                                             p.kv_heads, p.max_tokens, value_format.head_dim))
    return status;
  if (const int status = check_optional("first_position", p.first_position, alignof(int32_t)))
    return status;
  if (const int status = check_optional("positions", p.positions, alignof(int32_t)))
    return status;
  if (p.positions || p.always_visible)
    if (const int status = check_count("positions_stride", p.positions_stride)) return status;

  AttendDenseArguments arguments = {p, space.work};
  return launch_phases(prepare_attend_dense_kernel, attend_dense_kernel,
                       combine_attend_dense_kernel, arguments, device, stream);
}

// ---- Merge ----

int merge(const polarc_merge_params &p, const Device &device, void *stream) {
  constexpr int dim = value_format.head_dim;
  if (const int status = check_count("rows", p.rows)) return status;
  if (const int status = check_at_least("q_heads", p.q_heads, 1)) return status;
  if (const int status = check_at_least("part_count", p.part_count, 1)) return status;
  if (p.part_count > merge_parts)
    return fail(POLARC_INVALID_ARGUMENT,
                "part_count is %d: give %d parts or fewer, and merge what calls give again",
                p.part_count, merge_parts);
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

  // The parts travel with the launch: the kernel cannot read the host's list.
  MergeArguments arguments = {};
  arguments.p = p;
  arguments.p.parts = nullptr;
  for (int i = 0; i < p.part_count; i++) arguments.parts[i] = p.parts[i];
  return launch(merge_kernel, device, product(p.rows, p.q_heads), arguments, stream);
}

} // namespace

// ---- Entry points ----

extern "C" {

int small_d64_cuda_encode_key(const polarc_encode_params *p, void *stream) {
  return run(p, stream, encode_key);
}

int small_d64_cuda_decode_key(const polarc_decode_params *p, void *stream) {
  return run(p, stream, decode_key);
}

int small_d64_cuda_rotate_key(const polarc_rotate_params *p, void *stream) {
  return run(p, stream, rotate_key);
}

int small_d64_cuda_encode_value(const polarc_encode_params *p, void *stream) {
  return run(p, stream, encode_value);
}

int small_d64_cuda_decode_value(const polarc_decode_params *p, void *stream) {
  return run(p, stream, decode_value);
}

int small_d64_cuda_rotate_value(const polarc_rotate_params *p, void *stream) {
  return run(p, stream, rotate_value);
}

int small_d64_cuda_scores(const polarc_scores_params *p, void *stream) {
  return run(p, stream, scores);
}

size_t small_d64_cuda_scores_workspace(const polarc_scores_params *p) {
  return static_cast<size_t>(ask(p, scores_space).bytes);
}

int small_d64_cuda_weighted_sum(const polarc_weighted_sum_params *p, void *stream) {
  return run(p, stream, weighted_sum);
}

size_t small_d64_cuda_weighted_sum_workspace(const polarc_weighted_sum_params *p) {
  return static_cast<size_t>(ask(p, weighted_sum_space).bytes);
}

int small_d64_cuda_attend(const polarc_attend_params *p, void *stream) {
  return run(p, stream, attend);
}

size_t small_d64_cuda_attend_workspace(const polarc_attend_params *p) {
  return static_cast<size_t>(ask(p, attend_space).bytes);
}

int64_t small_d64_cuda_attend_units(const polarc_attend_params *p) {
  return ask(p, attend_space).units;
}

int small_d64_cuda_attend_dense(const polarc_attend_dense_params *p, void *stream) {
  return run(p, stream, attend_dense);
}

size_t small_d64_cuda_attend_dense_workspace(const polarc_attend_dense_params *p) {
  return static_cast<size_t>(ask(p, attend_dense_space).bytes);
}

int64_t small_d64_cuda_attend_dense_units(const polarc_attend_dense_params *p) {
  return ask(p, attend_dense_space).units;
}

int small_d64_cuda_merge(const polarc_merge_params *p, void *stream) {
  return run(p, stream, merge);
}

const char *small_d64_cuda_variant(const char *wanted) {
  static_cast<void>(wanted);
  return "cuda";
}

const char *small_d64_cuda_message(void) {
  return message_text;
}

const polarc_kernels *small_d64_cuda_kernels(void) {
  static constexpr polarc_kernels table = {
      sizeof(polarc_kernels),
      POLARC_ABI_VERSION,
      "small_d64",
      "cuda",
      "3bfac1a8e518029f261c3ab207985664575303af1e1e5da1e3704506b2b0b67e",
      "2a8b614420df0ce1431283dca453adcb9ad114a8545b402e06e8f8ceb0dfe8ca",
      "59011a5646394f92ab0836d49eccc1e64b2c7c9fef0de232fb05ce606eb98dbd",
      key_format.head_dim,
      value_format.head_dim,
      group,
      page_tokens,
      key_format.unit_tokens,
      value_format.unit_tokens,
      key_format.unit_bytes,
      value_format.unit_bytes,
      dense_dtype,
      0,
      small_d64_cuda_encode_key,
      small_d64_cuda_encode_value,
      small_d64_cuda_decode_key,
      small_d64_cuda_decode_value,
      small_d64_cuda_rotate_key,
      small_d64_cuda_rotate_value,
      small_d64_cuda_scores,
      small_d64_cuda_scores_workspace,
      small_d64_cuda_weighted_sum,
      small_d64_cuda_weighted_sum_workspace,
      small_d64_cuda_attend,
      small_d64_cuda_attend_workspace,
      small_d64_cuda_attend_units,
      small_d64_cuda_attend_dense,
      small_d64_cuda_attend_dense_workspace,
      small_d64_cuda_attend_dense_units,
      small_d64_cuda_merge,
      small_d64_cuda_variant,
      small_d64_cuda_message,
  };
  return &table;
}

#ifdef POLARC_CUDA_DRIVER
void small_d64_cuda_use_driver(const polarc_cuda_driver *given) {
  const std::lock_guard<std::mutex> guard(devices_lock);
  driver = given;
  device_count = 0;
}

#endif
} // extern "C"

} // namespace host
} // namespace small_d64_cuda
