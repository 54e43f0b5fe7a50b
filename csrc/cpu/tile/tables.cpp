#include "cpu/tile/tables.h"

namespace jessl {

template <class Real>
const TileOps<Real>& tile_ops(Level level) {
#if defined(__x86_64__)
  if (level == Level::avx512) return *ops_avx512<Real>();
  if (level == Level::avx2) return *ops_avx2<Real>();
#endif
  return *ops_portable<Real>();
}

template const TileOps<float>& tile_ops<float>(Level);
template const TileOps<double>& tile_ops<double>(Level);

}  // namespace jessl
