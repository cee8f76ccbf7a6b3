// polarc · llama_d128_rows · Node addon · avx2
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/shared/node/polarc_node.cc.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target avx2
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The Node addon: reads the calls that the class of the cache makes, checks that every array is as
// long as its counts and strides say, and runs the kernels on the calling thread or on workers of
// its own. The text is the same for every cache: sizes come from the table of kernels.
//
// Nothing is copied: kernels read and write the memory of the caller's typed arrays. All index
// arithmetic is int64 and saturates. What the kernels check themselves (tables, strides, nulls)
// arrives as their message.

// A worker that is ended while calls run can take no exception: that is no reason to abort.
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "polarc_abi.h"

// From the file of the cache: its kernels, and whether one matrix serves all its KV heads.
extern "C" {
const polarc_kernels *polarc_node_kernels(void);
int polarc_node_shared_matrix(int role);
}

namespace {

constexpr int64_t kMaxThreads = 256;
constexpr int64_t kSafeInteger = 9007199254740991;
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr size_t kWorkspaceAlignment = 64;
// Below this many vectors a call is not worth waking a worker.
constexpr int64_t kVectorsPerChunk = 64;
// Chunks a thread of attention work: enough to even out ragged sequences.
constexpr int64_t kChunksPerThread = 4;

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

// ---- Workspaces --------------------------------------------------------------------------------

struct AlignedDelete {
  void operator()(unsigned char *memory) const {
    ::operator delete(memory, std::align_val_t(kWorkspaceAlignment));
  }
};

struct Workspace {
  std::unique_ptr<unsigned char, AlignedDelete> memory;
  size_t bytes = 0;

  bool grow(size_t wanted) {
    if (wanted <= bytes) return true;
    memory.reset(static_cast<unsigned char *>(
        ::operator new(wanted, std::align_val_t(kWorkspaceAlignment), std::nothrow)));
    bytes = memory ? wanted : 0;
    return memory != nullptr;
  }
};

// What a pointer to an empty array points to: kernels need not tell it from a missing one.
alignas(64) unsigned char empty_array[64];

// ---- Jobs --------------------------------------------------------------------------------------

// `chunks` independent pieces of work; each returns a polarc_status.
struct Phase {
  int64_t chunks;
  std::function<int(int64_t chunk, uint32_t *flags)> run;
};

// One call: its phases run one after another, the chunks of a phase on any thread.
struct Job {
  std::string name;
  std::vector<Phase> phases;
  std::vector<polarc_merge_part> merge_parts;
  Workspace workspace;
  uint32_t *flags = nullptr;
  int status = POLARC_OK;
  std::string message;

  // Progress, guarded by the mutex of the workers.
  size_t phase = 0;
  int64_t next_chunk = 0, finished_chunks = 0;
  int active = 0;
  bool done = false;
  std::function<void()> on_done;

  // The caller's arrays, held until the job is done.
  Napi::Reference<Napi::Array> arrays;
  std::unique_ptr<Napi::Promise::Deferred> deferred;

  // Runs one chunk; the text of a failure is taken on the thread that met it. Flags are gathered
  // here, so that concurrent chunks never write the caller's word.
  void run_chunk(const Phase &work, int64_t chunk, std::atomic<uint32_t> *gathered, int *result,
                 std::string *text) {
    uint32_t word = 0;
    *result = work.run(chunk, flags ? &word : nullptr);
    if (*result != POLARC_OK) {
      const char *said = polarc_node_kernels()->message();
      *text = said ? said : "";
    }
    if (word) gathered->fetch_or(word);
  }

  std::atomic<uint32_t> gathered{0};

  void fail(int result, std::string text) {
    if (status != POLARC_OK) return;
    status = result;
    message = std::move(text);
  }

  void run_here() {
    for (const Phase &work : phases) {
      for (int64_t chunk = 0; chunk < work.chunks && status == POLARC_OK; chunk++) {
        int result;
        std::string text;
        run_chunk(work, chunk, &gathered, &result, &text);
        if (result != POLARC_OK) fail(result, std::move(text));
      }
    }
    finish();
  }

  void finish() {
    if (flags) *flags |= gathered.load();
  }
};

// ---- Workers -----------------------------------------------------------------------------------

// A queue of jobs, run one after another in the order of the calls, each on `threads` threads.
class Workers {
 public:
  explicit Workers(int threads) : threads_(threads) {}
  ~Workers() { stop(); }

