// Sums and their gradients, without positives, against plain loops, at every level and on several threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "many_problems.h"

namespace jessl::test {
namespace {

// Everything that a pass may write. Parts that are not requested stay empty, and their pointers null.
template <class Real>
struct Written {
  std::vector<Real> row, col, x, y, row_bias, col_bias, score;
  std::vector<double> scale, value;
  Columns columns = {0, std::numeric_limits<std::int64_t>::max()};

  Gradients<Real> gradients() {
    return {at(x), at(y), scale.empty() ? nullptr : scale.data(), at(row_bias), at(col_bias), columns};
  }
  static Real* at(std::vector<Real>& v) { return v.empty() ? nullptr : v.data(); }
  bool operator==(const Written& o) const {
    return same_bits(row, o.row) && same_bits(col, o.col) && same_bits(x, o.x) && same_bits(y, o.y) &&
           same_bits(row_bias, o.row_bias) && same_bits(col_bias, o.col_bias) && same_bits(scale, o.scale) &&
           same_bits(score, o.score) && same_bits(value, o.value);
  }
};

// The requested gradients: all, or some of them.
template <class Real>
Written<Real> wanted(const Given<Real>& g, std::uint64_t which) {
  Written<Real> w;
  const unsigned bits = which % 3 ? 31u : unsigned(Random{which}.below(32));
  const bool apart = !g.problem.symmetric;
  if (bits & 1) w.x.resize(g.N * g.D);
  if ((bits & 2) && apart) {
    w.columns = which % 4 ? Columns{0, g.M} : Columns{g.M / 3, g.M - g.M / 4};  // all, or some
    w.y.resize((w.columns.end - w.columns.first) * g.D);
  }
  if (bits & 4) w.scale.resize(1);
  if ((bits & 8) && apart) w.row_bias.resize(g.N);
  if ((bits & 16) && apart) w.col_bias.resize(g.M);
  return w;
}

template <class Real>
void compare_gradients(const Given<Real>& g, const std::string& what, const Written<Real>& ours,
                       const NaiveGradients& truth) {
  compare(g, what + ", dx", ours.x, truth.x);
  if (!ours.y.empty())
    compare(g, what + ", dy", ours.y,
            {truth.y.begin() + ours.columns.first * g.D, truth.y.begin() + ours.columns.end * g.D});
  compare(g, what + ", d row bias", ours.row_bias, truth.row_bias);
  compare(g, what + ", d col bias", ours.col_bias, truth.col_bias);
  if (ours.scale.empty()) return;
  check(std::abs(ours.scale[0] - truth.scale.value) <= g.tolerance(truth.scale), what, ", dα: ", ours.scale[0],
        ", truth ", truth.scale.value, ", allowed ", g.tolerance(truth.scale));
}

// A problem of rows, and of columns if requested, without positives; and a loss that adds them up with these weights.
RowProblem plain(const Problem& p, Op op, bool columns) {
  RowProblem problem{p, {}, {}, {}};
  problem.negatives.op = op;
  problem.cols = columns;
  return problem;
}
template <class Real>
Loss weighted(const std::vector<Real>& rows, const std::vector<Real>& columns) {
  return {*join_of("none"), Reduction::sum, 1, rows.data(), columns.empty() ? nullptr : columns.data()};
}

// Sums as references and totals, returned as values.
template <class Real>
struct Summed {
  std::vector<Real> reference, total;
  explicit Summed(std::int64_t n) : reference(n), total(n) {}
  SideArrays<Real> arrays(Op op) {
    return {{op == Op::logsumexp ? reference.data() : nullptr, total.data(), nullptr, nullptr}, {}};
  }
  std::vector<Real> values(Op op) const {
    std::vector<Real> values = total;
    for (std::size_t i = 0; i < values.size() && op == Op::logsumexp; ++i)
      values[i] = Real(std::log((long double)total[i]) + reference[i]);
    return values;
  }
};
// Log-sum-exps as sums: e^0 times e^L.
template <class Real>
Summed<Real> sums_of(const std::vector<Real>& values, Op op) {
  Summed<Real> sums(std::int64_t(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool none = op == Op::logsumexp && std::isinf(values[i]);
    sums.reference[i] = none ? Real(0) : values[i];
    sums.total[i] = op != Op::logsumexp ? values[i] : Real(none ? 0 : 1);
  }
  return sums;
}

void judge_values(const Shape& shape, std::uint64_t seed) {
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const Op op : {Op::logsumexp, Op::softplus}) {
      const Answers row = g.row_values(op), col = g.col_values(op);
      for (const bool columns : {false, true}) {
        const auto solve = [&](const Options& options) {
          Summed<Real> rows(g.N), cols(columns ? g.M : 0);
          row_sums<Real>(plain(g.problem, op, columns), options, rows.arrays(op),
                         columns ? cols.arrays(op) : SideArrays<Real>{});
          Written<Real> w;
          w.row = rows.values(op), w.col = cols.values(op);
          return w;
        };
        at_every_level(shape, solve, [&](const Written<Real>& w, const std::string& where) {
          compare(g, where + ", rows", w.row, row);
          if (columns) compare(g, where + ", columns", w.col, col);
        });
      }
    }
  });
}

