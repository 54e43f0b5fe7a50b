// From the sums of rows, or of columns, to their losses and to the weights of their sums.
#pragma once

#include "cuda/pairs.h"
#include "pairwise/join.h"

namespace jessl::cuda {

// What all rows have in common, and all columns.
//
//   loss      Σ_i weight_i loss_i / divisor, weight_i = factor · weights_i
//   counted   the divisor is the number of rows that have a positive
struct LossWords {
  JoinWord join;
  float factor;
  bool counted;
  Tilts positives;  // what is summed over positives: one tilt
  bool several;     // rows may have several positives, whose sums were made; else at most one, that of the scores
};

// The sums over positives of one side, and where the weights of its sums go: null for none. single: P of each row and
// its single positive, to which columns add; partner_scores: written by rows, read by columns.
struct JoinSide {
  std::int64_t count;
  bool of_columns;
  float divisor;
  const float* weights;  // null for 1
  SumsOf negatives, positives;
  float *factor, *positive_factor, *spread, *mean;
  float *single, *partner_scores;
  double* number_counted;
  double* losses;  // parts of the loss, `loss_parts` of them
};

std::int64_t loss_parts(std::int64_t count);

// t: that of a small batch; null in few dimensions.
void join_side(const Sweep&, const Pairs&, const float* t, const LossWords&, const JoinSide&);

}  // namespace jessl::cuda
