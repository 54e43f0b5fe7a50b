// A row's loss from its sums, and its slopes; the arguments of a join have more digits than the sums. And the transfer
// of sums and slopes between the core and its caller.
#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "cpu/loss/row_loss.h"
#include "cpu/tile/sums.h"

namespace jessl {

// Slopes at the sums of a problem's rows, or of its columns.
struct LossSlopes {
  SideSlopes negatives, positives;
};

// The losses of one side of n rows. If a row has at most one positive, its sum is e^0 times e^{its score}.
template <class Real>
class JoinedSide {
 public:
  // Weights may be empty, for 1. Slopes are 0 until their row is joined.
  JoinedSide(const RowProblem& problem, const Terms& of_positives, const Loss& loss, std::vector<double> weights,
             std::int64_t n, const SideSums& positives, LossSlopes& slopes)
      : negatives_(problem.negatives),
        of_positives_(of_positives),
        join_(loss.join),
        positives_(positives),
        weight_(std::move(weights)),
        slopes_(slopes) {
    if (join_.positives && positives.empty()) throw std::invalid_argument("a join of positives, and there are none");
    if (std::size_t(join_.tilts) > negatives_.tilts.size()) throw std::invalid_argument("a join of more tilts");
    double share = loss.factor;
    if (loss.reduction == Reduction::mean) share /= double(n);
    if (loss.reduction == Reduction::mean_counted && !positives.empty())
      share /= std::max(1.0, double(std::count_if(positives.count.begin(), positives.count.end(),
                                                  [](double count) { return count > 0; })));
    if (weight_.empty()) weight_.assign(n, 1);
    for (std::int64_t i = 0; i < n; ++i)
      weight_[i] = join_.positives && positives.count[i] == 0 ? 0 : weight_[i] * share;
    slopes_.negatives.of_tilt.assign(negatives_.tilts.size(), std::vector<double>(n));
    if (join_.positives) slopes_.positives.of_tilt.assign(1, std::vector<double>(n));
    if (join_.spread) slopes_.positives.spread.resize(n);
  }

  // weight_i loss_i of row i; sums(k) is the N of tilt k.
  template <class Sums>
  double join(std::int64_t i, Sums&& sums) {
    if (weight_[i] == 0) return 0;  // the row does not count, even if its loss is infinite
    using Number = Wide<Real>;
    Number N[most_join_tilts] = {}, P = 0, spread = 0, n = 1;
    for (int k = 0; k < join_.tilts; ++k) N[k] = sums(k);
    if (join_.positives) {
      P = value_of(of_positives_, positives_.of_tilt[0], i);
      n = positives_.count[i];
      // A single score is its own mean to the last digit.
      if (join_.spread && n > 1) spread = P - Number(positives_.linear[i]) / n;
    }
    const Joined<Number> of = joined(join_.join, N, P, spread, n);
    for (int k = 0; k < join_.tilts; ++k) slopes_.negatives.of_tilt[k][i] = double(of.N[k] * weight_[i]);
    if (join_.positives) slopes_.positives.of_tilt[0][i] = double(of.P * weight_[i]);
    if (join_.spread) slopes_.positives.spread[i] = double(of.spread * weight_[i]);
    return double(of.value * weight_[i]);
  }
  // The sum over all rows.
  double join(const SideSums& negatives) {
    double total = 0;
    for (std::int64_t i = 0; i < std::int64_t(weight_.size()); ++i)
      total += join(i, [&](int k) { return value_of(negatives_, negatives.of_tilt[k], i); });
    return total;
  }

 private:
  // A log-sum-exp, or a sum of ψ.
  static Wide<Real> value_of(const Terms& terms, const OnlineLse& sums, std::int64_t i) {
    return terms.op == Op::logsumexp ? sums.log_sum_exp<Real>(i) : Wide<Real>(sums.z[i]);
  }

  const Terms &negatives_, &of_positives_;
  const JoinWord join_;
  const SideSums& positives_;
  std::vector<double> weight_;
  LossSlopes& slopes_;
};

// Sums and slopes pass between the core and its caller in the real type and in the caller's order of rows.
//
// Line k of n numbers; empty if `given` is null.
template <class Real, class Number>
std::vector<double> taken_over(const Real* given, std::int64_t n, Number&& number, std::size_t k = 0) {
  std::vector<double> line(given ? n : 0);
  for (std::int64_t i = 0; given && i < n; ++i) line[i] = double(given[std::int64_t(k) * n + number(i)]);
  return line;
}

// A log-sum-exp L becomes a reference, L rounded, and the total e^{L − reference}, computed in more digits than both.
// The reference is 0 if there is no pair or a score is infinite.
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
  for (std::size_t k = 0; k < sums.of_tilt.size(); ++k) {
    if (from.reference) sums.of_tilt[k].m = taken_over(from.reference, n, number, k);
    sums.of_tilt[k].z = taken_over(from.total, n, number, k);
  }
  if (terms.linear && from.linear) sums.linear = taken_over(from.linear, n, number);
  if (terms.linear && from.count) sums.count = taken_over(from.count, n, number);
  return sums;
}

template <class Real, class Number>
LossSlopes taken_over(SlopesArrays<Real> from, const Terms& terms, std::int64_t n, Number&& number) {
  LossSlopes slopes;
  for (std::size_t k = 0; from.N && k < terms.tilts.size(); ++k)
    slopes.negatives.of_tilt.push_back(taken_over(from.N, n, number, k));
  slopes.negatives.spread = taken_over(from.negative_spread, n, number);
  if (from.P) slopes.positives.of_tilt.push_back(taken_over(from.P, n, number));
  slopes.positives.spread = taken_over(from.spread, n, number);
  return slopes;
}

}  // namespace jessl