void judge_gradients(const Shape& shape, std::uint64_t seed) {
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const Op op : {Op::logsumexp, Op::softplus}) {
      const bool columns = g.problem.symmetric || seed % 2, sum = op == Op::softplus;
      const Answers row = g.row_values(op), col = g.col_values(op);
      const NaiveGradients truth = g.gradients(op, columns, false);
      const auto g_row = as<Real>(g.upstream.row), g_col = as<Real>(g.upstream.col);
      Summed<Real> rows = sums_of(as<Real>(row), op), cols = sums_of(as<Real>(col), op);
      // In a symmetric problem the upstream gradients of rows are those of columns too.
      const bool apart = columns && !g.problem.symmetric;
      const RowProblem problem = plain(g.problem, op, apart);
      const auto solve = [&](const Options& options) {
        Written<Real> w = wanted(g, seed);
        if (sum && seed % 5)
          w.value = {row_loss<Real>(problem, options, weighted(g_row, apart ? g_col : std::vector<Real>()),
                                    w.gradients(), {})};
        else
          row_grads<Real>(problem, options, rows.arrays(op), apart ? cols.arrays(op) : SideArrays<Real>{},
                          {g_row.data(), nullptr, nullptr, nullptr},
                          {apart ? g_col.data() : nullptr, nullptr, nullptr, nullptr}, w.gradients(), {});
        return w;
      };
      Sized value;
      for (std::int64_t i = 0; i < g.N; ++i) value.add(row[i].value * g_row[i], 1), value.size += row[i].size;
      for (std::int64_t j = 0; apart && j < g.M; ++j) value.add(col[j].value * g_col[j], 1), value.size += col[j].size;
      at_every_level(shape, solve, [&](const Written<Real>& w, const std::string& where) {
        compare_gradients(g, where + (sum ? ", softplus" : ", logsumexp"), w, truth);
        for (const double ours : w.value) check(near(g, Real(ours), value), where, ": ", ours, ", truth ", value.value);
      });
    }
  });
}

void judge_both_at_once(const Shape& shape, std::uint64_t seed) {
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const bool anchored : {false, true}) {
      const NaiveGradients truth = g.gradients(Op::logsumexp, false, anchored);
      const auto weight = as<Real>(g.upstream.row), anchor = as<Real>(g.upstream.anchor);
      RowProblem problem = plain(g.problem, Op::logsumexp, false);
      if (anchored) problem.positives.score = anchor.data();
      Loss loss = weighted(weight, {});
      if (anchored) loss.join = *join_of("softplus");
      const Answers row = g.row_values(Op::logsumexp);
      const auto solve = [&](const Options& options) {
        Written<Real> w = wanted(g, seed);
        if (anchored) w.score.resize(g.N);
        row_loss<Real>(problem, options, loss, w.gradients(), {anchored ? w.score.data() : nullptr, nullptr, nullptr});
        return w;
      };
      Answers of_score;
      for (std::int64_t i = 0; i < g.N; ++i) {
        const double slope = weight[i] / (1 + std::exp(double(anchor[i]) - row[i].value));
        constexpr double smallest = std::numeric_limits<Real>::min() / std::numeric_limits<Real>::epsilon();
        of_score.push_back({-slope, std::abs(slope) * (1 + row[i].size) + smallest});
      }
      at_every_level(shape, solve, [&](const Written<Real>& w, const std::string& where) {
        compare_gradients(g, where + (anchored ? ", anchored" : ""), w, truth);
        if (anchored) compare(g, where + ", d score", w.score, of_score);
      });
    }
  });
}

}  // namespace

