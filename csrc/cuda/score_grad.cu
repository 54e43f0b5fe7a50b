// U of a strip's scores, and sums of P and of U along rows and columns.
#include "cuda/strip_rows.cuh"

namespace jessl::cuda {
namespace {

__global__ void rows_kernel(const Sweep sweep, const Strip strip, const Sides sides, const float* close_above,
                            const ScoreGrads to) {
  grads_of_row(sweep, strip, sides, close_above, to, blockIdx.x);
}

// A block takes 32 columns. Its warps take turns with the rows, and are added in their order.
inline constexpr int warps_down = most_threads / warp_size;

__global__ void columns_kernel(const Sweep sweep, const Strip strip, const Sides sides, const ScoreGrads to) {
  JESSL_SHARED(float, bias_parts, most_threads);
  JESSL_SHARED(float, u_parts, most_threads);
  const std::int64_t j = std::int64_t(blockIdx.x) * warp_size + threadIdx.x;
  const bool inside = j < strip.columns;
  float of_bias = 0, of_u = 0;
  for (std::int64_t row = threadIdx.y; inside && row < strip.rows; row += warps_down) {
    const std::int64_t start = row * strip.ld + j;
    const Place at = place(strip, row, j);
    if (to.col_bias) of_bias += weight(sweep, strip, sides, score(sweep.scores, strip.t[start], at), at);
    if (to.u_col) of_u += static_cast<const float*>(to.u)[start];
  }
  const int mine = threadIdx.y * warp_size + threadIdx.x;
  bias_parts[mine] = of_bias;
  u_parts[mine] = of_u;
  __syncthreads();
  if (threadIdx.y > 0 || !inside) return;
  for (int warp = 1; warp < warps_down; ++warp) {
    of_bias += bias_parts[warp * warp_size + threadIdx.x];
    of_u += u_parts[warp * warp_size + threadIdx.x];
  }
  if (to.col_bias) to.col_bias[j] = to.fresh ? of_bias : to.col_bias[j] + of_bias;
  if (to.u_col) to.u_col[j] = of_u;
}

}  // namespace

void score_grad(const Sweep& sweep, Strip strip, Sides sides, const float* close_above, ScoreGrads to) {
  use(sweep);
  JESSL_LAUNCH(rows_kernel, blocks(strip.rows), threads_along(strip.columns), stream_of(sweep), sweep, strip, sides,
               close_above, to);
  check_launch("score_grad of rows");
  if (!to.col_bias && !to.u_col) return;
  JESSL_LAUNCH(columns_kernel, blocks(strip.columns, warp_size), dim3(warp_size, warps_down), stream_of(sweep), sweep,
               strip, sides, to);
  check_launch("score_grad of columns");
}

}  // namespace jessl::cuda
