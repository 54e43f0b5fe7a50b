// A thread's workspace: a strip, a tile and vectors of numbers. And the number of threads that get one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "cpu/options.h"
#include "cpu/scratch.h"
#include "cpu/tile/tile.h"

namespace jessl {

// What a pass needs of a tile beside its scores.
struct Extras {
  bool slope = false, t = false;
  int copies = 0;  // further tiles, for scores times another tilt
};

// A gradient needs φ'(u), and the gradient of the scale needs the squared distances.
inline Extras extras_of(const Problem& p, bool of_scale) {
  return {p.phi.name != PhiName::identity, of_scale && p.kind == Kind::sqdist};
}

// One thread's strip, tile and vectors.
template <class Real>
class Workspace {
 public:
  // For strips and tiles of up to `count` rows.
  Workspace(const Problem& p, std::int64_t count, Extras extras) : memory_(bytes(p, count, extras)) {
    const std::int64_t D = padded<Real>(p.D()), lanes = padded<Real>(count);
    const bool plain = p.takes_differences(), other = p.kind == Kind::dot || p.expands_squares();
    strip.place = rows(other, count, D);
    strip.across = rows(other, p.D(), lanes);
    strip.plain_place = rows(plain, count, D);
    strip.plain_across = rows(plain, p.D(), lanes);
    tile.place = rows(other, count, D);
    tile.plain_place = rows(plain, count, D);
    tile.s = rows(true, count, lanes);
    tile.slope = rows(extras.slope, count, lanes);
    tile.t = rows(extras.t, count, lanes);
    for (int k = 0; k < extras.copies; ++k) copies[k] = rows(true, count, lanes);
    to_columns = rows(true, count, D);
    for (Real** line : {&strip.inside, &strip.bias, &tile.inside, &tile.bias, &powers.row, &powers.col, &total.row,
                        &total.col, &counts.row, &counts.col})
      *line = memory_.template take<Real>(lanes);
  }

  // Loads a strip unless this thread already holds it; `across`: with the transpose that scores need.
  void load(const TileOps<Real>& ops, const Problem& p, std::int64_t first, std::int64_t count, bool across = true) {
    if (loaded_ && strip.first == first && (across_ || !across)) return;
    strip.first = first;
    strip.count = count;
    ops.load_strip(p, strip, across);
    loaded_ = true;
    across_ = across;
  }

  // Scores the tile, whose columns are chosen, against the strip of these rows.
  void score(const TileOps<Real>& ops, const Problem& p, std::int64_t first, std::int64_t count) {
    load(ops, p, first, count);
    ops.score(p, strip, tile);
    ++work.scored;
  }

  Strip<Real> strip{};
  Tile<Real> tile{};
  Rows<Real> to_columns{}, copies[2] = {};
  Sides<Real> powers{}, total{}, counts{};
  Work work;

  static std::int64_t bytes(const Problem& p, std::int64_t count, Extras extras) {
    const std::int64_t D = padded<Real>(p.D()), lanes = padded<Real>(count);
    const std::int64_t kinds = p.takes_differences() + (p.kind == Kind::dot || p.expands_squares());
    return Scratch::size_of<Real>(count * D) * (2 * kinds + 1) + Scratch::size_of<Real>(p.D() * lanes) * kinds +
           Scratch::size_of<Real>(count * lanes) * (1 + extras.slope + extras.t + extras.copies) +
           Scratch::size_of<Real>(lanes) * 10;
  }

 private:
  Rows<Real> rows(bool wanted, std::int64_t count, std::int64_t ld) {
    return {wanted ? memory_.template take<Real>(count * ld) : nullptr, ld};
  }

  Scratch memory_;
  bool loaded_ = false, across_ = false;
};

// The workspaces of the threads. There is one thread for every million multiplications of the scores, but no more than
// there are tiles, and no more than fit beside the `taken` bytes of the workspace.
template <class Real>
class Crew {
 public:
  // `more`: bytes that each thread needs beside its workspace.
  Crew(const Problem& p, std::int64_t rows, Extras extras, const Options& options, std::int64_t taken,
       std::int64_t more = 0)
      : options_(options) {
    const double work = double(p.N()) * double(p.M()) * double(p.D() + 16);
    const double room =
        double(options.workspace - options.taken - taken) / double(Workspace<Real>::bytes(p, rows, extras) + more);
    const double tiles = double((p.N() + rows - 1) / rows) * double((p.M() + rows - 1) / rows);
    const double threads = std::clamp(std::min({work / 1e6, room, tiles}), 1.0, double(options.threads));
    for (int t = 0; t < int(threads); ++t) workspaces_.emplace_back(p, rows, extras);
  }

  int threads() const { return int(workspaces_.size()); }
  Workspace<Real>& operator[](int thread) { return workspaces_[thread]; }

  template <class... Tasks>
  void run(const Plan& plan, Tasks&&... task_and_finish) {
    jessl::run(plan, int(workspaces_.size()), options_.interrupted, task_and_finish...);
    for (const Workspace<Real>& b : workspaces_)
      if (options_.work) *options_.work += b.work;
  }

 private:
  const Options& options_;
  std::deque<Workspace<Real>> workspaces_;  // its elements need not move
};

}  // namespace jessl
