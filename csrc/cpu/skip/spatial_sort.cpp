#include "cpu/skip/skipping.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "cpu/scratch.h"
#include "cpu/tile/rows.h"
#include "cpu/tile/tile.h"

namespace jessl {
namespace {

// Halving cuts through clusters, and gathering does not; but gathering takes a distance per point and tile.
constexpr std::int64_t most_gathered = 128 * most_rows, smallest_part = most_rows / 16;

constexpr std::int64_t often = 1 << 16;  // points between two checks whether to stop

template <class Real>
class SpatialSort {
 public:
  SpatialSort(const Batch& batch, std::int64_t* permutation, const Interrupted& interrupted, bool boxes)
      : boxes_(boxes),
        D_(batch.columns),
        memory_(Scratch::size_of<Real>(batch.rows * D_)),
        points_(memory_.take<Real>(batch.rows * D_)),
        key_(batch.rows),
        permutation_(permutation),
        interrupted_(interrupted) {
    for (std::int64_t first = 0; first < batch.rows; first += often) {
      stop_if_asked();
      load_rows<Real>(batch, first, std::min(often, batch.rows - first), nullptr, {points_ + first * D_, D_});
    }
    std::iota(permutation, permutation + batch.rows, 0);
  }

  void split(std::int64_t begin, std::int64_t end) {
    if (!boxes_ && end - begin > most_rows && end - begin <= most_gathered) return gather(begin, end);
    std::int64_t step = most_rows;
    while (end - begin <= step && step > smallest_part) step /= 2;
    if (end - begin <= step) return;
    const std::int64_t middle = begin + std::max(step, (end - begin + step) / 2 / step * step);
    boxes_ ? take_longest_side(begin, end) : project(begin, end);
    smallest_first(begin, middle, end);
    split(begin, middle);
    split(middle, end);
  }

 private:
  // Gathers tile after tile: the points nearest to one point, then those nearest to the nearest remaining point.
  void gather(std::int64_t begin, std::int64_t end) {
    for (; end - begin > most_rows; begin += most_rows) {
      stop_if_asked();
      const Real* from = point(permutation_[begin]);
      for (std::int64_t k = begin; k < end; ++k)
        key_[permutation_[k]] = sortable(square_between(from, point(permutation_[k])));
      smallest_first(begin, begin + most_rows, end);
      split(begin, begin + most_rows);
    }
    split(begin, end);
  }

  void smallest_first(std::int64_t begin, std::int64_t middle, std::int64_t end) {
    std::nth_element(permutation_ + begin, permutation_ + middle, permutation_ + end,
                     [&](std::int64_t i, std::int64_t j) { return key_[i] != key_[j] ? key_[i] < key_[j] : i < j; });
  }

  void stop_if_asked() const {
    if (interrupted_ && interrupted_()) throw Stopped{};
  }

  // NaN comes last, because comparisons must be an order.
  static Real sortable(Real key) { return std::isnan(key) ? std::numeric_limits<Real>::infinity() : key; }

  Real square_between(const Real* a, const Real* b) const {
    Real square = 0;
    for (std::int64_t d = 0; d < D_; ++d) square += (a[d] - b[d]) * (a[d] - b[d]);
    return square;
  }

  const Real* point(std::int64_t i) const { return points_ + i * D_; }

  // The point of [begin, end) that is farthest from point `from`.
  std::int64_t farthest(std::int64_t begin, std::int64_t end, std::int64_t from) const {
    std::int64_t found = from;
    Real most = 0;
    for (std::int64_t k = begin; k < end; ++k) {
      if (k % often == 0) stop_if_asked();
      const Real square = square_between(point(from), point(permutation_[k]));
      if (square > most) most = square, found = permutation_[k];
    }
    return found;
  }

  // Keys are positions along the line between two distant points.
  void project(std::int64_t begin, std::int64_t end) {
    const std::int64_t one = farthest(begin, end, permutation_[begin]), other = farthest(begin, end, one);
    std::vector<Real> direction(D_);
    for (std::int64_t d = 0; d < D_; ++d) direction[d] = point(other)[d] - point(one)[d];
    for (std::int64_t k = begin; k < end; ++k) {
      if (k % often == 0) stop_if_asked();
      const Real* x = point(permutation_[k]);
      Real key = 0;
      for (std::int64_t d = 0; d < D_; ++d) key += direction[d] * x[d];
      key_[permutation_[k]] = sortable(key);
    }
  }

  // Keys are the coordinates along the longest side of the points' box.
  void take_longest_side(std::int64_t begin, std::int64_t end) {
    stop_if_asked();
    std::vector<Real> low(D_, std::numeric_limits<Real>::infinity()), high(D_, -std::numeric_limits<Real>::infinity());
    for (std::int64_t k = begin; k < end; ++k) {
      const Real* x = point(permutation_[k]);
      for (std::int64_t d = 0; d < D_; ++d) low[d] = std::min(low[d], x[d]), high[d] = std::max(high[d], x[d]);
    }
    std::int64_t longest = 0;
    for (std::int64_t d = 1; d < D_; ++d)
      if (high[d] - low[d] > high[longest] - low[longest]) longest = d;
    for (std::int64_t k = begin; k < end; ++k) key_[permutation_[k]] = sortable(point(permutation_[k])[longest]);
  }

  const bool boxes_;
  const std::int64_t D_;
  Scratch memory_;
  Real* const points_;
  std::vector<Real> key_;
  std::int64_t* const permutation_;
  const Interrupted& interrupted_;
};

}  // namespace

void spatial_sort(const Batch& batch, std::int64_t* permutation, const Interrupted& interrupted, bool boxes) {
  if (batch.element == Element::f64)
    SpatialSort<double>(batch, permutation, interrupted, boxes).split(0, batch.rows);
  else
    SpatialSort<float>(batch, permutation, interrupted, boxes).split(0, batch.rows);
}

}  // namespace jessl
