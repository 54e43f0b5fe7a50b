// The scores of one problem as the core receives them: plain pointers, sizes and words, checked by the caller.
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
enum class PhiName { identity, clamp, laplace };
// What is summed over pairs: e^s, for a log-sum-exp, or a ψ of s.
enum class Op { logsumexp, softplus, log1m_exp, step };

// What a sweep over pairs adds up along rows and columns: Σ e^{τ s} or Σ ψ(τ s) for each tilt τ, above 0 for
// exponentials; and if `linear` also Σ s and the number of pairs, of one tilt of 1.
struct Terms {
  Op op = Op::logsumexp;
  std::vector<double> tilts = {1};
  bool linear = false;

  // One sum of the scores as they are: the passes that keep scores, or sum and weigh at once, take no others.
  bool plain() const { return tilts.size() == 1 && tilts[0] == 1 && !linear; }
};

// How u of a tile of squared distances is computed.
enum class Distances {
  differences,     // Σ_d (x_d − y_d)², exact however close two points are
  product,         // one matrix product, the square expanded around a center; α is not 0
  product_if_far,  // as a product; by differences for tiles where some pair has u > `far_apart`
};

struct Phi {
  PhiName name = PhiName::identity;
  double low = 0, high = 0;  // of a clamp
};

// Rows [first, end) of a batch that stand in one tensor: rows and columns may have any stride, in elements.
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
// Each row in memory has a factor that it is multiplied by as it is read (1/‖x_i‖ normalizes it). Rows may be seen in
// another order than they have in memory.
struct Batch {
  std::array<Piece, most_pieces> pieces;
  std::int64_t rows, columns;
  Element element;
  const void* row_factor = nullptr;           // (rows) of the real type; null for none
  const std::int64_t* permutation = nullptr;  // row i is the one that stands at permutation[i]; null for i
  bool normalized = false;  // with their factors rows have norm 1, or less: nobody need look for norms

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

// Whether these are the same rows; views of one tensor may share their first element and nothing else.
inline bool same_rows(const Batch& a, const Batch& b) {
  return a.pieces == b.pieces && a.rows == b.rows && a.permutation == b.permutation;
}

// One id for each row and one for each column; null pointers say nothing. Ids that must match nothing are −1 among rows
// and −2 among columns, so that plain comparison is right.
struct Ids {
  const std::int32_t *row = nullptr, *col = nullptr;
};

inline constexpr int most_kept = 4;  // diagonals in `keep`
inline constexpr int most_ids = 8;   // pairs of ids, of each sort

// Points that were put into another order: the number row i had before, and the place where column number j stands now.
struct Moved {
  const std::int64_t *row_number = nullptr, *col_place = nullptr;
  std::int64_t columns = 0;
};

// A pair (i, j) is excluded if j − i is a listed diagonal, or if its ids are the same by any pair of ids, or differ by
// any; unless j − i is kept. Whatever is kept, pairs of equal ids `without` are out, and all but those of equal ids
// `within`. Diagonals go by the numbers before points were moved, ids by where they stand.
struct Exclusion {
  const std::int64_t *diagonals = nullptr, *keep = nullptr;
  std::int64_t diagonal_count = 0, keep_count = 0;
  std::array<Ids, most_ids> same = {}, different = {};  // up to the first that is null
  Ids without = {}, within = {};
  Moved moved = {};

  // Ids that two of a pair must share to be in; null if there are none.
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
  bool of_itself = false;  // Y is X: what Y receives is added to what X does. Not of rows that merely lie in one place
  double skip_below = 0;   // ε: what a row's Σ e^s may lose of itself (cpu/skip/skipping.h); 0 for nothing

  std::int64_t N() const { return x.rows; }
  std::int64_t M() const { return y.rows; }
  std::int64_t D() const { return x.columns; }
  // A square is expanded for some tiles or all; by differences for some or all.
  bool expands_squares() const { return kind == Kind::sqdist && distances != Distances::differences; }
  bool takes_differences() const { return kind == Kind::sqdist && distances != Distances::product; }
  bool wide() const { return x.element == Element::f64; }
};

}  // namespace jessl
