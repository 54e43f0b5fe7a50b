// Finished sums of rows or of columns in memory.
#pragma once

#include "cuda/pairs.h"
#include "cuda/reduce.cuh"

namespace jessl::cuda {

__device__ inline void write(const SumsOf& to, std::int64_t n, int k, const Sum& sum) {
  const std::int64_t place = k * to.stride + n;
  if (to.reference) to.reference[place] = base_of(sum.largest);
  to.total[place] = sum.total;
  if (k > 0 || !to.linear) return;
  to.linear[n] = sum.linear;
  to.count[n] = float(sum.count);
}

// The sum with the one that is there. A total of 0 has no pairs, and its reference means nothing; beside an infinite
// total nothing else counts.
__device__ inline Sum with_earlier(const Sum& sum, const SumsOf& to, std::int64_t n, int k) {
  const std::int64_t place = k * to.stride + n;
  Sum earlier = nothing();
  earlier.total = to.total[place];
  if (to.reference && earlier.total != 0)
    earlier.largest = earlier.total == -minus_infinity ? earlier.total : to.reference[place];
  if (k == 0 && to.linear) {
    earlier.linear = to.linear[n];
    earlier.count = std::int32_t(to.count[n]);
  }
  return merged(earlier, sum);
}

// Writes the sum of an owner, from its parts in their order.
__device__ inline void merge(const SumParts& parts, const SumsOf& to, std::int64_t n, int k) {
  Sum sum = nothing();
  for (std::int64_t part = 0; part < parts.count; ++part)
    sum = merged(sum, parts.sums[(k * parts.count + part) * parts.owners + n]);
  write(to, n, k, sum);
}

}  // namespace jessl::cuda
