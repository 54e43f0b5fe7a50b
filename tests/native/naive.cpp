#include "naive.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "numbers.h"

namespace jessl::test {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

double softplus_of(double s) { return std::fmax(s, 0) + std::log1p(std::exp(-std::abs(s))); }
double logistic_of(double s) { return 1 / (1 + std::exp(-s)); }

template <class Real>
constexpr double smallest = std::numeric_limits<Real>::min() / std::numeric_limits<Real>::epsilon();

template <class T>
void put(Bytes& data, std::int64_t at, T value) {
  std::memcpy(data.data() + at * std::int64_t(sizeof(T)), &value, sizeof(T));
}

}  // namespace

std::string words(const Shape& s) {
  std::ostringstream line;
  const char* elements[] = {"f32", "f64", "bf16", "f16"};
  const char* phis[] = {"", ", clamp", ", laplace", ", student", ", tophat", ", epanechnikov", ", linear", ", cosine"};
  const char* distances[] = {"differences", "product", "product if far"};
  line << s.N << "×" << s.M << " D=" << s.D << " " << elements[int(s.element)] << (s.symmetric ? ", symmetric" : "")
       << (s.kind == Kind::dot ? ", dot" : ", ") << (s.kind == Kind::dot ? "" : distances[int(s.distances)])
       << phis[int(s.phi)] << ", sharpness " << s.sharpness << ", exclusion " << s.exclusion
       << (s.row_bias ? ", row bias" : "") << (s.col_bias ? ", col bias" : "") << (s.strided ? ", strided" : "")
       << ", workspace " << s.workspace << ", skipping below " << s.skip_below;
  return line.str();
}

template <class Real>
Given<Real>::Given(const Shape& shape, std::uint64_t seed)
    : N(shape.N), M(shape.symmetric ? shape.N : shape.M), D(shape.D), shape_(shape) {
  Random random{seed};
  Problem& p = problem;
  fill(x_data_, x_, p.x, N, random);
  if (shape.symmetric)
    p.y = p.x, y_ = x_;
  else
    fill(y_data_, y_, p.y, M, random);
  p.symmetric = shape.symmetric;
  p.kind = shape.kind;
  p.skip_below = shape.skip_below;
  p.distances = shape.distances;
  p.scale = shape.sharpness * (shape.kind == Kind::dot ? 2 / std::sqrt(double(D)) : 1.0 / double(D));
  p.far_apart = -2 * shape.sharpness;  // clusters are 4 apart, so that some tiles are far and some are close

  const auto bias = [&](std::vector<Real>& b, std::int64_t n) -> const void* {
    for (std::int64_t i = 0; i < n; ++i) b.push_back(random.below(8) == 0 ? -Real(inf) : Real(random.normal()));
    return b.data();
  };
  if (shape.row_bias) p.row_bias = bias(row_bias_, N);
  if (shape.col_bias) p.col_bias = bias(col_bias_, M);
  if (shape.kind == Kind::sqdist && shape.distances != Distances::differences) {
    for (std::int64_t d = 0; d < D; ++d) center_.push_back(Real(0.25 * random.normal()));
    p.center = center_.data();
  }

  const std::int64_t side = std::max<std::int64_t>(1, N / 2);
  if (shape.exclusion & main_diagonal) diagonals_.push_back(0);
  if (shape.exclusion & side_diagonals) diagonals_.insert(diagonals_.end(), {side, -side});
  if (shape.exclusion & kept) keep_ = {1, -1, side, -side};
  p.exclude.diagonals = diagonals_.data();
  p.exclude.keep = keep_.data();
  p.exclude.diagonal_count = std::int64_t(diagonals_.size());
  p.exclude.keep_count = std::int64_t(keep_.size());
  // In order, as after a sort by class, so that whole tiles have no pair of one class; some match nothing.
  const auto ids = [&](IdLists& lists, std::int64_t size) {
    for (std::int64_t i = 0; i < N; ++i) lists.row.push_back(random.below(9) ? std::int32_t(i / size) : -1);
    for (std::int64_t j = 0; j < M; ++j) lists.col.push_back(random.below(9) ? std::int32_t(j / size) : -2);
    if (shape.symmetric)
      for (std::int64_t j = 0; j < M; ++j) lists.col[j] = lists.row[j] < 0 ? -2 : lists.row[j];
    return Ids{lists.row.data(), lists.col.data()};
  };
  if (shape.exclusion & same_ids) p.exclude.same[0] = ids(same_, 40);
  if (shape.exclusion & different_ids) p.exclude.different[0] = ids(different_, 40);
  if (shape.exclusion & without_ids) p.exclude.without = ids(without_, 3);
  if (shape.exclusion & within_ids) p.exclude.within = ids(within_, 60);

  const auto real = [&] { return double(Real(random.normal())); };
  for (std::int64_t i = 0; i < N; ++i) upstream.row.push_back(real()), upstream.anchor.push_back(3 * real());
  for (std::int64_t j = 0; j < M; ++j) upstream.col.push_back(real());
  if (shape.symmetric) upstream.col = upstream.row;
  compute_scores();
}

