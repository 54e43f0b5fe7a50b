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
#include "cpu/tile/online_lse.h"
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
  std::optional<BoundingVolumes> volumes_of_y() const;  // none where y is x
  void bound(const BoundingVolumes& x, const BoundingVolumes& y, const Options&);
  bool light_by_bounds(const BoundingVolumes& x, std::int64_t strip, const BoundingVolumes& y, std::int64_t tile) const;

  // One side's floors: lower bounds of the log-sum-exps, +inf where nothing can be lost; and of each tile's parts the
  // least of floor − bias.
  struct Side {
    std::vector<double> floor;
    std::vector<double> least, least_of_parts;
    double share = 0;  // log(ε/T)
    void gather(const BoundingVolumes&, const Real* bias);
    double room(std::int64_t i, double bias) const { return std::isinf(floor[i]) ? floor[i] : floor[i] - bias; }
  };
  const Side& of_columns() const { return p_.symmetric ? row_ : col_; }

  const Problem& p_;
  const std::int64_t rows_, strips_, tiles_;
  const bool on_, columns_;
  Side row_, col_;
  std::vector<Fate> fates_;  // (strips, tiles)
};

}  // namespace jessl
