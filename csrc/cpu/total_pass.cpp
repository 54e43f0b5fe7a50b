// The sum over all pairs and its gradient in one pass: every e^s counts as it is, so each tile's U is at hand with its sum.
#include <vector>

#include "cpu/collect.h"
#include "cpu/layout.h"
#include "cpu/passes.h"

namespace jessl {

template <class Real>
double total_pass(const Problem& p, const Options& options, Real power, Gradients<Real> out) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t rows = rows_for(p, options.workspace);
  const Layout layout = cut(p, rows, 1, 2, Collector<Real>::part_bytes(p, rows), options.workspace);
  const Extras extras = extras_of(p, out.scale);
  const int threads = useful_threads<Real>(p, layout.rows, extras, options, layout.bytes);
  const Reach reach(p, layout.rows);
  auto bench = benches<Real>(p, layout.rows, threads, extras);
  Collector<Real> collector(p, layout, out);
  std::vector<double> sum_of_strip(layout.plan.strips), sum_parts(layout.places());

  const auto task = [&](const Task& t, int thread) {
    Bench<Real>& b = bench[thread];
    Part<Real>& part = collector.begin(t);
    double& sum = sum_parts[layout.place(t.strip, t.segment)];
    sum = 0;
    b.load(ops, p, layout.first_row(t.strip), layout.rows_of(t.strip));
    const bool last = t.strip == layout.plan.strips - 1;
    layout.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool diagonal) {
      if (reach.empty(b.strip.first, first) && !last) return;
      b.tile.first = first;
      b.tile.count = count;
      ops.score(p, b.strip, b.tile);
      ++b.work.scored;
      ops.absorb_bounded(b.strip, b.tile, power, {b.total.row, nullptr}, true);
      const double twice = p.symmetric && !diagonal ? 2 : 1;
      for (std::int64_t i = 0; i < b.strip.count; ++i) sum += twice * double(b.total.row[i]);
      collector.add(ops, b, part, diagonal);
      if (last) collector.finish_columns(b.tile);
    });
  };
  const auto finish = [&](std::int64_t strip, int thread) {
    for (std::int64_t segment = layout.plan.first(strip); segment < layout.segments; ++segment)
      sum_of_strip[strip] += sum_parts[layout.place(strip, segment)];
    collector.finish(ops, bench[thread], strip);
  };
  run(layout.plan, threads, options.interrupted, task, finish);
  collector.finish_all();
  count_work(bench, options);
  double sum = 0;
  for (const double strip : sum_of_strip) sum += strip;
  return sum;
}

template double total_pass<float>(const Problem&, const Options&, float, Gradients<float>);
template double total_pass<double>(const Problem&, const Options&, double, Gradients<double>);

}  // namespace jessl
