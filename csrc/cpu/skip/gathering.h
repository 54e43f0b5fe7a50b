// Which columns a strip of rows meets if φ is compact: those that may lie inside the support around some row.
#pragma once

#include <cstdint>

#include "cpu/skip/bounding.h"
#include "cpu/tile/sums.h"
#include "pairwise/problem.h"

namespace jessl {

// The square of a distance beyond which no pair counts, by more than the rounding of u, so that none is lost.
double square_beyond_support(const Problem&);

// Whether a point may lie inside the support around some point of a box of finite numbers.
template <class Real>
bool reaches(const BoundingVolume& box, const Real* point, std::int64_t D, double square_of_support) {
  double square = 0;
  for (std::int64_t d = 0; d < D; ++d) {
    const double x = point[d], above = x - box.high[d], below = box.low[d] - x;
    const double gap = above > 0 ? above : below > 0 ? below : 0;
    square += gap * gap;
    if (square >= square_of_support) return false;
  }
  return true;
}

// Whether the sweep gathers the columns of each strip (passes/gathered_pass.h) instead of skipping whole tiles: for a
// plain log-sum-exp of a compact φ, if some strips are found to meet so few columns that this is less work. Then no
// tile is left to skip. Points must stand in their order already.
bool gathers(const Problem&, const Terms&);

}  // namespace jessl
