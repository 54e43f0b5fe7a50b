// φ of a score, ψ of a sum over pairs, and their slopes, for one number or for a vector. They are defined only here in
// C++.
//
// T is float, double or a vector type. It needs sqrt, log, log1p, min, max and select(mask, a, b), found in its own
// namespace, and comparisons that return a mask.
#pragma once

#include <limits>
#include <type_traits>

#include "pairwise/host_device.h"
#include "pairwise/problem.h"
#include "pairwise/scalar.h"

namespace jessl {

template <class T>
JESSL_HOST_DEVICE inline T clamp_value(T u, T low, T high) {
  return min(max(u, low), high);  // in this order a NaN passes: max and min return their first argument then
}

// A NaN score must stay NaN in the gradient: comparisons alone would turn it into 0.
template <class T>
JESSL_HOST_DEVICE inline T clamp_slope(T u, T low, T high) {
  return select(u < low, T(0), select(high < u, T(0), select(u == u, T(1), u)));
}

// −√(−u), the negative distance. Rounding may leave u a little above 0.
template <class T>
JESSL_HOST_DEVICE inline T laplace_value(T u) {
  return T(0) - sqrt(T(0) - min(u, T(0)));
}

// The slope grows without bound as two points meet. Where they coincide it is 0, a subgradient, as in torch.cdist.
template <class T>
JESSL_HOST_DEVICE inline T laplace_slope(T u) {
  const T root = sqrt(T(0) - min(u, T(0)));
  return select(root == T(0), T(0), T(0.5) / root);
}

// −c log(1 − u/c), which tends to u as c grows, and its slope 1 / (1 − u/c).
template <class T>
JESSL_HOST_DEVICE inline T student_value(T u, T power) {
  return (T(0) - power) * log1p((T(0) - u) / power);
}
template <class T>
JESSL_HOST_DEVICE inline T student_slope(T u, T power) {
  return power / (power - u);
}

// The compact φ: with r = √(−u), the distance in units of the support's radius, e^φ is
//
//   tophat  1      epanechnikov  1 − r²      linear  1 − r      cosine  cos(πr/2)
//
// for r < 1, and 0 beyond, where φ is −inf and its slope 0. NaN stays NaN. Near the edge 1 − r is (1 + u) / (1 + r),
// which does not cancel.
template <class T>
JESSL_HOST_DEVICE inline T if_inside(T u, T value, T beyond) {
  return select(T(-1) < u, value, select(u == u, beyond, u));
}

template <class T>
JESSL_HOST_DEVICE inline T radius_of(T u) {
  return sqrt(T(0) - min(u, T(0)));
}

// sin(π√t/2)/√t for 0 ≤ t ≤ 1, by its Taylor series.
template <class T>
JESSL_HOST_DEVICE inline T sine_ratio(T t) {
  T ratio(1);
  JESSL_UNROLL(12)
  for (int k = 12; k > 0; --k) ratio = T(1) - t * T(2.4674011002723395 / double(2 * k * (2 * k + 1))) * ratio;
  return T(1.5707963267948966) * ratio;
}

template <class T>
JESSL_HOST_DEVICE inline T rest_of(T u) {
  return (T(1) + u) / (T(1) + radius_of(u));
}

// cos(πr/2), as a sine of 1 − r.
template <class T>
JESSL_HOST_DEVICE inline T cosine_of(T u) {
  const T rest = rest_of(u);
  return rest * sine_ratio(rest * rest);
}

// Two points that meet have no derivative of their distance: 0 is a subgradient.
template <class T>
JESSL_HOST_DEVICE inline T linear_slope(T u) {
  const T r = radius_of(u);
  return select(r == T(0), T(0), (T(1) + r) / ((r + r) * (T(1) + u)));
}

inline constexpr double beyond_support = -std::numeric_limits<double>::infinity();  // φ there

template <PhiName name, class T>
JESSL_HOST_DEVICE inline T phi_value(const Phi& phi, T u) {
  if constexpr (name == PhiName::clamp)
    return clamp_value(u, T(phi.low), T(phi.high));
  else if constexpr (name == PhiName::laplace)
    return laplace_value(u);
  else if constexpr (name == PhiName::student)
    return student_value(u, T(phi.low));
  else if constexpr (name == PhiName::tophat)
    return if_inside(u, T(0), T(beyond_support));
  else if constexpr (name == PhiName::epanechnikov)
    return if_inside(u, log(T(1) + u), T(beyond_support));
  else if constexpr (name == PhiName::linear)
    return if_inside(u, log(rest_of(u)), T(beyond_support));
  else if constexpr (name == PhiName::cosine)
    return if_inside(u, log(cosine_of(u)), T(beyond_support));
  else
    return u;
}

template <PhiName name, class T>
JESSL_HOST_DEVICE inline T phi_slope(const Phi& phi, T u) {
  if constexpr (name == PhiName::clamp)
    return clamp_slope(u, T(phi.low), T(phi.high));
  else if constexpr (name == PhiName::laplace)
    return laplace_slope(u);
  else if constexpr (name == PhiName::student)
    return student_slope(u, T(phi.low));
  else if constexpr (name == PhiName::tophat)
    return if_inside(u, T(0), T(0));
  else if constexpr (name == PhiName::epanechnikov)
    return if_inside(u, T(1) / (T(1) + u), T(0));
  else if constexpr (name == PhiName::linear)
    return if_inside(u, linear_slope(u), T(0));
  else if constexpr (name == PhiName::cosine)
    return if_inside(u, T(0.7853981633974483) * sine_ratio(T(0) - u) / cosine_of(u), T(0));
  else
    return T(1);
}

// Calls f(std::integral_constant of the name), so that the name is chosen outside of loops.
template <class F>
JESSL_HOST_DEVICE decltype(auto) with_name(PhiName name, F&& f) {
  switch (name) {
    case PhiName::clamp: return f(std::integral_constant<PhiName, PhiName::clamp>());
    case PhiName::laplace: return f(std::integral_constant<PhiName, PhiName::laplace>());
    case PhiName::student: return f(std::integral_constant<PhiName, PhiName::student>());
    case PhiName::tophat: return f(std::integral_constant<PhiName, PhiName::tophat>());
    case PhiName::epanechnikov: return f(std::integral_constant<PhiName, PhiName::epanechnikov>());
    case PhiName::linear: return f(std::integral_constant<PhiName, PhiName::linear>());
    case PhiName::cosine: return f(std::integral_constant<PhiName, PhiName::cosine>());
    case PhiName::identity: break;
  }
  return f(std::integral_constant<PhiName, PhiName::identity>());
}

template <class T>
JESSL_HOST_DEVICE inline T phi_value(const Phi& phi, T u) {
  return with_name(phi.name, [&](auto name) { return phi_value<name()>(phi, u); });
}
template <class T>
JESSL_HOST_DEVICE inline T phi_slope(const Phi& phi, T u) {
  return with_name(phi.name, [&](auto name) { return phi_slope<name()>(phi, u); });
}

//   softplus    log(1 + e^s)     slope 1 / (1 + e^{−s})
//   log1m_exp   log(1 − e^s)     slope −e^s / (1 − e^s), for s < 0
//   step        1 where s > 0    slope 0; a NaN stays
//
// At −inf each is 0, and so is its slope.
template <class T>
JESSL_HOST_DEVICE T psi_value(Op psi, T s) {
  if (psi == Op::softplus) return softplus(s);
  if (psi == Op::log1m_exp) return log1m_exp(s);
  return select(s == s, select(T(0) < s, T(1), T(0)), s);
}

template <class T>
JESSL_HOST_DEVICE T psi_slope(Op psi, T s) {
  if (psi == Op::softplus) return logistic(s);
  if (psi == Op::log1m_exp) return log1m_exp_slope(s);
  return T(0);
}

}  // namespace jessl
