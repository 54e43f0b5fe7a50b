// Loads a strip and a tile and computes the tile's scores s_ij = φ(u_ij) + r_i + c_j, −inf for excluded pairs.
//
// u is the product of the tile's rows with the strip's transpose, or their squared distances times −α. V: a vector
// type.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/simd/unroll4.h"
#include "cpu/tile/product.h"
#include "cpu/tile/rows.h"
#include "cpu/tile/tile.h"
#include "pairwise/score.h"  // after math.h, whose functions it calls

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

template <class Real>
constexpr Real minus_infinity = -std::numeric_limits<Real>::infinity();

// Numbers that belong to s: one for each row, one for each column, or one for each pair. s is a vector of scores of
// rows from i on, or four such vectors of columns from j on.
template <class V, class S, class Real = typename V::Real>
S at_rows(S, const Real* line) {
  return S(V::load(line));
}
template <class V, class S, class Real = typename V::Real>
S at_columns(S, const Real* line) {
  if constexpr (sizeof(S) == sizeof(V))
    return S(line[0]);
  else
    return S(V(line[0]), V(line[1]), V(line[2]), V(line[3]));
}
template <class S, class Real>
S at_pairs(S, Rows<Real> of, std::int64_t i, std::int64_t j) {
  return S::load(of.data + j * of.ld + i, of.ld);
}

// Writes f(score, row, column) of every pair to `to`, which may be the tile, four columns at a time.
template <class V, class F, class Real = typename V::Real>
void each_score(const Strip<Real>& strip, const Tile<Real>& tile, Rows<Real> to, F&& f) {
  const auto columns = [&]<class S>(S s, std::int64_t j) {
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes)
      f(at_pairs(s, tile.s, i, j), i, j).store(to.data + j * to.ld + i, to.ld);
  };
  std::int64_t j = 0;
  for (; j + 4 <= tile.count; j += 4) columns(Four<V>(), j);
  for (; j < tile.count; ++j) columns(V(), j);
}

template <class Real>
void load_bias(const void* bias, std::int64_t first, std::int64_t count, Real* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = bias ? static_cast<const Real*>(bias)[first + i] : Real(0);
}

template <class V, class Real = typename V::Real>
void load_strip(const Problem& p, Strip<Real>& strip, bool across) {
  strip.lanes = (strip.count + V::lanes - 1) / V::lanes * V::lanes;
  load_bias(p.row_bias, strip.first, strip.count, strip.bias);
  for (std::int64_t i = 0; i < strip.lanes; ++i) strip.inside[i] = 0;
  for (std::int64_t i = strip.count; i < strip.lanes; ++i) strip.bias[i] = minus_infinity<Real>;
  if (p.takes_differences()) {
    strip.plain_rows = rows_ready<Real>(p.x, strip.first, strip.count, nullptr, strip.plain_place);
    if (across) transpose<Real>(strip.plain_rows, strip.count, p.D(), strip.lanes, strip.plain_across);
  }
  if (p.kind == Kind::dot || p.expands_squares()) {
    strip.rows = rows_ready(p.x, strip.first, strip.count, static_cast<const Real*>(p.center), strip.place);
    if (across) transpose<Real>(strip.rows, strip.count, p.D(), strip.lanes, strip.across);
  }
  if (p.expands_squares()) minus_squares<Real>(strip.rows, strip.count, p.D(), p.scale, strip.inside);
}

template <class V, class Real = typename V::Real>
void load_tile(const Problem& p, Tile<Real>& tile) {
  load_bias(p.col_bias, tile.first, tile.count, tile.bias);
  for (std::int64_t j = 0; j < tile.count; ++j) tile.inside[j] = 0;
  if (p.kind == Kind::sqdist && p.distances == Distances::differences) {
    tile.plain_rows = rows_ready<Real>(p.y, tile.first, tile.count, nullptr, tile.plain_place);
    return;
  }
  if (tile.close) tile.plain_rows = rows_ready<Real>(p.y, tile.first, tile.count, nullptr, tile.plain_place);
  tile.rows = rows_ready(p.y, tile.first, tile.count, static_cast<const Real*>(p.center), tile.place);
  if (p.expands_squares()) minus_squares<Real>(tile.rows, tile.count, p.D(), p.scale, tile.inside);
}

// Writes −inf for every excluded pair.
template <class Real>
void exclude(const Exclusion& exclusion, std::int64_t first_row, std::int64_t rows, std::int64_t first_col,
             std::int64_t cols, Rows<Real> s) {
  // Visits the tile's pairs on a diagonal: every i for which j = i + offset + first_row − first_col is a column.
  const auto along = [&](std::int64_t offset, auto&& visit) {
    for (std::int64_t i = 0; exclusion.moved.row_number && i < rows; ++i) {
      const std::int64_t number = exclusion.moved.row_number[first_row + i] + offset;
      if (number < 0 || number >= exclusion.moved.columns) continue;
      const std::int64_t j = exclusion.moved.col_place[number] - first_col;
      if (j >= 0 && j < cols) visit(s.data[j * s.ld + i]);
    }
    if (exclusion.moved.row_number) return;
    const std::int64_t shift = offset + first_row - first_col;
    for (std::int64_t i = shift < 0 ? -shift : 0; i < rows && i + shift < cols; ++i)
      visit(s.data[(i + shift) * s.ld + i]);
  };
  Real kept[most_kept][most_rows];
  for (std::int64_t d = 0; d < exclusion.keep_count; ++d) {
    Real* to = kept[d];
    along(exclusion.keep[d], [&](Real& score) { *to++ = score; });
  }
  for (std::int64_t d = 0; d < exclusion.diagonal_count; ++d)
    along(exclusion.diagonals[d], [](Real& score) { score = minus_infinity<Real>; });
  const auto by_ids = [&](const Ids& pair, bool out_if_same) {
    for (std::int64_t j = 0; pair.row && j < cols; ++j) {
      const std::int32_t id = pair.col[first_col + j], *ids = pair.row + first_row;
      Real* const column = s.data + j * s.ld;
      for (std::int64_t i = 0; i < rows; ++i)
        column[i] = (ids[i] == id) == out_if_same ? minus_infinity<Real> : column[i];
    }
  };
  for (const Ids& pair : exclusion.same) by_ids(pair, true);
  for (const Ids& pair : exclusion.different) by_ids(pair, false);
  for (std::int64_t d = 0; d < exclusion.keep_count; ++d) {
    const Real* from = kept[d];
    along(exclusion.keep[d], [&](Real& score) { score = *from++; });
  }
  by_ids(exclusion.without, true);
  by_ids(exclusion.within, false);
}

