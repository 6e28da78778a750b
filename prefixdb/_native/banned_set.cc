#include "banned_set.h"

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

  // Publishers take turns; a compaction that begins meanwhile waits for the copy of one array, well under a
  // millisecond.
  const std::lock_guard lock(mutex_);
  std::erase_if(namespace_ids, [this](uint64_t id) { return current_->Contains(id); });
  if (namespace_ids.empty()) return true;
  const std::span<const uint64_t> before = current_->ids();
  std::vector<uint64_t> merged;
  merged.reserve(before.size() + namespace_ids.size());
  auto copied = before.begin();
  for (const uint64_t id : namespace_ids) {
    const auto place = std::lower_bound(copied, before.end(), id);
    merged.insert(merged.end(), copied, place);
    merged.push_back(id);
    copied = place;
  }
  merged.insert(merged.end(), copied, before.end());
  current_ = std::make_shared<const BannedSet>(std::move(merged));
  return true;
}

void Bans::Withdraw(std::vector<uint64_t> namespace_ids) {
  SortUnique(&namespace_ids);
  const std::lock_guard lock(mutex_);
  std::erase_if(namespace_ids, [this](uint64_t id) { return !current_->Contains(id); });
  if (namespace_ids.empty()) return;
  const std::span<const uint64_t> before = current_->ids();
  std::vector<uint64_t> rest;
  rest.reserve(before.size() - namespace_ids.size());
  auto copied = before.begin();
  for (const uint64_t id : namespace_ids) {
    const auto place = std::lower_bound(copied, before.end(), id);
    rest.insert(rest.end(), copied, place);
    copied = place + 1;
  }
  rest.insert(rest.end(), copied, before.end());
  current_ = std::make_shared<const BannedSet>(std::move(rest));
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
