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

// Sums of rows and, if requested, of columns. Tiles to skip are found first. Scores are kept in `cache` if it is on.
template <class Real>
Sums sum_pass(const Problem&, const Terms&, const Options&, bool columns, Skipping<Real>&,
              ScoreCache<Real>* cache = nullptr);

// Options of a pass for gradients: further results, and the source of the scores.
template <class Real>
struct GradPass {
  // No earlier pass over the scores has found the weightless tiles: this pass finds them.
  bool measure = false;
  // Kept scores; null: scores are computed again.
  const ScoreCache<Real>* cache = nullptr;
  // Plain sums of a ψ, made in the same pass; of columns too unless theirs are empty. With a power they are sums of
  // e^s / 2^power, and these terms are the weights. In a symmetric problem a pair stands for two, (i, j) and (j, i): it
  // is counted twice in the sums and once in the gradient.
  Sums* sums = nullptr;
  std::optional<Real> power = {};
};

// Gradients for these weights.
template <class Real>
void grad_pass(const Problem&, const Terms&, const Options&, const SweepWeights<Real>&, Gradients<Real>,
               Skipping<Real>&, const GradPass<Real>& = {});

// Computes the slope at each log-sum-exp from the sums of a strip, whose first row is `first`. It may add to the sums.
using StripSlopes = std::function<void(std::int64_t first, OnlineLse& sums, double* slopes)>;

// Gradients of a log-sum-exp of rows in a single pass, if a row's slope is known with its sum: the scores of a strip
// are kept until then. The slopes of each strip are computed once, by any thread. Returns false, and does nothing, if
// the problem is of another kind or the workspace does not hold a strip.
template <class Real>
bool strip_pass(const Problem&, const Options&, const StripSlopes&, Gradients<Real>);

// The rows of a strip whose scores are kept. 0, so that two passes are taken, if the problem is of another kind (a
// square, a φ, symmetric) or if not even a few rows fit the workspace.
std::int64_t strip_rows(const Problem&, std::int64_t workspace);

// Whether the scores of a log-sum-exp are kept between the passes for its sums and its gradients, with the scale's
// gradient if `of_scale`. If not, they are computed twice.
bool keeps_scores(const Problem&, bool of_scale, std::int64_t workspace);

// A power of 2 that suits every score, if norms and biases guarantee one. Then no maximum is needed, and a total takes
// one pass.
template <class Real>
std::optional<Real> common_power(const Problem&, const Options&);

// Writes the mean of Y's rows, (D,), to `center`, and returns the largest squared distance of any row of X or Y from
// it. That distance decides how squared distances are computed (backends/squared_distance.py).
template <class Real>
double squared_radius(const Batch& x, const Batch& y, const Options&, Real* center);

// The k largest scores of each row in descending order, (N, k) each.
template <class Real>
void top_k(const Problem&, std::int64_t k, const Options&, Real* values, std::int64_t* indices);

}  // namespace jessl
