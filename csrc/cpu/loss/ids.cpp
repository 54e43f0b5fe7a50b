#include "cpu/loss/ids.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace jessl {

CompactIds::CompactIds(const std::int64_t* row_ids, std::int64_t N, const std::int64_t* col_ids, std::int64_t M)
    : row(N), col(M) {
  std::int64_t largest = 0;
  for (std::int64_t i = 0; i < N; ++i) largest = std::max(largest, row_ids[i]);
  for (std::int64_t j = 0; j < M; ++j) largest = std::max(largest, col_ids[j]);
  if (largest <= std::numeric_limits<std::int32_t>::max()) {
    for (std::int64_t i = 0; i < N; ++i) row[i] = row_ids[i] < 0 ? -1 : std::int32_t(row_ids[i]);
    for (std::int64_t j = 0; j < M; ++j) col[j] = col_ids[j] < 0 ? -2 : std::int32_t(col_ids[j]);
    return;
  }
  std::vector<std::int64_t> known(row_ids, row_ids + N);
  known.insert(known.end(), col_ids, col_ids + M);
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  const auto place = [&known](std::int64_t id) {
    return std::int32_t(std::lower_bound(known.begin(), known.end(), id) - known.begin());
  };
  for (std::int64_t i = 0; i < N; ++i) row[i] = row_ids[i] < 0 ? -1 : place(row_ids[i]);
  for (std::int64_t j = 0; j < M; ++j) col[j] = col_ids[j] < 0 ? -2 : place(col_ids[j]);
}

std::vector<std::int64_t> order_of(const std::vector<std::int32_t>& ids) {
  std::vector<std::int64_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&ids](std::int64_t a, std::int64_t b) { return ids[a] < ids[b]; });
  return order;
}

}  // namespace jessl
