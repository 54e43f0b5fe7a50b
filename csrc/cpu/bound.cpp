#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/passes.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"

namespace jessl {
namespace {

template <class Real>
double largest_norm(const Batch& batch, const Real* center) {
  constexpr std::int64_t block = 64;
  const std::int64_t ld = padded<Real>(batch.columns);
  Scratch memory(Scratch::size_of<Real>(block * ld));
  const Rows<Real> rows{memory.take<Real>(block * ld), ld};
  Real most = 0;
  for (std::int64_t first = 0; first < batch.rows; first += block) {
    const std::int64_t count = std::min(block, batch.rows - first);
    load_rows<Real>(batch, first, count, center, rows);
    for (std::int64_t i = 0; i < count; ++i) {
      Real parts[16] = {};  // side by side, so that the compiler can use vectors
      for (std::int64_t d = 0; d < ld; d += 16)
        for (std::int64_t k = 0; k < 16 && d + k < ld; ++k) parts[k] += rows.data[i * ld + d + k] * rows.data[i * ld + d + k];
      Real square = 0;
      for (const Real part : parts) square += part;
      if (!(square <= most)) most = square;  // a NaN stays
      if (std::isnan(square)) return square;
    }
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
bool common_power(const Problem& p, Real* power) {
  if (p.phi.name != PhiName::identity) return false;
  constexpr double spread = 60;  // e^{−60} = 9e-27 is far from the smallest float, 1e-38
  double row_low = 0, row_high = 0, col_low = 0, col_high = 0;
  if (!range<Real>(p.row_bias, p.N(), &row_low, &row_high) || !range<Real>(p.col_bias, p.M(), &col_low, &col_high)) return false;
  const Real* center = static_cast<const Real*>(p.center);
  const double x = largest_norm<Real>(p.x, center), y = same_rows(p.x, p.y) ? x : largest_norm<Real>(p.y, center);
  // |⟨x, y⟩| ≤ ‖x‖‖y‖, and 0 ≤ ‖x − y‖² ≤ (‖x‖ + ‖y‖)².
  const double most = std::abs(p.scale) * (p.kind == Kind::dot ? x * y : (x + y) * (x + y));
  const double low = p.kind == Kind::dot || p.scale > 0 ? -most : 0, high = p.kind == Kind::dot || p.scale < 0 ? most : 0;
  if (!((high - low) + (row_high - row_low) + (col_high - col_low) <= spread)) return false;
  *power = Real(std::ceil((high + row_high + col_high) / log_2));
  return true;
}

template bool common_power<float>(const Problem&, float*);
template bool common_power<double>(const Problem&, double*);

}  // namespace jessl
