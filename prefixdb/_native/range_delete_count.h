// How many range tombstones wait in memtables. Each slows every read down, so commits with more are refused beyond a
// limit; a flush takes them to table files, whichever flush it is.
#pragma once

#include <rocksdb/listener.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>

namespace prefixdb {

// Thread-safe.
class RangeDeleteCount final : public rocksdb::EventListener {
 public:
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

  // `count` tombstones were written; the last one has at most the sequence number `sequence`.
  void Add(uint64_t count, uint64_t sequence) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({sequence, count});
    value_.fetch_add(count, std::memory_order_relaxed);
  }

  // A memtable holds the writes of a stretch of sequence numbers, and memtables are flushed in order.
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo& info) override {
    const std::lock_guard lock(mutex_);
    while (!waiting_.empty() && waiting_.front().sequence <= info.largest_seqno) {
      value_.fetch_sub(waiting_.front().count, std::memory_order_relaxed);
      waiting_.pop_front();
    }
  }

 private:
  struct Written {
    uint64_t sequence;
    uint64_t count;
  };
  std::mutex mutex_;
  std::deque<Written> waiting_;
  std::atomic<uint64_t> value_{0};
};

}  // namespace prefixdb
