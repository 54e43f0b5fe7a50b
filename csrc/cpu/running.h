// Sums that grow tile by tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/tile.h"

namespace jessl {

// Sums Σ e^s / e^m = z, each of them with an m of its own.
struct Running {
  std::vector<double> m, z;
  explicit Running(std::int64_t n) : m(n), z(n) {}

  // Take in n more, the i-th at place first + i and measured from unit·from[i].
  template <class Real>
  void merge(std::int64_t first, std::int64_t n, const Real* from, double unit, const Real* total) {
    for (std::int64_t i = 0; i < n; ++i) {
      double &m_i = m[first + i], &z_i = z[first + i];
      const double other = unit * double(from[i]), more = double(total[i]);
      if (z_i == 0) {  // nothing yet
        m_i = other;
        z_i = more;
      } else if (other == m_i) {
        z_i += more;
      } else if (more != 0) {
        const double now = std::max(m_i, other);
        z_i = z_i * std::exp(m_i - now) + more * std::exp(other - now);
        m_i = now;
      }
    }
  }
  // To the last bit of a float, or of a double, for which a double m is too short where it stands for a power of 2.
  template <class Real>
  Real log_sum_exp(std::int64_t i) const {
    if constexpr (sizeof(Real) == sizeof(float)) return Real(std::log(z[i]) + m[i]);
    const double power = std::round(m[i] / log_2);
    const bool is_power = std::abs(m[i]) < 1024 && m[i] == power * log_2;  // beyond, m is a maximum (epilogue.h)
    const long double from = is_power ? (long double)power * log_2_long : (long double)m[i];
    return Real(std::log((long double)z[i]) + from);
  }
};

}  // namespace jessl
