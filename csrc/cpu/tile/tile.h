// What the drivers know of a processor: a strip of rows, a tile of scores, and a table of functions on them.
//
// A tile is up to `most_rows` columns j of the problem by up to `most_rows` rows i, a *strip*. It is stored with the
// rows of the strip along its vectors, s[j·ld + i], so that only the strip is ever transposed: once per strip, not once
// per tile. Rows that fill up the last vector have the score −inf. One file per instruction set fills one table
// (tile_*.cpp).
#pragma once

#include <cstdint>

#include "cpu/simd/simd_level.h"
#include "pairwise/problem.h"

namespace jessl {

inline constexpr double log_2 = 0.6931471805599453;
inline constexpr long double log_2_long = 0.693147180559945309417232121458176568L;

// Rows of a strip and columns of a tile, at most. 192 is a multiple of every vector and register block, and a tile of
// floats takes 144 KiB: with its embeddings it stays in an L2 of 1 MiB up to D ≈ 256.
inline constexpr std::int64_t most_rows = 192;

// The length of a row of n numbers in scratch memory: whole vectors, and an odd number of cache lines, since rows a
// power of two apart would compete for the same few sets of L1.
template <class Real>
constexpr std::int64_t padded(std::int64_t n) {
  const std::int64_t per_line = 64 / sizeof(Real), lines = (n + per_line - 1) / per_line;
  return (lines | 1) * per_line;
}

// Some rows of a batch: in scratch memory, (count, ld), the padding 0; or where they stand, if that is as good
// (rows.h).
template <class Real>
struct Rows {
  Real* data;
  std::int64_t ld;
};

// A strip, made ready to be compared with any tile's rows.
template <class Real>
struct Strip {
  std::int64_t first, count, lanes;   // rows [first, first + count), and count rounded up to whole vectors
  Rows<const Real> rows, plain_rows;  // x_i, centered where a square is expanded; and not
  Rows<Real> place, plain_place;      // for them, where they must be copied
  Rows<Real> across, plain_across;    // (D, ld): their transposes
  Real *inside, *bias;                // (lanes): −α‖x_i‖² where a square is expanded, else 0; r_i, −inf in the padding
};

template <class Real>
struct Tile {
  std::int64_t first, count;          // columns [first, first + count)
  Rows<const Real> rows, plain_rows;  // y_j
  Rows<Real> place, plain_place;      // for them, where they must be copied
  Real *inside, *bias;                // (count): −α‖y_j‖²; c_j
  Rows<Real> s;                       // (count, lanes): scores, and later what takes their place
  Rows<Real> slope, t;                // the same for φ'(u) and t = −‖x_i − y_j‖²; null where nobody needs them
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

// One side of a gradient, as softmax_weights.h makes it: terms are factor · e^s / e^{log_base·from}, or factor · ψ'(s).
// Where there is a spread, spread · e^s / e^{log_base·from} − mean is added to those of pairs that are in.
template <class Real>
struct SoftmaxSide {
  const Real *from = nullptr, *factor = nullptr, *spread = nullptr, *mean = nullptr;
};

template <class Real>
struct TileOps {
  // Load rows of X, and their transpose where scores will be made of it, or of Y (a close tile's as they are, too);
  // load a tile and compute its scores.
  void (*load_strip)(const Problem&, Strip<Real>&, bool across);
  void (*load_tile)(const Problem&, Tile<Real>&);
  void (*score)(const Problem&, const Strip<Real>&, Tile<Real>&);

  // Row and column sums of e^s / 2^power, for scores known to lie near it; `keep` writes the terms over the scores. The
  // columns' are skipped where their pointer is null.
  void (*absorb_bounded)(const Strip<Real>&, Tile<Real>&, Real power, Sides<Real> total, bool keep);
  // The same for any scores, measured from what is found to suit them: e^s / e^{log_base·from}. Returns log_base: log
  // 2, or 1 where powers will not do.
  double (*absorb_any)(const Strip<Real>&, Tile<Real>&, Sides<Real> from, Sides<Real> total);
  // Sums of the scores of pairs that are in, and their numbers.
  void (*linear)(const Strip<Real>&, const Tile<Real>&, Sides<Real> total, Sides<Real> count);
  // Scores times a tilt, written to a tile of the same shape, which may be the same.
  void (*tilted)(const Strip<Real>&, const Tile<Real>&, Real tilt, Rows<Real> to);

  // Scores become P = ∂/∂s, given the weights of rows and, if not null, of columns.
  void (*score_grad)(Op, double log_base, const Strip<Real>&, Tile<Real>&, SoftmaxSide<Real> row,
                     SoftmaxSide<Real> col);
  // Row and column sums of ψ(s), and where pairs are weighed P as score_grad makes it, at once.
  void (*absorb_psi)(Op, const Strip<Real>&, Tile<Real>&, Sides<Real> total, bool weigh, SoftmaxSide<Real> row,
                     SoftmaxSide<Real> col);
  // Terms that absorb_bounded kept become P.
  void (*score_grad_from_terms)(const Strip<Real>&, Tile<Real>&, Real power, SoftmaxSide<Real> row,
                                SoftmaxSide<Real> col);
  // A tile, plus another of the same shape, or times it.
  void (*combine)(const Strip<Real>&, Tile<Real>&, Rows<Real> more, bool product);
  void (*sum)(const Strip<Real>&, const Tile<Real>&, Sides<Real> total);
  double (*dot_t)(const Strip<Real>&, const Tile<Real>&);

  // From U = ∂/∂u the gradients of the embeddings, without α, added to what is there unless null: Σ_j U_ij y_j, (count
  // of strip, ld), where `fresh` says that nothing is there yet; and Σ_i U_ij x_i of the tile's columns `which`, (count
  // of these, D) without padding, by way of `spare` (count of tile, ld) if need be. In a close tile Σ_j U_ij (y_j −
  // x_i) and Σ_i U_ij (x_i − y_j).
  void (*backward)(const Problem&, const Strip<Real>&, const Tile<Real>&, Rows<Real> to_rows, bool fresh,
                   Rows<Real> spare, Columns which, Real* columns);

  // Add `count` rows of D numbers to those at `to`, which follow each other without padding.
  void (*add_rows)(Rows<Real> from, std::int64_t count, std::int64_t D, Real* to);
};

// One table for each real type; one such pair for each instruction set, from a file of its own.
struct Tables {
  TileOps<float> f32;
  TileOps<double> f64;
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