// s = −α‖x_i − y_j‖², one dimension after the other.
template <class V, class Real = typename V::Real>
void fill_by_differences(const Problem& p, const Strip<Real>& strip, Tile<Real>& tile) {
  product<V, true>({tile.plain_rows.data, strip.plain_across.data, tile.s.data, 1, tile.plain_rows.ld,
                    strip.plain_across.ld, tile.s.ld, Real(tile.t.data ? -1 : -p.scale)},
                   tile.count, strip.lanes, p.D(), false);
  if (!tile.t.data) return;
  each_score<V>(strip, tile, tile.s, [&]<class S>(S t, std::int64_t i, std::int64_t j) {
    t.store(tile.t.data + j * tile.t.ld + i, tile.t.ld);
    return S(Real(p.scale)) * t;
  });
}

// s = α⟨x_i, y_j⟩, or −α‖x_i − y_j‖² with the square expanded.
template <class V, class Real = typename V::Real>
void fill_by_product(const Problem& p, const Strip<Real>& strip, Tile<Real>& tile) {
  const Real factor = Real(p.kind == Kind::dot ? p.scale : 2 * p.scale);
  product<V>({tile.rows.data, strip.across.data, tile.s.data, 1, tile.rows.ld, strip.across.ld, tile.s.ld, factor},
             tile.count, strip.lanes, p.D(), false);
  if (p.kind == Kind::dot) return;
  each_score<V>(strip, tile, tile.s, [&]<class S>(S s, std::int64_t i, std::int64_t j) {
    const S u = s + (at_rows<V>(s, strip.inside + i) + at_columns<V>(s, tile.inside + j));
    if (tile.t.data) (u * S(Real(1 / p.scale))).store(tile.t.data + j * tile.t.ld + i, tile.t.ld);
    return u;
  });
}

// The largest score of the first columns.
template <class V, class Real = typename V::Real>
Real largest_of(const Strip<Real>& strip, const Tile<Real>& tile, std::int64_t columns) {
  V most(minus_infinity<Real>);
  for (std::int64_t j = 0; j < columns; ++j)
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) most = max(V::load(tile.s.data + j * tile.s.ld + i), most);
  return largest(most);
}

// u becomes φ(u) + r + c; φ'(u) is stored if the tile has room for it.
template <class V, class Real = typename V::Real>
void to_score(const Phi& phi, const Strip<Real>& strip, Tile<Real>& tile) {
  with_name(phi.name, [&](auto name) {
    for (std::int64_t j = 0; j < tile.count; ++j)
      for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) {
        Real* const s = tile.s.data + j * tile.s.ld + i;
        const V u = V::load(s);
        if (tile.slope.data) phi_slope<name()>(phi, u).store(tile.slope.data + j * tile.slope.ld + i);
        (phi_value<name()>(phi, u) + V::load(strip.bias + i) + V(tile.bias[j])).store(s);
      }
  });
}

// Writes −inf for excluded pairs and for the padding of the strip.
template <class V, class Real = typename V::Real>
void leave_out(const Problem& p, const Strip<Real>& strip, Tile<Real>& tile) {
  exclude(p.exclude, strip.first, strip.count, tile.first, tile.count, tile.s);
  for (std::int64_t j = 0; strip.count < strip.lanes && j < tile.count; ++j)
    for (std::int64_t i = strip.count; i < strip.lanes; ++i) tile.s.data[j * tile.s.ld + i] = minus_infinity<Real>;
}

template <class V, class Real = typename V::Real>
void score(const Problem& p, const Strip<Real>& strip, Tile<Real>& tile) {
  tile.close = false;
  load_tile<V>(p, tile);
  tile.close = p.kind == Kind::sqdist && p.distances == Distances::differences;
  if (!tile.close) fill_by_product<V>(p, strip, tile);
  if (p.kind == Kind::sqdist && p.distances == Distances::product_if_far) {
    leave_out<V>(p, strip, tile);
    tile.close = !(largest_of<V>(strip, tile, tile.count) <= Real(p.far_apart));
    if (tile.close) tile.plain_rows = rows_ready<Real>(p.y, tile.first, tile.count, nullptr, tile.plain_place);
  }
  if (tile.close) fill_by_differences<V>(p, strip, tile);
  if (p.phi.name != PhiName::identity || p.row_bias || p.col_bias) to_score<V>(p.phi, strip, tile);
  leave_out<V>(p, strip, tile);
}

}  // namespace
}  // namespace jessl
