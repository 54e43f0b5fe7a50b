// Sums alone: one pass over the tiles. Rows of a strip are complete when its segments are merged, in their order; columns
// take in strip after strip.
#include <vector>

#include "cpu/layout.h"
#include "cpu/passes.h"

namespace jessl {

template <class Real>
Sums sum_pass(const Problem& p, Op op, const Options& options, bool columns, Skipping<Real>& skipping, Kept<Real>* kept) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const std::int64_t slots = skipping.on() ? 16 : 4;
  const std::int64_t of_strip = rows_for(p, options.workspace);
  const Layout layout = cut(p, of_strip, 1, slots, Running::bytes(of_strip), options.workspace);
  const Extras extras{false, false};
  const int threads = useful_threads<Real>(p, layout.rows, extras, options, layout.bytes + (kept ? kept->bytes() : 0));
  const Reach reach(p, layout.rows);
  columns = columns || p.symmetric;
  skipping.look_ahead(options);

  std::optional<Real> power;
  if (op == Op::logsumexp) power = common_power<Real>(p);
  if (kept && !kept->on()) kept = nullptr;
  if (kept) kept->power = power;
  auto bench = benches<Real>(p, layout.rows, threads, extras);
  if (power || op != Op::logsumexp)  // all sums are measured from one power
    for (auto& b : bench)
      for (std::int64_t i = 0; i < layout.rows; ++i) b.powers.row[i] = b.powers.col[i] = power.value_or(0);

  Sums sums{Running(p.N()), Running(columns && !p.symmetric ? p.M() : 0)};
  Running &rows = sums.rows, &cols = p.symmetric ? sums.rows : sums.columns;
  std::vector<Running> parts(layout.places(), Running(layout.rows));

  const auto absorb = [&](Bench<Real>& b) {
    const Sides<Real> total{b.total.row, columns ? b.total.col : nullptr};
    if (op == Op::softplus) ops.absorb_softplus(b.strip, b.tile, total);
    if (power) ops.absorb_bounded(b.strip, b.tile, *power, total, kept != nullptr);
    if (power || op == Op::softplus) return log_2;
    return ops.absorb_any(b.strip, b.tile, {b.powers.row, columns ? b.powers.col : nullptr}, total);
  };
  const auto task = [&](const Task& t, int thread) {
    Bench<Real>& b = bench[thread];
    Running& part = parts[layout.place(t.strip, t.segment)];
    part.clear();
    const std::int64_t first_row = layout.first_row(t.strip);
    layout.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool diagonal) {
      if (reach.empty(first_row, first) || skipping.falls(first_row, first)) return;
      b.load(ops, p, first_row, layout.rows_of(t.strip));
      b.tile.first = first;
      b.tile.count = count;
      if (kept) kept->place(b.tile, first_row);
      ops.score(p, b.strip, b.tile);
      if (kept) kept->store(b.tile, first_row);
      ++b.work.scored;
      const double unit = absorb(b);
      skipping.record(b, unit);
      part.merge(0, b.strip.count, b.powers.row, unit, b.total.row);
      if (columns && !diagonal) cols.merge(first, count, b.powers.col, unit, b.total.col);
    });
  };
  const auto finish = [&](std::int64_t strip, int) {
    for (std::int64_t segment = layout.plan.first(strip); segment < layout.segments; ++segment) {
      const Running& part = parts[layout.place(strip, segment)];
      rows.merge(layout.first_row(strip), layout.rows_of(strip), part.m.data(), 1.0, part.z.data());
    }
  };
  run(layout.plan, threads, options.interrupted, task, finish);
  count_work(bench, options);
  return sums;
}

template Sums sum_pass<float>(const Problem&, Op, const Options&, bool, Skipping<float>&, Kept<float>*);
template Sums sum_pass<double>(const Problem&, Op, const Options&, bool, Skipping<double>&, Kept<double>*);

}  // namespace jessl
