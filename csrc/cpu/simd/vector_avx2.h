// Vectors of 256 bits: 8 floats or 4 doubles. Include inside the target region of tile_avx2.cpp only.
//
// max and min return their first argument if either is NaN.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace jessl::avx2 {

struct F32 {
  using Real = float;
  static constexpr int lanes = 8;
  __m256 v;
  F32() = default;
  F32(__m256 v) : v(v) {}
  explicit F32(float x) : v(_mm256_set1_ps(x)) {}
  static F32 load(const float* p, std::int64_t = 0) { return _mm256_loadu_ps(p); }
  void store(float* p, std::int64_t = 0) const { _mm256_storeu_ps(p, v); }
};

inline F32 operator+(F32 a, F32 b) { return _mm256_add_ps(a.v, b.v); }
inline F32 operator-(F32 a, F32 b) { return _mm256_sub_ps(a.v, b.v); }
inline F32 operator*(F32 a, F32 b) { return _mm256_mul_ps(a.v, b.v); }
inline F32 operator/(F32 a, F32 b) { return _mm256_div_ps(a.v, b.v); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
inline F32 max(F32 a, F32 b) { return _mm256_max_ps(b.v, a.v); }
inline F32 min(F32 a, F32 b) { return _mm256_min_ps(b.v, a.v); }
inline F32 sqrt(F32 a) { return _mm256_sqrt_ps(a.v); }
inline F32 abs(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
// A mask is a vector whose lanes are all ones or all zeros.
struct Mask32 {
  __m256 v;
};
inline Mask32 operator<(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask32 operator==(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
inline F32 select(Mask32 m, F32 a, F32 b) { return _mm256_blendv_ps(b.v, a.v, m.v); }
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

// The same for any n and a: 0 where n < least, and +inf where n is above 126.
inline F32 scale_within(F32 a, F32 n, F32 least) {
  a = select(n < least, F32(0.0f), scale_by_power(a, n));
  return select(F32(126.0f) < n, F32(__builtin_inff()), a);
}

struct F64 {
  using Real = double;
  static constexpr int lanes = 4;
  __m256d v;
  F64() = default;
  F64(__m256d v) : v(v) {}
  explicit F64(double x) : v(_mm256_set1_pd(x)) {}
  static F64 load(const double* p, std::int64_t = 0) { return _mm256_loadu_pd(p); }
  void store(double* p, std::int64_t = 0) const { _mm256_storeu_pd(p, v); }
};

inline F64 operator+(F64 a, F64 b) { return _mm256_add_pd(a.v, b.v); }
inline F64 operator-(F64 a, F64 b) { return _mm256_sub_pd(a.v, b.v); }
inline F64 operator*(F64 a, F64 b) { return _mm256_mul_pd(a.v, b.v); }
inline F64 operator/(F64 a, F64 b) { return _mm256_div_pd(a.v, b.v); }
inline F64 fma(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a.v, b.v, c.v); }
inline F64 max(F64 a, F64 b) { return _mm256_max_pd(b.v, a.v); }
inline F64 min(F64 a, F64 b) { return _mm256_min_pd(b.v, a.v); }
inline F64 sqrt(F64 a) { return _mm256_sqrt_pd(a.v); }
inline F64 abs(F64 a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v); }
struct Mask64 {
  __m256d v;
};
inline Mask64 operator<(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask64 operator==(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ)}; }
inline F64 select(Mask64 m, F64 a, F64 b) { return _mm256_blendv_pd(b.v, a.v, m.v); }
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
inline F64 scale_within(F64 a, F64 n, F64 least) {
  a = select(n < least, F64(0.0), scale_by_power(a, n));
  return select(F64(1022.0) < n, F64(__builtin_inf()), a);
}

}  // namespace jessl::avx2
