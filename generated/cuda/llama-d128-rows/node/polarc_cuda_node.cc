// polarc · llama_d128_rows · Node addon · cuda
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/cuda/node/polarc_cuda_node.cc.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The Node addon: opens CUDA's driver when it is first asked for a device, holds memory, streams
// and events, reads the calls that the class of the cache makes, checks that every buffer is as
// long as its counts and strides say, and puts kernels on a stream. The text is the same for every
// cache: sizes come from the table of kernels.
//
// It is built without CUDA's headers and libraries, and loads where there is no driver. All index
// arithmetic is int64 and saturates. What the launchers check themselves (tables, strides, nulls)
// arrives as their message.

#include <dlfcn.h>
#include <napi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#define POLARC_CUDA_DRIVER
#include "polarc_cuda_driver.h"

// From the file of the cache: its launchers, the driver that they use, and whether one matrix
// serves all its KV heads.
extern "C" {
const polarc_kernels *polarc_node_kernels(void);
void polarc_node_use_driver(const polarc_cuda_driver *driver);
int polarc_node_shared_matrix(int role);
}

namespace {

constexpr int64_t kSafeInteger = 9007199254740991;
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();

enum Role { kKey = 0, kValue = 1 };

// ---- Errors ------------------------------------------------------------------------------------

const char *status_code(int status) {
  switch (status) {
    case POLARC_INVALID_ARGUMENT: return "POLARC_INVALID_ARGUMENT";
    case POLARC_WORKSPACE_TOO_SMALL: return "POLARC_WORKSPACE_TOO_SMALL";
    case POLARC_UNSUPPORTED: return "POLARC_UNSUPPORTED";
    case POLARC_VERSION_MISMATCH: return "POLARC_VERSION_MISMATCH";
    case POLARC_DEVICE_ERROR: return "POLARC_DEVICE_ERROR";
    default: return "POLARC_ERROR";
  }
}

Napi::Error make_error(Napi::Env env, int status, const std::string &message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, status_code(status)));
  return error;
}

// ---- Sizes -------------------------------------------------------------------------------------

int64_t add(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? kInt64Max : sum;
}

int64_t multiply(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? kInt64Max : product;
}

struct Axis {
  int64_t count, stride;
};

// Elements up to the end of the last of `count` steps along every axis, each `last` elements long.
int64_t extent(std::initializer_list<Axis> axes, int64_t last) {
  int64_t end = last;
  for (const Axis &axis : axes) {
    if (axis.count <= 0) return 0;
    end = add(end, multiply(axis.count - 1, axis.stride));
  }
  return end;
}

// ---- The driver --------------------------------------------------------------------------------

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;

constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;
constexpr int kStreamNonBlocking = 1;

// What is used of libcuda.so.1, by the names that it exports.
struct Driver {
  int (*cuInit)(unsigned);
  int (*cuGetErrorName)(int, const char **);
  int (*cuGetErrorString)(int, const char **);
  int (*cuDeviceGetCount)(int *);
  int (*cuDeviceGet)(CUdevice *, int);
  int (*cuDeviceGetName)(char *, int, CUdevice);
  int (*cuDeviceGetAttribute)(int *, int, CUdevice);
  int (*cuDeviceTotalMem_v2)(size_t *, CUdevice);
  int (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
  int (*cuDevicePrimaryCtxRelease_v2)(CUdevice);
  int (*cuCtxPushCurrent_v2)(CUcontext);
  int (*cuCtxPopCurrent_v2)(CUcontext *);
  int (*cuCtxGetDevice)(CUdevice *);
  int (*cuModuleLoadData)(CUmodule *, const void *);
  int (*cuModuleUnload)(CUmodule);
  int (*cuModuleGetFunction)(void **, void *, const char *);
  int (*cuModuleGetGlobal_v2)(CUdeviceptr *, size_t *, void *, const char *);
  int (*cuFuncSetAttribute)(void *, int, int);
  int (*cuLaunchKernel)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                        unsigned, void *, void **, void **);
  int (*cuMemAlloc_v2)(CUdeviceptr *, size_t);
  int (*cuMemFree_v2)(CUdeviceptr);
  int (*cuMemcpyDtoH_v2)(void *, CUdeviceptr, size_t);
  int (*cuMemcpyHtoDAsync_v2)(CUdeviceptr, const void *, size_t, CUstream);
  int (*cuMemcpyDtoHAsync_v2)(void *, CUdeviceptr, size_t, CUstream);
  int (*cuMemcpyDtoDAsync_v2)(CUdeviceptr, CUdeviceptr, size_t, CUstream);
  int (*cuMemsetD8Async)(CUdeviceptr, unsigned char, size_t, CUstream);
  int (*cuStreamCreate)(CUstream *, unsigned);
  int (*cuStreamDestroy_v2)(CUstream);
  int (*cuStreamSynchronize)(CUstream);
  int (*cuEventCreate)(CUevent *, unsigned);
  int (*cuEventDestroy_v2)(CUevent);
  int (*cuEventRecord)(CUevent, CUstream);
  int (*cuEventSynchronize)(CUevent);
  int (*cuEventElapsedTime)(float *, CUevent, CUevent);

  // Why there is no driver; empty where there is one.
  std::string missing;
};

