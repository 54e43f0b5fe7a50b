#include "cpu/passes/gathered_pass.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"
#include "cpu/simd/subnormal.h"
#include "cpu/skip/bounding.h"
#include "cpu/skip/gathering.h"
#include "cpu/tile/rows.h"

namespace jessl {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The problem, or with `swapped` its transpose, with ids in place of diagonals, because gathered columns have none: a
// row's id is the number of its partner.
class Direction {
 public:
  Direction(const Problem& given, bool swapped) : p(given) {
    Exclusion& e = p.exclude;
    Ids* next = e.same.data();
    while (next->row) ++next;
    const std::int64_t *row_number = e.moved.row_number, *col_place = e.moved.col_place;
    for (std::int64_t k = 0; k < e.diagonal_count; ++k) {
      const std::int64_t diagonal = e.diagonals[k];
      if (diagonal <= -p.N() || diagonal >= p.M()) continue;  // no pair
      std::vector<std::int32_t>&row = ids_.emplace_back(p.N()), &col = ids_.emplace_back(p.M());
      for (std::int64_t i = 0; i < p.N(); ++i) row[i] = std::int32_t((row_number ? row_number[i] : i) + diagonal);
      for (std::int64_t j = 0; j < p.M(); ++j) col[col_place ? col_place[j] : j] = std::int32_t(j);
      *next++ = {row.data(), col.data()};
    }
    e.diagonal_count = 0;
    e.moved = {};
    p.symmetric = false;
    if (!swapped) return;
    std::swap(p.x, p.y);
    std::swap(p.row_bias, p.col_bias);
    for (auto* const list : {&e.same, &e.different})
      for (Ids& pair : *list) std::swap(pair.row, pair.col);
    std::swap(e.without.row, e.without.col);
  }
  Direction(const Direction&) = delete;

  Problem p;

 private:
  std::deque<std::vector<std::int32_t>> ids_;
};

// Some columns of a problem side by side, as a problem of their own.
template <class Real>
class Gathered {
 public:
  Gathered(const Problem& p, std::int64_t most)
      : problem(p),
        given_(p),
        ld_(padded<Real>(p.D())),
        rows_(most * ld_),
        bias_(most),
        from_(most),
        factor_(most),
        place_(most),
        loaded_(most * ld_) {
    problem.y = {{Piece{rows_.data(), ld_, 1}}, most, p.D(), element_of<Real>};
    if (p.col_bias) problem.col_bias = bias_.data();
    for (auto& list : ids_) list.resize(most);
    each_pair([&](Ids& to, const Ids&, std::vector<std::int32_t>& list) { to.col = list.data(); });
  }
  Gathered(const Gathered&) = delete;

  std::int64_t count() const { return count_; }
  void clear() { count_ = 0; }
  Rows<Real> room() { return {loaded_.data(), ld_}; }

  void add(std::int64_t place, const Real* row) {
    std::copy_n(row, given_.D(), rows_.data() + count_ * ld_);
    if (given_.col_bias) bias_[count_] = static_cast<const Real*>(given_.col_bias)[place];
    each_pair([&](Ids&, const Ids& from, std::vector<std::int32_t>& list) { list[count_] = from.col[place]; });
    place_[count_++] = place;
  }

  // The gathered columns' part of weights; absent ones stay absent.
  SoftmaxSide<Real> part_of(SoftmaxSide<Real> side) {
    if (!side.factor) return {};
    for (std::int64_t k = 0; k < count_; ++k) from_[k] = side.from[place_[k]], factor_[k] = side.factor[place_[k]];
    return {from_.data(), factor_.data(), nullptr, nullptr};
  }

  Problem problem;

 private:
  // Calls f(ids of the gathered, ids of the given, their list) for all ids that the problem has.
  template <class F>
  void each_pair(F&& f) {
    std::size_t k = 0;
    const auto visit = [&](Ids& to, const Ids& from) {
      if (from.row) f(to, from, ids_[k]);
      ++k;
    };
    for (int n = 0; n < most_ids; ++n) visit(problem.exclude.same[n], given_.exclude.same[n]);
    for (int n = 0; n < most_ids; ++n) visit(problem.exclude.different[n], given_.exclude.different[n]);
    visit(problem.exclude.without, given_.exclude.without);
  }

