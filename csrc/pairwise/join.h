// Joins: a row's loss from its sums, and the slopes of that loss. Joins are defined only here in C++ (problem/join.py
// in Python).
//
//   loss_i = f(N_i, P_i, spread_i, n_i)
//
//   N       log-sum-exp over the row's negatives, one for each tilt; or their sum of ψ
//   P       log-sum-exp over its positives, or their sum of ψ
//   spread  P − mean_p s_ip over its positives; exactly 0 for one positive
//   n       how many positives the row has
#pragma once

#include <cmath>
#include <optional>
#include <string_view>

#include "pairwise/host_device.h"

namespace jessl {

enum class Join { none, softplus, difference, sum, softplus_spread, softplus_count, tilt_difference };

inline constexpr int most_join_tilts = 2;

// A join's name and properties: how many N it takes; whether it takes P, so that a row without positives has loss 0 and
// slopes 0; whether it takes the spread; and whether its slopes by N are constants.
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

// A row's loss and its slopes.
template <class T>
struct Joined {
  T value, N[most_join_tilts];
  T P = 0, spread = 0;
};

template <class T>
JESSL_HOST_DEVICE Joined<T> joined(Join join, const T* N, T P, T spread, T n) {
  const T gap = N[0] - P;
  switch (join) {
    case Join::none: return {N[0], {1}};
    case Join::difference: return {gap, {1}, -1};
    case Join::sum: return {N[0] + P, {1}, 1};
    case Join::tilt_difference: return {gap - N[1], {1, -1}, -1};
    default: break;
  }
  const T e = std::exp(-std::abs(gap)), share = 1 / (1 + e), slope = gap < 0 ? e * share : share;
  const T softplus = (gap > 0 ? gap : 0) + std::log1p(e);
  if (join == Join::softplus_spread) return {softplus + spread, {slope}, -slope, 1};
  return {join == Join::softplus_count ? softplus + std::log(n) : softplus, {slope}, -slope};
}

}  // namespace jessl
