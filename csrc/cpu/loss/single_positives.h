// The single positive k of a row: its score, and the contribution of its weight w_i = ∂loss/∂s_ik to the gradients,
// O(N·D); u = α t:
//
//   dot      t_i = ⟨x_i, y_k⟩          dx_i += α w_i φ' y_k              dy_k += α w_i φ' x_i
//   sqdist   t_i = −‖x_i − y_k‖²       dx_i += 2α w_i φ' (y_k − x_i)     dy_k += 2α w_i φ' (x_i − y_k)
//   both     s_i = φ(u_i) + r_i + c_k   dα += w_i φ' t_i    dr_i += w_i    dc_k += w_i
//
// Several rows add to one column in the order of the rows.
#pragma once

#include <vector>

#include "cpu/loss/prepared.h"
#include "cpu/tile/dot.h"
#include "pairwise/score.h"

namespace jessl {

template <class Real>
class SinglePositives {
 public:
  // partner: the column of each row's positive, −1 for none; both in the order of the prepared problem.
  SinglePositives(Prepared<Real>& rows, std::vector<std::int64_t> partner)
      : rows_(rows), p_(rows.problem), partner_(std::move(partner)), t_(p_.N()), score_(p_.N()) {
    for_rows(p_.N(), p_.D(), rows.options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        const std::int64_t k = partner_[i];
        if (k < 0) continue;
        const Real *x = rows_.x->row(i, thread), *y = rows_.y->row(k, thread);
        t_[i] = p_.kind == Kind::dot ? dot(x, y, p_.D()) : -squared_distance(x, y, p_.D());
        score_[i] = Real(phi_value(p_.phi, p_.scale * t_[i]) + at(p_.row_bias, i) + at(p_.col_bias, k));
      }
    });
  }

  const std::vector<std::int64_t>& partner() const { return partner_; }
  const std::vector<Real>& scores() const { return score_; }

  // Adds the gradients for these weights, the last contributions to the rows, and finishes the rows.
  void finish(const std::vector<double>& weight, const Gradients<Real>& out) {
    std::vector<Real> factor(p_.N());
    std::vector<std::int64_t> head(p_.M(), -1), next(p_.N(), -1);  // for each column, the rows whose positive it is
    for (std::int64_t i = p_.N() - 1; i >= 0; --i)
      if (partner_[i] >= 0) next[i] = head[partner_[i]], head[partner_[i]] = i;
    double of_scale = 0;
    for (std::int64_t i = 0; i < p_.N(); ++i) {
      const std::int64_t k = partner_[i];
      if (k < 0) continue;
      const double of_u = weight[i] * phi_slope(p_.phi, p_.scale * t_[i]);
      factor[i] = Real((p_.kind == Kind::dot ? 1 : 2) * p_.scale * of_u);
      of_scale += of_u * t_[i];
      if (out.row_bias) out.row_bias[i] += Real(weight[i]);
      if (out.col_bias) out.col_bias[k] += Real(weight[i]);
    }
    if (out.scale) *out.scale += of_scale;
    const bool apart = p_.kind == Kind::sqdist;
    const auto add = [&](Real weight_of_row, const Real* to, const Real* from, Real* g) {
      for (std::int64_t d = 0; d < p_.D(); ++d) g[d] += weight_of_row * (apart ? to[d] - from[d] : to[d]);
    };
    // Two rows are read at once, so each of X and Y has a place of its own.
    const auto from_column = [&](std::int64_t i, int thread, Real* g) {
      const std::int64_t k = partner_[i];
      if (k >= 0) add(factor[i], rows_.y->row(k, thread), apart ? rows_.x->row(i, thread) : nullptr, g);
    };
    const auto from_rows = [&](std::int64_t k, int thread, Real* g) {
      for (std::int64_t i = head[k]; i >= 0; i = next[i])
        add(factor[i], rows_.x->row(i, thread), apart ? rows_.y->row(k, thread) : nullptr, g);
    };
    rows_.finish(
        [&](std::int64_t i, int thread, Real* g) {
          from_column(i, thread, g);
          if (p_.symmetric) from_rows(i, thread, g);
        },
        from_rows);
  }

 private:
  static double at(const void* bias, std::int64_t i) { return bias ? double(static_cast<const Real*>(bias)[i]) : 0; }

  Prepared<Real>& rows_;
  const Problem& p_;
  const std::vector<std::int64_t> partner_;
  std::vector<double> t_;
  std::vector<Real> score_;
};

}  // namespace jessl
