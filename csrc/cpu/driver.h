// The reductions and their gradients, tile by tile: what bindings.cpp calls. Real is float or double.
#pragma once

#include <cstdint>

#include "cpu/threads.h"
#include "cpu/tile.h"
#include "pairwise/problem.h"

namespace jessl {

// Tiles of scores that a call computed.
struct Work {
  std::int64_t looked = 0;  // beforehand, for lower bounds of sums (skipping.h)
  std::int64_t scored = 0;  // in all passes
  std::int64_t pulled = 0;  // of them, those whose gradient was pulled to the embeddings
};

struct Options {
  int threads;
  std::int64_t workspace;  // bytes
  Level level;
  Interrupted interrupted;
  Work* work = nullptr;  // added to, where somebody asks
  // Bytes of the workspace that are in use already. Only threads, whose number changes no bit, make room for them; strips and tiles
  // are cut as if there were none.
  std::int64_t taken = 0;
};

// Null where nobody asks. In a symmetric problem x holds both halves, and y is null.
template <class Real>
struct Gradients {
  Real *x, *y;
  double* scale;
  Real *row_bias, *col_bias;
  bool unfinished = false;  // x and y of dot scores stay without α, for a call that adds its own to them and finishes both
};

// One side of what arrives from above: gradients g_i, and log-sum-exps L_i (null for a sum).
template <class Real>
struct Upstream {
  const Real *gradient, *lse;
};

// One side of a scalar: constant weights w_i of log(1 + e^{L_i − anchor_i}), or of L_i (or the sum) where there is no anchor.
template <class Real>
struct Weighted {
  const Real *weight, *anchor;
  Weighted from(std::int64_t first) const { return {weight + first, anchor ? anchor + first : nullptr}; }
};

// Log-sum-exps or sums of softplus: row (N), col (M) or null. One pass over S, half of it where S is symmetric.
template <class Real>
void reduce(const Problem&, Op, const Options&, Sides<Real> values);

// Gradients for what arrives at rows and, if not null, at columns. One pass over S, and both products with U.
template <class Real>
void gradient(const Problem&, Op, const Options&, Upstream<Real> row, Upstream<Real> col, Gradients<Real>);

// Values, and the gradient of Σ w_i row_i + Σ v_j col_j. A sum takes one pass over S; a log-sum-exp two, or where rows of dot
// scores alone are asked for and the workspace holds a strip of them, one: the strip is kept until its sums are known.
template <class Real>
void reduce_and_gradient(const Problem&, Op, const Options&, Weighted<Real> row, Weighted<Real> col, Sides<Real> values,
                         Gradients<Real>);

// log ΣΣ e^s over all pairs, and unless `out` is null its gradients. One pass over S where `bounds_scores`, else two.
template <class Real>
double total(const Problem&, const Options&, const Gradients<Real>* out);

// The rows of a strip whose scores are kept, for a log-sum-exp of rows alone; 0 where the problem is of another kind (a square,
// a φ, symmetric) or not even few rows fit the workspace: then two passes are taken.
std::int64_t strip_rows(const Problem&, std::int64_t workspace);

// Whether the scores of a log-sum-exp are kept between the passes for its sums and its gradients, that of the scale among them if
// `of_scale`; where they are not they are made twice.
bool keeps_scores(const Problem&, bool of_scale, std::int64_t workspace);

// Whether norms and biases bound the scores so closely that one power of 2 serves all: a total takes one pass then.
bool bounds_scores(const Problem&);

// The k largest scores of each row in descending order, (N, k) each.
template <class Real>
void top_k(const Problem&, std::int64_t k, const Options&, Real* values, std::int64_t* indices);

}  // namespace jessl
