// The sum over all pairs and its gradient in one pass: every e^s counts as it is, so each tile's U is at hand with its
// sum.
#include <vector>

#include "cpu/passes/grad_accumulator.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"

namespace jessl {

template <class Real>
double total_pass(const Problem& p, const Options& options, Real power, Gradients<Real> out) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t rows = rows_for(p, options.workspace);
  const Tiling tiling = cut(p, rows, 1, 2, GradAccumulator<Real>::part_bytes(p, rows), options.workspace);
  const Extras extras = extras_of(p, out.scale);
  const int threads = useful_threads<Real>(p, tiling.rows, extras, options, tiling.bytes);
  const Reach reach(p, tiling.rows);
  auto per_thread = workspaces<Real>(p, tiling.rows, threads, extras);
  GradAccumulator<Real> accumulator(p, tiling, out);
  std::vector<double> sum_of_strip(tiling.plan.strips), sum_parts(tiling.places());

  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = per_thread[thread];
    Part<Real>& part = accumulator.begin(t);
    double& sum = sum_parts[tiling.place(t.strip, t.segment)];
    sum = 0;
    b.load(ops, p, tiling.first_row(t.strip), tiling.rows_of(t.strip));
    const bool last = t.strip == tiling.plan.strips - 1;
    tiling.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool diagonal) {
      if (reach.empty(b.strip.first, first) && !last) return;
      b.tile.first = first;
      b.tile.count = count;
      ops.score(p, b.strip, b.tile);
      ++b.work.scored;
      ops.absorb_bounded(b.strip, b.tile, power, {b.total.row, nullptr}, true);
      const double twice = p.symmetric && !diagonal ? 2 : 1;
      for (std::int64_t i = 0; i < b.strip.count; ++i) sum += twice * double(b.total.row[i]);
      accumulator.add(ops, b, part, diagonal);
      if (last) accumulator.finish_columns(b.tile);
    });
  };
  const auto finish = [&](std::int64_t strip, int thread) {
    for (std::int64_t segment = tiling.plan.first(strip); segment < tiling.segments; ++segment)
      sum_of_strip[strip] += sum_parts[tiling.place(strip, segment)];
    accumulator.finish(ops, per_thread[thread], strip);
  };
  run(tiling.plan, threads, options.interrupted, task, finish);
  accumulator.finish_all();
  count_work(per_thread, options);
  double sum = 0;
  for (const double strip : sum_of_strip) sum += strip;
  return sum;
}

template double total_pass<float>(const Problem&, const Options&, float, Gradients<float>);
template double total_pass<double>(const Problem&, const Options&, double, Gradients<double>);

}  // namespace jessl
