// Small batches whose columns have no sums: a block sums a row, joins it and writes its U, while t of the row is near.
#include "cuda/join.cuh"
#include "cuda/strip_rows.cuh"

namespace jessl::cuda {
namespace {

__global__ void row_losses_kernel(const Sweep sweep, const Pairs pairs, const Strip strip, const LossWords words,
                                  const JoinSide side, const Sides sides, const ScoreGrads to) {
  const std::int64_t row = blockIdx.x;
  for (int k = 0; k < sweep.tilts.count; ++k) {
    const Sum sum = sum_of_row(sweep, strip, row, k, false);
    if (threadIdx.x == 0) write(side.negatives, row, k, sum);
    __syncthreads();  // the next sum takes the place of this one
  }
  if (threadIdx.x == 0) side.losses[row] = join_one(sweep, pairs, strip.t, words, side, row, 0);
  __syncthreads();  // all threads read the weights
  grads_of_row(sweep, strip, sides, nullptr, to, row);
}

}  // namespace

void row_losses(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, const LossWords& words,
                const JoinSide& side, const Sides& sides, const ScoreGrads& to) {
  use(sweep);
  JESSL_LAUNCH(row_losses_kernel, blocks(pairs.N), threads_along(pairs.M), stream_of(sweep), sweep, pairs,
               pairs.strip(room.t), words, side, sides, to);
  check_launch("row_losses");
}

}  // namespace jessl::cuda
