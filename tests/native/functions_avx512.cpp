// The standard headers come first, as in csrc/cpu/tile/tile_avx512.cpp.
#include <cmath>
#include <cstdint>
#include <limits>

#include "functions.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

#include "cpu/simd/vector_avx512.h"
#include "fill_functions.h"

namespace jessl::test {

template <>
Functions<float> functions_avx512<float>() {
  return filled<F32>();
}
template <>
Functions<double> functions_avx512<double>() {
  return filled<F64>();
}

}  // namespace jessl::test

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
