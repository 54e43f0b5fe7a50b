// Two passes. The first makes o with sums that are rescaled when a larger score appears, so that no score is computed
// twice. The second makes the scores again, and
//
//   dv_j = Σ_i p_ij g_i        ∂/∂s_ij = p_ij (⟨g_i, v_j⟩ − ⟨g_i, o_i⟩)
//
// Products with the values and with g are those of a second problem, whose scores are ⟨g_i, v_j⟩.
#include "cpu/passes/attend.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

#include "cpu/passes/grad_accumulator.h"
#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/simd/subnormal.h"

namespace jessl {
namespace {

// The problem with the scores ⟨g_i, v_j⟩.
Problem value_problem(const Batch& g, const Batch& values) {
  return {.x = g,
          .y = values,
          .symmetric = false,
          .kind = Kind::dot,
          .phi = {},
          .scale = 1,
          .row_bias = nullptr,
          .col_bias = nullptr,
          .exclude = {},
          .distances = Distances::differences,
          .far_apart = 0,
          .center = nullptr};
}

// One workspace of the value problem for each thread.
template <class Real>
std::deque<Workspace<Real>> workspaces_of_values(const Problem& of_values, std::int64_t rows, int threads) {
  std::deque<Workspace<Real>> made;
  for (int t = 0; t < threads; ++t) made.emplace_back(of_values, rows, Extras{});
  return made;
}

// One segment's share of a strip: Σ_j e^{s_ij − from_i} v_j, and the sums of these exponentials. `from` is −inf for a
// row without a pair so far.
template <class Real>
struct Attended {
  Rows<Real> sums;
  std::vector<Real> from;
  std::vector<double> total;
  bool empty;

  void clear(Real reference) {
    std::fill(from.begin(), from.end(), reference);
    std::fill(total.begin(), total.end(), 0.0);
    empty = true;
  }

  // A reference for scores up to `most`: a multiple of 8, so that it seldom changes, and its difference from a score is
  // rounded no more than the score itself.
  static Real reference_of(Real most) { return 8 * std::floor(most / 8); }

  // Raises the references to those of a tile's largest scores.
  void raise(const Real* most, std::int64_t count, std::int64_t V) {
    for (std::int64_t i = 0; i < count; ++i) {
      const Real now = reference_of(most[i]);
      if (!std::isfinite(now) || now <= from[i]) continue;
      const Real factor = Real(std::exp(double(from[i]) - double(now)));
      Real* const row = sums.data + i * sums.ld;
      for (std::int64_t v = 0; !empty && v < V; ++v) row[v] *= factor;
      total[i] *= factor;
      from[i] = now;
    }
  }
};

template <class Real>
Real finite_or_zero(Real reference) {
  return std::isinf(reference) ? Real(0) : reference;
}

// o and the totals of a strip's rows, merged from its segments in their order.
template <class Real>
void merge(const Tiling& tiling, std::int64_t strip, const std::vector<Attended<Real>>& parts, std::int64_t V,
           Real* out, RowTotals<Real> to) {
  for (std::int64_t i = 0, row = tiling.first_row(strip); i < tiling.rows_of(strip); ++i, ++row) {
    Real most = -std::numeric_limits<Real>::infinity();
    tiling.parts(strip, [&](std::int64_t place) { most = std::max(most, parts[place].from[i]); });
    const double reference = finite_or_zero(most);
    Real* const o = out + row * V;
    std::fill_n(o, V, Real(0));
    double total = 0;
    tiling.parts(strip, [&](std::int64_t place) {
      const Attended<Real>& part = parts[place];
      if (part.empty) return;
      // Sums without a reference hold no finite score, and are 0 or infinite.
      const Real factor = std::isinf(part.from[i]) ? Real(1) : Real(std::exp(double(part.from[i]) - reference));
      total += double(factor) * part.total[i];
      for (std::int64_t v = 0; v < V; ++v) o[v] += factor * part.sums.data[i * part.sums.ld + v];
    });
    for (std::int64_t v = 0; total != 0 && v < V; ++v) o[v] = Real(double(o[v]) / total);
    to.reference[row] = Real(reference);
    to.total[row] = Real(total);
  }
}

}  // namespace

template <class Real>
void attend(const Problem& p, const Batch& values, const Options& options, Real* out, RowTotals<Real> totals) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const Problem of_values = value_problem(values, values);
  const std::int64_t rows = rows_for(p, options.workspace), V = values.columns, ld = padded<Real>(V);
  const std::int64_t part_bytes =
      Scratch::size_of<Real>(rows * ld) + rows * std::int64_t(sizeof(double) + sizeof(Real));
  const Tiling tiling = cut(p, rows, 1, 2, part_bytes, options.workspace);
  Crew<Real> crew(p, tiling.rows, {}, options, tiling.bytes, Workspace<Real>::bytes(of_values, tiling.rows, {}));
  std::deque<Workspace<Real>> of_thread = workspaces_of_values<Real>(of_values, tiling.rows, crew.threads());
  Scratch memory(tiling.places() * Scratch::size_of<Real>(rows * ld));
  std::vector<Attended<Real>> parts(tiling.places());
  for (Attended<Real>& part : parts) {
    part.sums = {memory.take<Real>(rows * ld), ld};
    part.from.resize(rows);
    part.total.resize(rows);
  }
  const Reach reach(p, tiling.rows);
  // If norms bound the scores, one reference suits them all, and no maxima are needed.
  const std::optional<Real> power = common_power<Real>(p, options);
  const Real common =
      power ? Attended<Real>::reference_of(Real(*power * log_2)) : -std::numeric_limits<Real>::infinity();
  crew.run(
      tiling.plan,
      [&](const Task& t, int thread) {
        Workspace<Real>&b = crew[thread], &w = of_thread[thread];
        Attended<Real>& part = parts[tiling.place(t)];
        part.clear(common);
        tiling.tiles(t, b.tile, [&](bool) {
          if (reach.empty(tiling.first_row(t.strip), b.tile.first)) return;
          b.score(ops, p, tiling.first_row(t.strip), tiling.rows_of(t.strip));
          if (!power) {
            ops.row_max(b.strip, b.tile, b.total.row);
            part.raise(b.total.row, b.strip.count, V);
          }
          for (std::int64_t i = 0; i < b.strip.count; ++i) b.powers.row[i] = finite_or_zero(part.from[i]);
          std::fill(b.powers.row + b.strip.count, b.powers.row + b.strip.lanes, Real(0));
          const FlushesSubnormals here;
          ops.to_terms(b.strip, b.tile, b.powers.row, b.total.row);
          for (std::int64_t i = 0; i < b.strip.count; ++i) part.total[i] += b.total.row[i];
          w.tile.first = b.tile.first;
          w.tile.count = b.tile.count;
          w.tile.close = false;
          ops.load_tile(of_values, w.tile);
          Tile<Real> terms = w.tile;
          terms.s = b.tile.s;
          ops.backward(of_values, b.strip, terms, part.sums, part.empty, w.to_columns, {}, nullptr);
          part.empty = false;
        });
      },
      [&](std::int64_t strip, int) { merge(tiling, strip, parts, V, out, totals); });
}

