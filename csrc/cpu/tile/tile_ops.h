// The tables of tile.h filled with functions on one kind of vector, F32 and F64. Included last, within the target
// region of a tile_*.cpp.
#pragma once

// GCC 12 at -O2 assumes that some of these templates read no memory, and drops stores that they need: the row sums of
// absorb_any at the portable level came out measured from the wrong power.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-ipa-modref")
#endif

#include "cpu/tile/absorb.h"
#include "cpu/tile/near_ops.h"
#include "cpu/tile/score.h"
#include "cpu/tile/score_grad.h"
#include "cpu/tile/tile_backward.h"

namespace jessl {
namespace {

template <class V>
constexpr TileOps<typename V::Real> table() {
  return {load_strip<V>,    load_tile<V>, score<V>,    absorb_bounded<V>, absorb_any<V>,    row_max<V>,
          to_terms<V>,      linear<V>,    tilted<V>,   score_grad<V>,     absorb_psi<V>,    score_grad_from_terms<V>,
          softmax_slope<V>, combine<V>,   sum_tile<V>, dot_t<V>,          tile_backward<V>, add_rows<V>};
}
constexpr Tables tables = {table<F32>(), table<F64>(), {keep_near<F64>, count_near<F64>, reach_of_near<F64>}};

}  // namespace
}  // namespace jessl
