// Gradients for weights known beforehand: one pass over the tiles, each tile's S made again, turned into U, and taken
// back to the rows and the columns while it is in cache.
#include <vector>

#include "cpu/passes/grad_accumulator.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/simd/subnormal.h"

namespace jessl {
namespace {

// A workspace's scores become their weights, those of all tilts together.
template <class Real>
void weigh(const TileOps<Real>& ops, const Terms& terms, const SweepWeights<Real>& weights, Workspace<Real>& b) {
  const auto one = [&](Tile<Real>& tile, std::size_t k) {
    ops.score_grad(terms.op, weights.log_base[k], b.strip, tile, weights.of_rows(k, b.strip.first),
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
    ops.add_tile(b.strip, other.s, total);
  }
  std::swap(b.tile.s, b.copies[0]);
}

}  // namespace

template <class Real>
void grad_pass(const Problem& p, const Terms& terms, const Options& options, const SweepWeights<Real>& weights,
               Gradients<Real> out, Sums* sums, Skipping<Real>& skipping, bool measure, const ScoreCache<Real>* cache) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t rows = rows_for(p, options.workspace);
  const std::int64_t slots = skipping.on() ? 8 : 2;
  const Tiling tiling = cut(p, rows, 1, slots, GradAccumulator<Real>::part_bytes(p, rows), options.workspace);
  Extras extras = extras_of(p, out.scale);
  extras.copies = terms.tilts.size() == 1 ? 0 : 2;
  if (cache && !cache->on()) cache = nullptr;
  const int threads =
      useful_threads<Real>(p, tiling.rows, extras, options, tiling.bytes + (cache ? cache->bytes() : 0));
  const Reach reach(p, tiling.rows);
  auto per_thread = workspaces<Real>(p, tiling.rows, threads, extras);
  GradAccumulator<Real> accumulator(p, tiling, out);
  const bool with_columns = weights.has_columns();

  // Sums of a ψ, where somebody asks.
  std::vector<double>* const row_sum = sums ? &sums->rows.of_tilt[0].z : nullptr;
  std::vector<double>* const col_sum = !sums                   ? nullptr
                                       : p.symmetric           ? row_sum
                                       : sums->columns.empty() ? nullptr
                                                               : &sums->columns.of_tilt[0].z;
  std::vector<std::vector<double>> sum_parts(sums ? tiling.places() : 0, std::vector<double>(tiling.rows));

  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = per_thread[thread];
    const std::int64_t place = tiling.place(t.strip, t.segment);
    Part<Real>& part = accumulator.begin(t);
    if (sums) std::fill(sum_parts[place].begin(), sum_parts[place].end(), 0.0);
    const std::int64_t first_row = tiling.first_row(t.strip);
    const auto add = [&](std::int64_t first, bool diagonal) {
      b.load(ops, p, first_row, tiling.rows_of(t.strip), cache == nullptr);
      if (cache) {
        cache->fetch(b.tile, first_row);
        ops.load_tile(p, b.tile);
      } else {
        ops.score(p, b.strip, b.tile);
        ++b.work.scored;
      }
      if (measure && skipping.on()) {
        skipping.record(b, ops.absorb_any(b.strip, b.tile, {b.powers.row, with_columns ? b.powers.col : nullptr},
                                          {b.total.row, with_columns ? b.total.col : nullptr}));
        if (skipping.weightless(first_row, first)) return;
      }
      if (const FlushesSubnormals here; sums) {
        ops.absorb_psi_with_grad(terms.op, b.strip, b.tile, {b.total.row, col_sum ? b.total.col : nullptr},
                                 weights.of_rows(0, first_row), weights.of_columns(0, first));
        for (std::int64_t i = 0; i < b.strip.count; ++i) sum_parts[place][i] += b.total.row[i];
        for (std::int64_t j = 0; col_sum && !diagonal && j < b.tile.count; ++j) (*col_sum)[first + j] += b.total.col[j];
      } else if (cache && cache->power) {
        ops.score_grad_from_terms(b.strip, b.tile, *cache->power, weights.of_rows(0, first_row),
                                  weights.of_columns(0, first));
      } else {
        weigh(ops, terms, weights, b);
      }
      accumulator.add(ops, b, part, diagonal);
    };
    const bool last = t.strip == tiling.plan.strips - 1;
    tiling.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool diagonal) {
      b.tile.first = first;
      b.tile.count = count;
      const bool nothing = reach.empty(first_row, first) || skipping.weightless(first_row, first) ||
                           !(sums || accumulator.asks_for(b.tile));
      if (!nothing) add(first, diagonal);
      if (nothing && last) ops.load_tile(p, b.tile);
      if (last) accumulator.finish_columns(b.tile);
    });
  };
  const auto finish = [&](std::int64_t strip, int thread) {
    for (std::int64_t segment = tiling.plan.first(strip); sums && segment < tiling.segments; ++segment)
      for (std::int64_t i = 0; i < tiling.rows_of(strip); ++i)
        (*row_sum)[tiling.first_row(strip) + i] += sum_parts[tiling.place(strip, segment)][i];
    per_thread[thread].load(ops, p, tiling.first_row(strip), tiling.rows_of(strip));
    accumulator.finish(ops, per_thread[thread], strip);
  };
  run(tiling.plan, threads, options.interrupted, task, finish);
  accumulator.finish_all();
  count_work(per_thread, options);
}

template void grad_pass<float>(const Problem&, const Terms&, const Options&, const SweepWeights<float>&,
                               Gradients<float>, Sums*, Skipping<float>&, bool, const ScoreCache<float>*);
template void grad_pass<double>(const Problem&, const Terms&, const Options&, const SweepWeights<double>&,
                                Gradients<double>, Sums*, Skipping<double>&, bool, const ScoreCache<double>*);

}  // namespace jessl
