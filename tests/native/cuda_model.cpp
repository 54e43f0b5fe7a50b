// The scheduler of cuda_model.h: fibers, barriers, shared memory.
#include "cuda_model.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace jessl_model {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t stack_bytes = 256 << 10;
void poison(const void* from, std::size_t bytes) { __asan_poison_memory_region(from, bytes); }
void unpoison(const void* from, std::size_t bytes) { __asan_unpoison_memory_region(from, bytes); }
#else
constexpr std::size_t stack_bytes = 64 << 10;
void poison(const void*, std::size_t) {}
void unpoison(const void*, std::size_t) {}
#endif

constexpr unsigned most_threads = 1024;
constexpr std::size_t most_shared = 48 << 10;  // without asking for more
constexpr unsigned most_blocks[] = {0x7fffffff, 65535, 65535};

// A stack, and the place in it where its code goes on.
struct Context {
  void* at = nullptr;
  void* fake_stack = nullptr;  // the sanitizer's
  const void* stack = nullptr;
  std::size_t bytes = 0;
};

#if !defined(__x86_64__)
#error "the model's fibers are written for x86-64"
#endif
extern "C" void jessl_model_switch(void** from, void* to);
// Keeps the registers that a function must keep, on the stack that is left. swapcontext does the same with two system
// calls, and takes thirty times as long.
asm(R"(
  .text
  .globl jessl_model_switch
  .hidden jessl_model_switch
  .type jessl_model_switch, @function
jessl_model_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size jessl_model_switch, .-jessl_model_switch
)");

void change(Context& from, Context& to, bool for_good = false) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.stack, to.bytes);
  jessl_model_switch(&from.at, to.at);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#else
  static_cast<void>(for_good);
  jessl_model_switch(&from.at, to.at);
#endif
}

enum class State { ready, at_barrier, at_shuffle, done };

struct Fiber {
  Context context;
  Thread thread;
  State state;
  const Where* where;
  bool vote;
  std::uint64_t bits;
  unsigned from;
};

struct SharedArray {
  Where where;
  std::size_t first, bytes;
};

constexpr std::size_t fence = 64;           // bytes around each shared array that nobody may write
constexpr unsigned char fence_byte = 0xff;  // NaN, for who reads there

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() && a.file_name() == b.file_name();
}
std::string place_of(const Where& where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

class Machine {
 public:
  Machine() {
    const char* seed = std::getenv("JESSL_MODEL_SEED");
    draw_.seed(seed ? unsigned(std::atoi(seed)) : 0);
    memory_.resize(most_shared + 64 * fence);
    fibers_.resize(most_threads);
    for (Fiber& fiber : fibers_) {
      fiber.context.bytes = stack_bytes;
      fiber.context.stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (fiber.context.stack == MAP_FAILED) throw std::runtime_error("no memory for the stacks of the model");
    }
  }

  void run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
    kernel_ = &kernel;
    count_ = block.x * block.y * block.z;
    std::vector<std::uint64_t> order(std::uint64_t(grid.x) * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), draw_);
    for (const std::uint64_t b : order)
      run_block(dim3(unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)), grid, block);
  }

  Fiber& current() { return *current_; }

  // Lets others run until this fiber may go on.
  void wait(State state, const Where& where) {
    current_->state = state;
    current_->where = &where;
    change(current_->context, scheduler_);
  }
  bool voted() const { return voted_; }

  void* shared(std::size_t bytes, const Where& where) {
    const auto is_here = [&](const SharedArray& array) { return same_place(array.where, where); };
    const auto known = std::find_if(arrays_.begin(), arrays_.end(), is_here);
    if (known != arrays_.end()) return memory_.data() + known->first;
    const std::size_t first =
        arrays_.empty() ? fence : (arrays_.back().first + arrays_.back().bytes + fence + 63) & ~63ul;
    if (first + bytes > most_shared) throw std::runtime_error("more than 48 KiB of shared memory");
    unpoison(memory_.data() + first, bytes);
    std::memset(memory_.data() + first, 0xff, bytes);  // NaN
    arrays_.push_back({where, first, bytes});
    return memory_.data() + first;
  }

 private:
  void run_block(dim3 at, dim3 blocks, dim3 threads) {
    arrays_.clear();
    unpoison(memory_.data(), memory_.size());
    std::memset(memory_.data(), fence_byte, memory_.size());
    poison(memory_.data(), memory_.size());
    ready_.clear();
    for (unsigned n = 0; n < count_; ++n) {
      Fiber& fiber = fibers_[n];
      const dim3 thread(n % threads.x, n / threads.x % threads.y, n / threads.x / threads.y);
      fiber.thread = {thread, at, threads, blocks, n};
      fiber.state = State::ready;
      begin(fiber.context);
      ready_.push_back(n);
    }
    done_ = 0;
    while (done_ < count_) {
      if (ready_.empty()) release();
      const std::size_t chosen = draw_() % ready_.size();
      std::swap(ready_[chosen], ready_.back());
      current_ = &fibers_[ready_.back()];
      ready_.pop_back();
      change(scheduler_, current_->context);
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
      if (current_->state == State::done) ++done_;
      if (current_->state == State::at_shuffle) release_warp(current_->thread.number / warp_size);
    }
    check_fences();
  }

  // All threads wait or are done: a barrier is complete, or never will be.
  void release() {
    const Where& first = *waiting().where;
    voted_ = false;
    for (unsigned n = 0; n < count_; ++n) {
      const Fiber& fiber = fibers_[n];
      if (fiber.state == State::done) fail("some threads have ended where others wait at " + place_of(first));
      if (fiber.state == State::at_shuffle) fail("lanes of a warp miss the shuffle at " + place_of(*fiber.where));
      if (!same_place(*fiber.where, first))
        fail("threads wait at different barriers, " + place_of(first) + " and " + place_of(*fiber.where));
      voted_ = voted_ || fiber.vote;
    }
    for (unsigned n = 0; n < count_; ++n) go_on(n);
  }

  const Fiber& waiting() const {
    return *std::find_if(fibers_.begin(), fibers_.begin() + count_,
                         [](const Fiber& f) { return f.state != State::done; });
  }

  void release_warp(unsigned warp) {
    const unsigned first = warp * warp_size;
    for (unsigned n = first; n < first + warp_size; ++n)
      if (fibers_[n].state != State::at_shuffle) return;
    std::uint64_t given[warp_size];
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      const Fiber& fiber = fibers_[first + lane];
      given[lane] = fiber.bits;
      if (!same_place(*fiber.where, *fibers_[first].where))
        fail("lanes wait at different shuffles, " + place_of(*fiber.where));
    }
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      fibers_[first + lane].bits = given[fibers_[first + lane].from];
      go_on(first + lane);
    }
  }

  void go_on(unsigned n) {
    fibers_[n].state = State::ready;
    ready_.push_back(n);
  }

  // The next switch to this context runs the kernel, from its beginning.
  void begin(Context& context) {
    unpoison(context.stack, context.bytes);
    void** top = reinterpret_cast<void**>(static_cast<char*>(const_cast<void*>(context.stack)) + context.bytes);
    *--top = nullptr;  // where a caller's address would be: the entry never returns
    *--top = reinterpret_cast<void*>(&Machine::entry);
    for (int k = 0; k < 6; ++k) *--top = nullptr;
    context.at = top;
    context.fake_stack = nullptr;
  }

  static void entry();

  void check_fences() {
    unpoison(memory_.data(), memory_.size());
    for (std::size_t k = 0; k < arrays_.size(); ++k) {
      const std::size_t end = arrays_[k].first + arrays_[k].bytes;
      const auto intact = [](unsigned char byte) { return byte == fence_byte; };
      if (!std::all_of(memory_.data() + end, memory_.data() + end + fence, intact))
        fail("a thread has written beyond the shared array at " + place_of(arrays_[k].where));
    }
  }

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }

  std::vector<Fiber> fibers_;
  std::vector<unsigned> ready_;
  std::vector<unsigned char> memory_;
  std::vector<SharedArray> arrays_;
  std::minstd_rand draw_;
  Context scheduler_;
  Fiber* current_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  std::exception_ptr failure_;
  unsigned count_ = 0, done_ = 0;
  bool voted_ = false;
};

