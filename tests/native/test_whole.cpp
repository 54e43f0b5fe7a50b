// total, paired and labelled: whole losses against plain loops in double, and their gradients against differences of those.
#include <algorithm>
#include <cmath>
#include <functional>

#include "check.h"
#include "cpu/labelled.h"
#include "cpu/paired.h"

namespace jessl::test {
namespace {

using Matrix = std::vector<double>;

Matrix normals(std::int64_t n, std::uint64_t seed) {
  Random random{seed};
  Matrix m(n);
  for (double& x : m) x = random.normal();
  return m;
}

Batch batch(const Matrix& m, std::int64_t D) {
  return {{m.data(), D, 1}, std::int64_t(m.size()) / D, D, Element::f64};
}

Matrix unit(Matrix m, std::int64_t D, bool wanted) {
  for (std::size_t i = 0; wanted && i < m.size(); i += D) {
    double square = 0;
    for (std::int64_t d = 0; d < D; ++d) square += m[i + d] * m[i + d];
    for (std::int64_t d = 0; d < D; ++d) m[i + d] /= std::sqrt(square);
  }
  return m;
}

double inner(const Matrix& x, std::int64_t i, const Matrix& y, std::int64_t j, std::int64_t D) {
  double sum = 0;
  for (std::int64_t d = 0; d < D; ++d) sum += x[i * D + d] * y[j * D + d];
  return sum;
}

double softplus(double s) { return std::max(s, 0.0) + std::log1p(std::exp(-std::abs(s))); }

// The loss as a function of x, y and α.
using Loss = std::function<double(const Matrix& x, const Matrix& y, double scale)>;

// Against `loss`: the value, and the gradients along random directions.
void judge(const std::string& what, const Matrix& x, const Matrix& y, double scale, const Loss& loss, double value,
           const Matrix& dx, const Matrix& dy, double dscale) {
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-6 * (1 + std::abs(b)); };
  const double truth = loss(x, y, scale);
  check(std::abs(value - truth) <= 1e-10 * (1 + std::abs(truth)), what, ": value ", value, ", truth ", truth);
  const auto along = [](const Matrix& a, const Matrix& direction, double step) {
    Matrix moved = a;
    for (std::size_t i = 0; i < a.size(); ++i) moved[i] += step * direction[i];
    return moved;
  };
  constexpr double h = 1e-6;
  const Matrix v = normals(std::int64_t(x.size()), 7), w = normals(std::int64_t(y.size()), 8);
  const auto slope = [&](const Matrix& g, const Matrix& direction) {
    double sum = 0;
    for (std::size_t i = 0; i < g.size(); ++i) sum += g[i] * direction[i];
    return sum;
  };
  const double by_x = (loss(along(x, v, h), y, scale) - loss(along(x, v, -h), y, scale)) / (2 * h);
  check(near(slope(dx, v), by_x), what, ": along x ", slope(dx, v), ", difference ", by_x);
  const double by_scale = (loss(x, y, scale + h) - loss(x, y, scale - h)) / (2 * h);
  check(near(dscale, by_scale), what, ": by scale ", dscale, ", difference ", by_scale);
  if (dy.empty()) return;
  const double by_y = (loss(x, along(y, w, h), scale) - loss(x, along(y, w, -h), scale)) / (2 * h);
  check(near(slope(dy, w), by_y), what, ": along y ", slope(dy, w), ", difference ", by_y);
}

// f(level, threads, its words)
template <class F>
void everywhere(F&& f) {
  for (const Level level : levels())
    for (const int threads : {1, 3}) f(Options{threads, 1 << 20, level, {}}, std::string(name_of(level)) + ", " + std::to_string(threads) + " threads");
}

}  // namespace

