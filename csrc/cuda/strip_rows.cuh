// One row of a strip, which a block of whole warps goes along.
#pragma once

#include "cuda/points.cuh"
#include "cuda/reduce.cuh"

namespace jessl::cuda {

// The sum of a row for one tilt. Only the first thread gets it.
__device__ inline Sum sum_of_row(const Sweep& sweep, const Strip& strip, std::int64_t row, int k, bool linear) {
  JESSL_SHARED(Sum, parts, most_threads / warp_size);
  Sum sum = nothing();
  for (std::int64_t j = 4 * threadIdx.x; j < strip.columns; j += 4 * blockDim.x) {
    Four t = load_four(strip.t + row * strip.ld + j);
    JESSL_UNROLL(4)
    for (int c = 0; c < 4; ++c)
      t.values[c] = j + c < strip.columns ? score(sweep.scores, t.values[c], place(strip, row, j + c)) : minus_infinity;
    add(sum, t.values, sweep.tilts, k, linear);
  }
  return over_block(sum, parts);
}

// Writes U of a row, and sums P and U.
__device__ inline void grads_of_row(const Sweep& sweep, const Strip& strip, const Sides& sides,
                                    const float* close_above, const ScoreGrads& to, std::int64_t row) {
  JESSL_SHARED(float, bias_parts, most_threads / warp_size);
  JESSL_SHARED(float, u_parts, most_threads / warp_size);
  JESSL_SHARED(double, scale_parts, most_threads / warp_size);
  const float factor = (close_above ? 2 : 1) * scale_of(sweep.scores);
  float of_bias = 0, of_u = 0;
  double of_scale = 0;  // its terms cancel
  for (std::int64_t first = 4 * threadIdx.x; first < strip.columns; first += 4 * blockDim.x) {
    const std::int64_t start = row * strip.ld + first;
    Four fours = load_four(strip.t + start);
    JESSL_UNROLL(4)
    for (int c = 0; c < 4; ++c) {
      const float t = fours.values[c];
      const Place at = place(strip, row, first + c);
      fours.values[c] = 0;
      if (at.j >= strip.columns) continue;
      float u = weight(sweep, strip, sides, score(sweep.scores, t, at), at);
      of_bias += u;
      if (sweep.scores.phi.name != PhiName::identity)
        u *= phi_slope(sweep.scores.phi, argument_of_phi(sweep.scores, t));
      if (to.scale) of_scale += double(u) * double(t);
      // What is summed is the number that is stored, so that a pair of equal points leaves no gradient.
      u = close_above && !(t <= *close_above) ? 0.0f : __fmul_rn(u, factor);
      of_u += u;
      fours.values[c] = u;
    }
    if (to.u) store_four(to.u, to.element, start, fours);
  }
  if (to.row_bias) {
    const float sum = over_block(of_bias, bias_parts);
    if (threadIdx.x == 0) to.row_bias[row] = to.fresh ? sum : to.row_bias[row] + sum;
  }
  if (to.u_row) {
    const float sum = over_block(of_u, u_parts);
    if (threadIdx.x == 0) to.u_row[row] = sum;
  }
  if (to.scale) {
    const double sum = over_block(of_scale, scale_parts);
    if (threadIdx.x == 0) to.scale[row] = sum;
  }
}

}  // namespace jessl::cuda
