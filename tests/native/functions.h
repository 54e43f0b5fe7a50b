// The vector functions of csrc/cpu/simd/math.h and csrc/cpu/tile/product.h over arrays, one table per level; n is a
// multiple of 16.
#pragma once

#include <cstdint>

#include "cpu/tile/tile.h"

namespace jessl::test {

template <class Real>
struct Functions {
  void (*exp_over)(const Real* x, std::int64_t n, Real power, Real* out);
  void (*softplus)(const Real* x, std::int64_t n, Real* out);
  void (*logistic)(const Real* x, std::int64_t n, Real* out);
  // C (rows × columns) (+)= A·B, and Σ_k (A − B)²; A by strides, B and C by rows of whole vectors.
  void (*product)(const Real* a, std::int64_t a_k, std::int64_t a_r, Rows<Real> b, Rows<Real> c, std::int64_t rows,
                  std::int64_t columns, std::int64_t K, bool accumulate);
  void (*squared_distance)(const Real* a, std::int64_t a_k, std::int64_t a_r, Rows<Real> b, Rows<Real> c,
                           std::int64_t rows, std::int64_t columns, std::int64_t K);
  void (*log)(const Real* x, std::int64_t n, Real* out);
  void (*log1p)(const Real* x, std::int64_t n, Real* out);
};

template <class Real>
Functions<Real> functions_portable();
template <class Real>
Functions<Real> functions_avx2();
template <class Real>
Functions<Real> functions_avx512();

template <class Real>
Functions<Real> functions(Level level) {
#if defined(__x86_64__)
  if (level == Level::avx512) return functions_avx512<Real>();
  if (level == Level::avx2) return functions_avx2<Real>();
#endif
  return functions_portable<Real>();
}

}  // namespace jessl::test
