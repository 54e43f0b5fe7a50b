// Rows and columns of a problem in another order than they were given in, for the tiles' sake: by the ids of their
// positives, so that a strip's stand within few columns; or by where points lie, so that tiles are compact and fall.
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

// One pair of ids as the core compares them, N·M times: 32-bit numbers, those that match nothing (negative ones) −1
// among rows and −2 among columns; those beyond 31 bits are numbered anew.
struct CompactIds {
  std::vector<std::int32_t> row, col;

  CompactIds() = default;
  CompactIds(const std::int64_t* row_ids, std::int64_t N, const std::int64_t* col_ids, std::int64_t M);
  Ids pointers() const { return {row.empty() ? nullptr : row.data(), col.empty() ? nullptr : col.data()}; }
};

class Arrangement {
 public:
  // As they are, until one of these is called.
  Arrangement() = default;
  Arrangement(const Arrangement&) = delete;

  // By ids, equal ones as they stand; or by where points lie, if the problem skips and an order of its points pays.
  // `columns` are those of Y whose gradient is asked for: they stand first, [0, so many), that no product is spent on
  // the others. Where Y is X, `together`, columns go as the rows do.
  void arrange_by_ids(Problem& p, const CompactIds& ids, bool together, Columns& columns);
  void arrange_in_space(Problem& p, bool together, Columns& columns, const Options&);

  bool moved() const { return !rows_.empty(); }
  // Numbers that rows and columns were given by.
  std::int64_t row(std::int64_t place) const { return moved() ? rows_[place] : place; }
  std::int64_t col(std::int64_t place) const { return moved() ? cols()[place] : place; }
  std::int64_t place_of_col(std::int64_t number) const { return moved() ? col_place_[number] : number; }

  // Rows of D numbers, one for each row of X, or for each of the first n columns, go to where it stood.
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

  // Cycle after cycle, without a second copy of all; each thread takes some cache lines of every row.
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
  std::int64_t first_column_ = 0;  // the number of the first whose gradient is asked for
  std::deque<Scratch> copies_;     // biases and ids as they stand now
};

}  // namespace jessl
