// reduce, gradient, reduce_and_gradient and top_k of driver.h against plain loops, at every level and on several threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "naive.h"

namespace jessl::test {
namespace {

const int thread_counts[] = {1, 2, 5};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int fewer = 3;  // they slow the core down five to twenty times
#else
constexpr int fewer = 1;
#endif

// A number of problems in which every property meets every other, mostly small; the same ones on every run.
std::vector<Shape> shapes(std::uint64_t seed, int count, bool dot_without_phi_only = false) {
  Random random{seed};
  const std::int64_t sizes[] = {1, 2, 7, 97, 193}, dimensions[] = {1, 7, 32, 97, 192};
  const std::int64_t workspaces[] = {1, 300'000, 64 << 20};
  std::vector<Shape> all;
  while (int(all.size()) < count / fewer) {
    Shape s{sizes[random.below(5)], sizes[random.below(5)], dimensions[random.below(5)]};
    s.element = Element(random.below(4));
    s.workspace = workspaces[random.below(3)];
    s.strided = random.below(2);
    const double sharp[] = {0.5, 1, 1, 20, 400};
    s.sharpness = sharp[random.below(5)];
    if (random.below(3)) s.exclusion = unsigned(random.below(32));
    if (!dot_without_phi_only) {
      s.symmetric = random.below(3) == 0;
      s.kind = Kind(random.below(2));
      if (s.kind == Kind::sqdist) s.distances = Distances(random.below(3));
      s.phi = PhiName(random.below(3));
      if (s.phi == PhiName::laplace && (s.kind == Kind::dot || s.distances == Distances::product)) s.phi = PhiName::identity;
    }
    if (!s.symmetric) s.row_bias = random.below(2), s.col_bias = random.below(2);
    all.push_back(s);
  }
  return all;
}

// With enough pairs for several threads, and with strips of 96 and 192 rows.
std::vector<Shape> large_shapes() {
  std::vector<Shape> all = {{400, 390, 7}, {385, 385, 33, true}, {1160, 200, 3}, {150, 1160, 20}, {400, 410, 48}};
  all.push_back({500, 500, 40, true, Element::f32, Kind::sqdist, PhiName::identity, Distances::product_if_far});
  all.push_back({500, 450, 40, false, Element::f64, Kind::sqdist, PhiName::laplace, Distances::product_if_far});
  all.push_back({600, 600, 12, true, Element::bf16, Kind::sqdist, PhiName::clamp, Distances::differences});
  for (Shape& s : all) {
    s.workspace = 1 << 20;
    s.exclusion = main_diagonal | (s.D == 33 ? side_diagonals : 0u) | (s.D == 7 ? different_ids : 0u);
  }
  return all;
}

// With an ε far below their rounding, so that plain loops remain the truth although tiles fall.
std::vector<Shape> skipping_shapes() {
  std::vector<Shape> all = {{600, 600, 2, true}, {500, 450, 3}, {700, 300, 20}};
  for (Shape& s : all) s.kind = Kind::sqdist;
  all.push_back({600, 500, 4});
  all.push_back({500, 400, 3, false, Element::f64, Kind::sqdist, PhiName::laplace});
  for (Shape& s : all) {
    s.sharpness = 20;
    s.exclusion = main_diagonal | side_diagonals;
    s.skip_below = s.element == Element::f64 ? 1e-17 : 1e-9;
  }
  return all;
}

template <class Real>
bool near(const Given<Real>& given, Real ours, const Sized& truth) {
  if (!std::isfinite(truth.value)) return double(ours) == truth.value;
  return std::abs(double(ours) - truth.value) <= given.tolerance(truth);
}

template <class Real>
void compare(const Given<Real>& given, const std::string& what, const std::vector<Real>& ours, const Answers& truth) {
  for (std::size_t k = 0; k < ours.size(); ++k)
    if (!near(given, ours[k], truth[k])) {
      check(false, what, " at ", k, ": ", ours[k], ", truth ", truth[k].value, ", allowed ", given.tolerance(truth[k]));
      return;
    }
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class Real>
std::vector<Real> as(const std::vector<double>& v) {
  return {v.begin(), v.end()};
}

template <class Real>
std::vector<Real> as(const Answers& v) {
  std::vector<Real> out;
  for (const Sized& a : v) out.push_back(Real(a.value));
  return out;
}

// Everything a driver may write. What is not wanted stays empty, and its pointer null.
template <class Real>
struct Written {
  std::vector<Real> row, col, x, y, row_bias, col_bias;
  std::vector<double> scale;

  Gradients<Real> gradients() { return {at(x), at(y), scale.empty() ? nullptr : scale.data(), at(row_bias), at(col_bias)}; }
  Sides<Real> values() { return {at(row), at(col)}; }
  static Real* at(std::vector<Real>& v) { return v.empty() ? nullptr : v.data(); }
  bool operator==(const Written& o) const {
    return same_bits(row, o.row) && same_bits(col, o.col) && same_bits(x, o.x) && same_bits(y, o.y) &&
           same_bits(row_bias, o.row_bias) && same_bits(col_bias, o.col_bias) && same_bits(scale, o.scale);
  }
};

// Gradients that somebody asks for: all, or some of them.
template <class Real>
Written<Real> wanted(const Given<Real>& g, std::uint64_t which) {
  Written<Real> w;
  const unsigned bits = which % 3 ? 31u : unsigned(Random{which}.below(32));
  const bool apart = !g.problem.symmetric;
  if (bits & 1) w.x.resize(g.N * g.D);
  if ((bits & 2) && apart) w.y.resize(g.M * g.D);
  if (bits & 4) w.scale.resize(1);
  if ((bits & 8) && apart) w.row_bias.resize(g.N);
  if ((bits & 16) && apart) w.col_bias.resize(g.M);
  return w;
}

template <class Real>
void compare_gradients(const Given<Real>& g, const std::string& what, const Written<Real>& ours, const NaiveGradients& truth) {
  compare(g, what + ", dx", ours.x, truth.x);
  compare(g, what + ", dy", ours.y, truth.y);
  compare(g, what + ", d row bias", ours.row_bias, truth.row_bias);
  compare(g, what + ", d col bias", ours.col_bias, truth.col_bias);
  if (ours.scale.empty()) return;
  check(std::abs(ours.scale[0] - truth.scale.value) <= g.tolerance(truth.scale), what, ", dα: ", ours.scale[0], ", truth ",
        truth.scale.value, ", allowed ", g.tolerance(truth.scale));
}

// Call solve(options) at every level on each number of threads: the same bits, and what judge(result, words) says of them.
template <class Solve, class Judge>
void at_every_level(const Shape& shape, Solve&& solve, Judge&& judge) {
  std::vector<Level> all = levels();
  // Under a sanitizer one level is enough to see what threads do to each other.
  if (fewer > 1 && shape.N * shape.M > 50'000) all = {all.back()};
  for (const Level level : all) {
    const std::string where = words(shape) + ", " + name_of(level);
    const auto first = solve(Options{1, shape.workspace, level, {}});
    judge(first, where);
    for (const int threads : thread_counts)
      check(solve(Options{threads, shape.workspace, level, {}}) == first, where, ": other bits on ", threads, " threads");
  }
}

template <class F>
void typed(const Shape& shape, std::uint64_t seed, F&& f) {
  if (shape.element == Element::f64)
    f(Given<double>(shape, seed), double());
  else
    f(Given<float>(shape, seed), float());
}

void judge_values(const Shape& shape, std::uint64_t seed) {
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const Op op : {Op::logsumexp, Op::softplus}) {
      const Answers row = g.row_values(op), col = g.col_values(op);
      for (const bool columns : {false, true}) {
        const auto solve = [&](const Options& options) {
          Written<Real> w;
          w.row.resize(g.N);
          if (columns) w.col.resize(g.M);
          reduce<Real>(g.problem, op, options, w.values());
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
      const auto g_row = as<Real>(g.arriving.row), g_col = as<Real>(g.arriving.col), row_lse = as<Real>(row), col_lse = as<Real>(col);
      const bool apart = columns && !g.problem.symmetric;  // of a symmetric problem what arrives at rows arrives at columns too
      const auto solve = [&](const Options& options) {
        Written<Real> w = wanted(g, seed);
        if (sum && seed % 5) {
          w.row.resize(g.N);
          if (apart || (g.problem.symmetric && seed % 5 > 1)) w.col.resize(g.M);
          reduce_and_gradient<Real>(g.problem, op, options, {g_row.data(), nullptr}, {apart ? g_col.data() : nullptr, nullptr},
                                    w.values(), w.gradients());
        } else {
          gradient<Real>(g.problem, op, options, {g_row.data(), sum ? nullptr : row_lse.data()},
                         {apart ? g_col.data() : nullptr, sum || !apart ? nullptr : col_lse.data()}, w.gradients());
        }
        return w;
      };
      at_every_level(shape, solve, [&](const Written<Real>& w, const std::string& where) {
        compare_gradients(g, where + (sum ? ", softplus" : ", logsumexp"), w, truth);
        compare(g, where + ", sums of rows", w.row, row);
        compare(g, where + ", sums of columns", w.col, col);
      });
    }
  });
}

void judge_both_at_once(const Shape& shape, std::uint64_t seed) {
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const bool anchored : {false, true}) {
      const Answers row = g.row_values(Op::logsumexp);
      const NaiveGradients truth = g.gradients(Op::logsumexp, false, anchored);
      const auto weight = as<Real>(g.arriving.row), anchor = as<Real>(g.arriving.anchor);
      const auto solve = [&](const Options& options) {
        Written<Real> w = wanted(g, seed);
        w.row.resize(g.N);
        reduce_and_gradient<Real>(g.problem, Op::logsumexp, options, {weight.data(), anchored ? anchor.data() : nullptr}, {},
                                  w.values(), w.gradients());
        return w;
      };
      at_every_level(shape, solve, [&](const Written<Real>& w, const std::string& where) {
        compare(g, where + ", rows", w.row, row);
        compare_gradients(g, where + (anchored ? ", anchored" : ""), w, truth);
      });
    }
  });
}

template <class Real>
struct Ranked {
  std::vector<Real> values;
  std::vector<std::int64_t> indices;
  bool operator==(const Ranked& o) const { return same_bits(values, o.values) && indices == o.indices; }
};

template <class Real>
Ranked<Real> ranked(const Problem& p, std::int64_t k, const Options& options) {
  Ranked<Real> r{std::vector<Real>(p.N() * k), std::vector<std::int64_t>(p.N() * k)};
  top_k<Real>(p, k, options, r.values.data(), r.indices.data());
  return r;
}

void judge_top_k(Shape shape, std::uint64_t seed) {
  shape.symmetric = false;  // as backends/cpu.py calls it
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    for (const std::int64_t k : {std::int64_t(1), std::min<std::int64_t>(5, g.M), g.M}) {
      if (k == g.M && g.M > 100) continue;
      const auto solve = [&](const Options& options) { return ranked<Real>(g.problem, k, options); };
      at_every_level(shape, solve, [&](const Ranked<Real>& r, const std::string& where) {
        for (std::int64_t i = 0; i < g.N; ++i) {
          std::vector<double> row(g.M);
          for (std::int64_t j = 0; j < g.M; ++j) row[j] = g.score(i, j);
          std::vector<double> best = row;
          std::sort(best.begin(), best.end(), std::greater<>());
          std::vector<std::int64_t> seen;
          for (std::int64_t n = 0; n < k; ++n) {
            const std::int64_t j = r.indices[i * k + n];
            const Sized size{best[n], g.errors(i, j)};
            check(near(g, r.values[i * k + n], size), where, ", k = ", k, ", row ", i, ", ", n, "-th: ", r.values[i * k + n],
                  ", truth ", best[n]);
            check(near(g, r.values[i * k + n], Sized{row[j], size.size}), where, ", row ", i, ": index ", j);
            seen.push_back(j);
          }
          std::sort(seen.begin(), seen.end());
          check(std::unique(seen.begin(), seen.end()) == seen.end(), where, ", row ", i, ": a column twice");
        }
      });
    }
  });
}

