// Bytes that are copied in one after the other and freed together; what was copied stays where it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace prefixdb {

// Not thread-safe. Views stay valid until the arena is destroyed or cleared; moving it does not move the bytes.
class Arena {
 public:
  // `expected`: size of the first block, when the caller knows what will come.
  explicit Arena(size_t expected = 0) : next_block_(std::max(expected, kBlockBytesMin)) {}

  std::string_view Copy(std::string_view bytes) {
    if (bytes.size() > left_) Grow(bytes.size());
    char* const start = free_;
    if (!bytes.empty()) std::memcpy(start, bytes.data(), bytes.size());
    free_ += bytes.size();
    left_ -= bytes.size();
    return {start, bytes.size()};
  }

 private:
  static constexpr size_t kBlockBytesMin = 1024;
  static constexpr size_t kBlockBytesMax = 1 << 20;

  void Grow(size_t wanted) {
    const size_t size = std::max(wanted, next_block_);
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    free_ = blocks_.back().get();
    left_ = size;
    next_block_ = std::min(2 * size, kBlockBytesMax);
  }

  std::vector<std::unique_ptr<char[]>> blocks_;
  char* free_ = nullptr;
  size_t left_ = 0;
  size_t next_block_;
};

}  // namespace prefixdb