template <typename F>
bool find(void *library, const char *name, F &function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

std::string error_name(const Driver &driver, int error) {
  const char *name = nullptr;
  if (driver.cuGetErrorName(error, &name) || !name) return "CUDA error " + std::to_string(error);
  return name;
}

std::string error_text(const Driver &driver, int error) {
  const char *text = nullptr;
  if (driver.cuGetErrorString(error, &text) || !text) return error_name(driver, error);
  return error_name(driver, error) + " (" + text + ")";
}

Driver open_driver() {
  Driver driver = {};
  // The variable is for libraries in unusual places, and for tests.
  const char *named = std::getenv("POLARC_LIBCUDA");
  const char *file = named ? named : "libcuda.so.1";
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    driver.missing = std::string("there is no CUDA driver: ") + (why ? why : file);
    return driver;
  }
#define POLARC_FIND(name)                                                          \
  if (!find(library, #name, driver.name)) {                                        \
    driver.missing = std::string(file) + " has no " #name ": update the driver"; \
    return driver;                                                                 \
  }
  POLARC_FIND(cuInit)
  POLARC_FIND(cuGetErrorName)
  POLARC_FIND(cuGetErrorString)
  POLARC_FIND(cuDeviceGetCount)
  POLARC_FIND(cuDeviceGet)
  POLARC_FIND(cuDeviceGetName)
  POLARC_FIND(cuDeviceGetAttribute)
  POLARC_FIND(cuDeviceTotalMem_v2)
  POLARC_FIND(cuDevicePrimaryCtxRetain)
  POLARC_FIND(cuDevicePrimaryCtxRelease_v2)
  POLARC_FIND(cuCtxPushCurrent_v2)
  POLARC_FIND(cuCtxPopCurrent_v2)
  POLARC_FIND(cuCtxGetDevice)
  POLARC_FIND(cuModuleLoadData)
  POLARC_FIND(cuModuleUnload)
  POLARC_FIND(cuModuleGetFunction)
  POLARC_FIND(cuModuleGetGlobal_v2)
  POLARC_FIND(cuFuncSetAttribute)
  POLARC_FIND(cuLaunchKernel)
  POLARC_FIND(cuMemAlloc_v2)
  POLARC_FIND(cuMemFree_v2)
  POLARC_FIND(cuMemcpyDtoH_v2)
  POLARC_FIND(cuMemcpyHtoDAsync_v2)
  POLARC_FIND(cuMemcpyDtoHAsync_v2)
  POLARC_FIND(cuMemcpyDtoDAsync_v2)
  POLARC_FIND(cuMemsetD8Async)
  POLARC_FIND(cuStreamCreate)
  POLARC_FIND(cuStreamDestroy_v2)
  POLARC_FIND(cuStreamSynchronize)
  POLARC_FIND(cuEventCreate)
  POLARC_FIND(cuEventDestroy_v2)
  POLARC_FIND(cuEventRecord)
  POLARC_FIND(cuEventSynchronize)
  POLARC_FIND(cuEventElapsedTime)
#undef POLARC_FIND
  if (const int error = driver.cuInit(0)) {
    driver.missing = "the CUDA driver cannot start: " + error_text(driver, error);
  }
  return driver;
}

const Driver &driver() {
  static const Driver opened = open_driver();
  return opened;
}

Napi::Error cuda_error(Napi::Env env, const std::string &what, int error) {
  Napi::Error thrown = Napi::Error::New(env, what + ": " + error_text(driver(), error));
  thrown.Set("code", Napi::String::New(env, error_name(driver(), error)));
  return thrown;
}

void require(Napi::Env env, const std::string &what, int error) {
  if (error) throw cuda_error(env, what, error);
}

void require_driver(Napi::Env env) {
  if (!driver().missing.empty()) throw make_error(env, POLARC_UNSUPPORTED, driver().missing);
}

// ---- What launchers reach the driver through ---------------------------------------------------

// The module of the call that runs on this thread, and the last error that its launchers met.
thread_local void *current_module = nullptr;
thread_local int launch_error = 0;

// Launchers remember modules: while calls run, on any thread, none is unloaded.
std::shared_mutex modules_lock;

int kept(int error) {
  if (error) launch_error = error;
  return error;
}

const polarc_cuda_driver kLaunchers = {
    sizeof(polarc_cuda_driver),
    POLARC_ABI_VERSION,
    [](const char *) { return current_module; },
    [](int *device) { return kept(driver().cuCtxGetDevice(device)); },
    [](int *value, int attribute, int device) {
      return kept(driver().cuDeviceGetAttribute(value, attribute, device));
    },
    [](void **function, void *module, const char *name) {
      return kept(driver().cuModuleGetFunction(function, module, name));
    },
    [](unsigned long long *address, size_t *bytes, void *module, const char *name) {
      return kept(driver().cuModuleGetGlobal_v2(address, bytes, module, name));
    },
    [](void *to, unsigned long long from, size_t bytes) {
      return kept(driver().cuMemcpyDtoH_v2(to, from, bytes));
    },
    [](void *function, int attribute, int value) {
      return kept(driver().cuFuncSetAttribute(function, attribute, value));
    },
    [](void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
       unsigned threads_y, unsigned threads_z, unsigned shared_bytes, void *stream,
       void **arguments, void **extra) {
      return kept(driver().cuLaunchKernel(function, blocks_x, blocks_y, blocks_z, threads_x,
                                          threads_y, threads_z, shared_bytes, stream, arguments,
                                          extra));
    },
    [](int error, const char **name) { return driver().cuGetErrorName(error, name); },
    [](int error, const char **text) { return driver().cuGetErrorString(error, text); },
};

// ---- NVRTC -------------------------------------------------------------------------------------

struct Nvrtc {
  const char *(*nvrtcGetErrorString)(int);
  int (*nvrtcGetNumSupportedArchs)(int *);
  int (*nvrtcGetSupportedArchs)(int *);
  int (*nvrtcCreateProgram)(void **, const char *, const char *, int, const char *const *,
                            const char *const *);
  int (*nvrtcCompileProgram)(void *, int, const char *const *);
  int (*nvrtcDestroyProgram)(void **);
  int (*nvrtcGetProgramLogSize)(void *, size_t *);
  int (*nvrtcGetProgramLog)(void *, char *);
  int (*nvrtcGetCUBINSize)(void *, size_t *);
  int (*nvrtcGetCUBIN)(void *, char *);
  int (*nvrtcGetPTXSize)(void *, size_t *);
  int (*nvrtcGetPTX)(void *, char *);
  std::string missing;
};

Nvrtc open_nvrtc() {
  Nvrtc nvrtc = {};
  const char *named = std::getenv("POLARC_LIBNVRTC");
  std::vector<const char *> files = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                     "/usr/local/cuda/lib64/libnvrtc.so"};
  if (named) files = {named};
  void *library = nullptr;
  for (const char *file : files) {
    library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library) break;
  }
  if (!library) {
    nvrtc.missing = "there is no " + std::string(files[0]) +
                    ": install NVRTC (or name its file in POLARC_LIBNVRTC), or give the kernels "
                    "as a cubin";
    return nvrtc;
  }
  const bool complete = find(library, "nvrtcGetErrorString", nvrtc.nvrtcGetErrorString) &&
                        find(library, "nvrtcGetNumSupportedArchs",
                             nvrtc.nvrtcGetNumSupportedArchs) &&
                        find(library, "nvrtcGetSupportedArchs", nvrtc.nvrtcGetSupportedArchs) &&
                        find(library, "nvrtcCreateProgram", nvrtc.nvrtcCreateProgram) &&
                        find(library, "nvrtcCompileProgram", nvrtc.nvrtcCompileProgram) &&
                        find(library, "nvrtcDestroyProgram", nvrtc.nvrtcDestroyProgram) &&
                        find(library, "nvrtcGetProgramLogSize", nvrtc.nvrtcGetProgramLogSize) &&
                        find(library, "nvrtcGetProgramLog", nvrtc.nvrtcGetProgramLog) &&
                        find(library, "nvrtcGetCUBINSize", nvrtc.nvrtcGetCUBINSize) &&
                        find(library, "nvrtcGetCUBIN", nvrtc.nvrtcGetCUBIN) &&
                        find(library, "nvrtcGetPTXSize", nvrtc.nvrtcGetPTXSize) &&
                        find(library, "nvrtcGetPTX", nvrtc.nvrtcGetPTX);
  if (!complete) nvrtc.missing = "this NVRTC is too old: 11.2 or above is needed";
  return nvrtc;
}

// `compile(text, name, capability)`: device code, for the driver to load. A device that NVRTC does
// not know yet gets PTX of the newest one that it knows, which the driver translates.
Napi::Value compile(const Napi::CallbackInfo &info) {
  static const Nvrtc nvrtc = open_nvrtc();
  Napi::Env env = info.Env();
  if (!nvrtc.missing.empty()) throw make_error(env, POLARC_UNSUPPORTED, nvrtc.missing);
  const std::string text = info[0].As<Napi::String>().Utf8Value();
  const std::string name = info[1].As<Napi::String>().Utf8Value();
  const int capability = info[2].As<Napi::Number>().Int32Value();

  int count = 0;
  std::vector<int> known;
  if (!nvrtc.nvrtcGetNumSupportedArchs(&count) && count > 0) {
    known.resize(static_cast<size_t>(count));
    nvrtc.nvrtcGetSupportedArchs(known.data());
  }
  int newest = 0;
  for (const int each : known) {
    if (each <= capability) newest = std::max(newest, each);
  }
  const bool native = newest == capability;
  const std::string architecture =
      std::string("--gpu-architecture=") + (native ? "sm_" : "compute_") + std::to_string(newest);
  std::vector<const char *> options = {architecture.c_str(), "--std=c++17"};

  void *program = nullptr;
  int error = nvrtc.nvrtcCreateProgram(&program, text.c_str(), name.c_str(), 0, nullptr, nullptr);
  std::string log, code;
  if (!error) {
    error = nvrtc.nvrtcCompileProgram(program, static_cast<int>(options.size()), options.data());
    size_t bytes = 0;
    if (error && !nvrtc.nvrtcGetProgramLogSize(program, &bytes) && bytes > 1) {
      log.resize(bytes);
      nvrtc.nvrtcGetProgramLog(program, &log[0]);
      log.resize(std::strlen(log.c_str()));
    }
    if (!error) {
      error = native ? nvrtc.nvrtcGetCUBINSize(program, &bytes)
                     : nvrtc.nvrtcGetPTXSize(program, &bytes);
    }
    if (!error) {
      code.resize(bytes);
      error = native ? nvrtc.nvrtcGetCUBIN(program, &code[0])
                     : nvrtc.nvrtcGetPTX(program, &code[0]);
    }
    nvrtc.nvrtcDestroyProgram(&program);
  }
  if (error) {
    const std::string what = nvrtc.nvrtcGetErrorString(error);
    Napi::Error thrown = Napi::Error::New(
        env, name + " cannot be compiled: " + what + (log.empty() ? "" : "\n" + log));
    thrown.Set("code", Napi::String::New(env, what));
    throw thrown;
  }
  return Napi::Buffer<char>::Copy(env, code.data(), code.size());
}

// ---- Devices, memory, streams, events ----------------------------------------------------------

// A device's primary context, held by everything that lies there.
struct Device {
  CUdevice number = 0;
  CUcontext context = nullptr;
  ~Device() {
    if (context) driver().cuDevicePrimaryCtxRelease_v2(number);
  }
};
using DeviceRef = std::shared_ptr<Device>;

// The device is this thread's current one while it stands.
class Current {
 public:
  explicit Current(const Device &device) : error(driver().cuCtxPushCurrent_v2(device.context)) {}
  Current(Napi::Env env, const Device &device) : Current(device) {
    require(env, "cuCtxPushCurrent", error);
  }
  Current(const Current &) = delete;
  ~Current() {
    CUcontext context = nullptr;
    if (!error) driver().cuCtxPopCurrent_v2(&context);
  }
  const int error;
};

