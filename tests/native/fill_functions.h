// The table of functions.h for one kind of vector. Included last, within the target region of a functions_*.cpp.
#pragma once

#include "cpu/simd/math.h"
#include "cpu/tile/product.h"
#include "functions.h"

namespace jessl::test {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

template <class V, V (*f)(V)>
void each(const typename V::Real* x, std::int64_t n, typename V::Real* out) {
  for (std::int64_t i = 0; i < n; i += V::lanes) f(V::load(x + i)).store(out + i);
}

template <class V>
void each_exp(const typename V::Real* x, std::int64_t n, typename V::Real power, typename V::Real* out) {
  for (std::int64_t i = 0; i < n; i += V::lanes) exp_over(V::load(x + i), V(power)).store(out + i);
}

template <class V>
void multiply(const typename V::Real* a, std::int64_t a_k, std::int64_t a_r, Rows<typename V::Real> b,
              Rows<typename V::Real> c, std::int64_t rows, std::int64_t columns, std::int64_t K, bool accumulate) {
  product<V>({a, b.data, c.data, a_k, a_r, b.ld, c.ld}, rows, columns, K, accumulate);
}

template <class V>
void distances(const typename V::Real* a, std::int64_t a_k, std::int64_t a_r, Rows<typename V::Real> b,
               Rows<typename V::Real> c, std::int64_t rows, std::int64_t columns, std::int64_t K) {
  product<V, true>({a, b.data, c.data, a_k, a_r, b.ld, c.ld}, rows, columns, K, false);
}

template <class V>
Functions<typename V::Real> filled() {
  return {each_exp<V>,  each<V, softplus<V>>, each<V, logistic<V>>, multiply<V>,
          distances<V>, each<V, log<V>>,      each<V, log1p<V>>};
}

}  // namespace
}  // namespace jessl::test
