// Sums of a strip's scores along its rows, and along its columns.
#include "cuda/strip_rows.cuh"
#include "cuda/sums.cuh"

namespace jessl::cuda {
namespace {

__global__ void row_sums_kernel(const Sweep sweep, const Strip strip, const SumsOf to) {
  const std::int64_t row = blockIdx.x;
  const int k = int(blockIdx.y);
  const Sum sum = sum_of_row(sweep, strip, row, k, to.linear);
  if (threadIdx.x == 0) write(to, row, k, sum);
}

// A block sums 32 columns for one tilt. Its warps take turns with the rows, and are merged in their order.
inline constexpr int warps_down = most_threads / warp_size;

__global__ void column_sums_kernel(const Sweep sweep, const Strip strip, const SumsOf to) {
  JESSL_SHARED(Sum, parts, most_threads);
  const std::int64_t j = std::int64_t(blockIdx.x) * warp_size + threadIdx.x;
  const int k = int(blockIdx.y);
  const bool inside = j < strip.columns;
  Sum sum = nothing();
  for (std::int64_t row = threadIdx.y; inside && row < strip.rows; row += warps_down) {
    const float s[] = {score(sweep.scores, strip.t[row * strip.ld + j], place(strip, row, j))};
    add(sum, s, sweep.tilts, k, to.linear);
  }
  parts[threadIdx.y * warp_size + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || !inside) return;
  for (int warp = 1; warp < warps_down; ++warp) sum = merged(sum, parts[warp * warp_size + threadIdx.x]);
  write(to, j, k, to.fresh ? sum : with_earlier(sum, to, j, k));
}

}  // namespace

void absorb(const Sweep& sweep, Strip strip, SumsOf row, SumsOf col) {
  use(sweep);
  JESSL_LAUNCH(row_sums_kernel, dim3(blocks(strip.rows), sweep.tilts.count), threads_along(strip.columns),
               stream_of(sweep), sweep, strip, row);
  check_launch("row_sums");
  if (!col.total) return;
  JESSL_LAUNCH(column_sums_kernel, dim3(blocks(strip.columns, warp_size), sweep.tilts.count),
               dim3(warp_size, warps_down), stream_of(sweep), sweep, strip, col);
  check_launch("column_sums");
}

}  // namespace jessl::cuda
