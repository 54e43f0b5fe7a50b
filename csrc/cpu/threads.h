// Work in a fixed order of sums on any number of threads.
#pragma once

#include <cstdint>
#include <functional>

namespace jessl {

// Called now and then on the calling thread of a long computation; true asks it to stop.
using Interrupted = std::function<bool()>;

// Thrown by `run` when it was asked to stop.
struct Stopped {};

// One task of a strip: a segment of its columns, in one of its phases.
struct Task {
  std::int64_t strip, phase, segment;
};

// Strips go by in order, each over segments [first(strip), segments) in `phases` phases.
//
// - Tasks of one segment in one phase follow each other in the order of the strips, whoever runs them: what they add to
//   the segment's columns is added in that order, at every number of threads.
// - A strip's next phase begins when all its tasks of the phase before are done.
// - `finish(strip, thread)` runs once, when all tasks of a strip are done. No strip begins before the one `slots`
//   earlier is finished, so that a strip may keep things in the slot strip % slots.
struct Plan {
  std::int64_t strips, segments = 1, phases = 1, slots = 1;  // slots ≥ phases: so many strips are in flight
  std::function<std::int64_t(std::int64_t strip)> first = [](std::int64_t) { return 0; };
  bool in_order = true;  // false where strips share nothing: no task waits
};

// Run `task(task, thread)` for every task. Threads take tasks in an order in which none waits for a later one, so that
// nothing can lock. They are those of the OpenMP runtime that the process has loaded, or else live for this call alone:
// there is no pool to fork, and nothing to share between callers. An exception of a task stops the others and is thrown
// here.
void run(
    const Plan& plan, int threads, const Interrupted& interrupted, const std::function<void(const Task&, int)>& task,
    const std::function<void(std::int64_t, int)>& finish = [](std::int64_t, int) {});

}  // namespace jessl
