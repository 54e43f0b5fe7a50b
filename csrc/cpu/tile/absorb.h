// Sums over a tile of scores, along its rows and its columns.
//
//   absorb       row_i = Σ_j e^{s_ij} / 2^p, col_j = Σ_i e^{s_ij} / 2^p     sums of a log-sum-exp, from a power of 2
//   linear       Σ_j s_ij over the included pairs, and their number
//
// A power of 2 is taken from the exponent, exactly; a maximum subtracted from scores would round each of them. One
// exponential serves a row and a column if the powers of both lie within `reach` of the tile's power; else each takes
// its own. Within a tile sums are floats (doubles in fp64) of 8 terms at a time; beyond a tile they are doubles. V: a
// vector type.
//
// Functions are `flatten`: passing four vectors through memory to a function that was not inlined doubles the time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/simd/math.h"
#include "cpu/simd/unroll4.h"
#include "cpu/tile/score.h"
#include "cpu/tile/tile.h"

namespace jessl {
namespace {  // each file that includes this has a copy of its own, compiled for its own processor

// With a power 80 too large, terms below the smallest float are under 2^{−125 + 80} = 3e-14 of their row: a million of
// them are below its rounding. (Rows of a normal sample in 128 dimensions lie up to 75 apart.)
constexpr double reach = 80;

// The power of 2 for a maximum: the multiple of 16 below it, so that it seldom changes from tile to tile and sums can
// be added as they are. It is 0 if every score is −inf or one is +inf.
template <class Real>
Real power_for(Real most) {
  return std::isfinite(most) ? 16 * std::floor(most * Real(1 / (16 * log_2))) : Real(0);
}

template <class V, class Real = typename V::Real>
void add_to(Real* where, V a) {
  (V::load(where) + a).store(where);
}

template <class Real>
void clear(Real* line, std::int64_t n, Real value = 0) {
  for (std::int64_t i = 0; i < n; ++i) line[i] = value;
}

// e^s / e^{log_base·from}.
template <class S>
S exponential(double log_base, S s, S from) {
  return log_base == log_2 ? exp_over(s, from) : exp_over(s - from, S(typename S::Real(0)));
}

// Eight columns of `sum_over`, from `first` on: column sums and the rows' partial sums stay in registers.
template <class V, bool keep, class F, class Real = typename V::Real>
void sum_columns(const Strip<Real>& strip, const Tile<Real>& tile, std::int64_t first, Sides<Real> total, F&& f) {
  const std::int64_t ld = tile.s.ld;
  Real* const low = tile.s.data + first * ld;
  Real* const high = low + 4 * ld;
  Four<V> columns(Real(0)), more(Real(0));
  for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) {
    Four<V> s = Four<V>::load(low + i, ld), t = Four<V>::load(high + i, ld);
    const Four<V> term = f(s, i, first);
    if (keep) s.store(low + i, ld);
    columns = columns + term;
    const Four<V> next = f(t, i, first + 4);
    if (keep) t.store(high + i, ld);
    more = more + next;
    const Four<V> pairs = term + next;
    add_to<V>(total.row + i, (pairs.a + pairs.b) + (pairs.c + pairs.d));
  }
  if (!total.col) return;
  Real* to = total.col + first;
  const V each[] = {columns.a, columns.b, columns.c, columns.d, more.a, more.b, more.c, more.d};
  for (const V& column : each) *to++ = sum(column);
}

// Sums of f(scores, i, j) over columns into total.row and, unless null, over rows into total.col. The scores are one
// vector or four, of rows from i on and columns from j on. With `keep` the scores as f left them are written back.
template <class V, bool keep = false, class F, class Real = typename V::Real>
void sum_over(const Strip<Real>& strip, const Tile<Real>& tile, Sides<Real> total, F&& f) {
  constexpr int block = 8;
  clear(total.row, strip.lanes);
  std::int64_t j = 0;
  for (; j + block <= tile.count; j += block) sum_columns<V, keep>(strip, tile, j, total, f);
  for (; j < tile.count; ++j) {
    V column(Real(0));
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) {
      Real* s = tile.s.data + j * tile.s.ld + i;
      V own = V::load(s);
      const V term = f(own, i, j);
      if (keep) own.store(s);
      column = column + term;
      add_to<V>(total.row + i, term);
    }
    if (total.col) total.col[j] = sum(column);
  }
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void absorb_bounded(const Strip<Real>& strip, Tile<Real>& tile, Real power, Sides<Real> total,
                                     bool keep) {
  const auto term = [power]<class S>(S& s, std::int64_t, std::int64_t) { return s = exp_over(s, S(power)); };
  if (keep)
    sum_over<V, true>(strip, tile, total, term);
  else
    sum_over<V>(strip, tile, total, term);
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void row_max(const Strip<Real>& strip, const Tile<Real>& tile, Real* most) {
  clear(most, strip.lanes, minus_infinity<Real>);
  std::int64_t j = 0;
  for (; j + 4 <= tile.count; j += 4)
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) {
      const Four<V> s = Four<V>::load(tile.s.data + j * tile.s.ld + i, tile.s.ld);
      max(max(max(s.a, s.b), max(s.c, s.d)), V::load(most + i)).store(most + i);
    }
  for (; j < tile.count; ++j)
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes)
      max(V::load(tile.s.data + j * tile.s.ld + i), V::load(most + i)).store(most + i);
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void to_terms(const Strip<Real>& strip, Tile<Real>& tile, const Real* from, Real* total) {
  sum_over<V, true>(strip, tile, {total, nullptr}, [from](auto& s, std::int64_t i, std::int64_t) {
    return s = exponential(1, s, at_rows<V>(s, from + i));
  });
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] void sum_tile(const Strip<Real>& strip, const Tile<Real>& tile, Sides<Real> total) {
  sum_over<V>(strip, tile, total, [](auto s, std::int64_t, std::int64_t) { return s; });
}

// `value` for an included pair, 0 for an excluded one.
template <class S>
S if_in(S s, S value) {
  return select(s == S(minus_infinity<typename S::Real>), S(typename S::Real(0)), value);
}

template <class V, class Real = typename V::Real>
void linear(const Strip<Real>& strip, const Tile<Real>& tile, Sides<Real> total, Sides<Real> count) {
  sum_over<V>(strip, tile, total, [](auto s, std::int64_t, std::int64_t) { return if_in(s, s); });
  sum_over<V>(strip, tile, count, [](auto s, std::int64_t, std::int64_t) { return if_in(s, decltype(s)(Real(1))); });
}

// Scores times a tilt, which may be negative; excluded pairs stay −inf.
template <class V, class Real = typename V::Real>
void tilted(const Strip<Real>& strip, const Tile<Real>& tile, Real tilt, Rows<Real> to) {
  each_score<V>(strip, tile, to, [=]<class S>(S s, std::int64_t, std::int64_t) {
    const S out(minus_infinity<Real>);
    return select(s == out, out, S(tilt) * s);
  });
}

// Whether some score is so large that its product with log2 e has no exact whole part. Then a maximum is subtracted
// instead, which is exact near that maximum.
template <class Real>
bool beyond_powers(const Real* values, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]) && std::abs(values[i]) > Real(1000)) return true;
  return false;
}

