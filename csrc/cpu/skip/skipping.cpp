#include "cpu/skip/skipping.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "cpu/skip/gathering.h"
#include "cpu/tile/dot.h"
#include "cpu/tile/rows.h"

namespace jessl {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t parts = 8;       // parts of a tile; its rows are a multiple of 8
constexpr std::int64_t most_looks = 4;  // tiles searched for a row's first pair that is not excluded

// A lower bound of a row's log-sum-exp; +inf for a row without a pair, which has nothing to lose.
double floor_of(const OnlineLse& sums, std::int64_t i, bool nothing_to_lose) {
  const double found = std::log(sums.z[i]) + sums.m[i];
  return nothing_to_lose ? infinity : std::isfinite(found) ? found : -infinity;
}

// Whether test(bounding volume of one point, its number) holds for each of these points of a batch.
template <class Real, class Test>
bool each_point(const Batch& batch, const Real* bias, std::int64_t first, std::int64_t count, Test&& test) {
  const std::int64_t D = batch.columns;
  std::vector<Real> point(D);
  std::vector<double> wide(D);
  for (std::int64_t i = first; i < first + count; ++i) {
    load_rows<Real>(batch, i, 1, nullptr, {point.data(), D});
    std::copy(point.begin(), point.end(), wide.begin());
    const double* x = wide.data();
    const double norm = std::sqrt(dot(x, x, D));
    if (!test({x, x, x, 0, norm, norm, bias ? double(bias[i]) : 0, std::isfinite(norm)}, i)) return false;
  }
  return true;
}

}  // namespace

template <class Real>
Skipping<Real>::Skipping(const Problem& p, const Terms& terms, std::int64_t rows, bool columns)
    : p_(p),
      rows_(rows),
      strips_((p.N() + rows - 1) / rows),
      tiles_((p.M() + rows - 1) / rows),
      on_(p.skips() && terms.op == Op::logsumexp && terms.plain() && !gathers(p, terms)),
      columns_(columns || p.symmetric),
      row_{static_cast<const Real*>(p.row_bias), std::log(p.skip_below / double(tiles_))},
      col_{static_cast<const Real*>(p.col_bias), std::log(p.skip_below / double(strips_))},
      fates_(on_ ? strips_ * tiles_ : 0, present) {}

template <class Real>
std::vector<double> Skipping<Real>::Side::least_of(std::int64_t group) const {
  const std::int64_t n = std::int64_t(floor.size());
  std::vector<double> found((n + group - 1) / group, infinity);
  for (std::int64_t i = 0; i < n; ++i) found[i / group] = std::min(found[i / group], room(i));
  return found;
}

template <class Real>
void Skipping<Real>::look_ahead(const Options& options) {
  if (!on_) return;
  const std::optional<Volumes> x = volumes(false), of_y = volumes(true);
  const Volumes& y = of_y ? *of_y : *x;
  if (p_.skip_below == 0) return bound_exactly(*x, y, options);
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  Crew<Real> crew(p_, rows_, {}, options, 0);
  const bool apart = columns_ && !p_.symmetric;
  row_.floor.resize(p_.N());
  col_.floor.resize(apart ? p_.M() : 0);
  // Looks at the nearest tiles in turn until all rows, or columns, that can have a pair have found one.
  const auto task = [&](const Task& t, int thread) {
    const bool col = t.strip >= strips_;
    const std::int64_t k = col ? t.strip - strips_ : t.strip, first = k * rows_;
    Side& side = col ? col_ : row_;
    const BoundingVolumes &own = col ? y.tiles : x->tiles, &others = col ? x->tiles : y.tiles;
    Workspace<Real>& b = crew[thread];
    OnlineLse sums(own.points_of(k));
    const auto excluded = [&](std::int64_t i) { return side.bias && side.bias[first + i] == -infinity; };
    const auto missing = [&] {
      for (std::int64_t i = 0; i < own.points_of(k); ++i)
        if (sums.z[i] == 0 && !excluded(i)) return true;
      return false;
    };
    for (const std::int64_t other : own.nearest(k, others, most_looks)) {
      const std::int64_t strip = col ? other : k, tile = col ? k : other;
      b.load(ops, p_, strip * rows_, x->tiles.points_of(strip));
      b.tile.first = tile * rows_;
      b.tile.count = y.tiles.points_of(tile);
      ops.score(p_, b.strip, b.tile);
      ++b.work.looked;
      const double log_base = ops.absorb_any(b.strip, b.tile, {b.powers.row, apart ? b.powers.col : nullptr},
                                             {b.total.row, apart ? b.total.col : nullptr});
      sums.merge(0, own.points_of(k), col ? b.powers.col : b.powers.row, log_base, col ? b.total.col : b.total.row);
      if (!missing()) break;
    }
    for (std::int64_t i = 0; i < own.points_of(k); ++i) side.floor[first + i] = floor_of(sums, i, excluded(i));
  };
  crew.run({.strips = strips_ + (apart ? tiles_ : 0), .in_order = false}, task);
  bound(*x, y, options);
}

