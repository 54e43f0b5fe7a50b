// The order of tasks that threads.h promises. Tasks that must follow each other write non-atomic variables, so that the
// thread sanitizer sees whether they do.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "check.h"
#include "cpu/threads.h"

namespace jessl::test {
namespace {

using Clock = std::chrono::steady_clock;
const Interrupted never = [] { return false; };

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Plans of one and two phases, rectangular and triangular, with fewer and more segments than threads.
std::vector<Plan> plans() {
  std::vector<Plan> all;
  for (const std::int64_t phases : {1, 2, 3})
    for (const std::int64_t segments : {1, 3, 8})
      for (const std::int64_t slots : {phases, phases + 2}) {  // fewer slots than phases would wait for themselves
        all.push_back({.strips = 23, .segments = segments, .phases = phases, .slots = slots});
        Plan triangular = all.back();
        triangular.first = [segments](std::int64_t strip) { return strip * segments / 23; };
        all.push_back(triangular);
      }
  return all;
}

// A little work of uneven length, so that threads overtake each other.
void dawdle(const Task& t) {
  volatile double x = 1;
  for (std::int64_t k = 0; k < (t.strip * 7 + t.segment * 13) % 5 * 400; ++k) x = x * 1.0001;
}

const int thread_counts[] = {1, 2, 5};

}  // namespace

FACT(tasks_of_one_segment_and_phase_follow_each_other_in_the_order_of_strips) {
  for (const Plan& plan : plans())
    for (const int threads : thread_counts) {
      std::vector<std::vector<std::int64_t>> seen(plan.phases * plan.segments);
      const auto task = [&](const Task& t, int) {
        dawdle(t);
        seen[t.phase * plan.segments + t.segment].push_back(t.strip);
      };
      run(plan, threads, never, task, [](std::int64_t, int) {});
      for (std::int64_t phase = 0; phase < plan.phases; ++phase)
        for (std::int64_t segment = 0; segment < plan.segments; ++segment) {
          std::vector<std::int64_t> expected;
          for (std::int64_t strip = 0; strip < plan.strips; ++strip)
            if (plan.first(strip) <= segment) expected.push_back(strip);
          check(seen[phase * plan.segments + segment] == expected, threads, " threads, phase ", phase, ", segment ",
                segment);
        }
    }
}

FACT(a_phase_begins_when_all_tasks_of_the_phase_before_are_done) {
  for (const Plan& plan : plans())
    for (const int threads : thread_counts) {
      std::vector<std::atomic<std::int64_t>> done(plan.strips * plan.phases);
      const auto task = [&](const Task& t, int) {
        if (t.phase > 0)
          check(done[t.strip * plan.phases + t.phase - 1] == plan.segments - plan.first(t.strip), "strip ", t.strip);
        dawdle(t);
        ++done[t.strip * plan.phases + t.phase];
      };
      run(plan, threads, never, task, [](std::int64_t, int) {});
    }
}

FACT(finish_runs_once_for_each_strip_after_its_tasks_and_before_its_slot_is_used_again) {
  for (const Plan& plan : plans())
    for (const int threads : thread_counts) {
      std::vector<std::int64_t> slot_holds(plan.slots, -1);  // not atomic: the plan is what keeps strips apart
      std::vector<std::atomic<int>> begun(plan.strips), done(plan.strips), finished(plan.strips);
      const auto task = [&](const Task& t, int) {
        if (t.strip >= plan.slots) check(finished[t.strip - plan.slots] == 1, "strip ", t.strip, " began early");
        ++begun[t.strip];
        dawdle(t);
        ++done[t.strip];
      };
      const auto finish = [&](std::int64_t strip, int) {
        check(done[strip] == plan.phases * (plan.segments - plan.first(strip)), "strip ", strip, " finished early");
        slot_holds[strip % plan.slots] = strip;
        std::this_thread::sleep_for(std::chrono::microseconds(100));  // long enough for others to come too early
        ++finished[strip];
      };
      run(plan, threads, never, task, finish);
      for (std::int64_t strip = 0; strip < plan.strips; ++strip)
        check(finished[strip] == 1, "strip ", strip, " finished ", finished[strip].load(), " times");
    }
}

FACT(every_thread_number_is_below_the_count_and_one_runs_one_task_at_a_time) {
  const Plan plan{.strips = 40, .segments = 6, .phases = 2, .slots = 2};
  for (const int threads : thread_counts) {
    std::vector<std::int64_t> own(threads);  // not atomic: a thread's own
    const auto task = [&](const Task& t, int thread) {
      dawdle(t);
      ++own.at(thread);
    };
    run(plan, threads, never, task, [](std::int64_t, int) {});
    std::int64_t total = 0;
    for (const std::int64_t count : own) total += count;
    check(total == 40 * 6 * 2, threads, " threads ran ", total, " tasks");
  }
}

FACT(strips_that_share_nothing_all_run_without_waiting) {
  Plan plan{.strips = 50, .segments = 1, .phases = 1, .slots = 1};
  plan.in_order = false;
  for (const int threads : thread_counts) {
    std::vector<int> times(50);
    run(plan, threads, never, [&](const Task& t, int) { ++times[t.strip]; }, [](std::int64_t, int) {});
    check(times == std::vector<int>(50, 1), threads, " threads");
  }
}

FACT(an_exception_of_a_task_or_of_finish_comes_back_and_stops_the_others) {
  const Plan plan{.strips = 2000, .segments = 4, .phases = 2, .slots = 2};
  for (const int threads : thread_counts)
    for (const bool in_finish : {false, true})
      for (std::int64_t fails = 0; fails < 4; ++fails) {
        std::atomic<std::int64_t> tasks{0};
        bool caught = false;
        try {
          run(
              plan, threads, never,
              [&](const Task& t, int) {
                ++tasks;
                if (!in_finish && t.strip == 5 && t.segment == fails) throw std::runtime_error("this one");
              },
              [&](std::int64_t strip, int) {
                if (in_finish && strip == 5 + fails) throw std::runtime_error("this one");
              });
        } catch (const std::runtime_error& failure) {
          caught = failure.what() == std::string("this one");
        }
        check(caught, threads, " threads: the exception was lost");
        check(tasks < 200, threads, " threads: ", tasks.load(), " tasks ran all the same");
      }
}

FACT(an_interruption_stops_within_a_second_and_is_asked_for_on_the_calling_thread_alone) {
  const Plan plan{.strips = 100'000, .segments = 2, .phases = 1, .slots = 2};
  for (const int threads : thread_counts) {
    const auto start = Clock::now();
    const auto caller = std::this_thread::get_id();
    std::atomic<int> strangers{0};
    const Interrupted after_200_ms = [&] {
      strangers += std::this_thread::get_id() != caller;
      return seconds_since(start) > 0.2;
    };
    bool stopped = false;
    const auto task = [](const Task&, int) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
    try {
      run(plan, threads, after_200_ms, task, [](std::int64_t, int) {});
    } catch (const Stopped&) {
      stopped = true;
    }
    const double seconds = seconds_since(start);
    check(stopped, threads, " threads: not stopped");
    check(seconds >= 0.2 && seconds < 1.2, threads, " threads: stopped after ", seconds, " s");
    check(strangers == 0, threads, " threads: asked on another thread");
  }
}

// The calling thread waits for another thread's long task, and must check for interrupts more than once meanwhile.
FACT(an_interruption_is_asked_for_while_the_calling_thread_waits) {
  std::atomic<int> asked{0}, most{0};
  const Interrupted count = [&] {
    ++asked;
    return false;
  };
  const auto task = [&](const Task&, int thread) {
    if (thread == 0) return std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the other takes the next one
    asked = 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    most = std::max(most.load(), asked.load());
  };
  run({.strips = 8, .segments = 1, .phases = 1, .slots = 2}, 2, count, task, [](std::int64_t, int) {});
  check(most >= 2, "asked ", most.load(), " times in 500 ms");
}

FACT(no_interruption_needs_to_be_given) {
  int tasks = 0;
  const auto task = [&](const Task&, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));  // long enough for a check between them
    ++tasks;
  };
  run({.strips = 4, .segments = 1, .phases = 1, .slots = 2}, 1, {}, task, [](std::int64_t, int) {});
  check(tasks == 4, tasks, " tasks");
}

}  // namespace jessl::test
