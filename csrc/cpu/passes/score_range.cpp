#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/passes/passes.h"
#include "cpu/passes/softmax_weights.h"
#include "cpu/scratch.h"
#include "cpu/tile/rows.h"

namespace jessl {
namespace {

template <class Real>
double largest_norm(const Batch& batch, const Real* center) {
  const std::int64_t D = batch.columns, ld = padded<Real>(D);
  Scratch memory(Scratch::size_of<Real>(ld));
  const Rows<Real> place{memory.take<Real>(ld), ld};
  Real most = 0;
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    const Real* row = center ? nullptr : row_in_place<Real>(batch, i);
    if (!row) {
      load_rows<Real>(batch, i, 1, center, place);
      row = place.data;
    }
    Real parts[16] = {}, square = 0;  // side by side, so that the compiler can use vectors
    std::int64_t d = 0;
    for (; d + 16 <= D; d += 16)
      for (std::int64_t k = 0; k < 16; ++k) parts[k] += row[d + k] * row[d + k];
    for (; d < D; ++d) square += row[d] * row[d];
    for (const Real part : parts) square += part;
    if (!(square <= most)) most = square;  // a NaN stays
    if (std::isnan(square)) return square;
  }
  return std::sqrt(double(most));
}

// The smallest and largest finite number of a bias; those of −inf exclude.
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
std::optional<Real> common_power(const Problem& p) {
  if (p.phi.name != PhiName::identity) return {};
  constexpr double max_range = 60;  // e^{−60} = 9e-27 is far from the smallest float, 1e-38
  double row_low = 0, row_high = 0, col_low = 0, col_high = 0;
  if (!range<Real>(p.row_bias, p.N(), &row_low, &row_high) || !range<Real>(p.col_bias, p.M(), &col_low, &col_high))
    return {};
  const Real* center = static_cast<const Real*>(p.center);
  const auto norm_of = [center](const Batch& batch) {
    return batch.normalized && !center ? 1 : largest_norm<Real>(batch, center);
  };
  const double x = norm_of(p.x), y = same_rows(p.x, p.y) ? x : norm_of(p.y);
  // |⟨x, y⟩| ≤ ‖x‖‖y‖, and 0 ≤ ‖x − y‖² ≤ (‖x‖ + ‖y‖)².
  const double most = std::abs(p.scale) * (p.kind == Kind::dot ? x * y : (x + y) * (x + y));
  const double low = p.kind == Kind::dot || p.scale > 0 ? -most : 0,
               high = p.kind == Kind::dot || p.scale < 0 ? most : 0;
  if (!((high - low) + (row_high - row_low) + (col_high - col_low) <= max_range)) return {};
  if (std::abs(low + row_low + col_low) > largest_from_powers ||
      std::abs(high + row_high + col_high) > largest_from_powers)
    return {};
  return Real(std::ceil((high + row_high + col_high) / log_2));
}

template std::optional<float> common_power<float>(const Problem&);
template std::optional<double> common_power<double>(const Problem&);

}  // namespace jessl
