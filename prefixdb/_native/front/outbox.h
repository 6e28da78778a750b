// What a call has to say and flow control has not let out: messages with their heads, or bytes that are passed on.
//
// A message stays the string it was handed over as; its head is written when its first byte goes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "front/grpc_codec.h"

namespace prefixdb::front {

// Belongs to its call.
class Outbox {
 public:
  void PushMessage(std::string message) { Push({std::move(message), kMessageHeadBytes}); }
  // Bytes that are framed already.
  void PushBytes(std::string_view bytes) {
    if (bytes.empty()) return;
    Piece& last = later_.empty() ? current_ : later_.back();
    if (bytes_ > 0 && last.head_bytes == 0 && last.body.size() + bytes.size() <= kJoinedMax) {
      last.body.append(bytes);
      bytes_ += bytes.size();
      return;
    }
    Push({std::string(bytes), 0});
  }

  bool empty() const noexcept { return bytes_ == 0; }
  // Bytes that wait, heads included.
  size_t bytes() const noexcept { return bytes_; }
  // Of the message that is going; 0 as long as none of it has gone.
  size_t gone_of_current() const noexcept { return offset_; }
  // Places for pieces that are held, also those of pieces that have gone.
  size_t pieces() const noexcept { return 1 + later_.capacity(); }

  // Moves `count` bytes to the end of `out`. Returns how many pieces were finished by that. Throws std::logic_error
  // when there are not so many: somebody was promised bytes that are gone.
  size_t Pop(size_t count, std::string* out) {
    if (count > bytes_) throw std::logic_error("bytes that were promised are gone");
    size_t finished = 0;
    while (count > 0) {
      if (offset_ < current_.head_bytes) {
        std::string head;
        AppendMessageHead(current_.body.size(), &head);
        const size_t taken = std::min(count, current_.head_bytes - offset_);
        out->append(head, offset_, taken);
        Advance(taken);
        count -= taken;
      }
      const size_t at = offset_ - std::min(offset_, current_.head_bytes);
      const size_t taken = offset_ < current_.head_bytes ? 0 : std::min(count, current_.body.size() - at);
      out->append(current_.body, at, taken);
      Advance(taken);
      count -= taken;
      if (offset_ == current_.head_bytes + current_.body.size()) {
        ++finished;
        Shift();
      }
    }
    return finished;
  }

  void Clear() {
    current_ = {};
    std::vector<Piece>().swap(later_);
    next_ = offset_ = bytes_ = 0;
  }

 private:
  static constexpr size_t kJoinedMax = 64 * 1024;
  static constexpr size_t kGoneMax = 64;
  struct Piece {
    std::string body;
    size_t head_bytes = 0;
  };

  void Push(Piece piece) {
    const bool first = bytes_ == 0;
    bytes_ += piece.head_bytes + piece.body.size();
    if (first) {
      current_ = std::move(piece);
      return;
    }
    // The places of those that have gone, also when something always waits; half are moved at most once for as many.
    if (next_ > kGoneMax && next_ > later_.size() / 2) {
      later_.erase(later_.begin(), later_.begin() + static_cast<std::ptrdiff_t>(next_));
      next_ = 0;
    }
    later_.push_back(std::move(piece));
  }
  void Advance(size_t count) {
    offset_ += count;
    bytes_ -= count;
  }
  void Shift() {
    offset_ = 0;
    if (next_ < later_.size()) {
      current_ = std::move(later_[next_++]);
    } else {
      current_ = {};
    }
    if (next_ == later_.size()) {
      later_.clear();
      next_ = 0;
    }
  }

  Piece current_;
  std::vector<Piece> later_;  // From `next_`.
  size_t next_ = 0;
  size_t offset_ = 0;  // Of `current_`, head included.
  size_t bytes_ = 0;
};

}  // namespace prefixdb::front
