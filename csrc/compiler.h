// What an extension was compiled with, as words for `jk.backends()`.
#pragma once

#include <string>

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

}  // namespace jessl
