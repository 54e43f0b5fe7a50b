// ψ, the function of a score that a sum over pairs adds up, and its slope: the only place that knows them in C++.
//
//   softplus    log(1 + e^s)     slope 1 / (1 + e^{−s})
//   log1m_exp   log(1 − e^s)     slope −e^s / (1 − e^s), of s < 0
//   step        1 where s > 0    slope 0; a NaN stays
//
// Of −inf each is 0, and so is its slope. T is a plain number or a vector; its own functions bear these names.
#pragma once

#include "pairwise/problem.h"
#include "pairwise/scalar.h"

namespace jessl {

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