struct Memory {
  DeviceRef device;
  CUdeviceptr address = 0;
  int64_t bytes = 0;
  bool owned = false;

  // The driver waits for what still runs on the memory.
  void free() {
    if (!owned) return;
    owned = false;
    const Current current(*device);
    if (!current.error) driver().cuMemFree_v2(address);
    address = 0;
    bytes = 0;
  }
  ~Memory() { free(); }
};

struct StreamHandle {
  DeviceRef device;
  CUstream stream = nullptr;
  bool owned = false;

  void destroy() {
    if (!owned) return;
    owned = false;
    const Current current(*device);
    if (!current.error) driver().cuStreamDestroy_v2(stream);
  }
  ~StreamHandle() { destroy(); }
};

// What tells the objects of this addon from others.
constexpr napi_type_tag kBufferTag = {0x706f6c6172632d64, 0x62756666657200ff};
constexpr napi_type_tag kStreamTag = {0x706f6c6172632d64, 0x73747265616d00ff};
constexpr napi_type_tag kEventTag = {0x706f6c6172632d64, 0x6576656e740000ff};

struct Classes {
  Napi::FunctionReference buffer, stream, event;
};

// A method under `Symbol.dispose`, where this Node has it, so that `using` works.
template <typename T>
void add_dispose(Napi::Env env, std::vector<Napi::ClassPropertyDescriptor<T>> &properties,
                 typename T::InstanceVoidMethodCallback method) {
  const Napi::Value symbol = env.Global().Get("Symbol").As<Napi::Object>().Get("dispose");
  if (symbol.IsSymbol()) {
    properties.push_back(T::InstanceMethod(symbol.As<Napi::Symbol>(), method));
  }
}

Napi::BigInt address_of(Napi::Env env, uint64_t address) { return Napi::BigInt::New(env, address); }

// Memory of a device, or a part of it.
class Buffer : public Napi::ObjectWrap<Buffer> {
 public:
  static Napi::Function define(Napi::Env env) {
    std::vector<PropertyDescriptor> properties = {
        InstanceAccessor<&Buffer::get_bytes>("bytes"),
        InstanceAccessor<&Buffer::get_address>("address"),
        InstanceMethod("slice", &Buffer::slice),
        InstanceMethod("free", &Buffer::free),
    };
    add_dispose<Buffer>(env, properties, &Buffer::free);
    return DefineClass(env, "DeviceBuffer", properties);
  }

  static Napi::Object make(Napi::Env env, std::shared_ptr<Memory> memory, int64_t offset,
                           int64_t bytes) {
    Napi::Object object = env.GetInstanceData<Classes>()->buffer.New({});
    Buffer *buffer = Unwrap(object);
    buffer->memory_ = std::move(memory);
    buffer->offset_ = offset;
    buffer->bytes_ = bytes;
    return object;
  }

  // Null: the value is no buffer.
  static Buffer *from(Napi::Value value) {
    if (!value.IsObject()) return nullptr;
    const Napi::Object object = value.As<Napi::Object>();
    return object.CheckTypeTag(&kBufferTag) ? Unwrap(object) : nullptr;
  }

  explicit Buffer(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Buffer>(info) {
    info.This().As<Napi::Object>().TypeTag(&kBufferTag);
  }

  bool freed() const { return !memory_ || memory_->address == 0; }
  CUdeviceptr address() const { return memory_->address + static_cast<CUdeviceptr>(offset_); }
  int64_t bytes() const { return bytes_; }
  const Device *device() const { return memory_ ? memory_->device.get() : nullptr; }

 private:
  Napi::Value get_bytes(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), freed() ? 0 : static_cast<double>(bytes_));
  }

  Napi::Value get_address(const Napi::CallbackInfo &info) {
    return address_of(info.Env(), freed() ? 0 : address());
  }

  // `slice(begin, end?)`: a part of the same memory, in bytes.
  Napi::Value slice(const Napi::CallbackInfo &info) {
    const double all = freed() ? 0 : static_cast<double>(bytes_);
    const double begin = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    const double end = info[1].IsUndefined()
                           ? all
                           : info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
    const bool whole = begin == static_cast<double>(static_cast<int64_t>(begin)) &&
                       end == static_cast<double>(static_cast<int64_t>(end));
    if (!(whole && begin >= 0 && begin <= end && end <= all)) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       "slice takes 0 <= begin <= end <= " + std::to_string(bytes_) + " bytes");
    }
    return make(info.Env(), memory_, offset_ + static_cast<int64_t>(begin),
                static_cast<int64_t>(end - begin));
  }

  void free(const Napi::CallbackInfo &) {
    if (memory_) memory_->free();
  }

  std::shared_ptr<Memory> memory_;
  int64_t offset_ = 0, bytes_ = 0;
};

// Waits for a stream away from the JavaScript thread.
class Waiting : public Napi::AsyncWorker {
 public:
  Waiting(Napi::Env env, std::shared_ptr<StreamHandle> stream)
      : Napi::AsyncWorker(env, "polarc stream"),
        stream_(std::move(stream)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    const Current current(*stream_->device);
    result_ = current.error ? current.error : driver().cuStreamSynchronize(stream_->stream);
  }

  void OnOK() override {
    if (result_) {
      deferred_.Reject(cuda_error(Env(), "stream", result_).Value());
    } else {
      deferred_.Resolve(Env().Undefined());
    }
  }

 private:
  std::shared_ptr<StreamHandle> stream_;
  Napi::Promise::Deferred deferred_;
  int result_ = 0;
};

class Stream : public Napi::ObjectWrap<Stream> {
 public:
  static Napi::Function define(Napi::Env env) {
    std::vector<PropertyDescriptor> properties = {
        InstanceAccessor<&Stream::get_handle>("handle"),
        InstanceMethod("synchronize", &Stream::synchronize),
        InstanceMethod("finished", &Stream::finished),
        InstanceMethod("destroy", &Stream::destroy),
    };
    add_dispose<Stream>(env, properties, &Stream::destroy);
    return DefineClass(env, "Stream", properties);
  }

  static Napi::Object make(Napi::Env env, std::shared_ptr<StreamHandle> handle) {
    Napi::Object object = env.GetInstanceData<Classes>()->stream.New({});
    Unwrap(object)->handle_ = std::move(handle);
    return object;
  }

  static Stream *from(Napi::Value value) {
    if (!value.IsObject()) return nullptr;
    const Napi::Object object = value.As<Napi::Object>();
    return object.CheckTypeTag(&kStreamTag) ? Unwrap(object) : nullptr;
  }

  explicit Stream(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Stream>(info) {
    info.This().As<Napi::Object>().TypeTag(&kStreamTag);
  }

  // Null: it was destroyed.
  const StreamHandle *handle() const { return handle_.get(); }

 private:
  std::shared_ptr<StreamHandle> standing(Napi::Env env) const {
    if (!handle_) throw make_error(env, POLARC_INVALID_ARGUMENT, "the stream was destroyed");
    return handle_;
  }

  Napi::Value get_handle(const Napi::CallbackInfo &info) {
    return address_of(info.Env(), handle_ ? reinterpret_cast<uintptr_t>(handle_->stream) : 0);
  }

  void synchronize(const Napi::CallbackInfo &info) {
    const auto handle = standing(info.Env());
    const Current current(info.Env(), *handle->device);
    require(info.Env(), "stream", driver().cuStreamSynchronize(handle->stream));
  }

  Napi::Value finished(const Napi::CallbackInfo &info) {
    Waiting *waiting = new Waiting(info.Env(), standing(info.Env()));
    const Napi::Promise promise = waiting->promise();
    waiting->Queue();
    return promise;
  }

  // Its work goes on; the driver forgets the stream when that is done.
  void destroy(const Napi::CallbackInfo &) { handle_.reset(); }

  std::shared_ptr<StreamHandle> handle_;
};

// A place in a stream: when the device came by.
class Event : public Napi::ObjectWrap<Event> {
 public:
  static Napi::Function define(Napi::Env env) {
    std::vector<PropertyDescriptor> properties = {
        InstanceMethod("record", &Event::record),
        InstanceMethod("synchronize", &Event::synchronize),
        InstanceMethod("millisecondsSince", &Event::milliseconds_since),
        InstanceMethod("destroy", &Event::destroy),
    };
    add_dispose<Event>(env, properties, &Event::destroy);
    return DefineClass(env, "Event", properties);
  }

  static Napi::Object make(Napi::Env env, DeviceRef device) {
    CUevent event = nullptr;
    const Current current(env, *device);
    require(env, "createEvent", driver().cuEventCreate(&event, 0));
    Napi::Object object = env.GetInstanceData<Classes>()->event.New({});
    Unwrap(object)->device_ = std::move(device);
    Unwrap(object)->event_ = event;
    return object;
  }

