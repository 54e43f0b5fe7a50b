#include "cpu/loss/row_loss.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <span>

#include "cpu/loss/joined.h"
#include "cpu/loss/single_positives.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "pairwise/score.h"

namespace jessl {
namespace {

template <class Real>
class Executor {
 public:
  Executor(const RowProblem& given, const Options& options, Columns columns)
      : given_(given),
        ids_(given.positives.row_ids
                 ? CompactIds(given.positives.row_ids, given.pairs.N(), given.positives.col_ids, given.pairs.M())
                 : CompactIds()),
        rows_(with_ids(), given.normalize, columns, several() ? &ids_ : nullptr, options),
        negatives_(rows_.problem),
        of_positives_(given.of_positives) {
    if (given.negatives.tilts.empty() || of_positives_.tilts.size() != 1)
      throw std::invalid_argument("sums of no tilt, or positives of several");
    of_positives_.linear = true;  // joins need the number of positives
    const Positives& positives = given.positives;
    if (several()) {
      positives_ = rows_.problem;
      std::swap(positives_.exclude.within, positives_.exclude.without);
      positives_.skip_below = 0;
    }
    if (positives.shifted) leave_out_diagonals();
    if (positives.shifted || positives.index) single_.emplace(rows_, partners());
    if (positives.index) leave_out_partners();
  }
  Executor(const Executor&) = delete;

  using Both = const SideArrays<Real> (&)[2];  // of rows, of columns

  void sums(Both to) {
    Skipping<Real> skipping = skipping_of();
    sum_negatives(skipping);
    sum_positives();
    for (const bool side : sides()) {
      hand_over(sums_.of(side), given_.negatives, to[side].negatives, number(side));
      hand_over(positive_sums_.of(side), of_positives_, to[side].positives, number(side));
    }
  }

  void grads(Both from, const SlopesArrays<Real> (&slopes)[2], const Gradients<Real>& out, GivenGradients<Real> given) {
    for (const bool side : {false, true}) {
      sums_.of(side) = taken_over(from[side].negatives, given_.negatives, n(side), number(side));
      positive_sums_.of(side) = taken_over(from[side].positives, of_positives_, n(side), number(side));
      slopes_[side] = taken_over(slopes[side], given_.negatives, n(side), number(side));
    }
    to_ = rows_.gradients(out);
    if (to_.any()) {
      Skipping<Real> skipping = skipping_of();
      if (skipping.on())
        skipping.know(sums_.rows.of_tilt[0], slopes_[1].negatives.empty() ? nullptr : &sums_.columns.of_tilt[0],
                      options());
      grad_negatives(skipping, {.measure = true});
    }
    finish(given);
  }

  double loss(const Loss& loss, const Gradients<Real>& out, GivenGradients<Real> given) {
    sum_positives();
    std::vector<JoinedSide<Real>> joined;
    for (const bool side : sides()) {
      const Real* const weights = static_cast<const Real*>(side ? loss.col_weights : loss.weights);
      joined.emplace_back(given_, of_positives_, loss, taken_over(weights, n(side), number(side)), n(side),
                          positive_sums_.of(side), slopes_[side]);
    }
    const auto join = [&] {
      double value = 0;
      for (const bool side : sides()) value += joined[side].join(sums_.of(side));
      return value;
    };
    to_ = rows_.gradients(out);
    const bool with_gradient = to_.any(), exponentials = given_.negatives.op == Op::logsumexp,
               plain = given_.negatives.plain();
    std::optional<double> value;
    if (with_gradient && plain && exponentials && !cols()) value = strip_by_strip(joined[0]);
    if (with_gradient && plain && !exponentials && loss.join.constant) value = at_once(join);
    if (!value) {
      Skipping<Real> skipping = skipping_of();
      ScoreCache<Real> cache(negatives_, rows_for(negatives_, options().workspace), extras_of(negatives_, to_.scale),
                             with_gradient && exponentials && plain ? options().workspace : 0);
      sum_negatives(skipping, &cache);
      value = join();
      if (with_gradient) grad_negatives(skipping, {.cache = &cache});
    }
    finish(given);
    return *value;
  }

