// Softmax-weighted sums of values, o_i = Σ_j p_ij v_j with p_ij = e^{s_ij} / Σ_k e^{s_ik}, and their gradients.
#pragma once

#include "cpu/options.h"
#include "cpu/tile/sums.h"

namespace jessl {

// A row's Σ_j e^{s_ij} = total · e^{reference}, with a total of 0 for a row without pairs.
template <class Real>
struct RowTotals {
  Real *reference, *total;
};

// Writes o, (N, V), and the totals of the rows. `values` is (M, V).
template <class Real>
void attend(const Problem&, const Batch& values, const Options&, Real* out, RowTotals<Real>);

// Adds the gradients for the upstream gradient g of o, (N, V), given inner_i = ⟨g_i, o_i⟩; those of the values, (M, V),
// unless they are null. Y's gradient stays apart from X's where Y is X.
template <class Real>
void attend_grads(const Problem&, const Batch& values, const Batch& upstream, const Options&, RowTotals<const Real>,
                  const Real* inner, Gradients<Real> out, Real* of_values);

}  // namespace jessl
