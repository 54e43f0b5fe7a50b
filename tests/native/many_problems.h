// Problems of many kinds, solved at every level of instructions and on several threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "naive.h"

namespace jessl::test {

inline constexpr int thread_counts[] = {1, 2, 5};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int fewer = 3;  // they slow the core down five to twenty times
#else
inline constexpr int fewer = 1;
#endif

// Mostly small problems in which all properties are combined; the same ones on every run.
inline std::vector<Shape> shapes(std::uint64_t seed, int count, bool dot_without_phi_only = false) {
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
    if (random.below(3)) s.exclusion = unsigned(random.below(128));
    if (!dot_without_phi_only) {
      s.symmetric = random.below(3) == 0;
      s.kind = Kind(random.below(2));
      if (s.kind == Kind::sqdist) s.distances = Distances(random.below(3));
      s.phi = PhiName(random.below(3));
      if (s.phi == PhiName::laplace && (s.kind == Kind::dot || s.distances == Distances::product))
        s.phi = PhiName::identity;
    }
    if (!s.symmetric) s.row_bias = random.below(2), s.col_bias = random.below(2);
    all.push_back(s);
  }
  return all;
}

// With enough pairs for several threads, and with strips of 96 and 192 rows.
inline std::vector<Shape> large_shapes() {
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

// The same with an ε far below their rounding, so that plain loops remain the truth although tiles are skipped.
inline std::vector<Shape> skipping_shapes() {
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

// φ of Student's t and φ with a support, in few points and in enough of them for columns to be gathered.
inline std::vector<Shape> kernel_shapes() {
  std::vector<Shape> all = {{40, 33, 3}, {97, 97, 5, true}, {600, 600, 2, true}, {500, 450, 3}, {300, 700, 17}};
  std::vector<Shape> each;
  for (const PhiName phi : {PhiName::student, PhiName::epanechnikov, PhiName::linear, PhiName::cosine})
    for (Shape s : all) {
      s.kind = Kind::sqdist;
      s.phi = phi;
      s.sharpness = s.N > 200 ? 2 : 0.4;
      s.element = Element(each.size() % 4);
      s.exclusion = main_diagonal | (s.D == 3 ? side_diagonals : 0u) | (s.D == 17 ? same_ids | without_ids : 0u);
      s.row_bias = s.col_bias = !s.symmetric && s.D == 3;
      each.push_back(s);
    }
  return each;
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

// Calls solve(options) at every level on each number of threads; checks that bits are equal, and calls
// judge(result, words).
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
      check(solve(Options{threads, shape.workspace, level, {}}) == first, where, ": other bits on ", threads,
            " threads");
  }
}

template <class F>
void typed(const Shape& shape, std::uint64_t seed, F&& f) {
  if (shape.element == Element::f64)
    f(Given<double>(shape, seed), double());
  else
    f(Given<float>(shape, seed), float());
}

template <class Judge>
void judge_all(const std::vector<Shape>& all, Judge&& judge) {
  std::uint64_t seed = 100;
  for (const Shape& shape : all) judge(shape, ++seed);
}

}  // namespace jessl::test
