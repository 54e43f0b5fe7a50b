// Rows are put in the order of their labels, so that the reduction over positives passes by all tiles of other labels, and the
// mean over positives is one product with the sum C of a label's rows: mean_p s_ip = α⟨x_i, C − x_i⟩ / |P(i)|.
#include "cpu/labelled.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "cpu/join.h"
#include "cpu/ready.h"
#include "cpu/unit.h"

namespace jessl {
namespace {

// Rows sorted by label: row i of the sorted ones is order[i] of the batch, and of class id[i], which is [begin[id], begin[id + 1]).
struct Classes {
  std::vector<std::int64_t> order, begin;
  std::vector<std::int32_t> id;

  Classes(const std::int64_t* labels, std::int64_t N) : order(N), id(N) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [labels](std::int64_t a, std::int64_t b) { return labels[a] < labels[b]; });
    for (std::int64_t i = 0; i < N; ++i) {
      if (i == 0 || labels[order[i]] != labels[order[i - 1]]) begin.push_back(i);
      id[i] = std::int32_t(begin.size()) - 1;
    }
    begin.push_back(N);
  }
  std::int64_t positives(std::int64_t i) const { return begin[id[i] + 1] - begin[id[i]] - 1; }
};

template <class Real>
class SupCon {
 public:
  SupCon(const Problem& p, Options options, const Labelling& labelling)
      : p_(p), options_(options), labelling_(labelling), classes_(labelling.labels, p.N()) {
    if (labelling.normalize) unit_.emplace(p_.x, options_);
    Problem sorted = p_;
    sorted.x.order = classes_.order.data();
    ready_.emplace(sorted.x, options_);
    sorted.y = sorted.x;
    const Ids ids{classes_.id.data(), classes_.id.data()};
    sorted.exclude.diagonals = &itself_;
    sorted.exclude.diagonal_count = 1;
    positives_ = negatives_ = sorted;
    positives_.exclude.different = ids;
    negatives_.exclude.same = ids;
    rows_.emplace(negatives_.x, options_.threads);
  }
  SupCon(const SupCon&) = delete;

  double value(const Gradients<Real>* out) {
    const std::int64_t N = p_.N();
    std::vector<Real> positive(N), negative(N), anchor(N), weight(N);
    reduce<Real>(positives_, Op::logsumexp, options_, {positive.data(), nullptr});
    const std::vector<double> inner = labelling_.mean_outside ? means() : std::vector<double>(N);
    double counted = 0;
    for (std::int64_t i = 0; i < N; ++i) counted += classes_.positives(i) > 0;
    const double share = labelling_.weight / (labelling_.per_counted ? std::max(counted, 1.0) : 1.0);
    for (std::int64_t i = 0; i < N; ++i) {
      weight[i] = Real(classes_.positives(i) > 0 ? share : 0);
      anchor[i] = classes_.positives(i) > 0 ? positive[i] : Real(0);
    }
    // Rows of the gradient stand in the order of the labels until all of it is known. What is pulled to them twice is finished
    // by the second reduction, from which the gradient of the scale, if rows are pulled at all, comes for both.
    Gradients<Real> of_negatives{}, of_positives{};
    if (out) {
      of_negatives = of_positives = {out->x, nullptr, out->scale, nullptr, nullptr};
      of_negatives.unfinished = out->x != nullptr;
      if (of_negatives.unfinished) of_negatives.scale = nullptr;
      reduce_and_gradient<Real>(negatives_, Op::logsumexp, options_, {weight.data(), anchor.data()}, {}, {negative.data(), nullptr},
                                of_negatives);
    } else {
      reduce<Real>(negatives_, Op::logsumexp, options_, {negative.data(), nullptr});
    }

    double total = 0;
    std::vector<Real> by_positive(N), by_mean(N);  // derivatives of the loss by P_i and by the mean
    for (std::int64_t i = 0; i < N; ++i) {
      const std::int64_t count = classes_.positives(i);
      if (count == 0) continue;
      const double gap = double(negative[i]) - double(positive[i]);
      by_positive[i] = Real(-share * logistic(gap));
      double own = labelling_.mean_outside ? 0 : std::log(double(count));
      if (labelling_.mean_outside && count > 1) {  // the mean of one score is its log-sum-exp, also in the last digit
        own = double(positive[i]) - p_.scale * inner[i];
        by_positive[i] = Real(share * logistic(-gap));
        by_mean[i] = Real(-share);
      }
      total += log1p_exp(gap) + own;
    }
    if (out) {
      gradient<Real>(positives_, Op::logsumexp, options_, {by_positive.data(), positive.data()}, {}, of_positives);
      if (out->scale)
        for (std::int64_t i = 0; i < N; ++i) *out->scale += double(by_mean[i]) * inner[i];
      if (out->x) bring_back(by_mean, out->x);
    }
    return share * total;
  }

