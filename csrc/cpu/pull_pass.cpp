// Gradients for weights known beforehand: one pass over the tiles, each tile's S made again, turned into U, and pulled to the
// rows and the columns while it is in cache.
#include <algorithm>
#include <vector>

#include "cpu/collect.h"
#include "cpu/layout.h"
#include "cpu/passes.h"
#include "cpu/subnormal.h"

namespace jessl {

template <class Real>
void pull_pass(const Problem& p, Op op, double unit, const Options& options, const Weights<Real>& row,
               const Weights<Real>* col, Gradients<Real> out, Sides<Real> values, Skipping<Real>& skipping, bool measure,
               const Kept<Real>* kept) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t rows = rows_for(p, options.workspace);
  const std::int64_t slots = skipping.on() ? 8 : 2;
  const Layout layout = cut(p, rows, 1, slots, Collector<Real>::part_bytes(p, rows), options.workspace);
  const Extras extras = extras_of(p, out.scale);
  const int threads = useful_threads<Real>(p, layout.rows, extras, options, layout.bytes + (kept ? kept->bytes() : 0));
  const Reach reach(p, layout.rows);
  auto bench = benches<Real>(p, layout.rows, threads, extras);
  Collector<Real> collector(p, layout, out);

  if (kept && !kept->on()) kept = nullptr;

  // Values of a sum, where somebody asks: measured from 0, so that the sums are plain ones.
  const bool sums_rows = values.row != nullptr, sums_columns = values.col != nullptr || (sums_rows && p.symmetric);
  std::vector<double> row_sum(sums_rows ? p.N() : 0), col_sum_apart(values.col && !p.symmetric ? p.M() : 0);
  std::vector<double>& col_sum = p.symmetric ? row_sum : col_sum_apart;
  std::vector<std::vector<double>> sum_parts(sums_rows ? layout.places() : 0, std::vector<double>(layout.rows));

  const auto task = [&](const Task& t, int thread) {
    Bench<Real>& b = bench[thread];
    const std::int64_t place = layout.place(t.strip, t.segment);
    Part<Real>& part = collector.begin(t);
    if (sums_rows) std::fill(sum_parts[place].begin(), sum_parts[place].end(), 0.0);
    const std::int64_t first_row = layout.first_row(t.strip);
    const auto add = [&](std::int64_t first, bool diagonal) {
      b.load(ops, p, first_row, layout.rows_of(t.strip), kept == nullptr);
      if (kept) {
        kept->fetch(b.tile, first_row);
        ops.load_tile(p, b.tile);
      } else {
        ops.score(p, b.strip, b.tile);
        ++b.work.scored;
      }
      if (measure && skipping.on()) {
        skipping.record(b, ops.absorb_any(b.strip, b.tile, {b.powers.row, col ? b.powers.col : nullptr},
                                          {b.total.row, col ? b.total.col : nullptr}));
        if (skipping.weightless(first_row, first)) return;
      }
      const SideWeights<Real> of_rows = row.at(b.strip.first), of_columns = col ? col->at(first) : SideWeights<Real>{};
      if (const FlushesSubnormals here; sums_rows) {
        ops.absorb_and_weigh_softplus(b.strip, b.tile, {b.total.row, sums_columns ? b.total.col : nullptr}, of_rows, of_columns);
        for (std::int64_t i = 0; i < b.strip.count; ++i) sum_parts[place][i] += b.total.row[i];
        for (std::int64_t j = 0; sums_columns && !diagonal && j < b.tile.count; ++j) col_sum[first + j] += b.total.col[j];
      } else if (kept && kept->power) {
        ops.scale(b.strip, b.tile, *kept->power, of_rows, of_columns);
      } else {
        ops.weigh(op, unit, b.strip, b.tile, of_rows, of_columns);
      }
      collector.add(ops, b, part, diagonal);
    };
    const bool last = t.strip == layout.plan.strips - 1;
    layout.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool diagonal) {
      const bool nothing = reach.empty(first_row, first) || skipping.weightless(first_row, first);
      b.tile.first = first;
      b.tile.count = count;
      if (!nothing) add(first, diagonal);
      if (nothing && last) ops.load_tile(p, b.tile);
      if (last) collector.finish_columns(b.tile);
    });
  };
  const auto finish = [&](std::int64_t strip, int thread) {
    for (std::int64_t segment = layout.plan.first(strip); sums_rows && segment < layout.segments; ++segment)
      for (std::int64_t i = 0; i < layout.rows_of(strip); ++i)
        row_sum[layout.first_row(strip) + i] += sum_parts[layout.place(strip, segment)][i];
    bench[thread].load(ops, p, layout.first_row(strip), layout.rows_of(strip));
    collector.finish(ops, bench[thread], strip);
  };
  run(layout.plan, threads, options.interrupted, task, finish);
  collector.finish_all();
  count_work(bench, options);
  for (std::int64_t i = 0; sums_rows && i < p.N(); ++i) values.row[i] = Real(row_sum[i]);
  for (std::int64_t j = 0; values.col && j < p.M(); ++j) values.col[j] = Real(col_sum[j]);
}

template void pull_pass<float>(const Problem&, Op, double, const Options&, const Weights<float>&, const Weights<float>*,
                               Gradients<float>, Sides<float>, Skipping<float>&, bool, const Kept<float>*);
template void pull_pass<double>(const Problem&, Op, double, const Options&, const Weights<double>&, const Weights<double>*,
                                Gradients<double>, Sides<double>, Skipping<double>&, bool, const Kept<double>*);

}  // namespace jessl
