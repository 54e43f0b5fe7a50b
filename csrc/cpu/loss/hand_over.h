// Sums and slopes as they go between the core and its caller: in the real type, by the numbers that rows were given by.
#pragma once

#include <cmath>
#include <vector>

#include "cpu/loss/joined.h"

namespace jessl {

// A log-sum-exp L becomes a reference, L rounded, and the total e^{L − reference}, made in more digits than both; of no
// pair, or of an infinite score, the reference is 0.
template <class Real, class Number>
void hand_over(const SideSums& sums, const Terms& terms, SumsArrays<Real> to, Number&& number) {
  if (sums.empty() || !to.total) return;
  const std::int64_t n = std::int64_t(sums.of_tilt[0].z.size());
  for (std::size_t k = 0; k < sums.of_tilt.size(); ++k)
    for (std::int64_t i = 0; i < n; ++i) {
      const OnlineLse& own = sums.of_tilt[k];
      const std::int64_t at = std::int64_t(k) * n + number(i);
      Real reference = 0;
      Wide<Real> total = own.z[i];
      if (terms.op == Op::logsumexp && own.z[i] != 0) {
        const Wide<Real> L = own.log_sum_exp<Real>(i);
        if (std::isfinite(L)) reference = Real(L);
        total = std::exp(L - reference);
      }
      if (to.reference) to.reference[at] = reference;
      to.total[at] = Real(total);
    }
  for (std::int64_t i = 0; to.linear && i < n; ++i) to.linear[number(i)] = Real(sums.linear[i]);
  for (std::int64_t i = 0; to.count && i < n; ++i) to.count[number(i)] = Real(sums.count[i]);
}

template <class Real, class Number>
SideSums taken_over(SumsArrays<Real> from, const Terms& terms, std::int64_t n, Number&& number) {
  if (!from.total) return {};
  SideSums sums(terms, n);
  for (std::size_t k = 0; k < sums.of_tilt.size(); ++k)
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = std::int64_t(k) * n + number(i);
      sums.of_tilt[k].m[i] = from.reference ? double(from.reference[at]) : 0;
      sums.of_tilt[k].z[i] = double(from.total[at]);
    }
  for (std::int64_t i = 0; terms.linear && from.linear && i < n; ++i) sums.linear[i] = double(from.linear[number(i)]);
  for (std::int64_t i = 0; terms.linear && from.count && i < n; ++i) sums.count[i] = double(from.count[number(i)]);
  return sums;
}

template <class Real, class Number>
LossSlopes taken_over(SlopesArrays<Real> from, const Terms& terms, std::int64_t n, Number&& number) {
  LossSlopes slopes;
  const auto line = [&](const Real* given, std::size_t k) {
    std::vector<double> line(given ? n : 0);
    for (std::int64_t i = 0; given && i < n; ++i) line[i] = double(given[std::int64_t(k) * n + number(i)]);
    return line;
  };
  for (std::size_t k = 0; from.N && k < terms.tilts.size(); ++k) slopes.negatives.of_tilt.push_back(line(from.N, k));
  slopes.negatives.spread = line(from.negative_spread, 0);
  if (from.P) slopes.positives.of_tilt.push_back(line(from.P, 0));
  slopes.positives.spread = line(from.spread, 0);
  return slopes;
}

}  // namespace jessl