template <class Real>
void attend_grads(const Problem& p, const Batch& values, const Batch& upstream, const Options& options,
                  RowTotals<const Real> totals, const Real* inner, Gradients<Real> out, Real* of_values) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  const Problem with_values = value_problem(upstream, values);
  const std::int64_t rows = rows_for(p, options.workspace), V = values.columns;
  const Tiling tiling = cut(p, rows, 1, 2, GradAccumulator<Real>::part_bytes(p, rows), options.workspace);
  Crew<Real> crew(p, tiling.rows, extras_of(p, out.scale), options, tiling.bytes,
                  Workspace<Real>::bytes(with_values, tiling.rows, {}));
  std::deque<Workspace<Real>> of_thread = workspaces_of_values<Real>(with_values, tiling.rows, crew.threads());
  GradAccumulator<Real> accumulator(p, tiling, out);
  std::vector<Real> factor(p.N());
  for (std::int64_t i = 0; i < p.N(); ++i) factor[i] = totals.total[i] == 0 ? Real(0) : 1 / totals.total[i];
  const bool of_scores = out.any();
  const Reach reach(p, tiling.rows);
  crew.run(
      tiling.plan,
      [&](const Task& t, int thread) {
        Workspace<Real>&b = crew[thread], &w = of_thread[thread];
        Part<Real>& part = accumulator.begin(t);
        const std::int64_t first_row = tiling.first_row(t.strip), count = tiling.rows_of(t.strip);
        const bool last = t.strip == tiling.plan.strips - 1;
        tiling.tiles(t, b.tile, [&](bool) {
          if (!reach.empty(first_row, b.tile.first)) {
            b.score(ops, p, first_row, count);
            const FlushesSubnormals here;
            ops.score_grad(Op::logsumexp, 1, b.strip, b.tile, {totals.reference + first_row, factor.data() + first_row},
                           {});
            w.tile.first = b.tile.first;
            w.tile.count = b.tile.count;
            if (of_scores)
              w.score(ops, with_values, first_row, count);
            else
              w.load(ops, with_values, first_row, count, false);
            if (of_values) {
              Tile<Real> p_ij = w.tile;
              p_ij.s = b.tile.s;
              p_ij.close = false;
              ops.backward(with_values, w.strip, p_ij, {nullptr, 0}, false, w.to_columns, {0, b.tile.count},
                           of_values + b.tile.first * V);
            }
            if (of_scores) {
              ops.softmax_slope(b.strip, b.tile, w.tile.s, inner + first_row);
              accumulator.add(ops, b, part, false);
            }
          } else if (last) {
            ops.load_tile(p, b.tile);
          }
          if (last) accumulator.finish_columns(b.tile);
        });
      },
      [&](std::int64_t strip, int thread) {
        crew[thread].load(ops, p, tiling.first_row(strip), tiling.rows_of(strip));
        accumulator.finish(ops, crew[thread], strip);
      });
  accumulator.finish_all();
}

template void attend<float>(const Problem&, const Batch&, const Options&, float*, RowTotals<float>);
template void attend<double>(const Problem&, const Batch&, const Options&, double*, RowTotals<double>);
template void attend_grads<float>(const Problem&, const Batch&, const Batch&, const Options&, RowTotals<const float>,
                                  const float*, Gradients<float>, float*);
template void attend_grads<double>(const Problem&, const Batch&, const Batch&, const Options&, RowTotals<const double>,
                                   const double*, Gradients<double>, double*);

}  // namespace jessl
