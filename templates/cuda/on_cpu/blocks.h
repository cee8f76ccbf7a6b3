// Blocks of CUDA threads on one OS thread: fibers, barriers, warps, shared memory. Part of
// cuda_on_cpu.h.
#ifndef POLARC_CUDA_BLOCKS_H
#define POLARC_CUDA_BLOCKS_H

#ifndef __x86_64__
#error "fibers switch by a few lines of x86-64 assembly: another processor needs its own"
#endif

#include <dlfcn.h>
#include <sys/mman.h>
#include <xmmintrin.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define POLARC_FIBERS_FOR_ASAN
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define POLARC_FIBERS_FOR_ASAN
#endif
#ifdef POLARC_FIBERS_FOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include "vectors.h"

// Every library that is compiled with this header has its own, of its own version.
#pragma GCC visibility push(hidden)

// ---- Fibers, and the multiprocessor that runs blocks of them ----

namespace polarc_on_cpu {

constexpr unsigned lanes = 32;
constexpr unsigned most_threads = 1024; // of a block

#ifdef POLARC_FIBERS_FOR_ASAN
constexpr size_t stack_bytes = 512 * 1024;
#else
constexpr size_t stack_bytes = 128 * 1024;
#endif
constexpr size_t guard_bytes = 4096; // below a stack: who overruns it ends with SIGSEGV

// Saves the callee-saved registers and the stack pointer of who calls, and goes on where `to` was
// saved. A jump, not a return: all fibers wait at the same few places, so that it is predicted.
#ifdef __clang__
__attribute__((naked, noinline))
#else
__attribute__((naked, noipa))
#endif
inline void switch_stack(void **, void *) {
  asm("pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "popq %rcx\n\t"
      "jmp *%rcx");
}

struct Fiber {
  void *stack_pointer = nullptr;
  void *fake_stack = nullptr; // of ASan
  const void *bottom = nullptr;
  size_t bytes = 0;
};

// Where in the source a barrier or a collective stands.
struct Place {
  const char *file;
  int line;
  Place(const char *file = __builtin_FILE(), int line = __builtin_LINE())
      : file(file), line(line) {}
};

// What a thread waits at; no name: nothing.
struct Wait {
  const char *name = nullptr;
  unsigned mask = 0; // of a warp's lanes; 0: the whole block waits there
  Place place{nullptr, 0};
};

// Sixteen bytes on their way to shared memory.
struct Copy {
  uint4 *to;
  uint4 bytes;
  unsigned group;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned number; // in its block
  bool ended;
  int vote, pieces;
  Wait wait;
  std::vector<Copy> copies;
  unsigned copy_groups; // committed
};

// The lanes that wait at one collective operation.
struct Group {
  Wait at;
  size_t lane_bytes;
  unsigned arrived;
};

struct Warp {
  unsigned existing, ended, at_barrier; // masks of lanes
  int group_count;
  Group groups[lanes];
  void *given[lanes]; // what a lane brought to its collective
};

// A piece of shared memory that a thread took.
struct Piece {
  unsigned offset, size;
  int count;
};

struct Launch {
  void (*kernel)();
  void (*call)(void (*)(), const void *); // the kernel with its arguments, by value
  const void *arguments;
  const char *argument_type;
  dim3 grid, block;
  size_t shared_bytes;
};

// An OS thread at work on launches, as a streaming multiprocessor is on blocks.
struct Sm {
  const Launch *launch = nullptr; // null: none is running
  uint3 block_index{};
  Thread *running = nullptr;
  unsigned thread_count = 0, ended = 0;
  unsigned at_barrier = 0; // threads that wait at `barrier`
  Wait barrier;
  int votes = 0, counted = 0;
  unsigned ready_count = 0;
  uint16_t ready[most_threads]; // threads that may run
  uint64_t random = 0, launches = 0;
  unsigned char *shared = nullptr;
  size_t shared_size = 0;
  std::vector<Piece> pieces;
  std::vector<Thread *> threads; // those of the largest block so far, with their stacks
  std::vector<void *> stacks;
  Warp warps[most_threads / lanes];
  Fiber host;
  Fiber *before = nullptr; // who switched to who runs now

