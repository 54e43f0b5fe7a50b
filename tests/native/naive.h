// Problems to solve, and their answers by plain loops in double, from the definitions in csrc/pairwise/problem.h.
//
// Each answer has a size, the sum of the absolute values of its terms: in any order of summation, a sum of D products
// may be off by D + 16 roundings of that size.
#pragma once

#include <vector>

#include <new>

#include "check.h"
#include "cpu/loss/row_loss.h"

namespace jessl::test {

struct Shape {
  std::int64_t N, M, D;
  bool symmetric = false;  // then M is N
  Element element = Element::f32;
  Kind kind = Kind::dot;
  PhiName phi = PhiName::identity;
  Distances distances = Distances::differences;
  double sharpness = 1;    // 20: scores beyond the reach of one power; 400: beyond 1000
  unsigned exclusion = 0;  // of the bits below
  bool row_bias = false, col_bias = false, strided = false;
  std::int64_t workspace = 64 << 20;
  double skip_below = 0;
};
enum : unsigned {
  main_diagonal = 1,
  side_diagonals = 2,
  kept = 4,
  same_ids = 8,
  different_ids = 16,
  without_ids = 32,
  within_ids = 64
};

std::string words(const Shape&);

// A number, and the size by which its error is measured.
struct Sized {
  double value = 0, size = 0;
  void add(double term, double errors) { value += term, size += std::abs(term) * errors; }
};
using Answers = std::vector<Sized>;

// Upstream gradients; col is empty if columns have none. `anchor` and `weight` are for strips.
struct UpstreamGradients {
  std::vector<double> row, col, anchor;
};

struct NaiveGradients {
  Answers x, y, row_bias, col_bias;  // in a symmetric problem x holds both halves
  Sized scale;
};

// Begins with a cache line, as torch's tensors do, and ends with its last element, so that the address sanitizer sees a
// step beyond.
template <class T>
struct Aligned {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const = default;
};
using Bytes = std::vector<char, Aligned<char>>;

// Real: of the core's results for this element.
template <class Real>
class Given {
 public:
  Given(const Shape&, std::uint64_t seed);
  Given(const Given&) = delete;

  Problem problem{};
  UpstreamGradients upstream;

  double score(std::int64_t i, std::int64_t j) const { return s_[i * M + j]; }  // −inf where the pair is excluded
  double errors(std::int64_t i, std::int64_t j) const { return errors_[i * M + j]; }
  Answers row_values(Op) const;
  Answers col_values(Op) const;
  // Log-sum-exps or sums decide the weight of a score; with an anchor they decide a row's share of it.
  NaiveGradients gradients(Op, bool with_columns, bool with_anchor) const;
  double tolerance(const Sized&) const;

  const std::int64_t N, M, D;

 private:
  void fill(Bytes& data, std::vector<double>& numbers, Batch& batch, std::int64_t rows, Random& random);
  bool excluded(std::int64_t i, std::int64_t j) const;
  void compute_scores();
  void choose_phi();

  Shape shape_;
  Bytes x_data_, y_data_;
  std::vector<double> x_, y_, u_, s_, slope_, errors_, slope_errors_;  // errors: of s, in units of rounding
  std::vector<Real> row_bias_, col_bias_, center_;
  std::vector<std::int64_t> diagonals_, keep_;
  struct IdLists {
    std::vector<std::int32_t> row, col;
  };
  IdLists same_, different_, without_, within_;
};

}  // namespace jessl::test
