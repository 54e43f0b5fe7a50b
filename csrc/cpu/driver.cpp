#include "cpu/driver.h"

#include "cpu/layout.h"
#include "cpu/passes.h"

namespace jessl {
namespace {

template <class Real>
void read(Op op, const Running& sums, Real* out) {
  for (std::size_t i = 0; out && i < sums.z.size(); ++i) out[i] = op == Op::logsumexp ? sums.log_sum_exp<Real>(i) : Real(sums.z[i]);
}

}  // namespace

template <class Real>
void reduce(const Problem& p, Op op, const Options& options, Sides<Real> values) {
  Skipping<Real> skipping(p, op, rows_for(p), values.col != nullptr);
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
  Skipping<Real> skipping(p, op, rows_for(p), col.gradient != nullptr);
  skipping.know(row.lse, col.lse, options);
  pull_pass<Real>(p, op, powers ? log_2 : 1, options, rows, second, out, {}, skipping, true);
}

template <class Real>
void reduce_and_gradient(const Problem& p, Op op, const Options& options, Weighted<Real> row, Weighted<Real> col,
                         Sides<Real> values, Gradients<Real> out) {
  Weights<Real> rows(p.N()), cols(col.weight && !p.symmetric ? p.M() : 0);
  const Weights<Real>* second = p.symmetric ? &rows : col.weight ? &cols : nullptr;
  Skipping<Real> skipping(p, op, rows_for(p), col.weight != nullptr);
  if (op == Op::softplus) {
    rows.add(Upstream<Real>{row.weight, nullptr}, true);
    if (col.weight) (p.symmetric ? rows : cols).add(Upstream<Real>{col.weight, nullptr}, true);
    return pull_pass<Real>(p, op, log_2, options, rows, second, out, values, skipping, false);
  }
  if (!col.weight && strip_pass<Real>(p, options, row, values.row, out)) return;
  const Sums sums = sum_pass<Real>(p, op, options, col.weight != nullptr, skipping);
  const Running& of_columns = p.symmetric ? sums.rows : sums.columns;
  read(op, sums.rows, values.row);
  if (col.weight) read(op, of_columns, values.col);
  const bool powers = powers_suffice(sums.rows.m.data(), p.N()) &&
                      (!col.weight || powers_suffice(of_columns.m.data(), p.M()));
  rows.add(row, sums.rows, powers);
  if (col.weight) (p.symmetric ? rows : cols).add(col, of_columns, powers);
  pull_pass<Real>(p, op, powers ? log_2 : 1, options, rows, second, out, {}, skipping, false);
}

template void reduce<float>(const Problem&, Op, const Options&, Sides<float>);
template void reduce<double>(const Problem&, Op, const Options&, Sides<double>);
template void gradient<float>(const Problem&, Op, const Options&, Upstream<float>, Upstream<float>, Gradients<float>);
template void gradient<double>(const Problem&, Op, const Options&, Upstream<double>, Upstream<double>, Gradients<double>);
template void reduce_and_gradient<float>(const Problem&, Op, const Options&, Weighted<float>, Weighted<float>, Sides<float>,
                                         Gradients<float>);
template void reduce_and_gradient<double>(const Problem&, Op, const Options&, Weighted<double>, Weighted<double>,
                                          Sides<double>, Gradients<double>);

}  // namespace jessl
