// The cut of a problem into strips of rows, tiles of columns and segments of tiles. It depends on the problem and the
// workspace, never on the number of threads, so the sums are the same at every number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/threads.h"
#include "cpu/tile/tile.h"
#include "cpu/tile/workspace.h"

namespace jessl {

struct Tiling {
  std::int64_t N, M, rows, per_segment, segments;  // rows of a strip = columns of a tile; tiles of a segment
  bool symmetric, interleaved;  // interleaved: segment k holds tiles k, k + segments, …; else consecutive tiles
  std::int64_t bytes;           // kept for the segments of all strips in flight
  Plan plan;

  // The number of a segment's part among those that are kept.
  std::int64_t places() const { return plan.slots * segments; }
  std::int64_t place(const Task& t) const { return t.strip % plan.slots * segments + t.segment; }

  std::int64_t first_row(std::int64_t strip) const { return strip * rows; }
  std::int64_t rows_of(std::int64_t strip) const { return std::min(rows, N - strip * rows); }

  // Visits the tiles of a task in turn: visit(whether rows and columns are the same). Symmetric problems begin at the
  // diagonal.
  template <class Real, class Visit>
  void tiles(const Task& t, Tile<Real>& tile, Visit&& visit) const {
    const std::int64_t end = interleaved ? M : std::min(M, (t.segment + 1) * per_segment * rows);
    const std::int64_t step = interleaved ? segments * rows : rows;
    std::int64_t first = t.segment * (interleaved ? rows : per_segment * rows);
    if (symmetric) first += std::max<std::int64_t>(0, (first_row(t.strip) - first + step - 1) / step * step);
    for (; first < end; first += step) {
      tile.first = first;
      tile.count = std::min(rows, end - first);
      visit(symmetric && first == first_row(t.strip));
    }
  }
  // Visits the places of all segments of a strip, in the order in which they are merged.
  template <class Visit>
  void parts(std::int64_t strip, Visit&& visit) const {
    for (std::int64_t segment = plan.first(strip); segment < segments; ++segment) visit(place({strip, 0, segment}));
  }
};

// Shares of the workspace: a quarter for the parts of segments, a half for kept scores, and the rest, at least a
// quarter, for the threads.
constexpr std::int64_t for_parts(std::int64_t workspace) { return workspace / 4; }
constexpr std::int64_t for_workspaces(std::int64_t workspace) { return workspace / 4; }
constexpr std::int64_t for_scores(std::int64_t workspace) { return workspace / 2; }

// The rows of a strip. With fewer rows products lose their speed; with more, threads find no work. Up to 64 rows are
// two strips and two segments, so that two threads have work; but not in a symmetric problem, whose three tiles would
// wait for each other. If only pairs within classes are included, small tiles skip more of the others.
//
// In thousands of dimensions strips are shorter: two threads' workspaces must fit. Then the parts of one segment fit
// too, because eight of them, more than any pass has in flight, are smaller.
inline std::int64_t rows_for(const Problem& p, std::int64_t workspace) {
  constexpr std::int64_t step = most_rows / 12;
  const std::int64_t larger = std::max(p.N(), p.M());
  const bool within_classes = p.exclude.classes().row;
  std::int64_t rows = larger > 1152 ? most_rows : larger > 384 ? most_rows / 2 : most_rows / 3;
  if (larger <= most_rows / 3 && !p.symmetric) rows = most_rows / 6;
  if (within_classes) rows = larger > most_rows / 2 ? most_rows / 3 : step;
  const auto of_thread = [&p](std::int64_t n) {
    constexpr Extras all{true, true, 0};  // of every pass: they are cut alike
    return p.wide() ? Workspace<double>::bytes(p, n, all) : Workspace<float>::bytes(p, n, all);
  };
  while (rows > step && 2 * of_thread(rows) > for_workspaces(workspace)) rows = std::max(step, rows / 2 / step * step);
  return rows;
}

// bytes_per_segment: kept for each segment of each strip in flight.
//
// If tiles are skipped, the remaining tiles of neighbouring strips mostly stand side by side, and in segments of
// consecutive tiles they would wait for each other. So segments are interleaved, and as each holds little, there are
// fewer of them; passes that can have more strips in flight.
inline Tiling cut(const Problem& p, std::int64_t rows, std::int64_t phases, std::int64_t slots,
                  std::int64_t bytes_per_segment, std::int64_t workspace) {
  // A segment costs: its part is cleared and merged, and its strip is loaded again. That pays for two tiles, and for
  // one only if there are two in all, for two threads. Tasks of one segment follow each other, so threads need many
  // segments: 24 until each has four tiles (a gain of 6 % for a density in few dimensions), then up to 64.
  const std::int64_t fewest_tiles = p.M() > most_rows / 3 ? 2 : 1;
  const bool skips = p.skips();
  const std::int64_t tiles = (p.M() + rows - 1) / rows;
  const std::int64_t most_segments = skips ? 16 : std::clamp<std::int64_t>(tiles / 4, 24, 64);
  const std::int64_t affordable = std::max<std::int64_t>(1, for_parts(workspace) / (slots * bytes_per_segment));
  const std::int64_t most = std::min({(tiles + fewest_tiles - 1) / fewest_tiles, most_segments, affordable});
  const std::int64_t per_segment = (tiles + most - 1) / most, segments = (tiles + per_segment - 1) / per_segment;
  Tiling tiling{p.N(), p.M(), rows, per_segment, segments, p.symmetric, skips, slots * segments * bytes_per_segment,
                {}};
  tiling.plan = {.strips = (p.N() + rows - 1) / rows, .segments = segments, .phases = phases, .slots = slots};
  if (p.symmetric && !skips) tiling.plan.first = [per_segment](std::int64_t strip) { return strip / per_segment; };
  return tiling;
}

// Finds tiles without a pair of one class, for problems that exclude all other pairs. If rows and columns are ordered
// by class, most tiles are such.
class Reach {
 public:
  Reach(const Problem& p, std::int64_t rows) : rows_(rows) {
    const Ids ids = p.exclude.classes();
    if (!ids.row) return;
    of_rows_ = ranges(ids.row, p.N());
    of_columns_ = ranges(ids.col, p.M());
  }
  bool empty(std::int64_t first_row, std::int64_t first_column) const {
    if (of_rows_.empty()) return false;
    const Range &r = of_rows_[first_row / rows_], &c = of_columns_[first_column / rows_];
    return r.high < c.low || c.high < r.low;
  }

 private:
  struct Range {
    std::int32_t low, high;
  };
  std::vector<Range> ranges(const std::int32_t* ids, std::int64_t n) const {
    std::vector<Range> found;
    for (std::int64_t first = 0; first < n; first += rows_) {
      const auto [low, high] = std::minmax_element(ids + first, ids + std::min(n, first + rows_));
      found.push_back({*low, *high});
    }
    return found;
  }
  std::int64_t rows_;
  std::vector<Range> of_rows_, of_columns_;
};

}  // namespace jessl