  int threads() const { return threads_; }

  void submit(const std::shared_ptr<Job> &job) {
    std::unique_lock<std::mutex> lock(mutex_);
    start(threads_);
    queue_.push_back(job);
    wake_.notify_all();
  }

  // Runs a job with the calling thread taking part, after the jobs submitted before it.
  void run(const std::shared_ptr<Job> &job) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (queue_.empty() && (threads_ == 1 || single_chunks(*job))) {
      lock.unlock();
      job->run_here();
      return;
    }
    start(threads_ - 1);
    queue_.push_back(job);
    wake_.notify_all();
    while (!job->done) {
      if (queue_.front() != job || !work_on(job, lock)) wake_.wait(lock);
    }
  }

  // Waits for the jobs that were submitted, then ends the threads.
  void stop() {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
    lock.unlock();
    for (std::thread &worker : workers_) worker.join();
    workers_.clear();
  }

 private:
  static bool single_chunks(const Job &job) {
    for (const Phase &phase : job.phases) {
      if (phase.chunks > 1) return false;
    }
    return true;
  }

  void start(int wanted) {
    while (static_cast<int>(workers_.size()) < wanted) workers_.emplace_back([this] { loop(); });
  }

  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (queue_.empty()) {
        if (stopping_) return;
        wake_.wait(lock);
      } else {
        std::shared_ptr<Job> job = queue_.front();
        if (!work_on(job, lock)) wake_.wait(lock);
      }
    }
  }

  // Runs one chunk of the job if there is one to take; the lock is released meanwhile.
  bool work_on(const std::shared_ptr<Job> &job, std::unique_lock<std::mutex> &lock) {
    if (job->phase >= job->phases.size()) {
      complete(job);
      return true;
    }
    const Phase &work = job->phases[job->phase];
    if (work.chunks > 0) {
      if (job->next_chunk >= work.chunks || job->active >= threads_) return false;
      const int64_t chunk = job->next_chunk++;
      job->active++;
      lock.unlock();
      int result;
      std::string text;
      job->run_chunk(work, chunk, &job->gathered, &result, &text);
      lock.lock();
      job->active--;
      job->finished_chunks++;
      if (result != POLARC_OK) {
        job->fail(result, std::move(text));
        // What was not begun is not begun any more.
        job->finished_chunks += work.chunks - job->next_chunk;
        job->next_chunk = work.chunks;
      }
    }
    if (job->finished_chunks >= work.chunks) {
      job->phase = job->status == POLARC_OK ? job->phase + 1 : job->phases.size();
      job->next_chunk = job->finished_chunks = 0;
      if (job->phase >= job->phases.size()) complete(job);
      wake_.notify_all();
    } else if (job->next_chunk < work.chunks) {
      wake_.notify_one();
    }
    return true;
  }

  void complete(const std::shared_ptr<Job> &job) {
    if (job->done) return;
    job->finish();
    job->done = true;
    queue_.pop_front();
    wake_.notify_all();
    if (job->on_done) job->on_done();
  }

  const int threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<std::thread> workers_;
  bool stopping_ = false;
};

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

  // A typed array of one of two types; not given if it is left out.
  Span span(const char *field, napi_typedarray_type type, const char *type_name) const {
    Napi::Value value = object_.Get(field);
    if (value.IsUndefined() || value.IsNull()) return Span();
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
      fail(named(field) + " must be a " + type_name);
    }
    return read(field, value);
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

  // Rows [count][heads][width] of f32 (Float32Array) or f16, bf16 (Uint16Array).
  polarc_rows rows(const char *field, int64_t count, int64_t heads, int64_t width) const {
    const Call call = inner(field);
    Napi::Value data = call.object_.Get("data");
    if (data.IsUndefined() || data.IsNull()) fail(call.named("data") + " is missing");
    const int type = data.IsTypedArray() ? data.As<Napi::TypedArray>().TypedArrayType() : -1;
    if (type != napi_float32_array && type != napi_uint16_array) {
      fail(call.named("data") + " must be a Float32Array or a Uint16Array");
    }
    const bool wide = type == napi_float32_array;
    polarc_rows rows = {};
    rows.dtype = call.choice("dtype", {"f32", "f16", "bf16"}, wide ? POLARC_F32 : POLARC_F16);
    if (wide != (rows.dtype == POLARC_F32)) {
      fail(call.named("dtype") + (wide ? " of a Float32Array must be 'f32'"
                                       : " of a Uint16Array must be 'f16' or 'bf16'"));
    }
    const int64_t offset = call.integer_or("offset", 0);
    rows.head_stride = call.integer_or("headStride", width);
    rows.row_stride = call.integer_or("rowStride", multiply(heads, rows.head_stride));
    Span found = call.read("data", data);
    const int64_t end =
        extent({Axis{count, rows.row_stride}, Axis{heads, rows.head_stride}}, width);
    call.require_length("data", found.length, end ? add(offset, end) : 0);
    rows.data = end ? static_cast<char *>(found.data) + offset * (wide ? 4 : 2) : found.data;
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
  static napi_typedarray_type type_of(const float *) { return napi_float32_array; }
  static napi_typedarray_type type_of(int32_t *) { return napi_int32_array; }
  static napi_typedarray_type type_of(uint32_t *) { return napi_uint32_array; }
  static napi_typedarray_type type_of(int64_t *) { return napi_bigint64_array; }
  static napi_typedarray_type type_of(uint16_t *) { return napi_uint16_array; }
  static napi_typedarray_type type_of(uint8_t *) { return napi_uint8_array; }
  static const char *name_of(float *) { return "Float32Array"; }
  static const char *name_of(int32_t *) { return "Int32Array"; }
  static const char *name_of(uint32_t *) { return "Uint32Array"; }
  static const char *name_of(int64_t *) { return "BigInt64Array"; }
  static const char *name_of(uint16_t *) { return "Uint16Array"; }
  static const char *name_of(uint8_t *) { return "Uint8Array"; }

  // Where a typed array lies; it is held until the call is done.
  Span read(const char *field, Napi::Value value) const {
    napi_typedarray_type type;
    size_t length = 0, offset = 0;
    void *data = nullptr;
    napi_value buffer = nullptr;
    bool detached = false;
    napi_status status =
        napi_get_typedarray_info(env(), value, &type, &length, &data, &buffer, &offset);
    if (status == napi_ok) status = napi_is_detached_arraybuffer(env(), buffer, &detached);
    if (status != napi_ok) fail(named(field) + " cannot be read");
    if (detached) fail(named(field) + " is detached: its memory went elsewhere");
    if (Napi::Object(env(), buffer).Get("resizable").ToBoolean().Value()) {
      fail(named(field) + " is in a resizable ArrayBuffer; its memory must stay where it is");
    }
    Span span;
    span.data = length ? data : empty_array;
    span.length = static_cast<int64_t>(length);
    span.given = true;
    Napi::Array held = held_;
    held.Set(held.Length(), value);
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

// First item of chunk i of n.
int64_t cut(int64_t items, int64_t chunks, int64_t i) {
  return items / chunks * i + std::min(items % chunks, i);
}

int64_t chunks_for(int64_t items, int64_t vectors, int threads) {
  const int64_t worth = std::max<int64_t>(1, vectors / kVectorsPerChunk);
  return std::max<int64_t>(1, std::min({items, worth, static_cast<int64_t>(threads)}));
}

// A phase over ranges of KV heads.
template <typename P>
void over_heads(Job &job, P params, int (*kernel)(const P *, void *), int64_t vectors,
                int threads) {
  const int64_t heads = params.kv_heads;
  const int64_t chunks = chunks_for(heads, vectors, threads);
  job.phases.push_back({chunks, [=](int64_t chunk, uint32_t *flags) {
    P part = params;
    part.flags = flags;
    if (chunks > 1) {
      part.head_begin = static_cast<int32_t>(cut(heads, chunks, chunk));
      part.head_end = static_cast<int32_t>(cut(heads, chunks, chunk + 1));
    }
    return kernel(&part, nullptr);
  }});
}

// The same for kernels with a workspace: every chunk has one of its own.
template <typename P>
void over_heads_with_workspace(const Call &call, Job &job, P params,
                               int (*kernel)(const P *, void *), size_t (*workspace)(const P *),
                               int64_t vectors, int threads) {
  const int64_t heads = params.kv_heads;
  const int64_t chunks = chunks_for(heads, vectors, threads);
  if (chunks == 1 && params.workspace) return over_heads(job, params, kernel, 0, 1);

  size_t bytes = 0;
  std::vector<P> parts;
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    P part = params;
    if (chunks > 1) {
      part.head_begin = static_cast<int32_t>(cut(heads, chunks, chunk));
      part.head_end = static_cast<int32_t>(cut(heads, chunks, chunk + 1));
    }
    part.workspace_bytes = workspace(&part);
    bytes += (part.workspace_bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment *
             kWorkspaceAlignment;
    parts.push_back(part);
  }
  if (!job.workspace.grow(std::max<size_t>(bytes, 1))) {
    call.fail("no memory for a workspace of " + std::to_string(bytes) + " bytes");
  }
  unsigned char *memory = job.workspace.memory.get();
  for (P &part : parts) {
    part.workspace = memory;
    memory += (part.workspace_bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment *
              kWorkspaceAlignment;
  }
  job.phases.push_back({chunks, [=](int64_t chunk, uint32_t *flags) {
    P part = parts[static_cast<size_t>(chunk)];
    part.flags = flags;
    return kernel(&part, nullptr);
  }});
}

// The two phases of attention over its work units.
template <typename P>
void over_units(const Call &call, Job &job, P params, int (*kernel)(const P *, void *),
                size_t (*workspace)(const P *), int64_t (*units_of)(const P *), int threads) {
  if (!params.workspace) {
    const size_t bytes = workspace(&params);
    if (!job.workspace.grow(std::max<size_t>(bytes, 1))) {
      call.fail("no memory for a workspace of " + std::to_string(bytes) + " bytes");
    }
    params.workspace = job.workspace.memory.get();
    params.workspace_bytes = bytes;
  }
  const int64_t units = threads > 1 ? units_of(&params) : 0;
  if (units < 2) {
    job.phases.push_back({1, [=](int64_t, uint32_t *flags) {
      P part = params;
      part.flags = flags;
      return kernel(&part, nullptr);
    }});
    return;
  }
  const int64_t chunks = std::min<int64_t>(units, threads * kChunksPerThread);
  for (const int32_t phase : {POLARC_PARTIAL, POLARC_COMBINE}) {
    job.phases.push_back({chunks, [=](int64_t chunk, uint32_t *flags) {
      P part = params;
      part.flags = flags;
      part.phase = phase;
      part.unit_begin = cut(units, chunks, chunk);
      part.unit_end = cut(units, chunks, chunk + 1);
      return kernel(&part, nullptr);
    }});
  }
}

void read_workspace(const Call &call, void **workspace, size_t *bytes) {
  Span span = call.span("workspace", napi_uint8_array, "Uint8Array");
  if (!span.given) return;
  *workspace = span.data;
  *bytes = static_cast<size_t>(span.length);
}

void read_flags(const Call &call, Job &job) {
  job.flags = call.array_or_null<uint32_t>("flags", 1);
}

template <Role role>
void encode(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_encode_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.kv_heads = call.count("kvHeads");
  params.rows = call.rows("rows", params.count, params.kv_heads, width_of(role));
  params.slots = call.array<int64_t>("slots", params.count);
  params.cache = call.pool("cache", role, params.kv_heads);
  params.transform = call.transform("transform", role, params.kv_heads);
  params.errors = call.array_or_null<float>("errors", multiply(params.count, params.kv_heads));
  read_flags(call, job);
  over_heads(job, params, role == kKey ? table->encode_key : table->encode_value,
             multiply(params.count, params.kv_heads), threads);
}

template <Role role>
void decode(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_decode_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.kv_heads = call.count("kvHeads");
  params.basis = call.choice("basis", {"original", "rotated"}, POLARC_ORIGINAL);
  params.rows = call.rows("rows", params.count, params.kv_heads, width_of(role));
  params.slots = call.array<int64_t>("slots", params.count);
  params.cache = call.pool("cache", role, params.kv_heads);
  params.transform = call.transform("transform", role, params.kv_heads);
  read_flags(call, job);
  over_heads(job, params, role == kKey ? table->decode_key : table->decode_value,
             multiply(params.count, params.kv_heads), threads);
}

template <Role role>
void rotate(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  auto params = sized<polarc_rotate_params>();
  params.count = call.integer("count", 0, kSafeInteger);
  params.heads = call.count("heads");
  params.heads_per_kv = static_cast<int32_t>(call.integer_or("headsPerKv", 1, 1, kInt32Max));
  params.rotation = call.choice("rotation", {"forward", "dual", "inverse"}, -1);
  params.in = call.rows("in", params.count, params.heads, width_of(role));
  params.out = call.rows("out", params.count, params.heads, width_of(role));
  params.transform = call.transform("transform", role, params.heads / params.heads_per_kv);
  const auto kernel = role == kKey ? table->rotate_key : table->rotate_value;
  const int64_t count = params.count;
  const int64_t chunks = chunks_for(count, multiply(count, params.heads), threads);
  job.phases.push_back({chunks, [=](int64_t chunk, uint32_t *) {
    polarc_rotate_params part = params;
    const int64_t begin = cut(count, chunks, chunk);
    part.count = cut(count, chunks, chunk + 1) - begin;
    for (polarc_rows *rows : {&part.in, &part.out}) {
      rows->data = static_cast<char *>(rows->data) +
                   begin * rows->row_stride * (rows->dtype == POLARC_F32 ? 4 : 2);
    }
    return kernel(&part, nullptr);
  }});
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

void scores(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  const auto params = read_scores(call);
  read_flags(call, job);
  over_heads_with_workspace(call, job, params, table->scores, table->scores_workspace,
                            multiply(params.index.max_tokens, params.kv_heads), threads);
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

void weighted_sum(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  const auto params = read_weighted_sum(call);
  read_flags(call, job);
  over_heads_with_workspace(call, job, params, table->weighted_sum, table->weighted_sum_workspace,
                            multiply(params.index.max_tokens, params.kv_heads), threads);
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

void attend(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  const auto params = read_attend(call);
  read_flags(call, job);
  over_units(call, job, params, table->attend, table->attend_workspace, table->attend_units,
             threads);
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

void attend_dense(const Call &call, Job &job, int threads) {
  const polarc_kernels *table = polarc_node_kernels();
  const auto params = read_attend_dense(call);
  read_flags(call, job);
  over_units(call, job, params, table->attend_dense, table->attend_dense_workspace,
             table->attend_dense_units, threads);
}

void merge(const Call &call, Job &job, int) {
  auto params = sized<polarc_merge_params>();
  params.rows = call.count("rows");
  params.q_heads = call.count("qHeads");
  const int64_t width = width_of(kValue);
  for (const Call &given : call.list("parts")) {
    polarc_merge_part part = {};
    part.out = given.rows("out", params.rows, params.q_heads, width);
    part.lse_row_stride = given.integer_or("lseRowStride", params.q_heads);
    part.lse = given.array<float>(
        "lse", extent({Axis{params.rows, part.lse_row_stride}}, params.q_heads));
    job.merge_parts.push_back(part);
  }
  params.parts = job.merge_parts.data();
  params.part_count = static_cast<int32_t>(job.merge_parts.size());
  params.sink = call.array_or_null<float>("sink", params.q_heads);
  params.out = call.rows("out", params.rows, params.q_heads, width);
  params.lse_row_stride = call.integer_or("lseRowStride", params.q_heads);
  params.lse = call.array_or_null<float>(
      "lse", extent({Axis{params.rows, params.lse_row_stride}}, params.q_heads));
  job.phases.push_back({1, [=](int64_t, uint32_t *) {
    return polarc_node_kernels()->merge(&params, nullptr);
  }});
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
  const char *name, *async_name;
  void (*prepare)(const Call &, Job &, int threads);
};

const Kernel kKernels[] = {
    {"encodeKey", "encodeKeyAsync", encode<kKey>},
    {"encodeValue", "encodeValueAsync", encode<kValue>},
    {"decodeKey", "decodeKeyAsync", decode<kKey>},
    {"decodeValue", "decodeValueAsync", decode<kValue>},
    {"rotateKey", "rotateKeyAsync", rotate<kKey>},
    {"rotateValue", "rotateValueAsync", rotate<kValue>},
    {"scores", "scoresAsync", scores},
    {"weightedSum", "weightedSumAsync", weighted_sum},
    {"attend", "attendAsync", attend},
    {"attendDense", "attendDenseAsync", attend_dense},
    {"merge", "mergeAsync", merge},
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

// ---- The class that JavaScript sees ------------------------------------------------------------

// `new Kernels(threads)`: every kernel as `name(call)` and `nameAsync(call)`, and `close()`.
class Kernels : public Napi::ObjectWrap<Kernels> {
 public:
  static Napi::Function define(Napi::Env env) {
    std::vector<PropertyDescriptor> properties;
    for (const Kernel &kernel : kKernels) {
      void *data = const_cast<Kernel *>(&kernel);
      properties.push_back(InstanceMethod(kernel.name, &Kernels::call, napi_default, data));
      properties.push_back(
          InstanceMethod(kernel.async_name, &Kernels::call_async, napi_default, data));
    }
    for (const WorkspaceQuery &query : kWorkspaceQueries) {
      properties.push_back(InstanceMethod(query.name, &Kernels::workspace_bytes, napi_default,
                                          const_cast<WorkspaceQuery *>(&query)));
    }
    properties.push_back(InstanceMethod("close", &Kernels::close));
    return DefineClass(env, "Kernels", properties);
  }

  explicit Kernels(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Kernels>(info) {
    const Napi::Value given = info[0];
    const double threads = given.IsNumber() ? given.As<Napi::Number>().DoubleValue() : 1;
    if (!given.IsNumber() || !(threads >= 1 && threads <= kMaxThreads) ||
        threads != static_cast<int>(threads)) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       "threads must be a whole number from 1 to " + std::to_string(kMaxThreads));
    }
    workers_.reset(new Workers(static_cast<int>(threads)));
    // The way back to the JavaScript thread. It keeps the process alive only while calls run.
    results_ = Napi::ThreadSafeFunction::New(
        info.Env(), Napi::Function::New(info.Env(), [](const Napi::CallbackInfo &) {}),
        "polarc kernels", 0, 1);
    results_.Unref(info.Env());
    napi_add_env_cleanup_hook(info.Env(), &Kernels::end, this);
    env_ = info.Env();
  }

  ~Kernels() override {
    *alive_ = false;
    if (!workers_) return;
    napi_remove_env_cleanup_hook(env_, &Kernels::end, this);
    end(this);
  }

 private:
  Napi::Value call(const Napi::CallbackInfo &info) {
    const Kernel &kernel = *static_cast<const Kernel *>(info.Data());
    std::shared_ptr<Job> job = prepare(info, kernel);
    workers_->run(job);
    recycle(*job);
    if (job->status != POLARC_OK) throw failure(info.Env(), *job);
    return info.Env().Undefined();
  }

  Napi::Value call_async(const Napi::CallbackInfo &info) {
    Napi::Env env = info.Env();
    std::unique_ptr<Napi::Promise::Deferred> deferred(new Napi::Promise::Deferred(env));
    Napi::Promise promise = deferred->Promise();
    std::shared_ptr<Job> job;
    try {
      job = prepare(info, *static_cast<const Kernel *>(info.Data()));
    } catch (const Napi::Error &error) {
      deferred->Reject(error.Value());
      return promise;
    }
    job->deferred = std::move(deferred);
    if (running_++ == 0) results_.Ref(env);
    Ref();
    Job *key = job.get();
    pending_.push_back(job);
    job->on_done = [this, key] {
      const auto alive = alive_;
      results_.NonBlockingCall(key, [this, alive](Napi::Env env, Napi::Function, Job *done) {
        if (*alive) settle(env, done);
      });
    };
    workers_->submit(job);
    return promise;
  }

  Napi::Value workspace_bytes(const Napi::CallbackInfo &info) {
    const WorkspaceQuery &query = *static_cast<const WorkspaceQuery *>(info.Data());
    const Call call = arguments(info, query.kernel, Napi::Array::New(info.Env()));
    return Napi::Number::New(info.Env(), static_cast<double>(query.bytes(call)));
  }

  // Waits for the calls that run, then ends the threads.
  Napi::Value close(const Napi::CallbackInfo &info) {
    if (workers_) {
      napi_remove_env_cleanup_hook(env_, &Kernels::end, this);
      workers_->stop();
      workers_.reset();
      while (!pending_.empty()) settle(info.Env(), pending_.front().get());
      results_.Release();
    }
    return info.Env().Undefined();
  }

  static void end(void *self) {
    Kernels *kernels = static_cast<Kernels *>(self);
    if (!kernels->workers_) return;
    kernels->workers_->stop();
    kernels->workers_.reset();
    kernels->results_.Release();
  }

  static Call arguments(const Napi::CallbackInfo &info, const char *kernel, Napi::Array held) {
    if (!info[0].IsObject()) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       std::string(kernel) + ": the call must be an object");
    }
    return Call(info[0].As<Napi::Object>(), kernel, held);
  }

  std::shared_ptr<Job> prepare(const Napi::CallbackInfo &info, const Kernel &kernel) {
    if (!workers_) {
      throw make_error(info.Env(), POLARC_INVALID_ARGUMENT,
                       std::string(kernel.name) + ": the kernels are closed");
    }
    std::shared_ptr<Job> job = std::make_shared<Job>();
    job->name = kernel.name;
    std::swap(job->workspace, spare_);
    Napi::Array held = Napi::Array::New(info.Env());
    try {
      kernel.prepare(arguments(info, kernel.name, held), *job, workers_->threads());
    } catch (...) {
      recycle(*job);
      throw;
    }
    job->arrays = Napi::Persistent(held);
    return job;
  }

  // Keeps the largest workspace for the next call.
  void recycle(Job &job) {
    if (job.workspace.bytes > spare_.bytes) std::swap(job.workspace, spare_);
  }

  static Napi::Error failure(Napi::Env env, const Job &job) {
    return make_error(env, job.status, job.name + ": " + job.message);
  }

  // On the JavaScript thread, when a job is done.
  void settle(Napi::Env env, Job *key) {
    const auto found = std::find_if(pending_.begin(), pending_.end(),
                                    [key](const auto &job) { return job.get() == key; });
    if (found == pending_.end()) return;
    std::shared_ptr<Job> job = *found;
    pending_.erase(found);
    recycle(*job);
    if (job->status != POLARC_OK) {
      job->deferred->Reject(failure(env, *job).Value());
    } else if (moved(env, job->arrays.Value())) {
      job->deferred->Reject(make_error(env, POLARC_INVALID_ARGUMENT, job->name +
          ": an array was detached while the call ran; its result is lost").Value());
    } else {
      job->deferred->Resolve(env.Undefined());
    }
    job->arrays.Reset();
    if (--running_ == 0 && workers_) results_.Unref(env);
    Unref();
  }

  static bool moved(Napi::Env env, Napi::Array arrays) {
    for (uint32_t i = 0; i < arrays.Length(); i++) {
      bool detached = false;
      Napi::Value buffer = arrays.Get(i).As<Napi::Object>().Get("buffer");
      napi_is_detached_arraybuffer(env, buffer, &detached);
      if (detached) return true;
    }
    return false;
  }

  napi_env env_ = nullptr;
  // For results that arrive after the object is gone; read and written on the JavaScript thread.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Workers> workers_;
  Napi::ThreadSafeFunction results_;
  std::vector<std::shared_ptr<Job>> pending_;
  int running_ = 0;
  Workspace spare_;
};

// The variant of the kernels in use, after the one asked for by name.
Napi::Value variant(const Napi::CallbackInfo &info) {
  const bool asked = info.Length() > 0 && info[0].IsString();
  const std::string wanted = asked ? info[0].As<Napi::String>().Utf8Value() : std::string();
  return Napi::String::New(info.Env(),
                           polarc_node_kernels()->variant(asked ? wanted.c_str() : nullptr));
}

// Bytes from the begin of an array to its first page of memory, for the class: JavaScript does not
// see addresses.
Napi::Value bytes_to_page(const Napi::CallbackInfo &info) {
  if (info.Length() < 1 || !info[0].IsTypedArray())
    throw Napi::TypeError::New(info.Env(), "bytesToPage takes a typed array");
  const Napi::Uint8Array array = info[0].As<Napi::Uint8Array>();
  const uintptr_t address = reinterpret_cast<uintptr_t>(array.Data());
  return Napi::Number::New(info.Env(), static_cast<double>((4096 - address % 4096) % 4096));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const polarc_kernels *table = polarc_node_kernels();
  if (table->version != POLARC_ABI_VERSION || table->size != sizeof(polarc_kernels)) {
    throw make_error(env, POLARC_VERSION_MISMATCH,
                     "the kernels were built against another version of the polarc ABI");
  }
  exports.Set("Kernels", Kernels::define(env));
  exports.Set("name", table->name);
  exports.Set("target", table->target);
  exports.Set("planHash", table->plan_hash);
  exports.Set("variant", Napi::Function::New(env, variant, "variant"));
  exports.Set("bytesToPage", Napi::Function::New(env, bytes_to_page, "bytesToPage"));
  return exports;
}

}  // namespace

NODE_API_MODULE(polarc_node, init)
