// Boxes and balls around the points of each tile, or of each part of a tile: what their scores can be at most.
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
  bool finite;                        // whether all coordinates are
};

// Of groups of so many points that follow each other: of tiles, or of parts of tiles.
class BoundingVolumes {
 public:
  BoundingVolumes(const Problem&, const Batch&, const void* bias, std::int64_t group);

  std::int64_t groups() const { return std::int64_t(numbers_.size()); }
  std::int64_t points_of(std::int64_t k) const { return std::min(group_, count_ - k * group_); }
  BoundingVolume operator[](std::int64_t k) const;

  // The groups of `others` whose centers are nearest to that of this one, nearest first, `most` of them at most.
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

// No pair of these has a larger φ(u); biases come on top. +inf where nothing is known.
double largest_score(const Problem&, const BoundingVolume&, const BoundingVolume&);

}  // namespace jessl
