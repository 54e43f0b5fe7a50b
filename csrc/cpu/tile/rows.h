// Embeddings made ready for products: read in place, or converted, scaled and centered in scratch memory; and
// transposed.
#pragma once

#include <bit>
#include <cstdint>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "cpu/tile/dot.h"
#include "cpu/tile/tile.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

template <class Real>
constexpr Element element_of = sizeof(Real) == sizeof(float) ? Element::f32 : Element::f64;

double widened(double x) { return x; }
float widened(float x) { return x; }

struct BFloat16 {
  std::uint16_t bits;
};
float widened(BFloat16 x) { return std::bit_cast<float>(std::uint32_t(x.bits) << 16); }

struct Float16 {
  std::uint16_t bits;
};
// The bits shifted to a float's positions are the number times 2^−112, subnormals included, so one multiplication
// converts it. Infinities and NaN, whose exponent is all ones, need the larger exponent of a float.
float widened(Float16 x) {
  const std::uint32_t sign = std::uint32_t(x.bits & 0x8000u) << 16, magnitude = std::uint32_t(x.bits & 0x7fffu) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

template <class Real, class Source>
void copy_rows(const Batch& batch, std::int64_t first, std::int64_t count, const Real* center, Rows<Real> out) {
  const std::int64_t D = batch.columns;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t place = batch.place(first + i);
    const Piece& piece = batch.piece_at(place);
    const Source* __restrict source = piece.row<Source>(place);
    const std::int64_t column_stride = piece.column_stride;
    const Real factor = batch.row_factor ? static_cast<const Real*>(batch.row_factor)[place] : Real(1);
    Real* __restrict row = out.data + i * out.ld;
    if (column_stride == 1)
      for (std::int64_t d = 0; d < D; ++d) row[d] = factor * Real(widened(source[d]));
    else
      for (std::int64_t d = 0; d < D; ++d) row[d] = factor * Real(widened(source[d * column_stride]));
    if (center)
      for (std::int64_t d = 0; d < D; ++d) row[d] -= center[d];
    for (std::int64_t d = D; d < out.ld; ++d) row[d] = 0;
  }
}

// Rows [first, first + count) of a batch in the problem's order, in the real type, times their factors, minus the
// center.
template <class Real>
void load_rows(const Batch& batch, std::int64_t first, std::int64_t count, const Real* center, Rows<Real> out) {
  switch (batch.element) {
    case Element::f64: return copy_rows<Real, double>(batch, first, count, center, out);
    case Element::f32: return copy_rows<Real, float>(batch, first, count, center, out);
    case Element::bf16: return copy_rows<Real, BFloat16>(batch, first, count, center, out);
    case Element::f16: return copy_rows<Real, Float16>(batch, first, count, center, out);
  }
}

// Row i in place, if load_rows would make the same of it; else null.
template <class Real>
const Real* row_in_place(const Batch& batch, std::int64_t i) {
  const bool same = batch.element == element_of<Real>;
  const std::int64_t place = batch.place(i);
  const Piece& piece = batch.piece_at(place);
  return same && piece.column_stride == 1 && !batch.row_factor ? piece.row<Real>(place) : nullptr;
}

// Whether products can read rows [first, first + count) in place. The rows must be as load_rows would make them, in
// whole cache lines, so that whole vectors may be read, and not a multiple of 4 KiB apart, because then all would lie
// in the same set of L1.
template <class Real>
bool stand_ready(const Batch& batch, std::int64_t first, std::int64_t count) {
  constexpr std::int64_t line = 64 / sizeof(Real), page = 4096 / sizeof(Real);
  if (batch.permutation || count <= 0) return false;
  const Piece& piece = batch.piece_at(first);
  const Real* const there = first + count <= piece.end ? row_in_place<Real>(batch, first) : nullptr;
  const std::int64_t ld = piece.row_stride;
  return there && std::bit_cast<std::uintptr_t>(there) % 64 == 0 && batch.columns % line == 0 && ld % line == 0 &&
         ld % page != 0;
}

// Rows [first, first + count) for products: in place, or loaded into `place`.
template <class Real>
Rows<const Real> rows_ready(const Batch& batch, std::int64_t first, std::int64_t count, const Real* center,
                            Rows<Real> place) {
  if (!center && stand_ready<Real>(batch, first, count))
    return {batch.row_at<Real>(first), batch.piece_at(first).row_stride};
  load_rows(batch, first, count, center, place);
  return {place.data, place.ld};
}

// Four rows of four numbers become four columns.
template <class Real>
void transpose_four(const Real* from, std::int64_t from_ld, Real* to, std::int64_t to_ld) {
#ifdef __SSE__
  if constexpr (sizeof(Real) == sizeof(float)) {  // a third of the time of the loops below
    __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_ld), c = _mm_loadu_ps(from + 2 * from_ld),
           d = _mm_loadu_ps(from + 3 * from_ld);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + to_ld, b);
    _mm_storeu_ps(to + 2 * to_ld, c);
    _mm_storeu_ps(to + 3 * to_ld, d);
    return;
  }
#endif
  for (std::int64_t d = 0; d < 4; ++d)
    for (std::int64_t i = 0; i < 4; ++i) to[d * to_ld + i] = from[i * from_ld + d];
}

// The transpose of (count, D) rows, (D, lanes), with zeros beyond count. It goes by blocks, so that a cache line is
// filled while it is in cache.
template <class Real>
void transpose(Rows<const Real> rows, std::int64_t count, std::int64_t D, std::int64_t lanes, Rows<Real> out) {
  constexpr std::int64_t block = 16;
  for (std::int64_t i0 = 0; i0 < lanes; i0 += block) {
    std::int64_t d = 0;
    for (; i0 + block <= count && d + 4 <= D; d += 4)
      for (std::int64_t i = i0; i < i0 + block; i += 4)
        transpose_four(rows.data + i * rows.ld + d, rows.ld, out.data + d * out.ld + i, out.ld);
    for (; d < D; ++d)
      for (std::int64_t i = i0; i < i0 + block && i < lanes; ++i)
        out.data[d * out.ld + i] = i < count ? rows.data[i * rows.ld + d] : Real(0);
  }
}

// −α‖x_i‖² of each row.
template <class Real>
void minus_squares(Rows<const Real> rows, std::int64_t count, std::int64_t D, double scale, Real* out) {
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = Real(-scale * dot(rows.data + i * rows.ld, rows.data + i * rows.ld, D));
}

}  // namespace
}  // namespace jessl