template <class Judge>
void judge_all(const std::vector<Shape>& all, Judge&& judge) {
  std::uint64_t seed = 100;
  for (const Shape& shape : all) judge(shape, ++seed);
}

}  // namespace

FACT(values_of_small_problems_are_those_of_plain_loops_at_every_level) { judge_all(shapes(1, 150), judge_values); }
FACT(gradients_of_small_problems_are_those_of_plain_loops_at_every_level) { judge_all(shapes(2, 150), judge_gradients); }
FACT(values_and_gradients_in_one_call_are_those_of_plain_loops_at_every_level) { judge_all(shapes(3, 60, true), judge_both_at_once); }
FACT(top_k_ranks_as_a_sort_does_at_every_level) { judge_all(shapes(4, 50), judge_top_k); }

FACT(values_of_large_problems_have_the_same_bits_on_1_2_and_5_threads) { judge_all(large_shapes(), judge_values); }
FACT(gradients_of_large_problems_have_the_same_bits_on_1_2_and_5_threads) { judge_all(large_shapes(), judge_gradients); }
FACT(values_and_gradients_of_large_problems_in_one_call_have_the_same_bits_on_1_2_and_5_threads) {
  judge_all({{400, 390, 7}, {390, 1160, 20}, {700, 300, 16}}, judge_both_at_once);
}
FACT(values_of_problems_that_skip_have_the_same_bits_on_1_2_and_5_threads) { judge_all(skipping_shapes(), judge_values); }
FACT(gradients_of_problems_that_skip_have_the_same_bits_on_1_2_and_5_threads) { judge_all(skipping_shapes(), judge_gradients); }
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
    std::vector<double> row(N);
    reduce<double>(p, Op::logsumexp, {1, 1 << 20, level, {}}, {row.data(), nullptr});
    for (std::int64_t i = 0; i < N; ++i)  // the largest score is 200 and more above the next
      check(std::abs(row[i] - 5000 * x[i]) < 1e-12 * row[i], name_of(level), ", row ", i, ": ", row[i], ", not ", 5000 * x[i]);
  }
}