FACT(a_total_is_that_of_plain_loops_in_one_pass_and_in_two) {
  const std::int64_t N = 230, D = 5, itself = 0;
  const Matrix x = normals(N * D, 1);
  for (const double scale : {0.05, 3.0})  // 3: beyond one power, two passes
    for (const Kind kind : {Kind::dot, Kind::sqdist})
      for (const bool symmetric : {true, false}) {
        Problem p{};
        p.x = p.y = batch(x, D);
        p.symmetric = symmetric;
        p.kind = kind;
        p.scale = scale;
        p.exclude.diagonals = &itself;
        p.exclude.diagonal_count = 1;
        const Loss loss = [&](const Matrix& x, const Matrix&, double scale) {
          double most = -1e300, sum = 0;
          for (const bool second : {false, true})
            for (std::int64_t i = 0; i < N; ++i)
              for (std::int64_t j = 0; j < N; ++j) {
                if (i == j) continue;
                double t = inner(x, i, x, j, D);
                if (kind == Kind::sqdist) t = -(inner(x, i, x, i, D) + inner(x, j, x, j, D) - 2 * t);
                if (second) sum += std::exp(scale * t - most);
                else most = std::max(most, scale * t);
              }
          return most + std::log(sum);
        };
        everywhere([&](const Options& options, const std::string& where) {
          Matrix dx(N * D), dy(symmetric ? 0 : N * D);
          double dscale = 0;
          const Gradients<double> out{dx.data(), symmetric ? nullptr : dy.data(), &dscale, nullptr, nullptr};
          const double value = total<double>(p, options, &out);
          for (std::size_t i = 0; i < dy.size(); ++i) dx[i] += dy[i];
          const std::string what = where + (kind == Kind::dot ? ", dot" : ", squares") + (symmetric ? ", symmetric" : "") + ", scale " + std::to_string(scale);
          judge(what, x, {}, scale, loss, value, dx, {}, dscale);
          check(std::abs(total<double>(p, options, nullptr) - value) <= 1e-13 * std::abs(value), what, ": alone it is another");
        });
      }
}

FACT(a_total_of_nothing_is_minus_infinity_with_no_gradient) {
  const Matrix x = {1, 2};
  const std::int64_t itself = 0;
  Problem p{};
  p.x = p.y = batch(x, 2);
  p.symmetric = true;
  p.scale = 1;
  p.exclude.diagonals = &itself;
  p.exclude.diagonal_count = 1;
  Matrix dx(2);
  double dscale = 0;
  const Gradients<double> out{dx.data(), nullptr, &dscale, nullptr, nullptr};
  for (const Level level : levels()) {
    const double value = total<double>(p, {1, 1 << 20, level, {}}, &out);
    check(std::isinf(value) && value < 0, name_of(level), ": ", value);
    check(dx[0] == 0 && dx[1] == 0 && dscale == 0, name_of(level), ": a gradient");
  }
}

