#include "cpu/driver.h"

#include <cmath>
#include <optional>

#include "cpu/layout.h"
#include "cpu/passes.h"
#include "cpu/scratch.h"

namespace jessl {
namespace {

template <class Real>
void read(Op op, const Running& sums, Real* out) {
  for (std::size_t i = 0; out && i < sums.z.size(); ++i) out[i] = op == Op::logsumexp ? sums.log_sum_exp<Real>(i) : Real(sums.z[i]);
}

}  // namespace

template <class Real>
void reduce(const Problem& p, Op op, const Options& options, Sides<Real> values) {
  Skipping<Real> skipping(p, op, rows_for(p, options.workspace), values.col != nullptr);
  const Sums sums = sum_pass<Real>(p, op, options, values.col != nullptr, skipping);
  read(op, sums.rows, values.row);
  read(op, p.symmetric ? sums.rows : sums.columns, values.col);
}

template <class Real>
void gradient(const Problem& p, Op op, const Options& options, Upstream<Real> row, Upstream<Real> col, Gradients<Real> out) {
  const bool powers = (!row.lse || powers_suffice(row.lse, p.N())) && (!col.lse || powers_suffice(col.lse, p.M()));
  Weights<Real> rows(p.N());
  rows.add(row, powers);
  if (p.symmetric && col.gradient) rows.add(col, powers);  // s_ij is also s_ji
  Weights<Real> cols(col.gradient && !p.symmetric ? p.M() : 0);
  if (col.gradient && !p.symmetric) cols.add(col, powers);
  const Weights<Real>* second = p.symmetric ? &rows : col.gradient ? &cols : nullptr;
  Skipping<Real> skipping(p, op, rows_for(p, options.workspace), col.gradient != nullptr);
  skipping.know(row.lse, col.lse, options);
  pull_pass<Real>(p, op, powers ? log_2 : 1, options, rows, second, out, {}, skipping, true);
}

template <class Real>
void reduce_and_gradient(const Problem& p, Op op, const Options& options, Weighted<Real> row, Weighted<Real> col,
                         Sides<Real> values, Gradients<Real> out) {
  if (op == Op::logsumexp && !col.weight && strip_pass<Real>(p, options, row, values.row, out)) return;
  const std::int64_t of_strip = rows_for(p, options.workspace);
  Weights<Real> rows(p.N()), cols(col.weight && !p.symmetric ? p.M() : 0);
  const Weights<Real>* second = p.symmetric ? &rows : col.weight ? &cols : nullptr;
  Skipping<Real> skipping(p, op, of_strip, col.weight != nullptr);
  if (op == Op::softplus) {
    rows.add(Upstream<Real>{row.weight, nullptr}, true);
    if (col.weight) (p.symmetric ? rows : cols).add(Upstream<Real>{col.weight, nullptr}, true);
    return pull_pass<Real>(p, op, log_2, options, rows, second, out, values, skipping, false);
  }
  Kept<Real> kept(p, of_strip, extras_of(p, out.scale), options.workspace);
  const Sums sums = sum_pass<Real>(p, op, options, col.weight != nullptr, skipping, &kept);
  const Running& of_columns = p.symmetric ? sums.rows : sums.columns;
  read(op, sums.rows, values.row);
  if (col.weight) read(op, of_columns, values.col);
  const bool powers = powers_suffice(sums.rows.m.data(), p.N()) &&
                      (!col.weight || powers_suffice(of_columns.m.data(), p.M()));
  rows.add(row, sums.rows, powers);
  if (col.weight) (p.symmetric ? rows : cols).add(col, of_columns, powers);
  pull_pass<Real>(p, op, powers ? log_2 : 1, options, rows, second, out, {}, skipping, false, &kept);
}

bool keeps_scores(const Problem& p, bool of_scale, std::int64_t workspace) {
  const Extras extras = extras_of(p, of_scale);
  const std::int64_t rows = rows_for(p, workspace);
  return p.wide() ? Kept<double>::fit(p, rows, extras, workspace) : Kept<float>::fit(p, rows, extras, workspace);
}

bool bounds_scores(const Problem& p) { return p.wide() ? common_power<double>(p).has_value() : common_power<float>(p).has_value(); }

template <class Real>
double total(const Problem& p, const Options& options, const Gradients<Real>* out) {
  if (const std::optional<Real> power = out ? common_power<Real>(p) : std::nullopt) {
    const double sum = total_pass<Real>(p, options, *power, *out);
    const double factor = sum == 0 ? 0 : (p.symmetric ? 2 : 1) / sum;
    const auto scale = [factor](auto* numbers, std::int64_t n) {
      for (std::int64_t i = 0; numbers && i < n; ++i) numbers[i] *= factor;
    };
    scale(out->x, p.N() * p.D());
    scale(out->y, p.M() * p.D());
    scale(out->scale, 1);
    scale(out->row_bias, p.N());
    scale(out->col_bias, p.M());
    return std::log(sum) + double(*power) * log_2;
  }
  const std::int64_t of_strip = rows_for(p, options.workspace);
  Skipping<Real> skipping(p, Op::logsumexp, of_strip, false);
  Kept<Real> kept(p, of_strip, out ? extras_of(p, out->scale) : Extras{}, out ? options.workspace : 0);
  const Sums sums = sum_pass<Real>(p, Op::logsumexp, options, false, skipping, &kept);
  Running all(1);
  for (std::int64_t i = 0; i < p.N(); ++i) all.merge(0, 1, &sums.rows.m[i], 1.0, &sums.rows.z[i]);
  const double value = std::log(all.z[0]) + all.m[0];
  if (!out || all.z[0] == 0) return value;
  std::vector<Real> share(p.N());
  for (std::int64_t i = 0; i < p.N(); ++i) share[i] = Real(sums.rows.z[i] * std::exp(sums.rows.m[i] - value));
  const bool powers = powers_suffice(sums.rows.m.data(), p.N());
  Weights<Real> rows(p.N());
  rows.add(Weighted<Real>{share.data(), nullptr}, sums.rows, powers);
  pull_pass<Real>(p, Op::logsumexp, powers ? log_2 : 1, options, rows, p.symmetric ? &rows : nullptr, *out, {}, skipping, false, &kept);
  return value;
}

template double total<float>(const Problem&, const Options&, const Gradients<float>*);
template double total<double>(const Problem&, const Options&, const Gradients<double>*);
template void reduce<float>(const Problem&, Op, const Options&, Sides<float>);
template void reduce<double>(const Problem&, Op, const Options&, Sides<double>);
template void gradient<float>(const Problem&, Op, const Options&, Upstream<float>, Upstream<float>, Gradients<float>);
template void gradient<double>(const Problem&, Op, const Options&, Upstream<double>, Upstream<double>, Gradients<double>);
template void reduce_and_gradient<float>(const Problem&, Op, const Options&, Weighted<float>, Weighted<float>, Sides<float>,
                                         Gradients<float>);
template void reduce_and_gradient<double>(const Problem&, Op, const Options&, Weighted<double>, Weighted<double>,
                                          Sides<double>, Gradients<double>);

}  // namespace jessl
