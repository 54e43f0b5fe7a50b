// The scores of all tiles, kept between the pass for sums and the pass for gradients, if half of the workspace holds
// them: this saves a product. They fit up to N ≈ 3800 symmetric or 2700 two-sided rows in the usual 64 MiB.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/passes/tiling.h"
#include "cpu/scratch.h"
#include "cpu/tile/workspace.h"

namespace jessl {

template <class Real>
class ScoreCache {
 public:
  // extras: what the gradient needs of a tile beside its scores; extras are not kept.
  ScoreCache(const Problem& p, std::int64_t rows, Extras extras, std::int64_t workspace)
      : rows_(rows), lanes_(padded<Real>(rows)), tiles_((p.M() + rows - 1) / rows), symmetric_(p.symmetric) {
    if (!fit(p, rows, extras, workspace)) return;
    const std::int64_t count = tiles_kept(p, rows);
    bytes_ = bytes(p, rows);
    memory_.emplace(bytes_);
    scores_ = memory_->template take<Real>(count * rows_ * lanes_);
    close_.resize(count);
  }

  static bool fit(const Problem& p, std::int64_t rows, Extras extras, std::int64_t workspace) {
    constexpr std::int64_t fewest_dimensions = 32;  // below, computing a score is faster than fetching it
    // If tiles are skipped, keeping all of them is no gain.
    return bytes(p, rows) <= for_scores(workspace) && p.D() >= fewest_dimensions && !extras.slope && !extras.t &&
           !p.skips() && !p.exclude.classes().row;
  }

  bool on() const { return memory_.has_value(); }
  std::int64_t bytes() const { return bytes_; }
  // Points the tile at its kept scores.
  void place(Tile<Real>& tile, std::int64_t first_row) const {
    tile.s = {scores_ + at(first_row, tile.first) * rows_ * lanes_, lanes_};
  }
  void store(const Tile<Real>& tile, std::int64_t first_row) { close_[at(first_row, tile.first)] = tile.close; }
  void fetch(Tile<Real>& tile, std::int64_t first_row) const {
    place(tile, first_row);
    tile.close = close_[at(first_row, tile.first)] != 0;
  }

  std::optional<Real> power;  // if set, e^s / 2^power is kept instead of s

 private:
  static std::int64_t tiles_kept(const Problem& p, std::int64_t rows) {
    const std::int64_t strips = (p.N() + rows - 1) / rows, tiles = (p.M() + rows - 1) / rows;
    return p.symmetric ? strips * (strips + 1) / 2 : strips * tiles;
  }
  static std::int64_t bytes(const Problem& p, std::int64_t rows) {
    return tiles_kept(p, rows) * Scratch::size_of<Real>(rows * padded<Real>(rows));
  }
  std::int64_t at(std::int64_t first_row, std::int64_t first_column) const {
    const std::int64_t strip = first_row / rows_, tile = first_column / rows_;
    return symmetric_ ? strip * tiles_ - strip * (strip - 1) / 2 + tile - strip : strip * tiles_ + tile;
  }

  const std::int64_t rows_, lanes_, tiles_;
  const bool symmetric_;
  std::int64_t bytes_ = 0;
  std::optional<Scratch> memory_;
  Real* scores_ = nullptr;
  std::vector<std::uint8_t> close_;  // whether a tile's squares were taken by differences
};

}  // namespace jessl
