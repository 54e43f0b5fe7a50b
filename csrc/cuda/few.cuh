// Pairs in few dimensions. A thread has an owner, a row or a column, whose coordinates are in its registers; its block
// walks over the others, a tile at a time, whose coordinates are in shared memory.
//
// Where there are few owners the others are split over several blocks too, and a second launch merges the parts.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/pairs.h"
#include "cuda/points.cuh"
#include "cuda/score.cuh"

namespace jessl::cuda {

inline constexpr int few_threads = 128, few_tile = 64;           // owners of a block, others of a tile
inline constexpr std::int64_t few_blocks = 512, few_least = 32;  // blocks that are enough; others of the shortest part

// The others of each block, and how many parts that makes.
struct Split {
  std::int64_t each, count;
};
inline Split split(std::int64_t owners, std::int64_t others) {
  const std::int64_t wanted = few_blocks / ((owners + few_threads - 1) / few_threads);
  const std::int64_t most = (others + few_least - 1) / few_least;
  const std::int64_t count = std::max<std::int64_t>(1, std::min(wanted, most));
  const std::int64_t each = (others + count - 1) / count;
  return {each, (others + each - 1) / each};
}

// The most parts of all owners together, or of some of them.
inline std::int64_t most_parts(std::int64_t owners, std::int64_t others) {
  return std::min(few_blocks * few_threads, owners * ((others + few_least - 1) / few_least));
}

// Rows and columns, seen from the side that owns threads.
struct Ownership {
  Points own, other;
  std::int64_t first, end, others;  // owners first … end − 1
};
inline Ownership owned_by(const Pairs& pairs, bool columns) {
  if (columns) return {pairs.y, pairs.x, 0, pairs.M, pairs.N};
  return {pairs.x, pairs.y, 0, pairs.N, pairs.M};
}

// Calls f(std::integral_constant of the least compiled number of dimensions that has room for D).
template <class F>
void with_room_for(std::int64_t D, F&& f) {
  if (D <= 4) return f(std::integral_constant<int, 4>());
  if (D <= 8) return f(std::integral_constant<int, 8>());
  if (D <= 16) return f(std::integral_constant<int, 16>());
  f(std::integral_constant<int, most_few>());
}

// Dimensions that a point lacks are 0.
template <int D>
__device__ void load_point(const Points& points, std::int64_t n, float (&to)[D]) {
  JESSL_UNROLL(32)
  for (int d = 0; d < D; ++d) to[d] = d < points.dimensions ? coordinate(points, n, d) : 0.0f;
}

// The coordinates of `count` others from `start` on. Threads next to each other read those of one point.
template <int D>
__device__ void load_tile(const Points& points, std::int64_t start, int count, float* tile) {
  for (int k = int(threadIdx.x); k < count * D; k += few_threads) {
    const int d = k % D;
    tile[k] = d < points.dimensions ? coordinate(points, start + k / D, d) : 0.0f;
  }
}

// t of a pair, from the first dimension to the last. It has the same bits if the two points change places.
template <int D>
__device__ float pair_t(const float (&own)[D], const float* other, bool distances) {
  float t = 0;
  if (distances) {
    JESSL_UNROLL(32)
    for (int d = 0; d < D; ++d) {
      const float apart = own[d] - other[d];
      t = __fmaf_rn(-apart, apart, t);
    }
  } else {
    JESSL_UNROLL(32)
    for (int d = 0; d < D; ++d) t = __fmaf_rn(own[d], other[d], t);
  }
  return t;
}

}  // namespace jessl::cuda
