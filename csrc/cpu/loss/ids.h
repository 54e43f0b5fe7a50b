// Ids as the core compares them, N·M times: 32-bit numbers, those that match nothing −1 among rows and −2 among
// columns.
#pragma once

#include <cstdint>
#include <vector>

#include "pairwise/problem.h"

namespace jessl {

// One pair of ids. Negative ones match nothing; those beyond 31 bits are numbered anew.
struct CompactIds {
  std::vector<std::int32_t> row, col;

  CompactIds() = default;
  CompactIds(const std::int64_t* row_ids, std::int64_t N, const std::int64_t* col_ids, std::int64_t M);
  Ids pointers() const { return {row.empty() ? nullptr : row.data(), col.empty() ? nullptr : col.data()}; }
};

// The numbers of ids in their order, equal ones as they stand.
std::vector<std::int64_t> order_of(const std::vector<std::int32_t>& ids);

}  // namespace jessl
