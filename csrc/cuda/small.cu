// Small batches: t of all pairs, and the products of U with the points. The sums and U between them are those of a
// strip with all rows.
//
// A block of 256 threads makes a square tile of the result, each thread a square of `micro` by `micro` numbers in it,
// 16 apart. What it multiplies goes through shared memory, `depth` terms at a time.
#include "cuda/pairs.h"
#include "cuda/points.cuh"
#include "cuda/totals.cuh"

namespace jessl::cuda {
namespace {

inline constexpr int across = 16, depth = 32;
static_assert(across * across == most_threads);

// A tile of `depth` by `side` numbers; rows one longer, so that they begin in different banks.
template <int micro>
struct Tile {
  static constexpr int side = across * micro, stride = side + 1, numbers = depth * stride;
};

// Whether tiles of 64 by 64 are enough blocks; those of 32 by 32 otherwise. By sizes alone: the same bits everywhere.
bool wide_tiles(std::int64_t rows, std::int64_t columns) { return (rows + 63) / 64 * ((columns + 63) / 64) >= 64; }

template <int micro, bool distances>
__global__ void products_kernel(const Points x, const Points y, const std::int64_t N, const std::int64_t M, float* t,
                                const std::int64_t ld) {
  using T = Tile<micro>;
  JESSL_SHARED(float, of_x, T::numbers);
  JESSL_SHARED(float, of_y, T::numbers);
  const std::int64_t first_i = std::int64_t(blockIdx.y) * T::side, first_j = std::int64_t(blockIdx.x) * T::side;
  const int row = int(threadIdx.x) / across, column = int(threadIdx.x) % across;
  float sums[micro][micro] = {};
  for (std::int64_t first = 0; first < x.dimensions; first += depth) {
    for (int k = int(threadIdx.x); k < T::side * depth; k += most_threads) {
      const int n = k / depth, d = k % depth;
      const bool inside = first + d < x.dimensions;
      of_x[d * T::stride + n] = inside && first_i + n < N ? coordinate(x, first_i + n, first + d) : 0.0f;
      of_y[d * T::stride + n] = inside && first_j + n < M ? coordinate(y, first_j + n, first + d) : 0.0f;
    }
    __syncthreads();
    for (int d = 0; d < depth; ++d) {
      float a[micro], b[micro];
      for (int k = 0; k < micro; ++k) {
        a[k] = of_x[d * T::stride + row + across * k];
        b[k] = of_y[d * T::stride + column + across * k];
      }
      for (int r = 0; r < micro; ++r)
        for (int c = 0; c < micro; ++c) {
          const float apart = a[r] - b[c];
          sums[r][c] = distances ? __fmaf_rn(-apart, apart, sums[r][c]) : __fmaf_rn(a[r], b[c], sums[r][c]);
        }
    }
    __syncthreads();  // the next terms take the place of these
  }
  for (int r = 0; r < micro; ++r)
    for (int c = 0; c < micro; ++c) {
      const std::int64_t i = first_i + row + across * r, j = first_j + column + across * c;
      if (i < N && j < M) t[i * ld + j] = sums[r][c];
    }
}

// U, whose rows and columns are owners: a row owns U_n·, a column U_·n, and where Y is X an owner has both.
struct OwnedU {
  const float* u;
  std::int64_t ld;
  bool row, column;
};
__device__ float pull_of(const OwnedU& of, std::int64_t n, std::int64_t m) {
  return (of.row ? of.u[n * of.ld + m] : 0.0f) + (of.column ? of.u[m * of.ld + n] : 0.0f);
}

// The gradients of owners first … end − 1: Σ_m U_nm y_m, or 2 Σ_m U_nm (y_m − x_n). U holds α already.
struct PullOf {
  OwnedU u;
  Points own, other;
  std::int64_t first, end, others;
  float* target;
};

// The products of one launch, X's and Y's, and the numbers that it adds up.
struct Pulls {
  PullOf of[2];
  Total totals[2];
  int count, total_count;
  bool fresh;
};

template <int micro, bool distances>
__global__ void pull_kernel(const Pulls all) {
  if (int(blockIdx.z) == all.count) {
    for (int k = 0; k < all.total_count && blockIdx.x == 0 && blockIdx.y == 0; ++k) add_up(all.totals[k], all.fresh);
    return;
  }
  const PullOf& pull = all.of[blockIdx.z];
  const OwnedU& of = pull.u;
  const Points &own = pull.own, &other = pull.other;
  const std::int64_t first = pull.first, end = pull.end, others = pull.others;
  using T = Tile<micro>;
  JESSL_SHARED(float, of_u, T::numbers);
  JESSL_SHARED(float, of_other, T::numbers);
  const std::int64_t first_n = first + std::int64_t(blockIdx.y) * T::side, D = own.dimensions;
  const std::int64_t first_d = std::int64_t(blockIdx.x) * T::side;
  if (first_n >= end) return;  // the other product has more rows
  const int row = int(threadIdx.x) / across, column = int(threadIdx.x) % across;
  float sums[micro][micro] = {}, here[micro][micro] = {};
  if (distances)
    for (int r = 0; r < micro; ++r)
      for (int c = 0; c < micro; ++c) {
        const std::int64_t n = first_n + row + across * r, d = first_d + column + across * c;
        if (n < end && d < D) here[r][c] = coordinate(own, n, d);
      }
  for (std::int64_t start = 0; start < others; start += depth) {
    for (int k = int(threadIdx.x); k < T::side * depth; k += most_threads) {
      // Neighbouring threads read neighbouring numbers of U's rows.
      const int n = of.row ? k / depth : k % T::side, m = of.row ? k % depth : k / T::side;
      const bool is_pair = first_n + n < end && start + m < others;
      of_u[m * T::stride + n] = is_pair ? pull_of(of, first_n + n, start + m) : 0.0f;
      const int d = k % T::side, place = k / T::side;
      const bool is_number = start + place < others && first_d + d < D;
      of_other[place * T::stride + d] = is_number ? coordinate(other, start + place, first_d + d) : 0.0f;
    }
    __syncthreads();
    for (int m = 0; m < depth; ++m) {
      float a[micro], b[micro];
      for (int k = 0; k < micro; ++k) {
        a[k] = of_u[m * T::stride + row + across * k];
        b[k] = of_other[m * T::stride + column + across * k];
      }
      for (int r = 0; r < micro; ++r)
        for (int c = 0; c < micro; ++c) sums[r][c] = __fmaf_rn(a[r], distances ? b[c] - here[r][c] : b[c], sums[r][c]);
    }
    __syncthreads();  // the next pairs take the place of these
  }
  for (int r = 0; r < micro; ++r)
    for (int c = 0; c < micro; ++c) {
      const std::int64_t n = first_n + row + across * r, d = first_d + column + across * c;
      if (n >= end || d >= D) continue;
      float* const to = pull.target + (n - first) * D + d;
      const float value = distances ? 2 * sums[r][c] : sums[r][c];
      *to = all.fresh ? value : *to + value;
    }
}

// Calls f(std::bool_constant of `distances`, std::integral_constant of micro).
template <class F>
void with_tiles(bool distances, bool wide, F&& f) {
  const auto of_kind = [&](auto kind) {
    if (wide) return f(kind, std::integral_constant<int, 4>());
    f(kind, std::integral_constant<int, 2>());
  };
  if (distances) return of_kind(std::true_type());
  of_kind(std::false_type());
}

dim3 grid(std::int64_t rows, std::int64_t columns, bool wide) {
  const std::int64_t side = wide ? 64 : 32;
  return dim3(blocks(columns, side), blocks(rows, side));
}

}  // namespace

void small_products(const Sweep& sweep, const Pairs& pairs, float* t) {
  use(sweep);
  const bool wide = wide_tiles(pairs.N, pairs.M);
  with_tiles(pairs.distances, wide, [&](auto kind, auto micro) {
    const auto kernel = products_kernel<micro(), kind()>;
    JESSL_LAUNCH(kernel, grid(pairs.N, pairs.M, wide), most_threads, stream_of(sweep), pairs.x, pairs.y, pairs.N,
                 pairs.M, t, pairs.ld());
  });
  check_launch("products");
}

ScoreGrads small_targets(const PairsRoom& room, const PairGrads& to) {
  const bool points = to.x || (to.y && to.end > to.first);
  return {.u = points ? room.u : nullptr,
          .element = Element::f32,
          .u_row = nullptr,
          .u_col = nullptr,
          .row_bias = to.row_bias,
          .col_bias = to.col_bias,
          .scale = to.scale.at ? room.scale : nullptr,
          .fresh = to.fresh};
}

void small_pull(const Sweep& sweep, const Pairs& pairs, const PairsRoom& room, const PairGrads& to,
                const Total& further) {
  use(sweep);
  const bool both = pairs.of_itself && to.x;
  Pulls all{};
  all.fresh = to.fresh;
  if (to.x) all.of[all.count++] = {{room.u, pairs.ld(), true, both}, pairs.x, pairs.y, 0, pairs.N, pairs.M, to.x};
  if (to.y && to.end > to.first)
    all.of[all.count++] = {{room.u, pairs.ld(), false, true}, pairs.y, pairs.x, to.first, to.end, pairs.N, to.y};
  if (to.scale.at) all.totals[all.total_count++] = {room.scale, pairs.N, to.scale};
  if (further.parts) all.totals[all.total_count++] = further;
  std::int64_t most = 0;
  for (int k = 0; k < all.count; ++k) most = std::max(most, all.of[k].end - all.of[k].first);
  if (most == 0) {
    for (int k = 0; k < all.total_count; ++k) add_up(sweep, all.totals[k], to.fresh);
    return;
  }
  const bool wide = wide_tiles(most, pairs.x.dimensions);
  dim3 launched = grid(most, pairs.x.dimensions, wide);
  launched.z = unsigned(all.count + (all.total_count > 0 ? 1 : 0));
  with_tiles(pairs.distances, wide, [&](auto kind, auto micro) {
    const auto kernel = pull_kernel<micro(), kind()>;
    JESSL_LAUNCH(kernel, launched, most_threads, stream_of(sweep), all);
  });
  check_launch("pull");
}

}  // namespace jessl::cuda