  explicit Event(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Event>(info) {
    info.This().As<Napi::Object>().TypeTag(&kEventTag);
  }
  ~Event() override { end(); }

 private:
  void require_event(Napi::Env env) const {
    if (!event_) throw make_error(env, POLARC_INVALID_ARGUMENT, "the event was destroyed");
  }

  void record(const Napi::CallbackInfo &info) {
    require_event(info.Env());
    const Stream *stream = Stream::from(info[0]);
    if (!info[0].IsUndefined() && (!stream || !stream->handle())) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT, "record takes a stream");
    }
    const Current current(info.Env(), *device_);
    require(info.Env(), "record",
            driver().cuEventRecord(event_, stream ? stream->handle()->stream : nullptr));
  }

  void synchronize(const Napi::CallbackInfo &info) {
    require_event(info.Env());
    const Current current(info.Env(), *device_);
    require(info.Env(), "event", driver().cuEventSynchronize(event_));
  }

  Napi::Value milliseconds_since(const Napi::CallbackInfo &info) {
    require_event(info.Env());
    const bool is_event =
        info[0].IsObject() && info[0].As<Napi::Object>().CheckTypeTag(&kEventTag);
    const Event *earlier = is_event ? Unwrap(info[0].As<Napi::Object>()) : nullptr;
    if (!earlier || !earlier->event_) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT, "millisecondsSince takes an event");
    }
    const Current current(info.Env(), *device_);
    float milliseconds = 0;
    require(info.Env(), "millisecondsSince",
            driver().cuEventElapsedTime(&milliseconds, earlier->event_, event_));
    return Napi::Number::New(info.Env(), milliseconds);
  }

  void destroy(const Napi::CallbackInfo &) { end(); }

  void end() {
    if (!event_) return;
    const Current current(*device_);
    if (!current.error) driver().cuEventDestroy_v2(event_);
    event_ = nullptr;
  }

  DeviceRef device_;
  CUevent event_ = nullptr;
};

// The device of the call that is read on this thread: its buffers must lie there.
thread_local const Device *current_device = nullptr;

// What a pointer to an empty array points to: kernels need not tell it from a missing one.
alignas(64) unsigned char empty_array[64];

// ---- Reading calls -----------------------------------------------------------------------------

// A typed array of the caller: where it begins, and how many elements it has.
struct Span {
  void *data = nullptr;
  int64_t length = 0;
  bool given = false;
};

// The arguments of one call. Every failure names the kernel, the field, and what it must be.
class Call {
 public:
  Call(Napi::Object object, std::string kernel, Napi::Array held)
      : object_(object), kernel_(std::move(kernel)), held_(held) {}

  Napi::Env env() const { return object_.Env(); }
  const std::string &kernel() const { return kernel_; }

  [[noreturn]] void fail(const std::string &what) const {
    throw make_error(env(), POLARC_INVALID_ARGUMENT, kernel_ + ": " + what);
  }

  std::string named(const char *field) const { return prefix_ + field; }

  bool has(const char *field) const {
    Napi::Value value = object_.Get(field);
    return !value.IsUndefined() && !value.IsNull();
  }

  // An object within this one, for example `q`; its fields are named `q.data` in messages.
  Call inner(const char *field) const {
    Napi::Value value = object_.Get(field);
    if (value.IsUndefined() || value.IsNull()) fail(named(field) + " is missing");
    if (!value.IsObject() || value.IsTypedArray() || value.IsArray()) {
      fail(named(field) + " must be an object");
    }
    Call call(value.As<Napi::Object>(), kernel_, held_);
    call.prefix_ = named(field) + ".";
    return call;
  }

  std::vector<Call> list(const char *field) const {
    Napi::Value value = object_.Get(field);
    if (!value.IsArray()) fail(named(field) + " must be an array");
    Napi::Array array = value.As<Napi::Array>();
    std::vector<Call> calls;
    for (uint32_t i = 0; i < array.Length(); i++) {
      const std::string name = named(field) + "[" + std::to_string(i) + "]";
      Napi::Value item = array.Get(i);
      if (!item.IsObject()) fail(name + " must be an object");
      Call call(item.As<Napi::Object>(), kernel_, held_);
      call.prefix_ = name + ".";
      calls.push_back(std::move(call));
    }
    return calls;
  }

  int64_t integer(const char *field, int64_t low, int64_t high) const {
    Napi::Value value = object_.Get(field);
    if (value.IsUndefined() || value.IsNull()) fail(named(field) + " is missing");
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0.5;
    const bool whole = number >= static_cast<double>(low) && number <= static_cast<double>(high) &&
                       number == static_cast<double>(static_cast<int64_t>(number));
    if (!whole) {
      fail(named(field) + " must be a whole number from " + std::to_string(low) + " to " +
           std::to_string(high) + ", not " + shown(value));
    }
    return static_cast<int64_t>(number);
  }

  int64_t integer_or(const char *field, int64_t fallback, int64_t low = 0,
                     int64_t high = kSafeInteger) const {
    return has(field) ? integer(field, low, high) : fallback;
  }

  int32_t count(const char *field) const {
    return static_cast<int32_t>(integer(field, 0, kInt32Max));
  }

  int32_t count_or(const char *field, int32_t fallback) const {
    return static_cast<int32_t>(integer_or(field, fallback, 0, kInt32Max));
  }

  float number(const char *field) const {
    Napi::Value value = object_.Get(field);
    if (value.IsUndefined() || value.IsNull()) fail(named(field) + " is missing");
    if (!value.IsNumber()) fail(named(field) + " must be a number");
    return value.As<Napi::Number>().FloatValue();
  }

  float number_or(const char *field, float fallback) const {
    return has(field) ? number(field) : fallback;
  }

  static std::string shown(Napi::Value value) {
    if (value.IsNumber()) return value.ToString().Utf8Value();
    if (value.IsString()) return "'" + value.As<Napi::String>().Utf8Value() + "'";
    return "a value of another type";
  }

  // The index of the text in `choices`.
  int choice(const char *field, std::initializer_list<const char *> choices, int fallback) const {
    Napi::Value value = object_.Get(field);
    if (fallback >= 0 && (value.IsUndefined() || value.IsNull())) return fallback;
    int index = 0;
    std::string all;
    for (const char *text : choices) {
      if (value.IsString() && value.As<Napi::String>().Utf8Value() == text) return index;
      all += std::string(index++ ? ", " : "") + "'" + text + "'";
    }
    fail(named(field) + " must be one of " + all);
  }

  // A buffer, counted in elements of a type; not given if it is left out.
  Span span(const char *field, napi_typedarray_type type, const char *) const {
    Napi::Value value = object_.Get(field);
    if (value.IsUndefined() || value.IsNull()) return Span();
    return read(field, value, bytes_of(type));
  }

  // The same, `needed` elements long.
  template <typename T>
  T *array(const char *field, int64_t needed) const {
    T *data = array_or_null<T>(field, needed);
    if (!data) fail(named(field) + " is missing");
    return data;
  }

  template <typename T>
  T *array_or_null(const char *field, int64_t needed) const {
    T *const kind = nullptr;
    Span found = span(field, type_of(kind), name_of(kind));
    if (!found.given) return nullptr;
    require_length(field, found.length, needed);
    return static_cast<T *>(found.data);
  }

  void require_length(const char *field, int64_t length, int64_t needed) const {
    if (length >= needed) return;
    const std::string wanted =
        needed == kInt64Max ? "more than can be addressed" : std::to_string(needed);
    fail(named(field) + " has " + std::to_string(length) + " elements; " + wanted + " are needed");
  }

  // Rows [count][heads][width].
  polarc_rows rows(const char *field, int64_t count, int64_t heads, int64_t width) const {
    const Call call = inner(field);
    polarc_rows rows = {};
    rows.dtype = call.choice("dtype", {"f32", "f16", "bf16"}, POLARC_F32);
    const int64_t offset = call.integer_or("offset", 0);
    rows.head_stride = call.integer_or("headStride", width);
    rows.row_stride = call.integer_or("rowStride", multiply(heads, rows.head_stride));
    const int64_t bytes = rows.dtype == POLARC_F32 ? 4 : 2;
    Napi::Value data = call.object_.Get("data");
    if (data.IsUndefined() || data.IsNull()) fail(call.named("data") + " is missing");
    Span found = call.read("data", data, bytes);
    const int64_t end =
        extent({Axis{count, rows.row_stride}, Axis{heads, rows.head_stride}}, width);
    call.require_length("data", found.length, end ? add(offset, end) : 0);
    rows.data = end ? static_cast<char *>(found.data) + offset * bytes : found.data;
    return rows;
  }

