// Sums of doubles to a number of its own, by one block.
#pragma once

#include "cuda/pairs.h"
#include "cuda/reduce.cuh"

namespace jessl::cuda {

__device__ inline void store(const Number& to, double value, bool fresh) {
  if (to.wide) {
    double* const at = static_cast<double*>(to.at);
    *at = fresh ? value : *at + value;
  } else {
    float* const at = static_cast<float*>(to.at);
    *at = float(fresh ? value : double(*at) + value);
  }
}

// By a block of most_threads.
__device__ inline void add_up(const Total& total, bool fresh) {
  JESSL_SHARED(double, of_warps, most_threads / warp_size);
  double sum = 0;
  for (std::int64_t k = threadIdx.x; k < total.count; k += most_threads) sum += total.parts[k];
  sum = over_block(sum, of_warps);
  if (threadIdx.x == 0) store(total.to, sum, fresh);
  __syncthreads();  // a further total takes the place of this one
}

}  // namespace jessl::cuda
