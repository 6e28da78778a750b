// The property:
//
//   "prefixdb.namespaces" := format u8 (1) | flags u8 (1: some left out) | entry*      until the end of the value
//   entry                 := namespace u64 big-endian | rows varint | deletions varint | bytes varint
//
// Entries ascend by namespace. A varint has seven bits a byte, the lowest first, the high bit on all but the last.
#include "namespace_stats.h"

#include <rocksdb/db.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "big_endian.h"
#include "key_codec.h"

namespace prefixdb {

namespace {

constexpr char kFormat = 1;
constexpr char kFlagIncomplete = 1;

void AppendVarint(uint64_t number, std::string* to) {
  for (; number >= 0x80; number >>= 7) to->push_back(static_cast<char>(number | 0x80));
  to->push_back(static_cast<char>(number));
}

bool TakeVarint(std::string_view* from, uint64_t* number) noexcept {
  *number = 0;
  for (unsigned shift = 0; shift < 64 && !from->empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(from->front());
    from->remove_prefix(1);
    *number |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return shift < 63 || byte <= 1;
  }
  return false;
}

bool LargerFirst(const NamespaceStats& one, const NamespaceStats& two) noexcept { return one.bytes > two.bytes; }

// Counts one table. Not thread-safe: RocksDB uses it from the thread that writes the table. A row costs a comparison
// and three additions: rows come in key order, so the namespace rarely changes.
class Collector final : public rocksdb::TablePropertiesCollector {
 public:
  const char* Name() const override { return "prefixdb.NamespaceStats"; }

  rocksdb::Status AddUserKey(const rocksdb::Slice& key, const rocksdb::Slice& value, rocksdb::EntryType type,
                             rocksdb::SequenceNumber /*sequence*/, uint64_t /*file_size*/) override {
    // Range tombstones are no rows, and keys without a namespace belong to nobody.
    if (type == rocksdb::kEntryRangeDeletion || key.size() < kNamespaceBytes) return rocksdb::Status::OK();
    const uint64_t namespace_id = ReadU64(key.data());
    if (namespace_id != current_.namespace_id) Close(namespace_id);
    const bool deletion = type == rocksdb::kEntryDelete || type == rocksdb::kEntrySingleDelete;
    current_.deletions += deletion ? 1 : 0;
    current_.rows += deletion ? 0 : 1;
    current_.bytes += key.size() + value.size();
    return rocksdb::Status::OK();
  }

  // Without memory for it the table has no property; its rows are unaffected.
  rocksdb::Status Finish(rocksdb::UserCollectedProperties* properties) override try {
    Close(0);
    KeepLargest();
    if (out_of_memory_) return rocksdb::Status::OK();
    std::sort(closed_.begin(), closed_.end(),
              [](const NamespaceStats& one, const NamespaceStats& two) { return one.namespace_id < two.namespace_id; });
    std::string packed{kFormat, incomplete_ ? kFlagIncomplete : '\0'};
    for (const NamespaceStats& stats : closed_) {
      AppendU64(stats.namespace_id, &packed);
      AppendVarint(stats.rows, &packed);
      AppendVarint(stats.deletions, &packed);
      AppendVarint(stats.bytes, &packed);
    }
    properties->emplace(kNamespaceStatsProperty, std::move(packed));
    return rocksdb::Status::OK();
  } catch (...) {
    return rocksdb::Status::OK();
  }

  rocksdb::UserCollectedProperties GetReadableProperties() const override { return {}; }

 private:
  // Ends the namespace that is being counted and begins `next`.
  void Close(uint64_t next) noexcept {
    if (current_.rows + current_.deletions > 0) {
      try {
        closed_.push_back(current_);
      } catch (...) {
        out_of_memory_ = true;
      }
      // A namespace that falls out here has enough larger ones in front of it, so it would not have come in later.
      if (closed_.size() >= 2 * kNamespacesPerFileMax) KeepLargest();
    }
    current_ = NamespaceStats{.namespace_id = next};
  }

  void KeepLargest() noexcept {
    if (closed_.size() <= kNamespacesPerFileMax) return;
    incomplete_ = true;
    const auto last = closed_.begin() + static_cast<std::ptrdiff_t>(kNamespacesPerFileMax);
    std::nth_element(closed_.begin(), last, closed_.end(), LargerFirst);
    closed_.erase(last, closed_.end());
  }

  NamespaceStats current_;
  std::vector<NamespaceStats> closed_;
  bool incomplete_ = false;
  bool out_of_memory_ = false;
};

class CollectorFactory final : public rocksdb::TablePropertiesCollectorFactory {
 public:
  const char* Name() const override { return "prefixdb.NamespaceStatsFactory"; }
  rocksdb::TablePropertiesCollector* CreateTablePropertiesCollector(Context /*context*/) override {
    return new Collector;
  }
};

class DropListener final : public rocksdb::EventListener {
 public:
  DropListener(std::shared_ptr<const Bans> bans, std::shared_ptr<DropCounters> counters)
      : bans_(std::move(bans)), counters_(std::move(counters)) {}