  // A pool of packed keys or values, pages [page][head][unit] unless strides say otherwise.
  polarc_pool pool(const char *field, Role role, int64_t heads) const {
    const polarc_kernels *table = polarc_node_kernels();
    const int64_t unit_tokens = role == kKey ? table->key_unit_tokens : table->value_unit_tokens;
    const int64_t unit_bytes = role == kKey ? table->key_unit_bytes : table->value_unit_bytes;
    const int64_t units = table->page_tokens / unit_tokens;
    const Call call = inner(field);
    const int64_t offset = call.integer_or("offset", 0);
    polarc_pool pool = {};
    pool.pages = call.integer("pages", 0, kSafeInteger);
    pool.unit_stride = call.integer_or("unitStride", unit_bytes);
    pool.head_stride = call.integer_or("headStride", multiply(units, pool.unit_stride));
    pool.page_stride = call.integer_or("pageStride", multiply(heads, pool.head_stride));
    Span found = call.span("data", napi_uint8_array, "Uint8Array");
    if (!found.given) fail(call.named("data") + " is missing");
    const int64_t end = extent({Axis{pool.pages, pool.page_stride}, Axis{heads, pool.head_stride},
                                Axis{units, pool.unit_stride}}, unit_bytes);
    call.require_length("data", found.length, end ? add(offset, end) : 0);
    pool.data = end ? static_cast<unsigned char *>(found.data) + offset : empty_array;
    if (reinterpret_cast<uintptr_t>(pool.data) % 16) {
      fail(named(field) +
           " must begin at a multiple of 16 bytes: check data.byteOffset and offset");
    }
    return pool;
  }

  polarc_transform transform(const char *field, Role role, int64_t heads) const {
    polarc_transform transform = {};
    if (!has(field)) return transform;
    const polarc_kernels *table = polarc_node_kernels();
    const int64_t width = role == kKey ? table->key_dim : table->value_dim;
    const int64_t matrices = polarc_node_shared_matrix(role) ? 1 : heads;
    const Call call = inner(field);
    transform.mean = call.array_or_null<float>("mean", multiply(heads, width));
    transform.matrix = call.array_or_null<float>("matrix", multiply(matrices, width * width));
    transform.dual = call.array_or_null<float>("dual", multiply(heads, width * width));
    return transform;
  }

  // Which tokens a sequence has.
  polarc_index index(const char *field) const {
    const int64_t page_tokens = polarc_node_kernels()->page_tokens;
    const Call call = inner(field);
    polarc_index index = {};
    index.sequences = call.count("sequences");
    index.max_tokens = call.count("maxTokens");
    const int64_t sequences = index.sequences;
    const int64_t max_pages = (index.max_tokens + page_tokens - 1) / page_tokens;

    index.lengths = call.array_or_null<int32_t>("lengths", sequences);
    Span table = call.span("blockTable", napi_int32_array, "Int32Array");
    if (table.given) {
      index.block_table = static_cast<const int32_t *>(table.data);
      index.block_table_stride =
          call.integer_or("blockTableStride", max_pages);
      const int64_t last = std::min(index.block_table_stride, max_pages);
      call.require_length("blockTable", table.length,
                          extent({Axis{sequences, index.block_table_stride}}, last));
    }
    index.indptr = call.array_or_null<int32_t>("indptr", add(sequences, 1));
    Span indices = call.span("indices", napi_int32_array, "Int32Array");
    index.indices = static_cast<const int32_t *>(indices.data);
    index.indices_count = indices.length;
    index.last_page_len = call.array_or_null<int32_t>("lastPageLen", sequences);
    index.pages_per_sequence = call.integer_or("pagesPerSequence", max_pages);

    index.first_position = call.array_or_null<int32_t>("firstPosition", sequences);
    Span positions = call.span("positions", napi_int32_array, "Int32Array");
    if (positions.given) {
      index.positions = static_cast<const int32_t *>(positions.data);
      index.positions_stride =
          call.integer_or("positionsStride", index.max_tokens);
      const int64_t last = std::min<int64_t>(index.positions_stride, index.max_tokens);
      const int64_t end = extent({Axis{sequences, index.positions_stride}}, last);
      call.require_length("positions", positions.length, end);
    }
    return index;
  }

 private:
  static napi_typedarray_type type_of(float *) { return napi_float32_array; }
  static napi_typedarray_type type_of(int32_t *) { return napi_int32_array; }
  static napi_typedarray_type type_of(uint32_t *) { return napi_uint32_array; }
  static napi_typedarray_type type_of(int64_t *) { return napi_bigint64_array; }
  static napi_typedarray_type type_of(uint16_t *) { return napi_uint16_array; }
  static napi_typedarray_type type_of(uint8_t *) { return napi_uint8_array; }
  static const char *name_of(void *) { return "DeviceBuffer"; }

  static int64_t bytes_of(napi_typedarray_type type) {
    switch (type) {
      case napi_uint8_array: return 1;
      case napi_uint16_array: return 2;
      case napi_bigint64_array: return 8;
      default: return 4;
    }
  }

  // Where a buffer lies.
  Span read(const char *field, Napi::Value value, int64_t element_bytes) const {
    const Buffer *buffer = Buffer::from(value);
    if (!buffer) fail(named(field) + " must be a DeviceBuffer");
    if (buffer->freed()) fail(named(field) + " was freed");
    if (buffer->device()->number != current_device->number) {
      fail(named(field) + " lies on another device");
    }
    Span span;
    span.length = buffer->bytes() / element_bytes;
    span.data = span.length ? reinterpret_cast<void *>(buffer->address()) : empty_array;
    span.given = true;
    return span;
  }

  Napi::Object object_;
  std::string kernel_, prefix_;
  Napi::Array held_;
};

// ---- The kernels: from calls to parameters and jobs --------------------------------------------

template <typename P>
P sized() {
  P params;
  std::memset(&params, 0, sizeof(params));
  params.size = sizeof(params);
  params.version = POLARC_ABI_VERSION;
  return params;
}

int64_t width_of(Role role) {
  const polarc_kernels *table = polarc_node_kernels();
  return role == kKey ? table->key_dim : table->value_dim;
}

int64_t query_heads(int64_t kv_heads) { return kv_heads * polarc_node_kernels()->group; }

void read_workspace(const Call &call, void **workspace, size_t *bytes) {
  Span span = call.span("workspace", napi_uint8_array, "Uint8Array");
  if (!span.given) return;
  *workspace = span.data;
  *bytes = static_cast<size_t>(span.length);
}

// A workspace that the addon keeps: one for each stream, as long as its longest call needs.
struct Workspace {
  std::shared_ptr<Memory> memory;
};

// One call: the stream that its kernels go to, and the workspaces of the class.
struct Launch {
  DeviceRef device;
  void *stream = nullptr;
  std::unordered_map<void *, Workspace> *workspaces = nullptr;

  void *workspace(const Call &call, size_t wanted) const {
    Workspace &kept = (*workspaces)[stream];
    const int64_t bytes = std::max<int64_t>(256, static_cast<int64_t>(wanted));
    if (!kept.memory || kept.memory->bytes < bytes) {
      // Kernels on the stream may be at work in the old one: the driver waits for them.
      kept.memory.reset();
      auto memory = std::make_shared<Memory>();
      memory->device = device;
      const int error = driver().cuMemAlloc_v2(&memory->address, static_cast<size_t>(bytes));
      if (error) {
        throw cuda_error(call.env(), call.kernel() + ": a workspace of " + std::to_string(bytes) +
                                         " bytes", error);
      }
      memory->bytes = bytes;
      memory->owned = true;
      kept.memory = std::move(memory);
    }
    return reinterpret_cast<void *>(kept.memory->address);
  }
};

template <typename P>
int with_workspace(const Call &call, const Launch &launch, P params,
                   int (*kernel)(const P *, void *), size_t (*workspace)(const P *)) {
  if (!params.workspace) {
    params.workspace_bytes = workspace(&params);
    params.workspace = launch.workspace(call, params.workspace_bytes);
  }
  params.flags = call.array_or_null<uint32_t>("flags", 1);
  return kernel(&params, launch.stream);
}

