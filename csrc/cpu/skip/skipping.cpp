#include "cpu/skip/skipping.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace jessl {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t most_looks = 4;  // tiles in which a row is looked for a pair that is not excluded

template <class Real>
const Real* biases(const void* bias) {
  return static_cast<const Real*>(bias);
}

}  // namespace

template <class Real>
Skipping<Real>::Skipping(const Problem& p, const Terms& terms, std::int64_t rows, bool columns)
    : p_(p),
      rows_(rows),
      strips_((p.N() + rows - 1) / rows),
      tiles_((p.M() + rows - 1) / rows),
      on_(p.skip_below > 0 && terms.op == Op::logsumexp && terms.plain()),
      columns_(columns || p.symmetric),
      fates_(on_ ? strips_ * tiles_ : 0, present) {
  row_.share = std::log(p.skip_below / double(tiles_));
  col_.share = std::log(p.skip_below / double(strips_));
}

template <class Real>
void Skipping<Real>::Side::gather(const BoundingVolumes& volumes, const Real* bias) {
  least.assign(volumes.tiles(), infinity);
  least_of_parts.assign(volumes.tiles() * BoundingVolumes::parts, infinity);
  std::int64_t i = 0;
  for (std::int64_t k = 0; k < volumes.tiles(); ++k)
    for (std::int64_t in = 0; in < volumes.points_of(k); ++in, ++i) {
      const double room_of_i = room(i, bias ? double(bias[i]) : 0.0);
      double& part = least_of_parts[k * BoundingVolumes::parts + in / volumes.part_rows()];
      part = std::min(part, room_of_i);
      least[k] = std::min(least[k], room_of_i);
    }
}

template <class Real>
void Skipping<Real>::look_ahead(const Options& options) {
  if (!on_) return;
  const BoundingVolumes x(p_, p_.x, p_.row_bias, rows_);
  const std::optional<BoundingVolumes> of_y = volumes_of_y();
  const BoundingVolumes& y = of_y ? *of_y : x;
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const Extras extras{};
  const int threads = useful_threads<Real>(p_, rows_, extras, options, 0);
  auto per_thread = workspaces<Real>(p_, rows_, threads, extras);
  const bool apart = columns_ && !p_.symmetric;

  const auto absorb = [&](Workspace<Real>& b, std::int64_t strip, std::int64_t tile) {
    b.load(ops, p_, strip * rows_, x.points_of(strip));
    b.tile.first = tile * rows_;
    b.tile.count = y.points_of(tile);
    ops.score(p_, b.strip, b.tile);
    ++b.work.looked;
    return ops.absorb_any(b.strip, b.tile, {b.powers.row, apart ? b.powers.col : nullptr},
                          {b.total.row, apart ? b.total.col : nullptr});
  };
  // Look at the nearest tiles in turn, until all rows that can have a pair have met one.
  const auto look = [&](Side& side, const BoundingVolumes& own, const BoundingVolumes& others, const void* bias,
                        std::int64_t k, auto&& at) {
    const std::int64_t first = k * rows_, count = own.points_of(k);
    const auto excluded = [&](std::int64_t i) { return bias && biases<Real>(bias)[first + i] == -infinity; };
    OnlineLse sums(count);
    const auto missing = [&] {
      for (std::int64_t i = 0; i < count; ++i)
        if (sums.z[i] == 0 && !excluded(i)) return true;
      return false;
    };
    for (const std::int64_t other : own.nearest(k, others, most_looks)) {
      at(sums, other);
      if (!missing()) break;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const double floor = std::log(sums.z[i]) + sums.m[i];
      side.floor[first + i] = excluded(i) ? infinity : std::isfinite(floor) ? floor : -infinity;
    }
  };
  row_.floor.resize(p_.N());
  col_.floor.resize(apart ? p_.M() : 0);
  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = per_thread[thread];
    if (t.strip < strips_)
      return look(row_, x, y, p_.row_bias, t.strip, [&](OnlineLse& sums, std::int64_t tile) {
        const double log_base = absorb(b, t.strip, tile);
        sums.merge(0, b.strip.count, b.powers.row, log_base, b.total.row);
      });
    const std::int64_t tile = t.strip - strips_;
    look(col_, y, x, p_.col_bias, tile, [&](OnlineLse& sums, std::int64_t strip) {
      const double log_base = absorb(b, strip, tile);
      sums.merge(0, b.tile.count, b.powers.col, log_base, b.total.col);
    });
  };
  const Plan plan{.strips = strips_ + (apart ? tiles_ : 0), .segments = 1, .phases = 1, .slots = 1, .in_order = false};
  run(plan, threads, options.interrupted, task, [](std::int64_t, int) {});
  count_work(per_thread, options);
  bound(x, y, options);
}

