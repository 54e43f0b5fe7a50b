// The passes over a problem that the drivers are made of.
#pragma once

#include <optional>

#include "cpu/driver.h"
#include "cpu/kept.h"
#include "cpu/running.h"
#include "cpu/skipping.h"
#include "cpu/weights.h"

namespace jessl {

// Sums of rows and, if asked for, of columns. Of a symmetric problem the rows' are the columns'. What falls is looked for first; scores stay where
// `kept` is on.
struct Sums {
  Running rows, columns;
};
template <class Real>
Sums sum_pass(const Problem&, Op, const Options&, bool columns, Skipping<Real>&, Kept<Real>* kept = nullptr);

// Gradients for the weights of rows and, if not null, of columns; for a symmetric problem of both. A sum's values come along
// unless their pointers are null. `measure`: no pass over the scores has told yet which tiles are weightless.
// Scores are made again unless they were kept.
template <class Real>
void pull_pass(const Problem&, Op, double unit, const Options&, const Weights<Real>& row, const Weights<Real>* col,
               Gradients<Real>, Sides<Real> values, Skipping<Real>&, bool measure, const Kept<Real>* kept = nullptr);

// ΣΣ e^s / 2^power over all pairs, and its gradient, not divided by anything yet: in one pass, since no weight is needed.
// A pair of a symmetric problem that stands for two, (i, j) and (j, i), is counted twice in the sum and once in the gradient.
template <class Real>
double total_pass(const Problem&, const Options&, Real power, Gradients<Real>);

// Row values and the gradient of their weighted sum, the scores of a strip kept in between. False, and nothing done, where the
// problem is of another kind or the workspace does not hold a strip (`strip_rows` of driver.h).
template <class Real>
bool strip_pass(const Problem&, const Options&, Weighted<Real> row, Real* values, Gradients<Real>);

// A power of 2 from which e^s of every score can be measured, if norms and biases promise one: then nothing needs a maximum.
template <class Real>
std::optional<Real> common_power(const Problem&);

}  // namespace jessl