  ~Sm() {
    for (Thread *thread : threads) delete thread;
    for (void *stack : stacks) {
#ifdef POLARC_FIBERS_FOR_ASAN
      // Whoever gets these addresses next must not be told of variables that stood there.
      __asan_unpoison_memory_region(stack, guard_bytes + stack_bytes);
#endif
      munmap(stack, guard_bytes + stack_bytes);
    }
    free(shared);
  }
};

inline thread_local Sm *sm = nullptr;

inline Sm &this_sm() {
  struct Owner {
    Sm *owned = nullptr;
    ~Owner() { delete owned; }
  };
  static thread_local Owner owner;
  if (!sm) sm = owner.owned = new Sm;
  return *sm;
}

// -- What ends the process

inline void print(uint3 at, dim3 of) {
  if (of.y == 1 && of.z == 1) {
    fprintf(stderr, "%u", at.x);
  } else {
    fprintf(stderr, "(%u, %u, %u)", at.x, at.y, at.z);
  }
}

[[noreturn]] __attribute__((format(printf, 1, 2), noinline, cold)) inline void
fail(const char *format, ...) {
  fflush(stdout);
  fprintf(stderr, "polarc: CUDA on CPU: ");
  if (sm && sm->launch) {
    Dl_info info;
    void *kernel = reinterpret_cast<void *>(sm->launch->kernel);
    if (dladdr(kernel, &info) && info.dli_sname && info.dli_saddr == kernel) {
      fprintf(stderr, "%s, ", info.dli_sname);
    } else {
      const char *type = strstr(sm->launch->argument_type, "T = "); // to a bracket
      fprintf(stderr, "kernel of %.*s, ", type ? int(strlen(type)) - 5 : 0, type ? type + 4 : "");
    }
    fprintf(stderr, "block ");
    print(sm->block_index, sm->launch->grid);
    if (sm->running) {
      fprintf(stderr, ", thread ");
      print(sm->running->index, sm->launch->block);
    }
    fprintf(stderr, ": ");
  }
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, "\n");
  fflush(stderr);
  abort();
}

// Text of a wait, good until the next one but one.
__attribute__((noinline, cold)) inline const char *text(const Wait &wait) {
  static thread_local char texts[2][300];
  static thread_local int next = 0;
  char *to = texts[next ^= 1];
  const char *slash = wait.place.file ? strrchr(wait.place.file, '/') : nullptr;
  const char *file = slash ? slash + 1 : wait.place.file;
  if (wait.mask) {
    snprintf(to, 300, "%s of lanes 0x%08x (%s:%d)", wait.name, wait.mask, file, wait.place.line);
  } else {
    snprintf(to, 300, "%s (%s:%d)", wait.name, file, wait.place.line);
  }
  return to;
}

inline bool same(const char *a, const char *b) { return a == b || strcmp(a, b) == 0; }

inline bool same(const Place &a, const Place &b) {
  return a.line == b.line && same(a.file, b.file);
}

// -- Who runs

inline unsigned draw(unsigned count) {
  sm->random = sm->random * 6364136223846793005u + 1442695040888963407u;
  return static_cast<unsigned>((sm->random >> 32) * count >> 32);
}

// Ends a switch: runs first where a fiber goes on.
inline void arrive([[maybe_unused]] Fiber &self) {
#ifdef POLARC_FIBERS_FOR_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, &sm->before->bottom, &sm->before->bytes);
#endif
}

inline void change(Fiber &from, Fiber &to) {
#ifdef POLARC_FIBERS_FOR_ASAN
  sm->before = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
  switch_stack(&from.stack_pointer, to.stack_pointer);
  arrive(from);
}

inline Thread &draw_thread() {
  const unsigned at = draw(sm->ready_count);
  Thread &thread = *sm->threads[sm->ready[at]];
  sm->ready[at] = sm->ready[--sm->ready_count];
  return thread;
}

