// Memory that a call works in: aligned, released on return, and NaN at first where JESSL_POISON is set, so that tests see
// what was read before it was written.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/driver.h"
#include "cpu/tile.h"

namespace jessl {

class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t bytes) : data_(static_cast<char*>(::operator new(bytes, std::align_val_t(64)))), left_(bytes) {
    next_ = data_;
    static const bool poison = std::getenv("JESSL_POISON") != nullptr;
    if (poison) std::memset(data_, 0xff, bytes);  // all bits one is a NaN in every real type
  }
  ~Scratch() { ::operator delete(data_, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The next n numbers, from a cache line of their own.
  template <class T>
  T* take(std::int64_t n) {
    T* taken = reinterpret_cast<T*>(next_);
    const std::int64_t bytes = size_of<T>(n);
    if (bytes > left_) throw std::bad_alloc();
    next_ += bytes;
    left_ -= bytes;
    return taken;
  }
  template <class T>
  static constexpr std::int64_t size_of(std::int64_t n) {
    return (n * std::int64_t(sizeof(T)) + 63) / 64 * 64;
  }

 private:
  char *data_ = nullptr, *next_ = nullptr;
  std::int64_t left_ = 0;
};

// What the drivers ask of a tile beside its scores.
struct Extras {
  bool slope, t;
};

// One thread's strip, tile and lines.
template <class Real>
class Bench {
 public:
  Bench(const Problem& p, Extras extras)
      : D_(padded<Real>(p.D())), lanes_(padded<Real>(most_rows)), memory_(bytes(p, extras)) {
    const bool plain = p.takes_differences(), other = p.kind == Kind::dot || p.expands_squares();
    strip.rows = rows(other, most_rows, D_);
    strip.across = rows(other, p.D(), lanes_);
    strip.plain_rows = rows(plain, most_rows, D_);
    strip.plain_across = rows(plain, p.D(), lanes_);
    tile.rows = rows(other, most_rows, D_);
    tile.plain_rows = rows(plain, most_rows, D_);
    tile.s = rows(true, most_rows, lanes_);
    tile.slope = rows(extras.slope, most_rows, lanes_);
    tile.t = rows(extras.t, most_rows, lanes_);
    to_columns = rows(true, most_rows, D_);
    for (Real** line : {&strip.inside, &strip.bias, &tile.inside, &tile.bias, &powers.row, &powers.col, &total.row, &total.col})
      *line = memory_.template take<Real>(lanes_);
  }

  // A strip is loaded once, when the thread meets it first.
  void load(const TileOps<Real>& ops, const Problem& p, std::int64_t first, std::int64_t count) {
    if (loaded_ && strip.first == first) return;
    strip.first = first;
    strip.count = count;
    ops.load_strip(p, strip);
    loaded_ = true;
  }

  Strip<Real> strip{};
  Tile<Real> tile{};
  Rows<Real> to_columns{};
  Sides<Real> powers{}, total{};
  Work work;

  static std::int64_t bytes(const Problem& p, Extras extras) {
    const std::int64_t D = padded<Real>(p.D()), lanes = padded<Real>(most_rows);
    return Scratch::size_of<Real>(most_rows * D) * 5 + Scratch::size_of<Real>(p.D() * lanes) * 2 +
           Scratch::size_of<Real>(most_rows * lanes) * (1 + extras.slope + extras.t) + Scratch::size_of<Real>(lanes) * 8;
  }

 private:
  Rows<Real> rows(bool wanted, std::int64_t count, std::int64_t ld) {
    return {wanted ? memory_.template take<Real>(count * ld) : nullptr, ld};
  }

  std::int64_t D_, lanes_;
  Scratch memory_;
  bool loaded_ = false;
};

}  // namespace jessl
