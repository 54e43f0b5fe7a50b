#include "cpu/skip/bounding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpu/tile/rows.h"
#include "pairwise/score.h"

namespace jessl {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double squared_distance(const double* a, const double* b, std::int64_t D) {
  double square = 0;
  for (std::int64_t d = 0; d < D; ++d) square += (a[d] - b[d]) * (a[d] - b[d]);
  return square;
}

double squared_norm(const double* a, std::int64_t D) {
  double square = 0;
  for (std::int64_t d = 0; d < D; ++d) square += a[d] * a[d];
  return square;
}

}  // namespace

BoundingVolumes::BoundingVolumes(const Problem& p, const Batch& batch, const void* bias, std::int64_t rows)
    : count_(batch.rows),
      D_(batch.columns),
      rows_(rows),
      lines_(tiles() * (parts + 1) * 3 * D_),
      numbers_(tiles() * (parts + 1)) {
  p.wide() ? enclose(batch, static_cast<const double*>(bias)) : enclose(batch, static_cast<const float*>(bias));
}

std::int64_t BoundingVolumes::points_of(std::int64_t tile) const { return std::min(rows_, count_ - tile * rows_); }

template <class Real>
void BoundingVolumes::enclose(const Batch& batch, const Real* bias) {
  std::vector<Real> points(rows_ * D_);
  for (std::int64_t k = 0; k < tiles(); ++k) {
    const std::int64_t first = k * rows_, count = points_of(k), place = k * (parts + 1);
    load_rows<Real>(batch, first, count, nullptr, {points.data(), D_});
    enclose(points.data(), bias ? bias + first : nullptr, count, place);
    for (std::int64_t b = 0; b < parts_of(k); ++b) {
      const std::int64_t from = b * part_rows();
      enclose(points.data() + from * D_, bias ? bias + first + from : nullptr, std::min(part_rows(), count - from),
              place + 1 + b);
    }
  }
}

template <class Real>
void BoundingVolumes::enclose(const Real* points, const Real* bias, std::int64_t count, std::int64_t place) {
  double *low = lines_.data() + place * 3 * D_, *high = low + D_, *center = high + D_;
  std::fill_n(low, D_, infinity);
  std::fill_n(high, D_, -infinity);
  Numbers& n = numbers_[place] = {0, 0, 0, bias ? -infinity : 0, true};
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t d = 0; d < D_; ++d) {
      const double x = points[i * D_ + d];
      low[d] = std::min(low[d], x);
      high[d] = std::max(high[d], x);
      center[d] += x / double(count);
      n.finite = n.finite && std::isfinite(x);
    }
  const auto norm = [&](auto&& coordinate) {
    double square = 0;
    for (std::int64_t d = 0; d < D_; ++d) square += coordinate(d) * coordinate(d);
    return std::sqrt(square);
  };
  n.center_norm = norm([&](std::int64_t d) { return center[d]; });
  for (std::int64_t i = 0; i < count; ++i) {
    const Real* x = points + i * D_;
    n.radius = std::max(n.radius, norm([&](std::int64_t d) { return x[d] - center[d]; }));
    n.norm = std::max(n.norm, norm([&](std::int64_t d) { return double(x[d]); }));
    if (bias) n.bias = std::isnan(bias[i]) ? infinity : std::max(n.bias, double(bias[i]));
  }
}

BoundingVolume BoundingVolumes::volume(std::int64_t place) const {
  const double* low = lines_.data() + place * 3 * D_;
  const Numbers& n = numbers_[place];
  return {low, low + D_, low + 2 * D_, n.radius, n.center_norm, n.norm, n.bias, n.finite};
}

template <class Real>
bool BoundingVolumes::each_point(const Batch& batch, const Real* bias, std::int64_t tile, std::int64_t part,
                                 const std::function<bool(const BoundingVolume&, std::int64_t)>& test) const {
  const std::int64_t from = part * part_rows(), first = tile * rows_ + from,
                     count = std::min(part_rows(), points_of(tile) - from);
  std::vector<Real> point(D_);
  std::vector<double> wide(D_);
  for (std::int64_t i = first; i < first + count; ++i) {
    load_rows<Real>(batch, i, 1, nullptr, {point.data(), D_});
    std::copy(point.begin(), point.end(), wide.begin());
    const double norm = std::sqrt(squared_norm(wide.data(), D_));
    const double* x = wide.data();
    if (!test({x, x, x, 0, norm, norm, bias ? double(bias[i]) : 0, std::isfinite(norm)}, i)) return false;
  }
  return true;
}

template bool BoundingVolumes::each_point(const Batch&, const float*, std::int64_t, std::int64_t,
                                          const std::function<bool(const BoundingVolume&, std::int64_t)>&) const;
template bool BoundingVolumes::each_point(const Batch&, const double*, std::int64_t, std::int64_t,
                                          const std::function<bool(const BoundingVolume&, std::int64_t)>&) const;

std::vector<std::int64_t> BoundingVolumes::nearest(std::int64_t tile, const BoundingVolumes& others,
                                                   std::int64_t most) const {
  std::vector<double> far(others.tiles());
  for (std::int64_t k = 0; k < others.tiles(); ++k) {
    const double square = squared_distance(this->tile(tile).center, others.tile(k).center, D_);
    far[k] = std::isnan(square) ? infinity : square;
  }
  std::vector<std::int64_t> found(others.tiles());
  std::iota(found.begin(), found.end(), 0);
  most = std::min(most, others.tiles());
  std::partial_sort(found.begin(), found.begin() + most, found.end(),
                    [&](std::int64_t a, std::int64_t b) { return far[a] != far[b] ? far[a] < far[b] : a < b; });
  found.resize(most);
  return found;
}

double largest_score(const Problem& p, const BoundingVolume& a, const BoundingVolume& b) {
  if (!a.finite || !b.finite) return infinity;
  double box = 0, centers = 0, inner = 0;
  for (std::int64_t d = 0; d < p.D(); ++d) {
    const double gap = std::max(0.0, std::max(a.low[d] - b.high[d], b.low[d] - a.high[d]));
    const double difference = a.center[d] - b.center[d];
    box += gap * gap;
    centers += difference * difference;
    inner += a.center[d] * b.center[d];
  }
  // At least 0, as the box's is.
  const double apart = std::max(std::sqrt(box), std::sqrt(centers) - a.radius - b.radius);
  if (p.kind == Kind::sqdist) return p.scale < 0 ? infinity : phi_value(p.phi, -p.scale * apart * apart);
  const double swing = a.radius * b.center_norm + b.radius * a.center_norm + a.radius * b.radius;
  double u = p.scale * inner + std::abs(p.scale) * swing;
  if (p.scale > 0) u = std::min(u, p.scale * (a.norm * a.norm + b.norm * b.norm - apart * apart) / 2);
  return phi_value(p.phi, u);
}

}  // namespace jessl
