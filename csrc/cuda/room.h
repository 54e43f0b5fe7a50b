// Memory that one call needs, cut from one piece.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jessl::cuda {

// Parts that follow each other from a beginning on; null if they are empty. Without a beginning all are null, and only
// counted.
class Room {
 public:
  explicit Room(void* begin = nullptr) : begin_(static_cast<std::byte*>(begin)) {}

  template <class T>
  T* take(std::int64_t count) {
    std::byte* const part = begin_ && count > 0 ? begin_ + bytes_ : nullptr;
    bytes_ += (count * std::int64_t(sizeof(T)) + aligned - 1) / aligned * aligned;
    return reinterpret_cast<T*>(part);
  }

  std::int64_t bytes() const { return bytes_; }

 private:
  static constexpr std::int64_t aligned = 256;
  std::byte* begin_;
  std::int64_t bytes_ = 0;
};

}  // namespace jessl::cuda
