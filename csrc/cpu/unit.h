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
#include "cpu/rows.h"
#include "cpu/scratch.h"

namespace jessl {

// visit(first, end, thread) over blocks of rows of D numbers that share nothing, on as many threads as so little work can use.
template <class Visit>
void for_rows(std::int64_t rows, std::int64_t D, const Options& options, Visit&& visit) {
  constexpr std::int64_t numbers = 1 << 15;  // of a block: a few microseconds
  const std::int64_t block = std::clamp<std::int64_t>(numbers / std::max<std::int64_t>(D, 1), 1, 256);
  const Plan plan{.strips = (rows + block - 1) / block, .segments = 1, .phases = 1, .slots = 1, .in_order = false};
  const int threads = int(std::clamp(double(rows) * double(D) / 5e4, 1.0, double(options.threads)));
  run(plan, threads, options.interrupted,
      [&](const Task& t, int thread) { visit(t.strip * block, std::min(rows, (t.strip + 1) * block), thread); },
      [](std::int64_t, int) {});
}

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
  // From here on the batch's rows are unit rows.
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
  }
  UnitRows(const UnitRows&) = delete;

  // The gradient by unit rows becomes that by the rows, in place.
  void back(const Options& options, Real* gradient) const {
    const RowReader<Real> reader(batch_, options.threads);
    const std::int64_t D = batch_.columns;
    for_rows(batch_.rows, D, options, [&](std::int64_t first, std::int64_t end, int thread) {
      for (std::int64_t i = first; i < end; ++i) {
        const Real* x = reader.row(i, thread);
        Real* g = gradient + i * D;
        const Real along = factor_[i] < Real(1 / shortest) ? Real(dot(x, g, D)) : Real(0);
        for (std::int64_t d = 0; d < D; ++d) g[d] = factor_[i] * (g[d] - along * x[d]);
      }
    });
  }

 private:
  static constexpr double shortest = 1e-12;
  const Batch& batch_;
  std::vector<Real> factor_;
};

}  // namespace jessl
