// The tools of the core's tests: a list of facts, and a check that prints the numbers that broke one.
#pragma once

#include <atomic>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "cpu/tile/tile.h"

namespace jessl::test {

struct Fact {
  const char* name;
  void (*run)();
};

std::vector<Fact>& facts();
std::atomic<int>& failures();
bool exhaustive();  // every float, where a strided sweep is the rule

struct Register {
  Register(const char* name, void (*run)()) { facts().push_back({name, run}); }
};

template <class... Words>
bool check(bool holds, const Words&... words) {
  if (holds) return true;
  if (++failures() > 20) return false;  // one cause, many symptoms
  std::ostringstream line;
  line.precision(17);
  (line << ... << words);
  std::printf("    wrong: %s\n", line.str().c_str());
  return false;
}

// Levels that this processor runs, lowest first.
std::vector<Level> levels();

// A reproducible stream of numbers, the same on every platform.
struct Random {
  std::uint64_t state;
  std::uint64_t bits() {  // splitmix64
    std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform() { return double(bits() >> 11) * 0x1p-53; }
  double normal() {  // near enough: twelve uniform numbers less their mean
    double sum = -6;
    for (int k = 0; k < 12; ++k) sum += uniform();
    return sum;
  }
  std::int64_t below(std::int64_t n) { return std::int64_t(bits() % std::uint64_t(n)); }
};

}  // namespace jessl::test

#define FACT(name)                                                     \
  static void name();                                                  \
  static const ::jessl::test::Register registered_##name(#name, name); \
  static void name()
