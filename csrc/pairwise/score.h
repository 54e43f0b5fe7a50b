// φ of a score, ψ of a sum over pairs, and their slopes, for one number or for a vector. They are defined only here in
// C++.
//
// T is float, double or a vector type. It needs sqrt, min, max and select(mask, a, b), found in its own namespace, and
// comparisons that return a mask.
#pragma once

#include "pairwise/problem.h"
#include "pairwise/scalar.h"

#ifndef JESSL_HOST_DEVICE
#ifdef __CUDACC__
#define JESSL_HOST_DEVICE __host__ __device__
#else
#define JESSL_HOST_DEVICE
#endif
#endif

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

template <class T>
JESSL_HOST_DEVICE inline T phi_value(const Phi& phi, T u) {
  if (phi.name == PhiName::clamp) return clamp_value(u, T(phi.low), T(phi.high));
  return phi.name == PhiName::laplace ? laplace_value(u) : u;
}

template <class T>
JESSL_HOST_DEVICE inline T phi_slope(const Phi& phi, T u) {
  if (phi.name == PhiName::clamp) return clamp_slope(u, T(phi.low), T(phi.high));
  return phi.name == PhiName::laplace ? laplace_slope(u) : T(1);
}

//   softplus    log(1 + e^s)     slope 1 / (1 + e^{−s})
//   log1m_exp   log(1 − e^s)     slope −e^s / (1 − e^s), for s < 0
//   step        1 where s > 0    slope 0; a NaN stays
//
// At −inf each is 0, and so is its slope.
template <class T>
T psi_value(Op psi, T s) {
  if (psi == Op::softplus) return softplus(s);
  if (psi == Op::log1m_exp) return log1m_exp(s);
  return select(s == s, select(T(0) < s, T(1), T(0)), s);
}

template <class T>
T psi_slope(Op psi, T s) {
  if (psi == Op::softplus) return logistic(s);
  if (psi == Op::log1m_exp) return log1m_exp_slope(s);
  return T(0);
}

}  // namespace jessl