// Whether sums measured from a power of 2 have kept their digits.
template <class Real>
bool all_suit(const Real* sums, std::int64_t n) {
  const Real least = std::ldexp(Real(1), -int(reach)), most = 1 / least;
  bool fine = true;
  for (std::int64_t i = 0; i < n; ++i) fine &= (least <= sums[i]) & (sums[i] <= most);
  return fine;
}

// The references of n sums, given the maxima: powers of 2, or the maxima themselves. False if a score is beyond powers.
template <class Real>
bool choose(double log_base, Real* most, std::int64_t n) {
  if (log_base == log_2 && beyond_powers(most, n)) return false;
  for (std::int64_t k = 0; k < n; ++k)
    most[k] = log_base == log_2 ? power_for(most[k]) : std::isfinite(most[k]) ? most[k] : Real(0);
  return true;
}

// Rows and columns whose sums do not suit are summed again, each from a power of 2 of its own; or, unless log_base is
// log 2, all of them from their maxima. False if a score is beyond powers.
template <class V, class Real = typename V::Real>
bool absorb_alone(double log_base, const Strip<Real>& strip, const Tile<Real>& tile, Sides<Real> from,
                  Sides<Real> total) {
  const std::int64_t ld = tile.s.ld;
  const auto suit = [&](const Real* sums, std::int64_t n) { return log_base == log_2 && all_suit(sums, n); };
  for (std::int64_t i = 0; i < strip.count; i += V::lanes) {  // a vector of rows at a time
    if (suit(total.row + i, std::min<std::int64_t>(V::lanes, strip.count - i))) continue;
    const Real* s = tile.s.data + i;
    V most(minus_infinity<Real>), sums(Real(0));
    for (std::int64_t j = 0; j < tile.count; ++j) most = max(V::load(s + j * ld), most);
    most.store(from.row + i);
    if (!choose(log_base, from.row + i, V::lanes)) return false;
    const V own = V::load(from.row + i);
    for (std::int64_t j = 0; j < tile.count; ++j) sums = sums + exponential(log_base, V::load(s + j * ld), own);
    sums.store(total.row + i);
  }
  for (std::int64_t j = 0; from.col && j < tile.count; ++j) {
    if (suit(total.col + j, 1)) continue;
    const Real* s = tile.s.data + j * ld;
    V most(minus_infinity<Real>), sums(Real(0));
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes) most = max(V::load(s + i), most);
    from.col[j] = largest(most);
    if (!choose(log_base, from.col + j, 1)) return false;
    for (std::int64_t i = 0; i < strip.lanes; i += V::lanes)
      sums = sums + exponential(log_base, V::load(s + i), V(from.col[j]));
    total.col[j] = sum(sums);
  }
  return true;
}

// Sums measured from a power that is guessed from two columns, so that no maxima are needed. Rows and columns far from
// that power get powers of their own. False if a score is beyond powers: then `total` is meaningless.
template <class V, class Real = typename V::Real>
bool absorb_as_guessed(const Strip<Real>& strip, Tile<Real>& tile, Sides<Real> from, Sides<Real> total) {
  Real guess = largest_of<V>(strip, tile, tile.count < 2 ? tile.count : 2);
  if (guess == minus_infinity<Real>) guess = largest_of<V>(strip, tile, tile.count);
  // If so, no score beyond 1000 (see beyond_powers) hides in a row whose sum has the right size.
  if (!(std::abs(guess) <= Real(850))) return false;
  const Real power = power_for(guess);
  absorb_bounded<V>(strip, tile, power, total, false);
  clear(from.row, strip.lanes, power);
  if (from.col) clear(from.col, tile.count, power);
  return absorb_alone<V>(log_2, strip, tile, from, total);
}

template <class V, class Real = typename V::Real>
[[gnu::flatten]] double absorb_any(const Strip<Real>& strip, Tile<Real>& tile, Sides<Real> from, Sides<Real> total) {
  if (absorb_as_guessed<V>(strip, tile, from, total)) return log_2;
  absorb_alone<V>(1, strip, tile, from, total);
  return 1;
}

}  // namespace
}  // namespace jessl
