#include "cpu/skip/bounding.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "cpu/tile/dot.h"
#include "cpu/tile/rows.h"
#include "pairwise/score.h"

namespace jessl {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

BoundingVolumes::BoundingVolumes(const Problem& p, const Batch& batch, const void* bias, std::int64_t group)
    : count_(batch.rows),
      D_(batch.columns),
      group_(group),
      lines_((count_ + group - 1) / group * 3 * D_),
      numbers_((count_ + group - 1) / group) {
  p.wide() ? enclose(batch, static_cast<const double*>(bias)) : enclose(batch, static_cast<const float*>(bias));
}

template <class Real>
void BoundingVolumes::enclose(const Batch& batch, const Real* bias) {
  std::vector<Real> points(group_ * D_);
  for (std::int64_t k = 0; k < groups(); ++k) {
    const std::int64_t first = k * group_, count = points_of(k);
    load_rows<Real>(batch, first, count, nullptr, {points.data(), D_});
    double *low = lines_.data() + k * 3 * D_, *high = low + D_, *center = high + D_;
    std::fill_n(low, D_, infinity);
    std::fill_n(high, D_, -infinity);
    Numbers& n = numbers_[k];
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t d = 0; d < D_; ++d) {
        const double x = points[i * D_ + d];
        low[d] = std::min(low[d], x);
        high[d] = std::max(high[d], x);
        center[d] += x / double(count);
        n.finite = n.finite && std::isfinite(x);
      }
    n.center_norm = std::sqrt(dot(center, center, D_));
    if (bias) n.bias = -infinity;
    for (std::int64_t i = 0; i < count; ++i) {
      const Real* x = points.data() + i * D_;
      n.radius = std::max(n.radius, std::sqrt(squared_distance(x, center, D_)));
      n.norm = std::max(n.norm, std::sqrt(dot(x, x, D_)));
      if (bias) n.bias = std::isnan(bias[first + i]) ? infinity : std::max(n.bias, double(bias[first + i]));
    }
  }
}

BoundingVolume BoundingVolumes::operator[](std::int64_t k) const {
  const double* low = lines_.data() + k * 3 * D_;
  const Numbers& n = numbers_[k];
  return {low, low + D_, low + 2 * D_, n.radius, n.center_norm, n.norm, n.bias, n.finite};
}

std::vector<std::int64_t> BoundingVolumes::nearest(std::int64_t k, const BoundingVolumes& others,
                                                   std::int64_t most) const {
  std::vector<double> far(others.groups());
  for (std::int64_t other = 0; other < others.groups(); ++other) {
    const double square = squared_distance((*this)[k].center, others[other].center, D_);
    far[other] = std::isnan(square) ? infinity : square;
  }
  std::vector<std::int64_t> found(others.groups());
  std::iota(found.begin(), found.end(), 0);
  most = std::min(most, others.groups());
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
  // At least 0, because the box's distance is.
  const double apart = std::max(std::sqrt(box), std::sqrt(centers) - a.radius - b.radius);
  if (p.compact()) {
    // By more than the rounding of u beyond the edge of the support: no pair that the tile would count is lost.
    const double epsilon = p.wide() ? 1e-13 : 1.2e-7;  // the balls' distance is a difference, rounded in fp64
    return phi_value(p.phi, -p.scale * apart * apart * (1 - double(p.D() + 8) * epsilon));
  }
  if (p.kind == Kind::sqdist) return p.scale < 0 ? infinity : phi_value(p.phi, -p.scale * apart * apart);
  const double swing = a.radius * b.center_norm + b.radius * a.center_norm + a.radius * b.radius;
  double u = p.scale * inner + std::abs(p.scale) * swing;
  if (p.scale > 0) u = std::min(u, p.scale * (a.norm * a.norm + b.norm * b.norm - apart * apart) / 2);
  return phi_value(p.phi, u);
}

}  // namespace jessl
