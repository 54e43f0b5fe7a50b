// The rows of a batch before any tile: divided by their norms, and copied once if they are few. And the gradient back
// through the division.
//
//   x̂_i = x_i / max(‖x_i‖, 1e−12)        dx_i = (dx̂_i − x̂_i⟨x̂_i, dx̂_i⟩) / ‖x_i‖
//
// A row shorter than 1e−12 is multiplied by a constant, as torch.nn.functional.normalize does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/options.h"
#include "cpu/scratch.h"
#include "cpu/tile/dot.h"
#include "cpu/tile/rows.h"

namespace jessl {

// Reads the rows of a batch one at a time, as the problem sees them; each thread has a place of its own.
template <class Real>
class RowReader {
 public:
  RowReader(const Batch& batch, int threads)
      : batch_(batch),
        ld_(padded<Real>(batch.columns)),
        memory_(Scratch::size_of<Real>(threads * ld_)),
        places_(memory_.take<Real>(threads * ld_)) {}
  const Real* row(std::int64_t i, int thread) const {
    if (const Real* there = row_in_place<Real>(batch_, i)) return there;
    Real* const place = places_ + thread * ld_;
    load_rows<Real>(batch_, i, 1, nullptr, {place, ld_});
    return place;
  }

 private:
  const Batch& batch_;
  std::int64_t ld_;
  Scratch memory_;
  Real* const places_;
};

template <class Real>
class NormalizedRows {
 public:
  // Sets the batch's row factors: from here on its rows are normalized wherever they are loaded.
  NormalizedRows(Batch& batch, const Options& options) : D_(batch.columns), factor_(batch.rows) {
    const RowReader<Real> reader(batch, options.threads);
    for_rows(batch.rows, batch.columns, options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        const Real* x = reader.row(i, thread);
        const double norm = std::sqrt(dot(x, x, batch.columns));
        factor_[i] = Real(1 / (norm < shortest ? shortest : norm));  // a NaN stays
      }
    });
    batch.row_factor = factor_.data();
    // A row with a NaN or an infinity does not get norm 1.
    batch.normalized = std::all_of(factor_.begin(), factor_.end(), [](Real factor) { return factor > 0; });
  }
  NormalizedRows(const NormalizedRows&) = delete;

  // Turns the gradient of a normalized row into that of the given row, which is number `place` in memory.
  void back(std::int64_t place, const Real* row, Real* gradient) const {
    const Real along = factor_[place] < Real(1 / shortest) ? Real(dot(row, gradient, D_)) : Real(0);
    for (std::int64_t d = 0; d < D_; ++d) gradient[d] = factor_[place] * (gradient[d] - along * row[d]);
  }

 private:
  static constexpr double shortest = 1e-12;
  const std::int64_t D_;
  std::vector<Real> factor_;
};

// A small batch copied once, as its problem sees it: permuted, times its factors, in the real type. Products then read
// the copy in place (`rows_ready` of rows.h); otherwise each pass would copy each tile for each strip.
template <class Real>
class ReadyRows {
 public:
  // Copies the batch into a small part of the workspace if it fits and if products can read the copy but not the
  // original. With `whatever` it is copied in any case.
  ReadyRows(Batch& batch, Options& options, bool whatever = false) {
    const std::int64_t ld = padded<Real>(batch.columns), bytes = Scratch::size_of<Real>(batch.rows * ld);
    const bool whole_lines = batch.columns * std::int64_t(sizeof(Real)) % 64 == 0;
    const bool pays = whole_lines && !stand_ready<Real>(batch, 0, batch.rows) && bytes <= options.workspace / 32;
    if (!pays && !whatever) return;
    memory_.emplace(bytes);
    Real* const copy = memory_->template take<Real>(batch.rows * ld);
    for_rows(batch.rows, batch.columns, options, [&](std::int64_t first, std::int64_t end, int) {
      load_rows<Real>(batch, first, end - first, nullptr, {copy + first * ld, ld});
    });
    batch = {.pieces = {{{copy, ld, 1}}},
             .rows = batch.rows,
             .columns = batch.columns,
             .element = element_of<Real>,
             .normalized = batch.normalized};
    if (!whatever) options.taken += bytes;
  }

 private:
  std::optional<Scratch> memory_;
};

}  // namespace jessl
