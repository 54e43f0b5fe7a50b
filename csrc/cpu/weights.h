// What multiplies exponentials to give the gradient of a log-sum-exp:
//
//   g_i e^{s_ij − L_i} = factor_i · e^{s_ij} / e^{unit·from_i}
//
// made once for each row and column. Rows whose sums are at hand, z_i measured from m_i, get g_i / z_i: no L_i is rounded on
// the way. For a sum of ψ the factor is g_i itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/driver.h"
#include "cpu/running.h"
#include "cpu/tile.h"

namespace jessl {

// Scores up to here are measured from powers of 2; of a larger one the product with log2 e has no exact whole part, and e^s is
// measured from a score of its size, which near it is exact again.
inline constexpr double largest_from_powers = 1000;

template <class Real>
class Weights {
 public:
  explicit Weights(std::int64_t n) : from_(n), factor_(n) {}

  // Upstream gradients g of rows whose L is known, rounded.
  void add(const Upstream<Real>& side, bool powers) {
    for (std::size_t i = 0; i < from_.size(); ++i) {
      if (!side.lse) {
        factor_[i] += side.gradient[i];
        continue;
      }
      const double L = double(side.lse[i]);
      if (L == -std::numeric_limits<double>::infinity()) continue;  // no pair: scores of −inf, and weights of 0
      place(i, L, powers);
      // L = +inf: weights of 0 where scores are finite, NaN where they are not, as e^{s − L} has it.
      const double moved = std::isinf(L) ? 1 : std::exp(double(measured_from(i, powers) - L));
      factor_[i] += Real(double(side.gradient[i]) * moved);
    }
  }

  // Constant weights w of log(1 + e^{L − anchor}), or of L where there is no anchor, for rows whose sums are known:
  // w σ(L − anchor) / z.
  void add(const Weighted<Real>& side, const Running& sums, bool powers) {
    for (std::size_t i = 0; i < from_.size(); ++i) {
      double z = sums.z[i];
      if (z == 0) continue;
      place(i, sums.m[i], powers);
      // How far the rounding of m to Real, or to a power, has moved it: a sum that began among scores beyond the powers may be
      // measured from a maximum although all are small now. A power stands for itself, though m rounds its product with log 2.
      const bool is_power = powers && sums.m[i] == double(from_[i]) * log_2;
      const long double moved = is_power ? 0 : measured_from(i, powers) - sums.m[i];
      if (powers && std::isfinite(z)) {
        // m may be the power of another row, or of another tile, far above L_i. What a weight is measured from must not be:
        // whether one exponential can serve several rows is judged by it.
        const int far = std::ilogb(z);
        from_[i] += Real(far);
        z = std::ldexp(z, -far);
      }
      const long double own = measured_from(i, powers);
      const double share = side.anchor ? 1 / (1 + double(exponential(side.anchor[i] - own + moved)) / z) : 1;
      factor_[i] += Real(double(side.weight[i]) * share * (moved == 0 ? 1 : double(exponential(moved))) / z);
    }
  }

  SideWeights<Real> at(std::int64_t first) const { return {from_.data() + first, factor_.data() + first}; }

 private:
  // In fp64 longer than a double; a float needs no more than one, at a tenth of the time.
  static long double exponential(long double x) { return sizeof(Real) == sizeof(float) ? std::exp(double(x)) : std::exp(x); }
  void place(std::int64_t i, double value, bool powers) { from_[i] = Real(powers ? std::round(value / log_2) : value); }
  // Longer than a double, whose rounding of a large L's neighbour would show in fp64.
  long double measured_from(std::int64_t i, bool powers) const { return (powers ? log_2_long : 1) * (long double)from_[i]; }

  std::vector<Real> from_, factor_;
};

// Whether powers of 2 will do for all of these.
template <class Values>
bool powers_suffice(const Values* values, std::int64_t n) {
  return std::all_of(values, values + n, [](double v) { return !std::isfinite(v) || std::abs(v) <= largest_from_powers; });
}

}  // namespace jessl
