// The passes over the pairs of a problem.
#pragma once

#include <functional>
#include <optional>

#include "cpu/gradients.h"
#include "cpu/options.h"
#include "cpu/passes/score_cache.h"
#include "cpu/passes/softmax_weights.h"
#include "cpu/passes/sums.h"
#include "cpu/skip/skipping.h"

namespace jessl {

// Sums of rows and, if asked for, of columns. What falls is looked for first; scores stay where `cache` is on.
template <class Real>
Sums sum_pass(const Problem&, const Terms&, const Options&, bool columns, Skipping<Real>&,
              ScoreCache<Real>* cache = nullptr);

// Gradients for these weights. With `sums`, which are of a ψ and plain, these are made in the same pass; the columns'
// if theirs are not empty. `measure`: no pass over the scores has told yet which tiles are weightless. Scores are made
// again unless they were kept.
template <class Real>
void grad_pass(const Problem&, const Terms&, const Options&, const SweepWeights<Real>&, Gradients<Real>, Sums* sums,
               Skipping<Real>&, bool measure, const ScoreCache<Real>* cache = nullptr);

// ΣΣ e^s / 2^power over all pairs, and its gradient, not divided by anything yet: in one pass, since no weight is
// needed. A pair of a symmetric problem that stands for two, (i, j) and (j, i), is counted twice in the sum and once in
// the gradient.
template <class Real>
double total_pass(const Problem&, const Options&, Real power, Gradients<Real>);

// From the sums of a strip of rows, the first of them `first`, which it may add to: the slope at each log-sum-exp.
using StripSlopes = std::function<void(std::int64_t first, OnlineLse& sums, double* slopes)>;

// Gradients of a log-sum-exp of rows in a single pass, where a row's slope is known with its sum: the scores of a strip
// are kept in between. Strips are told of once each, by any thread. False, and nothing done, where the problem is of
// another kind or the workspace does not hold a strip.
template <class Real>
bool strip_pass(const Problem&, const Options&, const StripSlopes&, Gradients<Real>);

// The rows of a strip whose scores are kept; 0 where the problem is of another kind (a square, a φ, symmetric) or not
// even few rows fit the workspace: then two passes are taken.
std::int64_t strip_rows(const Problem&, std::int64_t workspace);

// Whether the scores of a log-sum-exp are kept between the passes for its sums and its gradients, that of the scale
// among them if `of_scale`; where they are not they are made twice.
bool keeps_scores(const Problem&, bool of_scale, std::int64_t workspace);

// A power of 2 from which e^s of every score can be measured, if norms and biases promise one: then nothing needs a
// maximum, and a total takes one pass.
template <class Real>
std::optional<Real> common_power(const Problem&);

// The k largest scores of each row in descending order, (N, k) each.
template <class Real>
void top_k(const Problem&, std::int64_t k, const Options&, Real* values, std::int64_t* indices);

}  // namespace jessl
