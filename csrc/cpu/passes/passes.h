// The passes over the pairs of a problem.
#pragma once

#include <functional>
#include <optional>

#include "cpu/tile/sums.h"
#include "cpu/options.h"
#include "cpu/passes/score_cache.h"
#include "cpu/passes/softmax_weights.h"
#include "cpu/skip/skipping.h"

namespace jessl {

// Sums of rows and, if asked for, of columns. What falls is looked for first; scores stay where `cache` is on.
template <class Real>
Sums sum_pass(const Problem&, const Terms&, const Options&, bool columns, Skipping<Real>&,
              ScoreCache<Real>* cache = nullptr);

// What a pass for gradients makes beside them, and where its scores come from.
template <class Real>
struct GradPass {
  // No pass over the scores has told yet which tiles are weightless.
  bool measure = false;
  // Scores are made again unless they were kept.
  const ScoreCache<Real>* cache = nullptr;
  // Sums of a ψ made in the same pass, plain ones; the columns' if theirs are not empty. Or, with a power, of
  // e^s / 2^power, which are the weights as well: a pair of a symmetric problem that stands for two, (i, j) and (j, i),
  // is counted twice in the sums and once in the gradient.
  Sums* sums = nullptr;
  std::optional<Real> power = {};
};

// Gradients for these weights.
template <class Real>
void grad_pass(const Problem&, const Terms&, const Options&, const SweepWeights<Real>&, Gradients<Real>,
               Skipping<Real>&, const GradPass<Real>& = {});

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
std::optional<Real> common_power(const Problem&, const Options&);

// The mean of Y's rows, (D,), written to `center`; and the largest squared distance of any row of X or Y from it, which
// decides how their squared distances are taken (backends/squared_distance.py).
template <class Real>
double squared_radius(const Batch& x, const Batch& y, const Options&, Real* center);

// The k largest scores of each row in descending order, (N, k) each.
template <class Real>
void top_k(const Problem&, std::int64_t k, const Options&, Real* values, std::int64_t* indices);

}  // namespace jessl
