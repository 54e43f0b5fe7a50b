// P of a strip, for softmax-weighted sums of values; and the scores themselves, for top-k.
#include "cuda/four.cuh"
#include "cuda/score.cuh"

namespace jessl::cuda {
namespace {

__global__ void weights_kernel(const Sweep sweep, const Strip strip, const Sides sides, float* p) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t j = 4 * threadIdx.x; j < strip.columns; j += 4 * blockDim.x) {
    Four four = load_four(strip.t + row * strip.ld + j);
    for (int k = 0; k < 4; ++k) {
      if (j + k >= strip.columns) continue;
      const Place at = place(strip, row, j + k);
      four.values[k] = weight(sweep, strip, sides, score(sweep.scores, four.values[k], at), at);
    }
    store_four(p + row * strip.ld + j, four);
  }
}

__global__ void finish_kernel(const Sweep sweep, const Strip strip) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t j = 4 * threadIdx.x; j < strip.columns; j += 4 * blockDim.x) {
    float* const start = strip.t + row * strip.ld + j;
    Four four = load_four(start);
    for (int k = 0; k < 4; ++k)
      if (j + k < strip.columns) four.values[k] = score(sweep.scores, four.values[k], place(strip, row, j + k));
    store_four(start, four);
  }
}

}  // namespace

void weights(const Sweep& sweep, Strip strip, Sides sides, float* p) {
  use(sweep);
  JESSL_LAUNCH(weights_kernel, blocks(strip.rows), threads_along(strip.columns), stream_of(sweep), sweep, strip, sides,
               p);
  check_launch("weights");
}

void finish(const Sweep& sweep, Strip strip) {
  use(sweep);
  JESSL_LAUNCH(finish_kernel, blocks(strip.rows), threads_along(strip.columns), stream_of(sweep), sweep, strip);
  check_launch("finish");
}

}  // namespace jessl::cuda
