// Sums alone: one pass over the tiles. The rows of a strip are complete when its segments are merged, in their order;
// columns are merged strip after strip. A tile is scored once, whatever the number of tilts.
#include <vector>

#include "cpu/passes/gathered_pass.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/skip/gathering.h"

namespace jessl {

template <class Real>
Sums sum_pass(const Problem& p, const Terms& terms, const Options& options, bool columns, Skipping<Real>& skipping,
              ScoreCache<Real>* cache) {
  if (gathers(p, terms)) return gathered_sums<Real>(p, options, columns);
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t slots = skipping.on() ? 16 : 4;
  const std::int64_t of_strip = rows_for(p, options.workspace);
  const Tiling tiling = cut(p, of_strip, 1, slots, SideSums::bytes(terms, of_strip), options.workspace);
  const bool exponentials = terms.op == Op::logsumexp;
  const Extras extras{.copies = terms.tilts == std::vector<double>{1} ? 0 : 1};
  if (cache && (!cache->on() || !terms.plain() || !exponentials)) cache = nullptr;
  const Reach reach(p, tiling.rows);
  columns = columns || p.symmetric;
  skipping.look_ahead(options);

  std::optional<Real> power;
  if (exponentials && terms.plain()) power = common_power<Real>(p, options);
  if (cache) cache->power = power;
  Crew<Real> crew(p, tiling.rows, extras, options, tiling.bytes + (cache ? cache->bytes() : 0));

  Sums sums{SideSums(terms, p.N()), columns && !p.symmetric ? SideSums(terms, p.M()) : SideSums()};
  SideSums &rows = sums.rows, &cols = p.symmetric ? sums.rows : sums.columns;
  std::vector<SideSums> parts(tiling.places(), SideSums(terms, tiling.rows));

  // Makes a tile's sums; returns the log_base of their references.
  const auto absorb = [&](Workspace<Real>& b, Tile<Real>& tile) {
    const Sides<Real> total{b.total.row, columns ? b.total.col : nullptr};
    if (!power && exponentials)
      return ops.absorb_any(b.strip, tile, {b.powers.row, columns ? b.powers.col : nullptr}, total);
    std::fill_n(b.powers.row, tiling.rows, power.value_or(0));
    std::fill_n(b.powers.col, tiling.rows, power.value_or(0));
    if (power)
      ops.absorb_bounded(b.strip, tile, *power, total, cache != nullptr);
    else
      ops.absorb_psi(terms.op, b.strip, tile, total, false, {}, {});
    return log_2;
  };
  const auto add = [&](Workspace<Real>& b, SideSums& part, bool with_columns) {
    for (std::size_t k = 0; k < terms.tilts.size(); ++k) {
      Tile<Real> tile = b.tile;
      if (extras.copies) ops.tilted(b.strip, b.tile, Real(terms.tilts[k]), tile.s = b.copies[0]);
      const double log_base = absorb(b, tile);
      skipping.record(b, log_base);
      part.of_tilt[k].merge(0, b.strip.count, b.powers.row, log_base, b.total.row);
      if (with_columns) cols.of_tilt[k].merge(b.tile.first, b.tile.count, b.powers.col, log_base, b.total.col);
    }
    if (!terms.linear) return;
    const Sides<Real> count{b.counts.row, columns ? b.counts.col : nullptr};
    ops.linear(b.strip, b.tile, {b.total.row, columns ? b.total.col : nullptr}, count);
    part.merge_linear(0, b.strip.count, b.total.row, count.row);
    if (with_columns) cols.merge_linear(b.tile.first, b.tile.count, b.total.col, count.col);
  };
  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = crew[thread];
    SideSums& part = parts[tiling.place(t)];
    part.clear();
    const std::int64_t first_row = tiling.first_row(t.strip);
    tiling.tiles(t, b.tile, [&](bool diagonal) {
      if (reach.empty(first_row, b.tile.first) || skipping.falls(first_row, b.tile.first)) return;
      if (cache) cache->place(b.tile, first_row);
      b.score(ops, p, first_row, tiling.rows_of(t.strip));
      if (cache) cache->store(b.tile, first_row);
      add(b, part, columns && !diagonal);
    });
  };
  crew.run(tiling.plan, task, [&](std::int64_t strip, int) {
    tiling.parts(strip,
                 [&](std::int64_t place) { rows.merge(tiling.first_row(strip), tiling.rows_of(strip), parts[place]); });
  });
  return sums;
}

template Sums sum_pass<float>(const Problem&, const Terms&, const Options&, bool, Skipping<float>&, ScoreCache<float>*);
template Sums sum_pass<double>(const Problem&, const Terms&, const Options&, bool, Skipping<double>&,
                               ScoreCache<double>*);

}  // namespace jessl
