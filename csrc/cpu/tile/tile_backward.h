// From the gradient U of a tile's scores to its embeddings: Σ_j U_ij y_j and Σ_i U_ij x_i, or with differences
//
//   Σ_j U_ij (y_j − x_i)   and   Σ_i U_ij (x_i − y_j)
//
// if points are close, where the two sums would nearly cancel. V: a vector type.
#pragma once

#include "cpu/tile/absorb.h"
#include "cpu/tile/product.h"
#include "cpu/tile/tile.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// C[r][c] += Σ_k A[k, r] · (B[k][c] − O[r][c]), half as many rows at once as a product, because O stays in registers.
template <class V, int R, class Real = typename V::Real>
void backward_block(const Operands<Real>& o, const Real* own, std::int64_t own_r, std::int64_t K) {
  V c[R], from[R];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    c[r] = V::load(o.c + r * o.c_r);
    from[r] = V::load(own + r * own_r);
  }
  for (std::int64_t k = 0; k < K; ++k) {
    const V row = V::load(o.b + k * o.b_k);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) c[r] = fma(V(o.a[k * o.a_k + r * o.a_r]), row - from[r], c[r]);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) c[r].store(o.c + r * o.c_r);
}

template <class V, class Real = typename V::Real>
void backward_by_differences(Operands<Real> o, const Real* own, std::int64_t own_r, std::int64_t rows,
                             std::int64_t columns, std::int64_t K) {
  constexpr int R = 6;
  for (std::int64_t c = 0; c < columns; c += V::lanes) {
    std::int64_t r = 0;
    for (; r + R <= rows; r += R)
      backward_block<V, R>({o.a + r * o.a_r, o.b + c, o.c + r * o.c_r + c, o.a_k, o.a_r, o.b_k, o.c_r},
                           own + r * own_r + c, own_r, K);
    for (; r < rows; ++r)
      backward_block<V, 1>({o.a + r * o.a_r, o.b + c, o.c + r * o.c_r + c, o.a_k, o.a_r, o.b_k, o.c_r},
                           own + r * own_r + c, own_r, K);
  }
}

// Few dimensions do not fill a vector. Here vectors run along the strip instead, one dimension after the other and
// `Columns` columns at a time, and one difference serves both sums.
template <class V, int Columns, class Real = typename V::Real>
void backward_columns(const Problem& p, const Strip<Real>& strip, const Tile<Real>& tile, std::int64_t first,
                      Real (*toward)[most_rows], Rows<Real> to_columns) {
  for (std::int64_t d = 0; d < p.D(); ++d) {
    const Real* x = strip.plain_across.data + d * strip.plain_across.ld;
    V y[Columns], column[Columns];
#pragma GCC unroll 4
    for (int c = 0; c < Columns; ++c) {
      y[c] = V(tile.plain_rows.data[(first + c) * tile.plain_rows.ld + d]);
      column[c] = V(Real(0));
    }
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) {
      const V x_i = V::load(x + i);
      V row = V::load(toward[d] + i);
#pragma GCC unroll 4
      for (int c = 0; c < Columns; ++c) {
        const V weight = V::load(tile.s.data + (first + c) * tile.s.ld + i), difference = x_i - y[c];
        row = row - weight * difference;
        column[c] = fma(weight, difference, column[c]);
      }
      row.store(toward[d] + i);
    }
#pragma GCC unroll 4
    for (int c = 0; c < Columns; ++c) to_columns.data[(first + c) * to_columns.ld + d] += sum(column[c]);
  }
}

template <class V, class Real = typename V::Real>
void backward_few_dimensions(const Problem& p, const Strip<Real>& strip, const Tile<Real>& tile, Rows<Real> to_rows,
                             Rows<Real> to_columns) {
  alignas(64) Real toward[V::lanes][most_rows] = {};
  constexpr int block = 4;
  std::int64_t j = 0;
  for (; j + block <= tile.count; j += block) backward_columns<V, block>(p, strip, tile, j, toward, to_columns);
  for (; j < tile.count; ++j) backward_columns<V, 1>(p, strip, tile, j, toward, to_columns);
  for (std::int64_t i = 0; i < strip.count; ++i)
    for (std::int64_t d = 0; d < p.D(); ++d) to_rows.data[i * to_rows.ld + d] += toward[d][i];
}

template <class V, class Real = typename V::Real>
void add_rows(Rows<Real> from, std::int64_t count, std::int64_t D, Real* to) {
  for (std::int64_t i = 0; i < count; ++i, to += D) {
    const Real* row = from.data + i * from.ld;
    std::int64_t d = 0;
    for (; d + V::lanes <= D; d += V::lanes) add_to<V>(to + d, V::load(row + d));
    for (; d < D; ++d) to[d] += row[d];
  }
}

// Both sums where points are close, added to what is there; columns of `part`, which is the tile or some of it.
template <class V, class Real = typename V::Real>
void backward_close(const Problem& p, const Strip<Real>& strip, const Tile<Real>& tile, const Tile<Real>& part,
                    Rows<Real> to_rows, Rows<Real> to_columns) {
  const Rows<Real>& s = tile.s;
  const Rows<const Real>&x = strip.plain_rows, &y = tile.plain_rows;
  if (to_rows.data && to_columns.data && p.D() <= V::lanes && part.count == tile.count)
    return backward_few_dimensions<V>(p, strip, tile, to_rows, to_columns);
  if (to_rows.data)
    backward_by_differences<V>({s.data, y.data, to_rows.data, s.ld, 1, y.ld, to_rows.ld}, x.data, x.ld, strip.count,
                               p.D(), tile.count);
  if (to_columns.data)
    backward_by_differences<V>({part.s.data, x.data, to_columns.data, 1, s.ld, x.ld, to_columns.ld},
                               part.plain_rows.data, y.ld, part.count, p.D(), strip.count);
}

template <class V, class Real = typename V::Real>
void tile_backward(const Problem& p, const Strip<Real>& strip, const Tile<Real>& tile, Rows<Real> to_rows, bool fresh,
                   Rows<Real> spare, Columns which, Real* columns) {
  Tile<Real> part = tile;
  part.count = which.end - which.first;
  part.s.data += which.first * tile.s.ld;
  if (tile.close) part.plain_rows.data += which.first * tile.plain_rows.ld;
  // If rows of the gradient are whole vectors, `spare` is not needed.
  const bool direct = p.D() % V::lanes == 0;
  const Rows<Real> to_columns = !columns || direct ? Rows<Real>{columns, p.D()} : spare;
  if (tile.close) {
    for (std::int64_t i = 0; fresh && to_rows.data && i < strip.count; ++i)
      clear(to_rows.data + i * to_rows.ld, to_rows.ld);
    for (std::int64_t j = 0; columns && !direct && j < part.count; ++j) clear(spare.data + j * spare.ld, spare.ld);
    backward_close<V>(p, strip, tile, part, to_rows, to_columns);
  } else {
    const Rows<Real>& s = tile.s;
    const Rows<const Real>&x = strip.rows, &y = tile.rows;
    if (to_rows.data)
      product<V>({s.data, y.data, to_rows.data, s.ld, 1, y.ld, to_rows.ld}, strip.count, p.D(), tile.count, !fresh);
    if (columns)
      product<V>({part.s.data, x.data, to_columns.data, 1, s.ld, x.ld, to_columns.ld}, part.count, p.D(), strip.count,
                 direct);
  }
  if (columns && !direct) add_rows<V>(spare, part.count, p.D(), columns);
}

}  // namespace
}  // namespace jessl
