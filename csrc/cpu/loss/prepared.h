// O(N·D) work around the sweeps. The rows of a problem are divided by their norms, put in order, and copied once if
// they are few; their gradients go back through all of that in one pass over the rows.
#pragma once

#include <optional>
#include <vector>

#include "cpu/tile/sums.h"
#include "cpu/loss/arrangement.h"
#include "cpu/tile/normalize.h"

namespace jessl {

template <class Real>
class Prepared {
 public:
  // `columns` are those whose gradient will be requested. If `ids` are given, rows and columns are put in their order.
  Prepared(const Problem& given, bool normalize, Columns columns, const CompactIds* ids, const Options& given_options)
      : problem(given), options(given_options), of_itself_(given.of_itself || given.symmetric) {
    Problem& p = problem;
    gradient_.columns = {columns.first, std::min(columns.end, p.M())};
    // If Y is X but pairs are not symmetric, the gradient of X as Y is made separately.
    if (of_itself_) gradient_.columns = {0, p.symmetric ? 0 : p.M()};
    if (normalize) unit_x_.emplace(p.x, options);
    if (normalize && !of_itself_) unit_y_.emplace(p.y, options);
    if (of_itself_) p.y = p.x;
    bool together = of_itself_;
    if (ids) {
      together = together && (p.symmetric || ids->row == ids->col);
      order.arrange_by_ids(p, *ids, together, gradient_.columns);
    } else {
      order.arrange_in_space(p, together, gradient_.columns, options);
    }
    const bool in_space = !ids && order.moved();
    if (in_space || !p.center) ready_x_.emplace(p.x, options, in_space);
    if ((in_space || !p.center) && !together) ready_y_.emplace(p.y, options, in_space);
    if (together) p.y = p.x;
    x.emplace(p.x, options.threads);
    y.emplace(p.y, options.threads);
  }
  Prepared(const Prepared&) = delete;

  // The targets that passes add gradients to.
  const Gradients<Real>& gradients(const Gradients<Real>& out) {
    const Columns columns = gradient_.columns;
    gradient_ = out;
    gradient_.columns = columns;
    if (!of_itself_ || problem.symmetric || !out.x) return gradient_;
    half_.assign(problem.N() * problem.D(), Real(0));
    gradient_.y = half_.data();
    return gradient_;
  }

  // Reads and writes each row of a gradient once: `add_x` or `add_y`, called with its place, a thread and the row, add
  // the last contributions, and the row goes back through its norm. Then all rows return to the caller's order.
  template <class AddX, class AddY>
  void finish(AddX&& add_x, AddY&& add_y) {
    const Gradients<Real>& g = gradient_;
    const std::int64_t D = problem.D();
    const NormalizedRows<Real>* const unit_x = unit_x_ ? &*unit_x_ : nullptr;
    const NormalizedRows<Real>* const unit_y = of_itself_ ? unit_x : unit_y_ ? &*unit_y_ : nullptr;
    const auto back = [&](Real* rows, Columns which, const RowReader<Real>& reader, const NormalizedRows<Real>* unit,
                          auto&& add, auto&& number) {
      if (!rows) return;
      for_rows(which.end - which.first, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
        for (std::int64_t k = first; k < end; ++k) {
          const std::int64_t i = which.first + k;
          add(i, thread, rows + k * D);
          if (unit) unit->back(number(i), reader.row(i, thread), rows + k * D);
        }
      });
    };
    back(g.x, {0, problem.N()}, *x, unit_x, add_x, [&](std::int64_t i) { return order.row(i); });
    back(g.y, g.columns, *y, unit_y, add_y, [&](std::int64_t j) { return order.col(j); });
    order.put_back_rows(g.x, D, options);
    order.put_back_columns(g.y, g.columns.end, D, options);
    order.put_back_rows(g.row_bias, 1, options);
    order.put_back_columns(g.col_bias, problem.M(), 1, options);
    for (std::size_t k = 0; k < half_.size(); ++k) g.x[k] += half_[k];
  }
  void finish() {
    const auto nothing = [](std::int64_t, int, Real*) {};
    finish(nothing, nothing);
  }

  Problem problem;  // in the present order
  Options options;
  Arrangement order;
  std::optional<RowReader<Real>> x, y;

 private:
  const bool of_itself_;
  Gradients<Real> gradient_;
  std::vector<Real> half_;
  std::optional<NormalizedRows<Real>> unit_x_, unit_y_;
  std::optional<ReadyRows<Real>> ready_x_, ready_y_;
};

}  // namespace jessl
