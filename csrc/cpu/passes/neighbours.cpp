#include "cpu/passes/neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/passes/point_tiles.h"
#include "cpu/scratch.h"
#include "cpu/tile/tile.h"

namespace jessl {
namespace {

// The points of a tile as a strip, and `more` numbers for each of them, in memory of their own.
class OwnStrip {
 public:
  OwnStrip(const NearTile& tile, std::int64_t D, std::int64_t more)
      : memory_(Scratch::size_of<double>(D * near_rows) + Scratch::size_of<double>(near_rows) +
                Scratch::size_of<double>(more * near_rows)),
        across_(memory_.take<double>(D * near_rows)),
        strip{tile.first, tile.count, near_rows, across_, memory_.take<double>(near_rows)},
        numbers(memory_.take<double>(more * near_rows)) {
    for (std::int64_t d = 0; d < D; ++d)
      for (std::int64_t i = 0; i < near_rows; ++i)
        across_[d * near_rows + i] = i < tile.count ? tile.rows[i * D + d] : 0;
    std::fill_n(strip.limit, near_rows, -1);
  }

 private:
  Scratch memory_;
  double* const across_;

 public:
  const NearStrip strip;
  double* const numbers;
};

double largest_limit(const NearStrip& strip) { return *std::max_element(strip.limit, strip.limit + strip.count); }

// Calls visit(tile) for each tile that may hold points near the strip's: the strip's own first, then from the nearest
// on. Limits may fall meanwhile.
template <class Visit>
void visit_tiles(const PointTiles& tiles, Norm norm, const NearStrip& strip, Visit&& visit) {
  const std::int64_t own = strip.first / near_rows;
  visit(tiles[own]);
  double limit = largest_limit(strip);
  std::vector<std::pair<double, std::int64_t>> others;
  for (std::int64_t t = 0; t < tiles.tiles(); ++t)
    if (const double gap = tiles.gap(norm, own, t); t != own && gap < limit) others.emplace_back(gap, t);
  std::sort(others.begin(), others.end());
  for (const auto& [gap, t] : others) {
    if (!(gap < limit)) return;
    visit(tiles[t]);
    limit = largest_limit(strip);
  }
}

// Calls work(strip, its numbers) for every tile of the points as a strip, on all threads.
template <class Work>
void for_strips(const PointTiles& tiles, std::int64_t more, const Options& options, Work&& work) {
  run({.strips = tiles.tiles(), .in_order = false}, options.threads, options.interrupted, [&](const Task& t, int) {
    const OwnStrip own(tiles[t.strip], tiles.D(), more);
    work(own.strip, own.numbers);
  });
}

}  // namespace

void kth_distance(const Points& points, Norm norm, std::int64_t k, const Options& options, double* radius) {
  const NearOps& ops = tables_of(options.level).near;
  const PointTiles tiles(points, options.interrupted);
  for_strips(tiles, k, options, [&](const NearStrip& strip, double* heaps) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    std::fill_n(heaps, strip.count * k, infinity);
    std::fill_n(strip.limit, strip.count, infinity);
    visit_tiles(tiles, norm, strip, [&](const NearTile& tile) { ops.keep(norm, points.D, strip, tile, k, heaps); });
    for (std::int64_t i = 0; i < strip.count; ++i)
      radius[tiles.number(strip.first + i)] = norm == Norm::max ? strip.limit[i] : std::sqrt(strip.limit[i]);
  });
}

void count_nearer(const Points& points, const double* limit, const Options& options, std::int64_t* count) {
  const NearOps& ops = tables_of(options.level).near;
  const PointTiles tiles(points, options.interrupted);
  for_strips(tiles, 1, options, [&](const NearStrip& strip, double* counts) {
    std::fill_n(counts, near_rows, 0);
    for (std::int64_t i = 0; i < strip.count; ++i) strip.limit[i] = limit[tiles.number(strip.first + i)];
    visit_tiles(tiles, Norm::max, strip, [&](const NearTile& tile) { ops.count(points.D, strip, tile, counts); });
    for (std::int64_t i = 0; i < strip.count; ++i) count[tiles.number(strip.first + i)] = std::int64_t(counts[i]);
  });
}

void reach_of_nearer(const Points& points, std::int64_t split, const double* limit, const Options& options,
                     double* reach) {
  const NearOps& ops = tables_of(options.level).near;
  const PointTiles tiles(points, options.interrupted);
  for_strips(tiles, 2, options, [&](const NearStrip& strip, double* far) {
    std::fill_n(far, 2 * near_rows, 0);
    for (std::int64_t i = 0; i < strip.count; ++i) strip.limit[i] = limit[tiles.number(strip.first + i)];
    visit_tiles(tiles, Norm::max, strip, [&](const NearTile& tile) { ops.reach(points.D, strip, tile, split, far); });
    for (std::int64_t i = 0; i < strip.count; ++i)
      std::copy_n(far + 2 * i, 2, reach + 2 * tiles.number(strip.first + i));
  });
}

}  // namespace jessl
