// The compiler of this extension, and the abilities of the processor it runs on: the native half of `jk.backends()`.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cpu/simd/simd_level.h"

namespace jessl {

inline std::string dotted(int major, int minor, int patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

inline std::string compiler() {
#if defined(__clang__)
  return "clang " + dotted(__clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  return "gcc " + dotted(__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

inline std::string cxx_standard() {
  // __cplusplus is the year and month of the standard: 202002 for C++20.
  return "C++" + std::to_string(__cplusplus / 100 % 100) + " (" + std::to_string(__cplusplus) + ")";
}

inline std::string architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "arm64";
#else
  return "other";
#endif
}

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
      {"simd_build", simd_build()}, {"simd_cpu", simd_cpu()},         {"cuda", JESSL_WITH_CUDA ? "yes" : "no"},
  };
}

}  // namespace jessl