 private:
  bool several() const { return given_.positives.row_ids != nullptr; }
  bool cols() const { return given_.cols; }
  // false for the rows, true for the columns.
  std::span<const bool> sides() const {
    static constexpr bool both[] = {false, true};
    return {both, cols() ? 2u : 1u};
  }
  const Options& options() const { return rows_.options; }
  auto number(bool side) const {
    return [this, side](std::int64_t i) { return side ? rows_.order.col(i) : rows_.order.row(i); };
  }
  std::int64_t N() const { return negatives_.N(); }
  std::int64_t M() const { return negatives_.M(); }
  std::int64_t n(bool side) const { return side ? M() : N(); }
  Skipping<Real> skipping_of() const {
    return Skipping<Real>(negatives_, given_.negatives, rows_for(negatives_, options().workspace), cols());
  }

  // rows_in
  Problem with_ids() const {
    Problem p = given_.pairs;
    if (several()) p.exclude.without = ids_.pointers();
    return p;
  }
  void leave_out_diagonals() {
    Exclusion& exclude = negatives_.exclude;
    const std::int64_t shift = this->shift(), wrapped = shift - M();
    diagonals_.assign(exclude.diagonals, exclude.diagonals + exclude.diagonal_count);
    for (const std::int64_t diagonal : {shift, wrapped})
      if (std::find(diagonals_.begin(), diagonals_.end(), diagonal) == diagonals_.end()) diagonals_.push_back(diagonal);
    for (std::int64_t k = 0; k < exclude.keep_count; ++k)
      if (exclude.keep[k] != shift && exclude.keep[k] != wrapped) keep_.push_back(exclude.keep[k]);
    exclude.diagonals = diagonals_.data();
    exclude.diagonal_count = std::int64_t(diagonals_.size());
    exclude.keep = keep_.data();
    exclude.keep_count = std::int64_t(keep_.size());
  }
  void leave_out_partners() {
    ids_.row.assign(single_->partner().begin(), single_->partner().end());
    ids_.col.resize(M());
    std::iota(ids_.col.begin(), ids_.col.end(), 0);
    negatives_.exclude.without = ids_.pointers();
  }
  std::int64_t shift() const { return (given_.positives.shift % M() + M()) % M(); }
  std::vector<std::int64_t> partners() const {
    const Positives& positives = given_.positives;
    if (positives.index && std::any_of(positives.index, positives.index + N(), [&](auto k) { return k >= M(); }))
      throw std::invalid_argument("an index of a positive beyond the columns");
    if (positives.shifted && (N() > M() || (cols() && N() != M())))
      throw std::invalid_argument("rows that would share a positive, or columns without one");
    std::vector<std::int64_t> partner(N());
    for (std::int64_t i = 0; i < N(); ++i) {
      const std::int64_t number = rows_.order.row(i);
      const std::int64_t k = positives.shifted ? (number + shift()) % M() : positives.index[number];
      partner[i] = k < 0 ? -1 : rows_.order.place_of_col(k);
    }
    return partner;
  }

  // sums
  void sum_negatives(Skipping<Real>& skipping, ScoreCache<Real>* cache = nullptr) {
    sums_ = sum_pass<Real>(negatives_, given_.negatives, options(), cols(), skipping, cache);
    if (cols() && negatives_.symmetric) sums_.columns = sums_.rows;
    for (std::int64_t i = 0; given_.also && i < N(); ++i) join_also(sums_.rows.of_tilt[0], i, also(i));
  }
  void sum_positives() {
    const Positives& positives = given_.positives;
    if (several()) {
      Skipping<Real> none(positives_, of_positives_, most_rows, false);
      positive_sums_ = sum_pass<Real>(positives_, of_positives_, options(), cols(), none);
      if (cols() && positives_.symmetric) positive_sums_.columns = positive_sums_.rows;
      return;
    }
    const auto one = [&](bool side, std::int64_t i, double score) {
      SideSums& sums = positive_sums_.of(side);
      const bool psi = of_positives_.op != Op::logsumexp;
      sums.of_tilt[0].m[i] = psi ? 0 : score;
      sums.of_tilt[0].z[i] = psi ? double(psi_value(of_positives_.op, Wide<Real>(of_positives_.tilts[0]) * score)) : 1;
      sums.linear[i] = score;
      sums.count[i] = 1;
    };
    for (const bool side : sides()) {
      if (positives.there()) positive_sums_.of(side) = SideSums(of_positives_, n(side));
      for (std::int64_t i = 0; single_ && i < N(); ++i)
        if (const std::int64_t k = single_->partner()[i]; k >= 0) one(side, side ? k : i, single_->scores()[i]);
      const Real* const given = static_cast<const Real*>(side ? positives.col_score : positives.score);
      for (std::int64_t i = 0; given && i < n(side); ++i) one(side, i, given[number(side)(i)]);
    }
  }
  double also(std::int64_t i) const { return static_cast<const Real*>(given_.also)[rows_.order.row(i)]; }
  void join_also(OnlineLse& sums, std::int64_t i, double also) const {
    if (also == -std::numeric_limits<double>::infinity()) return;
    std::isfinite(also) ? sums.add(i, also, 1) : sums.add(i, 0, also);
  }