  const Problem& given_;
  const std::int64_t ld_;
  std::vector<Real> rows_, bias_, from_, factor_;
  std::vector<std::int64_t> place_;
  std::vector<Real> loaded_;
  std::array<std::vector<std::int32_t>, 2 * most_ids + 1> ids_;
  std::int64_t count_ = 0;
};

template <class Real>
class Sweep {
 public:
  Sweep(const Problem& p, const Options& options, Extras extras)
      : p_(p),
        options_(options),
        ops_(tile_ops<Real>(options.level)),
        rows_(std::min(rows_for(p, options.workspace), most_rows / 2)),
        x_(p, p.x, p.row_bias, rows_),
        y_(p, p.y, p.col_bias, rows_),
        crew_(p, rows_, extras, options, 0),
        square_(square_beyond_support(p)) {
    for (int t = 0; t < options.threads; ++t) gathered_.emplace_back(p, rows_);
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t strips() const { return x_.groups(); }
  const TileOps<Real>& ops() const { return ops_; }

  // For each strip with rows among `which`: begin(strip, thread); visit(workspace, gathered columns, thread), its tile
  // scored, for each tile of gathered columns; end(strip, workspace, thread).
  template <class Begin, class Visit, class End>
  void run(Columns which, Begin&& begin, Visit&& visit, End&& end) {
    const std::int64_t first = which.first / rows_, last = (which.end + rows_ - 1) / rows_;
    crew_.run({.strips = last - first, .in_order = false}, [&](const Task& t, int thread) {
      const std::int64_t strip = first + t.strip;
      Workspace<Real>& b = crew_[thread];
      Gathered<Real>& gathered = gathered_[thread];
      begin(strip, thread);
      const auto flush = [&] {
        if (gathered.count() == 0) return;
        b.tile.first = 0;
        b.tile.count = gathered.count();
        b.score(ops_, gathered.problem, strip * rows_, x_.points_of(strip));
        visit(b, gathered, thread);
        gathered.clear();
      };
      gather(strip, gathered, flush);
      flush();
      b.load(ops_, p_, strip * rows_, x_.points_of(strip));
      end(strip, b, thread);
    });
  }

 private:
  template <class Flush>
  void gather(std::int64_t strip, Gathered<Real>& gathered, Flush&& flush) {
    const BoundingVolume own = x_[strip];
    for (std::int64_t t = 0; t < y_.groups(); ++t) {
      const BoundingVolume other = y_[t];
      const double most = largest_score(p_, own, other) + own.bias + other.bias;
      if (most == -infinity) continue;
      // NaN and infinity are not hidden.
      const bool every = !own.finite || !other.finite || !(own.bias + other.bias < infinity);
      const std::int64_t first = t * rows_, count = y_.points_of(t);
      const Rows<const Real> points = rows_ready<Real>(p_.y, first, count, nullptr, gathered.room());
      for (std::int64_t j = 0; j < count; ++j) {
        const Real* const point = points.data + j * points.ld;
        if (!every && !reaches(own, point, p_.D(), square_)) continue;
        gathered.add(first + j, point);
        if (gathered.count() == rows_) flush();
      }
    }
  }

  const Problem& p_;
  const Options& options_;
  const TileOps<Real>& ops_;
  const std::int64_t rows_;
  const BoundingVolumes x_, y_;
  Crew<Real> crew_;
  const double square_;
  std::deque<Gathered<Real>> gathered_;  // one for each thread
};

template <class Real>
SideSums sums_of(const Problem& p, const Options& options, std::optional<Real> power) {
  Sweep<Real> sweep(p, options, {});
  SideSums sums(Terms{}, p.N());
  std::vector<OnlineLse> parts(options.threads, OnlineLse(sweep.rows()));
  sweep.run(
      {0, p.N()}, [&](std::int64_t, int thread) { parts[thread].clear(); },
      [&](Workspace<Real>& b, Gathered<Real>&, int thread) {
        double log_base = log_2;
        std::fill_n(b.powers.row, b.strip.lanes, power.value_or(0));
        if (power)
          sweep.ops().absorb_bounded(b.strip, b.tile, *power, {b.total.row, nullptr}, false);
        else
          log_base = sweep.ops().absorb_any(b.strip, b.tile, {b.powers.row, nullptr}, {b.total.row, nullptr});
        parts[thread].merge(0, b.strip.count, b.powers.row, log_base, b.total.row);
      },
      [&](std::int64_t, Workspace<Real>& b, int thread) {
        OnlineLse& all = sums.of_tilt[0];
        std::copy_n(parts[thread].m.begin(), b.strip.count, all.m.begin() + b.strip.first);
        std::copy_n(parts[thread].z.begin(), b.strip.count, all.z.begin() + b.strip.first);
      });
  return sums;
}

// The gradients of the rows of a problem: dx = 2α Σ_j U_ij (y_j − x_i), written for the rows `which`, from that of the
// first of these on.
template <class Real>
struct OfRows {
  Real *x, *bias;
  double* scale;
  Columns which;
};

template <class Real>
void grads_of(const Problem& p, const Options& options, const SoftmaxWeights<Real>& row, SoftmaxSide<Real> col,
              const OfRows<Real>& out) {
  Sweep<Real> sweep(p, options, extras_of(p, out.scale != nullptr));
  const TileOps<Real>& ops = sweep.ops();
  const std::int64_t D = p.D(), ld = padded<Real>(D);
  struct Part {
    std::vector<Real> x;
    std::vector<double> bias;
    double scale;
    bool fresh;
  };
  std::vector<Part> parts(options.threads, Part{std::vector<Real>(sweep.rows() * ld), {}, 0, true});
  std::vector<double> scale_of_strip(sweep.strips());
  sweep.run(
      out.bias ? Columns{0, p.N()} : out.which,
      [&](std::int64_t, int thread) {
        parts[thread].bias.assign(sweep.rows(), 0);
        parts[thread].scale = 0;
        parts[thread].fresh = true;
      },
      [&](Workspace<Real>& b, Gathered<Real>& gathered, int thread) {
        Part& part = parts[thread];
        ++b.work.backward;
        {
          const FlushesSubnormals here;
          ops.score_grad(Op::logsumexp, row.log_base(), b.strip, b.tile, row.at(b.strip.first), gathered.part_of(col));
        }
        if (out.bias) {
          ops.sum(b.strip, b.tile, b.total);
          for (std::int64_t i = 0; i < b.strip.count; ++i) part.bias[i] += b.total.row[i];
        }
        ops.combine(b.strip, b.tile, b.tile.slope, true);
        if (out.scale) part.scale += ops.dot_t(b.strip, b.tile);
        if (out.x)
          ops.backward(gathered.problem, b.strip, b.tile, {part.x.data(), ld}, part.fresh, b.to_columns, {}, nullptr);
        part.fresh = false;
      },
      [&](std::int64_t strip, Workspace<Real>& b, int thread) {
        const Part& part = parts[thread];
        scale_of_strip[strip] = part.scale;
        for (std::int64_t i = 0; out.bias && i < b.strip.count; ++i) out.bias[b.strip.first + i] += Real(part.bias[i]);
        for (std::int64_t k = 0; out.x && !part.fresh && k < b.strip.count; ++k) {
          const std::int64_t i = b.strip.first + k;
          if (i < out.which.first || i >= out.which.end) continue;
          Real* const to = out.x + (i - out.which.first) * D;
          for (std::int64_t d = 0; d < D; ++d) to[d] += Real(2 * p.scale) * part.x[k * ld + d];
        }
      });
  for (const double scale : scale_of_strip)
    if (out.scale) *out.scale += scale;
}

}  // namespace

template <class Real>
Sums gathered_sums(const Problem& p, const Options& options, bool columns) {
  const std::optional<Real> power = common_power<Real>(p, options);
  Sums sums;
  sums.rows = sums_of<Real>(Direction(p, false).p, options, power);
  if (columns && !p.symmetric) sums.columns = sums_of<Real>(Direction(p, true).p, options, power);
  return sums;
}

template <class Real>
void gathered_grads(const Problem& p, const Options& options, const SweepWeights<Real>& weights,
                    const Gradients<Real>& out) {
  if (out.x || out.scale || out.row_bias) {
    double scale = 0;
    const Direction forward(p, false);
    grads_of<Real>(forward.p, options, weights.rows[0], weights.of_columns(0, 0),
                   {out.x, out.row_bias, out.scale ? &scale : nullptr, {0, p.N()}});
    if (out.scale) *out.scale += p.symmetric ? 0.5 * scale : scale;  // both ends of each pair
  }
  if (p.symmetric || !(out.y || out.col_bias)) return;
  const Direction back(p, true);
  const SoftmaxWeights<Real> none(p.M(), weights.rows[0].log_base() == log_2);
  grads_of<Real>(back.p, options, weights.columns.empty() ? none : weights.columns[0], weights.of_rows(0, 0),
                 {out.y, out.col_bias, nullptr, {out.columns.first, std::min(out.columns.end, p.M())}});
}

template Sums gathered_sums<float>(const Problem&, const Options&, bool);
template Sums gathered_sums<double>(const Problem&, const Options&, bool);
template void gathered_grads<float>(const Problem&, const Options&, const SweepWeights<float>&,
                                    const Gradients<float>&);
template void gathered_grads<double>(const Problem&, const Options&, const SweepWeights<double>&,
                                     const Gradients<double>&);

}  // namespace jessl
