// Sweeps over all pairs: the choice between few dimensions and small batches.
#include "cuda/totals.cuh"

namespace jessl::cuda {
namespace {

__global__ void add_up_kernel(const Total total, const bool fresh) { add_up(total, fresh); }

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

void pair_sums(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, SumsOf row, SumsOf col,
               SumParts* unmerged) {
  row.fresh = col.fresh = true;
  if (!pairs.few) return absorb(sweep, pairs.strip(room.t), row, col);
  few_sums(sweep, pairs, room, false, row, unmerged);
  if (col.total) few_sums(sweep, pairs, room, true, col);
}

void pair_grads(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, const Sides& sides,
                const PairGrads& to) {
  if (pairs.few) return few_grads(sweep, pairs, room, sides, to);
  score_grad(sweep, pairs.strip(room.t), sides, nullptr, small_targets(room, to));
  small_pull(sweep, pairs, room, to, {});
}

void add_up(const Sweep& sweep, const Total& total, bool fresh) {
  use(sweep);
  JESSL_LAUNCH(add_up_kernel, 1, most_threads, stream_of(sweep), total, fresh);
  check_launch("add_up");
}

}  // namespace jessl::cuda
