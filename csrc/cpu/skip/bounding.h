// Boxes and balls around the points of each tile, or of each part of a tile, which bound their scores from above.
//
//   ‖x − y‖ ≥ the distance of two boxes, which is tighter in few dimensions, and that of two balls, tighter in many
//   ⟨x, y⟩  ≤ ⟨a, b⟩ + ρ‖b‖ + σ‖a‖ + ρσ for balls around a and b of radius ρ and σ;
//           ≤ (max‖x‖² + max‖y‖² − min‖x − y‖²) / 2
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pairwise/problem.h"

namespace jessl {

struct BoundingVolume {
  const double *low, *high, *center;  // (D,)
  double radius, center_norm, norm;   // norm: the largest ‖x‖
  double bias;                        // the largest r_i or c_j
  bool finite;                        // whether all coordinates are finite
};

// The volumes of groups of `group` consecutive points: of tiles, or of parts of tiles.
class BoundingVolumes {
 public:
  BoundingVolumes(const Problem&, const Batch&, const void* bias, std::int64_t group);

  std::int64_t groups() const { return std::int64_t(numbers_.size()); }
  std::int64_t points_of(std::int64_t k) const { return std::min(group_, count_ - k * group_); }
  BoundingVolume operator[](std::int64_t k) const;

  // At most `most` groups of `others` whose centers are nearest to the center of group k, nearest first.
  std::vector<std::int64_t> nearest(std::int64_t k, const BoundingVolumes& others, std::int64_t most) const;

 private:
  struct Numbers {
    double radius = 0, center_norm = 0, norm = 0, bias = 0;
    bool finite = true;
  };
  template <class Real>
  void enclose(const Batch& batch, const Real* bias);

  std::int64_t count_, D_, group_;
  std::vector<double> lines_;  // (groups, 3, D): low, high, center
  std::vector<Numbers> numbers_;
};

// An upper bound of φ(u) over the pairs of two volumes, without biases. +inf if nothing is known.
double largest_score(const Problem&, const BoundingVolume&, const BoundingVolume&);

}  // namespace jessl
