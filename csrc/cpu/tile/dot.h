// Inner products and distances of single rows. They round less than those of tiles.
#pragma once

#include <cstdint>

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// Σ_d term(d) as eight sums side by side. The compiler can keep them in vectors, and they round eight times less.
template <class Term>
double sum_of(std::int64_t n, Term&& term) {
  double parts[8] = {};
  std::int64_t d = 0;
  for (; d + 8 <= n; d += 8)
    for (int k = 0; k < 8; ++k) parts[k] += term(d + k);
  for (; d < n; ++d) parts[d % 8] += term(d);
  return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

template <class A, class B>
double dot(const A* a, const B* b, std::int64_t n) {
  return sum_of(n, [=](std::int64_t d) { return double(a[d]) * double(b[d]); });
}

template <class A, class B>
double squared_distance(const A* a, const B* b, std::int64_t n) {
  return sum_of(n, [=](std::int64_t d) { return (double(a[d]) - double(b[d])) * (double(a[d]) - double(b[d])); });
}

}  // namespace
}  // namespace jessl
