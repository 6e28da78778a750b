// Which namespaces compactions may drop, and up to when lifetimes have ended.
//
// Python decides what is banned and publishes it here; a compaction takes one immutable set when it begins and keeps
// it. Publishing is for good: an id leaves only by Withdraw, after its span was proven empty and before its number is
// issued again. A compaction that still holds the older set reads only files older than any row of the new owner.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace prefixdb {

// Immutable, sorted, without duplicates. Thread-safe.
class BannedSet {
 public:
  BannedSet() = default;
  explicit BannedSet(std::vector<uint64_t> sorted_ids) : ids_(std::move(sorted_ids)) {}
  bool Contains(uint64_t namespace_id) const noexcept {
    return std::binary_search(ids_.begin(), ids_.end(), namespace_id);
  }
  std::span<const uint64_t> ids() const noexcept { return ids_; }

 private:
  std::vector<uint64_t> ids_;
};

// What Python publishes into. Thread-safe.
class Bans {
 public:
  // False, and nothing is published, when an id is 0 or 2^64-1. O(size of the set).
  [[nodiscard]] bool Publish(std::vector<uint64_t> namespace_ids);
  void Withdraw(std::vector<uint64_t> namespace_ids);
  std::shared_ptr<const BannedSet> Current() const;

  // Rows whose lifetime ended at or before the horizon may be dropped. Never falls: smaller values are ignored.
  void RaiseExpiryHorizon(uint64_t expires_before_ms) noexcept;
  uint64_t expiry_horizon_ms() const noexcept { return expiry_horizon_ms_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const BannedSet> current_ = std::make_shared<const BannedSet>();
  std::atomic<uint64_t> expiry_horizon_ms_{0};
};

}  // namespace prefixdb
