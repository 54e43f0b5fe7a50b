#include "cpu/simd/simd_level.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace jessl {

bool runs_here(Level level) {
#if defined(__x86_64__)
  __builtin_cpu_init();  // checks also whether the system saves the wide registers
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (level == Level::avx2) return avx2;
  if (level == Level::avx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return level == Level::portable;
}

Level chosen_level() {
  constexpr Level best_first[] = {Level::avx512, Level::avx2, Level::portable};
  const char* wish = std::getenv("JESSL_SIMD");
  if (!wish || !*wish) {
    for (const Level level : best_first)
      if (runs_here(level)) return level;
  }
  for (const Level level : best_first) {
    if (wish != std::string(name_of(level))) continue;
    if (runs_here(level)) return level;
    throw std::invalid_argument(std::string("JESSL_SIMD is '") + wish + "', which this processor cannot run");
  }
  throw std::invalid_argument(std::string("JESSL_SIMD is '") + wish + "', must be avx512, avx2, portable, or unset");
}

const char* name_of(Level level) {
  return level == Level::avx512 ? "avx512" : level == Level::avx2 ? "avx2" : "portable";
}

}  // namespace jessl