FACT(values_of_small_problems_are_those_of_plain_loops_at_every_level) { judge_all(shapes(1, 150), judge_values); }
FACT(gradients_of_small_problems_are_those_of_plain_loops_at_every_level) {
  judge_all(shapes(2, 150), judge_gradients);
}
FACT(values_and_gradients_in_one_call_are_those_of_plain_loops_at_every_level) {
  judge_all(shapes(3, 60, true), judge_both_at_once);
}

FACT(values_of_kernels_with_a_support_are_those_of_plain_loops) { judge_all(kernel_shapes(), judge_values); }
FACT(gradients_of_kernels_with_a_support_are_those_of_plain_loops) { judge_all(kernel_shapes(), judge_gradients); }
FACT(values_of_large_problems_have_the_same_bits_on_1_2_and_5_threads) { judge_all(large_shapes(), judge_values); }
FACT(gradients_of_large_problems_have_the_same_bits_on_1_2_and_5_threads) {
  judge_all(large_shapes(), judge_gradients);
}
FACT(values_and_gradients_of_large_problems_in_one_call_have_the_same_bits_on_1_2_and_5_threads) {
  judge_all({{400, 390, 7}, {390, 1160, 20}, {700, 300, 16}}, judge_both_at_once);
}
FACT(values_of_problems_that_skip_have_the_same_bits_on_1_2_and_5_threads) {
  judge_all(skipping_shapes(), judge_values);
}
FACT(gradients_of_problems_that_skip_have_the_same_bits_on_1_2_and_5_threads) {
  judge_all(skipping_shapes(), judge_gradients);
}
FACT(values_and_gradients_of_problems_that_skip_in_one_call_have_the_same_bits_on_1_2_and_5_threads) {
  std::vector<Shape> all = skipping_shapes();
  std::erase_if(all, [](const Shape& s) { return s.symmetric; });
  judge_all(all, judge_both_at_once);
}

// A bound on the scores of a batch's first rows against all of it needs the norms of all.
FACT(keys_that_begin_where_the_queries_do_may_be_larger_than_they) {
  const std::int64_t N = 3, M = 5;
  const std::vector<double> x = {0.1, 0.2, 0.3, 500, 300};
  Problem p{};
  p.x = {{x.data(), 1, 1}, N, 1, Element::f64};
  p.y = {{x.data(), 1, 1}, M, 1, Element::f64};
  p.scale = 10;
  for (const Level level : levels()) {
    Summed<double> sums(N);
    row_sums<double>(plain(p, Op::logsumexp, false), {1, 1 << 20, level, {}}, sums.arrays(Op::logsumexp), {});
    const std::vector<double> row = sums.values(Op::logsumexp);
    for (std::int64_t i = 0; i < N; ++i)  // the largest score is 200 and more above the next
      check(std::abs(row[i] - 5000 * x[i]) < 1e-12 * row[i], name_of(level), ", row ", i, ": ", row[i], ", not ",
            5000 * x[i]);
  }
}

#ifdef __SSE2__
FACT(a_weight_that_would_be_subnormal_is_0) {
  float lse = 0;
  const float upstream = 0x1p-100f, x = 1, scores[] = {0, -30 * std::log(2.0f)};  // weights 2^−100 and 2^−130
  Problem p{};
  p.x = {{&x, 1, 1}, 1, 1, Element::f32};
  p.y = {{scores, 1, 1}, 2, 1, Element::f32};
  p.scale = 1;
  for (const Level level : levels()) {
    float of_x = 0, of_y[2] = {};
    float total = 1;
    row_grads<float>(plain(p, Op::logsumexp, false), {1, 1 << 20, level, {}}, {{&lse, &total, nullptr, nullptr}, {}},
                     {}, {&upstream, nullptr, nullptr, nullptr}, {}, {&of_x, of_y}, {});
    check(of_y[0] == upstream && of_y[1] == 0, name_of(level), ": ", of_y[0], ", ", of_y[1]);
  }
}
#endif

}  // namespace jessl::test
