// Pairs of points that are near each other, found tile by tile. No distance is stored, and no matrix product is taken:
// distances are made from differences, in fp64, so that ties are ties and radii are exact.
#pragma once

#include <cstdint>

namespace jessl {

enum class Norm { euclidean, max };  // Euclidean distances are compared as squares

// The most points of a strip or a tile: small boxes are far from each other, and 48 is a multiple of two vectors.
inline constexpr std::int64_t near_rows = 48;

// Points i, along the vectors. A pair is near if its distance is below limit_i.
struct NearStrip {
  std::int64_t first, count, lanes;  // count rounded up to pairs of vectors
  const double* across;              // (D, lanes)
  double* limit;                     // (lanes); −1 in the padding
};

// Points j of the same set.
struct NearTile {
  std::int64_t first, count;
  const double* rows;  // (count, D)
};

// Functions on the near pairs (i, j), i ≠ j, of a strip and a tile.
struct NearOps {
  // Keeps the k least distances of each row in a heap, (count, k), whose largest is the row's limit.
  void (*keep)(Norm, std::int64_t D, const NearStrip&, const NearTile&, std::int64_t k, double* heaps);
  // Adds the number of near points of each row to (lanes).
  void (*count)(std::int64_t D, const NearStrip&, const NearTile&, double* counts);
  // Raises (count, 2) to the distances of near points in the first `split` dimensions and in the rest.
  void (*reach)(std::int64_t D, const NearStrip&, const NearTile&, std::int64_t split, double* reach);
};

}  // namespace jessl
