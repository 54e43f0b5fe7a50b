// The tile functions for any processor, in the vectors its compiler has. Always built; tests hold the others against
// it.
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
