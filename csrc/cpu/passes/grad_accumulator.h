// Adds up the gradients of tiles and finishes the gradients of x, y and α.
//
//   dot      dx_i = α a_i               a_i = Σ_j U_ij y_j
//   square   dx_i = 2α (a_i − w_i x_i)  w_i = Σ_j U_ij over tiles whose squares were expanded; in close tiles
//                                       differences are added to a_i
//
// The same holds for y, for the columns whose gradient is requested. Sums over segments are merged in their order. dα =
// Σ_i ⟨x_i, a_i⟩ (dot), −Σ_ij U_ij ‖x_i − y_j‖² (square).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/passes/tiling.h"
#include "cpu/tile/dot.h"
#include "cpu/tile/workspace.h"
#include "cpu/tile/sums.h"

namespace jessl {

// One segment's contribution to the rows of a strip.
template <class Real>
struct Part {
  Rows<Real> row_grad;               // (rows, ld)
  std::vector<double> p_sum, u_sum;  // Σ_j P_ij and w_i
  double t_dot = 0;                  // Σ_ij U_ij t_ij
  bool empty = true;                 // no tile was added yet: the numbers above are of an older strip
};

template <class Real>
class GradAccumulator {
 public:
  GradAccumulator(const Problem& p, const Tiling& tiling, const Gradients<Real>& out)
      : p_(p),
        tiling_(tiling),
        out_(out),
        expands_(p.expands_squares()),
        needs_rows_(out.x || (out.scale && p.kind == Kind::dot)),
        columns_(p.symmetric ? Columns{0, needs_rows_ ? p.M() : 0}
                             : Columns{out.columns.first, out.y ? std::min(out.columns.end, p.M()) : 0}),
        ld_(padded<Real>(p.D())),
        memory_(tiling.places() * part_bytes(p, tiling.rows)),
        parts_(tiling.places()),
        row_u_sum_(expands_ ? p.N() : 0),
        col_u_sum_(expands_ && !p.symmetric ? p.M() : 0),
        scale_of_strip_(tiling.plan.strips),
        instead_of_x_(needs_rows_ && !out.x ? p.N() * p.D() : 0),
        sums_of_x_(out.x ? out.x : instead_of_x_.data()) {
    for (Part<Real>& part : parts_) {
      part.row_grad = {memory_.take<Real>(tiling.rows * ld_), ld_};
      part.p_sum.resize(tiling.rows);
      part.u_sum.resize(tiling.rows);
    }
  }

  static std::int64_t part_bytes(const Problem& p, std::int64_t rows) {
    return Scratch::size_of<Real>(rows * padded<Real>(p.D())) + 2 * rows * std::int64_t(sizeof(double));
  }

  Part<Real>& begin(const Task& t) {
    Part<Real>& part = parts_[tiling_.place(t)];
    part.empty = true;
    return part;
  }

  // Adds a tile whose scores have become P.
  void add(const TileOps<Real>& ops, Workspace<Real>& b, Part<Real>& part, bool diagonal) {
    const bool fresh = part.empty;  // the first tile overwrites `row_grad`
    if (fresh) clear_sums(part);
    ++b.work.backward;
    if (out_.row_bias || out_.col_bias) {
      ops.sum(b.strip, b.tile, b.total);
      for (std::int64_t i = 0; i < b.strip.count; ++i) part.p_sum[i] += b.total.row[i];
      for (std::int64_t j = 0; out_.col_bias && j < b.tile.count; ++j)
        out_.col_bias[b.tile.first + j] += b.total.col[j];
    }
    if (b.tile.slope.data) ops.combine(b.strip, b.tile, b.tile.slope, true);
    // A diagonal tile of a symmetric problem holds each of its pairs twice.
    if (b.tile.t.data) part.t_dot += (diagonal ? 0.5 : 1.0) * ops.dot_t(b.strip, b.tile);
    const Columns which = within(b.tile);
    const bool columns = which.first < which.end && !diagonal;
    if (!needs_rows_ && !columns) return;
    if (expands_ && !b.tile.close) {
      ops.sum(b.strip, b.tile, b.total);
      for (std::int64_t i = 0; i < b.strip.count; ++i) part.u_sum[i] += b.total.row[i];
      std::vector<double>& sums = p_.symmetric ? row_u_sum_ : col_u_sum_;
      for (std::int64_t j = 0; columns && j < b.tile.count; ++j) sums[b.tile.first + j] += b.total.col[j];
    }
    Real* const of_columns = columns ? column_gradient(b.tile.first + which.first) : nullptr;
    ops.backward(p_, b.strip, b.tile, {needs_rows_ ? part.row_grad.data : nullptr, ld_}, fresh, b.to_columns, which,
                 of_columns);
  }

