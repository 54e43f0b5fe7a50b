// The basis of skipping: bounding volumes, which bound scores, and the spatial sort of points. test_drivers.cpp
// compares the results of skipping with plain loops.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/skip/bounding.h"
#include "cpu/skip/skipping.h"
#include "naive.h"

namespace jessl::test {
namespace {

Shape shape_of(Kind kind, PhiName phi) {
  Shape s{300, 260, 5};
  s.kind = kind;
  s.phi = phi;
  s.row_bias = s.col_bias = kind == Kind::sqdist;
  return s;
}

}  // namespace

FACT(no_pair_has_a_larger_score_than_the_bounding_volumes_of_its_tiles_and_parts_allow) {
  for (const Kind kind : {Kind::dot, Kind::sqdist})
    for (const PhiName phi : {PhiName::identity, PhiName::clamp, PhiName::laplace, PhiName::student, PhiName::cosine}) {
      if (kind == Kind::dot && phi >= PhiName::laplace) continue;
      const Given<float> g(shape_of(kind, phi), 7);
      const Problem& p = g.problem;
      const std::int64_t sizes[] = {8, 64};
      const BoundingVolumes x[] = {{p, p.x, p.row_bias, 8}, {p, p.x, p.row_bias, 64}};
      const BoundingVolumes y[] = {{p, p.y, p.col_bias, 8}, {p, p.y, p.col_bias, 64}};
      for (std::int64_t i = 0; i < g.N; ++i)
        for (std::int64_t j = 0; j < g.M; ++j)
          for (const bool whole : {false, true}) {
            const BoundingVolume a = x[whole][i / sizes[whole]], b = y[whole][j / sizes[whole]];
            const double most = largest_score(p, a, b) + a.bias + b.bias;
            const double rounding = std::isfinite(most) ? 1e-5 * (1 + std::abs(most)) : 0;
            check(g.score(i, j) <= most + rounding, "score ", g.score(i, j), " above ", most);
          }
      Problem growing = p;
      growing.scale = -1;
      if (kind == Kind::sqdist)
        check(std::isinf(largest_score(growing, x[1][0], y[1][0])), "scores that grow with distance have no bound");
    }
}

FACT(a_negative_scale_is_bounded_too) {
  Given<float> g(shape_of(Kind::dot, PhiName::identity), 8);
  Problem p = g.problem;
  const double scale = p.scale;
  p.scale = -scale;
  p.row_bias = p.col_bias = nullptr;
  const BoundingVolumes x(p, p.x, nullptr, 64), y(p, p.y, nullptr, 64);
  for (std::int64_t i = 0; i < g.N; ++i)
    for (std::int64_t j = 0; j < g.M; ++j) {
      const double most = largest_score(p, x[i / 64], y[j / 64]);
      if (std::isfinite(g.score(i, j)))
        check(-g.score(i, j) <= most + 1e-5 * (1 + std::abs(most)), -g.score(i, j), " above ", most);
    }
}

FACT(a_spatial_sort_holds_every_point_once_and_is_the_same_for_the_same_points) {
  for (const std::int64_t n : {1, 2, 12, 13, 191, 192, 193, 500, 30'000}) {
    Random random{std::uint64_t(n)};
    std::vector<double> points(2 * n);
    for (double& x : points) x = random.normal();
    if (n > 100) points[7] = std::nan("");
    if (n > 200)
      for (std::int64_t k = 100; k < 300; ++k) points[k] = 1;  // many at one place
    const Batch batch{{points.data(), 2, 1}, n, 2, Element::f64};
    std::vector<std::int64_t> permutation(n), again(n), all(n);
    spatial_sort(batch, permutation.data());
    spatial_sort(batch, again.data());
    check(permutation == again, n, " points are sorted in two ways");
    std::sort(again.begin(), again.end());
    std::iota(all.begin(), all.end(), 0);
    check(again == all, n, " points are not all there once");
  }
}

FACT(a_spatial_sort_brings_the_points_of_a_cluster_together) {
  const std::int64_t n = 40'000, clusters = 20;  // more than are gathered at once
  Random random{5};
  std::vector<float> points(n);
  for (std::int64_t i = 0; i < n; ++i) points[i] = float(100 * (i % clusters) + random.normal());
  std::vector<std::int64_t> permutation(n);
  spatial_sort({{points.data(), 1, 1}, n, 1, Element::f32}, permutation.data());
  std::int64_t changes = 0;
  for (std::int64_t i = 1; i < n; ++i) changes += permutation[i] % clusters != permutation[i - 1] % clusters;
  check(changes < 10 * clusters, changes, " changes of cluster along it");
}

}  // namespace jessl::test
