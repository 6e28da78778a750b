#include "front/streams.h"

namespace prefixdb::front {

Streams::Slot Streams::Open(uint64_t namespace_id) {
  Slot slot;
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(namespace_id);
  if (open_ >= all_max_ || (found == counts_.end() ? 0 : found->second.slots) >= per_namespace_max_) return slot;
  Counts& counts = found == counts_.end() ? counts_[namespace_id] : found->second;
  ++counts.slots;
  ++counts.views;
  ++open_;
  slot.streams_ = this;
  slot.namespace_id_ = namespace_id;
  slot.viewing_ = true;
  return slot;
}

uint64_t Streams::views(uint64_t namespace_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(namespace_id);
  return found == counts_.end() ? 0 : found->second.views;
}

size_t Streams::open() const {
  const std::lock_guard lock(mutex_);
  return open_;
}

void Streams::CloseView(uint64_t namespace_id) {
  const std::lock_guard lock(mutex_);
  --counts_.find(namespace_id)->second.views;
}

void Streams::CloseSlot(uint64_t namespace_id) {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(namespace_id);
  --open_;
  if (--found->second.slots == 0) counts_.erase(found);  // A view never outlives its slot.
}

void Streams::Slot::CloseView() {
  if (streams_ == nullptr || !viewing_) return;
  viewing_ = false;
  streams_->CloseView(namespace_id_);
}

void Streams::Slot::Release() {
  if (streams_ == nullptr) return;
  CloseView();
  std::exchange(streams_, nullptr)->CloseSlot(namespace_id_);
}

}  // namespace prefixdb::front
