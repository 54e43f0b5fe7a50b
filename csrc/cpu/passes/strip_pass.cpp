// Values and gradients of rows in three products: the scores of a strip are kept until its log-sum-exps are known.
//
//   phase 0   s_ij of a segment, and its share of the row sums
//   phase 1   U_ij = g_i e^{s_ij − L_i} from these scores, with the slope g_i of the row's sum; and both products
//
// Two strips are in flight, so that phase 0 of the next one fills the gaps of phase 1.
#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "cpu/passes/grad_accumulator.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/simd/subnormal.h"

namespace jessl {

namespace {

constexpr std::int64_t slots = 2;

// The bytes of the kept scores.
template <class Real>
std::int64_t score_bytes(const Problem& p, std::int64_t rows) {
  return slots * Scratch::size_of<Real>((p.M() + rows) * padded<Real>(rows));
}

// The softmax weights of one strip's rows, shared by its tasks of phase 1. They change only when the slot's next strip
// begins, which is after the last of these tasks.
template <class Real>
struct StripWeights {
  std::mutex mutex;
  std::int64_t strip = -1;
  SoftmaxWeights<Real> weights{0, false};
};

}  // namespace

std::int64_t strip_rows(const Problem& p, std::int64_t workspace) {
  // With a quarter of the rows two passes are faster, because all columns are read once for each strip.
  constexpr std::int64_t fewest = most_rows / 2;
  if (p.symmetric || p.kind != Kind::dot || p.phi.name != PhiName::identity) return 0;
  const auto fits = [&](std::int64_t rows) {
    return (p.wide() ? score_bytes<double>(p, rows) : score_bytes<float>(p, rows)) <= for_scores(workspace);
  };
  std::int64_t rows = rows_for(p, workspace);
  while (rows > fewest && !fits(rows)) rows /= 2;
  return fits(rows) ? rows : 0;
}

bool keeps_scores(const Problem& p, bool of_scale, std::int64_t workspace) {
  const Extras extras = extras_of(p, of_scale);
  const std::int64_t rows = rows_for(p, workspace);
  return p.wide() ? ScoreCache<double>::fit(p, rows, extras, workspace)
                  : ScoreCache<float>::fit(p, rows, extras, workspace);
}

template <class Real>
bool strip_pass(const Problem& p, const Options& options, const StripSlopes& slopes_of, Gradients<Real> out) {
  const std::int64_t rows = strip_rows(p, options.workspace);
  if (rows == 0) return false;
  const std::int64_t lanes = padded<Real>(rows);
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const Tiling tiling =
      cut(p, rows, 2, slots, GradAccumulator<Real>::part_bytes(p, rows) + OnlineLse::bytes(rows), options.workspace);
  const Reach reach(p, tiling.rows);
  Skipping<Real> skipping(p, {}, rows, false);
  skipping.look_ahead(options);
  const std::optional<Real> power = common_power<Real>(p, options);

  Crew<Real> crew(p, tiling.rows, {}, options, tiling.bytes + score_bytes<Real>(p, rows));
  GradAccumulator<Real> accumulator(p, tiling, out);
  Scratch memory(score_bytes<Real>(p, rows));
  Real* kept[slots];
  for (Real*& strip : kept) strip = memory.take<Real>(score_bytes<Real>(p, rows) / slots / sizeof(Real));
  std::vector<OnlineLse> parts(tiling.places(), OnlineLse(tiling.rows));

  // Visits the tiles of a task: visit(whether there is nothing to do).
  const auto tiles = [&](const Task& t, Workspace<Real>& b, auto&& visit) {
    const std::int64_t first_row = tiling.first_row(t.strip);
    tiling.tiles(t, b.tile, [&](bool) {
      const std::int64_t first = b.tile.first;
      b.tile.s = {kept[t.strip % slots] + first * lanes, lanes};
      visit(reach.empty(first_row, first) ||
            (t.phase == 0 ? skipping.falls(first_row, first) : skipping.weightless(first_row, first)));
    });
  };
  const auto absorb = [&](const Task& t, Workspace<Real>& b) {
    OnlineLse& part = parts[tiling.place(t)];
    part.clear();
    std::fill_n(b.powers.row, lanes, power.value_or(0));
    tiles(t, b, [&](bool nothing) {
      if (nothing) return;
      b.score(ops, p, tiling.first_row(t.strip), tiling.rows_of(t.strip));
      double log_base = log_2;
      if (power)
        ops.absorb_bounded(b.strip, b.tile, *power, {b.total.row, nullptr}, true);
      else
        log_base = ops.absorb_any(b.strip, b.tile, {b.powers.row, nullptr}, {b.total.row, nullptr});
      skipping.record(b, log_base);
      part.merge(0, b.strip.count, b.powers.row, log_base, b.total.row);
    });
  };
  // The weights of a strip from the sums of all its segments, made by the first task of phase 1.
  StripWeights<Real> known[slots];
  const auto weights_of = [&](const Task& t, std::int64_t count) -> const SoftmaxWeights<Real>& {
    StripWeights<Real>& mine = known[t.strip % slots];
    const std::lock_guard lock(mine.mutex);
    if (mine.strip == t.strip) return mine.weights;
    OnlineLse whole(count);
    tiling.parts(t.strip,
                 [&](std::int64_t place) { whole.merge(0, count, parts[place].m.data(), 1.0, parts[place].z.data()); });
    std::vector<double> slopes(count);
    slopes_of(tiling.first_row(t.strip), whole, slopes.data());
    mine.weights = SoftmaxWeights<Real>(count, powers_suffice(whole.m));
    mine.weights.add(whole, slopes.data(), 1);
    mine.strip = t.strip;
    return mine.weights;
  };
  const auto backward = [&](const Task& t, Workspace<Real>& b) {
    Part<Real>& part = accumulator.begin(t);
    b.load(ops, p, tiling.first_row(t.strip), tiling.rows_of(t.strip), false);
    const SoftmaxWeights<Real>& weights = weights_of(t, b.strip.count);
    const bool last = t.strip == tiling.plan.strips - 1;
    tiles(t, b, [&](bool nothing) {
      if (nothing && !last) return;
      ops.load_tile(p, b.tile);
      if (nothing) return accumulator.finish_columns(b.tile);
      if (const FlushesSubnormals here; power)  // e^s / 2^power was kept
        ops.score_grad_from_terms(b.strip, b.tile, *power, weights.at(0), {});
      else
        ops.score_grad(Op::logsumexp, weights.log_base(), b.strip, b.tile, weights.at(0), {});
      accumulator.add(ops, b, part, false);
      if (last) accumulator.finish_columns(b.tile);
    });
  };
  crew.run(
      tiling.plan,
      [&](const Task& t, int thread) { t.phase == 0 ? absorb(t, crew[thread]) : backward(t, crew[thread]); },
      [&](std::int64_t strip, int thread) { accumulator.finish(ops, crew[thread], strip); });
  accumulator.finish_all();
  return true;
}

template bool strip_pass<float>(const Problem&, const Options&, const StripSlopes&, Gradients<float>);
template bool strip_pass<double>(const Problem&, const Options&, const StripSlopes&, Gradients<double>);

}  // namespace jessl
