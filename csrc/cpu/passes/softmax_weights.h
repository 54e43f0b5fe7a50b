// The factors that turn exponentials into the gradient of a log-sum-exp:
//
//   g_i e^{s_ij − L_i} = factor_i · e^{s_ij} / e^{log_base·from_i}
//
// made once for each row and column. The factor is g_i / z_i, for the sum z_i measured from m_i, so that no L_i is
// rounded on the way. For a sum of ψ the factor is g_i itself. The upstream gradient b_i of a row's spread adds
// b_i (e^{s_ij − L_i} − 1/n_i) in rows with more than one score: a single score is its own mean.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/tile/sums.h"
#include "cpu/tile/tile.h"

namespace jessl {

// Scores up to here are measured from powers of 2. The product of a larger score with log2 e has no exact whole part;
// then e^s is measured from a score of similar size, and the difference is exact.
inline constexpr double largest_from_powers = 1000;

// Whether powers of 2 suit all of these.
inline bool powers_suffice(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](double v) { return !std::isfinite(v) || std::abs(v) <= largest_from_powers; });
}

// The weights of one side, for one tilt.
template <class Real>
class SoftmaxWeights {
 public:
  SoftmaxWeights(std::int64_t n, bool powers) : powers_(powers), from_(n), factor_(n) {}

  // Slopes at sums of ψ.
  void add(const std::vector<double>& slope, double tilt) {
    for (std::size_t i = 0; i < factor_.size(); ++i) factor_[i] += Real(slope[i] * tilt);
  }

  // Slopes at log-sum-exps and, unless `spread` is null, at their spreads above the mean of `count` scores.
  void add(const OnlineLse& sums, const double* slope, double tilt, const double* spread = nullptr,
           const double* count = nullptr) {
    if (spread) spread_.resize(from_.size()), mean_.resize(from_.size());
    for (std::size_t i = 0; i < from_.size(); ++i) {
      double z = sums.z[i];
      if (z == 0) continue;
      Real from = Real(powers_ ? std::round(sums.m[i] / log_2) : sums.m[i]);
      // The change of m by its rounding to Real or to a power. A sum that began with scores beyond the powers may be
      // measured from a maximum although all scores are small now. A power is exact, though m rounds power · log 2.
      const bool is_power = powers_ && sums.m[i] == double(from) * log_2;
      const long double moved = is_power ? 0 : measured(from) - (long double)sums.m[i];
      double unit = moved == 0 ? 1 : double(exponential(moved));
      if (powers_ && std::isfinite(z)) {
        // m may be the power of another row or tile, far above L_i. The reference of a weight must not be: it decides
        // whether one exponential can serve several rows.
        const int far = std::ilogb(z);
        from += Real(far);
        z = std::ldexp(z, -far);
      }
      unit *= own_share(i, from) / z;
      factor_[i] += Real(slope[i] * tilt * unit);
      if (!spread || !(count[i] > 1)) continue;
      spread_[i] += Real(spread[i] * unit);
      mean_[i] += Real(spread[i] / count[i]);
    }
  }

  double log_base() const { return powers_ ? log_2 : 1; }
  SoftmaxSide<Real> at(std::int64_t first) const {
    const auto line = [first](const std::vector<Real>& v) { return v.empty() ? nullptr : v.data() + first; };
    return {line(from_), line(factor_), line(spread_), line(mean_)};
  }

 private:
  // fp64 needs more digits than a double; a float needs only a double, at a tenth of the time.
  static long double exponential(long double x) {
    return sizeof(Real) == sizeof(float) ? std::exp(double(x)) : std::exp(x);
  }
  // More digits than a double, whose rounding near a large L would show in fp64.
  long double measured(Real from) const { return (powers_ ? log_2_long : 1) * (long double)from; }

  // In a symmetric problem a row's weights may be followed by its weights as a column, with another reference. Both are
  // brought to the lower reference. Returns the factor for the later ones.
  double own_share(std::size_t i, Real from) {
    const bool first = factor_[i] == 0 && (spread_.empty() || spread_[i] == 0);
    if (first || from == from_[i]) {
      from_[i] = from;
      return 1;
    }
    if (from_[i] < from) return double(exponential(measured(from_[i]) - measured(from)));
    const Real share = Real(exponential(measured(from) - measured(from_[i])));
    factor_[i] *= share;
    if (!spread_.empty()) spread_[i] *= share;
    from_[i] = from;
    return 1;
  }

  bool powers_;
  std::vector<Real> from_, factor_, spread_, mean_;
};

// The weights of a whole sweep: of rows and of columns, for each tilt. In a symmetric problem the rows' weights hold
// both sides, because s_ij is s_ji; columns are then empty, as they are if only rows have sums.
template <class Real>
struct SweepWeights {
  std::vector<SoftmaxWeights<Real>> rows, columns;
  bool symmetric = false;

  SweepWeights() = default;
  // The columns' sums may be empty.
  SweepWeights(const Problem& p, const Terms& terms, const SideSums& row, const SideSlopes& row_slopes,
               const SideSums& col, const SideSlopes& col_slopes)
      : symmetric(p.symmetric) {
    const bool exponentials = terms.op == Op::logsumexp, cols = !col_slopes.empty();
    for (std::size_t k = 0; k < terms.tilts.size(); ++k) {
      const bool powers =
          !exponentials || (powers_suffice(row.of_tilt[k].m) && (!cols || powers_suffice(col.of_tilt[k].m)));
      rows.emplace_back(p.N(), powers);
      if (cols && !symmetric) columns.emplace_back(p.M(), powers);
      const auto add = [&](SoftmaxWeights<Real>& to, const SideSums& sums, const SideSlopes& slopes) {
        if (!exponentials) return to.add(slopes.of_tilt[k], terms.tilts[k]);
        const bool spread = !slopes.spread.empty() && k == 0;
        to.add(sums.of_tilt[k], slopes.of_tilt[k].data(), terms.tilts[k], spread ? slopes.spread.data() : nullptr,
               sums.count.data());
      };
      add(rows[k], row, row_slopes);
      if (cols) add(symmetric ? rows[k] : columns[k], col, col_slopes);
    }
  }

  SoftmaxSide<Real> of_rows(std::size_t tilt, std::int64_t first) const { return rows[tilt].at(first); }
  SoftmaxSide<Real> of_columns(std::size_t tilt, std::int64_t first) const {
    if (symmetric) return rows[tilt].at(first);
    return columns.empty() ? SoftmaxSide<Real>{} : columns[tilt].at(first);
  }
  bool has_columns() const { return symmetric || !columns.empty(); }
};

}  // namespace jessl
