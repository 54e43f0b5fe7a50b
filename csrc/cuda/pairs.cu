// Sweeps over all pairs: the choice between few dimensions and small batches.
#include "cuda/pairs.h"
#include "cuda/reduce.cuh"

namespace jessl::cuda {
namespace {

__global__ void add_up_kernel(const double* parts, const std::int64_t count, const Number to, const bool fresh) {
  JESSL_SHARED(double, of_warps, most_threads / warp_size);
  double sum = 0;
  for (std::int64_t k = threadIdx.x; k < count; k += most_threads) sum += parts[k];
  sum = over_block(sum, of_warps);
  if (threadIdx.x > 0) return;
  if (to.wide) {
    double* const at = static_cast<double*>(to.at);
    *at = fresh ? sum : *at + sum;
  } else {
    float* const at = static_cast<float*>(to.at);
    *at = float(fresh ? sum : double(*at) + sum);
  }
}

}  // namespace

PairsRoom room_for(const Pairs& pairs, int tilts, Room& room) {
  const std::int64_t elements = pairs.few ? 0 : pairs.N * pairs.ld();
  return {.t = room.take<float>(elements),
          .u = room.take<float>(elements),
          .parts = room.take<std::byte>(pairs.few ? few_part_bytes(pairs, tilts) : 0),
          .scale = room.take<double>(pairs.few ? few_scale_parts(pairs) : pairs.N)};
}

void settle_pairs(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room) {
  if (!pairs.few) small_products(sweep, pairs, room.t);
}

void pair_sums(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, SumsOf row, SumsOf col) {
  row.fresh = col.fresh = true;
  if (!pairs.few) return absorb(sweep, pairs.strip(room.t), row, col);
  few_sums(sweep, pairs, room, false, row);
  if (col.total) few_sums(sweep, pairs, room, true, col);
}

void pair_grads(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, const Sides& sides,
                const PairGrads& to) {
  (pairs.few ? few_grads : small_grads)(sweep, pairs, room, sides, to);
}

void add_up(const Sweep& sweep, const double* parts, std::int64_t count, Number to, bool fresh) {
  use(sweep);
  JESSL_LAUNCH(add_up_kernel, 1, most_threads, stream_of(sweep), parts, count, to, fresh);
  check_launch("add_up");
}

}  // namespace jessl::cuda
