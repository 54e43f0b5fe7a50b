// φ of a score and its derivative, for one number or for a vector of them: the only place that knows them in C++.
//
// T is float, double or a vector type. It needs sqrt, min, max and select(mask, a, b), found by its own namespace, and
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

// A NaN score must stay NaN in the gradient: comparisons alone would make a clean 0 of it.
template <class T>
JESSL_HOST_DEVICE inline T clamp_slope(T u, T low, T high) {
  return select(u < low, T(0), select(high < u, T(0), select(u == u, T(1), u)));
}

// −√(−u), the negative distance. Rounding may leave u a little above 0.
template <class T>
JESSL_HOST_DEVICE inline T laplace_value(T u) {
  return T(0) - sqrt(T(0) - min(u, T(0)));
}

// Grows without bound as two points meet; there 0 is in the subdifferential, and is what users of torch.cdist get.
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

}  // namespace jessl
