// attend and its gradients against plain loops over the scores.
#include "cpu/passes/attend.h"
#include "many_problems.h"

namespace jessl::test {
namespace {

constexpr std::int64_t V = 5;

template <class Real>
struct Attended {
  std::vector<Real> out, reference, total, of_values, of_columns;
  bool operator==(const Attended& o) const {
    return same_bits(out, o.out) && same_bits(total, o.total) && same_bits(of_values, o.of_values) &&
           same_bits(of_columns, o.of_columns);
  }
};

template <class Real>
Batch batch_of(const std::vector<Real>& rows) {
  Batch batch{};
  batch.pieces[0] = {rows.data(), V, 1};
  batch.rows = std::int64_t(rows.size()) / V;
  batch.columns = V;
  batch.element = sizeof(Real) == sizeof(float) ? Element::f32 : Element::f64;
  return batch;
}

template <class Real>
std::vector<Real> numbers(std::int64_t n, Random& random) {
  std::vector<Real> made(n);
  for (Real& value : made) value = Real(random.normal());
  return made;
}

void judge_attend(Shape shape, std::uint64_t seed) {
  shape.symmetric = false;  // as backends/cpu.py calls it
  typed(shape, seed, [&]<class Real>(const Given<Real>& g, Real) {
    Random random{seed};
    const std::vector<Real> values = numbers<Real>(g.M * V, random), upstream = numbers<Real>(g.N * V, random);
    const auto solve = [&](const Options& options) {
      Attended<Real> a{std::vector<Real>(g.N * V), std::vector<Real>(g.N), std::vector<Real>(g.N),
                       std::vector<Real>(g.M * V), std::vector<Real>(g.M)};
      attend<Real>(g.problem, batch_of(values), options, a.out.data(), {a.reference.data(), a.total.data()});
      std::vector<Real> inner(g.N), x(g.N * g.D), y(g.M * g.D);
      for (std::int64_t i = 0; i < g.N; ++i)
        for (std::int64_t v = 0; v < V; ++v) inner[i] += upstream[i * V + v] * a.out[i * V + v];
      double scale = 0;
      Gradients<Real> to{.x = x.data(), .y = y.data(), .scale = &scale, .col_bias = a.of_columns.data()};
      attend_grads<Real>(g.problem, batch_of(values), batch_of(upstream), options, {a.reference.data(), a.total.data()},
                         inner.data(), to, a.of_values.data());
      return a;
    };
    Answers out(g.N * V), of_values(g.M * V), of_columns(g.M);
    // Shares below 4e-19 may be 0 (csrc/cpu/tile/score_grad.h).
    const double flushed = 4e-19 / double(std::numeric_limits<Real>::epsilon());
    for (std::int64_t i = 0; i < g.N; ++i) {
      double most = -std::numeric_limits<double>::infinity(), sum = 0, off = 0;
      for (std::int64_t j = 0; j < g.M; ++j) most = std::max(most, g.score(i, j));
      for (std::int64_t j = 0; j < g.M && std::isfinite(most); ++j) sum += std::exp(g.score(i, j) - most);
      const auto p = [&](std::int64_t j) { return sum > 0 ? std::exp(g.score(i, j) - most) / sum : 0.0; };
      for (std::int64_t j = 0; j < g.M; ++j) off += p(j) * g.errors(i, j);
      const auto errors = [&](std::int64_t j) { return 4 + off + (p(j) > 0 ? g.errors(i, j) : 0.0); };
      double inner = 0, inner_size = 0;
      for (std::int64_t v = 0; v < V; ++v) {
        Sized& o = out[i * V + v];
        for (std::int64_t j = 0; j < g.M; ++j) o.add(p(j) * values[j * V + v], errors(j));
        for (std::int64_t j = 0; j < g.M; ++j) {
          of_values[j * V + v].add(p(j) * upstream[i * V + v], errors(j));
          of_values[j * V + v].size += flushed * std::abs(upstream[i * V + v]);
        }
        inner += upstream[i * V + v] * o.value;
        inner_size += std::abs(upstream[i * V + v]) * o.size;
      }
      for (std::int64_t j = 0; j < g.M; ++j) {
        double of_p = 0, size = 0;
        for (std::int64_t v = 0; v < V; ++v) {
          of_p += double(upstream[i * V + v]) * values[j * V + v];
          size += std::abs(double(upstream[i * V + v]) * values[j * V + v]);
        }
        of_columns[j].value += p(j) * (of_p - inner);
        of_columns[j].size +=
            flushed * (size + std::abs(inner)) + p(j) * ((size + std::abs(inner)) * errors(j) + inner_size);
      }
    }
    at_every_level(shape, solve, [&](const Attended<Real>& a, const std::string& where) {
      compare(g, where + ", values", a.out, out);
      compare(g, where + ", gradient of the values", a.of_values, of_values);
      compare(g, where + ", gradient of the columns' bias", a.of_columns, of_columns);
    });
  });
}

}  // namespace

FACT(attend_is_the_softmax_times_the_values_at_every_level) { judge_all(shapes(5, 50), judge_attend); }
FACT(attend_over_many_strips_and_segments) { judge_all(large_shapes(), judge_attend); }

}  // namespace jessl::test
