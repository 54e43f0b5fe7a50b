// Gradients in few dimensions: α Σ_j U_ij y_j, or 2α Σ_j U_ij (y_j − x_i), and those of columns; sums of P and of U t.
#include "cuda/few.cuh"
#include "cuda/reduce.cuh"

namespace jessl::cuda {
namespace {

// Which pairs an owner n has with another m: (n, m), as a row; (m, n), as a column; or both, where Y is X.
struct Roles {
  bool row, column;
};

// The gradients of owners: those of the points `first` … `end` − 1 among them, and of biases; null for none.
struct OwnerGrads {
  float* points;
  std::int64_t first, end;
  float *row_bias, *col_bias;
  bool fresh;
};

// What a thread has summed, beside its point's gradient.
struct OfBiases {
  float row, col;
};

__device__ void put(float* to, bool fresh, float value) { *to = fresh ? value : *to + value; }

// Number c of an owner's gradients: its dimensions, and then its two biases.
__device__ void put(const OwnerGrads& to, std::int64_t n, std::int64_t dimensions, std::int64_t c, float value) {
  if (c < dimensions) {
    if (to.points && n >= to.first && n < to.end) put(to.points + (n - to.first) * dimensions + c, to.fresh, value);
  } else if (float* const bias = c == dimensions ? to.row_bias : to.col_bias) {
    put(bias + n, to.fresh, value);
  }
}

template <int D>
__global__ void few_grads_kernel(const Sweep sweep, const Ownership of, const bool distances, const Sides sides,
                                 const Roles roles, const std::int64_t each, const OwnerGrads to, float* parts,
                                 double* scale) {
  JESSL_SHARED(float4, room, few_tile * D / 4);
  JESSL_SHARED(double, scale_of_warps, few_threads / warp_size);
  float* const tile = reinterpret_cast<float*>(room);
  const std::int64_t n = of.first + std::int64_t(blockIdx.x) * few_threads + threadIdx.x;
  const std::int64_t begin = blockIdx.y * each, end = std::min(begin + each, of.others);
  const bool inside = n < of.end;
  const Strip all{};  // no strip: rows count from the first of all
  float own[D] = {}, pulled[D] = {};
  OfBiases of_biases{};
  double of_scale = 0;  // its terms cancel
  if (inside) load_point(of.own, n, own);
  for (std::int64_t start = begin; start < end; start += few_tile) {
    const int count = int(std::min<std::int64_t>(few_tile, end - start));
    load_tile<D>(of.other, start, count, tile);
    __syncthreads();
    float here[D] = {};
    OfBiases biases_here{};
    for (int k = 0; inside && k < count; ++k) {
      const float* const other = tile + k * D;
      const std::int64_t m = start + k;
      const float t = pair_t(own, other, distances);
      float as_row = 0, as_column = 0;
      if (roles.row) {
        const Place at{n, n, m};
        as_row = weight(sweep, all, sides, score(sweep.scores, t, at), at);
      }
      if (roles.column) {
        const Place at{m, m, n};
        as_column = weight(sweep, all, sides, score(sweep.scores, t, at), at);
      }
      biases_here.row += as_row;
      biases_here.col += as_column;
      float slope = 1;
      if (sweep.scores.phi.name != PhiName::identity)
        slope = phi_slope(sweep.scores.phi, argument_of_phi(sweep.scores, t));
      if (scale) of_scale += double(as_row * slope) * double(t);
      const float u = (as_row + as_column) * slope;
      if (u == 0) continue;  // a pair that does not count, however far it is
      JESSL_UNROLL(32)
      for (int d = 0; d < D; ++d) here[d] = __fmaf_rn(u, distances ? other[d] - own[d] : other[d], here[d]);
    }
    JESSL_UNROLL(32)
    for (int d = 0; d < D; ++d) pulled[d] += here[d];
    of_biases.row += biases_here.row;
    of_biases.col += biases_here.col;
    __syncthreads();  // the next tile takes the place of this one
  }
  if (scale) {
    const double sum = over_block(of_scale, scale_of_warps);
    if (threadIdx.x == 0) scale[blockIdx.y * gridDim.x + blockIdx.x] = sum;
  }
  if (!inside) return;
  const float factor = (distances ? 2 : 1) * scale_of(sweep.scores);
  const std::int64_t dimensions = of.own.dimensions, numbers = dimensions + 2;
  const std::int64_t place = (blockIdx.y * (of.end - of.first) + n - of.first) * numbers;
  JESSL_UNROLL(32)
  for (int c = 0; c < D + 2; ++c) {
    if (c >= numbers) continue;
    float value = c < D ? pulled[c < D ? c : 0] * factor : 0.0f;
    if (c == dimensions) value = of_biases.row;
    if (c == dimensions + 1) value = of_biases.col;
    if (parts)
      parts[place + c] = value;
    else
      put(to, n, dimensions, c, value);
  }
}

// A thread adds the parts of one number, in their order.
__global__ void merge_grads_kernel(const float* parts, const std::int64_t count, const Ownership of,
                                   const OwnerGrads to) {
  const std::int64_t dimensions = of.own.dimensions, numbers = dimensions + 2;
  const std::int64_t of_part = (of.end - of.first) * numbers;
  const std::int64_t k = std::int64_t(blockIdx.x) * few_threads + threadIdx.x;
  if (k >= of_part) return;
  float sum = 0;
  for (std::int64_t part = 0; part < count; ++part) sum += parts[part * of_part + k];
  put(to, of.first + k / numbers, dimensions, k % numbers, sum);
}

void sweep_owners(const Sweep& sweep, const Pairs& pairs, const Ownership& of, const Sides& sides, Roles roles,
                  const PairsRoom& room, const OwnerGrads& to, Number scale, bool fresh) {
  const Split parts = split(of.end - of.first, of.others);
  float* const merged_later = parts.count > 1 ? static_cast<float*>(room.parts) : nullptr;
  const unsigned along = blocks(of.end - of.first, few_threads);
  with_room_for(pairs.x.dimensions, [&](auto D) {
    JESSL_LAUNCH(few_grads_kernel<D()>, dim3(along, unsigned(parts.count)), few_threads, stream_of(sweep), sweep, of,
                 pairs.distances, sides, roles, parts.each, to, merged_later, scale.at ? room.scale : nullptr);
  });
  check_launch("few_grads");
  if (merged_later) {
    const std::int64_t numbers = (of.end - of.first) * (of.own.dimensions + 2);
    JESSL_LAUNCH(merge_grads_kernel, blocks(numbers, few_threads), few_threads, stream_of(sweep), merged_later,
                 parts.count, of, to);
    check_launch("merge_grads");
  }
  if (scale.at) add_up(sweep, {room.scale, std::int64_t(along) * parts.count, scale}, fresh);
}

}  // namespace

std::int64_t few_part_bytes(const Pairs& pairs, int tilts) {
  const std::int64_t each = std::max(tilts * std::int64_t(sizeof(Sum)), (pairs.x.dimensions + 2) * 4);
  return each * std::max(most_parts(pairs.N, pairs.M), most_parts(pairs.M, pairs.N));
}

std::int64_t few_scale_parts(const Pairs& pairs) {
  return split(pairs.N, pairs.M).count * blocks(pairs.N, few_threads);
}

void few_grads(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, const Sides& sides, const PairGrads& to) {
  use(sweep);
  const bool both = pairs.of_itself && to.x, of_y = to.y && to.end > to.first;
  if (to.x || to.row_bias || to.scale.at || (both && to.col_bias)) {
    const OwnerGrads of_rows{to.x, 0, pairs.N, to.row_bias, both ? to.col_bias : nullptr, to.fresh};
    sweep_owners(sweep, pairs, owned_by(pairs, false), sides, {true, both}, room, of_rows, to.scale, to.fresh);
  }
  if (!of_y && (both || !to.col_bias)) return;
  Ownership columns = owned_by(pairs, true);
  if (!to.col_bias) columns.first = to.first, columns.end = to.end;
  const OwnerGrads of_columns{of_y ? to.y : nullptr, to.first, to.end, nullptr, to.col_bias, to.fresh};
  sweep_owners(sweep, pairs, columns, sides, {false, true}, room, of_columns, {}, to.fresh);
}

}  // namespace jessl::cuda
