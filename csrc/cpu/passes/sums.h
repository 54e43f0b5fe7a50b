// What a sweep over the pairs adds up, and what arrives at these sums from above.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/tile/online_lse.h"
#include "pairwise/problem.h"

namespace jessl {

// Of the rows of a problem, or of some of them, or of its columns.
struct SideSums {
  std::vector<OnlineLse> of_tilt;
  std::vector<double> linear, count;  // Σ s of the pairs that are in, and their number; empty unless asked for

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
  // Take in the first n of others, at `first`.
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

// Of a symmetric problem the rows' are the columns'.
struct Sums {
  SideSums rows, columns;
};

// What arrives at the sums of one side: at each log-sum-exp or sum of ψ; and at how far the first of these lies above
// the mean of its scores, empty for 0.
struct SideSlopes {
  std::vector<std::vector<double>> of_tilt;
  std::vector<double> spread;

  bool empty() const { return of_tilt.empty(); }
};

}  // namespace jessl
