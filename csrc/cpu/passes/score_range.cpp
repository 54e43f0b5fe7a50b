#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/passes/passes.h"
#include "cpu/passes/softmax_weights.h"
#include "cpu/tile/normalize.h"

namespace jessl {
namespace {

double larger(double a, double b) { return std::isnan(a) || b <= a ? a : b; }  // NaN if either is

// The largest squared distance of a row from the center; null for 0.
template <class Real>
double largest_square(const Batch& batch, const Real* center, const Options& options) {
  const RowReader<Real> reader(batch, options.threads);
  std::vector<double> of_thread(options.threads);
  for_rows(batch.rows, batch.columns, options, [&](std::int64_t first, std::int64_t end, int thread) {
    for (std::int64_t i = first; i < end; ++i) {
      const Real* x = reader.row(i, thread);
      const double square = center ? squared_distance(x, center, batch.columns) : dot(x, x, batch.columns);
      of_thread[thread] = larger(of_thread[thread], square);
    }
  });
  double most = 0;
  for (const double square : of_thread) most = larger(most, square);
  return most;
}

// The smallest and largest finite number of a bias; entries of −inf exclude and are ignored.
template <class Real>
bool range(const void* bias, std::int64_t n, double* low, double* high) {
  if (!bias) return true;
  const Real* b = static_cast<const Real*>(bias);
  *low = std::numeric_limits<double>::infinity();
  *high = -*low;
  for (std::int64_t i = 0; i < n; ++i) {
    if (b[i] == -std::numeric_limits<Real>::infinity()) continue;
    if (!std::isfinite(b[i])) return false;
    *low = std::min(*low, double(b[i]));
    *high = std::max(*high, double(b[i]));
  }
  return *low <= *high;
}

}  // namespace

template <class Real>
double squared_radius(const Batch& x, const Batch& y, const Options& options, Real* center) {
  std::vector<double> sum(x.columns);
  const RowReader<Real> reader(y, 1);
  for (std::int64_t j = 0; j < y.rows; ++j) {
    const Real* row = reader.row(j, 0);
    for (std::int64_t d = 0; d < x.columns; ++d) sum[d] += row[d];
  }
  for (std::int64_t d = 0; d < x.columns; ++d) center[d] = Real(sum[d] / double(y.rows));
  const double most = largest_square(x, center, options);
  return same_rows(x, y) ? most : larger(most, largest_square(y, center, options));
}

template <class Real>
std::optional<Real> common_power(const Problem& p, const Options& options) {
  if (p.phi.name != PhiName::identity && !p.compact()) return {};
  constexpr double max_range = 60;  // e^{−60} = 9e-27 is far from the smallest float, 1e-38
  double row_low = 0, row_high = 0, col_low = 0, col_high = 0;
  if (!range<Real>(p.row_bias, p.N(), &row_low, &row_high) || !range<Real>(p.col_bias, p.M(), &col_low, &col_high))
    return {};
  const Real* center = static_cast<const Real*>(p.center);
  const auto norm_of = [&](const Batch& batch) {
    return batch.normalized && !center ? 1 : std::sqrt(largest_square<Real>(batch, center, options));
  };
  const double x = p.compact() ? 0 : norm_of(p.x), y = p.compact() || same_rows(p.x, p.y) ? x : norm_of(p.y);
  // |⟨x, y⟩| ≤ ‖x‖‖y‖, and 0 ≤ ‖x − y‖² ≤ (‖x‖ + ‖y‖)².
  const double most = std::abs(p.scale) * (p.kind == Kind::dot ? x * y : (x + y) * (x + y));
  // Of a compact φ e^φ is at most 1, and inside the support not below the rounding of 1.
  const double low = p.compact()                          ? -40
                     : p.kind == Kind::dot || p.scale > 0 ? -most
                                                          : 0,
               high = !p.compact() && (p.kind == Kind::dot || p.scale < 0) ? most : 0;
  if (!((high - low) + (row_high - row_low) + (col_high - col_low) <= max_range)) return {};
  if (std::abs(low + row_low + col_low) > largest_from_powers ||
      std::abs(high + row_high + col_high) > largest_from_powers)
    return {};
  return Real(std::ceil((high + row_high + col_high) / log_2));
}

template double squared_radius<float>(const Batch&, const Batch&, const Options&, float*);
template double squared_radius<double>(const Batch&, const Batch&, const Options&, double*);
template std::optional<float> common_power<float>(const Problem&, const Options&);
template std::optional<double> common_power<double>(const Problem&, const Options&);

}  // namespace jessl