template <class Real>
void Skipping<Real>::know(const OnlineLse& rows, const OnlineLse* columns, const Options& options) {
  if (!on_) return;
  const auto floors = [](const OnlineLse& sums) {
    std::vector<double> floor(sums.z.size());
    for (std::size_t i = 0; i < floor.size(); ++i)
      floor[i] = floor_of(sums, i, std::log(sums.z[i]) + sums.m[i] == -infinity);
    return floor;
  };
  row_.floor = floors(rows);
  if (columns && !p_.symmetric) col_.floor = floors(*columns);
  const std::optional<Volumes> x = volumes(false), y = volumes(true);
  if (p_.skip_below == 0) return bound_exactly(*x, y ? *y : *x, options);
  bound(*x, y ? *y : *x, options);
}

// Only tiles without a pair inside the support of a compact φ fall: no sum has a lower bound that would matter.
template <class Real>
void Skipping<Real>::bound_exactly(const Volumes& x, const Volumes& y, const Options& options) {
  row_.floor.assign(p_.N(), 0);
  col_.floor.assign(columns_ && !p_.symmetric ? p_.M() : 0, 0);
  bound(x, y, options);
}

template <class Real>
auto Skipping<Real>::volumes(bool of_y) const -> std::optional<Volumes> {
  if (of_y && p_.symmetric) return {};
  const Batch& batch = of_y ? p_.y : p_.x;
  const void* const bias = of_y ? p_.col_bias : p_.row_bias;
  return Volumes{{p_, batch, bias, rows_}, {p_, batch, bias, rows_ / parts}};
}

template <class Real>
void Skipping<Real>::bound(const Volumes& x, const Volumes& y, const Options& options) {
  for (Side* const side : {&row_, &col_}) {
    side->least = side->least_of(rows_);
    side->least_of_parts = side->least_of(rows_ / parts);
  }
  const auto task = [&](const Task& t, int) {
    for (std::int64_t tile = p_.symmetric ? t.strip : 0; tile < tiles_; ++tile)
      if (light_by_bounds(x, t.strip, y, tile)) fates_[t.strip * tiles_ + tile] = absent;
  };
  const double work = double(strips_) * double(tiles_) * double(p_.D() + 16);
  run({.strips = strips_, .in_order = false}, work < 2e6 ? 1 : options.threads, options.interrupted, task);
}

// Tests the whole tile first. If that does not decide, it tests each part of its rows with each part of its columns. If
// some of these do not decide, it tests each point of one with the volume of the other: a part that spans the gap
// between two clusters is much larger than its points.
template <class Real>
bool Skipping<Real>::light_by_bounds(const Volumes& x, std::int64_t strip, const Volumes& y, std::int64_t tile) const {
  const double of_row = row_.share - std::log(double(y.tiles.points_of(tile))),
               of_col = col_.share - std::log(double(x.tiles.points_of(strip)));
  const Side& col = of_columns();
  const auto light = [&](const BoundingVolume& a, double row_least, const BoundingVolume& b, double col_least) {
    const double most = largest_score(p_, a, b);  // with a NaN comparisons are false: the tile is not light
    if (most + a.bias + b.bias == -infinity) return true;
    return most + b.bias - row_least <= of_row && (!columns_ || most + a.bias - col_least <= of_col);
  };
  if (light(x.tiles[strip], row_.least[strip], y.tiles[tile], columns_ ? col.least[tile] : 0)) return true;
  const std::int64_t group = rows_ / parts;
  for (std::int64_t a = strip * parts; a < std::min((strip + 1) * parts, x.parts.groups()); ++a)
    for (std::int64_t b = tile * parts; b < std::min((tile + 1) * parts, y.parts.groups()); ++b) {
      const BoundingVolume of_a = x.parts[a], of_b = y.parts[b];
      const double row_least = row_.least_of_parts[a], col_least = columns_ ? col.least_of_parts[b] : 0;
      if (!light(of_a, row_least, of_b, col_least) &&
          !each_point(p_.x, row_.bias, a * group, x.parts.points_of(a),
                      [&](const BoundingVolume& point, std::int64_t i) {
                        return light(point, row_.room(i), of_b, col_least);
                      }) &&
          !each_point(p_.y, col_.bias, b * group, y.parts.points_of(b),
                      [&](const BoundingVolume& point, std::int64_t j) {
                        return light(of_a, row_least, point, columns_ ? col.room(j) : 0);
                      }))
        return false;
    }
  return true;
}

template <class Real>
void Skipping<Real>::record(const Workspace<Real>& b, double log_base) {
  if (!on_) return;
  const auto none_heavy = [&](const Side& side, std::int64_t first, std::int64_t n, const Real* from,
                              const Real* total) {
    for (std::int64_t i = 0; i < n; ++i)
      if (total[i] != 0 &&
          !(log_base * double(from[i]) + std::log(double(total[i])) - side.floor[first + i] <= side.share))
        return false;
    return true;
  };
  if (none_heavy(row_, b.strip.first, b.strip.count, b.powers.row, b.total.row) &&
      (!columns_ || none_heavy(of_columns(), b.tile.first, b.tile.count, b.powers.col, b.total.col)))
    fates_[b.strip.first / rows_ * tiles_ + b.tile.first / rows_] = Fate::light;
}

template class Skipping<float>;
template class Skipping<double>;

}  // namespace jessl
