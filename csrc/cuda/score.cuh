// Functions of one pair, which all kernels use: its score, its weight, and the slope of its score.
#pragma once

#include "cuda/runtime.cuh"
#include "cuda/strip.h"
#include "pairwise/score.h"

namespace jessl::cuda {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// A pair's row and column. The row counts from the strip's beginning in t and in the weights, and from the first of all
// in biases and ids.
struct Place {
  std::int64_t row, i, j;
};
__device__ inline Place place(const Strip& strip, std::int64_t row, std::int64_t j) {
  return {row, strip.first_row + row, j};
}

__device__ inline bool among(const Offsets& offsets, std::int64_t offset) {
  for (int k = 0; k < offsets.count; ++k)
    if (offsets.values[k] == offset) return true;
  return false;
}

__device__ inline bool agree(const IdPair& pair, const Place& at) {
  const std::int64_t id = pair.row[at.i];
  return id >= 0 && id == pair.col[at.j];
}

// The column of a row's single positive; negative for none.
__device__ inline std::int64_t partner(const Partners& of, std::int64_t i) {
  if (of.index) return of.index[i];
  const std::int64_t j = i + of.shift;
  return j < of.M ? j : j - of.M;
}

__device__ inline bool excluded(const Scores& scores, const Place& at) {
  const std::int64_t offset = at.j - at.i;
  bool out = among(scores.diagonals, offset);
  for (int k = 0; k < scores.same.count && !out; ++k) out = agree(scores.same.pairs[k], at);
  for (int k = 0; k < scores.different.count && !out; ++k) out = !agree(scores.different.pairs[k], at);
  if (out && among(scores.keep, offset)) out = false;
  if (scores.without.row && agree(scores.without, at)) out = true;
  if (scores.within.row && !agree(scores.within, at)) out = true;
  if (scores.single.M > 0 && partner(scores.single, at.i) == at.j) out = true;
  return out;
}

// A sweep's weights come from the very scores that the sweep before has summed: here no compiler may fuse a product
// with a sum in one kernel and not in the other.
__device__ inline float scale_of(const Scores& scores) { return scores.scale ? *scores.scale : scores.scale_number; }
__device__ inline float argument_of_phi(const Scores& scores, float t) { return __fmul_rn(t, scale_of(scores)); }
__device__ inline float tilted(float tilt, float s) { return __fmul_rn(tilt, s); }

// The score of a pair, excluded or not.
__device__ inline float score_of_any(const Scores& scores, float t, const Place& at) {
  float s = phi_value(scores.phi, argument_of_phi(scores, t));
  if (scores.row_bias) s += scores.row_bias[at.i];
  if (scores.col_bias) s += scores.col_bias[at.j];
  return s;
}
__device__ inline float score(const Scores& scores, float t, const Place& at) {
  return excluded(scores, at) ? minus_infinity : score_of_any(scores, t, at);
}

// ψ of an excluded pair is 0 whatever the sign of τ.
__device__ inline float psi_of_pair(Op op, float tilt, float s) {
  return s == minus_infinity ? 0.0f : psi_value(op, tilted(tilt, s));
}
__device__ inline float psi_slope_of_pair(Op op, float tilt, float s) {
  return s == minus_infinity ? 0.0f : psi_slope(op, tilted(tilt, s));
}

// One side's part of P for the tilt k, of its row or column n.
__device__ inline float weight_of_side(const Side& side, const Tilts& tilts, int k, std::int64_t n, float s) {
  const std::int64_t place = k * side.stride + n;
  if (tilts.op != Op::logsumexp) return side.factor[place] * psi_slope_of_pair(tilts.op, tilts.values[k], s);
  const float e = expf(tilted(tilts.values[k], s) - side.reference[place]);
  const float weight = e * side.factor[place];
  if (k > 0 || !side.spread || s == minus_infinity) return weight;
  // The two parts of a spread nearly cancel.
  return weight + (e * side.spread[n] - side.mean[n]);
}

// P of a pair.
__device__ inline float weight(const Sweep& sweep, const Strip& strip, const Sides& sides, float s, const Place& at) {
  float p = 0;
  for (int k = 0; k < sweep.tilts.count; ++k) {
    if (sides.row.factor) p += weight_of_side(sides.row, sweep.tilts, k, at.row, s);
    if (sides.col.factor) p += weight_of_side(sides.col, sweep.tilts, k, at.j, s);
  }
  if (sides.single && partner(sweep.scores.single, at.i) == at.j) p += sides.single[at.i];
  return sides.shares ? p * sides.shares[at.row * strip.ld + at.j] : p;
}

}  // namespace jessl::cuda