  // grads
  //
  // If a sweep over positives follows, it finishes the gradients of dot scores.
  void grad_negatives(Skipping<Real>& skipping, const GradPass<Real>& how) {
    const SweepWeights<Real> weights(negatives_, given_.negatives, sums_.rows, slopes_[0].negatives, sums_.columns,
                                     slopes_[1].negatives);
    grad_pass<Real>(negatives_, given_.negatives, options(), weights, of_negatives(), skipping, how);
  }
  bool sweeps_positives() const { return several() && !slopes_[0].positives.empty(); }
  Gradients<Real> of_negatives() const {
    Gradients<Real> to = to_;
    if (!sweeps_positives() || negatives_.kind != Kind::dot) return to;
    to.unfinished = to.x || to.y;
    if (to.x) to.scale = nullptr;  // made from both sweeps together
    return to;
  }

  // Sums and gradients of a sum of ψ in one sweep, because its slopes are constants.
  template <class Join>
  double at_once(Join&& join) {
    sums_.rows = SideSums(given_.negatives, N());
    if (cols()) sums_.columns = SideSums(given_.negatives, M());
    join();  // the sums are still 0: this sets the slopes
    Skipping<Real> none = skipping_of();
    grad_negatives(none, {.sums = &sums_});
    if (cols() && negatives_.symmetric) sums_.columns = sums_.rows;
    return join();
  }

