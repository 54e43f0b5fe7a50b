// Rows and columns of a problem in another order than they were given in, for the tiles' sake: by the ids of their
// positives, so that a strip's stand within few columns; or by where points lie, so that tiles are compact and fall.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/options.h"
#include "cpu/tile/tile.h"
#include "pairwise/problem.h"

namespace jessl {

class Arrangement {
 public:
  // As they are, until one of these is called.
  Arrangement() = default;
  Arrangement(const Arrangement&) = delete;

  // The problem's rows and columns by these numbers. `columns` are those of Y whose gradient is asked for: they stand
  // first, [0, so many), that no product is spent on the others. Where Y is X, `together`, columns go as the rows do.
  void arrange(Problem& p, std::vector<std::int64_t> rows, std::vector<std::int64_t> cols, bool together,
               Columns& columns);
  // By where points lie, if the problem skips and an order of its points pays.
  void arrange_in_space(Problem& p, bool together, Columns& columns, const Options&);

  bool moved() const { return !rows_.empty(); }
  // Numbers that rows and columns were given by.
  std::int64_t row(std::int64_t place) const { return moved() ? rows_[place] : place; }
  std::int64_t col(std::int64_t place) const { return moved() ? cols()[place] : place; }
  std::int64_t place_of_col(std::int64_t number) const { return moved() ? col_place_[number] : number; }

  // Numbers of rows, or columns, in the order in which they stand.
  template <class T>
  std::vector<double> rows_of(const T* given, std::int64_t n) const {
    return in_order(given, n, rows_);
  }
  template <class T>
  std::vector<double> cols_of(const T* given, std::int64_t n) const {
    return in_order(given, n, cols());
  }

  // Gradients of the rows of X, or of the columns asked for, to where they stood: `width` numbers each.
  template <class Real>
  void put_back_rows(Real* rows, std::int64_t width, const Options&) const;
  template <class Real>
  void put_back_columns(Real* columns, std::int64_t width, Columns asked_for, const Options&) const;

 private:
  const std::vector<std::int64_t>& cols() const { return together_ ? rows_ : cols_; }
  template <class T>
  static std::vector<double> in_order(const T* given, std::int64_t n, const std::vector<std::int64_t>& order) {
    std::vector<double> numbers(n);
    for (std::int64_t i = 0; i < n; ++i) numbers[i] = double(given[order.empty() ? i : order[i]]);
    return numbers;
  }
  const void* biases(const Problem& p, const void* bias, const std::vector<std::int64_t>& order);
  Ids ids(const Ids& given);

  std::vector<std::int64_t> rows_, cols_, col_place_;
  bool together_ = false;
  std::int64_t first_column_ = 0;           // the number of the first whose gradient is asked for
  std::vector<std::vector<float>> floats_;  // biases as they stand now
  std::vector<std::vector<double>> doubles_;
  std::vector<std::vector<std::int32_t>> ids_;
};

}  // namespace jessl
