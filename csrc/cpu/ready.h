// A small batch copied once, as its problem sees it: in its order, times its factors, in the real type. Products read it where it
// stands then (`rows_ready` of rows.h), where else each pass copies each tile for each strip.
#pragma once

#include <cstdint>
#include <optional>

#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/unit.h"

namespace jessl {

template <class Real>
class ReadyRows {
 public:
  // From here on the batch stands here, in a small part of the workspace, if it fits. One that products can read already, or could
  // not read here either, stays where it is.
  ReadyRows(Batch& batch, Options& options) {
    const std::int64_t ld = padded<Real>(batch.columns), bytes = Scratch::size_of<Real>(batch.rows * ld);
    const bool whole_lines = batch.columns * std::int64_t(sizeof(Real)) % 64 == 0;
    if (!whole_lines || stand_ready<Real>(batch, 0, batch.rows) || bytes > options.workspace / 32) return;
    memory_.emplace(bytes);
    Real* const copy = memory_->template take<Real>(batch.rows * ld);
    for_rows(batch.rows, batch.columns, options, [&](std::int64_t first, std::int64_t end, int) {
      load_rows<Real>(batch, first, end - first, nullptr, {copy + first * ld, ld});
    });
    batch = {.piece = {copy, ld, 1}, .rows = batch.rows, .columns = batch.columns, .element = element_of<Real>, .unit = batch.unit};
    options.taken += bytes;
  }

 private:
  std::optional<Scratch> memory_;
};

}  // namespace jessl
