// The tile functions for any processor, with the compiler's own vectors. They are always built, and tests compare the
// other levels with them.
#include "cpu/simd/vector_portable.h"
#include "cpu/tile/tile_ops.h"

namespace jessl {

const Tables& tables_of([[maybe_unused]] Level level) {
#if defined(__x86_64__)
  if (level == Level::avx512) return avx512_tables;
  if (level == Level::avx2) return avx2_tables;
#endif
  return tables;
}

}  // namespace jessl
