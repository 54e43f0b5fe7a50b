// Memory that a call works in: aligned, and NaN at first where JESSL_POISON is set, so that tests see what was read before it
// was written.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "cpu/driver.h"
#include "cpu/tile.h"

namespace jessl {

// Small blocks that a thread has used and will use again: new ones come from the system page by page, which for a batch of 64
// rows takes longer than its loss.
class SpareBlocks {
 public:
  struct Block {
    char* data;
    std::int64_t size;
  };
  static Block take(std::int64_t bytes) {
    std::vector<Block>& blocks = mine().blocks;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      if (blocks[i].size >= bytes && blocks[i].size <= 2 * bytes) {
        const Block found = blocks[i];
        blocks[i] = blocks.back();
        blocks.pop_back();
        mine().held -= found.size;
        return found;
      }
    return {static_cast<char*>(::operator new(bytes, std::align_val_t(64))), bytes};
  }
  static void give_back(Block block) {
    SpareBlocks& own = mine();
    if (own.held + block.size > most_held || own.blocks.size() >= most) return ::operator delete(block.data, std::align_val_t(64));
    own.blocks.push_back(block);
    own.held += block.size;
  }

 private:
  static constexpr std::int64_t most_held = 8 << 20;
  static constexpr std::size_t most = 16;
  std::vector<Block> blocks;
  std::int64_t held = 0;
  static SpareBlocks& mine() {
    thread_local SpareBlocks own;
    return own;
  }
  SpareBlocks() { blocks.reserve(most); }  // giving back never throws
  ~SpareBlocks() {
    for (const Block& block : blocks) ::operator delete(block.data, std::align_val_t(64));
  }
};

class Scratch {
 public:
  explicit Scratch(std::int64_t bytes) : block_(SpareBlocks::take(bytes)), next_(block_.data), left_(bytes) {
    static const bool poison = std::getenv("JESSL_POISON") != nullptr;
    if (poison) std::memset(block_.data, 0xff, bytes);  // all bits one is a NaN in every real type
  }
  ~Scratch() {
    SpareBlocks::give_back(block_);
  }
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
  SpareBlocks::Block block_;
  char* next_;
  std::int64_t left_;
};

// What the drivers ask of a tile beside its scores.
struct Extras {
  bool slope, t;
};

// For gradients: φ'(u), and the squared distances themselves for that of the scale.
inline Extras extras_of(const Problem& p, bool of_scale) {
  return {p.phi.name != PhiName::identity, of_scale && p.kind == Kind::sqdist};
}

// One thread's strip, tile and lines.
template <class Real>
class Bench {
 public:
  // For strips and tiles of up to `count` rows.
  Bench(const Problem& p, std::int64_t count, Extras extras)
      : memory_(bytes(p, count, extras)) {
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
    to_columns = rows(true, count, D);
    for (Real** line : {&strip.inside, &strip.bias, &tile.inside, &tile.bias, &powers.row, &powers.col, &total.row, &total.col})
      *line = memory_.template take<Real>(lanes);
  }

  // A strip is loaded once, when the thread meets it first; `across`: for scores too, which ask for its transpose.
  void load(const TileOps<Real>& ops, const Problem& p, std::int64_t first, std::int64_t count, bool across = true) {
    if (loaded_ && strip.first == first && (across_ || !across)) return;
    strip.first = first;
    strip.count = count;
    ops.load_strip(p, strip, across);
    loaded_ = true;
    across_ = across;
  }

  Strip<Real> strip{};
  Tile<Real> tile{};
  Rows<Real> to_columns{};
  Sides<Real> powers{}, total{};
  Work work;

  static std::int64_t bytes(const Problem& p, std::int64_t count, Extras extras) {
    const std::int64_t D = padded<Real>(p.D()), lanes = padded<Real>(count);
    const std::int64_t kinds = p.takes_differences() + (p.kind == Kind::dot || p.expands_squares());
    return Scratch::size_of<Real>(count * D) * (2 * kinds + 1) + Scratch::size_of<Real>(p.D() * lanes) * kinds +
           Scratch::size_of<Real>(count * lanes) * (1 + extras.slope + extras.t) + Scratch::size_of<Real>(lanes) * 8;
  }

 private:
  Rows<Real> rows(bool wanted, std::int64_t count, std::int64_t ld) {
    return {wanted ? memory_.template take<Real>(count * ld) : nullptr, ld};
  }

  Scratch memory_;
  bool loaded_ = false, across_ = false;
};

}  // namespace jessl
