#include "cpu/threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace jessl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::milliseconds(100);  // between two calls of `interrupted`

// The order of the tasks: phase p of strip b comes between phase 0 of strips b + p and b + p + 1. So while the last
// tasks of a phase run, other threads find work in the next strip.
class Schedule {
 public:
  explicit Schedule(const Plan& plan) : plan_(plan), segment_(plan.first(0)) {}

  std::optional<Task> next() {
    const std::lock_guard lock(mutex_);
    for (; step_ < plan_.strips + plan_.phases - 1; ++step_, phase_ = 0, segment_ = -1)
      for (; phase_ < plan_.phases; ++phase_, segment_ = -1) {
        const std::int64_t strip = step_ - phase_;
        if (strip < 0 || strip >= plan_.strips) continue;
        if (segment_ < 0) segment_ = plan_.first(strip);
        if (segment_ < plan_.segments) return Task{strip, phase_, segment_++};
      }
    return std::nullopt;
  }

 private:
  const Plan& plan_;
  std::mutex mutex_;
  std::int64_t step_ = 0, phase_ = 0, segment_;
};

class Team {
 public:
  Team(const Plan& plan, const Interrupted& interrupted, const std::function<void(const Task&, int)>& task,
       const std::function<void(std::int64_t, int)>& finish)
      : plan_(plan),
        interrupted_(interrupted),
        task_(task),
        finish_(finish),
        schedule_(plan),
        through_(new std::atomic<std::int64_t>[plan.phases * plan.segments]()),
        left_(new std::atomic<std::int64_t>[plan.strips * plan.phases]),
        finished_(new std::atomic<bool>[plan.strips]()) {
    for (std::int64_t i = 0; i < plan.strips * plan.phases; ++i) left_[i] = plan.segments - plan.first(i / plan.phases);
  }

  void work(int thread) noexcept {
    try {
      for (std::optional<Task> next; !stop_ && (next = schedule_.next());) {
        if (thread == 0) look_up();
        run(*next, thread);
      }
    } catch (const Abandoned&) {
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      stop_ = true;
    }
  }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void run(const Task& t, int thread) {
    std::atomic<std::int64_t>& through = through_[t.phase * plan_.segments + t.segment];
    if (plan_.in_order) await([&] { return through.load(std::memory_order_acquire) == t.strip; }, thread);
    if (plan_.in_order && t.phase == 0 && t.strip >= plan_.slots)
      await([&] { return finished_[t.strip - plan_.slots].load(std::memory_order_acquire); }, thread);
    if (t.phase > 0) await([&] { return left(t.strip, t.phase - 1).load(std::memory_order_acquire) == 0; }, thread);
    task_(t, thread);
    through.store(t.strip + 1, std::memory_order_release);
    if (left(t.strip, t.phase).fetch_sub(1, std::memory_order_acq_rel) == 1 && t.phase == plan_.phases - 1) {
      finish_(t.strip, thread);
      finished_[t.strip].store(true, std::memory_order_release);
    }
  }

  std::atomic<std::int64_t>& left(std::int64_t strip, std::int64_t phase) {
    return left_[strip * plan_.phases + phase];
  }

  template <class Ready>
  void await(Ready&& ready, int thread) {
    for (int tries = 0; !ready(); ++tries) {
      if (stop_) throw Abandoned{};
      // A task takes tens of microseconds: mostly it is ready before a thread could fall asleep.
      if (tries < 1000) continue;
      std::this_thread::yield();
      if (thread == 0) look_up();
    }
  }

  // On the calling thread: has somebody pressed Ctrl-C?
  void look_up() {
    if (!interrupted_ || Clock::now() < next_look_) return;
    next_look_ = Clock::now() + patience;
    if (interrupted_()) throw Stopped{};
  }

  struct Abandoned {};  // another thread has failed

  const Plan& plan_;
  const Interrupted& interrupted_;
  const std::function<void(const Task&, int)>& task_;
  const std::function<void(std::int64_t, int)>& finish_;
  Schedule schedule_;
  const std::unique_ptr<std::atomic<std::int64_t>[]> through_;  // by phase and segment: strips done
  const std::unique_ptr<std::atomic<std::int64_t>[]> left_;     // by strip and phase: tasks not done
  const std::unique_ptr<std::atomic<bool>[]> finished_;
  std::atomic<bool> stop_{false};
  Clock::time_point next_look_ = Clock::now() + patience;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

// The OpenMP runtime that torch has loaded, if any. Its threads are awake, and often still spin after torch's last
// operation. Threads of our own would wait for them to leave the core, 3 to 5 ms measured, which is a whole call at
// N = 1024. Null in a forked child, where those threads are gone and the runtime would wait for them for ever.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

std::atomic<bool> forked{false};
// Registered when this library is loaded.
[[maybe_unused]] const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });

Parallel loaded_openmp() {
  static const Parallel found = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return forked ? nullptr : found;
}

void work_in_openmp(Parallel parallel, int threads, Team& team) {
  struct Region {
    Team& team;
    const std::thread::id caller;
    std::atomic<int> others{0};
  } region{team, std::this_thread::get_id()};
  parallel(
      [](void* data) {
        Region& r = *static_cast<Region*>(data);
        r.team.work(std::this_thread::get_id() == r.caller ? 0 : ++r.others);
      },
      &region, unsigned(threads), 0);
}

// Threads that live for this call. A thread that the system starts only when all tasks are taken is not waited for.
// Such a late thread looks at the door, which outlives the call, before it touches the team.
void work_in_threads(int threads, Team& team) {
  struct Door {
    std::atomic<int> inside{0};
    std::atomic<bool> closed{false};
  };
  const auto door = std::make_shared<Door>();
  try {
    for (int thread = 1; thread < threads; ++thread)
      std::thread([&team, door, thread] {
        ++door->inside;
        if (!door->closed) team.work(thread);
        --door->inside;
      }).detach();
  } catch (const std::exception&) {
    // The system has no more threads, or no memory for them; the existing ones do the work.
  }
  team.work(0);
  door->closed = true;
  while (door->inside) std::this_thread::yield();
}

}  // namespace

void run(const Plan& plan, int threads, const Interrupted& interrupted,
         const std::function<void(const Task&, int)>& task, const std::function<void(std::int64_t, int)>& finish) {
  Team team(plan, interrupted, task, finish);
  if (threads == 1)
    team.work(0);
  else if (const Parallel parallel = loaded_openmp())
    work_in_openmp(parallel, threads, team);
  else
    work_in_threads(threads, team);
  team.rethrow();
}

}  // namespace jessl
