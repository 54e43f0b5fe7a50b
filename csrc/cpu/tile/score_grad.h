// The weights P_ij = ∂/∂s_ij of a tile's pairs, made from its scores in place.
//
//   exponentials   s_ij → P_ij = g_i e^{s_ij − L_i} + h_j e^{s_ij − L_j}
//   a ψ            s_ij → P_ij = ψ'(s_ij)·(g_i + h_j)
//   with a spread  P_ij gains b_i (e^{s_ij − L_i} − 1/n_i) for an included pair, and the same for the column
//
// One exponential serves a row and a column as in absorb.h. A weight is rounded once. V: a vector type.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/tile/absorb.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// One side's weights, padded to whole vectors. Factors of an absent side and of the padding are 0; the padding has the
// reference of the last row.
template <class V>
struct Lines {
  using Real = typename V::Real;
  alignas(64) Real from[most_rows + 16], factor[most_rows + 16], shared[most_rows + 16], spread[most_rows + 16],
      mean[most_rows + 16];
  static constexpr int together = V::lanes < 4 ? 4 : V::lanes;  // a vector of rows, four columns
  bool far[most_rows / together + 1];
  std::int64_t size, n;  // n is 0 for an absent side
  Lines(SoftmaxSide<Real> side, std::int64_t count, bool with_spread = false)
      : size(count), n(side.factor ? count : 0) {
    const auto fill = [count](Real* line, const Real* given) {
      for (std::int64_t i = 0; i < count + V::lanes; ++i) line[i] = given && i < count ? given[i] : Real(0);
    };
    fill(factor, side.factor);
    fill(from, side.from);
    if (count > 0) std::fill_n(from + count, V::lanes, from[count - 1]);
    if (with_spread) fill(spread, side.spread), fill(mean, side.spread ? side.mean : nullptr);
  }
  Real largest_power() const {
    V most(minus_infinity<Real>);
    for (std::int64_t i = 0; i < n; i += V::lanes) most = max(V::load(from + i), most);
    return largest(most);
  }
  // The factors for another power of 2, exactly. `far` marks the groups of `together` rows in which some power is too
  // far below it. A factor of 0, of a row without a pair, has the reference 0, which may be too far away for a power.
  void share(Real power) {
    std::fill_n(far, most_rows / together + 1, false);
    for (std::int64_t i = 0; i < size; i += V::lanes) {
      const V f = V::load(factor + i), gap = V(power) - V::load(from + i);
      select(f == V(Real(0)), f, scale_by_power(f, gap)).store(shared + i);
      far[i / together] |= n > 0 && !(largest(gap) <= Real(reach));
    }
  }
};