template <Role role>
int encode(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_encode_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.kv_heads = call.count("kvHeads");
  params.rows = call.rows("rows", params.count, params.kv_heads, width_of(role));
  params.slots = call.array<int64_t>("slots", params.count);
  params.cache = call.pool("cache", role, params.kv_heads);
  params.transform = call.transform("transform", role, params.kv_heads);
  params.errors = call.array_or_null<float>("errors", multiply(params.count, params.kv_heads));
  params.flags = call.array_or_null<uint32_t>("flags", 1);
  return (role == kKey ? table->encode_key : table->encode_value)(&params, launch.stream);
}

template <Role role>
int decode(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_decode_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.kv_heads = call.count("kvHeads");
  params.basis = call.choice("basis", {"original", "rotated"}, POLARC_ORIGINAL);
  params.rows = call.rows("rows", params.count, params.kv_heads, width_of(role));
  params.slots = call.array<int64_t>("slots", params.count);
  params.cache = call.pool("cache", role, params.kv_heads);
  params.transform = call.transform("transform", role, params.kv_heads);
  params.flags = call.array_or_null<uint32_t>("flags", 1);
  return (role == kKey ? table->decode_key : table->decode_value)(&params, launch.stream);
}

template <Role role>
int rotate(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_rotate_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.heads = call.count("heads");
  params.heads_per_kv = static_cast<int32_t>(call.integer_or("headsPerKv", 1, 1, kInt32Max));
  params.rotation = call.choice("rotation", {"forward", "dual", "inverse"}, -1);
  params.in = call.rows("in", params.count, params.heads, width_of(role));
  params.out = call.rows("out", params.count, params.heads, width_of(role));
  params.transform = call.transform("transform", role, params.heads / params.heads_per_kv);
  return (role == kKey ? table->rotate_key : table->rotate_value)(&params, launch.stream);
}

polarc_scores_params read_scores(const Call &call) {
  auto params = sized<polarc_scores_params>();
  params.rows = call.count("rows");
  params.kv_heads = call.count("kvHeads");
  const int64_t heads = query_heads(params.kv_heads);
  params.q = call.rows("q", params.rows, heads, width_of(kKey));
  params.basis = call.choice("basis", {"original", "rotated"}, POLARC_ORIGINAL);
  params.window = call.count_or("window", 0);
  params.scale = call.number("scale");
  params.softcap = call.number_or("softcap", 0);
  params.row_sequence = call.array_or_null<int32_t>("rowSequence", params.rows);
  params.row_position = call.array_or_null<int32_t>("rowPosition", params.rows);
  params.keys = call.pool("keys", kKey, params.kv_heads);
  params.index = call.index("index");
  params.key = call.transform("key", kKey, params.kv_heads);
  params.scores_head_stride = call.integer_or("scoresHeadStride", params.index.max_tokens);
  params.scores_row_stride =
      call.integer_or("scoresRowStride", multiply(heads, params.scores_head_stride));
  params.scores = call.array<float>(
      "scores", extent({Axis{params.rows, params.scores_row_stride},
                        Axis{heads, params.scores_head_stride}}, params.index.max_tokens));
  read_workspace(call, &params.workspace, &params.workspace_bytes);
  return params;
}

int scores(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  return with_workspace(call, launch, read_scores(call), table->scores, table->scores_workspace);
}

polarc_weighted_sum_params read_weighted_sum(const Call &call) {
  auto params = sized<polarc_weighted_sum_params>();
  params.rows = call.count("rows");
  params.kv_heads = call.count("kvHeads");
  const int64_t heads = query_heads(params.kv_heads);
  params.out = call.rows("out", params.rows, heads, width_of(kValue));
  params.basis = call.choice("basis", {"original", "rotated"}, POLARC_ORIGINAL);
  params.row_sequence = call.array_or_null<int32_t>("rowSequence", params.rows);
  params.values = call.pool("values", kValue, params.kv_heads);
  params.index = call.index("index");
  params.value = call.transform("value", kValue, params.kv_heads);
  params.weights_head_stride = call.integer_or("weightsHeadStride", params.index.max_tokens);
  params.weights_row_stride =
      call.integer_or("weightsRowStride", multiply(heads, params.weights_head_stride));
  params.weights = call.array<float>(
      "weights", extent({Axis{params.rows, params.weights_row_stride},
                         Axis{heads, params.weights_head_stride}}, params.index.max_tokens));
  read_workspace(call, &params.workspace, &params.workspace_bytes);
  return params;
}

int weighted_sum(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  return with_workspace(call, launch, read_weighted_sum(call), table->weighted_sum,
                        table->weighted_sum_workspace);
}

// What both attentions begin with.
template <typename P>
void read_attention(const Call &call, P &params) {
  params.rows = call.count("rows");
  params.kv_heads = call.count("kvHeads");
  const int64_t heads = query_heads(params.kv_heads);
  params.q = call.rows("q", params.rows, heads, width_of(kKey));
  params.out = call.rows("out", params.rows, heads, width_of(kValue));
  params.lse_row_stride = call.integer_or("lseRowStride", heads);
  params.lse = call.array_or_null<float>(
      "lse", extent({Axis{params.rows, params.lse_row_stride}}, heads));
  params.window = call.count_or("window", 0);
  params.scale = call.number("scale");
  params.softcap = call.number_or("softcap", 0);
  params.row_sequence = call.array_or_null<int32_t>("rowSequence", params.rows);
  params.row_position = call.array_or_null<int32_t>("rowPosition", params.rows);
  params.split_tokens = call.count_or("splitTokens", 0);
  read_workspace(call, &params.workspace, &params.workspace_bytes);
}

polarc_attend_params read_attend(const Call &call) {
  auto params = sized<polarc_attend_params>();
  read_attention(call, params);
  params.basis = call.choice("basis", {"original", "rotated"}, POLARC_ORIGINAL);
  params.keys = call.pool("keys", kKey, params.kv_heads);
  params.values = call.pool("values", kValue, params.kv_heads);
  params.index = call.index("index");
  params.key = call.transform("key", kKey, params.kv_heads);
  params.value = call.transform("value", kValue, params.kv_heads);
  return params;
}

int attend(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  return with_workspace(call, launch, read_attend(call), table->attend, table->attend_workspace);
}

polarc_attend_dense_params read_attend_dense(const Call &call) {
  const bool wide = polarc_node_kernels()->dense_dtype == POLARC_F32;
  auto params = sized<polarc_attend_dense_params>();
  read_attention(call, params);
  params.sequences = call.count("sequences");
  params.max_tokens = call.count("maxTokens");
  const int64_t sequences = params.sequences, tokens = params.max_tokens, heads = params.kv_heads;

  params.key_head_stride = call.integer_or("keyHeadStride", width_of(kKey));
  params.key_token_stride =
      call.integer_or("keyTokenStride", multiply(heads, params.key_head_stride));
  params.key_sequence_stride =
      call.integer_or("keySequenceStride", multiply(tokens, params.key_token_stride));
  params.value_head_stride = call.integer_or("valueHeadStride", width_of(kValue));
  params.value_token_stride =
      call.integer_or("valueTokenStride", multiply(heads, params.value_head_stride));
  params.value_sequence_stride =
      call.integer_or("valueSequenceStride", multiply(tokens, params.value_token_stride));
  const int64_t keys_end =
      extent({Axis{sequences, params.key_sequence_stride}, Axis{tokens, params.key_token_stride},
              Axis{heads, params.key_head_stride}}, width_of(kKey));
  const int64_t values_end =
      extent({Axis{sequences, params.value_sequence_stride},
              Axis{tokens, params.value_token_stride}, Axis{heads, params.value_head_stride}},
             width_of(kValue));
  if (wide) {
    params.keys = call.array<float>("keys", keys_end);
    params.values = call.array<float>("values", values_end);
  } else {
    params.keys = call.array<uint16_t>("keys", keys_end);
    params.values = call.array<uint16_t>("values", values_end);
  }

  params.lengths = call.array<int32_t>("lengths", sequences);
  params.first_position = call.array_or_null<int32_t>("firstPosition", sequences);
  params.positions_stride = call.integer_or("positionsStride", tokens);
  const int64_t table_end = extent({Axis{sequences, params.positions_stride}},
                                   std::min(params.positions_stride, tokens));
  params.positions = call.array_or_null<int32_t>("positions", table_end);
  params.always_visible = call.array_or_null<uint8_t>("alwaysVisible", table_end);
  return params;
}

int attend_dense(const Call &call, const Launch &launch) {
  const polarc_kernels *table = polarc_node_kernels();
  return with_workspace(call, launch, read_attend_dense(call), table->attend_dense,
                        table->attend_dense_workspace);
}

