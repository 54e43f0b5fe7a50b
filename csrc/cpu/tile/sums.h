// The sums that a sweep over the pairs makes tile by tile, the upstream gradients of these sums, and the gradients of
// the problem's arguments.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu/tile/tile.h"

namespace jessl {

// The type for arithmetic on a row's sums: more digits than the sums have, because much of it is differences.
template <class Real>
using Wide = std::conditional_t<sizeof(Real) == sizeof(float), double, long double>;

// Sums z = Σ e^s / e^m, each with an m of its own; or sums of ψ, where m is 0.
struct OnlineLse {
  std::vector<double> m, z;
  explicit OnlineLse(std::int64_t n) : m(n), z(n) {}
  static constexpr std::int64_t bytes(std::int64_t n) { return 2 * n * std::int64_t(sizeof(double)); }
  void clear() {
    std::fill(m.begin(), m.end(), 0);
    std::fill(z.begin(), z.end(), 0);
  }

  // Adds n sums; the i-th belongs to place first + i and is measured from log_base·from[i].
  template <class Real>
  void merge(std::int64_t first, std::int64_t n, const Real* from, double log_base, const Real* total) {
    double *const own_m = m.data() + first, *const own_z = z.data() + first;
    bool together = true;  // the usual case, a loop without branches
    for (std::int64_t i = 0; i < n; ++i) together &= own_m[i] == log_base * double(from[i]);
    if (together) {
      for (std::int64_t i = 0; i < n; ++i) own_z[i] += double(total[i]);
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) take_in(own_m[i], own_z[i], log_base * double(from[i]), double(total[i]));
  }
  // m in enough digits: a double is too short for a power of 2 times log 2.
  template <class Real>
  Wide<Real> measured_from(std::int64_t i) const {
    if constexpr (sizeof(Real) == sizeof(float)) return m[i];
    const double power = std::round(m[i] / log_2);
    const bool is_power = std::abs(m[i]) < 1024 && m[i] == power * log_2;  // beyond, m is a maximum (absorb.h)
    return is_power ? (long double)power * log_2_long : (long double)m[i];
  }
  template <class Real>
  Wide<Real> log_sum_exp(std::int64_t i) const {
    return (z[i] == 1 ? 0 : std::log(Wide<Real>(z[i]))) + measured_from<Real>(i);
  }
  // Adds one more, total · e^from.
  void add(std::int64_t i, double from, double total) { take_in(m[i], z[i], from, total); }

 private:
  static void take_in(double& m, double& z, double from, double more) {
    if (z == 0) {  // nothing yet
      m = from;
      z = more;
    } else if (from == m) {
      z += more;
    } else if (more != 0) {
      double& less = from < m ? more : z;
      if (!std::isinf(less)) less *= std::exp(-std::abs(from - m));  // the factor may be 0: infinity · 0 is NaN
      z += more;
      m = std::max(m, from);
    }
  }
};

// The sums of a problem's rows, of some of them, or of its columns.
struct SideSums {
  std::vector<OnlineLse> of_tilt;
  std::vector<double> linear, count;  // Σ s of the included pairs, and their number; empty unless requested

  SideSums() = default;
  SideSums(const Terms& terms, std::int64_t n)
      : of_tilt(terms.tilts.size(), OnlineLse(n)), linear(terms.linear ? n : 0), count(terms.linear ? n : 0) {}
  static std::int64_t bytes(const Terms& terms, std::int64_t n) {
    return std::int64_t(terms.tilts.size()) * OnlineLse::bytes(n) + (terms.linear ? OnlineLse::bytes(n) : 0);
  }
  bool empty() const { return of_tilt.empty(); }

  void clear() {
    for (OnlineLse& sums : of_tilt) sums.clear();
    std::fill(linear.begin(), linear.end(), 0);
    std::fill(count.begin(), count.end(), 0);
  }
  // Adds the first n sums of `more`, at places from `first` on.
  void merge(std::int64_t first, std::int64_t n, const SideSums& more) {
    for (std::size_t k = 0; k < of_tilt.size(); ++k)
      of_tilt[k].merge(first, n, more.of_tilt[k].m.data(), 1.0, more.of_tilt[k].z.data());
    if (!linear.empty()) merge_linear(first, n, more.linear.data(), more.count.data());
  }
  template <class Real>
  void merge_linear(std::int64_t first, std::int64_t n, const Real* sums, const Real* counts) {
    for (std::int64_t i = 0; i < n; ++i) linear[first + i] += double(sums[i]);
    for (std::int64_t i = 0; i < n; ++i) count[first + i] += double(counts[i]);
  }
};

// Both sides of a sweep. In a symmetric problem the rows' sums are the columns' sums.
struct Sums {
  SideSums rows, columns;

  SideSums& of(bool cols) { return cols ? columns : rows; }
};

// Upstream gradients of one side's sums: of each log-sum-exp or sum of ψ; and of the spread, by which the first of
// these exceeds the mean of its scores, empty for 0.
struct SideSlopes {
  std::vector<std::vector<double>> of_tilt;
  std::vector<double> spread;

  bool empty() const { return of_tilt.empty(); }
};

// Gradients of a problem's arguments; null where none is requested. Results are added. In a symmetric problem x
// receives both halves, and y is null.
template <class Real>
struct Gradients {
  Real *x = nullptr, *y = nullptr;
  double* scale = nullptr;
  Real *row_bias = nullptr, *col_bias = nullptr;
  Columns columns = {0, std::numeric_limits<std::int64_t>::max()};  // the columns of Y that y has room for
  // x and y of dot scores are left without the factor α: a later call adds to them and finishes both.
  bool unfinished = false;

  bool any() const { return x || y || scale || row_bias || col_bias; }
};

}  // namespace jessl
