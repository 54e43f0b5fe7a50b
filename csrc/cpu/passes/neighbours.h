// Nearest neighbours among N points in D dimensions, by differences in fp64: distances of the k-th neighbours, and
// numbers of points within a radius.
//
// Points are put in the order of a k-d tree's leaves, so that a tile is a small box. A strip visits tiles from the
// nearest box on, until no box can hold a near point; so few dimensions take little more than a tree would, and many
// take all N² pairs at the speed of vectors. Strips share nothing: results are the same at every number of threads.
// Memory: a copy of the points, their boxes, and k + D + 8 numbers for each row of a strip and thread.
#pragma once

#include <cstdint>

#include "cpu/options.h"
#include "cpu/tile/near.h"

namespace jessl {

struct Points {
  const double* data;  // (N, D), finite
  std::int64_t N, D;
};

// The distance of each point's k-th nearest other point, (N,), 1 ≤ k < N.
void kth_distance(const Points&, Norm, std::int64_t k, const Options&, double* radius);

// For each point the number of others whose largest difference of a coordinate is below its limit, (N,).
void count_nearer(const Points&, const double* limit, const Options&, std::int64_t* count);

// For each point the largest difference of a coordinate to any of these others, (N, 2): in the first `split`
// dimensions, and in the rest.
void reach_of_nearer(const Points&, std::int64_t split, const double* limit, const Options&, double* reach);

}  // namespace jessl
