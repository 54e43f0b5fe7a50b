// Sweeps over all pairs of a problem, without strips, as their callers see them. They serve two sorts of problems:
//
//   few dimensions   up to 32, any number of rows (few_*.cu): t is made where it is needed, and never stored
//   small batches    up to 1,024 rows and columns, any dimensions (small.cu): t and U lie whole in the workspace
//
// Both sum rows and columns, and add gradients, as the sweeps of jessl_kernels/backends/executor.py do. Distances are
// taken by differences, so they are exact however close two points are. Every number is written by one thread, in an
// order that depends on the sizes alone.
#pragma once

#include "cuda/room.h"
#include "cuda/strip.h"
#include "pairwise/host_device.h"

namespace jessl::cuda {

inline constexpr int most_few = 32;  // dimensions that fit into registers

struct Pairs {
  Points x, y;
  std::int64_t N, M;
  bool distances;
  bool of_itself;  // Y is X, so Y's gradient is added to X's
  bool few;        // served as a problem of few dimensions; else as a small batch

  Strip strip(float* t) const { return {t, ld(), 0, N, M}; }
  JESSL_HOST_DEVICE std::int64_t ld() const { return (M + 3) / 4 * 4; }
};

struct Sum;  // of one row or column (reduce.cuh)

// Sums over parts of the others, not yet merged: those of an owner and a tilt lie `owners` apart.
struct SumParts {
  const Sum* sums;  // null for none
  std::int64_t count, owners;
};

// What sweeps keep in the workspace. The parts of one sweep may take the place of those of the sweep before.
struct PairsRoom {
  float *t, *u;   // of small batches
  void* parts;    // sums and gradients over a part of the others, in few dimensions
  double* scale;  // parts of the scale's gradient
};
PairsRoom room_for(const Pairs&, int tilts, Room&);

// A number of its own, fp32 or fp64.
struct Number {
  void* at;
  bool wide;
};

// Σ parts, and where it goes; no parts for none.
struct Total {
  const double* parts;
  std::int64_t count;
  Number to;
};

// Where gradients go; null for what is not wanted. `fresh` ones are written, all others added to what is there.
struct PairGrads {
  float *x, *y;  // contiguous; y: of columns first … end − 1, null if Y is X
  std::int64_t first, end;
  float *row_bias, *col_bias;
  Number scale;
  bool fresh;
};

// Makes t of a small batch, which the two sweeps read.
void settle_pairs(const Sweep&, const Pairs&, const PairsRoom&);
// Leaves sums of rows unmerged if there is a place to say where their parts are, and if they have several.
void pair_sums(const Sweep&, const Pairs&, const PairsRoom&, SumsOf row, SumsOf col, SumParts* unmerged = nullptr);
void pair_grads(const Sweep&, const Pairs&, const PairsRoom&, const Sides&, const PairGrads& to);

// A block adds up the parts, in a fixed order.
void add_up(const Sweep&, const Total&, bool fresh);

// Few dimensions.
std::int64_t few_part_bytes(const Pairs&, int tilts);
std::int64_t few_scale_parts(const Pairs&);
void few_sums(const Sweep&, const Pairs&, const PairsRoom&, bool of_columns, SumsOf to, SumParts* unmerged = nullptr);
void few_grads(const Sweep&, const Pairs&, const PairsRoom&, const Sides&, const PairGrads& to);

// Small batches: t; the targets of the kernels that make U; and the products with U, whose launch adds up a further
// total.
void small_products(const Sweep&, const Pairs&, float* t);
ScoreGrads small_targets(const PairsRoom&, const PairGrads& to);
void small_pull(const Sweep&, const Pairs&, const PairsRoom&, const PairGrads& to, const Total& further);

}  // namespace jessl::cuda
