// How a call computes (threads, memory, instruction set), and the work that it counted.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd/simd_level.h"
#include "cpu/threads.h"

namespace jessl {

// Tiles of scores that a call computed.
struct Work {
  std::int64_t looked = 0;    // scored beforehand, for lower bounds of sums (skipping.h)
  std::int64_t scored = 0;    // scored in all passes
  std::int64_t backward = 0;  // scored tiles whose gradient went back to the embeddings

  void operator+=(const Work& more) { looked += more.looked, scored += more.scored, backward += more.backward; }
};

struct Options {
  int threads;
  std::int64_t workspace;  // bytes
  Level level;
  Interrupted interrupted;
  Work* work = nullptr;  // counts the work unless null
  // Bytes of the workspace that are in use already. They reduce only the number of threads, which changes no bit;
  // strips and tiles are cut as if these bytes were free.
  std::int64_t taken = 0;
};

// Work on rows one by one, O(N·D): visit(first, end, thread) over independent blocks of rows of D numbers, on as many
// threads as such little work can use.
template <class Visit>
void for_rows(std::int64_t rows, std::int64_t D, const Options& options, Visit&& visit) {
  constexpr std::int64_t numbers = 1 << 13;  // numbers of a block: about a microsecond
  if (rows * D < 4 * numbers) return visit(0, rows, 0);
  const std::int64_t block = std::clamp<std::int64_t>(numbers / std::max<std::int64_t>(D, 1), 1, 256);
  constexpr double worth_a_thread = 2e4;  // numbers: a few microseconds
  const int threads = int(std::clamp(double(rows) * double(D) / worth_a_thread, 1.0, double(options.threads)));
  run({.strips = (rows + block - 1) / block, .in_order = false}, threads, options.interrupted,
      [&](const Task& t, int thread) { visit(t.strip * block, std::min(rows, (t.strip + 1) * block), thread); });
}

}  // namespace jessl