  const char* Name() const override { return "prefixdb.DropListener"; }

  void OnCompactionCompleted(rocksdb::DB* /*db*/, const rocksdb::CompactionJobInfo& job) override try {
    if (!job.status.ok()) return;
    const std::shared_ptr<const BannedSet> banned = bans_->Current();
    if (banned->ids().empty()) return;
    for (const auto& [namespace_id, dropped] : Difference(job, *banned)) {
      if (dropped.rows > 0 || dropped.bytes > 0) counters_->Add(namespace_id, dropped.rows, dropped.bytes);
    }
  } catch (...) {
    // Out of memory: what this compaction dropped stays uncounted.
  }

 private:
  using Totals = std::unordered_map<uint64_t, DropCounters::Dropped>;

  static TableStats StatsOf(const rocksdb::CompactionJobInfo& job, const std::string& file) {
    const auto found = job.table_properties.find(file);
    if (found == job.table_properties.end() || !found->second) return {};
    return ReadNamespaceStats(*found->second);
  }

  // What the inputs are known to have held of each banned namespace, less what the outputs hold.
  static Totals Difference(const rocksdb::CompactionJobInfo& job, const BannedSet& banned) {
    // A file that was only moved to another level is among both, and nothing of it is left.
    Totals totals;
    for (const std::string& file : job.input_files) {
      for (const NamespaceStats& stats : StatsOf(job, file).namespaces) {
        if (!banned.Contains(stats.namespace_id)) continue;
        DropCounters::Dropped& total = totals[stats.namespace_id];
        total.rows += stats.rows;
        total.bytes += stats.bytes;
      }
    }
    for (const std::string& file : job.output_files) {
      if (!totals.empty()) Subtract(StatsOf(job, file), &totals);
    }
    return totals;
  }

  static void Subtract(const TableStats& output, Totals* totals) {
    std::unordered_map<uint64_t, const NamespaceStats*> listed;
    for (const NamespaceStats& stats : output.namespaces) listed.emplace(stats.namespace_id, &stats);
    for (auto& [namespace_id, total] : *totals) {
      const auto found = listed.find(namespace_id);
      if (found != listed.end()) {
        // Inputs without the property may have brought in more than the inputs with it are known to have held.
        total.rows -= std::min(total.rows, found->second->rows);
        total.bytes -= std::min(total.bytes, found->second->bytes);
      } else if (!output.complete) {
        total = {};  // It may be in there, unlisted: rather count nothing than too much.
      }
    }
  }

  const std::shared_ptr<const Bans> bans_;
  const std::shared_ptr<DropCounters> counters_;
};

}  // namespace

std::shared_ptr<rocksdb::TablePropertiesCollectorFactory> NewNamespaceStatsCollectorFactory() {
  return std::make_shared<CollectorFactory>();
}

TableStats ReadNamespaceStats(const rocksdb::TableProperties& properties) {
  const auto found = properties.user_collected_properties.find(kNamespaceStatsProperty);
  if (found == properties.user_collected_properties.end()) return {};
  std::string_view packed = found->second;
  if (packed.size() < 2 || packed[0] != kFormat || (packed[1] & ~kFlagIncomplete) != 0) return {};
  TableStats table{.namespaces = {}, .complete = packed[1] == 0};
  packed.remove_prefix(2);
  while (!packed.empty()) {
    NamespaceStats stats;
    if (packed.size() < kNamespaceBytes) return {};
    stats.namespace_id = ReadU64(packed.data());
    packed.remove_prefix(kNamespaceBytes);
    if (!TakeVarint(&packed, &stats.rows) || !TakeVarint(&packed, &stats.deletions) ||
        !TakeVarint(&packed, &stats.bytes)) {
      return {};
    }
    if (!table.namespaces.empty() && stats.namespace_id <= table.namespaces.back().namespace_id) return {};
    table.namespaces.push_back(stats);
  }
  return table;
}

void DropCounters::Add(uint64_t namespace_id, uint64_t rows, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  Dropped& dropped = dropped_[namespace_id];
  dropped.rows += rows;
  dropped.bytes += bytes;
}

void DropCounters::Forget(const std::vector<uint64_t>& namespace_ids) {
  const std::lock_guard lock(mutex_);
  for (const uint64_t namespace_id : namespace_ids) dropped_.erase(namespace_id);
}

DropCounters::Dropped DropCounters::Of(uint64_t namespace_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = dropped_.find(namespace_id);
  return found == dropped_.end() ? Dropped{} : found->second;
}

std::shared_ptr<rocksdb::EventListener> NewDropListener(std::shared_ptr<const Bans> bans,
                                                        std::shared_ptr<DropCounters> counters) {
  return std::make_shared<DropListener>(std::move(bans), std::move(counters));
}

}  // namespace prefixdb
