// All that the passes know of a processor: a strip of rows, a tile of scores, and a table of functions on them.
//
// A tile is up to `most_rows` columns j of the problem by up to `most_rows` rows i, a *strip*. It is stored with the
// rows of the strip along its vectors, s[j·ld + i], so that only the strip is transposed, once per strip and not once
// per tile. The padding of the last vector has the score −inf. One file per instruction set fills one table
// (tile_*.cpp).
#pragma once

#include <cstdint>

#include "cpu/simd/simd_level.h"
#include "cpu/tile/near.h"
#include "pairwise/problem.h"

namespace jessl {

inline constexpr double log_2 = 0.6931471805599453;
inline constexpr long double log_2_long = 0.693147180559945309417232121458176568L;

// The most rows of a strip, and columns of a tile. 192 is a multiple of every vector and register block. A tile of
// floats takes 144 KiB and stays, with its embeddings, in an L2 of 1 MiB up to D ≈ 256.
inline constexpr std::int64_t most_rows = 192;

// The length of a row of n numbers in scratch memory: whole vectors, and an odd number of cache lines, since rows a
// power of two apart would compete for the same few sets of L1.
template <class Real>
constexpr std::int64_t padded(std::int64_t n) {
  const std::int64_t per_line = 64 / sizeof(Real), lines = (n + per_line - 1) / per_line;
  return (lines | 1) * per_line;
}

// Some rows of a batch, (count, ld): in scratch memory with a padding of 0, or in place, if products can read them
// there (rows.h).
template <class Real>
struct Rows {
  Real* data;
  std::int64_t ld;
};

// A strip, ready to be scored against any tile.
template <class Real>
struct Strip {
  std::int64_t first, count, lanes;   // rows [first, first + count), and count rounded up to whole vectors
  Rows<const Real> rows, plain_rows;  // x_i, centered if squares are expanded; and x_i as they are
  Rows<Real> place, plain_place;      // room for copies of them
  Rows<Real> across, plain_across;    // (D, ld): their transposes
  Real *inside, *bias;                // (lanes): −α‖x_i‖² if squares are expanded, else 0; r_i, −inf in the padding
};

template <class Real>
struct Tile {
  std::int64_t first, count;          // columns [first, first + count)
  Rows<const Real> rows, plain_rows;  // y_j
  Rows<Real> place, plain_place;      // room for copies of them
  Real *inside, *bias;                // (count): −α‖y_j‖²; c_j
  Rows<Real> s;                       // (count, lanes): scores, later their terms, weights and U
  Rows<Real> slope, t;                // the same for φ'(u) and t = −‖x_i − y_j‖²; null if not needed
  bool close;                         // squares were taken by differences, from the plain rows
};

// Some columns of a tile, or of a problem.
struct Columns {
  std::int64_t first = 0, end = 0;
};

// Sums over a tile: one number per row of the strip, one per column.
template <class Real>
struct Sides {
  Real *row, *col;
};

// One side's weights, as softmax_weights.h makes them: factor · e^s / e^{log_base·from}, or factor · ψ'(s). With a
// spread, included pairs gain spread · e^s / e^{log_base·from} − mean.
template <class Real>
struct SoftmaxSide {
  const Real *from = nullptr, *factor = nullptr, *spread = nullptr, *mean = nullptr;
};

template <class Real>
struct TileOps {
  // Loads rows of X and, if scores will be computed (`across`), their transpose. Loads rows of Y, for a close tile also
  // uncentered. Loads a tile and computes its scores.
  void (*load_strip)(const Problem&, Strip<Real>&, bool across);
  void (*load_tile)(const Problem&, Tile<Real>&);
  void (*score)(const Problem&, const Strip<Real>&, Tile<Real>&);

  // Row and column sums of e^s / 2^power, for scores known to lie near that power. `keep` writes the terms over the
  // scores. Column sums are skipped if their pointer is null.
  void (*absorb_bounded)(const Strip<Real>&, Tile<Real>&, Real power, Sides<Real> total, bool keep);
  // The same for any scores, with references that suit them: e^s / e^{log_base·from}. Returns log_base: log 2, or 1 if
  // a score is too large for powers of 2.
  double (*absorb_any)(const Strip<Real>&, Tile<Real>&, Sides<Real> from, Sides<Real> total);
  // The largest score of each row.
  void (*row_max)(const Strip<Real>&, const Tile<Real>&, Real* most);
  // Scores become e^{s − from_i}, and `total` the sums of these of each row.
  void (*to_terms)(const Strip<Real>&, Tile<Real>&, const Real* from, Real* total);
  // Sums of the scores of included pairs, and their numbers.
  void (*linear)(const Strip<Real>&, const Tile<Real>&, Sides<Real> total, Sides<Real> count);
  // Scores times a tilt, written to a tile of the same shape or to the tile itself.
  void (*tilted)(const Strip<Real>&, const Tile<Real>&, Real tilt, Rows<Real> to);

  // Scores become P = ∂/∂s, given the weights of rows and, if not null, of columns.
  void (*score_grad)(Op, double log_base, const Strip<Real>&, Tile<Real>&, SoftmaxSide<Real> row,
                     SoftmaxSide<Real> col);
  // Row and column sums of ψ(s); with `weigh` the scores become P at the same time, as score_grad makes it.
  void (*absorb_psi)(Op, const Strip<Real>&, Tile<Real>&, Sides<Real> total, bool weigh, SoftmaxSide<Real> row,
                     SoftmaxSide<Real> col);
  // Terms that absorb_bounded kept become P.
  void (*score_grad_from_terms)(const Strip<Real>&, Tile<Real>&, Real power, SoftmaxSide<Real> row,
                                SoftmaxSide<Real> col);
  // Shares p of a softmax become the gradient of its scores, p·(of_p − inner_i), given that of p; 0 for a p of 0.
  void (*softmax_slope)(const Strip<Real>&, Tile<Real>&, Rows<Real> of_p, const Real* inner);
  // A tile, plus another of the same shape, or times it.
  void (*combine)(const Strip<Real>&, Tile<Real>&, Rows<Real> more, bool product);
  void (*sum)(const Strip<Real>&, const Tile<Real>&, Sides<Real> total);
  double (*dot_t)(const Strip<Real>&, const Tile<Real>&);

  // Gradients of the embeddings from U = ∂/∂u, without the factor α, added to their targets unless these are null:
  // Σ_j U_ij y_j, (count of strip, ld), which overwrites its target if `fresh`; and Σ_i U_ij x_i of the tile's columns
  // `which`, (count of these, D) without padding, by way of `spare` (count of tile, ld) if D is no whole number of
  // vectors. In a close tile Σ_j U_ij (y_j − x_i) and Σ_i U_ij (x_i − y_j).
  void (*backward)(const Problem&, const Strip<Real>&, const Tile<Real>&, Rows<Real> to_rows, bool fresh,
                   Rows<Real> spare, Columns which, Real* columns);

  // Adds `count` rows of D numbers to those at `to`, which have no padding.
  void (*add_rows)(Rows<Real> from, std::int64_t count, std::int64_t D, Real* to);
};

// One table for each real type, and one for near points; a set of them for each instruction set, from a file of its
// own.
struct Tables {
  TileOps<float> f32;
  TileOps<double> f64;
  NearOps near;
};
extern const Tables avx2_tables, avx512_tables;
const Tables& tables_of(Level level);

template <class Real>
const TileOps<Real>& tile_ops(Level level) {
  if constexpr (sizeof(Real) == sizeof(float))
    return tables_of(level).f32;
  else
    return tables_of(level).f64;
}

}  // namespace jessl