namespace {

void judge_partners(std::int64_t D) {
  for (const Join join : {Join::none, Join::anchor, Join::minus, Join::softplus})
    for (const bool normalize : {false, true})
      for (const int form : {0, 1, 2}) {  // rows; rows and columns; views of one batch
        const std::int64_t N = 140, M = form == 0 ? 150 : N, shift = form == 2 ? N / 2 : 0;
        if (join == Join::none && form == 1) continue;  // columns have partners or are rows of another problem
        const Matrix x = normals(N * D, 3), y = form == 2 ? Matrix{} : normals(M * D, 4);
        const std::vector<std::int64_t> diagonals = form == 2 ? std::vector<std::int64_t>{0, shift, -shift} : std::vector<std::int64_t>{0};
        Problem p{};
        p.x = batch(x, D);
        p.y = form == 2 ? p.x : batch(y, D);
        p.symmetric = form == 2;
        p.scale = 1.5;
        p.exclude.diagonals = diagonals.data();
        p.exclude.diagonal_count = std::int64_t(diagonals.size());
        const Op op = join == Join::softplus ? Op::softplus : Op::logsumexp;
        const Pairing pairing{shift, join, normalize, form == 1, 0.25};
        const Loss loss = [&](const Matrix& x_, const Matrix& y_, double scale) {
          const Matrix a = unit(x_, D, normalize), b = form == 2 ? a : unit(y_, D, normalize);
          const auto reduction = [&](std::int64_t n, auto&& score) {
            double sum = 0;
            for (std::int64_t k = 0; k < n; ++k) {
              const double s = score(k);
              if (!std::isnan(s)) sum += op == Op::softplus ? softplus(s) : std::exp(s);
            }
            return op == Op::softplus ? sum : std::log(sum);
          };
          const auto score = [&](std::int64_t i, std::int64_t j) {
            const bool out = std::find(diagonals.begin(), diagonals.end(), j - i) != diagonals.end();
            return out ? std::nan("") : scale * inner(a, i, b, j, D);
          };
          double total = 0;
          for (std::int64_t i = 0; i < N; ++i) {
            const double t = scale * inner(a, i, b, (i + shift) % M, D);
            const auto joined = [&](double value) {
              if (join == Join::anchor) return softplus(value - t);
              return join == Join::minus ? value - t : join == Join::softplus ? value + softplus(-t) : value;
            };
            total += joined(reduction(M, [&](std::int64_t j) { return score(i, j); }));
            if (form == 1) total += joined(reduction(N, [&](std::int64_t k) { return score(k, i); }));
          }
          return 0.25 * total;
        };
        everywhere([&](const Options& options, const std::string& where) {
          Matrix dx(N * D), dy(y.size());
          double dscale = 0;
          const Gradients<double> out{dx.data(), dy.empty() ? nullptr : dy.data(), &dscale, nullptr, nullptr};
          const double value = paired<double>(p, op, options, pairing, &out);
          const std::string what = where + ", join " + std::to_string(int(join)) + ", form " + std::to_string(form) + (normalize ? ", unit" : "");
          judge(what, x, y, 1.5, loss, value, dx, dy, dscale);
        });
      }
}

void judge_supervised(std::int64_t D) {
  const std::int64_t N = 130;
  const Matrix x = normals(N * D, 5);
  std::vector<std::int64_t> labels(N);
  Random random{6};
  for (std::int64_t& label : labels) label = random.below(9) * 1'000'000'007;
  labels[17] = 1;  // alone
  labels[3] = labels[90] = 2;  // a pair
  for (const bool outside : {true, false})
    for (const bool normalize : {false, true}) {
      Problem p{};
      p.x = p.y = batch(x, D);
      p.symmetric = true;
      p.scale = 1.5;
      const Labelling labelling{labels.data(), outside, 2, true, normalize};
      const Loss loss = [&](const Matrix& x_, const Matrix&, double scale) {
        const Matrix a = unit(x_, D, normalize);
        double total = 0;
        std::int64_t counted = 0;
        for (std::int64_t i = 0; i < N; ++i) {
          double all = 0, positive = 0, mean = 0, count = 0;
          for (std::int64_t j = 0; j < N; ++j) {
            if (j == i) continue;
            const double s = scale * inner(a, i, a, j, D);
            all += std::exp(s);
            if (labels[j] == labels[i]) positive += std::exp(s), mean += s, ++count;
          }
          if (count == 0) continue;
          ++counted;
          total += std::log(all) - (outside ? mean / count : std::log(positive / count));
        }
        return 2 * total / double(counted);
      };
      everywhere([&](const Options& options, const std::string& where) {
        Matrix dx(N * D);
        double dscale = 0;
        const Gradients<double> out{dx.data(), nullptr, &dscale, nullptr, nullptr};
        const double value = labelled<double>(p, options, labelling, &out);
        const std::string what = where + (outside ? ", out" : ", in") + (normalize ? ", unit" : "");
        judge(what, x, {}, 1.5, loss, value, dx, {}, dscale);
        check(std::abs(labelled<double>(p, options, labelling, nullptr) - value) <= 1e-13 * std::abs(value), what, ": alone it is another");
      });
    }
}

}  // namespace

// A small batch of 16 dimensions is copied once, of fewer each tile.
FACT(losses_of_rows_and_partners_are_those_of_plain_loops) {
  for (const std::int64_t D : {6, 16}) judge_partners(D);
}
FACT(supervised_losses_are_those_of_plain_loops) {
  for (const std::int64_t D : {4, 16}) judge_supervised(D);
}

}  // namespace jessl::test
