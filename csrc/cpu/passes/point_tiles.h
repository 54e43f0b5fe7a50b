// Points in the order of the leaves of a k-d tree, `near_rows` to a tile, and the box of each tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cpu/passes/neighbours.h"
#include "cpu/scratch.h"

namespace jessl {

class PointTiles {
 public:
  PointTiles(const Points& points, const Interrupted& interrupted)
      : N_(points.N),
        D_(points.D),
        tiles_((N_ + near_rows - 1) / near_rows),
        number_(N_),
        memory_(Scratch::size_of<double>(N_ * D_)),
        rows_(memory_.take<double>(N_ * D_)),
        boxes_(tiles_ * 2 * D_) {
    std::iota(number_.begin(), number_.end(), 0);
    std::vector<double> box(2 * D_);
    split(points.data, 0, N_, box.data(), interrupted);
    for (std::int64_t i = 0; i < N_; ++i) std::copy_n(points.data + number_[i] * D_, D_, rows_ + i * D_);
    for (std::int64_t t = 0; t < tiles_; ++t) enclose(points.data, t * near_rows, t * near_rows + count(t), box_of(t));
  }

  std::int64_t tiles() const { return tiles_; }
  std::int64_t D() const { return D_; }
  // The number of the i-th point among those given.
  std::int64_t number(std::int64_t i) const { return number_[i]; }
  NearTile operator[](std::int64_t t) const { return {t * near_rows, count(t), rows_ + t * near_rows * D_}; }

  // No pair of two tiles has a smaller distance (a square, if Euclidean). Rounding keeps the order of differences, and
  // for sums of squares a little is taken off.
  double gap(Norm norm, std::int64_t s, std::int64_t t) const {
    const double *low = box_of(s), *high = low + D_, *other_low = box_of(t), *other_high = other_low + D_;
    double most = 0, sum = 0;
    for (std::int64_t d = 0; d < D_; ++d) {
      const double apart = std::max({other_low[d] - high[d], low[d] - other_high[d], 0.0});
      most = std::max(most, apart);
      sum += apart * apart;
    }
    return norm == Norm::max ? most : sum * (1 - 1e-9);
  }

 private:
  std::int64_t count(std::int64_t t) const { return std::min(near_rows, N_ - t * near_rows); }
  double* box_of(std::int64_t t) { return boxes_.data() + t * 2 * D_; }
  const double* box_of(std::int64_t t) const { return boxes_.data() + t * 2 * D_; }

  // Halves points [begin, end), whole tiles on the left, across the longest side of their box.
  void split(const double* points, std::int64_t begin, std::int64_t end, double* box, const Interrupted& interrupted) {
    if (end - begin <= near_rows) return;
    if (end - begin > often && interrupted && interrupted()) throw Stopped{};
    enclose(points, begin, end, box);
    std::int64_t longest = 0;
    for (std::int64_t d = 1; d < D_; ++d)
      if (box[D_ + d] - box[d] > box[D_ + longest] - box[longest]) longest = d;
    const std::int64_t middle = begin + (end - begin + near_rows - 1) / near_rows / 2 * near_rows;
    const auto before = [key = points + longest, D = D_](std::int64_t i, std::int64_t j) {
      return key[i * D] != key[j * D] ? key[i * D] < key[j * D] : i < j;
    };
    std::nth_element(&number_[begin], &number_[middle], &number_[0] + end, before);
    split(points, begin, middle, box, interrupted);
    split(points, middle, end, box, interrupted);
  }

  // The least and the largest coordinates of points [begin, end), (2, D).
  void enclose(const double* points, std::int64_t begin, std::int64_t end, double* box) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const double* const point = points + number_[i] * D_;
      for (std::int64_t d = 0; d < D_; ++d) {
        box[d] = i == begin ? point[d] : std::min(box[d], point[d]);
        box[D_ + d] = i == begin ? point[d] : std::max(box[D_ + d], point[d]);
      }
    }
  }

  static constexpr std::int64_t often = 1 << 16;  // points between two checks whether to stop
  const std::int64_t N_, D_, tiles_;
  std::vector<std::int64_t> number_;
  Scratch memory_;
  double* const rows_;
  std::vector<double> boxes_;  // (tiles, 2, D)
};

}  // namespace jessl
