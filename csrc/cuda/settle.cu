// −‖x_i − y_j‖² from ⟨x_i, y_j⟩, in place; by differences for close pairs, or for all.
#include "cuda/points.cuh"
#include "cuda/score.cuh"

namespace jessl::cuda {
namespace {

// −‖x_i − y_j‖², one dimension after the other: exact however close two points are.
__device__ float differences(const Points& x, const Points& y, std::int64_t i, std::int64_t j) {
  float t = 0;
  for (std::int64_t d = 0; d < x.dimensions; ++d) {
    const float apart = coordinate(x, i, d) - coordinate(y, j, d);
    t -= apart * apart;
  }
  return t;
}

__device__ float settled(float product, const Points& x, const Points& y, const Squares& squares, std::int64_t i,
                         std::int64_t j) {
  float t = squares.x ? 2 * product - squares.x[i] - squares.y[j] : 0;
  if (!squares.x || !(t <= *squares.close_above))
    t = differences(x, y, i, j);  // pairs not known to be far, NaN included
  return t > 0 ? 0.0f : t;        // a NaN stays
}

__global__ void settle_kernel(const Strip strip, const Points x, const Points y, const Squares squares) {
  const std::int64_t row = blockIdx.x, i = strip.first_row + row;
  for (std::int64_t j = 4 * threadIdx.x; j < strip.columns; j += 4 * blockDim.x) {
    float* const place = strip.t + row * strip.ld + j;
    Four t = load_four(place);
    for (int k = 0; k < 4; ++k)
      if (j + k < strip.columns) t.values[k] = settled(t.values[k], x, y, squares, i, j + k);
    store_four(place, t);
  }
}

}  // namespace

void settle(const Sweep& sweep, Strip strip, Points x, Points y, Squares squares) {
  use(sweep);
  JESSL_LAUNCH(settle_kernel, blocks(strip.rows), threads_along(strip.columns), stream_of(sweep), strip, x, y, squares);
  check_launch("settle");
}

}  // namespace jessl::cuda
