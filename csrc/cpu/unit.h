// Rows divided by their norms: factors 1/‖x_i‖ on the way in, and the gradient's way back through the division.
//
//   x̂_i = x_i / max(‖x_i‖, 1e−12)        dx_i = (dx̂_i − x̂_i⟨x̂_i, dx̂_i⟩) / ‖x_i‖
//
// A row shorter than 1e−12 is multiplied by a constant, as torch.nn.functional.normalize does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/dot.h"
#include "cpu/driver.h"
#include "cpu/for_rows.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"

namespace jessl {

// Rows of a batch, one at a time, as its problem sees them; a place for each of several threads.
template <class Real>
class RowReader {
 public:
  RowReader(const Batch& batch, int threads)
      : batch_(batch), ld_(padded<Real>(batch.columns)), memory_(threads * Scratch::size_of<Real>(ld_)) {
    for (int t = 0; t < threads; ++t) place_.push_back(memory_.take<Real>(ld_));
  }
  const Real* row(std::int64_t i, int thread) const {
    if (const Real* there = row_in_place<Real>(batch_, i)) return there;
    load_rows<Real>(batch_, i, 1, nullptr, {place_[thread], ld_});
    return place_[thread];
  }

 private:
  const Batch& batch_;
  std::int64_t ld_;
  Scratch memory_;
  std::vector<Real*> place_;
};

template <class Real>
class UnitRows {
 public:
  // From here on the batch's rows are unit rows, wherever they are put.
  UnitRows(Batch& batch, const Options& options) : batch_(batch), factor_(batch.rows) {
    const RowReader<Real> reader(batch, options.threads);
    for_rows(batch.rows, batch.columns, options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        const Real* x = reader.row(i, thread);
        const double norm = std::sqrt(dot(x, x, batch.columns));
        factor_[i] = Real(1 / (norm < shortest ? shortest : norm));  // a NaN stays
      }
    });
    batch.row_factor = factor_.data();
    batch.unit = std::all_of(factor_.begin(), factor_.end(), [](Real factor) { return factor > 0; });  // not of NaN, nor of infinity
  }
  UnitRows(const UnitRows&) = delete;

  // The gradient by a unit row becomes that by the row, in place.
  void back(std::int64_t i, const Real* unit, Real* gradient) const {
    const std::int64_t D = batch_.columns;
    const Real along = factor_[i] < Real(1 / shortest) ? Real(dot(unit, gradient, D)) : Real(0);
    for (std::int64_t d = 0; d < D; ++d) gradient[d] = factor_[i] * (gradient[d] - along * unit[d]);
  }
  // Those of all rows.
  void back(const Options& options, Real* gradient) const {
    const RowReader<Real> reader(batch_, options.threads);
    for_rows(batch_.rows, batch_.columns, options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) back(i, reader.row(i, thread), gradient + i * batch_.columns);
    });
  }

 private:
  static constexpr double shortest = 1e-12;
  const Batch& batch_;
  std::vector<Real> factor_;
};

}  // namespace jessl
