// How the database is opened. Every setting that both stores share has the same value as in
// prefixdb/store/rocksdict.py, so that either may open the directory the other has written.
#pragma once

#include <rocksdb/options.h>

#include <cstdint>
#include <memory>

#include "ban_filter.h"
#include "banned_set.h"
#include "namespace_stats.h"

namespace prefixdb {

struct OpenOptions {
  bool create = false;
  bool read_only = false;
  bool sync = true;                           // A commit is on disk when it is acknowledged.
  uint64_t cache_bytes = 256ull << 20;        // Block cache; index and filter blocks live in it too.
  uint64_t write_buffer_bytes = 64ull << 20;  // One memtable; up to three exist.
  int max_open_files = 1024;
  uint64_t compaction_bytes_per_second = 0;  // 0: not limited. Flushes go first.
  uint64_t range_deletes_max = 2000;         // Unflushed range tombstones beyond which commits with more are refused.
};

// What the options refer to and the store reads afterwards.
struct Shared {
  std::shared_ptr<Bans> bans = std::make_shared<Bans>();
  std::shared_ptr<FilterCounts> filter_counts = std::make_shared<FilterCounts>();
  std::shared_ptr<DropCounters> drop_counters = std::make_shared<DropCounters>();
};

rocksdb::Options DatabaseOptions(const OpenOptions& wanted, const Shared& shared);

}  // namespace prefixdb