// With a spread each side takes its own exponential. The tiny factor's part is added to the spread's part unrounded.
template <class V, class Real = typename V::Real>
[[gnu::flatten]] void score_grad_with_spread(double log_base, const Strip<Real>& strip, Tile<Real>& tile,
                                             SoftmaxSide<Real> row, SoftmaxSide<Real> col) {
  const Lines<V> rows(row, strip.count, true), cols(col, tile.count, true);
  const auto side = [&](auto s, auto from, auto factor, auto spread, auto mean) {
    const auto e = exponential(log_base, s, from);
    return fma(factor, e, if_in(s, fma(spread, e, decltype(s)(Real(0)) - mean)));
  };
  each_score<V>(strip, tile, tile.s, [&](auto s, std::int64_t i, std::int64_t j) {
    const auto p = side(s, at_rows<V>(s, rows.from + i), at_rows<V>(s, rows.factor + i), at_rows<V>(s, rows.spread + i),
                        at_rows<V>(s, rows.mean + i));
    if (!cols.n) return p;
    return p + side(s, at_columns<V>(s, cols.from + j), at_columns<V>(s, cols.factor + j),
                    at_columns<V>(s, cols.spread + j), at_columns<V>(s, cols.mean + j));
  });
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void score_grad(Op op, double log_base, const Strip<Real>& strip, Tile<Real>& tile,
                                 SoftmaxSide<Real> row, SoftmaxSide<Real> col) {
  if (row.spread || col.spread) return score_grad_with_spread<V>(log_base, strip, tile, row, col);
  Lines<V> rows(row, strip.count), cols(col, tile.count);
  if (op != Op::logsumexp)
    return each_score<V>(strip, tile, tile.s, [&](auto s, std::int64_t i, std::int64_t j) {
      return psi_slope(op, s) * (at_rows<V>(s, rows.factor + i) + at_columns<V>(s, cols.factor + j));
    });
  // Each side takes its own exponential.
  const auto apart = [&](auto s, std::int64_t i, std::int64_t j) {
    const auto p = exponential(log_base, s, at_rows<V>(s, rows.from + i)) * at_rows<V>(s, rows.factor + i);
    if (!cols.n) return p;
    return p + exponential(log_base, s, at_columns<V>(s, cols.from + j)) * at_columns<V>(s, cols.factor + j);
  };
  const Real of_rows = rows.largest_power(), of_columns = cols.largest_power(),
             power = of_rows < of_columns ? of_columns : of_rows;
  if (log_base != log_2 || !std::isfinite(power)) return each_score<V>(strip, tile, tile.s, apart);
  rows.share(power);
  cols.share(power);
  each_score<V>(strip, tile, tile.s, [&](auto s, std::int64_t i, std::int64_t j) {
    if (rows.far[i / rows.together] || cols.far[j / cols.together]) return apart(s, i, j);
    return exp_over(s, decltype(s)(power)) * (at_rows<V>(s, rows.shared + i) + at_columns<V>(s, cols.shared + j));
  });
}

// row_i = Σ_j ψ(s_ij), col_j = Σ_i ψ(s_ij); with `weigh` the scores become P.
template <class V, class Real = typename V::Real>
[[gnu::flatten]] void absorb_psi(Op psi, const Strip<Real>& strip, Tile<Real>& tile, Sides<Real> total, bool weigh,
                                 SoftmaxSide<Real> row, SoftmaxSide<Real> col) {
  const Lines<V> rows(row, weigh ? strip.count : 0), cols(col, weigh ? tile.count : 0);
  const auto factor = [&](auto s, std::int64_t i, std::int64_t j) {
    return at_rows<V>(s, rows.factor + i) + at_columns<V>(s, cols.factor + j);
  };
  const auto absorb = [&]<bool keep>(std::bool_constant<keep>) {
    if (psi == Op::softplus)  // a loop without a branch inside: one exponential serves value and slope
      return sum_over<V, keep>(strip, tile, total, [&](auto& s, std::int64_t i, std::int64_t j) {
        const auto e = exp_of_minus_abs(s), value = softplus_from(s, e);
        if constexpr (keep) s = logistic_from(s, e) * factor(s, i, j);
        return value;
      });
    sum_over<V, keep>(strip, tile, total, [&](auto& s, std::int64_t i, std::int64_t j) {
      const auto value = psi_value(psi, s);
      if constexpr (keep) s = psi_slope(psi, s) * factor(s, i, j);
      return value;
    });
  };
  weigh ? absorb(std::true_type()) : absorb(std::false_type());
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void score_grad_from_terms(const Strip<Real>& strip, Tile<Real>& tile, Real power,
                                            SoftmaxSide<Real> row, SoftmaxSide<Real> col) {
  Lines<V> rows(row, strip.count), cols(col, tile.count);
  rows.share(power);
  cols.share(power);
  each_score<V>(strip, tile, tile.s, [&](auto s, std::int64_t i, std::int64_t j) {
    return s * (at_rows<V>(s, rows.shared + i) + at_columns<V>(s, cols.shared + j));
  });
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void softmax_slope(const Strip<Real>& strip, Tile<Real>& tile, Rows<Real> of_p, const Real* inner) {
  alignas(64) Real line[most_rows + 16] = {};
  std::copy_n(inner, strip.count, line);
  each_score<V>(strip, tile, tile.s, [&]<class S>(S p, std::int64_t i, std::int64_t j) {
    const S none(Real(0));
    return select(p == none, none, p * (at_pairs(p, of_p, i, j) - at_rows<V>(p, line + i)));
  });
}

// Adds the weights of another tilt to the tile; or, as a product, multiplies the tile by φ'(u).
template <class V, class Real = typename V::Real>
void combine(const Strip<Real>& strip, Tile<Real>& tile, Rows<Real> more, bool product) {
  each_score<V>(strip, tile, tile.s, [=](auto s, std::int64_t i, std::int64_t j) {
    const auto other = at_pairs(s, more, i, j);
    return product ? s * other : s + other;
  });
}

// Σ_ij U_ij t_ij.
template <class V, class Real = typename V::Real>
double dot_t(const Strip<Real>& strip, const Tile<Real>& tile) {
  double total = 0;
  for (std::int64_t j = 0; j < tile.count; ++j) {
    V column(Real(0));
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes)
      column = fma(V::load(tile.s.data + j * tile.s.ld + i), V::load(tile.t.data + j * tile.t.ld + i), column);
    total += sum(column);
  }
  return total;
}

}  // namespace
}  // namespace jessl