template <class Real>
void Given<Real>::fill(Bytes& data, std::vector<double>& numbers, Batch& batch, std::int64_t rows, Random& random) {
  const std::int64_t column_stride = shape_.strided ? 3 : 1, row_stride = shape_.strided ? 3 * D + 2 : D;
  const int size = shape_.element == Element::f64 ? 8 : shape_.element == Element::f32 ? 4 : 2;
  data.assign(rows * row_stride * size, char(0xff));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t d = 0; d < D; ++d) {
      const double x = random.normal() + (d == 0 ? (i < rows / 2 ? 2 : -2) : 0);
      const std::int64_t at = i * row_stride + d * column_stride;
      if (shape_.element == Element::f64) put(data, at, x), numbers.push_back(x);
      if (shape_.element == Element::f32) put(data, at, float(x)), numbers.push_back(float(x));
      if (shape_.element == Element::bf16)
        put(data, at, bits_of_bfloat16(x)), numbers.push_back(value_of_bfloat16(bits_of_bfloat16(x)));
      if (shape_.element == Element::f16)
        put(data, at, bits_of_float16(x)), numbers.push_back(value_of_float16(bits_of_float16(x)));
    }
  batch = {{Piece{data.data(), row_stride, column_stride}}, rows, D, shape_.element};
}

template <class Real>
bool Given<Real>::excluded(std::int64_t i, std::int64_t j) const {
  const auto equal = [i, j](const IdLists& ids) { return ids.row[i] >= 0 && ids.row[i] == ids.col[j]; };
  if (!without_.row.empty() && equal(without_)) return true;
  if (!within_.row.empty() && !equal(within_)) return true;
  if (std::count(keep_.begin(), keep_.end(), j - i)) return false;
  if (std::count(diagonals_.begin(), diagonals_.end(), j - i)) return true;
  if (!same_.row.empty() && equal(same_)) return true;
  return !different_.row.empty() && !equal(different_);
}

// Bounds in the widest gap of u near its quartiles, so that no rounding moves a score across one.
template <class Real>
void Given<Real>::choose_phi() {
  Phi& phi = problem.phi;
  phi.name = shape_.phi;
  if (phi.name == PhiName::student) phi.low = 2.5;
  if (phi.name != PhiName::clamp) return;
  std::vector<double> u = u_;
  std::sort(u.begin(), u.end());
  const std::int64_t n = std::int64_t(u.size());
  const auto gap = [&](std::int64_t from) {
    std::int64_t best = std::min(from, n - 1);
    for (std::int64_t k = from; k < std::min(n - 1, from + n / 8 + 1); ++k)
      if (u[k + 1] - u[k] > (best + 1 < n ? u[best + 1] - u[best] : 0)) best = k;
    return best + 1 < n ? (u[best] + u[best + 1]) / 2 : u[best] + 1;
  };
  phi.low = gap(n / 4);
  phi.high = std::max(phi.low, gap(3 * n / 4));
}

