// Three passes over the rows, O(N·D), around one reduction: partners' scores before it, their gradient and the norms' after it.
//
//   t_i = α⟨x_i, y_k⟩ + r_i + c_k,  k = (i + shift) mod M        c_i = ∂loss/∂t_i
//   dx_i += α c_i y_k    dy_k += α c_i x_i    dα += c_i⟨x_i, y_k⟩    dr_i += c_i    dc_k += c_i
#include "cpu/paired.h"

#include <cmath>
#include <optional>
#include <vector>

#include "cpu/unit.h"

namespace jessl {
namespace {

double log1p_exp(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }

double joined(Join join, double value, double t) {
  switch (join) {
    case Join::anchor: return log1p_exp(value - t);
    case Join::minus: return value - t;
    default: return value + log1p_exp(-t);
  }
}

// ∂joined/∂t.
double slope(Join join, double value, double t) {
  switch (join) {
    case Join::anchor: return -logistic(value - t);
    case Join::minus: return -1;
    default: return -logistic(-t);
  }
}

template <class Real>
double bias_at(const void* bias, std::int64_t i) {
  return bias ? double(static_cast<const Real*>(bias)[i]) : 0;
}

// b += factor · a
template <class Real>
void add_scaled(Real factor, const Real* a, std::int64_t n, Real* b) {
  for (std::int64_t d = 0; d < n; ++d) b[d] += factor * a[d];
}

}  // namespace

template <class Real>
double paired(Problem p, Op op, const Options& options, const Pairing& pairing, const Gradients<Real>* out) {
  const std::int64_t N = p.N(), M = p.M(), D = p.D();
  std::optional<UnitRows<Real>> unit_x, unit_y;
  if (pairing.normalize) {
    unit_x.emplace(p.x, options);
    if (p.symmetric)
      p.y.row_factor = unit_x->factors();
    else
      unit_y.emplace(p.y, options);
  }
  const auto partner = [&](std::int64_t i) { return (i + pairing.shift) % M; };
  const RowReader<Real> x(p.x, options.threads), y(p.y, options.threads);

  std::vector<double> product(N);
  std::vector<Real> t(N), of_columns(pairing.columns ? M : 0);
  for_rows(N, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
    for (std::int64_t i = first; i < end; ++i) {
      const std::int64_t k = partner(i);
      product[i] = dot(x.row(i, thread), y.row(k, thread), D);
      t[i] = Real(p.scale * product[i] + bias_at<Real>(p.row_bias, i) + bias_at<Real>(p.col_bias, k));
      if (pairing.columns) of_columns[k] = t[i];
    }
  });

  std::vector<Real> rows(N), columns(pairing.columns ? M : 0);
  const Sides<Real> values{rows.data(), pairing.columns ? columns.data() : nullptr};
  if (out) {
    const std::vector<Real> weight(std::max(N, M), Real(pairing.weight));
    const bool anchored = pairing.join == Join::anchor;
    const Weighted<Real> row{weight.data(), anchored ? t.data() : nullptr};
    const Weighted<Real> col{pairing.columns ? weight.data() : nullptr, anchored && pairing.columns ? of_columns.data() : nullptr};
    reduce_and_gradient<Real>(p, op, options, row, col, values, *out);
  } else {
    reduce<Real>(p, op, options, values);
  }

  double total = 0;
  std::vector<Real> c(out ? N : 0);
  for (std::int64_t i = 0; i < N; ++i) {
    const std::int64_t k = partner(i);
    total += joined(pairing.join, rows[i], t[i]) + (pairing.columns ? joined(pairing.join, columns[k], t[i]) : 0);
    if (!out) continue;
    const double both = slope(pairing.join, rows[i], t[i]) + (pairing.columns ? slope(pairing.join, columns[k], t[i]) : 0);
    c[i] = Real(pairing.weight * both);
    if (out->scale) *out->scale += pairing.weight * both * product[i];
    if (out->row_bias) out->row_bias[i] += c[i];
    if (out->col_bias) out->col_bias[k] += c[i];
  }
  if (!out) return pairing.weight * total;

  Real* const to_y = p.symmetric ? out->x : out->y;
  // A partner has one row, so that each pass writes each gradient once.
  for_rows(N, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
    for (std::int64_t i = first; out->x && i < end; ++i)
      add_scaled(Real(p.scale) * c[i], y.row(partner(i), thread), D, out->x + i * D);
  });
  for_rows(N, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
    for (std::int64_t i = first; to_y && i < end; ++i)
      add_scaled(Real(p.scale) * c[i], x.row(i, thread), D, to_y + partner(i) * D);
  });
  if (unit_x && out->x) unit_x->back(options, out->x);
  if (unit_y && out->y) unit_y->back(options, out->y);
  return pairing.weight * total;
}

template double paired<float>(Problem, Op, const Options&, const Pairing&, const Gradients<float>*);
template double paired<double>(Problem, Op, const Options&, const Pairing&, const Gradients<double>*);

}  // namespace jessl
