// Vectors of 512 bits: 16 floats or 8 doubles. Include inside the target region of tile_avx512.cpp only.
#pragma once

#include <immintrin.h>

#define JESSL_VECTOR_BYTES 64
#include "cpu/simd/vector.h"

namespace jessl {
namespace {

inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(b.v, a.v); }
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(b.v, a.v); }
inline F32 sqrt(F32 a) { return _mm512_sqrt_ps(a.v); }
inline F32 abs(F32 a) { return _mm512_abs_ps(a.v); }
inline __mmask16 operator<(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline __mmask16 operator==(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
inline F32 select(__mmask16 m, F32 a, F32 b) { return _mm512_mask_blend_ps(m, b.v, a.v); }
inline float sum(F32 a) { return _mm512_reduce_add_ps(a.v); }
inline float largest(F32 a) { return _mm512_reduce_max_ps(a.v); }
// a · 2^n for a whole n, |n| ≤ 126.
inline F32 scale_by_power(F32 a, F32 n) { return _mm512_scalef_ps(a.v, n.v); }
// The same for any n and a: 0 where n < least, and +inf where the result is too large, also where a is NaN and n +inf.
inline F32 scale_within(F32 a, F32 n, F32 least) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n.v, least.v, _CMP_NLT_UQ), a.v, n.v);
}

inline F64 fma(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a.v, b.v, c.v); }
inline F64 max(F64 a, F64 b) { return _mm512_max_pd(b.v, a.v); }
inline F64 min(F64 a, F64 b) { return _mm512_min_pd(b.v, a.v); }
inline bool any(__mmask8 m) { return m != 0; }
inline F64 sqrt(F64 a) { return _mm512_sqrt_pd(a.v); }
inline F64 abs(F64 a) { return _mm512_abs_pd(a.v); }
inline __mmask8 operator<(F64 a, F64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ); }
inline __mmask8 operator==(F64 a, F64 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ); }
inline F64 select(__mmask8 m, F64 a, F64 b) { return _mm512_mask_blend_pd(m, b.v, a.v); }
inline double sum(F64 a) { return _mm512_reduce_add_pd(a.v); }
inline double largest(F64 a) { return _mm512_reduce_max_pd(a.v); }
inline F64 scale_by_power(F64 a, F64 n) { return _mm512_scalef_pd(a.v, n.v); }
inline F64 scale_within(F64 a, F64 n, F64 least) {
  return _mm512_maskz_scalef_pd(_mm512_cmp_pd_mask(n.v, least.v, _CMP_NLT_UQ), a.v, n.v);
}

}  // namespace
}  // namespace jessl
