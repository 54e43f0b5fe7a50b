// Passes over the rows, O(N·D), around one reduction: norms and partners' scores before it, their gradients after it.
//
//   t_i = α⟨x_i, y_k⟩ + r_i + c_k,  k = (i + shift) mod M        w_i = ∂loss/∂t_i
//   dx_i += α w_i y_k    dy_k += α w_i x_i    dα += w_i⟨x_i, y_k⟩    dr_i += w_i    dc_k += w_i
#include "cpu/paired.h"

#include <optional>
#include <stdexcept>
#include <vector>

#include "cpu/join.h"
#include "cpu/ready.h"
#include "cpu/unit.h"

namespace jessl {
namespace {

// What becomes of a row's reduction and its partner's score, and its derivative by the latter.
double joined(Join join, double value, double t) {
  switch (join) {
    case Join::anchor: return log1p_exp(value - t);
    case Join::minus: return value - t;
    case Join::softplus: return value + log1p_exp(-t);
    default: return value;
  }
}
double slope(Join join, double value, double t) {
  switch (join) {
    case Join::anchor: return -logistic(value - t);
    case Join::minus: return -1;
    case Join::softplus: return -logistic(-t);
    default: return 0;
  }
}

template <class Real>
double bias_at(const void* bias, std::int64_t i) {
  return bias ? double(static_cast<const Real*>(bias)[i]) : 0;
}

template <class Real>
class Partners {
 public:
  Partners(const Problem& p, const Options& options, std::int64_t shift)
      : p_(p), options_(options), shift_(shift), x_(p.x, options.threads), y_(p.y, options.threads), product_(p.N()), score_(p.N()) {
    for_rows(p.N(), p.D(), options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        product_[i] = dot(x_.row(i, thread), y_.row(of(i), thread), p.D());
        score_[i] = Real(p.scale * product_[i] + bias_at<Real>(p.row_bias, i) + bias_at<Real>(p.col_bias, of(i)));
      }
    });
  }

  // By the numbers that points had before they were moved, if they were.
  std::int64_t of(std::int64_t i) const {
    const Moved& moved = p_.exclude.moved;
    return moved.row_number ? moved.col_place[(moved.row_number[i] + shift_) % p_.M()] : (i + shift_) % p_.M();
  }
  const std::vector<Real>& scores() const { return score_; }

  // Add the gradient of Σ w_i t_i, the last that comes to these rows: what were divided by their norms are gone back through.
  void pull(const std::vector<Real>& w, const Gradients<Real>& out, const UnitRows<Real>* unit_x, const UnitRows<Real>* unit_y) const {
    std::vector<std::int64_t> from(p_.M(), -1);  // whose partner a column is: never that of two rows
    for (std::int64_t i = 0; i < p_.N(); ++i) {
      from[of(i)] = i;
      if (out.scale) *out.scale += double(w[i]) * product_[i];
      if (out.row_bias) out.row_bias[i] += w[i];
      if (out.col_bias) out.col_bias[of(i)] += w[i];
    }
    const auto from_column = [&](std::int64_t i, int thread, Real* g) { add(w[i], y_.row(of(i), thread), g); };
    const auto from_row = [&](std::int64_t k, int thread, Real* g) {
      if (from[k] >= 0) add(w[from[k]], x_.row(from[k], thread), g);
    };
    finish(out.x, p_.N(), x_, unit_x, [&](std::int64_t i, int thread, Real* g) {
      from_column(i, thread, g);
      if (p_.symmetric) from_row(i, thread, g);
    });
    finish(out.y, p_.M(), y_, unit_y, from_row);
  }

