// The reductions and their gradients, tile by tile: what bindings.cpp calls. Real is float or double.
//
//   reduce           one pass over S (half of it where S is symmetric)
//   gradient         one pass over S and both products with U
//   strip_gradient   values and gradient of rows alone, S of a strip kept in between: 3 products in all instead of 4
//   top_k            one pass over S
#pragma once

#include <cstdint>

#include "cpu/threads.h"
#include "cpu/tile.h"
#include "pairwise/problem.h"

namespace jessl {

struct Options {
  int threads;
  std::int64_t workspace;  // bytes
  Level level;
  Interrupted interrupted;
};

// Null where nobody asks. In a symmetric problem x holds both halves, and y is null.
template <class Real>
struct Gradients {
  Real *x, *y;
  double* scale;
  Real *row_bias, *col_bias;
};

// row (N), col (M) or null: log-sum-exps, or sums of softplus.
template <class Real>
void reduce(const Problem&, Op, const Options&, Sides<Real> values);

// Gradients for what arrives at rows and, if not null, at columns. For softplus the values too, unless null: they come along.
template <class Real>
void gradient(const Problem&, Op, const Options&, Upstream<Real> row, Upstream<Real> col, Gradients<Real>,
              Sides<Real> values);

// Log-sum-exps of rows and the gradient of Σ w_i log(1 + e^{L_i − anchor_i}) (of Σ w_i L_i where anchor is null). For dot scores
// without φ. False, and nothing done, if a strip of scores does not fit the workspace.
template <class Real>
bool strip_gradient(const Problem&, const Options&, const Real* weight, const Real* anchor, Real* row, Gradients<Real>);

// The k largest scores of each row in descending order, (N, k) each.
template <class Real>
void top_k(const Problem&, std::int64_t k, const Options&, Real* values, std::int64_t* indices);

}  // namespace jessl