int merge(const Call &call, const Launch &launch) {
  auto params = sized<polarc_merge_params>();
  params.rows = call.count("rows");
  params.q_heads = call.count("qHeads");
  const int64_t width = width_of(kValue);
  std::vector<polarc_merge_part> parts;
  for (const Call &given : call.list("parts")) {
    polarc_merge_part part = {};
    part.out = given.rows("out", params.rows, params.q_heads, width);
    part.lse_row_stride = given.integer_or("lseRowStride", params.q_heads);
    part.lse = given.array<float>(
        "lse", extent({Axis{params.rows, part.lse_row_stride}}, params.q_heads));
    parts.push_back(part);
  }
  params.parts = parts.data();
  params.part_count = static_cast<int32_t>(parts.size());
  params.sink = call.array_or_null<float>("sink", params.q_heads);
  params.out = call.rows("out", params.rows, params.q_heads, width);
  params.lse_row_stride = call.integer_or("lseRowStride", params.q_heads);
  params.lse = call.array_or_null<float>(
      "lse", extent({Axis{params.rows, params.lse_row_stride}}, params.q_heads));
  return polarc_node_kernels()->merge(&params, launch.stream);
}

size_t scores_workspace(const Call &call) {
  const auto params = read_scores(call);
  return polarc_node_kernels()->scores_workspace(&params);
}

size_t weighted_sum_workspace(const Call &call) {
  const auto params = read_weighted_sum(call);
  return polarc_node_kernels()->weighted_sum_workspace(&params);
}

size_t attend_workspace(const Call &call) {
  const auto params = read_attend(call);
  return polarc_node_kernels()->attend_workspace(&params);
}

size_t attend_dense_workspace(const Call &call) {
  const auto params = read_attend_dense(call);
  return polarc_node_kernels()->attend_dense_workspace(&params);
}

struct Kernel {
  const char *name;
  int (*run)(const Call &, const Launch &);
};

const Kernel kKernels[] = {
    {"encodeKey", encode<kKey>},
    {"encodeValue", encode<kValue>},
    {"decodeKey", decode<kKey>},
    {"decodeValue", decode<kValue>},
    {"rotateKey", rotate<kKey>},
    {"rotateValue", rotate<kValue>},
    {"scores", scores},
    {"weightedSum", weighted_sum},
    {"attend", attend},
    {"attendDense", attend_dense},
    {"merge", merge},
};

struct WorkspaceQuery {
  const char *name, *kernel;
  size_t (*bytes)(const Call &);
};

const WorkspaceQuery kWorkspaceQueries[] = {
    {"scoresWorkspace", "scores", scores_workspace},
    {"weightedSumWorkspace", "weightedSum", weighted_sum_workspace},
    {"attendWorkspace", "attend", attend_workspace},
    {"attendDenseWorkspace", "attendDense", attend_dense_workspace},
};

// ---- The class that JavaScript sees ----------------------------------------------------------

// `new Kernels(device, code)`: the kernels on a device, and what is needed to call them.
class Kernels : public Napi::ObjectWrap<Kernels> {
 public:
  static Napi::Function define(Napi::Env env) {
    std::vector<PropertyDescriptor> properties;
    for (const Kernel &kernel : kKernels) {
      properties.push_back(InstanceMethod(kernel.name, &Kernels::call, napi_default,
                                          const_cast<Kernel *>(&kernel)));
    }
    for (const WorkspaceQuery &query : kWorkspaceQueries) {
      properties.push_back(InstanceMethod(query.name, &Kernels::workspace_bytes, napi_default,
                                          const_cast<WorkspaceQuery *>(&query)));
    }
    properties.push_back(InstanceMethod("alloc", &Kernels::alloc));
    properties.push_back(InstanceMethod("wrap", &Kernels::wrap));
    properties.push_back(InstanceMethod("upload", &Kernels::upload));
    properties.push_back(InstanceMethod("download", &Kernels::download));
    properties.push_back(InstanceMethod("copy", &Kernels::copy));
    properties.push_back(InstanceMethod("clear", &Kernels::clear));
    properties.push_back(InstanceMethod("createStream", &Kernels::create_stream));
    properties.push_back(InstanceMethod("wrapStream", &Kernels::wrap_stream));
    properties.push_back(InstanceMethod("createEvent", &Kernels::create_event));
    properties.push_back(InstanceMethod("close", &Kernels::close));
    return DefineClass(env, "Kernels", properties);
  }