  // The same for a log-sum-exp of rows alone, if a strip of scores can be kept until its slopes are known.
  std::optional<double> strip_by_strip(JoinedSide<Real>& joined) {
    sums_.rows = SideSums(given_.negatives, N());
    OnlineLse& all = sums_.rows.of_tilt[0];
    std::vector<double> values(N());
    const auto slopes_of = [&](std::int64_t first, OnlineLse& strip, double* slopes) {
      for (std::int64_t k = 0; k < std::int64_t(strip.z.size()); ++k) {
        const std::int64_t i = first + k;
        if (given_.also) join_also(strip, k, also(i));
        values[i] = joined.join(i, [&](int) { return strip.log_sum_exp<Real>(k); });
        slopes[k] = slopes_[0].negatives.of_tilt[0][i];
        all.m[i] = strip.m[k];
        all.z[i] = strip.z[k];
      }
    };
    if (!strip_pass<Real>(negatives_, options(), slopes_of, of_negatives())) return {};
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

  void add_positives() {
    Terms terms = of_positives_;
    terms.linear = !slopes_[0].positives.spread.empty();
    const SweepWeights<Real> weights(positives_, terms, positive_sums_.rows, slopes_[0].positives,
                                     positive_sums_.columns, slopes_[1].positives);
    const auto sweep = [&](const Gradients<Real>& to) {
      Skipping<Real> none(positives_, terms, most_rows, false);
      grad_pass<Real>(positives_, terms, options(), weights, to, none);
    };
    if (positives_.kind == Kind::dot) return sweep(to_);
    // With squared distances each sweep finishes its own contribution.
    std::vector<Real> x(to_.x ? N() * positives_.D() : 0),
        y(to_.y ? (to_.columns.end - to_.columns.first) * positives_.D() : 0);
    Gradients<Real> apart = to_;
    if (to_.x) apart.x = x.data();
    if (to_.y) apart.y = y.data();
    sweep(apart);
    for (std::size_t k = 0; k < x.size(); ++k) to_.x[k] += x[k];
    for (std::size_t k = 0; k < y.size(); ++k) to_.y[k] += y[k];
  }

  // rows_out: the gradients of positives and of what was given for each row; then the rows' way back.
  void finish(GivenGradients<Real> given) {
    for (std::int64_t i = 0; given.also && i < N(); ++i) {
      const OnlineLse& sums = sums_.rows.of_tilt[0];
      const double share = sums.z[i] == 0 ? 0 : std::exp(also(i) - sums.m[i]) / sums.z[i];
      given.also[rows_.order.row(i)] = Real(slopes_[0].negatives.of_tilt[0][i] * share);
    }
    std::vector<double> at_scores[2];
    for (const bool side : {false, true}) {
      at_scores[side] = slopes_at_scores(slopes_[side].positives, positive_sums_.of(side));
      Real* const to = side ? given.col_score : given.score;
      for (std::int64_t i = 0; to && i < n(side); ++i)
        to[number(side)(i)] = Real(at_scores[side].empty() ? 0 : at_scores[side][i]);
    }
    if (!to_.any()) return;
    if (sweeps_positives()) add_positives();
    if (!single_ || at_scores[0].empty()) return rows_.finish();
    for (std::int64_t i = 0; !at_scores[1].empty() && i < N(); ++i)
      if (const std::int64_t k = single_->partner()[i]; k >= 0) at_scores[0][i] += at_scores[1][k];
    single_->finish(at_scores[0], to_);
  }
  // Slopes at the sums over single positives, turned into slopes at their scores; rows without a positive are ignored.
  std::vector<double> slopes_at_scores(const SideSlopes& slopes, const SideSums& positives) const {
    if (slopes.empty() || several()) return {};
    std::vector<double> at = slopes.of_tilt[0];
    const double tilt = of_positives_.tilts[0];
    for (std::size_t i = 0; i < at.size() && of_positives_.op != Op::logsumexp; ++i)
      at[i] *= tilt * double(psi_slope(of_positives_.op, Wide<Real>(tilt * positives.linear[i])));
    return at;
  }

  const RowProblem& given_;
  CompactIds ids_;  // the ids of positives, or each row's partner as an id
  Prepared<Real> rows_;
  Problem negatives_, positives_{};
  Terms of_positives_;
  std::vector<std::int64_t> diagonals_, keep_;
  std::optional<SinglePositives<Real>> single_;
  Sums sums_, positive_sums_;  // of negatives; of positives
  LossSlopes slopes_[2];       // of rows, of columns
  Gradients<Real> to_;
};

}  // namespace

template <class Real>
void row_sums(const RowProblem& problem, const Options& options, SideArrays<Real> row, SideArrays<Real> col) {
  Executor<Real>(problem, options, {}).sums({row, col});
}

template <class Real>
void row_grads(const RowProblem& problem, const Options& options, SideArrays<Real> row, SideArrays<Real> col,
               SlopesArrays<Real> of_row, SlopesArrays<Real> of_col, const Gradients<Real>& out,
               GivenGradients<Real> given) {
  Executor<Real>(problem, options, out.y ? out.columns : Columns{}).grads({row, col}, {of_row, of_col}, out, given);
}

template <class Real>
double row_loss(const RowProblem& problem, const Options& options, const Loss& loss, const Gradients<Real>& out,
                GivenGradients<Real> given) {
  return Executor<Real>(problem, options, out.y ? out.columns : Columns{}).loss(loss, out, given);
}

#define JESSL_ROW_LOSS(Real)                                                                                           \
  template void row_sums<Real>(const RowProblem&, const Options&, SideArrays<Real>, SideArrays<Real>);                 \
  template void row_grads<Real>(const RowProblem&, const Options&, SideArrays<Real>, SideArrays<Real>,                 \
                                SlopesArrays<Real>, SlopesArrays<Real>, const Gradients<Real>&, GivenGradients<Real>); \
  template double row_loss<Real>(const RowProblem&, const Options&, const Loss&, const Gradients<Real>&,               \
                                 GivenGradients<Real>);
JESSL_ROW_LOSS(float)
JESSL_ROW_LOSS(double)
#undef JESSL_ROW_LOSS

}  // namespace jessl
