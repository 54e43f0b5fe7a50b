// Memory that a call works in. It is aligned. With JESSL_POISON set it begins as NaN, so that tests notice a read
// before the first write.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace jessl {

// Small blocks that a thread keeps for its next calls. New memory comes from the system page by page, which for a batch
// of 64 rows takes longer than its loss.
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
    if (own.held + block.size > most_held || own.blocks.size() >= most)
      return ::operator delete(block.data, std::align_val_t(64));
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
  ~Scratch() { SpareBlocks::give_back(block_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The next n numbers, beginning at a cache line of their own.
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

}  // namespace jessl
