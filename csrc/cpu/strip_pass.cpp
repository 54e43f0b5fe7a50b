// Values and gradients of rows in three products: the scores of a strip are kept until its log-sum-exps are known.
//
//   phase 0   s_ij of a segment, and its share of the row sums
//   phase 1   U_ij = w_i σ_i e^{s_ij − L_i} from them, σ_i the anchor's share, and both products
//
// Two strips are in flight, so that phase 0 of the next fills the gaps of phase 1.
#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "cpu/collect.h"
#include "cpu/layout.h"
#include "cpu/passes.h"
#include "cpu/subnormal.h"

namespace jessl {

namespace {

constexpr std::int64_t slots = 2;

// Of the scores that are kept.
template <class Real>
std::int64_t score_bytes(const Problem& p, std::int64_t rows) {
  return slots * Scratch::size_of<Real>((p.M() + rows) * padded<Real>(rows));
}

// What the rows of one strip weigh, shared by the tasks that pull them. Until the slot's next strip begins, which is after
// the last of these, nobody changes it.
template <class Real>
struct StripWeights {
  std::mutex mutex;
  std::int64_t strip = -1;
  bool powers = false;
  Weights<Real> weights{0};
};

}  // namespace

std::int64_t strip_rows(const Problem& p, std::int64_t workspace) {
  constexpr std::int64_t fewest = most_rows / 2;  // a quarter loses to two passes: all columns are read once for each strip
  if (p.symmetric || p.kind != Kind::dot || p.phi.name != PhiName::identity) return 0;
  const auto fits = [&](std::int64_t rows) {
    return (p.wide() ? score_bytes<double>(p, rows) : score_bytes<float>(p, rows)) <= for_scores(workspace);
  };
  std::int64_t rows = rows_for(p, workspace);
  while (rows > fewest && !fits(rows)) rows /= 2;
  return fits(rows) ? rows : 0;
}

template <class Real>
bool strip_pass(const Problem& p, const Options& options, Weighted<Real> row, Real* values, Gradients<Real> out) {
  const std::int64_t rows = strip_rows(p, options.workspace);
  if (rows == 0) return false;
  const std::int64_t lanes = padded<Real>(rows);
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const Layout layout = cut(p, rows, 2, slots, Collector<Real>::part_bytes(p, rows) + Running::bytes(rows), options.workspace);
  const Extras extras{false, false};
  const int threads = useful_threads<Real>(p, layout.rows, extras, options, layout.bytes + score_bytes<Real>(p, rows));
  const Reach reach(p, layout.rows);
  Skipping<Real> skipping(p, Op::logsumexp, rows, false);
  skipping.look_ahead(options);
  const std::optional<Real> power = common_power<Real>(p);

  auto bench = benches<Real>(p, layout.rows, threads, extras);
  Collector<Real> collector(p, layout, out);
  Scratch memory(score_bytes<Real>(p, rows));
  Real* kept[slots];
  for (Real*& strip : kept) strip = memory.take<Real>(score_bytes<Real>(p, rows) / slots / sizeof(Real));
  std::vector<Running> parts(layout.places(), Running(layout.rows));

  const auto tiles = [&](const Task& t, Bench<Real>& b, auto&& visit) {
    const std::int64_t first_row = layout.first_row(t.strip);
    layout.tiles(t.strip, t.segment, [&](std::int64_t first, std::int64_t count, bool) {
      b.tile.first = first;
      b.tile.count = count;
      b.tile.s = {kept[t.strip % slots] + first * lanes, lanes};
      visit(reach.empty(first_row, first) || (t.phase == 0 ? skipping.falls(first_row, first) : skipping.weightless(first_row, first)));
    });
  };
  const auto absorb = [&](const Task& t, Bench<Real>& b) {
    Running& part = parts[layout.place(t.strip, t.segment)];
    part.clear();
    std::fill_n(b.powers.row, lanes, power.value_or(0));
    tiles(t, b, [&](bool nothing) {
      if (nothing) return;
      b.load(ops, p, layout.first_row(t.strip), layout.rows_of(t.strip));
      ops.score(p, b.strip, b.tile);
      ++b.work.scored;
      double unit = log_2;
      if (power)
        ops.absorb_bounded(b.strip, b.tile, *power, {b.total.row, nullptr}, true);
      else
        unit = ops.absorb_any(b.strip, b.tile, {b.powers.row, nullptr}, {b.total.row, nullptr});
      skipping.record(b, unit);
      part.merge(0, b.strip.count, b.powers.row, unit, b.total.row);
    });
  };
  // The weights of a strip, from the sums of all its segments: made by the first task of phase 1 that needs them.
  StripWeights<Real> known[slots];
  const auto weights_of = [&](const Task& t, std::int64_t count) -> const StripWeights<Real>& {
    StripWeights<Real>& mine = known[t.strip % slots];
    const std::lock_guard lock(mine.mutex);
    if (mine.strip == t.strip) return mine;
    Running whole(layout.rows);
    for (std::int64_t segment = 0; segment < layout.segments; ++segment) {
      const Running& part = parts[layout.place(t.strip, segment)];
      whole.merge(0, count, part.m.data(), 1.0, part.z.data());
    }
    const std::int64_t first = layout.first_row(t.strip);
    for (std::int64_t i = 0; i < count; ++i) values[first + i] = whole.log_sum_exp<Real>(i);
    mine.powers = powers_suffice(whole.m.data(), count);
    mine.weights = Weights<Real>(count);
    mine.weights.add(row.from(first), whole, mine.powers);
    mine.strip = t.strip;
    return mine;
  };
  const auto pull = [&](const Task& t, Bench<Real>& b) {
    Part<Real>& part = collector.begin(t);
    b.load(ops, p, layout.first_row(t.strip), layout.rows_of(t.strip), false);
    const StripWeights<Real>& known_now = weights_of(t, b.strip.count);
    const SideWeights<Real> weights = known_now.weights.at(0);
    const bool last = t.strip == layout.plan.strips - 1;
    tiles(t, b, [&](bool nothing) {
      if (nothing && !last) return;
      ops.load_tile(p, b.tile);
      if (nothing) return collector.finish_columns(b.tile);
      if (const FlushesSubnormals here; power)  // e^s / 2^power was kept
        ops.scale(b.strip, b.tile, *power, weights, {});
      else
        ops.weigh(Op::logsumexp, known_now.powers ? log_2 : 1, b.strip, b.tile, weights, {});
      collector.add(ops, b, part, false);
      if (last) collector.finish_columns(b.tile);
    });
  };
  const auto task = [&](const Task& t, int thread) { t.phase == 0 ? absorb(t, bench[thread]) : pull(t, bench[thread]); };
  const auto finish = [&](std::int64_t strip, int thread) { collector.finish(ops, bench[thread], strip); };
  run(layout.plan, threads, options.interrupted, task, finish);
  collector.finish_all();
  count_work(bench, options);
  return true;
}

template bool strip_pass<float>(const Problem&, const Options&, Weighted<float>, float*, Gradients<float>);
template bool strip_pass<double>(const Problem&, const Options&, Weighted<double>, double*, Gradients<double>);

}  // namespace jessl
