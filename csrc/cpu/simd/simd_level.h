// Levels of instructions, and the one that is used here.
#pragma once

namespace jessl {

enum class Level { portable, avx2, avx512 };

// The best level that this processor runs and this build holds, or the one that the environment variable JESSL_SIMD
// names. Throws std::invalid_argument if that one is unknown or cannot run here.
Level chosen_level();

// Whether this processor and its operating system run a level.
bool runs_here(Level level);

const char* name_of(Level level);

}  // namespace jessl
