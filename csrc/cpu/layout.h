// How a problem is cut: strips of rows, tiles of columns, segments of tiles. A function of the problem and the workspace alone,
// never of the number of threads: so the sums are the same ones at every number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "cpu/driver.h"
#include "cpu/running.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/tile.h"

namespace jessl {

struct Layout {
  std::int64_t N, M, rows, per_segment, segments;  // rows of a strip, columns of a tile too; tiles of a segment
  bool symmetric, interleaved;                     // segment k holds tiles k, k + segments, …; else tiles that follow each other
  std::int64_t bytes;                              // of what is kept for the segments of strips in flight
  Plan plan;

  // Where that is kept for one of them.
  std::int64_t places() const { return plan.slots * segments; }
  std::int64_t place(std::int64_t strip, std::int64_t segment) const { return strip % plan.slots * segments + segment; }

  std::int64_t first_row(std::int64_t strip) const { return strip * rows; }
  std::int64_t rows_of(std::int64_t strip) const { return std::min(rows, N - strip * rows); }

  // Visit the tiles of a segment in a strip: visit(first column, columns, whether rows and columns are the same). Symmetric
  // problems begin at the diagonal.
  template <class Visit>
  void tiles(std::int64_t strip, std::int64_t segment, Visit&& visit) const {
    const std::int64_t end = interleaved ? M : std::min(M, (segment + 1) * per_segment * rows);
    const std::int64_t step = interleaved ? segments * rows : rows;
    std::int64_t first = segment * (interleaved ? rows : per_segment * rows);
    if (symmetric) first += std::max<std::int64_t>(0, (first_row(strip) - first + step - 1) / step * step);
    for (; first < end; first += step) visit(first, std::min(rows, end - first), symmetric && first == first_row(strip));
  }
};

// What a pass may take of the workspace: the parts of segments a quarter, scores that are kept a half, and the benches of threads
// what these leave, at least a quarter.
constexpr std::int64_t for_parts(std::int64_t workspace) { return workspace / 4; }
constexpr std::int64_t for_benches(std::int64_t workspace) { return workspace / 4; }
constexpr std::int64_t for_scores(std::int64_t workspace) { return workspace / 2; }

// Fewer rows than this in a strip, and the products lose their speed; more than this many strips, and threads find no work. Up to
// 64 rows are two strips and two segments, so that two threads have work at once; not of a symmetric problem, whose three tiles would
// follow each other.
// Pairs within classes alone are few, and small tiles pass by more of the others.
//
// In thousands of dimensions there is room for fewer: two benches must fit, and then one segment's parts do, eight of which,
// more than any pass has in flight, are smaller.
inline std::int64_t rows_for(const Problem& p, std::int64_t workspace) {
  constexpr std::int64_t step = most_rows / 12;
  const std::int64_t larger = std::max(p.N(), p.M());
  const bool within_classes = p.exclude.different.row;
  std::int64_t rows = larger > 1152 ? most_rows : larger > 384 ? most_rows / 2 : most_rows / 3;
  if (larger <= most_rows / 3 && !p.symmetric) rows = most_rows / 6;
  if (within_classes) rows = larger > most_rows / 2 ? most_rows / 3 : step;
  const auto bench = [&p](std::int64_t n) {
    constexpr Extras all{true, true};  // of every pass: they are cut alike
    return p.wide() ? Bench<double>::bytes(p, n, all) : Bench<float>::bytes(p, n, all);
  };
  while (rows > step && 2 * bench(rows) > for_benches(workspace)) rows = std::max(step, rows / 2 / step * step);
  return rows;
}

// bytes_per_segment: what is kept for each segment of each strip in flight.
//
// Where tiles fall, those that are left of neighbouring strips mostly stand side by side, and in segments of tiles that follow
// each other they would wait for each other. So segments are interleaved then, and as each holds little, there are fewer; passes
// that can have more strips in flight.
inline Layout cut(const Problem& p, std::int64_t rows, std::int64_t phases, std::int64_t slots,
                  std::int64_t bytes_per_segment, std::int64_t workspace) {
  // Each segment's part is cleared, merged and has its strip made ready again: worth it for two tiles, not for one, unless there
  // are only two, for two threads; with more, threads wait for each other at the end. Tasks of one segment follow each other, so there are at least as many segments as
  // threads have a use for; 24 until each has four tiles, which is 6 % of a density in few dimensions, then up to 64.
  const std::int64_t fewest_tiles = p.M() > most_rows / 3 ? 2 : 1;
  const bool skips = p.skip_below > 0;
  const std::int64_t tiles = (p.M() + rows - 1) / rows;
  const std::int64_t most_segments = skips ? 16 : std::clamp<std::int64_t>(tiles / 4, 24, 64);
  const std::int64_t affordable = std::max<std::int64_t>(1, for_parts(workspace) / (slots * bytes_per_segment));
  const std::int64_t most = std::min({(tiles + fewest_tiles - 1) / fewest_tiles, most_segments, affordable});
  const std::int64_t per_segment = (tiles + most - 1) / most, segments = (tiles + per_segment - 1) / per_segment;
  Layout layout{p.N(), p.M(), rows, per_segment, segments, p.symmetric, skips, slots * segments * bytes_per_segment, {}};
  layout.plan = {.strips = (p.N() + rows - 1) / rows, .segments = segments, .phases = phases, .slots = slots};
  if (p.symmetric && !skips) layout.plan.first = [per_segment](std::int64_t strip) { return strip / per_segment; };
  return layout;
}

// Threads worth starting, one for a million multiplications of the scores, which have a tile each, and for which there is room
// beside the `taken` bytes of the workspace.
template <class Real>
int useful_threads(const Problem& p, std::int64_t rows, Extras extras, const Options& options, std::int64_t taken) {
  const double work = double(p.N()) * double(p.M()) * double(p.D() + 16);
  const double room = double(options.workspace - options.taken - taken) / double(Bench<Real>::bytes(p, rows, extras));
  const double tiles = double((p.N() + rows - 1) / rows) * double((p.M() + rows - 1) / rows);
  return int(std::clamp(std::min({work / 1e6, room, tiles}), 1.0, double(options.threads)));
}

// Whether no pair of these rows and columns can be of one class, where `different` leaves out all others. Classes in order
// make most tiles such.
class Reach {
 public:
  Reach(const Problem& p, std::int64_t rows) : rows_(rows) {
    const Ids& ids = p.exclude.different;
    if (!ids.row || p.exclude.keep_count) return;
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

template <class Real>
std::deque<Bench<Real>> benches(const Problem& p, std::int64_t rows, int threads, Extras extras) {
  std::deque<Bench<Real>> made;  // its elements need not move
  for (int t = 0; t < threads; ++t) made.emplace_back(p, rows, extras);
  return made;
}

template <class Real>
void count_work(const std::deque<Bench<Real>>& all, const Options& options) {
  for (const Bench<Real>& b : all)
    if (options.work) {
      options.work->looked += b.work.looked;
      options.work->scored += b.work.scored;
      options.work->pulled += b.work.pulled;
    }
}

}  // namespace jessl
