// The sums of a row joined to its loss, and the slopes of this: arguments of a join in more digits than the sums have.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "cpu/loss/row_loss.h"
#include "cpu/passes/sums.h"

namespace jessl {

// The sums of a problem's rows, or of its columns. Where a row has one positive at most, its sum is e^0 times e^{its
// score}; positives are empty where there are none.
struct LossSums {
  SideSums negatives, positives;
};
struct LossSlopes {
  SideSlopes negatives, positives;
};

// The losses of one side, n rows of these terms.
template <class Real>
class Joined {
 public:
  Joined(const RowProblem& problem, const Loss& loss, std::vector<double> weights, std::int64_t n,
         const SideSums& positives)
      : negatives_(problem.negatives), of_positives_(problem.of_positives), join_(loss.join), positives_(positives) {
    if (join_.positives && positives.empty()) throw std::invalid_argument("a join of positives, and there are none");
    if (std::size_t(join_.tilts) > negatives_.tilts.size()) throw std::invalid_argument("a join of more tilts");
    double share = loss.factor;
    if (loss.reduction == Reduction::mean) share /= double(n);
    if (loss.reduction == Reduction::mean_counted && !positives.empty())
      share /= std::max(1.0, double(std::count_if(positives.count.begin(), positives.count.end(),
                                                  [](double count) { return count > 0; })));
    weight_ = std::move(weights);
    if (weight_.empty()) weight_.assign(n, 1);
    for (double& weight : weight_) weight *= share;
    for (std::int64_t i = 0; join_.positives && i < n; ++i)
      if (positives.count[i] == 0) weight_[i] = 0;
  }

  LossSlopes no_slopes() const {
    const std::size_t n = weight_.size();
    LossSlopes slopes;
    slopes.negatives.of_tilt.assign(negatives_.tilts.size(), std::vector<double>(n));
    if (join_.positives) slopes.positives.of_tilt.assign(1, std::vector<double>(n));
    if (join_.spread) slopes.positives.spread.resize(n);
    return slopes;
  }

  // weight_i loss_i of row i, and unless `to` is null its slopes; sums(k) is the N of tilt k.
  template <class Sums>
  double join(std::int64_t i, Sums&& sums, LossSlopes* to) const {
    if (weight_[i] == 0) return 0;  // counts for nothing, also where it is infinite
    const Arguments a = arguments(i, sums);
    if (to) {
      const JoinSlopes<Wide<Real>> slope = join_slopes(join_.join, a.N, a.P, a.spread, a.n);
      for (int k = 0; k < join_.tilts; ++k) to->negatives.of_tilt[k][i] = double(slope.N[k] * weight_[i]);
      if (join_.positives) to->positives.of_tilt[0][i] = double(slope.P * weight_[i]);
      if (join_.spread) to->positives.spread[i] = double(slope.spread * weight_[i]);
    }
    double N[most_join_tilts];
    for (int k = 0; k < join_.tilts; ++k) N[k] = double(a.N[k]);
    return weight_[i] * join_value(join_.join, N, double(a.P), double(a.spread), double(a.n));
  }
  // Of all rows together.
  double join(const SideSums& negatives, LossSlopes* to) const {
    double total = 0;
    for (std::int64_t i = 0; i < std::int64_t(weight_.size()); ++i)
      total += join(i, [&](int k) { return value_of(negatives_, negatives.of_tilt[k], i); }, to);
    return total;
  }

  // A log-sum-exp, or a sum of ψ.
  static Wide<Real> value_of(const Terms& terms, const OnlineLse& sums, std::int64_t i) {
    return terms.op == Op::logsumexp ? sums.log_sum_exp<Real>(i) : Wide<Real>(sums.z[i]);
  }

 private:
  struct Arguments {
    Wide<Real> N[most_join_tilts] = {}, P = 0, spread = 0, n = 1;
  };
  template <class Sums>
  Arguments arguments(std::int64_t i, Sums&& sums) const {
    Arguments a;
    for (int k = 0; k < join_.tilts; ++k) a.N[k] = sums(k);
    if (!join_.positives) return a;
    a.P = value_of(of_positives_, positives_.of_tilt[0], i);
    a.n = positives_.count[i];
    // One score is its own mean, also in the last digit.
    if (join_.spread && a.n > 1) a.spread = a.P - Wide<Real>(positives_.linear[i]) / a.n;
    return a;
  }

  const Terms &negatives_, &of_positives_;
  const JoinWord join_;
  const SideSums& positives_;
  std::vector<double> weight_;
};

}  // namespace jessl
