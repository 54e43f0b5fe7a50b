// The kernels over a strip, B rows of t with all M columns, as their callers see them: plain pointers, sizes, strides.
//
//   t_ij   ⟨x_i, y_j⟩, or −‖x_i − y_j‖²
//   s_ij   φ(α t_ij) + r_i + c_j; −∞ if the pair is excluded
//   P_ij   ∂loss/∂s_ij        U_ij   φ'(α t_ij) P_ij
//
// The library's product makes t; jessl_kernels/cuda/strip_kernels.py calls these functions around it, and
// jessl_kernels/backends/reference.py specifies the results. Vectors are fp32. Every number is written by one thread,
// and sums run in an order that depends on nothing but the sizes. No function waits for the device. A launch that
// cannot be made is a std::runtime_error with the kernel's name.
//
// Problems that need no strips have other entries: pairs.h, sweeps over all pairs at once; whole.h, a loss in one call.
#pragma once

#include <cstdint>
#include <numeric>
#include <string>

#include "pairwise/problem.h"

namespace jessl::cuda {

inline constexpr int most_tilts = 4, most_offsets = 64, most_different = 3;
inline constexpr int most_same = 3 + most_offsets;  // rows that were put in order have ids for their diagonals

// Rows first_row … first_row + rows − 1 of the scores. Each row of t begins at a multiple of 16 bytes, `ld` elements
// after the one before.
struct Strip {
  float* t;
  std::int64_t ld, first_row, rows, columns;
};

// A batch of embeddings in their own type, with any strides, in elements.
struct Points {
  const void* data;
  std::int64_t row_stride, column_stride, dimensions;
  Element element;
};

struct Offsets {
  std::int64_t values[most_offsets];
  int count = 0;
};
struct IdPair {
  const std::int64_t *row, *col;
};
template <int most>
struct IdPairs {
  IdPair pairs[most];
  int count = 0;
};

// The single positive of each row i of N, among M columns: (i + shift) mod M, or index_i if index is not null, negative
// for none.
struct Partners {
  std::int64_t N = 0, M = 0, shift = 0;  // 0 ≤ shift < M
  const std::int64_t* index = nullptr;
};

// The words of scores, and vectors of all rows and columns; null for none. Negative ids match nothing.
struct Scores {
  Phi phi;
  const float* scale;  // α on the device; null for `scale_number`
  float scale_number;
  const float *row_bias, *col_bias;
  Offsets diagonals, keep;
  IdPairs<most_same> same;
  IdPairs<most_different> different;
  IdPair without, within;
  Partners single;  // excluded, even if kept; no columns for none
};

struct Tilts {
  Op op;
  float values[most_tilts];
  int count;
};

// Given tensors of one type that follow each other in a batch.
struct Pieces {
  Points given[most_pieces];
  std::int64_t rows[most_pieces];
  int count = 0;

  std::int64_t all() const { return std::accumulate(rows, rows + count, std::int64_t(0)); }
};

// A batch as it was given, and its rows as the scores see them: contiguous, of the same type, divided by their norms if
// there is room for norms.
struct GivenRows {
  Pieces pieces;
  float* norms;
  void* rows;
};

// The gradients of t of each row and its partner, times α (2α for distances): they pull at rows of X by `ahead`, Y, and
// at rows of Y by `behind`, X. No data, no such pull.
struct Pull {
  const float* weights;
  Points ahead, behind;
  Partners partners;
  bool distances;
};

// The gradient of rows first … end − 1 of a batch, contiguous, which becomes that of the given rows.
struct RowsBack {
  GivenRows of;
  Points rows;  // as the scores see them
  Pull pull;
  std::int64_t first, end;
  float* gradient;
};

// What all launches of one sweep over the pairs share: where they run, and what they sum.
struct Sweep {
  int device;
  void* stream;
  Scores scores;
  Tilts tilts;
};

// Sums of rows or of columns: numbers of each tilt lie `stride` after those of the tilt before. reference is null for a
// ψ; linear and count are null unless wanted. `fresh` sums of columns are written, and not merged with what is there.
struct SumsOf {
  float *reference, *total, *linear, *count;
  std::int64_t stride;
  bool fresh = false;
};

// The weights of one side (jessl_kernels/problem/types.py: Weights), likewise; factor is null for a side without any.
struct Side {
  const float *reference, *factor, *spread, *mean;
  std::int64_t stride;
};
// Those of the strip's rows, and of its columns. With `shares`, laid out like t, P is multiplied by them. single: P of
// each row and its single positive, which the scores exclude; null for none.
struct Sides {
  Side row, col;
  const float* shares;
  const float* single = nullptr;
};

// The squares of the points around the center of the product, null if t holds no product; and the t above which a pair
// is so close that the product is not exact enough, on the device: NaN if every pair is.
struct Squares {
  const float *x, *y, *close_above;
};

// What score_grad writes or adds to; null for what is not wanted. Vectors of rows begin at the strip's first row.
// `fresh` biases are written, and not added to what is there.
struct ScoreGrads {
  void* u;                     // U times α (2α for distances), laid out like t; 0 for close pairs
  Element element;             // of u: f32, as for all distances, or bf16
  float* u_row;                // written: its sums over columns
  float* u_col;                // written: its sums over rows
  float *row_bias, *col_bias;  // added to: the same sums of P
  double* scale;               // written: Σ_j U_ij t_ij of each row
  bool fresh = false;
};

std::string devices();  // how many GPUs there are, or why none can be used

void settle(const Sweep&, Strip, Points x, Points y, Squares);
void absorb(const Sweep&, Strip, SumsOf row, SumsOf col);
void weights(const Sweep&, Strip, Sides, float* p);
void score_grad(const Sweep&, Strip, Sides, const float* close_above, ScoreGrads);
// Adds 2α Σ_j U_ij (y_j − x_i) over close pairs to rows of x's gradient, contiguous, from the strip's first row on; or
// those of columns first … end − 1 to y's, from column `first` on.
void close_rows(const Sweep&, Strip, Sides, const float* close_above, Points x, Points y, float* grad_x);
void close_columns(const Sweep&, Strip, Sides, const float* close_above, Points x, Points y, std::int64_t first,
                   std::int64_t end, float* grad_y);
void finish(const Sweep&, Strip);

// Writes the rows of one batch or two; the second may have no pieces.
void unit_rows(const Sweep&, const GivenRows&, const GivenRows&);
// Writes t of each row and its partner, and their score.
void pair_scores(const Sweep&, Points x, Points y, Partners, bool distances, float* t, float* s);
// Adds what partners pull to the gradients of one batch or two, and takes them back through the norms; the second may
// have no rows.
void rows_back(const Sweep&, const RowsBack&, const RowsBack&);

}  // namespace jessl::cuda
