#include "cpu/skip/gathering.h"

#include <algorithm>
#include <vector>

#include "cpu/tile/rows.h"

namespace jessl {
namespace {

constexpr std::int64_t looks = 8;              // strips that are looked at
constexpr std::int64_t strip = most_rows / 2;  // of the pass that gathers

// The share of the columns that some strips, far from each other, would gather.
template <class Real>
double share_met(const Problem& p) {
  const BoundingVolumes x(p, p.x, nullptr, strip);
  const double square = square_beyond_support(p);
  std::vector<Real> points(most_rows * p.D());
  std::int64_t met = 0, seen = 0;
  for (std::int64_t first = 0; first < p.M(); first += most_rows) {
    const std::int64_t count = std::min(most_rows, p.M() - first), step = std::max<std::int64_t>(1, count / 24);
    load_rows<Real>(p.y, first, count, nullptr, {points.data(), p.D()});
    for (std::int64_t j = 0; j < count; j += step)
      for (std::int64_t k = 0; k < std::min(looks, x.groups()); ++k, ++seen)
        met += reaches(x[k * x.groups() / std::min(looks, x.groups())], points.data() + j * p.D(), p.D(), square);
  }
  return double(met) / double(seen);
}

}  // namespace

double square_beyond_support(const Problem& p) {
  return (1 + double(p.D() + 8) * (p.wide() ? 1e-13 : 1.2e-7)) / p.scale;
}

bool gathers(const Problem& p, const Terms& terms) {
  std::int64_t ids = p.exclude.diagonal_count;
  for (const Ids& pair : p.exclude.same) ids += pair.row != nullptr;
  if (!p.compact() || p.distances != Distances::differences || terms.op != Op::logsumexp || !terms.plain() ||
      p.exclude.keep_count > 0 || p.exclude.classes().row || ids > most_ids || std::max(p.N(), p.M()) <= most_rows)
    return false;
  // A symmetric problem computes half of its tiles, but gathers from both ends of each pair.
  return (p.wide() ? share_met<double>(p) : share_met<float>(p)) < (p.symmetric ? 0.4 : 0.8);
}

}  // namespace jessl
