// Vectors of 256 bits: 8 floats or 4 doubles. Include inside the target region of tile_avx2.cpp only.
#pragma once

#include <immintrin.h>

#define JESSL_VECTOR_BYTES 32
#include "cpu/simd/vector.h"

namespace jessl {
namespace {

inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
inline F32 max(F32 a, F32 b) { return _mm256_max_ps(b.v, a.v); }
inline F32 min(F32 a, F32 b) { return _mm256_min_ps(b.v, a.v); }
inline F32 sqrt(F32 a) { return _mm256_sqrt_ps(a.v); }
inline F32 abs(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
inline float sum(F32 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float largest(F32 a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
// a · 2^n for a whole n, |n| ≤ 126: 2^n is the number whose exponent bits are n + 127.
inline F32 scale_by_power(F32 a, F32 n) {
  const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a.v, _mm256_castsi256_ps(bits));
}

inline F64 fma(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a.v, b.v, c.v); }
inline F64 max(F64 a, F64 b) { return _mm256_max_pd(b.v, a.v); }
inline F64 min(F64 a, F64 b) { return _mm256_min_pd(b.v, a.v); }
inline bool any(F64::Mask m) { return _mm256_movemask_pd((__m256d)m.v) != 0; }
inline F64 sqrt(F64 a) { return _mm256_sqrt_pd(a.v); }
inline F64 abs(F64 a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v); }
inline double sum(F64 a) {
  const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
inline double largest(F64 a) {
  const __m128d s = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(s, _mm_unpackhi_pd(s, s)));
}
inline F64 scale_by_power(F64 a, F64 n) {
  const __m256i whole = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n.v));
  const __m256i bits = _mm256_slli_epi64(_mm256_add_epi64(whole, _mm256_set1_epi64x(1023)), 52);
  return _mm256_mul_pd(a.v, _mm256_castsi256_pd(bits));
}

}  // namespace
}  // namespace jessl
