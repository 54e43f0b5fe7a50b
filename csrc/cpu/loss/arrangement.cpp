#include "cpu/loss/arrangement.h"

#include <algorithm>

#include "cpu/for_rows.h"
#include "cpu/skip/spatial_sort.h"

namespace jessl {
namespace {

template <class T>
std::vector<T> gathered(const T* from, const std::vector<std::int64_t>& order) {
  std::vector<T> to(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) to[i] = from[order[i]];
  return to;
}

// Rows go to where order says that they stood, cycle after cycle, without a second copy of them all; each thread takes
// some cache lines of every row.
template <class Real, class Order>
void put_back(Real* rows, std::int64_t n, std::int64_t D, const Options& options, Order&& order) {
  constexpr std::int64_t width = 128 / sizeof(Real);
  std::vector<std::int64_t> starts;
  std::vector<bool> met(n);
  for (std::int64_t start = 0; start < n; ++start) {
    if (met[start]) continue;
    starts.push_back(start);
    for (std::int64_t i = start; !met[i]; i = order(i)) met[i] = true;
  }
  for_rows((D + width - 1) / width, n * width, options, [&](std::int64_t first, std::int64_t end, int) {
    for (std::int64_t from = first * width, to = std::min(D, end * width); from < to; from += width) {
      const std::int64_t columns = std::min(width, to - from);
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

}  // namespace

const void* Arrangement::biases(const Problem& p, const void* bias, const std::vector<std::int64_t>& order) {
  if (!bias) return nullptr;
  if (p.wide()) return doubles_.emplace_back(gathered(static_cast<const double*>(bias), order)).data();
  return floats_.emplace_back(gathered(static_cast<const float*>(bias), order)).data();
}

Ids Arrangement::ids(const Ids& given) {
  if (!given.row) return given;
  const std::int32_t* const row = ids_.emplace_back(gathered(given.row, rows_)).data();
  return {row, ids_.emplace_back(gathered(given.col, cols())).data()};
}

void Arrangement::arrange(Problem& p, std::vector<std::int64_t> rows, std::vector<std::int64_t> cols, bool together,
                          Columns& columns) {
  rows_ = std::move(rows);
  cols_ = std::move(cols);
  together_ = together;
  const std::int64_t asked_for = columns.end - columns.first;
  if (!together && asked_for > 0) {
    first_column_ = columns.first;
    std::stable_partition(cols_.begin(), cols_.end(),
                          [columns](std::int64_t number) { return columns.first <= number && number < columns.end; });
    columns = {0, asked_for};
  }
  col_place_.resize(p.M());
  for (std::int64_t j = 0; j < p.M(); ++j) col_place_[col(j)] = j;
  p.x.permutation = rows_.data();
  p.y.permutation = this->cols().data();
  p.row_bias = biases(p, p.row_bias, rows_);
  p.col_bias = biases(p, p.col_bias, this->cols());
  for (Ids& pair : p.exclude.same) pair = ids(pair);
  for (Ids& pair : p.exclude.different) pair = ids(pair);
  p.exclude.without = ids(p.exclude.without);
  p.exclude.within = ids(p.exclude.within);
  p.exclude.moved = {rows_.data(), col_place_.data(), p.M()};
}

void Arrangement::arrange_in_space(Problem& p, bool together, Columns& columns, const Options& options) {
  if (p.skip_below <= 0 || std::max(p.N(), p.M()) <= most_rows || p.exclude.classes().row) return;
  const auto sorted = [&options](const Batch& batch) {
    std::vector<std::int64_t> order(batch.rows);
    spatial_sort(batch, order.data(), options.interrupted);
    return order;
  };
  std::vector<std::int64_t> rows = sorted(p.x);
  arrange(p, std::move(rows), together ? std::vector<std::int64_t>() : sorted(p.y), together, columns);
}

template <class Real>
void Arrangement::put_back_rows(Real* rows, std::int64_t width, const Options& options) const {
  if (!rows || !moved()) return;
  put_back(rows, std::int64_t(rows_.size()), width, options, [this](std::int64_t i) { return rows_[i]; });
}

template <class Real>
void Arrangement::put_back_columns(Real* columns, std::int64_t width, Columns asked_for, const Options& options) const {
  if (!columns || !moved()) return;
  put_back(columns, asked_for.end, width, options, [this](std::int64_t j) { return cols()[j] - first_column_; });
}

template void Arrangement::put_back_rows<float>(float*, std::int64_t, const Options&) const;
template void Arrangement::put_back_rows<double>(double*, std::int64_t, const Options&) const;
template void Arrangement::put_back_columns<float>(float*, std::int64_t, Columns, const Options&) const;
template void Arrangement::put_back_columns<double>(double*, std::int64_t, Columns, const Options&) const;

}  // namespace jessl
