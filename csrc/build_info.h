// The compiler of the core, and the abilities of the processor it runs on: a line of `jk.backends()`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compiler.h"
#include "cpu/simd/simd_level.h"

namespace jessl {

// The level that the compiler could use everywhere. A plain build is "portable" on x86-64 (SSE2, which every such
// processor has). Anything higher means that CXXFLAGS raised the floor, and the library may crash on an older machine.
inline std::string simd_build() {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  return "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
  return "avx2";
#elif defined(__ARM_NEON)
  return "neon";
#else
  return "portable";
#endif
}

// The levels this processor and its operating system can run, lowest first.
inline std::string simd_cpu() {
  std::string levels;
  for (const Level level : {Level::portable, Level::avx2, Level::avx512}) {
    if (!runs_here(level)) continue;
    if (!levels.empty()) levels += ' ';
    levels += name_of(level);
  }
#if defined(__ARM_NEON)
  levels += " neon";
#endif
  return levels;
}

// Key and value, in the order a bug report prints them.
inline std::vector<std::pair<std::string, std::string>> build_info() {
  return {
      {"compiler", compiler()},     {"cxx_standard", cxx_standard()}, {"architecture", architecture()},
      {"simd_build", simd_build()}, {"simd_cpu", simd_cpu()},
  };
}

}  // namespace jessl
