// Runs tasks on any number of threads with a fixed order of sums.
#pragma once

#include <cstdint>
#include <functional>

namespace jessl {

// Called now and then on the calling thread of a long computation; true stops the computation.
using Interrupted = std::function<bool()>;

// Thrown by `run` when it was asked to stop.
struct Stopped {};

// One task of a strip: a segment of its columns, in one of its phases.
struct Task {
  std::int64_t strip, phase, segment;
};

// Strips run in order, each over segments [first(strip), segments) in `phases` phases.
//
// - Tasks of one segment in one phase run in the order of the strips, on whichever threads: they add to the segment's
//   columns in that order at every number of threads.
// - A strip's next phase begins when all its tasks of the phase before are done.
// - `finish(strip, thread)` runs once, when all tasks of a strip are done. No strip begins before the strip `slots`
//   earlier is finished, so a strip may use the slot strip % slots.
struct Plan {
  std::int64_t strips, segments = 1, phases = 1, slots = 1;  // slots ≥ phases: strips in flight
  std::function<std::int64_t(std::int64_t strip)> first = [](std::int64_t) { return 0; };
  bool in_order = true;  // false if strips share nothing: no task waits
};

// Runs `task(task, thread)` for every task. Threads take tasks in an order in which none waits for a later one, so
// there is no deadlock. The threads are those of the OpenMP runtime that the process has loaded; without one, threads
// live for this call alone. There is no pool to fork and nothing to share between callers. An exception of a task stops
// the others and is thrown here.
void run(
    const Plan& plan, int threads, const Interrupted& interrupted, const std::function<void(const Task&, int)>& task,
    const std::function<void(std::int64_t, int)>& finish = [](std::int64_t, int) {});

}  // namespace jessl
