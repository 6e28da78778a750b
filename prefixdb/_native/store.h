// The store's core: one RocksDB, its committer, its open cursors. It knows nothing of Python, gRPC, users or policy.
//
// Every call may come from any thread at any moment, also while another thread closes the store: a call counts itself
// in first and is answered Closed when the store is being closed. Nothing here throws.
//
// Close, in this order, because RocksDB aborts the process when it is destroyed under a live iterator or call: refuse
// newcomers, cancel compactions, let the committer finish its batch and answer the rest with Closed, wait for the calls
// inside, end every cursor, close the database. It waits for the disk at most as long as a running sync takes and
// flushes nothing: what was committed is in the log.
//
// In a forked child every call is answered Closed and no destructor touches RocksDB.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "commit.h"
#include "committer.h"
#include "cursor.h"
#include "namespace_stats.h"
#include "options.h"
#include "outcome.h"
#include "range_delete_count.h"
#include "table_writer.h"
#include "use_count.h"
#include "value_codec.h"
#include "write_health.h"

namespace prefixdb {

// A row as it was found, expired or not. It pins the engine's memory and keeps the store from closing: let go of it
// soon.
struct Found {
  Use use;  // Released last.
  rocksdb::PinnableSlice stored;
  std::optional<StoredValue> value;  // Borrowed from `stored`; nothing when there is no such row.
};

struct ManyFound {
  Use use;
  std::vector<rocksdb::PinnableSlice> stored;
  std::vector<std::optional<StoredValue>> values;  // In the order of the keys.
};

// Thread-safe. Shared: whoever may call it holds a reference; the database itself ends with Close.
class Store {
 public:
  // `env`: only tests give one; it outlives the store.
  static Outcome Open(const std::string& path, const OpenOptions& options, std::shared_ptr<Store>* store,
                      rocksdb::Env* env = nullptr);
  ~Store();  // Closes.
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // --- reads (store.cc)
  Outcome Get(std::string_view key, Found* found);
  // As Get, but only from memory: false in `decided` when a disk read would be needed. It waits for nothing but locks
  // that are held for microseconds, so a caller may keep a lock of its own.
  Outcome GetFromMemory(std::string_view key, Found* found, bool* decided);
  // All from one consistent view; a damaged row fails the call. Keys may repeat. `ascending`: they are in order, which
  // saves sorting them.
  Outcome GetMany(std::span<const rocksdb::Slice> keys, ManyFound* found, bool ascending = false);
  // As GetMany, but only from memory: false in `decided` when a disk read would be needed. For a few keys: they are
  // read one by one. REQUIRES: of rows that a compaction may drop meanwhile the caller knows in another way.
  Outcome GetManyFromMemory(std::span<const rocksdb::Slice> keys, ManyFound* found, bool* decided);
  Outcome OpenCursor(CursorOptions options, std::shared_ptr<Cursor>* cursor);

  // --- commits (store.cc); see committer.h
  Outcome Submit(std::unique_ptr<CommitRequest> request);
  // Waits; `request->done` is not used.
  Outcome Commit(std::unique_ptr<CommitRequest> request, std::vector<CommitResult>* results);
  // Writes one stored value, synced.
  Outcome PutRaw(std::string_view key, std::string_view value);
  uint64_t unflushed_range_deletes() const noexcept { return range_deletes_->value(); }
  // Text of the first error since which writes are refused; see write_health.h. None is recovered from in place: close
  // and open again.
  std::optional<std::string> failure() const { return health_->failure(); }

  // --- bans
  Shared& shared() noexcept { return shared_; }