[[noreturn]] __attribute__((noinline, cold)) inline void fail_stuck() {
  for (unsigned i = 0; i < sm->thread_count; i++) {
    Thread &other = *sm->threads[i];
    if (other.ended || !other.wait.name || &other == sm->running) continue;
    const Thread &self = *sm->running;
    fail("deadlock: it %s, thread %u waits at %s", self.ended ? "has ended" : text(self.wait),
         other.number, text(other.wait));
  }
  fail("deadlock: it waits at %s", text(sm->running->wait));
}

// Somebody else's turn, until what the running thread waits for has come.
inline void wait_for_others() {
  Thread &from = *sm->running;
  if (sm->ready_count == 0) fail_stuck();
  Thread &to = draw_thread();
  if (&to == &from) return;
  sm->running = &to;
  change(from.fiber, to.fiber);
}

inline void make_ready(Thread &thread) {
  thread.wait.name = nullptr;
  sm->ready[sm->ready_count++] = static_cast<uint16_t>(thread.number);
}

// -- Barriers of a block

// All threads of the block, at one place of the source. Answers how many brought a vote.
inline int meet_block(const char *name, Place place, bool vote) {
  Thread &self = *sm->running;
  const unsigned lane = self.number % lanes;
  Warp &warp = sm->warps[self.number / lanes];
  self.wait = {name, 0, place};
  if (sm->ended)
    for (unsigned i = 0; i < sm->thread_count; i++)
      if (sm->threads[i]->ended)
        fail("waits at %s, which thread %u never reaches: it has ended", text(self.wait), i);
  for (int i = 0; i < warp.group_count; i++)
    if (warp.groups[i].at.mask >> lane & 1)
      fail("waits at %s while lane %d of its warp waits for it at %s", text(self.wait),
           __builtin_ctz(warp.groups[i].arrived), text(warp.groups[i].at));
  if (sm->at_barrier == 0) {
    sm->barrier = self.wait;
  } else if (!same(sm->barrier.name, name) || !same(sm->barrier.place, place)) {
    fail("waits at %s while others wait at %s", text(self.wait), text(sm->barrier));
  }
  sm->votes += vote;
  warp.at_barrier |= 1u << lane;
  if (++sm->at_barrier == sm->thread_count) {
    sm->counted = sm->votes;
    sm->votes = 0;
    sm->at_barrier = 0;
    for (unsigned i = 0; i < sm->thread_count; i++) make_ready(*sm->threads[i]);
    for (unsigned i = 0; i * lanes < sm->thread_count; i++) sm->warps[i].at_barrier = 0;
  }
  wait_for_others();
  return sm->counted; // the next barrier cannot be complete before every thread is here
}

// -- Collective operations of a warp

// What the lanes of a group brought.
template <class Lane> struct Given {
  void **given;
  Lane &operator[](unsigned lane) const { return *static_cast<Lane *>(given[lane]); }
};

// Joins the lanes that wait there, or is the first one. Answers the group when all are there, else
// -1.
inline int join(const Wait &at, size_t lane_bytes, void *given) {
  Thread &self = *sm->running;
  const unsigned lane = self.number % lanes, bit = 1u << lane;
  Warp &warp = sm->warps[self.number / lanes];
  self.wait = at;
  warp.given[lane] = given;
  if (!(at.mask & bit)) fail("calls %s without being one of them", text(at));
  if (const unsigned missing = at.mask & ~warp.existing)
    fail("waits at %s: there is no lane %d", text(at), __builtin_ctz(missing));
  if (const unsigned missing = at.mask & warp.ended)
    fail("waits at %s, which lane %d never reaches: it has ended", text(at),
         __builtin_ctz(missing));
  if (const unsigned missing = at.mask & warp.at_barrier)
    fail("waits at %s while lane %d waits for it at %s", text(at), __builtin_ctz(missing),
         text(sm->barrier));
  int found = -1;
  for (int i = 0; i < warp.group_count; i++) {
    const Group &group = warp.groups[i];
    if (group.at.mask == at.mask) {
      if (!same(group.at.name, at.name) || group.lane_bytes != lane_bytes ||
          (!same(group.at.place, at.place) && !same(at.name, "__syncwarp")))
        fail("waits at %s while lane %d waits at %s", text(at), __builtin_ctz(group.arrived),
             text(group.at));
      found = i;
    } else if ((group.at.mask & bit) && (group.arrived & at.mask)) {
      fail("waits at %s while lane %d waits for it at %s", text(at),
           __builtin_ctz(group.arrived & at.mask), text(group.at));
    }
  }
  if (found < 0) warp.groups[found = warp.group_count++] = {at, lane_bytes, 0};
  Group &group = warp.groups[found];
  group.arrived |= bit;
  return group.arrived == at.mask ? found : -1;
}

