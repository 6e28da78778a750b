// Bytes of large answers that clients have not taken yet, by namespace: the twin of Replies in
// prefixdb/service/arrivals.py.
//
// Small answers are not counted (`Limits::small_reply`, Pipeline). Beyond the limits a namespace gets no further large
// answer (RATE_LIMITED).
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "front/failure.h"

namespace prefixdb::front {

inline Failure TooMuchUnread() {
  return Fail(Reason::kRateLimited, "Too many large answers wait to be read; read them before asking again.");
}

// Thread-safe.
class Unread {
 public:
  Unread(uint64_t per_namespace_max, uint64_t all_max) : per_namespace_max_(per_namespace_max), all_max_(all_max) {}

  [[nodiscard]] bool Hold(uint64_t namespace_id, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    uint64_t& held = held_[namespace_id];
    if (held + bytes > per_namespace_max_ || total_ + bytes > all_max_) {
      if (held == 0) held_.erase(namespace_id);
      return false;
    }
    held += bytes;
    total_ += bytes;
    return true;
  }
  void Release(uint64_t namespace_id, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    total_ -= bytes;
    const auto found = held_.find(namespace_id);
    if ((found->second -= bytes) == 0) held_.erase(found);
  }

  uint64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }

 private:
  const uint64_t per_namespace_max_;
  const uint64_t all_max_;
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, uint64_t> held_;
  uint64_t total_ = 0;
};

// What one stream has counted, until it lets go of it. Belongs to its stream; `unread` outlives it.
class UnreadShare {
 public:
  UnreadShare() = default;
  ~UnreadShare() { Release(); }
  UnreadShare(const UnreadShare&) = delete;
  UnreadShare& operator=(const UnreadShare&) = delete;

  // Counts `bytes` altogether, or what was counted before if that is more. False: there is no room, nothing changes.
  [[nodiscard]] bool Reach(Unread* unread, uint64_t namespace_id, uint64_t bytes) {
    if (bytes <= bytes_) return true;
    if (!unread->Hold(namespace_id, bytes - bytes_)) return false;
    unread_ = unread;
    namespace_id_ = namespace_id;
    bytes_ = bytes;
    return true;
  }
  void Release() {
    if (bytes_ > 0) unread_->Release(namespace_id_, std::exchange(bytes_, 0));
  }

 private:
  Unread* unread_ = nullptr;
  uint64_t namespace_id_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace prefixdb::front