  // --- space (store_space.cc)
  Outcome DeleteFiles(const std::vector<std::pair<std::string, std::string>>& spans, uint64_t* bytes);
  // Rewrites what overlaps [begin, end], nothing standing for all; `poll` is called every 50 ms by the calling thread
  // and ends the work by returning false, after which `finished` is false. RocksDB reports no failure here for sure:
  // whoever needs to know looks at the files.
  Outcome Compact(const std::optional<std::string>& begin, const std::optional<std::string>& end,
                  const std::function<bool()>& poll, bool* finished);
  // A file whose entries cannot be counted says that it has one, a deletion. Opened read-only nothing is counted.
  Outcome LiveFiles(std::vector<rocksdb::LiveFileMetaData>* files);
  Outcome NamespaceSize(uint64_t namespace_id, NamespaceStats* stats, bool* complete);
  Outcome ApproximateBytes(const std::string& begin, const std::string& end, uint64_t* bytes);
  // Rows that were deleted or overwritten and tombstones of single rows count; only rows that were deleted one by one
  // and lie under a range tombstone as well go unseen (see RangeDeletes).
  Outcome HasAnyVersion(const std::string& begin, const std::string& end, bool* found);
  Outcome RangeDeletes(const std::string& begin, const std::string& end, uint64_t* count);
  Outcome Flush();
  Outcome LastSequence(uint64_t* sequence);
  Outcome PropertyInt(const std::string& name, uint64_t* value);
  Outcome Checkpoint(const std::string& target);
  Outcome NewTableWriter(const std::string& path, std::unique_ptr<TableWriter>* writer);
  // Adds finished files atomically between two batches. `result` stays empty when the span has rows; nothing was added
  // then, nor when a guard does not hold. Its version is 0: the rows have those their writer gave them.
  Outcome Ingest(const std::vector<std::string>& paths, const std::string& begin, const std::string& end,
                 const std::vector<Condition>& guards, uint64_t now_ms, std::optional<CommitResult>* result);

  // --- life (store.cc)
  void CancelBackground();
  void Close();
  // Lets everything be as it is, for good: no destructor of RocksDB will run.
  void Abandon();
  // Answers every later call with this text.
  void Break(const std::string& text);

 private:
  Store(OpenOptions options, Shared shared, rocksdb::Options database_options, std::unique_ptr<rocksdb::DB> db,
        std::shared_ptr<RangeDeleteCount> range_deletes, std::shared_ptr<WriteHealth> health);

  Use Enter() { return Use(&users_); }
  Outcome Refusal() const;
  Outcome RefuseReadOnly() const;
  Outcome Read(std::string_view key, rocksdb::ReadTier tier, Found* found, bool* decided);
  Outcome IngestNow(const std::vector<std::string>& paths, const std::string& begin, const std::string& end,
                    const std::vector<Condition>& guards, uint64_t now_ms, std::optional<CommitResult>* result);
  // Version of the first row of a span, 0 when its value is damaged; nothing when there is no row.
  Outcome FirstVersion(const std::string& begin, const std::string& end, bool under_range_deletes,
                       std::optional<uint64_t>* version);
  // A table file below level 0 that lies wholly inside a span, and what it says about its namespaces.
  struct Doomed {
    uint64_t number;
    uint64_t size;
    TableStats stats;
  };
  Outcome FindInside(const std::vector<std::pair<std::string, std::string>>& spans, std::vector<Doomed>* inside);
  struct Entries {
    uint64_t all;
    uint64_t deletions;
  };
  void CountEntries(std::vector<rocksdb::LiveFileMetaData>* files);
  void EndCursors();

  const OpenOptions options_;
  Shared shared_;
  const rocksdb::Options database_options_;
  UseCount users_;
  std::unique_ptr<rocksdb::DB> db_;
  const std::shared_ptr<RangeDeleteCount> range_deletes_;
  const std::shared_ptr<WriteHealth> health_;
  std::unique_ptr<Committer> committer_;  // None when opened read-only.

  std::mutex close_mutex_;
  std::atomic<bool> cancel_{false};  // Ends compactions.

  mutable std::mutex broken_mutex_;
  std::string broken_;

  std::mutex entries_mutex_;
  std::unordered_map<uint64_t, Entries> entries_;  // By file number; of live files only.

  const std::shared_ptr<Cursor::Views> views_ = std::make_shared<Cursor::Views>();
  std::mutex cursors_mutex_;
  std::vector<std::weak_ptr<Cursor>> cursors_;
  size_t cursors_tidy_at_ = 64;
};

}  // namespace prefixdb
