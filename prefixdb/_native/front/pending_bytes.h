// Bytes that come in at one end and go out at the other. What is gone gives its memory back, also when it never runs
// empty: an upload of gigabytes costs what is under way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace prefixdb::front {

// Not thread-safe.
class PendingBytes {
 public:
  void Add(std::string_view bytes) {
    // Half of it is moved at most once for as many bytes that have gone.
    if (begin_ > kKept && begin_ > bytes_.size() / 2) {
      bytes_.erase(0, begin_);
      begin_ = 0;
    }
    bytes_.append(bytes);
  }

  // Takes the first bytes out, as many as there are and have room; returns how many.
  size_t Take(void* buffer, size_t room) {
    const size_t bytes = std::min(room, size());
    if (bytes > 0) std::memcpy(buffer, bytes_.data() + begin_, bytes);
    begin_ += bytes;
    if (begin_ == bytes_.size()) Clear();
    return bytes;
  }

  void Clear() noexcept {
    bytes_.clear();
    begin_ = 0;
    if (bytes_.capacity() > kKept) std::string().swap(bytes_);
  }

  bool empty() const noexcept { return begin_ == bytes_.size(); }
  size_t size() const noexcept { return bytes_.size() - begin_; }
  size_t capacity() const noexcept { return bytes_.capacity(); }

 private:
  static constexpr size_t kKept = 64 * 1024;

  std::string bytes_;
  size_t begin_ = 0;
};

}  // namespace prefixdb::front
