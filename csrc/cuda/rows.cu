// The O(N·D) work before and after the sweeps of a loss: a warp takes a row.
//
//   x̂_i = x_i / max(‖x_i‖, 1e−12)        dx_i = (dx̂_i − x̂_i⟨x̂_i, dx̂_i⟩) / ‖x_i‖
//
// jessl_kernels/backends/rows.py is the same in torch.
#include "cuda/points.cuh"
#include "cuda/score.cuh"

namespace jessl::cuda {
namespace {

inline constexpr int rows_of_block = most_threads / warp_size;
inline constexpr float least_norm = 1e-12f;  // that torch.nn.functional.normalize divides by

__device__ std::int64_t row_of_warp() { return std::int64_t(blockIdx.x) * rows_of_block + threadIdx.x / warp_size; }
__device__ int lane() { return int(threadIdx.x) % warp_size; }

// Every lane gets the sum.
__device__ float over_warp(float sum) {
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(all_lanes, sum, lanes);
  return sum;
}

__device__ float divisor(float norm) { return norm < least_norm ? least_norm : norm; }  // a NaN stays

// X and Y, of which a launch may have both: blockIdx.y says which.
template <class T>
struct Both {
  T of[2];
};

// A row of a batch, in the tensor that was given.
struct Given {
  const Points& points;
  std::int64_t row;

  __device__ float operator[](std::int64_t d) const { return coordinate(points, row, d); }
};
__device__ bool has_row(const Pieces& pieces, std::int64_t row) {
  for (int piece = 0; piece < pieces.count; ++piece) row -= pieces.rows[piece];
  return row < 0;
}
__device__ Given given(const Pieces& pieces, std::int64_t row) {
  int piece = 0;
  while (row >= pieces.rows[piece]) row -= pieces.rows[piece++];
  return {pieces.given[piece], row};
}

__global__ void unit_rows_kernel(const Both<GivenRows> both) {
  const GivenRows& batch = both.of[blockIdx.y];
  const std::int64_t row = row_of_warp();
  if (!has_row(batch.pieces, row)) return;
  const Given z = given(batch.pieces, row);
  const std::int64_t D = z.points.dimensions;
  float over = 1;
  if (batch.norms) {
    float squares = 0;
    for (std::int64_t d = lane(); d < D; d += warp_size) squares += z[d] * z[d];
    const float norm = sqrtf(over_warp(squares));
    if (lane() == 0) batch.norms[row] = norm;
    over = divisor(norm);
  }
  for (std::int64_t d = lane(); d < D; d += warp_size) store(batch.rows, z.points.element, row * D + d, z[d] / over);
}

__global__ void pair_scores_kernel(const Sweep sweep, const Points x, const Points y, const Partners partners,
                                   const bool distances, float* t, float* s) {
  const std::int64_t i = row_of_warp();
  if (i >= partners.N) return;
  const std::int64_t found = partner(partners, i), k = found < 0 ? 0 : found;
  float sum = 0;
  for (std::int64_t d = lane(); d < x.dimensions; d += warp_size) {
    const float a = coordinate(x, i, d), b = coordinate(y, k, d);
    sum += distances ? -(b - a) * (b - a) : a * b;
  }
  sum = over_warp(sum);
  if (lane() > 0) return;
  t[i] = sum;
  s[i] = score_of_any(sweep.scores, sum, {i, i, k});
}

// The pull of a row's partners at its dimension d.
__device__ float pulled(const Pull& pull, const Points& rows, std::int64_t row, std::int64_t d) {
  float sum = 0;
  const float own = pull.distances ? coordinate(rows, row, d) : 0.0f;
  if (pull.ahead.data) {
    const std::int64_t k = partner(pull.partners, row);
    if (k >= 0) sum += pull.weights[row] * (coordinate(pull.ahead, k, d) - own);
  }
  if (pull.behind.data) {
    const std::int64_t i = (row + pull.partners.M - pull.partners.shift) % pull.partners.M;
    if (i < pull.partners.N) sum += pull.weights[i] * (coordinate(pull.behind, i, d) - own);
  }
  return sum;
}

__global__ void rows_back_kernel(const Both<RowsBack> both) {
  const RowsBack& batch = both.of[blockIdx.y];
  const std::int64_t row = batch.first + row_of_warp(), D = batch.rows.dimensions;
  if (row >= batch.end) return;
  const Given z = given(batch.of.pieces, row);
  float* const g = batch.gradient + (row - batch.first) * D;
  float along = 0;
  for (std::int64_t d = lane(); d < D; d += warp_size) {
    g[d] += pulled(batch.pull, batch.rows, row, d);
    if (batch.of.norms) along += g[d] * z[d];
  }
  if (!batch.of.norms) return;
  const float norm = batch.of.norms[row], over = divisor(norm);
  along = over_warp(along) / over;
  if (norm <= least_norm) along = 0;
  for (std::int64_t d = lane(); d < D; d += warp_size) g[d] = (g[d] - z[d] / over * along) / over;
}

}  // namespace

void unit_rows(const Sweep& sweep, const GivenRows& x, const GivenRows& y) {
  use(sweep);
  const std::int64_t of_x = x.pieces.all(), of_y = y.pieces.all();
  const Both<GivenRows> both{{x, y}};
  const dim3 grid(blocks(std::max(of_x, of_y), rows_of_block), of_y > 0 ? 2 : 1);
  JESSL_LAUNCH(unit_rows_kernel, grid, most_threads, stream_of(sweep), both);
  check_launch("unit_rows");
}

void pair_scores(const Sweep& sweep, Points x, Points y, Partners partners, bool distances, float* t, float* s) {
  use(sweep);
  JESSL_LAUNCH(pair_scores_kernel, blocks(partners.N, rows_of_block), most_threads, stream_of(sweep), sweep, x, y,
               partners, distances, t, s);
  check_launch("pair_scores");
}

void rows_back(const Sweep& sweep, const RowsBack& x, const RowsBack& y) {
  use(sweep);
  const std::int64_t of_x = x.end - x.first, of_y = y.end - y.first;
  const Both<RowsBack> both{{x, y}};
  const dim3 grid(blocks(std::max(of_x, of_y), rows_of_block), of_y > 0 ? 2 : 1);
  JESSL_LAUNCH(rows_back_kernel, grid, most_threads, stream_of(sweep), both);
  check_launch("rows_back");
}

}  // namespace jessl::cuda
