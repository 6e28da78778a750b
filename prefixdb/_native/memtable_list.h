// The entries of a memtable in order: a list that only grows, with an index beside it. One thread inserts, any number
// read without a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "memtable_entry.h"
#include "memtable_index.h"

namespace prefixdb {

class MemtableList {
 public:
  explicit MemtableList(MemtableIndex::Memory memory) : index_(std::move(memory)) {}

  // Returns false, and does nothing, when an equal entry is there. One thread at a time.
  bool Insert(Entry* entry);

  // Any thread. Null when there is none.
  const Entry* First() const noexcept { return head_.next.load(std::memory_order_acquire); }
  const Entry* Last() const noexcept { return last_.load(std::memory_order_acquire); }
  const Entry* AtOrAfter(const InternalKey& key) const noexcept;
  const Entry* Before(const InternalKey& key) const noexcept;
  const Entry* AtOrBefore(const InternalKey& key) const noexcept;

  // About how many entries come before the key; exact while there are few.
  uint64_t CountBefore(const InternalKey& key) const noexcept;

 private:
  const Entry* LastBefore(const InternalKey& key, bool or_equal) const noexcept;

  MemtableIndex index_;
  Entry head_;  // Before the first; has no bytes.
  std::atomic<Entry*> last_{nullptr};
  std::atomic<uint64_t> count_{0};
};

}  // namespace prefixdb
