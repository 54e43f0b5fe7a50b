// The functions of near.h. Distances of two vectors of rows and four columns grow in registers, dimension by dimension.
// After every few dimensions a block is left once none of its distances is below its row's limit. V: a vector type.
#pragma once

#include <cstdint>

#include "cpu/tile/near.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

constexpr std::int64_t dimensions_between_looks = 8;

template <class V, Norm norm>
V grown(V distance, V x, V y) {
  const V gap = x - y;
  return norm == Norm::max ? max(distance, abs(gap)) : fma(gap, gap, distance);
}

// Calls near(distances, i, j) for two vectors of rows from i on and some columns from j on, if any pair there is near.
template <class V, Norm norm, int columns, class Near>
void near_block(std::int64_t D, const NearStrip& strip, const NearTile& tile, std::int64_t i, std::int64_t j,
                Near&& near) {
  V d[columns][2];
#pragma GCC unroll 4
  for (int c = 0; c < columns; ++c) d[c][0] = d[c][1] = V(0.0);
  const V limit[2] = {V::load(strip.limit + i), V::load(strip.limit + i + V::lanes)};
  const double *x = strip.across + i, *y = tile.rows + j * D;
  for (std::int64_t from = 0; from < D; from += dimensions_between_looks) {
    const std::int64_t end = D - from < dimensions_between_looks ? D : from + dimensions_between_looks;
    for (std::int64_t k = from; k < end; ++k, x += strip.lanes) {
      const V low = V::load(x), high = V::load(x + V::lanes);
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) {
        const V column(y[c * D + k]);
        d[c][0] = grown<V, norm>(d[c][0], low, column);
        d[c][1] = grown<V, norm>(d[c][1], high, column);
      }
    }
    V least[2] = {d[0][0], d[0][1]};
#pragma GCC unroll 4
    for (int c = 1; c < columns; ++c) least[0] = min(least[0], d[c][0]), least[1] = min(least[1], d[c][1]);
    if (!any(least[0] < limit[0]) && !any(least[1] < limit[1])) return;
  }
  near(d, i, j);
}

template <class V, Norm norm, class Near>
void near_blocks(std::int64_t D, const NearStrip& strip, const NearTile& tile, Near&& near) {
  for (std::int64_t i = 0; i < strip.lanes; i += 2 * V::lanes) {
    std::int64_t j = 0;
    for (; j + 4 <= tile.count; j += 4) near_block<V, norm, 4>(D, strip, tile, i, j, near);
    for (; j < tile.count; ++j) near_block<V, norm, 1>(D, strip, tile, i, j, near);
  }
}

// Calls visit(i, j, distance) for the near pairs alone.
template <class V, Norm norm, class Visit>
void near_pairs(std::int64_t D, const NearStrip& strip, const NearTile& tile, Visit&& visit) {
  near_blocks<V, norm>(D, strip, tile, [&]<int columns>(const V(&d)[columns][2], std::int64_t i, std::int64_t j) {
    alignas(64) double lane[2 * V::lanes];
    for (int c = 0; c < columns; ++c) {
      d[c][0].store(lane);
      d[c][1].store(lane + V::lanes);
      for (int l = 0; l < 2 * V::lanes; ++l)
        if (lane[l] < strip.limit[i + l] && strip.first + i + l != tile.first + j + c) visit(i + l, j + c, lane[l]);
    }
  });
}

// Puts d in the place of the largest of a heap of k.
inline void replace_largest(double* heap, std::int64_t k, double d) {
  std::int64_t at = 0;
  for (std::int64_t next = 1; next < k; next = 2 * at + 1) {
    if (next + 1 < k && heap[next] < heap[next + 1]) ++next;
    if (heap[next] <= d) break;
    heap[at] = heap[next];
    at = next;
  }
  heap[at] = d;
}

template <class V>
void keep_near(Norm norm, std::int64_t D, const NearStrip& strip, const NearTile& tile, std::int64_t k, double* heaps) {
  const auto keep = [&](std::int64_t i, std::int64_t, double d) {
    replace_largest(heaps + i * k, k, d);
    strip.limit[i] = heaps[i * k];
  };
  if (norm == Norm::max)
    near_pairs<V, Norm::max>(D, strip, tile, keep);
  else
    near_pairs<V, Norm::euclidean>(D, strip, tile, keep);
}

template <class V>
void count_near(std::int64_t D, const NearStrip& strip, const NearTile& tile, double* counts) {
  near_blocks<V, Norm::max>(D, strip, tile, [&]<int columns>(const V(&d)[columns][2], std::int64_t i, std::int64_t) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const std::int64_t at = i + half * V::lanes;
      const V limit = V::load(strip.limit + at);
      V n = V::load(counts + at);
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) n = n + select(d[c][half] < limit, V(1.0), V(0.0));
      n.store(counts + at);
    }
  });
  if (strip.first != tile.first) return;
  for (std::int64_t i = 0; i < strip.count; ++i) counts[i] -= 0 < strip.limit[i];  // itself
}

template <class V>
void reach_of_near(std::int64_t D, const NearStrip& strip, const NearTile& tile, std::int64_t split, double* reach) {
  near_pairs<V, Norm::max>(D, strip, tile, [&](std::int64_t i, std::int64_t j, double) {
    for (std::int64_t k = 0; k < D; ++k) {
      const double x = strip.across[k * strip.lanes + i], y = tile.rows[j * D + k], gap = x < y ? y - x : x - y;
      double& far = reach[2 * i + (k >= split)];
      if (far < gap) far = gap;
    }
  });
}

}  // namespace
}  // namespace jessl
