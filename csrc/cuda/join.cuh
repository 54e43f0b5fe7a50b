// The join of one row, or of one column. jessl_kernels/problem/join.py and Weights.of (jessl_kernels/problem/types.py)
// are the same in torch.
#pragma once

#include "cuda/join.h"
#include "cuda/points.cuh"
#include "cuda/sums.cuh"
#include "cuda/totals.cuh"

namespace jessl::cuda {

// The positives of one row: their log-sum-exp or sum of ψ, what that is above their mean score, and how many they are.
struct OfPositives {
  float P = 0, spread = 0, count = 0;
};

__device__ inline float log_or_sum(const SumsOf& sums, std::int64_t place) {
  return sums.reference ? logf(sums.total[place]) + sums.reference[place] : sums.total[place];
}

// t of a row and its partner, with the same bits as in a sweep.
__device__ inline float partner_t(const Pairs& pairs, const float* t, std::int64_t i, std::int64_t j) {
  if (t) return t[i * pairs.ld() + j];
  float sum = 0;
  for (std::int64_t d = 0; d < pairs.x.dimensions; ++d) {
    const float a = coordinate(pairs.x, i, d), b = coordinate(pairs.y, j, d);
    sum = pairs.distances ? __fmaf_rn(-(a - b), a - b, sum) : __fmaf_rn(a, b, sum);
  }
  return sum;
}

// The row whose single positive is column j; negative for none. Only a shift has columns with sums.
__device__ inline std::int64_t row_of(const Partners& of, std::int64_t j) {
  const std::int64_t i = j - of.shift < 0 ? j - of.shift + of.M : j - of.shift;
  return i < of.N ? i : -1;
}

__device__ inline OfPositives of_several(const SumsOf& sums, std::int64_t n) {
  const float count = sums.count[n];
  if (count == 0) return {};
  OfPositives found{log_or_sum(sums, n), 0, count};
  // A single score is its own mean to the last digit.
  if (sums.reference && count > 1) found.spread = found.P - sums.linear[n] / count;
  return found;
}

__device__ inline OfPositives of_single(const Sweep& sweep, const Pairs& pairs, const float* t, const Tilts& terms,
                                        const JoinSide& side, std::int64_t n) {
  float s;
  if (side.of_columns) {
    const std::int64_t i = row_of(sweep.scores.single, n);
    if (i < 0) return {};
    s = side.partner_scores[i];
  } else {
    const std::int64_t j = partner(sweep.scores.single, n);
    if (j < 0) return {};
    s = side.partner_scores[n] = score_of_any(sweep.scores, partner_t(pairs, t, n, j), {n, n, j});
  }
  return {terms.op == Op::logsumexp ? s : psi_value(terms.op, tilted(terms.values[0], s)), 0, 1};
}

// The factor of a sum in the weights of its pairs.
__device__ inline float factor_of(const SumsOf& sums, std::int64_t place, float tilt, float slope) {
  if (!sums.reference) return tilt * slope;
  return sums.total[place] == 0 ? 0.0f : tilt * slope / sums.total[place];
}

__device__ inline bool has_positive(const Sweep& sweep, const JoinSide& side, std::int64_t n) {
  if (side.positives.count) return side.positives.count[n] > 0;
  return (side.of_columns ? row_of(sweep.scores.single, n) : partner(sweep.scores.single, n)) >= 0;
}

// A row's loss. Writes the weights of its sums. counted: how many rows have positives.
__device__ inline float join_one(const Sweep& sweep, const Pairs& pairs, const float* t, const LossWords& words,
                                 const JoinSide& side, std::int64_t n, float counted) {
  for (int k = 0; side.parts.sums && k < words.join.tilts; ++k) merge(side.parts, side.negatives, n, k);
  float N[most_join_tilts] = {};
  for (int k = 0; k < most_join_tilts; ++k)
    if (k < words.join.tilts) N[k] = log_or_sum(side.negatives, k * side.negatives.stride + n);
  const bool single = sweep.scores.single.M > 0;
  OfPositives positives;
  if (words.several) positives = of_several(side.positives, n);
  if (single) positives = of_single(sweep, pairs, t, words.positives, side, n);
  const bool absent = words.join.positives && (words.several || single) && positives.count == 0;
  float weight = words.factor * (side.weights ? side.weights[n] : 1.0f);
  weight /= words.counted ? fmaxf(counted, 1.0f) : side.divisor;
  if (absent) weight = 0;
  const float at_least_one = fmaxf(positives.count, 1.0f);
  const Joined<float> of = joined(words.join.join, N, positives.P, positives.spread, at_least_one);
  // A row of weight 0 does not count, even if its value or its slopes are infinite or NaN.
  const auto weighted = [&](float number) { return weight == 0 ? 0.0f : number * weight; };
  if (side.factor)
    for (int k = 0; k < most_join_tilts; ++k)
      if (k < words.join.tilts) {
        const std::int64_t place = k * side.negatives.stride + n;
        side.factor[place] = factor_of(side.negatives, place, sweep.tilts.values[k], weighted(of.N[k]));
      }
  const float of_p = weighted(of.P), tilt = words.positives.values[0];
  if (side.positive_factor) side.positive_factor[n] = factor_of(side.positives, n, tilt, of_p);
  if (side.spread) {
    const float of_spread = positives.count > 1 ? weighted(of.spread) : 0.0f;
    side.spread[n] = positives.count > 1 ? of_spread / side.positives.total[n] : 0.0f;
    side.mean[n] = of_spread / at_least_one;
  }
  const std::int64_t row = side.of_columns && single ? row_of(sweep.scores.single, n) : n;
  if (side.single && row >= 0) {
    float p = positives.count > 0 ? of_p : 0.0f;
    if (words.positives.op != Op::logsumexp && positives.count > 0)
      p *= tilt * psi_slope(words.positives.op, tilted(tilt, side.partner_scores[row]));
    side.single[row] = side.of_columns ? side.single[row] + p : p;
  }
  return weighted(of.value);
}

}  // namespace jessl::cuda
