#include "cpu/loss/row_loss.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "cpu/loss/hand_over.h"
#include "cpu/loss/joined.h"
#include "cpu/loss/single_positives.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "pairwise/psi.h"

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
    of_positives_.linear = true;  // joins ask how many there are
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

  void sums(SideArrays<Real> row, SideArrays<Real> col) {
    Skipping<Real> skipping = skipping_of();
    sum_negatives(skipping);
    sum_positives();
    hand_over(sums_.rows, given_.negatives, row.negatives, row_number());
    hand_over(positive_sums_.rows, of_positives_, row.positives, row_number());
    if (!cols()) return;
    hand_over(column_sums(), given_.negatives, col.negatives, col_number());
    hand_over(positive_sums_.columns, of_positives_, col.positives, col_number());
  }

  void grads(SideArrays<Real> row, SideArrays<Real> col, SlopesArrays<Real> of_row, SlopesArrays<Real> of_col,
             const Gradients<Real>& out, GivenGradients<Real> given) {
    sums_ = {taken_over(row.negatives, given_.negatives, N(), row_number()),
             taken_over(col.negatives, given_.negatives, M(), col_number())};
    positive_sums_ = {taken_over(row.positives, of_positives_, N(), row_number()),
                      taken_over(col.positives, of_positives_, M(), col_number())};
    row_slopes_ = taken_over(of_row, given_.negatives, N(), row_number());
    col_slopes_ = taken_over(of_col, given_.negatives, M(), col_number());
    to_ = rows_.gradients(out);
    if (to_.any()) {
      Skipping<Real> skipping = skipping_of();
      if (skipping.on())
        skipping.know(sums_.rows.of_tilt[0], col_slopes_.negatives.empty() ? nullptr : &sums_.columns.of_tilt[0],
                      options());
      grad_pass<Real>(negatives_, given_.negatives, options(), weights(), of_negatives(), nullptr, skipping, true);
    }
    finish(given);
  }

  double loss(const Loss& loss, const Gradients<Real>& out, GivenGradients<Real> given) {
    sum_positives();
    const Joined<Real> of_rows(given_, loss, weights_of(loss.weights, N(), row_number()), N(), positive_sums_.rows);
    row_slopes_ = of_rows.no_slopes();
    std::optional<Joined<Real>> of_columns;
    if (cols()) {
      of_columns.emplace(given_, loss, weights_of(loss.col_weights, M(), col_number()), M(), positive_sums_.columns);
      col_slopes_ = of_columns->no_slopes();
    }
    const auto join = [&](bool with_slopes) {
      const double value = of_rows.join(sums_.rows, with_slopes ? &row_slopes_ : nullptr);
      return value + (of_columns ? of_columns->join(column_sums(), with_slopes ? &col_slopes_ : nullptr) : 0);
    };
    to_ = rows_.gradients(out);
    const bool with_gradient = to_.any();
    std::optional<double> value;
    if (with_gradient && given_.negatives.plain()) {
      if (given_.negatives.op == Op::logsumexp)
        value = cols() ? std::nullopt : strip_by_strip(of_rows);
      else if (loss.join.constant)
        value = at_once(join);
    }
    if (!value) {
      Skipping<Real> skipping = skipping_of();
      const bool keeps = with_gradient && given_.negatives.op == Op::logsumexp && given_.negatives.plain();
      ScoreCache<Real> cache(negatives_, rows_for(negatives_, options().workspace), extras_of(negatives_, to_.scale),
                             keeps ? options().workspace : 0);
      sum_negatives(skipping, &cache);
      value = join(with_gradient || given.score || given.col_score || given.also);
      if (with_gradient)
        grad_pass<Real>(negatives_, given_.negatives, options(), weights(), of_negatives(), nullptr, skipping, false,
                        &cache);
    }
    finish(given);
    return *value;
  }

 private:
  bool several() const { return given_.positives.row_ids != nullptr; }
  bool cols() const { return given_.cols; }
  const Options& options() const { return rows_.options; }
  auto row_number() const {
    return [this](std::int64_t i) { return rows_.order.row(i); };
  }
  auto col_number() const {
    return [this](std::int64_t j) { return rows_.order.col(j); };
  }
  Skipping<Real> skipping_of() const {
    return Skipping<Real>(negatives_, given_.negatives, rows_for(negatives_, options().workspace), cols());
  }
  std::int64_t N() const { return negatives_.N(); }
  std::int64_t M() const { return negatives_.M(); }
  const SideSums& column_sums() const {
    return negatives_.symmetric && sums_.columns.empty() ? sums_.rows : sums_.columns;
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
    if (!given_.also) return;
    if (negatives_.symmetric && cols()) sums_.columns = sums_.rows;  // which nothing joins
    for (std::int64_t i = 0; i < N(); ++i) join_also(sums_.rows.of_tilt[0], i, also(i));
  }
  void sum_positives() {
    const Positives& positives = given_.positives;
    if (several()) {
      Skipping<Real> none(positives_, of_positives_, most_rows, false);
      positive_sums_ = sum_pass<Real>(positives_, of_positives_, options(), cols(), none);
      if (cols() && positives_.symmetric) positive_sums_.columns = positive_sums_.rows;
      return;
    }
    const auto one = [&](SideSums& sums, std::int64_t i, double score) {
      const bool psi = of_positives_.op != Op::logsumexp;
      sums.of_tilt[0].m[i] = psi ? 0 : score;
      sums.of_tilt[0].z[i] = psi ? double(psi_value(of_positives_.op, Wide<Real>(of_positives_.tilts[0]) * score)) : 1;
      sums.linear[i] = score;
      sums.count[i] = 1;
    };
    if (positives.there()) positive_sums_.rows = SideSums(of_positives_, N());
    if (positives.there() && cols()) positive_sums_.columns = SideSums(of_positives_, M());
    for (std::int64_t i = 0; single_ && i < N(); ++i) {
      if (single_->partner()[i] < 0) continue;
      one(positive_sums_.rows, i, single_->scores()[i]);
      if (cols()) one(positive_sums_.columns, single_->partner()[i], single_->scores()[i]);
    }
    const auto all = [&](SideSums& sums, const void* scores, std::int64_t n, auto&& number) {
      for (std::int64_t i = 0; scores && i < n; ++i) one(sums, i, static_cast<const Real*>(scores)[number(i)]);
    };
    all(positive_sums_.rows, positives.score, N(), row_number());
    if (cols()) all(positive_sums_.columns, positives.col_score, M(), col_number());
  }
  double also(std::int64_t i) const { return static_cast<const Real*>(given_.also)[rows_.order.row(i)]; }
  void join_also(OnlineLse& sums, std::int64_t i, double also) const {
    if (also == -std::numeric_limits<double>::infinity()) return;
    std::isfinite(also) ? sums.add(i, also, 1) : sums.add(i, 0, also);
  }

  // join
  template <class Number>
  static std::vector<double> weights_of(const void* given, std::int64_t n, Number&& number) {
    std::vector<double> weights(given ? n : 0);
    for (std::int64_t i = 0; given && i < n; ++i) weights[i] = static_cast<const Real*>(given)[number(i)];
    return weights;
  }

  // grads
  //
  // Sums and gradients of a sum of ψ in one sweep: its slopes are constants.
  template <class Join>
  double at_once(Join&& join) {
    sums_ = {SideSums(given_.negatives, N()),
             cols() && !negatives_.symmetric ? SideSums(given_.negatives, M()) : SideSums()};
    join(true);  // of sums that are 0
    Skipping<Real> none = skipping_of();
    grad_pass<Real>(negatives_, given_.negatives, options(), weights(), of_negatives(), &sums_, none, false);
    return join(false);
  }

  // The same of a log-sum-exp of rows alone, if a strip of scores can be kept until its slopes are known.
  std::optional<double> strip_by_strip(const Joined<Real>& of_rows) {
    sums_.rows = SideSums(given_.negatives, N());
    OnlineLse& all = sums_.rows.of_tilt[0];
    std::vector<double> values(N());
    const auto slopes_of = [&](std::int64_t first, OnlineLse& strip, double* slopes) {
      for (std::int64_t k = 0; k < std::int64_t(strip.z.size()); ++k) {
        const std::int64_t i = first + k;
        if (given_.also) join_also(strip, k, also(i));
        values[i] = of_rows.join(i, [&](int) { return strip.log_sum_exp<Real>(k); }, &row_slopes_);
        slopes[k] = row_slopes_.negatives.of_tilt[0][i];
        all.m[i] = strip.m[k];
        all.z[i] = strip.z[k];
      }
    };
    if (!strip_pass<Real>(negatives_, options(), slopes_of, of_negatives())) return {};
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

  SweepWeights<Real> weights() const {
    return {negatives_, given_.negatives, sums_.rows, row_slopes_.negatives, column_sums(), col_slopes_.negatives};
  }
  bool sweeps_positives() const { return several() && !row_slopes_.positives.empty(); }
  // Gradients of dot scores are finished by the sweep over positives, if that follows.
  Gradients<Real> of_negatives() const {
    Gradients<Real> to = to_;
    if (!sweeps_positives() || negatives_.kind != Kind::dot) return to;
    to.unfinished = to.x || to.y;
    if (to.x) to.scale = nullptr;  // made of both at once
    return to;
  }

  void add_positives() {
    Terms terms = of_positives_;
    terms.linear = !row_slopes_.positives.spread.empty();
    const SweepWeights<Real> weights(positives_, terms, positive_sums_.rows, row_slopes_.positives,
                                     positive_sums_.columns, col_slopes_.positives);
    const auto sweep = [&](const Gradients<Real>& to) {
      Skipping<Real> none(positives_, terms, most_rows, false);
      grad_pass<Real>(positives_, terms, options(), weights, to, nullptr, none, false);
    };
    if (positives_.kind == Kind::dot) return sweep(to_);
    // Of squares each sweep finishes what it has added.
    const auto zeros = [&](const Real* wanted, std::int64_t n) {
      return std::vector<Real>(wanted ? n * positives_.D() : 0);
    };
    std::vector<Real> x = zeros(to_.x, N()), y = zeros(to_.y, to_.columns.end - to_.columns.first);
    Gradients<Real> apart = to_;
    if (to_.x) apart.x = x.data();
    if (to_.y) apart.y = y.data();
    sweep(apart);
    for (std::size_t k = 0; k < x.size(); ++k) to_.x[k] += x[k];
    for (std::size_t k = 0; k < y.size(); ++k) to_.y[k] += y[k];
  }

  // rows_out: the gradients of positives and of what was given by the row, and the way back of all.
  void finish(GivenGradients<Real> given) {
    for (std::int64_t i = 0; given.also && i < N(); ++i) {
      const OnlineLse& sums = sums_.rows.of_tilt[0];
      const double share = sums.z[i] == 0 ? 0 : std::exp(also(i) - sums.m[i]) / sums.z[i];
      given.also[rows_.order.row(i)] = Real(row_slopes_.negatives.of_tilt[0][i] * share);
    }
    const std::vector<double> of_rows = at_scores(row_slopes_, positive_sums_.rows),
                              of_cols = at_scores(col_slopes_, positive_sums_.columns);
    for (std::int64_t i = 0; given.score && i < N(); ++i)
      given.score[rows_.order.row(i)] = Real(of_rows.empty() ? 0 : of_rows[i]);
    for (std::int64_t j = 0; given.col_score && j < M(); ++j)
      given.col_score[rows_.order.col(j)] = Real(of_cols.empty() ? 0 : of_cols[j]);
    if (!to_.any()) return;
    if (sweeps_positives()) add_positives();
    if (!single_ || of_rows.empty()) return rows_.finish();
    std::vector<double> weight = of_rows;
    for (std::int64_t i = 0; !of_cols.empty() && i < N(); ++i)
      if (single_->partner()[i] >= 0) weight[i] += of_cols[single_->partner()[i]];
    single_->finish(weight, to_);
  }
  // Slopes at the sums over single positives as slopes at their scores; of rows without one they count for nothing.
  std::vector<double> at_scores(const LossSlopes& slopes, const SideSums& positives) const {
    if (slopes.positives.empty() || several()) return {};
    std::vector<double> at = slopes.positives.of_tilt[0];
    const double tilt = of_positives_.tilts[0];
    for (std::size_t i = 0; i < at.size() && of_positives_.op != Op::logsumexp; ++i)
      at[i] *= tilt * double(psi_slope(of_positives_.op, Wide<Real>(tilt * positives.linear[i])));
    return at;
  }

  const RowProblem& given_;
  CompactIds ids_;  // of positives, or of each row's one
  Prepared<Real> rows_;
  Problem negatives_, positives_{};
  Terms of_positives_;
  std::vector<std::int64_t> diagonals_, keep_;
  std::optional<SinglePositives<Real>> single_;
  Sums sums_, positive_sums_;  // of negatives; of positives
  LossSlopes row_slopes_, col_slopes_;
  Gradients<Real> to_;
};

}  // namespace

template <class Real>
void row_sums(const RowProblem& problem, const Options& options, SideArrays<Real> row, SideArrays<Real> col) {
  Executor<Real>(problem, options, {}).sums(row, col);
}

template <class Real>
void row_grads(const RowProblem& problem, const Options& options, SideArrays<Real> row, SideArrays<Real> col,
               SlopesArrays<Real> of_row, SlopesArrays<Real> of_col, const Gradients<Real>& out,
               GivenGradients<Real> given) {
  Executor<Real>(problem, options, out.y ? out.columns : Columns{}).grads(row, col, of_row, of_col, out, given);
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
