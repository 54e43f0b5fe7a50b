// A loss of rows in one call: the stages of jessl_kernels/backends/executor.py, one launch after the other, for
// problems that need no strips.
//
//   rows_in   pieces put together, rows divided by their norms            rows.cu
//   sums      over negatives, and over positives where a row has several  pairs.h
//   join      each row's loss, and the weights of its sums                join.h
//   grads     the same pairs again; a single positive is a pair of the negatives' sweep
//   rows_out  back through the norms                                      rows.cu
#pragma once

#include "cuda/join.h"
#include "cuda/pairs.h"

namespace jessl::cuda {

struct Whole {
  Sweep negatives, positives;  // the second for several positives alone
  Pieces x, y;                 // y: none where Y is X
  std::int64_t N, M;
  bool distances, few, normalize, cols;
  LossWords words;
  float divisor, col_divisor;
  const float *weights, *col_weights;
  bool with_gradient;
};

// The value, and the gradients, which are written.
struct WholeResult {
  Number value;
  PairGrads grads;
};

std::int64_t room_of(const Whole&);  // bytes
void run(const Whole&, void* memory, WholeResult);

}  // namespace jessl::cuda
