// The k largest scores of each row: a heap of k for each row of a strip. Its smallest score is the bar for later ones.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/passes/passes.h"
#include "cpu/passes/tiling.h"

namespace jessl {
namespace {

template <class Real>
struct Candidate {
  Real score;
  std::int64_t column;
};

// Largest first. NaN counts as larger than all, as in torch. Among equals the earlier column comes first.
template <class Real>
bool before(const Candidate<Real>& a, const Candidate<Real>& b) {
  const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && a.score != b.score) return a.score > b.score;
  return a.column < b.column;
}

}  // namespace

template <class Real>
void top_k(const Problem& p, std::int64_t k, const Options& options, Real* values, std::int64_t* indices) {
  const TileOps<Real>& ops = tile_ops<Real>(options.level);
  // One segment: a strip's heaps have one owner.
  Tiling tiling = cut(p, rows_for(p, options.workspace), 1, 1, options.workspace, options.workspace);
  tiling.plan.in_order = false;
  Crew<Real> crew(p, tiling.rows, {}, options, 0);
  const auto task = [&](const Task& t, int thread) {
    Workspace<Real>& b = crew[thread];
    std::vector<std::vector<Candidate<Real>>> heaps(tiling.rows_of(t.strip));
    for (auto& heap : heaps) heap.reserve(k);
    tiling.tiles(t, b.tile, [&](bool) {
      b.score(ops, p, tiling.first_row(t.strip), tiling.rows_of(t.strip));
      for (std::int64_t j = 0; j < b.tile.count; ++j)
        for (std::int64_t i = 0; i < b.strip.count; ++i) {
          const Real score = b.tile.s.data[j * b.tile.s.ld + i];
          auto& heap = heaps[i];
          if (std::int64_t(heap.size()) == k && score <= heap.front().score) continue;
          const Candidate<Real> candidate{score, b.tile.first + j};
          if (std::int64_t(heap.size()) == k) {
            if (!before(candidate, heap.front())) continue;
            std::pop_heap(heap.begin(), heap.end(), before<Real>);
            heap.pop_back();
          }
          heap.push_back(candidate);
          std::push_heap(heap.begin(), heap.end(), before<Real>);
        }
    });
    for (std::int64_t i = 0; i < b.strip.count; ++i) {
      std::sort_heap(heaps[i].begin(), heaps[i].end(), before<Real>);
      for (std::int64_t r = 0; r < k; ++r) {
        values[(b.strip.first + i) * k + r] = heaps[i][r].score;
        indices[(b.strip.first + i) * k + r] = heaps[i][r].column;
      }
    }
  };
  crew.run(tiling.plan, task);
}

template void top_k<float>(const Problem&, std::int64_t, const Options&, float*, std::int64_t*);
template void top_k<double>(const Problem&, std::int64_t, const Options&, double*, std::int64_t*);

}  // namespace jessl
