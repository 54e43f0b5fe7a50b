// Boxes and balls around the points of each tile, and of each part of a tile: what their scores can be at most.
//
//   ‖x − y‖ ≥ the distance of two boxes, which is tighter in few dimensions, and that of two balls, tighter in many
//   ⟨x, y⟩  ≤ ⟨a, b⟩ + ρ‖b‖ + σ‖a‖ + ρσ for balls around a and b of radius ρ and σ;
//           ≤ (max‖x‖² + max‖y‖² − min‖x − y‖²) / 2
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pairwise/problem.h"

namespace jessl {

struct BoundingVolume {
  const double *low, *high, *center;  // (D,)
  double radius, center_norm, norm;   // norm: the largest ‖x‖
  double bias;                        // the largest r_i or c_j
  bool finite;                        // whether all coordinates are
};

class BoundingVolumes {
 public:
  static constexpr std::int64_t parts = 8;  // of a tile

  // Of tiles of `rows` points.
  BoundingVolumes(const Problem&, const Batch&, const void* bias, std::int64_t rows);

  std::int64_t tiles() const { return (count_ + rows_ - 1) / rows_; }
  std::int64_t points_of(std::int64_t tile) const;
  BoundingVolume tile(std::int64_t tile) const { return volume(tile * (parts + 1)); }
  // Parts [0, parts_of(tile)) of a tile, each of `part_rows` points but the last.
  BoundingVolume part(std::int64_t tile, std::int64_t part) const { return volume(tile * (parts + 1) + 1 + part); }
  std::int64_t parts_of(std::int64_t tile) const { return (points_of(tile) + part_rows() - 1) / part_rows(); }
  std::int64_t part_rows() const { return (rows_ + parts - 1) / parts; }

  // Whether test(bounding volume of the point alone, its number) holds for each point of a part of the batch that this
  // was made of.
  template <class Real>
  bool each_point(const Batch&, const Real* bias, std::int64_t tile, std::int64_t part,
                  const std::function<bool(const BoundingVolume&, std::int64_t)>& test) const;

  // The tiles of `others` whose centers are nearest to that of this tile, nearest first, `most` of them at most.
  std::vector<std::int64_t> nearest(std::int64_t tile, const BoundingVolumes& others, std::int64_t most) const;

 private:
  struct Numbers {
    double radius, center_norm, norm, bias;
    bool finite;
  };
  template <class Real>
  void enclose(const Batch& batch, const Real* bias);
  template <class Real>
  void enclose(const Real* points, const Real* bias, std::int64_t count, std::int64_t place);
  BoundingVolume volume(std::int64_t place) const;

  std::int64_t count_, D_, rows_;
  std::vector<double> lines_;  // (volumes, 3, D): low, high, center
  std::vector<Numbers> numbers_;
};

// No pair of these has a larger φ(u); biases come on top. +inf where nothing is known.
double largest_score(const Problem&, const BoundingVolume&, const BoundingVolume&);

}  // namespace jessl
