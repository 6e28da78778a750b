// What every table file knows about the namespaces in it, and what dropping files and rows adds up to.
//
// A collector counts rows, deletions and raw bytes per namespace while a table is written and stores them as the user
// property "prefixdb.namespaces" (format in the .cc). RocksDB versions and bindings that do not know it ignore it;
// files written by them do not have it. From the properties of a compaction's inputs and outputs follows what it
// dropped of each banned namespace, although the filter skipped the rows unread.
#pragma once

#include <rocksdb/listener.h>
#include <rocksdb/table_properties.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "banned_set.h"

namespace prefixdb {

struct NamespaceStats {
  uint64_t namespace_id = 0;
  uint64_t rows = 0;       // Puts, overwritten versions included.
  uint64_t deletions = 0;  // Tombstones of single rows.
  uint64_t bytes = 0;      // Keys and stored values, uncompressed.
};

inline constexpr char kNamespaceStatsProperty[] = "prefixdb.namespaces";
inline constexpr size_t kNamespacesPerFileMax = 4096;  // The largest are kept; the list then says it is incomplete.

std::shared_ptr<rocksdb::TablePropertiesCollectorFactory> NewNamespaceStatsCollectorFactory();

// The stats of a table, by namespace id. `complete` is false when the table has no (readable) property or left some
// out.
struct TableStats {
  std::vector<NamespaceStats> namespaces;
  bool complete = false;
};
TableStats ReadNamespaceStats(const rocksdb::TableProperties& properties);

// Rows and bytes dropped per banned namespace since it was published. Thread-safe.
class DropCounters {
 public:
  struct Dropped {
    uint64_t rows = 0;
    uint64_t bytes = 0;
  };
  void Add(uint64_t namespace_id, uint64_t rows, uint64_t bytes);
  void Forget(const std::vector<uint64_t>& namespace_ids);
  Dropped Of(uint64_t namespace_id) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Dropped> dropped_;
};

// A listener that adds what each finished compaction dropped of the namespaces banned now: what its inputs held less
// what its outputs hold, old versions of rows included. It never claims more than is known. Inputs without the property
// (written by another RocksDB) are not counted; what the outputs hold is then taken off the rest; a namespace that an
// incomplete output does not list counts nothing. Files dropped whole are not its business (DeleteFilesInRange).
std::shared_ptr<rocksdb::EventListener> NewDropListener(std::shared_ptr<const Bans> bans,
                                                        std::shared_ptr<DropCounters> counters);

}  // namespace prefixdb
