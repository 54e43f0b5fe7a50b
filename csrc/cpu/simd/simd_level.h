// Instruction sets, and the one in use.
#pragma once

namespace jessl {

enum class Level { portable, avx2, avx512 };

// The best level that this processor runs and this build holds, or the level named by the environment variable
// JESSL_SIMD. Throws std::invalid_argument if that level is unknown or cannot run here.
Level chosen_level();

// Whether this processor and its operating system run a level.
bool runs_here(Level level);

const char* name_of(Level level);

}  // namespace jessl