#ifdef __SSE2__
FACT(a_weight_that_would_be_subnormal_is_0) {
  const float upstream = 0x1p-100f, lse = 0, x = 1, scores[] = {0, -30 * std::log(2.0f)};  // weights 2^−100 and 2^−130
  Problem p{};
  p.x = {{&x, 1, 1}, 1, 1, Element::f32};
  p.y = {{scores, 1, 1}, 2, 1, Element::f32};
  p.scale = 1;
  for (const Level level : levels()) {
    float of_x = 0, of_y[2] = {};
    gradient<float>(p, Op::logsumexp, {1, 1 << 20, level, {}}, {&upstream, &lse}, {}, {&of_x, of_y, nullptr, nullptr, nullptr});
    check(of_y[0] == upstream && of_y[1] == 0, name_of(level), ": ", of_y[0], ", ", of_y[1]);
  }
}
#endif

// Whole numbers make scores exact, and equal ones many.
FACT(top_k_puts_nan_first_and_among_equals_the_earlier_column) {
  const std::int64_t N = 3, M = 200, k = 150;
  std::vector<float> x(N, 1.0f), y(M);
  for (std::int64_t j = 0; j < M; ++j) y[j] = float(j * 7 % 5);
  y[33] = y[100] = std::numeric_limits<float>::quiet_NaN();
  Problem p{};
  p.x = {{x.data(), 1, 1}, N, 1, Element::f32};
  p.y = {{y.data(), 1, 1}, M, 1, Element::f32};
  p.scale = 1;
  std::vector<std::int64_t> expected(M);
  for (std::int64_t j = 0; j < M; ++j) expected[j] = j;
  std::stable_sort(expected.begin(), expected.end(), [&](std::int64_t a, std::int64_t b) {
    return std::isnan(y[a]) || std::isnan(y[b]) ? std::isnan(y[a]) && !std::isnan(y[b]) : y[a] > y[b];
  });
  for (const Level level : levels()) {
    const Ranked<float> r = ranked<float>(p, k, {2, 1 << 20, level, {}});
    for (std::int64_t n = 0; n < N * k; ++n)
      check(r.indices[n] == expected[n % k], name_of(level), ", ", n % k, "-th: ", r.indices[n], ", not ", expected[n % k]);
  }
}

}  // namespace jessl::test
