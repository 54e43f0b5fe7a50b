// Matrix products of a tile, C = factor·A·B or C += A·B: R rows of C by 1 or 2 vectors of its columns at a time stay in
// registers.
//
//   C[r][c] = factor · Σ_k A[k·a_k + r·a_r] · B[k·b_k + c]        or   (A − B)²
//
// A is read as single broadcast numbers, so it may be transposed in memory. B and C are read as whole vectors along
// their rows, so the rest of the last vector must be readable, and writable in C. Nothing is packed: tiles are small
// enough to stay in L2. Row strides in scratch memory are odd numbers of cache lines (`padded` in tile.h), so that the
// rows of a block do not compete for one set. Embeddings read in place have whole vectors and no stride of whole pages
// (`stand_ready` in rows.h).
#pragma once

#include <cstdint>

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

template <class Real>
struct Operands {
  const Real *a, *b;
  Real* c;
  std::int64_t a_k, a_r, b_k, c_r;
  Real factor = 1;  // for all but sums
};

// How many rows of C stay in registers beside 2 vectors of B: 12 × 2 accumulators of 32 registers, or 6 × 2 of 16.
template <class V>
constexpr int rows_at_once = sizeof(V) == 64 ? 12 : 6;

// One block of C. Rows are addressed in threes, base + {0, 1, 2}·stride, which x86 does within one instruction. C is
// prefetched early and added last, because gradients come from L3 or memory and no product should wait for them.
// `squares`: Σ_k (A − B)² in place of Σ_k A·B, the squared distances of rows.
template <class V, int R, int Vectors, bool squares, class Real = typename V::Real>
void block_product(const Operands<Real>& o, std::int64_t K, bool accumulate) {
  constexpr int bases = (R + 2) / 3;
  V c[R][Vectors];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) c[r][v] = V(Real(0));
  const Real* a[bases];
#pragma GCC unroll 4
  for (int t = 0; t < bases; ++t) a[t] = o.a + 3 * t * o.a_r;
  const Real* b = o.b;
  if (accumulate) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) __builtin_prefetch(o.c + r * o.c_r, 1);
  }
  for (std::int64_t k = 0; k < K; ++k) {
    V row[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) row[v] = V::load(b + v * V::lanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V x(a[r / 3][(r % 3) * o.a_r]);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        const V difference = x - row[v];
        c[r][v] = squares ? fma(difference, difference, c[r][v]) : fma(x, row[v], c[r][v]);
      }
    }
    b += o.b_k;
#pragma GCC unroll 4
    for (int t = 0; t < bases; ++t) a[t] += o.a_k;
  }
  const V factor(o.factor);
  Real* const c_rows = o.c;  // a local: the compiler would read `o` again after every store
  const std::int64_t c_r = o.c_r;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      Real* to = c_rows + r * c_r + v * V::lanes;
      (accumulate ? V::load(to) + c[r][v] : c[r][v] * factor).store(to);
    }
}

// The last rows of C, fewer than a block of R.
template <class V, int Vectors, bool squares, int R = rows_at_once<V> - 1, class Real = typename V::Real>
void last_rows(const Operands<Real>& o, std::int64_t rows, std::int64_t K, bool accumulate) {
  if constexpr (R > 0) {
    if (rows == R)
      block_product<V, R, Vectors, squares>(o, K, accumulate);
    else
      last_rows<V, Vectors, squares, R - 1>(o, rows, K, accumulate);
  }
}

// All rows of C by Vectors vectors of its columns.
template <class V, int Vectors, bool squares, class Real = typename V::Real>
void all_rows(Operands<Real> o, std::int64_t rows, std::int64_t K, bool accumulate) {
  constexpr int R = rows_at_once<V>;
  for (; rows >= R; rows -= R) {
    block_product<V, R, Vectors, squares>(o, K, accumulate);
    o.a += R * o.a_r;
    o.c += R * o.c_r;
  }
  last_rows<V, Vectors, squares>(o, rows, K, accumulate);
}

// C (rows × columns) (+)= A·B over K; columns are rounded up to whole vectors.
template <class V, bool squares = false, class Real = typename V::Real>
void product(Operands<Real> o, std::int64_t rows, std::int64_t columns, std::int64_t K, bool accumulate) {
  for (; columns > V::lanes; columns -= 2 * V::lanes) {
    all_rows<V, 2, squares>(o, rows, K, accumulate);
    o.b += 2 * V::lanes;
    o.c += 2 * V::lanes;
  }
  if (columns > 0) all_rows<V, 1, squares>(o, rows, K, accumulate);
}

}  // namespace
}  // namespace jessl