template <class Real>
void Skipping<Real>::know(const OnlineLse& rows, const OnlineLse* columns, const Options& options) {
  if (!on_) return;
  // A row without pairs has L = −inf, and nothing to lose.
  const auto floors = [](const OnlineLse& sums) {
    std::vector<double> floor(sums.z.size());
    for (std::size_t i = 0; i < floor.size(); ++i) {
      const double lse = std::log(sums.z[i]) + sums.m[i];
      floor[i] = lse == -infinity ? infinity : std::isfinite(lse) ? lse : -infinity;
    }
    return floor;
  };
  row_.floor = floors(rows);
  if (columns && !p_.symmetric) col_.floor = floors(*columns);
  const BoundingVolumes x(p_, p_.x, p_.row_bias, rows_);
  const std::optional<BoundingVolumes> of_y = volumes_of_y();
  bound(x, of_y ? *of_y : x, options);
}

template <class Real>
std::optional<BoundingVolumes> Skipping<Real>::volumes_of_y() const {
  return p_.symmetric ? std::nullopt : std::optional<BoundingVolumes>(std::in_place, p_, p_.y, p_.col_bias, rows_);
}

template <class Real>
void Skipping<Real>::bound(const BoundingVolumes& x, const BoundingVolumes& y, const Options& options) {
  row_.gather(x, biases<Real>(p_.row_bias));
  if (columns_ && !p_.symmetric) col_.gather(y, biases<Real>(p_.col_bias));
  const auto task = [&](const Task& t, int) {
    for (std::int64_t tile = p_.symmetric ? t.strip : 0; tile < tiles_; ++tile)
      if (light_by_bounds(x, t.strip, y, tile)) fates_[t.strip * tiles_ + tile] = absent;
  };
  const Plan plan{.strips = strips_, .segments = 1, .phases = 1, .slots = 1, .in_order = false};
  const double work = double(strips_) * double(tiles_) * double(p_.D() + 16);
  run(plan, work < 2e6 ? 1 : options.threads, options.interrupted, task, [](std::int64_t, int) {});
}

// The whole tile first; where that does not tell, each part of its rows with each part of its columns; where some of
// these do not, each point of one with the bounding volume of the other: a part across the gap between two clusters is
// larger than all its points.
template <class Real>
bool Skipping<Real>::light_by_bounds(const BoundingVolumes& x, std::int64_t strip, const BoundingVolumes& y,
                                     std::int64_t tile) const {
  const double of_row = row_.share - std::log(double(y.points_of(tile))),
               of_col = col_.share - std::log(double(x.points_of(strip)));
  const Side& col = of_columns();
  const auto light = [&](const BoundingVolume& a, double row_least, const BoundingVolume& b, double col_least) {
    const double most = largest_score(p_, a, b);  // what is not a number is not light
    return most + b.bias - row_least <= of_row && (!columns_ || most + a.bias - col_least <= of_col);
  };
  if (light(x.tile(strip), row_.least[strip], y.tile(tile), columns_ ? col.least[tile] : 0)) return true;
  for (std::int64_t a = 0; a < x.parts_of(strip); ++a)
    for (std::int64_t b = 0; b < y.parts_of(tile); ++b) {
      const BoundingVolume of_a = x.part(strip, a), of_b = y.part(tile, b);
      const double row_least = row_.least_of_parts[strip * BoundingVolumes::parts + a];
      const double col_least = columns_ ? col.least_of_parts[tile * BoundingVolumes::parts + b] : 0;
      if (!light(of_a, row_least, of_b, col_least) &&
          !x.each_point(p_.x, biases<Real>(p_.row_bias), strip, a,
                        [&](const BoundingVolume& point, std::int64_t i) {
                          return light(point, row_.room(i, point.bias), of_b, col_least);
                        }) &&
          !y.each_point(p_.y, biases<Real>(p_.col_bias), tile, b, [&](const BoundingVolume& point, std::int64_t j) {
            return light(of_a, row_least, point, columns_ ? col.room(j, point.bias) : 0);
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
