// Runs the facts whose names contain the first argument, or all. `--exhaustive` sweeps every float.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "check.h"

namespace jessl::test {

std::vector<Fact>& facts() {
  static std::vector<Fact> all;
  return all;
}

std::atomic<int>& failures() {
  static std::atomic<int> count{0};
  return count;
}

static bool sweep_all = false;
bool exhaustive() { return sweep_all; }

std::vector<Level> levels() {
  std::vector<Level> found;
  for (const Level level : {Level::portable, Level::avx2, Level::avx512}) {
    setenv("JESSL_SIMD", name_of(level), 1);
    try {
      found.push_back(chosen_level());
    } catch (const std::exception&) {
    }
  }
  unsetenv("JESSL_SIMD");
  return found;
}

}  // namespace jessl::test

int main(int count, char** words) {
  using namespace jessl::test;
  setenv("JESSL_POISON", "1", 1);  // scratch memory is NaN until written to
  alarm(600);                      // threads that wait for each other must not keep a machine busy for ever
  const char* part = "";
  for (int k = 1; k < count; ++k)
    if (std::strcmp(words[k], "--exhaustive") == 0)
      sweep_all = true;
    else
      part = words[k];
  int broken = 0, run = 0;
  for (const Fact& fact : facts()) {
    if (!std::strstr(fact.name, part)) continue;
    failures() = 0;
    const auto start = std::chrono::steady_clock::now();
    fact.run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%s %5.1f s  %s\n", failures() ? "FAILED" : "ok    ", seconds, fact.name);
    std::fflush(stdout);
    broken += failures() != 0;
    ++run;
  }
  std::printf("%d facts, %d broken, at", run, broken);
  for (const jessl::Level level : levels()) std::printf(" %s", name_of(level));
  std::printf("\n");
  return broken || !run;
}
