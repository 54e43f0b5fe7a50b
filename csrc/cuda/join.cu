// The joins of all rows and columns: a thread has one. Few of them take one block, and one launch with the value.
#include "cuda/join.cuh"

namespace jessl::cuda {
namespace {

inline constexpr std::int64_t most_of_block = 4096;  // rows that one block joins faster than three launches begin

__device__ double count_of(const Sweep& sweep, const JoinSide& side) {
  double sum = 0;
  for (std::int64_t n = threadIdx.x; n < side.count; n += most_threads) sum += has_positive(sweep, side, n) ? 1.0 : 0.0;
  return sum;
}

__global__ void count_kernel(const Sweep sweep, const JoinSide side) {
  JESSL_SHARED(double, of_warps, most_threads / warp_size);
  const double sum = over_block(count_of(sweep, side), of_warps);
  if (threadIdx.x == 0) *side.number_counted = sum;
}

__global__ void join_kernel(const Sweep sweep, const Pairs pairs, const float* t, const LossWords words,
                            const JoinSide side, double* losses) {
  JESSL_SHARED(double, of_warps, most_threads / warp_size);
  const std::int64_t n = std::int64_t(blockIdx.x) * most_threads + threadIdx.x;
  const float counted = words.counted ? float(*side.number_counted) : 0.0f;
  double loss = n < side.count ? join_one(sweep, pairs, t, words, side, n, counted) : 0.0;
  loss = over_block(loss, of_warps);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// One block: the rows, then the columns, and the value.
__global__ void join_all_kernel(const Sweep sweep, const Pairs pairs, const float* t, const LossWords words,
                                const JoinSides sides, const Number value) {
  JESSL_SHARED(double, of_warps, most_threads / warp_size);
  JESSL_SHARED(float, counted, 1);
  double loss = 0;
  for (int k = 0; k < sides.count; ++k) {
    const JoinSide& side = sides.of[k];
    if (words.counted) {
      const double sum = over_block(count_of(sweep, side), of_warps);
      if (threadIdx.x == 0) *counted = float(sum);
      __syncthreads();
    }
    for (std::int64_t n = threadIdx.x; n < side.count; n += most_threads)
      loss += join_one(sweep, pairs, t, words, side, n, words.counted ? *counted : 0.0f);
    __syncthreads();  // columns read what rows have written
  }
  loss = over_block(loss, of_warps);
  if (threadIdx.x == 0) store(value, loss, true);
}

}  // namespace

void join(const Sweep& sweep, const Pairs& pairs, const float* t, const LossWords& words, const JoinSides& sides,
          Number value) {
  use(sweep);
  if (std::max(sides.of[0].count, sides.of[1].count) <= most_of_block) {
    JESSL_LAUNCH(join_all_kernel, 1, most_threads, stream_of(sweep), sweep, pairs, t, words, sides, value);
    return check_launch("join_all");
  }
  std::int64_t parts = 0;
  for (int k = 0; k < sides.count; ++k) {
    const JoinSide& side = sides.of[k];
    if (words.counted) {
      JESSL_LAUNCH(count_kernel, 1, most_threads, stream_of(sweep), sweep, side);
      check_launch("count");
    }
    JESSL_LAUNCH(join_kernel, blocks(side.count, most_threads), most_threads, stream_of(sweep), sweep, pairs, t, words,
                 side, sides.of[0].losses + parts);
    check_launch("join");
    parts += blocks(side.count, most_threads);
  }
  add_up(sweep, {sides.of[0].losses, parts, value}, true);
}

}  // namespace jessl::cuda
