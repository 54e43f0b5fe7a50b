// One reduction as the core receives it: plain pointers, sizes and words, checked by the caller.
//
//   s_ij = φ(u_ij) + r_i + c_j        u_ij = α⟨x_i, y_j⟩ (dot)   or   −α‖x_i − y_j‖² (sqdist)
//
// Row and column vectors are in the real type: double where the embeddings are double, float for all others.
#pragma once

#include <cstdint>
#include <limits>

namespace jessl {

enum class Element { f32, f64, bf16, f16 };
enum class Kind { dot, sqdist };
enum class PhiName { identity, clamp, laplace };
enum class Op { logsumexp, softplus };

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

// Rows that stand in one tensor: rows and columns may have any stride, in elements.
struct Piece {
  const void* data;
  std::int64_t row_stride, column_stride;

  template <class T>
  const T* row(std::int64_t i) const {
    return static_cast<const T*>(data) + i * row_stride;
  }
  bool operator==(const Piece&) const = default;
};

// A batch of embeddings, in one tensor or in two (two views of the same images). Each row in memory has a factor that it is
// multiplied by as it is read (1/‖x_i‖ makes unit rows). Rows may be seen in another order than they have in memory.
struct Batch {
  Piece piece;
  std::int64_t rows, columns;
  Element element;
  Piece rest = {nullptr, 0, 0};  // where the rows from `split` on stand
  std::int64_t split = std::numeric_limits<std::int64_t>::max();
  const void* row_factor = nullptr;     // (rows) of the real type; null for none
  const std::int64_t* order = nullptr;  // row i is the one that stands at order[i]; null for i
  bool unit = false;                    // with their factors these are unit rows, or shorter ones: nobody need look for norms

  std::int64_t place(std::int64_t i) const { return order ? order[i] : i; }
  template <class T>
  const T* row_at(std::int64_t place) const {
    return place < split ? piece.row<T>(place) : rest.row<T>(place - split);
  }
  const Piece& piece_at(std::int64_t place) const { return place < split ? piece : rest; }
};

// Whether these are the same rows; views of one tensor may share their first element and nothing else.
inline bool same_rows(const Batch& a, const Batch& b) {
  return a.piece == b.piece && a.rest == b.rest && a.split == b.split && a.rows == b.rows && a.order == b.order;
}

// One id for each row and one for each column; a null pair excludes nothing. Ids that must match nothing are −1 among rows
// and −2 among columns, so that plain comparison is right.
struct Ids {
  const std::int32_t *row = nullptr, *col = nullptr;
};

inline constexpr int most_kept = 4;  // diagonals in `keep`

// Points that were put into another order: the number row i had before, and the place where column number j stands now.
struct Moved {
  const std::int64_t *row_number = nullptr, *col_place = nullptr;
  std::int64_t columns = 0;
};

// A pair (i, j) is out if j − i is a listed diagonal, or by its ids; unless j − i is kept. Diagonals go by the numbers before
// points were moved, ids by where they stand.
struct Exclusion {
  const std::int64_t *diagonals = nullptr, *keep = nullptr;
  std::int64_t diagonal_count = 0, keep_count = 0;
  Ids same, different;
  Moved moved = {};
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
  const void* center;  // (D,) of the real type, subtracted before a square is expanded; null for none
  double skip_below = 0;  // ε: what a row's Σ e^s may lose of itself (cpu/skipping.h); 0 for nothing

  std::int64_t N() const { return x.rows; }
  std::int64_t M() const { return y.rows; }
  std::int64_t D() const { return x.columns; }
  // A square is expanded for some tiles or all; by differences for some or all.
  bool expands_squares() const { return kind == Kind::sqdist && distances != Distances::differences; }
  bool takes_differences() const { return kind == Kind::sqdist && distances != Distances::product; }
  bool wide() const { return x.element == Element::f64; }
};

}  // namespace jessl
