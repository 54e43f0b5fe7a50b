// top_k against a sort of each row.
#include "cpu/passes/passes.h"
#include "many_problems.h"

namespace jessl::test {
namespace {

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
            check(near(g, r.values[i * k + n], size), where, ", k = ", k, ", row ", i, ", ", n,
                  "-th: ", r.values[i * k + n], ", truth ", best[n]);
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

}  // namespace

FACT(top_k_ranks_as_a_sort_does_at_every_level) { judge_all(shapes(4, 50), judge_top_k); }

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
      check(r.indices[n] == expected[n % k], name_of(level), ", ", n % k, "-th: ", r.indices[n], ", not ",
            expected[n % k]);
  }
}

}  // namespace jessl::test