  explicit Kernels(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Kernels>(info) {
    Napi::Env env = info.Env();
    require_driver(env);
    static std::once_flag driver_given;
    std::call_once(driver_given, [] { polarc_node_use_driver(&kLaunchers); });
    auto device = std::make_shared<Device>();
    require(env, "device", driver().cuDeviceGet(&device->number,
                                                info[0].As<Napi::Number>().Int32Value()));
    require(env, "device", driver().cuDevicePrimaryCtxRetain(&device->context, device->number));
    device_ = std::move(device);
    // The driver reads PTX up to its final zero.
    const Napi::Uint8Array given = info[1].As<Napi::Uint8Array>();
    std::string code(reinterpret_cast<const char *>(given.Data()), given.ByteLength());
    const Current current(env, *device_);
    require(env, "the kernels cannot be loaded",
            driver().cuModuleLoadData(&module_, code.c_str()));
  }

  ~Kernels() override { end(); }

 private:
  void require_open(Napi::Env env, const char *what) const {
    if (!module_) {
      throw make_error(env, POLARC_INVALID_ARGUMENT,
                       std::string(what) + ": the kernels are closed");
    }
  }

  // The kernels are those of this thread's launches while it stands.
  class Using {
   public:
    Using(Napi::Env env, const Kernels &kernels)
        : lock_(modules_lock), current_(env, *kernels.device_) {
      current_module = kernels.module_;
      current_device = kernels.device_.get();
      launch_error = 0;
    }
    ~Using() {
      current_module = nullptr;
      current_device = nullptr;
    }

   private:
    std::shared_lock<std::shared_mutex> lock_;
    Current current_;
  };

  static Call arguments(const Napi::CallbackInfo &info, const char *kernel) {
    if (!info[0].IsObject()) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       std::string(kernel) + ": the call must be an object");
    }
    return Call(info[0].As<Napi::Object>(), kernel, Napi::Array::New(info.Env()));
  }

  // The stream in an argument, or the default stream.
  CUstream stream_of(const Napi::CallbackInfo &info, size_t at, const char *what) const {
    if (info[at].IsUndefined() || info[at].IsNull()) return nullptr;
    const Stream *stream = Stream::from(info[at]);
    const char *wrong = !stream             ? "stream must be what createStream() returns"
                        : !stream->handle() ? "the stream was destroyed"
                        : stream->handle()->device->number != device_->number
                            ? "the stream is of another device"
                            : nullptr;
    if (wrong) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT, std::string(what) + ": " + wrong);
    }
    return stream->handle()->stream;
  }

  Buffer &buffer_of(const Napi::CallbackInfo &info, size_t at, const char *what) const {
    Buffer *buffer = Buffer::from(info[at]);
    const char *wrong = !buffer           ? "takes a DeviceBuffer"
                        : buffer->freed() ? "the buffer was freed"
                        : buffer->device()->number != device_->number
                            ? "the buffer lies on another device"
                            : nullptr;
    if (wrong) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT, std::string(what) + ": " + wrong);
    }
    return *buffer;
  }

  // The bytes of a typed array, no more than the buffer has.
  std::pair<unsigned char *, size_t> array_of(const Napi::CallbackInfo &info, size_t at,
                                              const Buffer &buffer, const char *what) const {
    if (!info[at].IsTypedArray()) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       std::string(what) + " takes a typed array");
    }
    const Napi::TypedArray array = info[at].As<Napi::TypedArray>();
    const size_t bytes = array.ByteLength();
    if (static_cast<int64_t>(bytes) > buffer.bytes()) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       std::string(what) + ": the array has " + std::to_string(bytes) +
                           " bytes, the buffer " + std::to_string(buffer.bytes()));
    }
    unsigned char *data = static_cast<unsigned char *>(array.ArrayBuffer().Data());
    return {data ? data + array.ByteOffset() : nullptr, bytes};
  }

  Napi::Value call(const Napi::CallbackInfo &info) {
    const Kernel &kernel = *static_cast<const Kernel *>(info.Data());
    require_open(info.Env(), kernel.name);
    const Using these(info.Env(), *this);
    Launch launch;
    launch.device = device_;
    launch.stream = stream_of(info, 1, kernel.name);
    launch.workspaces = &workspaces_;
    const int status = kernel.run(arguments(info, kernel.name), launch);
    if (status != POLARC_OK) throw failure(info.Env(), kernel.name, status);
    return info.Env().Undefined();
  }

  // An error of the driver has CUDA's name as its code.
  static Napi::Error failure(Napi::Env env, const char *kernel, int status) {
    const char *said = polarc_node_kernels()->message();
    Napi::Error error = make_error(env, status, std::string(kernel) + ": " + (said ? said : ""));
    if (launch_error) error.Set("code", Napi::String::New(env, error_name(driver(), launch_error)));
    return error;
  }

  Napi::Value workspace_bytes(const Napi::CallbackInfo &info) {
    const WorkspaceQuery &query = *static_cast<const WorkspaceQuery *>(info.Data());
    require_open(info.Env(), query.name);
    const Using these(info.Env(), *this);
    const Call call = arguments(info, query.kernel);
    return Napi::Number::New(info.Env(), static_cast<double>(query.bytes(call)));
  }

  Napi::Value alloc(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "alloc");
    const double bytes = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    const bool whole = bytes >= 0 && bytes <= static_cast<double>(kSafeInteger) &&
                       bytes == static_cast<double>(static_cast<int64_t>(bytes));
    if (!whole) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       "alloc takes a whole number of bytes, 0 or more");
    }
    auto memory = std::make_shared<Memory>();
    memory->device = device_;
    const Current current(info.Env(), *device_);
    // The driver has no empty memory: an empty buffer stands in a small one.
    const size_t wanted = std::max<size_t>(1, static_cast<size_t>(bytes));
    require(info.Env(), "alloc of " + std::to_string(static_cast<int64_t>(bytes)) + " bytes",
            driver().cuMemAlloc_v2(&memory->address, wanted));
    memory->owned = true;
    memory->bytes = static_cast<int64_t>(bytes);
    return Buffer::make(info.Env(), memory, 0, memory->bytes);
  }

  // `wrap(address, bytes)`: memory that somebody else holds.
  Napi::Value wrap(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "wrap");
    bool lossless = false;
    const uint64_t address =
        info[0].IsBigInt() ? info[0].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
    const int64_t bytes = info[1].IsNumber() ? info[1].As<Napi::Number>().Int64Value() : -1;
    if (!lossless || address == 0 || bytes < 0) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       "wrap takes an address (a bigint, not 0n) and a number of bytes");
    }
    auto memory = std::make_shared<Memory>();
    memory->device = device_;
    memory->address = address;
    memory->bytes = bytes;
    return Buffer::make(info.Env(), memory, 0, bytes);
  }

  // `upload(buffer, array, stream?)`: done when it returns.
  void upload(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "upload");
    const Buffer &buffer = buffer_of(info, 0, "upload");
    const auto array = array_of(info, 1, buffer, "upload");
    const CUstream stream = stream_of(info, 2, "upload");
    if (array.second == 0) return;
    const Current current(info.Env(), *device_);
    require(info.Env(), "upload",
            driver().cuMemcpyHtoDAsync_v2(buffer.address(), array.first, array.second, stream));
    require(info.Env(), "upload", driver().cuStreamSynchronize(stream));
  }

  // `download(buffer, array, stream?)`: after what the stream holds; done when it returns.
  void download(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "download");
    const Buffer &buffer = buffer_of(info, 0, "download");
    const auto array = array_of(info, 1, buffer, "download");
    const CUstream stream = stream_of(info, 2, "download");
    if (array.second == 0) return;
    const Current current(info.Env(), *device_);
    require(info.Env(), "download",
            driver().cuMemcpyDtoHAsync_v2(array.first, buffer.address(), array.second, stream));
    require(info.Env(), "download", driver().cuStreamSynchronize(stream));
  }

  // `copy(to, from, stream?)`: as many bytes as both have, in the order of the stream.
  void copy(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "copy");
    const Buffer &to = buffer_of(info, 0, "copy");
    const Buffer &from = buffer_of(info, 1, "copy");
    const CUstream stream = stream_of(info, 2, "copy");
    const int64_t bytes = std::min(to.bytes(), from.bytes());
    if (bytes == 0) return;
    const Current current(info.Env(), *device_);
    require(info.Env(), "copy",
            driver().cuMemcpyDtoDAsync_v2(to.address(), from.address(),
                                          static_cast<size_t>(bytes), stream));
  }

  // `clear(buffer, stream?)`: zeros, in the order of the stream.
  void clear(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "clear");
    const Buffer &buffer = buffer_of(info, 0, "clear");
    const CUstream stream = stream_of(info, 1, "clear");
    if (buffer.bytes() == 0) return;
    const Current current(info.Env(), *device_);
    require(info.Env(), "clear",
            driver().cuMemsetD8Async(buffer.address(), 0, static_cast<size_t>(buffer.bytes()),
                                     stream));
  }

  Napi::Value create_stream(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "createStream");
    auto handle = std::make_shared<StreamHandle>();
    handle->device = device_;
    const Current current(info.Env(), *device_);
    require(info.Env(), "createStream",
            driver().cuStreamCreate(&handle->stream, kStreamNonBlocking));
    handle->owned = true;
    return Stream::make(info.Env(), std::move(handle));
  }

  // `wrapStream(handle)`: a CUstream that somebody else holds.
  Napi::Value wrap_stream(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "wrapStream");
    bool lossless = false;
    const uint64_t given =
        info[0].IsBigInt() ? info[0].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
    if (!lossless) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT, "wrapStream takes a CUstream (bigint)");
    }
    auto handle = std::make_shared<StreamHandle>();
    handle->device = device_;
    handle->stream = reinterpret_cast<CUstream>(static_cast<uintptr_t>(given));
    return Stream::make(info.Env(), std::move(handle));
  }

  Napi::Value create_event(const Napi::CallbackInfo &info) {
    require_open(info.Env(), "createEvent");
    return Event::make(info.Env(), device_);
  }

  void close(const Napi::CallbackInfo &) { end(); }

  // The driver waits for kernels that run before it lets go of their code. Launchers told of the
  // driver anew forget its modules.
  void end() {
    if (!module_) return;
    workspaces_.clear();
    const std::unique_lock<std::shared_mutex> lock(modules_lock);
    polarc_node_use_driver(&kLaunchers);
    const Current current(*device_);
    if (!current.error) driver().cuModuleUnload(module_);
    module_ = nullptr;
  }

  DeviceRef device_;
  CUmodule module_ = nullptr;
  std::unordered_map<void *, Workspace> workspaces_;
};

// Why there is no driver; empty where there is one.
Napi::Value missing(const Napi::CallbackInfo &info) {
  return Napi::String::New(info.Env(), driver().missing);
}

// Every device: its name, compute capability times ten, bytes of memory.
Napi::Value devices(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  require_driver(env);
  int count = 0;
  require(env, "devices", driver().cuDeviceGetCount(&count));
  Napi::Array list = Napi::Array::New(env);
  for (int i = 0; i < count; i++) {
    CUdevice device = 0;
    char name[256] = "";
    int major = 0, minor = 0;
    size_t bytes = 0;
    require(env, "devices", driver().cuDeviceGet(&device, i));
    require(env, "devices", driver().cuDeviceGetName(name, sizeof name, device));
    require(env, "devices",
            driver().cuDeviceGetAttribute(&major, kComputeCapabilityMajor, device));
    require(env, "devices",
            driver().cuDeviceGetAttribute(&minor, kComputeCapabilityMinor, device));
    require(env, "devices", driver().cuDeviceTotalMem_v2(&bytes, device));
    Napi::Object each = Napi::Object::New(env);
    each.Set("name", name);
    each.Set("capability", 10 * major + minor);
    each.Set("memoryBytes", static_cast<double>(bytes));
    list.Set(static_cast<uint32_t>(i), each);
  }
  return list;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const polarc_kernels *table = polarc_node_kernels();
  if (table->version != POLARC_ABI_VERSION || table->size != sizeof(polarc_kernels)) {
    throw make_error(env, POLARC_VERSION_MISMATCH,
                     "the launchers were built against another version of the polarc ABI");
  }
  auto classes = std::make_unique<Classes>();
  classes->buffer = Napi::Persistent(Buffer::define(env));
  classes->stream = Napi::Persistent(Stream::define(env));
  classes->event = Napi::Persistent(Event::define(env));
  env.SetInstanceData(classes.release());
  exports.Set("Kernels", Kernels::define(env));
  exports.Set("name", table->name);
  exports.Set("target", table->target);
  exports.Set("planHash", table->plan_hash);
  exports.Set("missing", Napi::Function::New(env, missing, "missing"));
  exports.Set("devices", Napi::Function::New(env, devices, "devices"));
  exports.Set("compile", Napi::Function::New(env, compile, "compile"));
  return exports;
}

}  // namespace

NODE_API_MODULE(polarc_cuda_node, init)
