// Tiles that cannot matter. With ε = Problem::skip_below and T tiles along a row, a tile falls if to every row of its
// strip
//
//   Σ_{j in tile} e^{s_ij} ≤ ε/T · (a lower bound of row i's whole sum)
//
// and, where columns are reduced too, to every column of the tile likewise. So no sum loses more than ε of itself.
//
//   before its work   φ and biases are monotone, and bounding volumes tell what its scores can be. Lower bounds of sums
//                     are those of the nearest tiles, computed first (1/T of the work); or the log-sum-exps themselves,
//                     where these are given
//   after its scores  what they were found to add up to: then only its products, and its scores in a later pass, are
//                     spared
//
// Which tiles fall depends on the problem and the cut into strips alone, never on threads: each has one entry in a
// table of bytes, written by the task that computes it.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/options.h"
#include "cpu/skip/bounding.h"
#include "cpu/tile/sums.h"
#include "cpu/tile/workspace.h"

namespace jessl {

template <class Real>
class Skipping {
 public:
  // For strips and tiles of `rows`. Off, and nothing falls, unless ε > 0 and a plain log-sum-exp is all that is summed.
  Skipping(const Problem& p, const Terms&, std::int64_t rows, bool columns);

  bool on() const { return on_; }
  // Tell by bounds which tiles fall: with lower bounds found in the nearest tiles,
  void look_ahead(const Options&);
  // or with sums at hand; null for columns that have none.
  void know(const OnlineLse& rows, const OnlineLse* columns, const Options&);

  // Not to be scored at all; not to have a gradient, nor to be scored for that.
  bool falls(std::int64_t first_row, std::int64_t first_column) const {
    return on_ && fate(first_row, first_column) == absent;
  }
  bool weightless(std::int64_t first_row, std::int64_t first_column) const {
    return on_ && fate(first_row, first_column) != present;
  }
  // A workspace's tile was absorbed into its powers and totals: weightless from now on, if these say so.
  void record(const Workspace<Real>&, double log_base);

 private:
  enum Fate : std::uint8_t { present, light, absent };
  Fate fate(std::int64_t first_row, std::int64_t first_column) const {
    return fates_[first_row / rows_ * tiles_ + first_column / rows_];
  }
  // The bounding volumes of one side's tiles, and of their parts; none of Y where y is x.
  struct Volumes {
    BoundingVolumes tiles, parts;
  };
  std::optional<Volumes> volumes(bool of_y) const;
  void bound(const Volumes& x, const Volumes& y, const Options&);
  bool light_by_bounds(const Volumes& x, std::int64_t strip, const Volumes& y, std::int64_t tile) const;

  // One side's floors: lower bounds of the log-sum-exps, +inf where nothing can be lost; and of each tile, and of each
  // of its parts, the least of floor − bias.
  struct Side {
    const Real* bias;
    double share;  // log(ε/T)
    std::vector<double> floor = {}, least = {}, least_of_parts = {};
    std::vector<double> least_of(std::int64_t group) const;
    double room(std::int64_t i) const { return bias && !std::isinf(floor[i]) ? floor[i] - double(bias[i]) : floor[i]; }
  };
  const Side& of_columns() const { return p_.symmetric ? row_ : col_; }

  const Problem& p_;
  const std::int64_t rows_, strips_, tiles_;
  const bool on_, columns_;
  Side row_, col_;
  std::vector<Fate> fates_;  // (strips, tiles)
};

// An order of points in which neighbours in space mostly stand together, so that tiles are compact: their numbers,
// (rows,), the same for the same points, in O(N·D·log N). Points
// are halved again and again across the line between two that are far apart; of some thousand points tile after tile is
// gathered around one of them; and within a tile parts are halves again. On the calling thread, which asks now and then
// whether to stop.
void spatial_sort(const Batch&, std::int64_t* permutation, const Interrupted& interrupted = {});

}  // namespace jessl
