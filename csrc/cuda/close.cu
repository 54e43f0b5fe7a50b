// Gradients through the close pairs of distances, by differences: 2α Σ_j U_ij (y_j − x_i), and the same of columns. The
// products with U lack these pairs.
//
// A block owns 8 rows, or columns, and walks over all others of the strip, a tile at a time. All its threads make the
// weights of a tile's close pairs; then each warp takes the owner that is its own, and its lanes the dimensions.
#include "cuda/points.cuh"
#include "cuda/score.cuh"

namespace jessl::cuda {
namespace {

inline constexpr int owners = most_threads / warp_size, others = 128, tile_pairs = owners * others;
inline constexpr int dims_of_lane = 4, dims_of_block = dims_of_lane * warp_size;

// U of a close pair, times 2α.
__device__ float close_weight(const Sweep& sweep, const Strip& strip, const Sides& sides, float close_above,
                              const Place& at) {
  const float t = strip.t[at.row * strip.ld + at.j];
  if (t <= close_above) return 0;
  float u = weight(sweep, strip, sides, score(sweep.scores, t, at), at);
  if (sweep.scores.phi.name != PhiName::identity) u *= phi_slope(sweep.scores.phi, argument_of_phi(sweep.scores, t));
  return u * (2 * scale_of(sweep.scores));
}

template <bool of_columns>
__global__ void close_kernel(const Sweep sweep, const Strip strip, const Sides sides, const float* close_above,
                             const Points x, const Points y, const std::int64_t first, const std::int64_t end,
                             float* target) {
  JESSL_SHARED(float, pulls, tile_pairs);
  const std::int64_t begin = first + std::int64_t(blockIdx.x) * owners, dimensions = x.dimensions;
  const std::int64_t count = of_columns ? strip.rows : strip.columns;
  const std::int64_t begin_d = std::int64_t(blockIdx.y) * dims_of_block;
  // With fewer dimensions than lanes a warp takes several others at a time.
  int across = warp_size;
  while (across / 2 >= dimensions) across /= 2;
  const int lane = int(threadIdx.x) % warp_size, warp = int(threadIdx.x) / warp_size;
  const int group = lane / across, groups = warp_size / across;
  const std::int64_t mine = begin + warp;
  float sums[dims_of_lane] = {};
  for (std::int64_t start = 0; start < count; start += others) {
    bool any = false;
    for (int k = int(threadIdx.x); k < tile_pairs; k += most_threads) {
      // Neighbouring threads read neighbouring columns.
      const int n = of_columns ? k % owners : k / others, m = of_columns ? k / owners : k % others;
      const std::int64_t owner = begin + n, other = start + m;
      float u = 0;
      if (owner < end && other < count) {
        const Place at = of_columns ? place(strip, other, owner) : place(strip, owner, other);
        u = close_weight(sweep, strip, sides, *close_above, at);
      }
      any = any || u != 0;
      pulls[n * others + m] = u;
    }
    if (!__syncthreads_or(any)) continue;
    float here[dims_of_lane] = {};
    for (int m = group; m < others; m += groups) {
      const float u = pulls[warp * others + m];
      if (u == 0) continue;
      const std::int64_t i = strip.first_row + (of_columns ? start + m : mine), j = of_columns ? mine : start + m;
      for (int k = 0; k < dims_of_lane; ++k) {
        const std::int64_t d = begin_d + k * warp_size + lane % across;
        if (d >= dimensions) continue;
        const float apart = coordinate(y, j, d) - coordinate(x, i, d);
        here[k] += u * (of_columns ? -apart : apart);
      }
    }
    for (int k = 0; k < dims_of_lane; ++k) sums[k] += here[k];
    __syncthreads();  // the next tile's weights take the place of these
  }
  for (int lanes = across; lanes < warp_size; lanes *= 2) sums[0] += __shfl_xor_sync(all_lanes, sums[0], lanes);
  if (mine >= end || group > 0) return;
  for (int k = 0; k < dims_of_lane; ++k) {
    const std::int64_t d = begin_d + k * warp_size + lane;
    if (d < dimensions) target[(mine - first) * dimensions + d] += sums[k];
  }
}

dim3 grid(std::int64_t count, std::int64_t dimensions) {
  return dim3(blocks(count, owners), blocks(dimensions, dims_of_block));
}

}  // namespace

void close_rows(const Sweep& sweep, Strip strip, Sides sides, const float* close_above, Points x, Points y,
                float* grad_x) {
  use(sweep);
  JESSL_LAUNCH(close_kernel<false>, grid(strip.rows, x.dimensions), most_threads, stream_of(sweep), sweep, strip, sides,
               close_above, x, y, std::int64_t(0), strip.rows, grad_x);
  check_launch("close_rows");
}

void close_columns(const Sweep& sweep, Strip strip, Sides sides, const float* close_above, Points x, Points y,
                   std::int64_t first, std::int64_t end, float* grad_y) {
  use(sweep);
  JESSL_LAUNCH(close_kernel<true>, grid(end - first, x.dimensions), most_threads, stream_of(sweep), sweep, strip, sides,
               close_above, x, y, first, end, grad_y);
  check_launch("close_columns");
}

}  // namespace jessl::cuda
