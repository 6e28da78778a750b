#include "memtable_list.h"

#include <cmath>

namespace prefixdb {

bool MemtableList::Insert(Entry* entry) {
  const InternalKey key = entry->key();
  const MemtableIndex::Way way = index_.Prepare(key);
  if (way.before != nullptr && way.before->key().Compare(key) == 0) return false;
  Entry* const before = way.before != nullptr ? way.before : &head_;
  Entry* const after = before->next.load(std::memory_order_relaxed);
  entry->next.store(after, std::memory_order_relaxed);
  before->next.store(entry, std::memory_order_release);
  if (after == nullptr) last_.store(entry, std::memory_order_release);
  index_.Insert(way, entry);
  count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return true;
}

const Entry* MemtableList::AtOrAfter(const InternalKey& key) const noexcept {
  const Entry* const before = index_.LastBefore(key, false);
  const Entry* next = (before != nullptr ? before : &head_)->next.load(std::memory_order_acquire);
  while (next != nullptr && next->key().Compare(key) < 0) next = next->next.load(std::memory_order_acquire);
  return next;
}

const Entry* MemtableList::Before(const InternalKey& key) const noexcept { return LastBefore(key, false); }
const Entry* MemtableList::AtOrBefore(const InternalKey& key) const noexcept { return LastBefore(key, true); }

const Entry* MemtableList::LastBefore(const InternalKey& key, bool or_equal) const noexcept {
  const Entry* found = index_.LastBefore(key, or_equal);
  const Entry* next = (found != nullptr ? found : &head_)->next.load(std::memory_order_acquire);
  for (; next != nullptr; next = next->next.load(std::memory_order_acquire)) {
    const int order = next->key().Compare(key);
    if (order > 0 || (order == 0 && !or_equal)) break;
    found = next;
  }
  return found;
}

uint64_t MemtableList::CountBefore(const InternalKey& key) const noexcept {
  const auto count = static_cast<double>(count_.load(std::memory_order_relaxed));
  return static_cast<uint64_t>(std::llround(index_.ShareBefore(key) * count));
}

}  // namespace prefixdb