template <class Real>
void Given<Real>::compute_scores() {
  const double alpha = problem.scale;
  std::vector<double> roundings(N * M);
  u_.resize(N * M);
  for (std::int64_t i = 0; i < N; ++i)
    for (std::int64_t j = 0; j < M; ++j) {
      Sized inner, square, expanded;
      for (std::int64_t d = 0; d < D; ++d) {
        const double a = x_[i * D + d], b = y_[j * D + d], c = center_.empty() ? 0 : double(center_[d]);
        inner.add(a * b, 1);
        square.add((a - b) * (a - b), 1);
        expanded.add((std::abs(a - c) + std::abs(b - c)) * (std::abs(a - c) + std::abs(b - c)), 1);
      }
      u_[i * M + j] = problem.kind == Kind::dot ? alpha * inner.value : -alpha * square.value;
      roundings[i * M + j] = alpha * (problem.kind == Kind::dot ? inner.size
                                      : center_.empty()         ? square.size
                                                                : expanded.size);
    }
  choose_phi();
  for (std::int64_t k = 0; k < N * M; ++k) {
    const double u = u_[k], r = row_bias_.empty() ? 0 : double(row_bias_[k / M]),
                 c = col_bias_.empty() ? 0 : double(col_bias_[k % M]);
    double s = u, slope = 1, errors = roundings[k], slope_errors = 0;
    if (problem.phi.name == PhiName::clamp) {
      s = std::clamp(u, problem.phi.low, problem.phi.high);
      slope = s == u;
    } else if (problem.phi.name == PhiName::laplace) {
      s = -std::sqrt(-u);
      slope = u == 0 ? 0 : 0.5 / std::sqrt(-u);
      errors = u == 0 ? 0 : roundings[k] * slope;
      slope_errors = u == 0 ? 0 : roundings[k] / -u;
    } else if (problem.phi.name != PhiName::identity) {
      const double power = problem.phi.low, away = std::sqrt(-u), angle = 1.5707963267948966 * away;
      switch (problem.phi.name) {
        case PhiName::student: s = -power * std::log1p(-u / power), slope = power / (power - u); break;
        case PhiName::tophat: s = 0, slope = 0; break;
        case PhiName::epanechnikov: s = std::log1p(u), slope = 1 / (1 + u); break;
        case PhiName::linear: s = std::log1p(-away), slope = u == 0 ? 0 : 1 / (2 * away * (1 - away)); break;
        default: s = std::log(std::cos(angle)), slope = 0.7853981633974483 * std::tan(angle) / away;
      }
      if (problem.phi.compact() && u <= -1) s = -inf, slope = 0;
      errors = roundings[k] * slope;
      slope_errors = slope == 0 ? 0 : roundings[k] / (problem.phi.compact() ? 1 + u : 1 - u);
      if (problem.phi.name == PhiName::linear && slope != 0) slope_errors += roundings[k] / -u;
    }
    const bool pair = !excluded(k / M, k % M) && r != -inf && c != -inf && s != -inf;
    s_.push_back(pair ? s + r + c : -inf);
    slope_.push_back(slope);
    errors_.push_back(1 + (pair ? errors + std::abs(r) + std::abs(c) + std::abs(s) : 0));
    slope_errors_.push_back(slope_errors);
  }
}

template <class Real>
Answers Given<Real>::row_values(Op op) const {
  Answers rows(N);
  for (std::int64_t i = 0; i < N; ++i) {
    double most = -inf, sum = 0;
    for (std::int64_t j = 0; j < M; ++j) most = std::max(most, score(i, j));
    for (std::int64_t j = 0; j < M; ++j) {
      const double s = score(i, j), errors = errors_[i * M + j];
      if (op == Op::softplus)
        rows[i].value += softplus_of(s), rows[i].size += softplus_of(s) + logistic_of(s) * errors + smallest<Real>;
      if (op == Op::logsumexp && most > -inf) {
        sum += std::exp(s - most);
        rows[i].size += std::exp(s - most) * errors;
      }
    }
    if (op == Op::logsumexp) {
      rows[i].value = most > -inf ? most + std::log(sum) : -inf;
      rows[i].size = most > -inf ? rows[i].size / sum + 1 + std::abs(rows[i].value) : 0;
    }
  }
  return rows;
}

