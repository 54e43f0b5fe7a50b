// Distances and counts of nearest neighbours against all pairs.
#include "cpu/passes/neighbours.h"

#include <algorithm>
#include <cmath>

#include "check.h"

namespace jessl::test {
namespace {

struct Cloud {
  std::int64_t N, D;
  std::vector<double> z;
  Points points() const { return {z.data(), N, D}; }
  double gap(std::int64_t i, std::int64_t j, std::int64_t d) const { return std::abs(z[i * D + d] - z[j * D + d]); }
  double farthest(std::int64_t i, std::int64_t j, std::int64_t from, std::int64_t end) const {
    double most = 0;
    for (std::int64_t d = from; d < end; ++d) most = std::max(most, gap(i, j, d));
    return most;
  }
  double distance(Norm norm, std::int64_t i, std::int64_t j) const {
    if (norm == Norm::max) return farthest(i, j, 0, D);
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += gap(i, j, d) * gap(i, j, d);
    return std::sqrt(sum);
  }
};

// Whole numbers make ties and duplicates many. Tiles are left out in few dimensions, and pairs half measured in many.
Cloud cloud(Random& random, bool whole, std::int64_t most_dimensions) {
  Cloud c{2 + random.below(600), 1 + random.below(most_dimensions), {}};
  for (std::int64_t n = 0; n < c.N * c.D; ++n) c.z.push_back(whole ? double(random.below(4)) : random.normal());
  return c;
}

void judge(const Cloud& c, Norm norm, std::int64_t k, std::int64_t split, const Options& options) {
  std::vector<double> radius(c.N), reach(2 * c.N);
  std::vector<std::int64_t> count(c.N);
  kth_distance(c.points(), norm, k, options, radius.data());
  std::vector<double> limit = radius;
  count_nearer(c.points(), limit.data(), options, count.data());
  reach_of_nearer(c.points(), split, limit.data(), options, reach.data());
  for (std::int64_t i = 0; i < c.N; ++i) {
    std::vector<double> others;
    std::int64_t nearer = 0;
    double far[2] = {0, 0};
    for (std::int64_t j = 0; j < c.N; ++j) {
      if (j == i) continue;
      others.push_back(c.distance(norm, i, j));
      if (!(c.farthest(i, j, 0, c.D) < limit[i])) continue;
      ++nearer;
      far[0] = std::max(far[0], c.farthest(i, j, 0, split));
      far[1] = std::max(far[1], c.farthest(i, j, split, c.D));
    }
    std::sort(others.begin(), others.end());
    const double rounding = norm == Norm::max ? 0 : 1e-14 * others[k - 1];
    check(std::abs(radius[i] - others[k - 1]) <= rounding, name_of(options.level), ", N = ", c.N, ", D = ", c.D,
          ", k = ", k, ", row ", i, ": ", radius[i], ", truth ", others[k - 1]);
    check(count[i] == nearer, name_of(options.level), ", row ", i, ": ", count[i], " nearer, truth ", nearer);
    check(reach[2 * i] == far[0] && reach[2 * i + 1] == far[1], name_of(options.level), ", row ", i, ": reach");
  }
}

}  // namespace

FACT(neighbours_are_those_of_all_pairs_at_every_level) {
  Random random{7};
  for (int round = 0; round < 40; ++round) {
    const Cloud c = cloud(random, round % 4 == 0, round % 2 == 0 ? 3 : 20);
    const Norm norm = round % 3 > 0 ? Norm::max : Norm::euclidean;
    const std::int64_t k = 1 + random.below(std::min<std::int64_t>(c.N - 1, 20)), split = random.below(c.D + 1);
    for (const Level level : levels())
      for (const int threads : {1, 3}) judge(c, norm, k, split, {threads, 0, level, {}});
  }
}

FACT(neighbours_are_found_of_all_other_points_at_once) {
  Random random{8};
  const Cloud c = cloud(random, false, 20);
  for (const Level level : levels()) judge(c, Norm::max, c.N - 1, 0, {2, 0, level, {}});
}

}  // namespace jessl::test
