// The compaction filter: drops the rows of banned namespaces and rows whose lifetime has ended.
//
// It compares integers and reads nothing but the key and value it is given: no database, no file, no lock per row. It
// throws nothing. What it cannot parse it keeps and counts. A banned namespace is skipped in one step: compactions do
// not even read the rest of its rows, so rows and bytes dropped are counted from the files' own bookkeeping
// (namespace_stats.h), not here. An expired row is removed with a tombstone, so that no older version comes back.
#pragma once

#include <rocksdb/compaction_filter.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "banned_set.h"

namespace prefixdb {

// Thread-safe; shared by every filter of a store.
struct FilterCounts {
  std::atomic<uint64_t> malformed_kept{0};
  std::atomic<uint64_t> expired_dropped{0};
  std::atomic<uint64_t> namespaces_skipped{0};
};

// Hands every compaction a filter with the set that is current when it begins. Thread-safe. Flushes are not filtered.
class BanFilterFactory final : public rocksdb::CompactionFilterFactory {
 public:
  BanFilterFactory(std::shared_ptr<const Bans> bans, std::shared_ptr<FilterCounts> counts);
  const char* Name() const override { return "prefixdb.BanFilterFactory"; }
  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context& context) override;

 private:
  std::shared_ptr<const Bans> bans_;
  std::shared_ptr<FilterCounts> counts_;
};

}  // namespace prefixdb