  // Called when all segments of a strip are done: its rows are complete.
  void finish(const TileOps<Real>& ops, const Workspace<Real>& b, std::int64_t strip) {
    const std::int64_t first = tiling_.first_row(strip), count = tiling_.rows_of(strip);
    const Rows<const Real>& x = expands_ || p_.kind == Kind::dot ? b.strip.rows : b.strip.plain_rows;
    Real* to = needs_rows_ ? sums_of_x_ : nullptr;
    double& scale = scale_of_strip_[strip];
    tiling_.parts(strip, [&](std::int64_t place) {
      const Part<Real>& part = parts_[place];
      if (part.empty) return;
      if (to) ops.add_rows(part.row_grad, count, p_.D(), to + first * p_.D());
      for (std::int64_t i = 0; expands_ && i < count; ++i) row_u_sum_[first + i] += part.u_sum[i];
      for (std::int64_t i = 0; out_.row_bias && i < count; ++i) out_.row_bias[first + i] += Real(part.p_sum[i]);
      scale += part.t_dot;
    });
    if (out_.scale && p_.kind == Kind::dot) {
      double inner = 0;
      for (std::int64_t i = 0; i < count; ++i) inner += dot(x.data + i * x.ld, to + (first + i) * p_.D(), p_.D());
      scale = p_.symmetric ? 0.5 * inner : inner;  // a symmetric problem counts each pair from both its ends
    }
    if (to) scaled(to + first * p_.D(), count, x, row_u_sum_.data() + first);
  }

  // Called when the last strip is done with the tile's columns: they are complete.
  void finish_columns(const Tile<Real>& tile) {
    const auto [first, end] = within(tile);
    if (first >= end || p_.symmetric) return;
    const std::int64_t column = tile.first + first;
    const Rows<const Real> points{expands_ ? tile.rows.data + first * tile.rows.ld : nullptr, tile.rows.ld};
    scaled(column_gradient(column), end - first, points, col_u_sum_.data() + column);
  }
  // Whether a tile of these columns contributes to any requested gradient.
  bool asks_for(const Tile<Real>& tile) const {
    const auto [first, end] = within(tile);
    return needs_rows_ || first < end || out_.scale || out_.row_bias || out_.col_bias;
  }

  void finish_all() {
    if (!out_.scale) return;
    double total = 0;
    for (const double scale : scale_of_strip_) total += scale;
    *out_.scale += total;
  }

 private:
  void clear_sums(Part<Real>& part) {
    std::fill(part.p_sum.begin(), part.p_sum.end(), 0.0);
    std::fill(part.u_sum.begin(), part.u_sum.end(), 0.0);
    part.t_dot = 0;
    part.empty = false;
  }

  // The columns of a tile whose gradient is requested.
  Columns within(const Tile<Real>& tile) const {
    return {std::max<std::int64_t>(columns_.first - tile.first, 0), std::min(columns_.end - tile.first, tile.count)};
  }
  Real* column_gradient(std::int64_t column) const {
    return p_.symmetric ? sums_of_x_ + column * p_.D() : out_.y + (column - columns_.first) * p_.D();
  }

  void scaled(Real* row, std::int64_t count, const Rows<const Real>& points, const double* u_sum) {
    if (out_.unfinished) return;
    const Real factor = Real(p_.kind == Kind::dot ? p_.scale : 2 * p_.scale);
    for (std::int64_t i = 0; i < count; ++i, row += p_.D()) {
      const Real w = expands_ ? Real(u_sum[i]) : Real(0);
      for (std::int64_t d = 0; d < p_.D(); ++d)
        row[d] = factor * (expands_ ? row[d] - w * points.data[i * points.ld + d] : row[d]);
    }
  }

  const Problem& p_;
  const Tiling& tiling_;
  const Gradients<Real> out_;
  const bool expands_, needs_rows_;
  const Columns columns_;
  const std::int64_t ld_;
  Scratch memory_;
  std::vector<Part<Real>> parts_;
  std::vector<double> row_u_sum_, col_u_sum_, scale_of_strip_;
  std::vector<Real> instead_of_x_;  // room for the gradient of x if only that of α is requested, which is made from it
  Real* const sums_of_x_;
};

}  // namespace jessl
