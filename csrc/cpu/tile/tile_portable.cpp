// The tile functions for any processor, in the vectors its compiler has. Always built; tests hold the others against
// it.
#include "cpu/simd/vector_portable.h"
#include "cpu/tile/tables.h"
#include "cpu/tile/tile_ops.h"

namespace jessl {

template <>
const TileOps<float>* ops_portable<float>() {
  static constexpr TileOps<float> ops = table<portable::F32>();
  return &ops;
}

template <>
const TileOps<double>* ops_portable<double>() {
  static constexpr TileOps<double> ops = table<portable::F64>();
  return &ops;
}

}  // namespace jessl