template <class Real>
Answers Given<Real>::col_values(Op op) const {
  Answers cols(M);
  for (std::int64_t j = 0; j < M; ++j) {
    double most = -inf, sum = 0;
    for (std::int64_t i = 0; i < N; ++i) most = std::max(most, score(i, j));
    for (std::int64_t i = 0; i < N; ++i) {
      const double s = score(i, j), errors = errors_[i * M + j];
      if (op == Op::softplus)
        cols[j].value += softplus_of(s), cols[j].size += softplus_of(s) + logistic_of(s) * errors + smallest<Real>;
      if (op == Op::logsumexp && most > -inf) {
        sum += std::exp(s - most);
        cols[j].size += std::exp(s - most) * errors;
      }
    }
    if (op == Op::logsumexp) {
      cols[j].value = most > -inf ? most + std::log(sum) : -inf;
      cols[j].size = most > -inf ? cols[j].size / sum + 1 + std::abs(cols[j].value) : 0;
    }
  }
  return cols;
}

template <class Real>
NaiveGradients Given<Real>::gradients(Op op, bool with_columns, bool with_anchor) const {
  const Answers row = row_values(op), col = col_values(op);
  const double alpha = problem.scale;
  const bool dot = problem.kind == Kind::dot;
  NaiveGradients out{Answers(N * D), Answers(M * D), Answers(N), Answers(M), {}};
  for (std::int64_t i = 0; i < N; ++i)
    for (std::int64_t j = 0; j < M; ++j) {
      const double s = score(i, j);
      if (s == -inf) continue;
      const double g = upstream.row[i] * (with_anchor ? logistic_of(row[i].value - upstream.anchor[i]) : 1);
      const double h = with_columns ? upstream.col[j] : 0;
      const bool sum = op == Op::softplus;
      const double of_row = g * (sum ? logistic_of(s) : std::exp(s - row[i].value));
      const double of_col = h * (sum ? logistic_of(s) : std::exp(s - col[j].value));
      // The relative error of a weight: the rounding of its score, of its log-sum-exp, and of φ'.
      const double row_off = errors_[i * M + j] + (sum ? 1 : row[i].size),
                   col_off = errors_[i * M + j] + (sum ? 1 : col[j].size);
      // Weights below 4e-19 of their sum, or below the smallest float, may be 0 (csrc/cpu/tile/score_grad.h).
      const double flushed =
          (std::abs(g) + std::abs(h)) * 4e-19 / double(std::numeric_limits<Real>::epsilon()) + smallest<Real>;
      const double P = of_row + of_col, P_size = std::abs(of_row) * row_off + std::abs(of_col) * col_off + flushed;
      const double U = slope_[i * M + j] * P;
      const double U_size =
          slope_[i * M + j] * (P_size + (std::abs(of_row) + std::abs(of_col)) * slope_errors_[i * M + j]);
      out.row_bias[i].value += P, out.row_bias[i].size += P_size;
      out.col_bias[j].value += P, out.col_bias[j].size += P_size;
      double t = 0, t_size = 0;
      for (std::int64_t d = 0; d < D; ++d) {
        const double a = x_[i * D + d], b = y_[j * D + d], c = center_.empty() ? 0 : std::abs(double(center_[d]));
        t += dot ? a * b : -(a - b) * (a - b);
        const double size = std::abs(a) + std::abs(b) + 2 * c;
        t_size += dot ? std::abs(a * b) : size * size;
        Sized &dx = out.x[i * D + d], &dy = out.y[j * D + d];
        dx.value += dot ? alpha * U * b : 2 * alpha * U * (b - a), dx.size += 2 * alpha * U_size * size;
        dy.value += dot ? alpha * U * a : 2 * alpha * U * (a - b), dy.size += 2 * alpha * U_size * size;
      }
      out.scale.value += U * t, out.scale.size += U_size * t_size;
    }
  // Each pair of a symmetric problem occurs as (i, j) and as (j, i), both times with both its weights.
  if (problem.symmetric) out.scale.value /= 2;
  return out;
}

template <class Real>
double Given<Real>::tolerance(const Sized& a) const {
  return double(D + 16) * double(std::numeric_limits<Real>::epsilon()) * a.size;
}

template class Given<float>;
template class Given<double>;

}  // namespace jessl::test
