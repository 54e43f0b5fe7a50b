// exp, softplus and its slope, of a vector. V is a vector type of one of the vector_*.h headers.
//
//   exp_over      e^x / 2^p for a whole number p: at most 1 ulp off (1.3 without a fused multiply-add), for |x| ≤ 1000, since
//                 the power is taken from the exponent and not from x. Below 2^−125.5 (2^−1020.5): 0, so that no subnormal
//                 number arises, which would take processors 20 to 40 times longer. From 2^126.5 (2^1022.5): +inf. NaN stays NaN.
//   softplus      log(1 + e^s): at most 4 ulp off, also where it is tiny, down to 2^−125.5; softplus(−inf) = 0
//   logistic      its slope 1 / (1 + e^{−s}): at most 3 ulp off
#pragma once

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// e^r = Σ r^k / k! on |r| ≤ ½ log 2, to less than half an ulp: 8 terms in float, 14 in double.
template <class Real>
constexpr Real inverse_factorial[14] = {
    Real(1.0L),              Real(1.0L),               Real(1.0L / 2),          Real(1.0L / 6),
    Real(1.0L / 24),         Real(1.0L / 120),         Real(1.0L / 720),        Real(1.0L / 5040),
    Real(1.0L / 40320),      Real(1.0L / 362880),      Real(1.0L / 3628800),    Real(1.0L / 39916800),
    Real(1.0L / 479001600L), Real(1.0L / 6227020800L)};

template <class Real>
struct ExpRange;
template <>
struct ExpRange<float> {
  // log 2 as a number of 12 bits and the rest: n·log2_high is exact for every n that occurs.
  static constexpr float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
  static constexpr float least = -125.0f, most = 126.0f, round = 12582912.0f;  // 1.5·2²³
  static constexpr int terms = 7;
};
template <>
struct ExpRange<double> {
  static constexpr double log2_high = 6.93145751953125e-1, log2_low = 1.42860682030941723212e-6;
  static constexpr double least = -1020.0, most = 1022.0, round = 6755399441055744.0;  // 1.5·2⁵²
  static constexpr int terms = 13;
};

// Adding and taking away 1.5·2^mantissa leaves no room for a fraction.
template <class V>
V round_to_whole(V x) {
  const V shift(ExpRange<typename V::Real>::round);
  return (x + shift) - shift;
}

template <class V>
V exp_over(V x, V power) {
  using Real = typename V::Real;
  using Range = ExpRange<Real>;
  const V n = round_to_whole(x * V(Real(1.4426950408889634L)));
  V r = fma(n, V(-Range::log2_high), x);
  r = fma(n, V(-Range::log2_low), r);
  V p = V(inverse_factorial<Real>[Range::terms]);
#pragma GCC unroll 16
  for (int k = Range::terms - 1; k >= 0; --k) p = fma(p, r, V(inverse_factorial<Real>[k]));
  const V exponent = n - power;
  p = scale_by_power(p, exponent);
  p = select(exponent < V(Range::least), V(Real(0)), p);
  return select(V(Range::most) < exponent, V(Real(__builtin_inf())), p);
}

// log(1 + e) for 0 ≤ e ≤ 1, by 2 atanh(z) = 2 Σ z^{2k+1} / (2k+1) with z = e / (2 + e) ≤ 1/3.
template <class V>
V log1p_of_fraction(V e) {
  using Real = typename V::Real;
  constexpr int terms = sizeof(Real) == 4 ? 8 : 17;
  const V z = e / (V(Real(2)) + e), square = z * z;
  V series = V(Real(1) / Real(2 * terms + 1));
#pragma GCC unroll 17
  for (int k = terms - 1; k >= 0; --k) series = fma(series, square, V(Real(1) / Real(2 * k + 1)));
  return (z + z) * series;
}

// What softplus and logistic have in common.
template <class V>
V exp_of_minus_abs(V s) {
  return exp_over(V(typename V::Real(0)) - abs(s), V(typename V::Real(0)));
}

// Both from s and e = e^{−|s|}.
template <class V>
V softplus_from(V s, V e) {
  return max(s, V(typename V::Real(0))) + log1p_of_fraction(e);
}
template <class V>
V logistic_from(V s, V e) {
  using Real = typename V::Real;
  const V one(Real(1)), share = one / (one + e);
  return select(s < V(Real(0)), e * share, share);
}

template <class V>
V softplus(V s) {
  return softplus_from(s, exp_of_minus_abs(s));
}

template <class V>
V logistic(V s) {
  return logistic_from(s, exp_of_minus_abs(s));
}

}  // namespace
}  // namespace jessl