 private:
  // Each row of a gradient, read and written once: what `last` adds to it, and the way back through its norm.
  template <class Last>
  void finish(Real* gradient, std::int64_t rows, const RowReader<Real>& reader, const UnitRows<Real>* unit, Last&& last) const {
    if (!gradient) return;
    for_rows(rows, p_.D(), options_, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        Real* const g = gradient + i * p_.D();
        last(i, thread, g);
        if (unit) unit->back(i, reader.row(i, thread), g);
      }
    });
  }
  void add(Real weight, const Real* row, Real* g) const {
    const Real factor = Real(p_.scale) * weight;
    for (std::int64_t d = 0; d < p_.D(); ++d) g[d] += factor * row[d];
  }

  const Problem& p_;
  const Options& options_;
  const std::int64_t shift_;
  const RowReader<Real> x_, y_;
  std::vector<double> product_;
  std::vector<Real> score_;
};

// The reduction, with the gradient through it where `out` is given.
template <class Real>
void reduced(const Problem& p, Op op, const Options& options, const Pairing& pairing, const Partners<Real>* partners,
             Sides<Real> values, const Gradients<Real>* out) {
  if (!out) return reduce<Real>(p, op, options, values);
  const std::vector<Real> weight(std::max(p.N(), p.M()), Real(pairing.weight));
  Weighted<Real> row{weight.data(), nullptr}, col{pairing.columns ? weight.data() : nullptr, nullptr};
  std::vector<Real> of_columns(pairing.columns ? p.M() : 0);
  if (pairing.join == Join::anchor) {
    row.anchor = partners->scores().data();
    for (std::int64_t i = 0; pairing.columns && i < p.N(); ++i) of_columns[partners->of(i)] = row.anchor[i];
    if (pairing.columns) col.anchor = of_columns.data();
  }
  reduce_and_gradient<Real>(p, op, options, row, col, values, *out);
}

}  // namespace

template <class Real>
double paired(Problem p, Op op, Options options, const Pairing& pairing, const Gradients<Real>* out) {
  // Nothing of ours asks for these; the operator that is registered with torch could.
  if (pairing.join == Join::none && pairing.columns) throw std::invalid_argument("columns that have no partners");
  if (pairing.join != Join::none && (p.N() > p.M() || (pairing.columns && p.N() != p.M())))
    throw std::invalid_argument("rows that would share a partner, or columns without one");
  std::optional<UnitRows<Real>> unit_x, unit_y;
  if (pairing.normalize) unit_x.emplace(p.x, options);
  if (pairing.normalize && !p.symmetric) unit_y.emplace(p.y, options);
  std::optional<ReadyRows<Real>> ready_x, ready_y;
  if (!p.center) ready_x.emplace(p.x, options);
  if (!p.center && !p.symmetric) ready_y.emplace(p.y, options);
  if (p.symmetric) p.y = p.x;
  std::optional<Partners<Real>> partners;
  if (pairing.join != Join::none) partners.emplace(p, options, pairing.shift);

  std::vector<Real> rows(p.N()), columns(pairing.columns ? p.M() : 0);
  const Sides<Real> values{rows.data(), pairing.columns ? columns.data() : nullptr};
  reduced<Real>(p, op, options, pairing, partners ? &*partners : nullptr, values, out);

  double total = 0;
  std::vector<Real> w(p.N());
  for (std::int64_t i = 0; i < p.N(); ++i) {
    const double t = partners ? partners->scores()[i] : 0, column = pairing.columns ? columns[partners->of(i)] : 0;
    total += joined(pairing.join, rows[i], t) + (pairing.columns ? joined(pairing.join, column, t) : 0);
    w[i] = Real(pairing.weight * (slope(pairing.join, rows[i], t) + (pairing.columns ? slope(pairing.join, column, t) : 0)));
  }
  if (out && partners) partners->pull(w, *out, unit_x ? &*unit_x : nullptr, unit_y ? &*unit_y : nullptr);
  if (out && !partners && unit_x && out->x) unit_x->back(options, out->x);
  if (out && !partners && unit_y && out->y) unit_y->back(options, out->y);
  return pairing.weight * total;
}

template double paired<float>(Problem, Op, Options, const Pairing&, const Gradients<float>*);
template double paired<double>(Problem, Op, Options, const Pairing&, const Gradients<double>*);

}  // namespace jessl
