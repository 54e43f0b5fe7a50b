// Work on rows one by one, O(N·D), by several threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/options.h"
#include "cpu/threads.h"

namespace jessl {

// visit(first, end, thread) over blocks of rows of D numbers that share nothing, on as many threads as so little work
// can use.
template <class Visit>
void for_rows(std::int64_t rows, std::int64_t D, const Options& options, Visit&& visit) {
  constexpr std::int64_t numbers = 1 << 13;  // of a block: about a microsecond
  const std::int64_t block = std::clamp<std::int64_t>(numbers / std::max<std::int64_t>(D, 1), 1, 256);
  const Plan plan{.strips = (rows + block - 1) / block, .segments = 1, .phases = 1, .slots = 1, .in_order = false};
  constexpr double worth_a_thread = 2e4;  // numbers: a few microseconds
  const int threads = int(std::clamp(double(rows) * double(D) / worth_a_thread, 1.0, double(options.threads)));
  run(
      plan, threads, options.interrupted,
      [&](const Task& t, int thread) { visit(t.strip * block, std::min(rows, (t.strip + 1) * block), thread); },
      [](std::int64_t, int) {});
}

}  // namespace jessl
