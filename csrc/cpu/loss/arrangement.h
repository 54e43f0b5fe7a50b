// Rows and columns of a problem put in another order, for the tiles' sake: by the ids of their positives, so that a
// strip's positives lie within few columns; or by their place in space, so that tiles are compact and can be skipped.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "cpu/options.h"
#include "cpu/scratch.h"
#include "cpu/tile/tile.h"
#include "pairwise/problem.h"

namespace jessl {

// One pair of ids as the core compares them, N·M times: 32-bit numbers. Negative ids, which match nothing, become −1
// among rows and −2 among columns; if some id exceeds 31 bits, ids are renumbered.
struct CompactIds {
  std::vector<std::int32_t> row, col;

  CompactIds() = default;
  CompactIds(const std::int64_t* row_ids, std::int64_t N, const std::int64_t* col_ids, std::int64_t M);
  Ids pointers() const { return {row.empty() ? nullptr : row.data(), col.empty() ? nullptr : col.data()}; }
};

class Arrangement {
 public:
  // Changes nothing until one of the functions below is called.
  Arrangement() = default;
  Arrangement(const Arrangement&) = delete;

  // Orders by ids, stably; or in space, if the problem skips and an order pays. `columns` are those of Y whose gradient
  // is requested: they are put first, [0, count), so that no product is spent on the others. With `together`, if Y is
  // X, columns are ordered like rows.
  void arrange_by_ids(Problem& p, const CompactIds& ids, bool together, Columns& columns);
  void arrange_in_space(Problem& p, bool together, Columns& columns, const Options&);

  bool moved() const { return !rows_.empty(); }
  // The numbers of rows and columns as the caller gave them.
  std::int64_t row(std::int64_t place) const { return moved() ? rows_[place] : place; }
  std::int64_t col(std::int64_t place) const { return moved() ? cols()[place] : place; }
  std::int64_t place_of_col(std::int64_t number) const { return moved() ? col_place_[number] : number; }

  // Moves rows of D numbers, one for each row of X or for each of the first n columns, back to the caller's order.
  template <class Real>
  void put_back_rows(Real* rows, std::int64_t D, const Options& options) const {
    put_back(rows, std::int64_t(rows_.size()), D, options, [this](std::int64_t i) { return rows_[i]; });
  }
  template <class Real>
  void put_back_columns(Real* rows, std::int64_t n, std::int64_t D, const Options& options) const {
    const std::int64_t first = n < std::int64_t(cols().size()) ? first_column_ : 0;
    put_back(rows, n, D, options, [&](std::int64_t j) { return cols()[j] - first; });
  }

 private:
  void arrange(Problem& p, std::vector<std::int64_t> rows, std::vector<std::int64_t> cols, bool together,
               Columns& columns);
  const std::vector<std::int64_t>& cols() const { return together_ ? rows_ : cols_; }

  // Permutes cycle by cycle, without a copy of all rows; each thread takes some cache lines of every row.
  template <class Real, class Order>
  void put_back(Real* rows, std::int64_t n, std::int64_t D, const Options& options, Order&& order) const {
    if (!rows || !moved()) return;
    constexpr std::int64_t width = 128 / sizeof(Real);
    std::vector<std::int64_t> starts;
    std::vector<bool> met(n);
    for (std::int64_t start = 0; start < n; ++start) {
      if (met[start]) continue;
      starts.push_back(start);
      for (std::int64_t i = start; !met[i]; i = order(i)) met[i] = true;
    }
    for_rows((D + width - 1) / width, n * width, options, [&](std::int64_t block, std::int64_t end, int) {
      for (; block < end; ++block) {
        const std::int64_t from = block * width, columns = std::min(width, D - from);
        Real carried[width];
        for (const std::int64_t start : starts) {
          std::copy_n(rows + start * D + from, columns, carried);
          std::int64_t i = start;
          do {
            i = order(i);
            std::swap_ranges(carried, carried + columns, rows + i * D + from);
          } while (i != start);
        }
      }
    });
  }

  template <class T>
  const T* gathered(const T* given, const std::vector<std::int64_t>& order) {
    if (!given) return nullptr;
    const std::int64_t n = std::int64_t(order.size());
    T* const to = copies_.emplace_back(Scratch::size_of<T>(n)).template take<T>(n);
    for (std::int64_t i = 0; i < n; ++i) to[i] = given[order[i]];
    return to;
  }

  std::vector<std::int64_t> rows_, cols_, col_place_;
  bool together_ = false;
  std::int64_t first_column_ = 0;  // the number of the first one with a requested gradient
  std::deque<Scratch> copies_;     // biases and ids in the present order
};

}  // namespace jessl
