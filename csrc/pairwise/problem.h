// The scores of one problem as the core receives them: plain pointers, sizes and words. The caller has checked them.
//
//   s_ij = φ(u_ij) + r_i + c_j        u_ij = α⟨x_i, y_j⟩ (dot)   or   −α‖x_i − y_j‖² (sqdist)
//
// Row and column vectors are in the real type: double where the embeddings are double, float for all others.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace jessl {

enum class Element { f32, f64, bf16, f16 };
enum class Kind { dot, sqdist };
enum class PhiName { identity, clamp, laplace, student, tophat, epanechnikov, linear, cosine };
// The term that is summed over pairs: e^s, for a log-sum-exp, or a ψ of s.
enum class Op { logsumexp, softplus, log1m_exp, step };

// The sums of a sweep along rows and columns: Σ e^{τ s} or Σ ψ(τ s) for each tilt τ, above 0 for exponentials. With
// `linear`, which needs one tilt of 1, also Σ s and the number of pairs.
struct Terms {
  Op op = Op::logsumexp;
  std::vector<double> tilts = {1};
  bool linear = false;

  // One sum of untilted scores: the passes that keep scores, or make sums and weights at once, take no others.
  bool plain() const { return tilts.size() == 1 && tilts[0] == 1 && !linear; }
};

// How u of a tile of squared distances is computed.
enum class Distances {
  differences,     // Σ_d (x_d − y_d)², exact however close two points are
  product,         // one matrix product, the square expanded around a center; α is not 0
  product_if_far,  // a product; differences in tiles where some pair has u > `far_apart`
};

struct Phi {
  PhiName name = PhiName::identity;
  double low = 0, high = 0;  // of a clamp; of student, low is its power c

  // φ is −inf for u ≤ −1 and at most 0 for u ≤ 0: pairs beyond a distance do not count.
  bool compact() const { return name >= PhiName::tophat; }
};

// Rows [first, end) of a batch, which lie in one tensor with any row and column strides, in elements.
struct Piece {
  const void* data = nullptr;
  std::int64_t row_stride = 0, column_stride = 0;
  std::int64_t first = 0, end = std::numeric_limits<std::int64_t>::max();

  template <class T>
  const T* row(std::int64_t i) const {
    return static_cast<const T*>(data) + (i - first) * row_stride;
  }
  bool operator==(const Piece&) const = default;
};

inline constexpr int most_pieces = 8;

// A batch of embeddings, in one tensor or in several that follow each other (two views of the same images, a queue).
// Each row is multiplied by its factor as it is read (1/‖x_i‖ normalizes it). The order of the rows may differ from
// that in memory.
struct Batch {
  std::array<Piece, most_pieces> pieces;
  std::int64_t rows, columns;
  Element element;
  const void* row_factor = nullptr;           // (rows) of the real type; null for none
  const std::int64_t* permutation = nullptr;  // row i lies at permutation[i]; null: at i
  bool normalized = false;  // rows times their factors have norm 1 or less: norms need not be computed

  std::int64_t place(std::int64_t i) const { return permutation ? permutation[i] : i; }
  const Piece& piece_at(std::int64_t place) const {
    const Piece* piece = pieces.data();
    while (place >= piece->end) ++piece;
    return *piece;
  }
  template <class T>
  const T* row_at(std::int64_t place) const {
    return piece_at(place).row<T>(place);
  }
};

// Whether two batches are the same rows. Views of one tensor may share their first element and nothing else.
inline bool same_rows(const Batch& a, const Batch& b) {
  return a.pieces == b.pieces && a.rows == b.rows && a.permutation == b.permutation;
}

// One id for each row and one for each column; null pointers for no ids. Ids that must match nothing are −1 among rows
// and −2 among columns, so that plain comparison is right.
struct Ids {
  const std::int32_t *row = nullptr, *col = nullptr;
};

inline constexpr int most_kept = 4;  // diagonals in `keep`
inline constexpr int most_ids = 8;   // pairs of ids, of each sort

// Points that were permuted: the number that row i had before, and the present place of column number j.
struct Moved {
  const std::int64_t *row_number = nullptr, *col_place = nullptr;
  std::int64_t columns = 0;
};

// A pair (i, j) is excluded if j − i is a listed diagonal, if its ids are equal by any pair of `same`, or if they
// differ by any pair of `different`; unless j − i is in `keep`. `keep` does not save pairs of equal ids in `without`,
// nor pairs of different ids in `within`. Diagonals count by the numbers before points were moved, ids by the present
// places.
struct Exclusion {
  const std::int64_t *diagonals = nullptr, *keep = nullptr;
  std::int64_t diagonal_count = 0, keep_count = 0;
  std::array<Ids, most_ids> same = {}, different = {};  // the first null ends the list
  Ids without = {}, within = {};
  Moved moved = {};

  // Ids that must be equal in every included pair; null if there are none.
  Ids classes() const { return within.row || keep_count ? within : different[0]; }
};

struct Problem {
  Batch x, y;
  bool symmetric;  // y is x, and s_ij = s_ji for every pair: half of the tiles serve both
  Kind kind;
  Phi phi;
  double scale;
  const void *row_bias, *col_bias;  // null for none
  Exclusion exclude;
  Distances distances;
  double far_apart;
  const void* center;      // (D,) of the real type, subtracted before a square is expanded; null for none
  bool of_itself = false;  // Y is X, so Y's gradient is added to X's; not set if they merely share memory
  double skip_below = 0;   // ε, the share of itself that a row's Σ e^s may lose (cpu/skip/skipping.h); 0 for none

  std::int64_t N() const { return x.rows; }
  std::int64_t M() const { return y.rows; }
  std::int64_t D() const { return x.columns; }
  // Squares are expanded in some tiles or in all; taken by differences in some or in all.
  bool expands_squares() const { return kind == Kind::sqdist && distances != Distances::differences; }
  bool takes_differences() const { return kind == Kind::sqdist && distances != Distances::product; }
  bool wide() const { return x.element == Element::f64; }
  // Pairs with −α‖x − y‖² ≤ −1 have the score −inf, and all others at most that of their biases.
  bool compact() const { return phi.compact() && scale > 0; }
  // Whether tiles may be skipped.
  bool skips() const { return skip_below > 0 || compact(); }
};

}  // namespace jessl
