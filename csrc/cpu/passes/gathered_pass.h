// The sums and gradients of a compact φ. Pairs beyond its support do not count, so each strip of rows meets only the
// columns that may lie inside it, gathered from wherever they stand. In many dimensions few of the points of a tile are
// near a strip although hardly a tile has none.
#pragma once

#include "cpu/options.h"
#include "cpu/passes/softmax_weights.h"
#include "cpu/tile/sums.h"
#include "pairwise/problem.h"

namespace jessl {

// For problems that `gathers` accepts (skip/gathering.h). Columns are the rows of the transposed problem; in a
// symmetric one each pair is computed from both its ends.
template <class Real>
Sums gathered_sums(const Problem&, const Options&, bool columns);

template <class Real>
void gathered_grads(const Problem&, const Options&, const SweepWeights<Real>&, const Gradients<Real>&);

}  // namespace jessl
