// exp, softplus, log(1 − e^s) and their slopes, of a vector. V is a vector type of one of the vector_*.h headers.
//
//   exp_over      e^x / 2^p for a whole number p: at most 1 ulp off (1.3 without a fused multiply-add), for |x| ≤ 1000,
//                 because the power is taken from the exponent and not from x. Below 2^−125.5 (2^−1020.5) it is 0, so
//                 that no subnormal number arises, which would take processors 20 to 40 times longer. From 2^126.5
//                 (2^1022.5) on, or once it no longer fits, it is +inf. NaN stays NaN.
//   softplus      log(1 + e^s): at most 4 ulp off, also where it is tiny, down to 2^−125.5; softplus(−inf) = 0
//   logistic      its slope 1 / (1 + e^{−s}): at most 3 ulp off
//   log           of a positive normal number, or of +inf: at most 2 ulp off, or 1e-7 (1e-16) if that is more; NaN
//                 stays NaN, and for other numbers it is some number
//   log1p         log(1 + x) of x > −1: at most 4 ulp off
//   log1m_exp     log(1 − e^s) of s < 0, and its slope: at most 4 ulp off up to −log 2; above, the library's, lane by
//                 lane
#pragma once

#include "pairwise/scalar.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// The constants of exp_over for a type.
//
// e^r on |r| ≤ ½ log 2 is 1 + r + r²(a_0 + a_1 r + …): the polynomial of an even degree with the least largest relative
// error (Remez), 3e-9 in float and 5e-20 in double. An even degree keeps it positive where r is not a reduced argument.
template <class Real>
struct Exp;
template <>
struct Exp<float> {
  // log 2 as a number of 12 bits and the rest: n·log2_high is exact for every n that occurs.
  static constexpr float log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
  static constexpr float least = -125.0f, round = 12582912.0f;  // 1.5·2²³
  static constexpr float terms[] = {0.499999934478f, 0.166665206318f, 0.0416683880310f, 0.00836871687524f,
                                    0.00138145995531f};
};
template <>
struct Exp<double> {
  static constexpr double log2_high = 6.93145751953125e-1, log2_low = 1.42860682030941723212e-6;
  static constexpr double least = -1020.0, round = 6755399441055744.0;  // 1.5·2⁵²
  static constexpr double terms[] = {
      0.500000000000000004389,   0.166666666666666834199,    0.0416666666666660942859,    0.00833333333331703433979,
      0.00138888888891156255189, 0.000198412698963836289065, 0.0000248015869266371170085, 0.00000275572348620835742711,
      2.75575818456129755882e-7, 2.51120367890536850778e-8,  2.08266277130490529976e-9};
};

template <class V>
V exp_over(V x, V power) {
  using Real = typename V::Real;
  using Exp = Exp<Real>;
  // Adding and subtracting 1.5·2^mantissa rounds to a whole number.
  const V shift(Exp::round), n = fma(x, V(Real(1.4426950408889634L)), shift) - shift;
  V r = fma(n, V(-Exp::log2_high), x);
  r = fma(n, V(-Exp::log2_low), r);
  constexpr int last = sizeof(Exp::terms) / sizeof(Real) - 1;
  V p(Exp::terms[last]);
#pragma GCC unroll 16
  for (int k = last - 1; k >= 0; --k) p = fma(p, r, V(Exp::terms[k]));
  p = fma(fma(p, r, V(Real(1))), r, V(Real(1)));
  return scale_within(p, n - power, V(Exp::least));
}

// log(1 + e) for −½ ≤ e ≤ 1, by 2 atanh(z) = 2 Σ z^{2k+1} / (2k+1) with z = e / (2 + e), |z| ≤ 1/3.
template <class V, class Real = typename V::Real>
V log1p_of_fraction(V e) {
  constexpr int terms = sizeof(Real) == 4 ? 8 : 17;
  const V z = e / (V(Real(2)) + e), square = z * z;
  V series = V(Real(1) / Real(2 * terms + 1));
#pragma GCC unroll 17
  for (int k = terms - 1; k >= 0; --k) series = fma(series, square, V(Real(1) / Real(2 * k + 1)));
  return (z + z) * series;
}

template <class V, class Real = typename V::Real>
V log(V x) {
  V power;
  const V series = log1p_of_fraction(split_power(x, power) - V(Real(1)));
  const V found = fma(power, V(Exp<Real>::log2_high), fma(power, V(Exp<Real>::log2_low), series));
  return select(x < V(Real(__builtin_inf())), found, x);
}

// The part of x that 1 + x rounds away is added.
template <class V, class Real = typename V::Real>
V log1p(V x) {
  const V one(Real(1)), y = one + x, found = log(y) + (x - (y - one)) / y;
  return select(x < V(Real(__builtin_inf())), found, x);
}

// e^{−|s|}, from which softplus and logistic are both made.
template <class V, class Real = typename V::Real>
V exp_of_minus_abs(V s) {
  return exp_over(V(Real(0)) - abs(s), V(Real(0)));
}

// softplus and logistic of s, given e = e^{−|s|}.
template <class V, class Real = typename V::Real>
V softplus_from(V s, V e) {
  return max(s, V(Real(0))) + log1p_of_fraction(e);
}
template <class V, class Real = typename V::Real>
V logistic_from(V s, V e) {
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

template <class V, class F, class Real = typename V::Real>
V each_lane(V s, F&& f) {
  alignas(64) Real lane[V::lanes];
  s.store(lane);
  for (Real& x : lane) x = f(x);
  return V::load(lane);
}

// Whether e^s is at most ½, so that 1 − e^s rounds no more than e^s does.
template <class V, class Real = typename V::Real>
bool far_below_zero(V s) {
  return largest(s) <= Real(-0.693147182);
}

template <class V, class Real = typename V::Real>
V log1m_exp(V s) {
  if (!far_below_zero(s)) return each_lane(s, [](Real x) { return log1m_exp<Real>(x); });
  return log1p_of_fraction(V(Real(0)) - exp_over(s, V(Real(0))));
}

template <class V, class Real = typename V::Real>
V log1m_exp_slope(V s) {
  if (!far_below_zero(s)) return each_lane(s, [](Real x) { return log1m_exp_slope<Real>(x); });
  const V e = exp_over(s, V(Real(0)));
  return e / (e - V(Real(1)));
}

}  // namespace
}  // namespace jessl
