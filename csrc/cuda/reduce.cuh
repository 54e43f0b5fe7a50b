// Sums over the threads of a block, in an order that depends on nothing but their number.
#pragma once

#include "cuda/score.cuh"

namespace jessl::cuda {

// Scores summed so far: Σ e^{τ s − base} with the base of the largest τ s, or Σ ψ(τ s); Σ s and the number of pairs.
struct Sum {
  float largest, total, linear;
  std::int32_t count;
};
__device__ inline Sum nothing() { return {minus_infinity, 0, 0, 0}; }

// The reference of exponents: the largest, or 0 if there is none or it is infinite.
__device__ inline float base_of(float largest) { return fabsf(largest) == -minus_infinity ? 0.0f : largest; }

// Adds scores; excluded ones are −∞.
template <int n>
__device__ void add(Sum& sum, const float (&s)[n], const Tilts& tilts, int which, bool linear) {
  const float tilt = tilts.values[which];
  if (linear)
    for (int k = 0; k < n; ++k)
      if (s[k] != minus_infinity) sum.linear += s[k], ++sum.count;
  if (tilts.op != Op::logsumexp) {
    for (int k = 0; k < n; ++k) sum.total += psi_of_pair(tilts.op, tilt, s[k]);
    return;
  }
  float largest = sum.largest;
  for (int k = 0; k < n; ++k) largest = fmaxf(largest, tilted(tilt, s[k]));
  const float base = base_of(largest);
  if (largest > sum.largest) {
    if (sum.largest != minus_infinity) sum.total *= expf(base_of(sum.largest) - base);
    sum.largest = largest;
  }
  for (int k = 0; k < n; ++k) sum.total += expf(tilted(tilt, s[k]) - base);
}

// A sum of exponentials without pairs has the largest −∞ and the total 0; a NaN among them makes its total NaN.
__device__ inline Sum merged(const Sum& a, const Sum& b) {
  Sum sum{fmaxf(a.largest, b.largest), 0, a.linear + b.linear, a.count + b.count};
  const float base = base_of(sum.largest);
  const float of_a = a.largest == minus_infinity ? 1.0f : expf(base_of(a.largest) - base);
  const float of_b = b.largest == minus_infinity ? 1.0f : expf(base_of(b.largest) - base);
  sum.total = a.total * of_a + b.total * of_b;
  return sum;
}

__device__ inline Sum down(const Sum& sum, int lanes) {
  return {__shfl_down_sync(all_lanes, sum.largest, lanes), __shfl_down_sync(all_lanes, sum.total, lanes),
          __shfl_down_sync(all_lanes, sum.linear, lanes), __shfl_down_sync(all_lanes, sum.count, lanes)};
}
__device__ inline float merged(float a, float b) { return a + b; }
__device__ inline double merged(double a, double b) { return a + b; }
__device__ inline float down(float sum, int lanes) { return __shfl_down_sync(all_lanes, sum, lanes); }
__device__ inline double down(double sum, int lanes) { return __shfl_down_sync(all_lanes, sum, lanes); }

// The sum over a block of whole warps; only its first thread gets it. `parts` is shared memory, one place for each
// warp, which nothing else uses.
template <class T>
__device__ T over_block(T sum, T* parts) {
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) sum = merged(sum, down(sum, lanes));
  if (threadIdx.x % warp_size == 0) parts[threadIdx.x / warp_size] = sum;
  __syncthreads();
  if (threadIdx.x == 0)
    for (unsigned warp = 1; warp < blockDim.x / warp_size; ++warp) sum = merged(sum, parts[warp]);
  return sum;
}

}  // namespace jessl::cuda
