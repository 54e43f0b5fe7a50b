// Tiles that cannot matter are skipped (docs/skipping.md). With ε = Problem::skip_below and T tiles along a row, a tile
// falls (is skipped) if for every row of its strip
//
//   Σ_{j in tile} e^{s_ij} ≤ ε/T · (a lower bound of row i's whole sum)
//
// and, if columns are reduced too, likewise for every column of the tile. So no sum loses more than ε of itself.
//
//   before any work   Bounding volumes bound the tile's scores, because φ and biases are monotone. Lower bounds of sums
//                     come from the nearest tiles, computed first (1/T of the work), or are the log-sum-exps
//                     themselves, if these are given.
//   a compact φ       Tiles without a pair inside the support fall, also for ε = 0: their sums are 0.
//   after its scores  Its actual sums are known. Then only its products, and its scores in a later pass, are saved.
//
// Which tiles fall depends on the problem and the cut into strips, never on threads: each tile has one entry in a table
// of bytes, written by the task that computes it.
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
  // For strips and tiles of `rows`. Skipping is off unless ε > 0 or φ is compact, and only a plain log-sum-exp is
  // summed.
  Skipping(const Problem& p, const Terms&, std::int64_t rows, bool columns);

  bool on() const { return on_; }
  // Finds by bounds which tiles fall, with lower bounds from the nearest tiles.
  void look_ahead(const Options&);
  // The same with known sums; null if columns have none.
  void know(const OnlineLse& rows, const OnlineLse* columns, const Options&);

  // A tile that falls is never scored. A weightless tile has no gradient, and is not scored for one.
  bool falls(std::int64_t first_row, std::int64_t first_column) const {
    return on_ && fate(first_row, first_column) == absent;
  }
  bool weightless(std::int64_t first_row, std::int64_t first_column) const {
    return on_ && fate(first_row, first_column) != present;
  }
  // Called when a workspace's tile was absorbed into its powers and totals: marks it weightless if these are small.
  void record(const Workspace<Real>&, double log_base);

 private:
  enum Fate : std::uint8_t { present, light, absent };
  Fate fate(std::int64_t first_row, std::int64_t first_column) const {
    return fates_[first_row / rows_ * tiles_ + first_column / rows_];
  }
  // The bounding volumes of one side's tiles and of their parts; Y has none if y is x.
  struct Volumes {
    BoundingVolumes tiles, parts;
  };
  std::optional<Volumes> volumes(bool of_y) const;
  void bound(const Volumes& x, const Volumes& y, const Options&);
  void bound_exactly(const Volumes& x, const Volumes& y, const Options&);
  bool light_by_bounds(const Volumes& x, std::int64_t strip, const Volumes& y, std::int64_t tile) const;

  // One side's floors: lower bounds of the log-sum-exps, +inf where nothing can be lost. And the least floor − bias of
  // each tile and of each of its parts.
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

// Writes an order of points in which neighbours in space mostly stand together, so that tiles are compact: their
// numbers, (rows,), the same for the same points, in O(N·D·log N). Points are halved again and again across the line
// between two distant points; some thousand points are gathered tile after tile around one of them; and a tile is
// halved into its parts. With `boxes` they are halved across the longest side of their box instead, down to the parts:
// boxes, not balls, then hold few of the points of others. It runs on the calling thread, which checks now and then
// whether to stop.
void spatial_sort(const Batch&, std::int64_t* permutation, const Interrupted& interrupted = {}, bool boxes = false);

}  // namespace jessl
