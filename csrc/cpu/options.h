// How a call computes: threads, memory, instructions; and what it counted.
#pragma once

#include <cstdint>

#include "cpu/simd/simd_level.h"
#include "cpu/threads.h"

namespace jessl {

// Tiles of scores that a call computed.
struct Work {
  std::int64_t looked = 0;    // beforehand, for lower bounds of sums (skipping.h)
  std::int64_t scored = 0;    // in all passes
  std::int64_t backward = 0;  // of them, those whose gradient went back to the embeddings
};

struct Options {
  int threads;
  std::int64_t workspace;  // bytes
  Level level;
  Interrupted interrupted;
  Work* work = nullptr;  // added to, where somebody asks
  // Bytes of the workspace that are in use already. Only threads, whose number changes no bit, make room for them;
  // strips and tiles are cut as if there were none.
  std::int64_t taken = 0;
};

}  // namespace jessl
