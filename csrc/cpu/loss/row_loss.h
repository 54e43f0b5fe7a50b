// A loss of rows: sums over the negatives (pairs that are neither positive nor excluded), sums over the positives, and
// a join that makes each row's loss from both. problem/row_loss.py defines it in Python, backends/executor.py computes
// it there. docs/architecture.md lists the five stages.
//
// A row's sum grows in the order of the tiles, a column's in the order of the strips, at every number of threads.
#pragma once

#include <cstdint>

#include "cpu/tile/sums.h"
#include "cpu/options.h"
#include "pairwise/join.h"
#include "pairwise/problem.h"

namespace jessl {

// Which pairs are positives, in at most one of these ways. Negative ids match nothing.
struct Positives {
  bool shifted = false;
  std::int64_t shift = 0;                                     // row i's is column (i + shift) mod M
  const std::int64_t* index = nullptr;                        // (N) row i's is column index_i; −1: none
  const std::int64_t *row_ids = nullptr, *col_ids = nullptr;  // (N), (M) pairs of equal ids that are not excluded
  const void *score = nullptr, *col_score = nullptr;  // (N), (M) of the real type: scores of positives elsewhere

  bool there() const { return shifted || index || row_ids || score; }
};

struct RowProblem {
  Problem pairs;  // of negatives and positives together; symmetric if the negatives are
  Positives positives;
  Terms negatives, of_positives;
  bool normalize = false, cols = false;
  const void* also = nullptr;  // (N) of the real type: log-sum-exps that are added to the negatives; null for none
};

enum class Reduction { sum, mean, mean_counted };

struct Loss {
  JoinWord join;
  Reduction reduction;
  double factor;
  const void *weights, *col_weights;  // of the real type; null for 1
};

// Sums at the caller's addresses: (tilts, n) and (n); null for what was not requested.
template <class Real>
struct SumsArrays {
  Real *reference, *total, *linear, *count;
};
template <class Real>
struct SideArrays {
  SumsArrays<Real> negatives, positives;
};
template <class Real>
struct SlopesArrays {
  const Real *N, *P, *spread, *negative_spread;
};

// Gradients of what the caller gives for each row beside the pairs; null if not requested.
template <class Real>
struct GivenGradients {
  Real *score, *col_score, *also;
};

template <class Real>
void row_sums(const RowProblem&, const Options&, SideArrays<Real> row, SideArrays<Real> col);

// Gradients for slopes at these sums. Columns without sums have null pointers.
template <class Real>
void row_grads(const RowProblem&, const Options&, SideArrays<Real> row, SideArrays<Real> col, SlopesArrays<Real> of_row,
               SlopesArrays<Real> of_col, const Gradients<Real>&, GivenGradients<Real>);

// Σ weight_i loss_i, and the requested gradients.
template <class Real>
double row_loss(const RowProblem&, const Options&, const Loss&, const Gradients<Real>&, GivenGradients<Real>);

// log ΣΣ e^s over all pairs and, unless `out` is null, its gradients. One pass over S if norms and biases bound the
// scores, else two.
template <class Real>
double total(const Problem&, const Options&, const Gradients<Real>* out);

}  // namespace jessl