inline void leave(int joined) {
  const unsigned first = sm->running->number / lanes * lanes;
  Warp &warp = sm->warps[first / lanes];
  for (unsigned rest = warp.groups[joined].at.mask; rest; rest &= rest - 1)
    make_ready(*sm->threads[first + static_cast<unsigned>(__builtin_ctz(rest))]);
  warp.groups[joined] = warp.groups[--warp.group_count];
}

// Lanes of `mask` meet; the last one there does the work for all: finish(given, lane) for each.
template <class Lane, class Finish>
inline void meet_warp(const char *name, unsigned mask, Place place, Lane &mine, Finish &&finish) {
  const int joined = join({name, mask, place}, sizeof(Lane), &mine);
  if (joined >= 0) {
    const Given<Lane> given{sm->warps[sm->running->number / lanes].given};
    for (unsigned rest = mask; rest; rest &= rest - 1)
      finish(given, static_cast<unsigned>(__builtin_ctz(rest)));
    leave(joined);
  }
  wait_for_others();
}

// -- Blocks

// The end of a thread of this block. Returns when it is one of the next.
inline void end_thread() {
  Thread &self = *sm->running;
  const unsigned bit = 1u << self.number % lanes;
  Warp &warp = sm->warps[self.number / lanes];
  self.ended = true;
  self.wait.name = nullptr;
  warp.ended |= bit;
  sm->ended++;
  if (sm->at_barrier)
    fail("has ended while %u threads wait for it at %s", sm->at_barrier, text(sm->barrier));
  for (int i = 0; i < warp.group_count; i++)
    if (warp.groups[i].at.mask & bit)
      fail("has ended while lane %d waits for it at %s", __builtin_ctz(warp.groups[i].arrived),
           text(warp.groups[i].at));
  if (sm->ended < sm->thread_count) return wait_for_others();
  sm->running = nullptr;
  change(self.fiber, sm->host);
}

// Where a fiber begins: it serves one block after another, and never returns.
[[noreturn]] inline void fiber_main() {
  {
    Fiber fresh;
    arrive(fresh);
  }
  for (;;) {
    sm->launch->call(sm->launch->kernel, sm->launch->arguments);
    end_thread();
  }
}

inline Thread *new_thread(Sm &sm) {
  void *memory = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard_bytes, PROT_NONE) != 0)
    fail("there is no memory for the stacks of a block");
#ifdef POLARC_FIBERS_FOR_ASAN
  // It may still know frames of fibers that an OS thread left here when it ended.
  __asan_unpoison_memory_region(memory, guard_bytes + stack_bytes);
#endif
  sm.stacks.push_back(memory);
  Thread *thread = new Thread();
  thread->number = static_cast<unsigned>(sm.threads.size());
  thread->fiber.bottom = static_cast<char *>(memory) + guard_bytes;
  thread->fiber.bytes = stack_bytes;
  // Stacks begin at different addresses of a page: else all fibers would share a few cache lines.
  char *top = static_cast<char *>(memory) + guard_bytes + stack_bytes - thread->number % 61 * 64;
  void **frame = reinterpret_cast<void **>(top) - 8; // registers, where to go on, no return
  memset(frame, 0, 8 * sizeof(void *));
  frame[6] = reinterpret_cast<void *>(&fiber_main);
  thread->fiber.stack_pointer = frame;
  return thread;
}

