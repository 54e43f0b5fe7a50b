// The functions that φ, ψ and the joins need of a number type, for plain numbers. Vector types have their own.
#pragma once

#include <cmath>
#include <type_traits>

#include "pairwise/host_device.h"

namespace jessl {
namespace {  // no linkage: files compiled for other processors include this too

template <class T>
concept Scalar = std::is_floating_point_v<T>;

template <Scalar T>
JESSL_HOST_DEVICE T select(bool condition, T a, T b) {
  return condition ? a : b;
}
// With a NaN the first argument is returned, as vectors do.
template <Scalar T>
JESSL_HOST_DEVICE T min(T a, T b) {
  return b < a ? b : a;
}
template <Scalar T>
JESSL_HOST_DEVICE T max(T a, T b) {
  return a < b ? b : a;
}
template <Scalar T>
JESSL_HOST_DEVICE T sqrt(T a) {
  return std::sqrt(a);
}

template <Scalar T>
JESSL_HOST_DEVICE T log(T a) {
  return std::log(a);
}
template <Scalar T>
JESSL_HOST_DEVICE T log1p(T a) {
  return std::log1p(a);
}

// log(1 + e^s) and its slope 1 / (1 + e^{−s}), neither of which overflows. NaN stays NaN.
template <Scalar T>
JESSL_HOST_DEVICE T softplus(T s) {
  return s > 0 ? s + std::log1p(std::exp(-s)) : std::log1p(std::exp(s));
}
template <Scalar T>
JESSL_HOST_DEVICE T logistic(T s) {
  return 1 / (1 + std::exp(-s));
}

// log(1 − e^s) of s < 0, and its slope. Near 0, where e^s is close to 1, nothing equal is subtracted.
template <Scalar T>
JESSL_HOST_DEVICE T log1m_exp(T s) {
  return s > T(-0.6931471805599453) ? std::log(-std::expm1(s)) : std::log1p(-std::exp(s));
}
template <Scalar T>
JESSL_HOST_DEVICE T log1m_exp_slope(T s) {
  return 1 / -std::expm1(-s);
}

}  // namespace
}  // namespace jessl
