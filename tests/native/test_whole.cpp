// total and row_loss: whole losses against plain loops in double, and their gradients against differences of those.
#include <algorithm>
#include <cmath>
#include <functional>

#include "check.h"
#include "cpu/loss/row_loss.h"
#include "pairwise/score.h"

namespace jessl::test {
namespace {

using Matrix = std::vector<double>;

Matrix normals(std::int64_t n, std::uint64_t seed) {
  Random random{seed};
  Matrix m(n);
  for (double& x : m) x = random.normal();
  return m;
}

Batch batch(const Matrix& m, std::int64_t D) { return {{m.data(), D, 1}, std::int64_t(m.size()) / D, D, Element::f64}; }

Matrix normalized(Matrix m, std::int64_t D, bool wanted) {
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

// The loss as a function of x, y and α.
using Truth = std::function<double(const Matrix& x, const Matrix& y, double scale)>;

// Against `loss`: the value, and the gradients along random directions.
void judge(const std::string& what, const Matrix& x, const Matrix& y, double scale, const Truth& loss, double value,
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
    for (const int threads : {1, 3})
      f(Options{threads, 1 << 20, level, {}},
        std::string(name_of(level)) + ", " + std::to_string(threads) + " threads");
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
        p.of_itself = true;
        p.kind = kind;
        p.scale = scale;
        p.exclude.diagonals = &itself;
        p.exclude.diagonal_count = 1;
        const Truth loss = [&](const Matrix& x, const Matrix&, double scale) {
          double most = -1e300, sum = 0;
          for (const bool second : {false, true})
            for (std::int64_t i = 0; i < N; ++i)
              for (std::int64_t j = 0; j < N; ++j) {
                if (i == j) continue;
                double t = inner(x, i, x, j, D);
                if (kind == Kind::sqdist) t = -(inner(x, i, x, i, D) + inner(x, j, x, j, D) - 2 * t);
                if (second)
                  sum += std::exp(scale * t - most);
                else
                  most = std::max(most, scale * t);
              }
          return most + std::log(sum);
        };
        everywhere([&](const Options& options, const std::string& where) {
          Matrix dx(N * D);  // holds the gradient of x as y too
          double dscale = 0;
          const Gradients<double> out{dx.data(), nullptr, &dscale};
          const double value = total<double>(p, options, &out);
          const std::string what = where + (kind == Kind::dot ? ", dot" : ", squares") +
                                   (symmetric ? ", symmetric" : "") + ", scale " + std::to_string(scale);
          judge(what, x, {}, scale, loss, value, dx, {}, dscale);
          check(std::abs(total<double>(p, options, nullptr) - value) <= 1e-13 * std::abs(value), what,
                ": alone it is another");
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

// A kind of problem: its batches, its positives and exclusions, and the words of its loss.
struct Case {
  const char* words;
  std::int64_t N, M;  // M is 0 where Y is X
  const char* join;
  std::int64_t shift = -1;  // of positives; or by index or ids
  bool by_index = false, by_ids = false, cols = false, also = false;
  Op op = Op::logsumexp, of_positives = Op::logsumexp;
  std::vector<double> tilts = {1};
  Reduction reduction = Reduction::mean;
  Kind kind = Kind::dot;
};

std::vector<Case> cases() {
  const std::vector<double> tilts = {1.5, 0.5};
  return {
      {"views of a batch", 140, 0, "softplus", 70},
      {"views, decoupled", 140, 0, "difference", 70},
      {"views, tilted", 140, 0, "tilt_difference", 70, false, false, false, false, Op::logsumexp, Op::logsumexp, tilts},
      {"pairs, both sides", 140, 140, "softplus", 0, false, false, true},
      {"a queue", 140, 150, "softplus", 0},
      {"a queue, and more", 100, 150, "softplus", 3, false, false, false, true},
      {"sums of softplus", 140, 140, "sum", 0, false, false, true, false, Op::softplus, Op::softplus},
      {"sums of softplus, joined by another", 140, 140, "softplus", 0, false, false, false, false, Op::softplus},
      {"by index", 140, 150, "softplus", -1, true},
      {"by index within itself", 140, 0, "softplus", -1, true},
      {"squares",
       140,
       150,
       "softplus",
       5,
       false,
       false,
       false,
       false,
       Op::logsumexp,
       Op::logsumexp,
       {1},
       Reduction::sum,
       Kind::sqdist},
      {"classes",
       130,
       0,
       "softplus_spread",
       -1,
       false,
       true,
       false,
       false,
       Op::logsumexp,
       Op::logsumexp,
       {1},
       Reduction::mean_counted},
      {"classes, counted", 130, 0, "softplus_count", -1, false, true, true},
      {"classes of rows and columns", 130, 150, "softplus_spread", -1, false, true, true},
      {"classes, squares",
       130,
       150,
       "softplus_spread",
       -1,
       false,
       true,
       false,
       false,
       Op::logsumexp,
       Op::logsumexp,
       {1},
       Reduction::sum,
       Kind::sqdist}};
}

// The loss by its definition, from all scores.
class Definition {
 public:
  Definition(const Case& c, std::int64_t D, bool normalize, const std::vector<std::int64_t>& index,
             const std::vector<std::int64_t>& row_ids, const std::vector<std::int64_t>& col_ids, const Matrix& also)
      : c_(c),
        D_(D),
        M_(c.M ? c.M : c.N),
        normalize_(normalize),
        index_(index),
        row_ids_(row_ids),
        col_ids_(col_ids),
        also_(also) {}

  bool positive(std::int64_t i, std::int64_t j) const {
    if (c_.by_ids) return row_ids_[i] >= 0 && row_ids_[i] == col_ids_[j] && i != j;
    return j == (c_.by_index ? index_[i] : (i + c_.shift) % M_);
  }
  double operator()(const Matrix& x, const Matrix& y, double scale) const {
    const Matrix a = normalized(x, D_, normalize_), b = c_.M ? normalized(y, D_, normalize_) : a;
    const auto score = [&](std::int64_t i, std::int64_t j) {
      const double t = inner(a, i, b, j, D_);
      return scale * (c_.kind == Kind::dot ? t : 2 * t - inner(a, i, a, i, D_) - inner(b, j, b, j, D_));
    };
    return side(
               c_.N, M_, score, [&](std::int64_t i, std::int64_t j) { return positive(i, j); }, !also_.empty()) +
           (c_.cols ? side(
                          M_, c_.N, [&](std::int64_t j, std::int64_t i) { return score(i, j); },
                          [&](std::int64_t j, std::int64_t i) { return positive(i, j); }, false)
                    : 0);
  }

 private:
  template <class Score, class Positive>
  double side(std::int64_t rows, std::int64_t columns, Score&& score, Positive&& positive, bool also) const {
    const JoinWord word = *join_of(c_.join);
    double total = 0, counted = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      double N[most_join_tilts] = {}, P = 0, mean = 0, n = 0;
      for (std::int64_t j = 0; j < columns; ++j) {
        const double s = score(i, j);
        if (positive(i, j)) {
          P += c_.of_positives == Op::logsumexp ? std::exp(s) : psi_value(c_.of_positives, -s);
          mean += s, ++n;
        } else if (i != j) {
          for (int k = 0; k < word.tilts; ++k)
            N[k] += c_.op == Op::logsumexp ? std::exp(c_.tilts[k] * s) : psi_value(c_.op, s);
        }
      }
      if (also) N[0] += std::exp(also_[i]);
      for (int k = 0; k < word.tilts && c_.op == Op::logsumexp; ++k) N[k] = std::log(N[k]);
      if (n == 0) continue;
      if (c_.of_positives == Op::logsumexp) P = std::log(P);
      total += joined(word.join, N, P, n > 1 ? P - mean / n : 0.0, double(n)).value;
      ++counted;
    }
    const double share = c_.reduction == Reduction::mean           ? double(rows)
                         : c_.reduction == Reduction::mean_counted ? std::max(counted, 1.0)
                                                                   : 1;
    return 0.25 * total / share;
  }

  const Case& c_;
  const std::int64_t D_, M_;
  const bool normalize_;
  const std::vector<std::int64_t>&index_, &row_ids_, &col_ids_;
  const Matrix& also_;
};

void judge_case(const Case& c, std::int64_t D, bool normalize) {
  const std::int64_t M = c.M ? c.M : c.N, itself = 0;
  const Matrix x = normals(c.N * D, 3), y = normals(c.M * D, 4), also = normals(c.also ? c.N : 0, 5);
  Random random{6};
  std::vector<std::int64_t> index, row_ids, col_ids;
  for (std::int64_t i = 0; i < c.N; ++i) index.push_back(random.below(M + 9) - 9);
  const auto id = [&] { return random.below(10) == 0 ? -1 : random.below(9) * 1'000'000'007; };
  for (std::int64_t i = 0; i < c.N; ++i) row_ids.push_back(id());
  row_ids[17] = 1;               // alone
  row_ids[3] = row_ids[90] = 2;  // a pair
  for (std::int64_t j = 0; j < M; ++j) col_ids.push_back(c.M ? id() : row_ids[j]);

  RowProblem problem{};
  Problem& p = problem.pairs;
  p.x = batch(x, D);
  p.y = c.M ? batch(y, D) : p.x;
  p.symmetric = !c.M && !c.by_index;
  p.of_itself = !c.M;
  p.kind = c.kind;
  p.scale = c.kind == Kind::dot ? 1.5 : 0.1;
  p.exclude.diagonals = &itself;
  p.exclude.diagonal_count = 1;
  problem.normalize = normalize;
  problem.cols = c.cols;
  problem.negatives = {c.op, c.tilts, false};
  problem.of_positives = {c.of_positives, {c.of_positives == Op::logsumexp ? 1.0 : -1.0}, false};
  problem.also = c.also ? also.data() : nullptr;
  Positives& positives = problem.positives;
  if (c.by_index) positives.index = index.data();
  if (c.by_ids) positives.row_ids = row_ids.data(), positives.col_ids = col_ids.data();
  if (!c.by_index && !c.by_ids) positives.shifted = true, positives.shift = c.shift;
  const Loss loss{*join_of(c.join), c.reduction, 0.25, nullptr, nullptr};
  const Definition truth(c, D, normalize, index, row_ids, col_ids, also);
  everywhere([&](const Options& options, const std::string& where) {
    Matrix dx(c.N * D), dy(y.size());
    double dscale = 0;
    const Gradients<double> out{dx.data(), dy.empty() ? nullptr : dy.data(), &dscale};
    const double value = row_loss<double>(problem, options, loss, out, {});
    const std::string what = where + ", " + c.words + (normalize ? ", normalized" : "");
    judge(what, x, y, p.scale, truth, value, dx, dy, dscale);
    check(std::abs(row_loss<double>(problem, options, loss, {}, {}) - value) <= 1e-13 * (1 + std::abs(value)), what,
          ": alone it is another");
    if (dy.empty()) return;
    Matrix some(9 * D);
    Gradients<double> of_some{nullptr, some.data()};
    of_some.columns = {7, 16};
    row_loss<double>(problem, options, loss, of_some, {});
    for (std::int64_t k = 0; k < 9 * D; ++k)
      check(std::abs(some[k] - dy[7 * D + k]) <= 1e-13 * (1 + std::abs(some[k])), what,
            ": of some columns it is another");
  });
}

}  // namespace

// A small batch of 16 dimensions is copied once; with fewer dimensions each tile is copied.
FACT(losses_of_rows_are_those_of_plain_loops) {
  for (const Case& c : cases())
    for (const bool normalize : {false, true}) judge_case(c, 6, normalize && c.kind == Kind::dot);
}
FACT(losses_of_rows_that_are_copied_once_are_those_of_plain_loops) {
  for (const Case& c : cases()) judge_case(c, 16, c.kind == Kind::dot);
}

}  // namespace jessl::test