inline void run_block(Sm &sm) {
  const dim3 size = sm.launch->block;
  sm.ended = sm.at_barrier = sm.ready_count = 0;
  sm.votes = 0;
  sm.pieces.clear();
  for (unsigned i = 0; i < sm.thread_count; i++) {
    Thread &thread = *sm.threads[i];
    thread.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    thread.ended = false;
    thread.pieces = 0;
    thread.copies.clear();
    thread.copy_groups = 0;
    make_ready(thread);
  }
  for (unsigned i = 0; i * lanes < sm.thread_count; i++) {
    Warp &warp = sm.warps[i];
    const unsigned rest = sm.thread_count - i * lanes;
    warp.existing = rest < lanes ? (1u << rest) - 1 : ~0u;
    warp.ended = warp.at_barrier = 0;
    warp.group_count = 0;
  }
  // NaN as f32, as f16 and as bf16, a large number as an integer; another one every time.
  const uint32_t garbage = 0x7fc17fc1u + (draw(62) * 0x10001u);
  for (size_t i = 0; i + 4 <= sm.shared_size; i += 4) memcpy(sm.shared + i, &garbage, 4);
  sm.running = &draw_thread();
  change(sm.host, sm.running->fiber);
}

// The start of a launch's random numbers, another one for every launch of an OS thread.
inline uint64_t first_random(uint64_t launch) {
  const char *given = getenv("POLARC_CUDA_SEED");
  const uint64_t seed = given && *given ? strtoull(given, nullptr, 10) : 1;
  uint64_t mixed = seed * 0x9e3779b97f4a7c15u + launch;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
  return mixed ^ mixed >> 31;
}

inline void run(const Launch &launch) {
  Sm &sm = this_sm();
  if (sm.launch) fail("a kernel cannot launch another one");
  sm.launch = &launch;
  sm.thread_count = launch.block.x * launch.block.y * launch.block.z;
  while (sm.threads.size() < sm.thread_count) sm.threads.push_back(new_thread(sm));
  if (!sm.shared || sm.shared_size != launch.shared_bytes) {
    free(sm.shared);
    sm.shared = nullptr;
    sm.shared_size = launch.shared_bytes;
    if (posix_memalign(reinterpret_cast<void **>(&sm.shared), 1024, sm.shared_size + 1))
      fail("there is no memory for %zu bytes of shared memory", sm.shared_size);
  }
  sm.random = first_random(++sm.launches);
  // From a random block on, by a random stride that has no divisor in common with their count.
  const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  const auto divisor = [](uint64_t a, uint64_t b) {
    while (b) a %= b, std::swap(a, b);
    return a;
  };
  const uint64_t most = blocks < 0x7fffffff ? blocks : 0x7fffffff;
  uint64_t at = draw(static_cast<unsigned>(most)), stride = 1 + draw(static_cast<unsigned>(most));
  while (divisor(stride, blocks) != 1) stride++;
  // A GPU knows nothing of how its caller rounds and whether it flushes denormals.
  const unsigned control = _mm_getcsr();
  _mm_setcsr(0x1f80);
  for (uint64_t i = 0; i < blocks; i++, at = (at + stride) % blocks) {
    sm.block_index = {static_cast<unsigned>(at % launch.grid.x),
                      static_cast<unsigned>(at / launch.grid.x % launch.grid.y),
                      static_cast<unsigned>(at / launch.grid.x / launch.grid.y)};
    run_block(sm);
  }
  _mm_setcsr(control);
  sm.launch = nullptr;
}

// -- Shared memory

inline unsigned char *take_shared(unsigned offset, int count, unsigned size) {
  Thread &self = *sm->running;
  const Piece piece{offset, size, count};
  const size_t at = static_cast<size_t>(self.pieces++);
  if (at == sm->pieces.size()) sm->pieces.push_back(piece);
  const Piece &first = sm->pieces[at];
  if (first.offset != offset || first.size != size || first.count != count)
    fail("takes %d x %u bytes of shared memory from byte %u as piece %zu: another thread took %d x "
         "%u bytes from byte %u",
         count, size, offset, at, first.count, first.size, first.offset);
  if (count < 0 || offset + static_cast<size_t>(count) * size > sm->shared_size)
    fail("takes %d x %u bytes of shared memory from byte %u: the launch gave %zu bytes", count,
         size, offset, sm->shared_size);
  return sm->shared + offset;
}

} // namespace polarc_on_cpu

#pragma GCC visibility pop

#endif