 private:
  // f(first row, end, Σ of the class's rows, thread), for every class.
  template <class F>
  void for_classes(F&& f) const {
    const std::int64_t count = std::int64_t(classes_.begin.size()) - 1;
    for_rows(count, p_.N() * p_.D() / std::max<std::int64_t>(count, 1), options_, [&](std::int64_t first, std::int64_t end, int thread) {
      std::vector<double> sum(p_.D());
      for (std::int64_t k = first; k < end; ++k) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (std::int64_t i = classes_.begin[k]; i < classes_.begin[k + 1]; ++i) {
          const Real* const x_i = rows_->row(i, thread);
          for (std::int64_t d = 0; d < p_.D(); ++d) sum[d] += x_i[d];
        }
        f(classes_.begin[k], classes_.begin[k + 1], sum, thread);
      }
    });
  }

  // The mean of ⟨x_i, x_p⟩ over the positives p; 0 without one.
  std::vector<double> means() const {
    std::vector<double> mean(p_.N());
    for_classes([&](std::int64_t first, std::int64_t end, const std::vector<double>& sum, int thread) {
      for (std::int64_t i = first; i < end && end - first > 1; ++i)
        mean[i] = dot_without(rows_->row(i, thread), sum.data(), p_.D()) / double(end - first - 1);
    });
    return mean;
  }

  // Gradients of the sorted rows, with that of the means, become gradients of the batch's rows. A class's means have one
  // weight w, and each of its rows receives 2α w (C − x_i) / |P|, once as i and once as a positive.
  void bring_back(const std::vector<Real>& by_mean, Real* gradient) const {
    const std::int64_t D = p_.D();
    if (labelling_.mean_outside)
      for_classes([&](std::int64_t first, std::int64_t end, const std::vector<double>& sum, int thread) {
        if (end - first == 1) return;
        const double factor = 2 * p_.scale * double(by_mean[first]) / double(end - first - 1);
        for (std::int64_t i = first; i < end; ++i) {
          Real* const g = gradient + i * D;
          const Real* const x_i = rows_->row(i, thread);
          for (std::int64_t d = 0; d < D; ++d) g[d] += Real(factor * (sum[d] - double(x_i[d])));
        }
      });
    put_back(gradient);
    if (unit_) unit_->back(options_, gradient);
  }

  // Rows in the order of the labels go to where they stand in the batch, cycle after cycle, without a second copy of them all;
  // each thread takes some cache lines of every row.
  void put_back(Real* rows) const {
    const std::int64_t N = p_.N(), D = p_.D();
    constexpr std::int64_t width = 128 / sizeof(Real);
    std::vector<std::int64_t> starts;
    std::vector<bool> met(N);
    for (std::int64_t start = 0; start < N; ++start) {
      if (met[start]) continue;
      starts.push_back(start);
      for (std::int64_t i = start; !met[i]; i = classes_.order[i]) met[i] = true;
    }
    for_rows((D + width - 1) / width, N * width, options_, [&](std::int64_t first, std::int64_t end, int) {
      for (std::int64_t from = first * width, to = std::min(D, end * width); from < to; from += width) {
        const std::int64_t columns = std::min(width, to - from);
        Real carried[width];
        for (const std::int64_t start : starts) {
          std::copy_n(rows + start * D + from, columns, carried);
          std::int64_t i = start;
          do {
            i = classes_.order[i];
            std::swap_ranges(carried, carried + columns, rows + i * D + from);
          } while (i != start);
        }
      }
    });
  }

  static constexpr std::int64_t itself_ = 0;

  Problem p_;
  Options options_;
  const Labelling labelling_;
  const Classes classes_;
  std::optional<UnitRows<Real>> unit_;
  std::optional<ReadyRows<Real>> ready_;
  Problem positives_, negatives_;           // of the sorted rows
  std::optional<RowReader<Real>> rows_;     // these
};

}  // namespace

template <class Real>
double labelled(const Problem& p, const Options& options, const Labelling& labelling, const Gradients<Real>* out) {
  return SupCon<Real>(p, options, labelling).value(out);
}

template double labelled<float>(const Problem&, const Options&, const Labelling&, const Gradients<float>*);
template double labelled<double>(const Problem&, const Options&, const Labelling&, const Gradients<double>*);

}  // namespace jessl
