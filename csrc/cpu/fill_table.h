// The table of tile.h filled with functions on one kind of vector. Included last, within the target region of a tile_*.cpp.
#pragma once

// GCC 12 at -O2 believes of some of these templates that they read no memory, and drops what was stored for them: the row sums
// of absorb_any at the portable level came out measured from the wrong power.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-ipa-modref")
#endif

#include "cpu/epilogue.h"
#include "cpu/pull.h"
#include "cpu/score.h"

namespace jessl {

template <class V>
constexpr TileOps<typename V::Real> table() {
  return {load_strip<V>, load_tile<V>, score<V>, absorb_bounded<V>, absorb_any<V>, absorb_softplus<V>, weigh<V>,
          absorb_and_weigh_softplus<V>, scale<V>, sum_tile<V>, apply_slope<V>, dot_t<V>, pull<V>, add_rows<V>};
}

}  // namespace jessl