Machine& machine() {
  static thread_local Machine the_machine;
  return the_machine;
}

void Machine::entry() {
  Machine& here = machine();
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &here.scheduler_.stack, &here.scheduler_.bytes);
#endif
  try {
    (*here.kernel_)();
  } catch (...) {
    here.failure_ = std::current_exception();
  }
  here.current_->state = State::done;
  change(here.current_->context, here.scheduler_, true);
}

thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string last_words;

bool within_limits(dim3 grid, dim3 block) {
  const unsigned blocks[] = {grid.x, grid.y, grid.z};
  for (int k = 0; k < 3; ++k)
    if (blocks[k] == 0 || blocks[k] > most_blocks[k]) return false;
  const std::uint64_t threads = std::uint64_t(block.x) * block.y * block.z;
  return threads > 0 && threads <= most_threads && threads % warp_size == 0;
}

}  // namespace

}  // namespace jessl_model

std::uint64_t jessl_model_launches = 0;
int jessl_model_idle = 0;

namespace jessl_model {

Thread& running() { return machine().current().thread; }

void launch(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  ++jessl_model_launches;
  if (jessl_model_idle) return;
  if (!within_limits(grid, block)) {
    last_error = cudaErrorInvalidConfiguration;
    last_words = "a grid or a block beyond the limits, or a block that is no whole number of warps";
    return;
  }
  try {
    machine().run(grid, block, kernel);
  } catch (const std::exception& failure) {
    last_error = cudaErrorLaunchFailure;
    last_words = failure.what();
  }
}

bool block_barrier(bool value, const Where& where) {
  machine().current().vote = value;
  machine().wait(State::at_barrier, where);
  return machine().voted();
}

std::uint64_t exchanged(std::uint64_t bits, unsigned from, unsigned lanes, const Where& where) {
  if (lanes != 0xffffffffu) throw std::runtime_error("a shuffle of some lanes at " + place_of(where));
  Fiber& fiber = machine().current();
  fiber.bits = bits;
  fiber.from = from % warp_size;
  machine().wait(State::at_shuffle, where);
  return fiber.bits;
}

void* shared_bytes(std::size_t bytes, const Where& where) { return machine().shared(bytes, where); }

}  // namespace jessl_model

cudaError_t cudaGetLastError() { return std::exchange(jessl_model::last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : jessl_model::last_words.c_str();
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
