// Joins: what becomes of a row's sums, and its slopes. The only place that knows them in C++ (problem/join.py in
// Python).
//
//   loss_i = f(N_i, P_i, spread_i, n_i)
//
//   N       log-sum-exp over the row's negatives, one for each tilt; or their sum of ψ
//   P       log-sum-exp over its positives, or their sum of ψ
//   spread  P − mean_p s_ip over its positives; exactly 0 where there is one
//   n       how many positives the row has
#pragma once

#include <optional>
#include <string_view>

#include "pairwise/scalar.h"

namespace jessl {

enum class Join { none, softplus, difference, sum, softplus_spread, softplus_count, tilt_difference };

inline constexpr int most_join_tilts = 2;

// A join's name, and what is known of it: how many N it takes; whether it takes P, so that a row without positives has
// loss 0 and slopes 0; whether it takes the spread; and whether its slopes by N are the same whatever N is.
struct JoinWord {
  const char* name;
  Join join;
  int tilts = 1;
  bool positives = true, spread = false, constant = false;
};
inline constexpr JoinWord joins[] = {
    {"none", Join::none, 1, false, false, true},
    {"softplus", Join::softplus},
    {"difference", Join::difference, 1, true, false, true},
    {"sum", Join::sum, 1, true, false, true},
    {"softplus_spread", Join::softplus_spread, 1, true, true},
    {"softplus_count", Join::softplus_count},
    {"tilt_difference", Join::tilt_difference, 2, true, false, true},
};

inline std::optional<JoinWord> join_of(std::string_view name) {
  for (const JoinWord& word : joins)
    if (name == word.name) return word;
  return {};
}

template <class T>
T join_value(Join join, const T* N, T P, T spread, T n) {
  switch (join) {
    case Join::none: return N[0];
    case Join::softplus: return softplus(N[0] - P);
    case Join::difference: return N[0] - P;
    case Join::sum: return N[0] + P;
    case Join::softplus_spread: return softplus(N[0] - P) + spread;
    case Join::softplus_count: return softplus(N[0] - P) + std::log(n);
    case Join::tilt_difference: return N[0] - N[1] - P;
  }
  return N[0];
}

template <class T>
struct JoinSlopes {
  T N[most_join_tilts];
  T P = 0, spread = 0;
};

template <class T>
JoinSlopes<T> join_slopes(Join join, const T* N, T P, T, T) {
  switch (join) {
    case Join::none: return {{1}};
    case Join::softplus:
    case Join::softplus_count: return {{logistic(N[0] - P)}, -logistic(N[0] - P)};
    case Join::softplus_spread: return {{logistic(N[0] - P)}, -logistic(N[0] - P), 1};
    case Join::difference: return {{1}, -1};
    case Join::sum: return {{1}, 1};
    case Join::tilt_difference: return {{1, -1}, -1};
  }
  return {};
}

}  // namespace jessl
