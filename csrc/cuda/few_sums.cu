// Sums of rows, or of columns, in few dimensions.
#include "cuda/few.cuh"
#include "cuda/sums.cuh"

namespace jessl::cuda {
namespace {

template <int D>
__global__ void few_sums_kernel(const Sweep sweep, const Ownership of, const bool distances, const bool of_columns,
                                const std::int64_t each, const SumsOf to, Sum* parts) {
  constexpr int together = 4;  // pairs, so that the largest score changes less often
  JESSL_SHARED(float4, room, few_tile * D / 4);
  float* const tile = reinterpret_cast<float*>(room);
  const std::int64_t n = std::int64_t(blockIdx.x) * few_threads + threadIdx.x;
  const std::int64_t begin = blockIdx.y * each, end = std::min(begin + each, of.others);
  const int k = int(blockIdx.z);
  const bool inside = n < of.end;
  float own[D] = {};
  if (inside) load_point(of.own, n, own);
  Sum sum = nothing();
  for (std::int64_t start = begin; start < end; start += few_tile) {
    const int count = int(std::min<std::int64_t>(few_tile, end - start));
    load_tile<D>(of.other, start, count, tile);
    __syncthreads();
    Sum here = nothing();
    for (int first = 0; inside && first < count; first += together) {
      float s[together];
      JESSL_UNROLL(4)
      for (int c = 0; c < together; ++c) {
        const std::int64_t m = start + first + c;
        s[c] = minus_infinity;
        if (first + c >= count) continue;
        const float t = pair_t(own, tile + (first + c) * D, distances);
        s[c] = score(sweep.scores, t, of_columns ? Place{m, m, n} : Place{n, n, m});
      }
      add(here, s, sweep.tilts, k, to.linear);
    }
    sum = merged(sum, here);
    __syncthreads();  // the next tile takes the place of this one
  }
  if (!inside) return;
  if (parts)
    parts[(k * gridDim.y + blockIdx.y) * of.end + n] = sum;
  else
    write(to, n, k, sum);
}

__global__ void merge_sums_kernel(const SumParts parts, const SumsOf to) {
  const std::int64_t n = std::int64_t(blockIdx.x) * few_threads + threadIdx.x;
  if (n < parts.owners) merge(parts, to, n, int(blockIdx.y));
}

}  // namespace

void few_sums(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, bool of_columns, SumsOf to,
              SumParts* unmerged) {
  use(sweep);
  const Ownership of = owned_by(pairs, of_columns);
  const Split parts = split(of.end, of.others);
  Sum* const merged_later = parts.count > 1 ? static_cast<Sum*>(room.parts) : nullptr;
  const unsigned tilts = unsigned(sweep.tilts.count);
  with_room_for(pairs.x.dimensions, [&](auto D) {
    JESSL_LAUNCH(few_sums_kernel<D()>, dim3(blocks(of.end, few_threads), unsigned(parts.count), tilts), few_threads,
                 stream_of(sweep), sweep, of, pairs.distances, of_columns, parts.each, to, merged_later);
  });
  check_launch("few_sums");
  const SumParts made{merged_later, parts.count, of.end};
  if (unmerged) *unmerged = made;
  if (!merged_later || unmerged) return;
  JESSL_LAUNCH(merge_sums_kernel, dim3(blocks(of.end, few_threads), tilts), few_threads, stream_of(sweep), made, to);
  check_launch("merge_sums");
}

}  // namespace jessl::cuda
