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
  SumParts parts;          // of the negatives' sums, which the join merges; none if they are finished
  double* number_counted;  // for the joins of many rows, as are the next
  double* losses;          // parts of the loss, rows' and then columns'; the first side's
};

// Rows, and columns if these have sums.
struct JoinSides {
  JoinSide of[2];
  int count;
};

// Writes the value too. t: that of a small batch; null in few dimensions.
void join(const Sweep&, const Pairs&, const float* t, const LossWords&, const JoinSides&, Number value);

// The sums, losses and U of the rows of a small batch. sides: the weights that `side` writes.
void row_losses(const Sweep&, const Pairs&, const PairsRoom&, const LossWords&, const JoinSide& side,
                const Sides& sides, const ScoreGrads& to);

}  // namespace jessl::cuda
