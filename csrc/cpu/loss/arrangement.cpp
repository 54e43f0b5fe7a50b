#include "cpu/loss/arrangement.h"

#include <limits>
#include <numeric>

#include "cpu/skip/skipping.h"

namespace jessl {

CompactIds::CompactIds(const std::int64_t* row_ids, std::int64_t N, const std::int64_t* col_ids, std::int64_t M)
    : row(N), col(M) {
  std::vector<std::int64_t> known(row_ids, row_ids + N);
  known.insert(known.end(), col_ids, col_ids + M);
  const bool fit =
      known.empty() || *std::max_element(known.begin(), known.end()) <= std::numeric_limits<std::int32_t>::max();
  if (!fit) std::sort(known.begin(), known.end());
  const auto compact = [&](std::int64_t id) {
    return std::int32_t(fit ? id : std::lower_bound(known.begin(), known.end(), id) - known.begin());
  };
  for (std::int64_t i = 0; i < N; ++i) row[i] = row_ids[i] < 0 ? -1 : compact(row_ids[i]);
  for (std::int64_t j = 0; j < M; ++j) col[j] = col_ids[j] < 0 ? -2 : compact(col_ids[j]);
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
  const auto biases = [&](const void* bias, const std::vector<std::int64_t>& order) -> const void* {
    if (p.wide()) return gathered(static_cast<const double*>(bias), order);
    return gathered(static_cast<const float*>(bias), order);
  };
  p.row_bias = biases(p.row_bias, rows_);
  p.col_bias = biases(p.col_bias, this->cols());
  const auto move = [&](Ids& pair) { pair = {gathered(pair.row, rows_), gathered(pair.col, this->cols())}; };
  for (Ids& pair : p.exclude.same) move(pair);
  for (Ids& pair : p.exclude.different) move(pair);
  move(p.exclude.without);
  move(p.exclude.within);
  p.exclude.moved = {rows_.data(), col_place_.data(), p.M()};
}

void Arrangement::arrange_by_ids(Problem& p, const CompactIds& ids, bool together, Columns& columns) {
  const auto sorted = [](const std::vector<std::int32_t>& ids) {
    std::vector<std::int64_t> order(ids.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&ids](std::int64_t a, std::int64_t b) { return ids[a] < ids[b]; });
    return order;
  };
  arrange(p, sorted(ids.row), together ? std::vector<std::int64_t>() : sorted(ids.col), together, columns);
}

void Arrangement::arrange_in_space(Problem& p, bool together, Columns& columns, const Options& options) {
  if (!p.skips() || std::max(p.N(), p.M()) <= most_rows || p.exclude.classes().row) return;
  const auto sorted = [&](const Batch& batch) {
    std::vector<std::int64_t> order(batch.rows);
    spatial_sort(batch, order.data(), options.interrupted, p.compact());
    return order;
  };
  arrange(p, sorted(p.x), together ? std::vector<std::int64_t>() : sorted(p.y), together, columns);
}

}  // namespace jessl
