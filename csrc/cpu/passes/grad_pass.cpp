// Gradients for known weights: one pass over the tiles. Each tile's scores are computed again, turned into U, and taken
// back to the rows and columns while they are in cache.
#include <vector>

#include "cpu/passes/gathered_pass.h"
#include "cpu/passes/grad_accumulator.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/skip/gathering.h"
#include "cpu/simd/subnormal.h"

namespace jessl {
namespace {

// A workspace's scores become their weights, summed over all tilts.
template <class Real>
void weigh(const TileOps<Real>& ops, const Terms& terms, const SweepWeights<Real>& weights, Workspace<Real>& b) {
  const auto one = [&](Tile<Real>& tile, std::size_t k) {
    ops.score_grad(terms.op, weights.rows[k].log_base(), b.strip, tile, weights.of_rows(k, b.strip.first),
                   weights.of_columns(k, b.tile.first));
  };
  const auto tilt = [&](std::size_t k) { return Real(terms.tilts[k]); };
  if (terms.tilts.size() == 1) {
    if (tilt(0) != 1) ops.tilted(b.strip, b.tile, tilt(0), b.tile.s);
    return one(b.tile, 0);
  }
  Tile<Real> total = b.tile, other = b.tile;
  ops.tilted(b.strip, b.tile, tilt(0), total.s = b.copies[0]);
  one(total, 0);
  for (std::size_t k = 1; k < terms.tilts.size(); ++k) {
    ops.tilted(b.strip, b.tile, tilt(k), other.s = b.copies[1]);
    one(other, k);
    ops.combine(b.strip, total, other.s, false);
  }
  std::swap(b.tile.s, b.copies[0]);
}

}  // namespace

template <class Real>
void grad_pass(const Problem& p, const Terms& terms, const Options& options, const SweepWeights<Real>& weights,
               Gradients<Real> out, Skipping<Real>& skipping, const GradPass<Real>& how) {
  if (gathers(p, terms) && !how.sums) return gathered_grads<Real>(p, options, weights, out);
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t rows = rows_for(p, options.workspace);
  const std::int64_t slots = skipping.on() ? 8 : 2;
  const Tiling tiling = cut(p, rows, 1, slots, GradAccumulator<Real>::part_bytes(p, rows), options.workspace);
  Extras extras = extras_of(p, out.scale);
  extras.copies = terms.tilts.size() == 1 ? 0 : 2;
  const ScoreCache<Real>* const cache = how.cache && how.cache->on() ? how.cache : nullptr;
  const Reach reach(p, tiling.rows);
  Crew<Real> crew(p, tiling.rows, extras, options, tiling.bytes + (cache ? cache->bytes() : 0));
  GradAccumulator<Real> accumulator(p, tiling, out);
  const bool with_columns = weights.has_columns();

  Sums* const sums = how.sums;
  std::vector<double>* const row_sum = sums ? &sums->rows.of_tilt[0].z : nullptr;
  std::vector<double>* const col_sum = !sums                   ? nullptr
                                       : p.symmetric           ? row_sum
                                       : sums->columns.empty() ? nullptr
                                                               : &sums->columns.of_tilt[0].z;
  std::vector<std::vector<double>> sum_parts(sums ? tiling.places() : 0, std::vector<double>(tiling.rows));

  // Scores become weights; their sums are added up if requested.
  const auto to_weights = [&](Workspace<Real>& b, std::vector<double>* sum_part, bool diagonal) {
    const std::int64_t first_row = b.strip.first, first = b.tile.first;
    const FlushesSubnormals here;
    if (!sums && (!cache || !cache->power)) return weigh(ops, terms, weights, b);
    if (!sums)
      return ops.score_grad_from_terms(b.strip, b.tile, *cache->power, weights.of_rows(0, first_row),
                                       weights.of_columns(0, first));
    const Sides<Real> total{b.total.row, col_sum ? b.total.col : nullptr};
    if (how.power)
      ops.absorb_bounded(b.strip, b.tile, *how.power, total, true);
    else
      ops.absorb_psi(terms.op, b.strip, b.tile, total, true, weights.of_rows(0, first_row),
                     weights.of_columns(0, first));
    for (std::int64_t i = 0; i < b.strip.count; ++i) (*sum_part)[i] += b.total.row[i];
    for (std::int64_t j = 0; col_sum && !diagonal && j < b.tile.count; ++j) (*col_sum)[first + j] += b.total.col[j];
  };
  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = crew[thread];
    Part<Real>& part = accumulator.begin(t);
    std::vector<double>* const sum_part = sums ? &sum_parts[tiling.place(t)] : nullptr;
    if (sums) std::fill(sum_part->begin(), sum_part->end(), 0.0);
    const std::int64_t first_row = tiling.first_row(t.strip), count = tiling.rows_of(t.strip);
    const auto add = [&](bool diagonal) {
      if (cache) {
        b.load(ops, p, first_row, count, false);
        cache->fetch(b.tile, first_row);
        ops.load_tile(p, b.tile);
      } else {
        b.score(ops, p, first_row, count);
      }
      if (how.measure && skipping.on()) {
        skipping.record(b, ops.absorb_any(b.strip, b.tile, {b.powers.row, with_columns ? b.powers.col : nullptr},
                                          {b.total.row, with_columns ? b.total.col : nullptr}));
        if (skipping.weightless(first_row, b.tile.first)) return;
      }
      to_weights(b, sum_part, diagonal);
      accumulator.add(ops, b, part, diagonal);
    };
    const bool last = t.strip == tiling.plan.strips - 1;
    tiling.tiles(t, b.tile, [&](bool diagonal) {
      const bool nothing = reach.empty(first_row, b.tile.first) || skipping.weightless(first_row, b.tile.first) ||
                           !(sums || accumulator.asks_for(b.tile));
      if (!nothing) add(diagonal);
      if (nothing && last) ops.load_tile(p, b.tile);
      if (last) accumulator.finish_columns(b.tile);
    });
  };
  crew.run(tiling.plan, task, [&](std::int64_t strip, int thread) {
    const std::int64_t first_row = tiling.first_row(strip), count = tiling.rows_of(strip);
    tiling.parts(strip, [&](std::int64_t place) {
      for (std::int64_t i = 0; sums && i < count; ++i) (*row_sum)[first_row + i] += sum_parts[place][i];
    });
    crew[thread].load(ops, p, first_row, count);
    accumulator.finish(ops, crew[thread], strip);
  });
  accumulator.finish_all();
}

template void grad_pass<float>(const Problem&, const Terms&, const Options&, const SweepWeights<float>&,
                               Gradients<float>, Skipping<float>&, const GradPass<float>&);
template void grad_pass<double>(const Problem&, const Terms&, const Options&, const SweepWeights<double>&,
                                Gradients<double>, Skipping<double>&, const GradPass<double>&);

}  // namespace jessl
