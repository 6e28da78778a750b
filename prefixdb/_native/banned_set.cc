#include "banned_set.h"

#include <iterator>

#include "key_codec.h"

namespace prefixdb {

namespace {

void SortUnique(std::vector<uint64_t>* ids) {
  std::sort(ids->begin(), ids->end());
  ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
}

}  // namespace

bool Bans::Publish(std::vector<uint64_t> namespace_ids) {
  SortUnique(&namespace_ids);
  if (namespace_ids.empty()) return true;
  if (namespace_ids.front() == 0 || namespace_ids.back() > kNamespaceIdMax) return false;

  // Publishers take turns, and a merge of 100,000 ids takes well under a millisecond: a compaction that begins
  // meanwhile can wait for it.
  const std::lock_guard lock(mutex_);
  const std::span<const uint64_t> before = current_->ids();
  if (std::includes(before.begin(), before.end(), namespace_ids.begin(), namespace_ids.end())) return true;
  std::vector<uint64_t> merged;
  merged.reserve(before.size() + namespace_ids.size());
  std::set_union(before.begin(), before.end(), namespace_ids.begin(), namespace_ids.end(), std::back_inserter(merged));
  current_ = std::make_shared<const BannedSet>(std::move(merged));
  return true;
}

void Bans::Withdraw(std::vector<uint64_t> namespace_ids) {
  SortUnique(&namespace_ids);
  const std::lock_guard lock(mutex_);
  const std::span<const uint64_t> before = current_->ids();
  std::vector<uint64_t> rest;
  rest.reserve(before.size());
  std::set_difference(before.begin(), before.end(), namespace_ids.begin(), namespace_ids.end(),
                      std::back_inserter(rest));
  if (rest.size() != before.size()) current_ = std::make_shared<const BannedSet>(std::move(rest));
}

std::shared_ptr<const BannedSet> Bans::Current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

void Bans::RaiseExpiryHorizon(uint64_t expires_before_ms) noexcept {
  uint64_t seen = expiry_horizon_ms_.load(std::memory_order_relaxed);
  while (seen < expires_before_ms &&
         !expiry_horizon_ms_.compare_exchange_weak(seen, expires_before_ms, std::memory_order_release,
                                                   std::memory_order_relaxed)) {
  }
}

}  // namespace prefixdb
