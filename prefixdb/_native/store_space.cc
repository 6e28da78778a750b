// The parts of Store that measure space and give it back; see store.h.
#include <rocksdb/convenience.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/utilities/debug.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "key_codec.h"
#include "planner.h"
#include "slices.h"
#include "store.h"

namespace prefixdb {

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(50);

bool Inside(const rocksdb::LiveFileMetaData& file, const std::pair<std::string, std::string>& span) {
  return span.first <= file.smallestkey && file.largestkey < span.second;
}

}  // namespace

Outcome Store::DeleteFiles(const std::vector<std::pair<std::string, std::string>>& spans, uint64_t* bytes) {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  if (!refused.ok()) return refused;
  *bytes = 0;
  std::vector<rocksdb::Slice> keys;
  std::vector<rocksdb::RangePtr> ranges;
  keys.reserve(2 * spans.size());
  for (const auto& [begin, end] : spans) {
    if (begin > end) return Outcome::Invalid("inverted span");
    if (begin == end) continue;
    keys.emplace_back(begin);
    keys.emplace_back(end);
    ranges.emplace_back(&keys[keys.size() - 2], &keys[keys.size() - 1]);
  }
  if (ranges.empty()) return {};
  std::vector<Doomed> doomed;
  Outcome outcome = FindInside(spans, &doomed);
  if (!outcome.ok()) return outcome;
  outcome = Outcome::Of(rocksdb::DeleteFilesInRanges(db_.get(), db_->DefaultColumnFamily(), ranges.data(),
                                                     ranges.size(), /*include_end=*/false));
  // Counted also after an error: some may be gone.
  std::vector<rocksdb::LiveFileMetaData> live;
  db_->GetLiveFilesMetaData(&live);
  std::unordered_set<uint64_t> left;
  for (const auto& file : live) left.insert(file.file_number);
  const auto banned = shared_.bans->Current();
  for (const Doomed& file : doomed) {
    if (left.contains(file.number)) continue;
    *bytes += file.size;
    for (const NamespaceStats& each : file.stats.namespaces) {
      if (banned->Contains(each.namespace_id)) shared_.drop_counters->Add(each.namespace_id, each.rows, each.bytes);
    }
  }
  return outcome;
}

Outcome Store::FindInside(const std::vector<std::pair<std::string, std::string>>& spans, std::vector<Doomed>* inside) {
  std::vector<rocksdb::LiveFileMetaData> live;
  db_->GetLiveFilesMetaData(&live);
  std::vector<rocksdb::Range> ranges;
  std::unordered_map<std::string, size_t> by_path;
  for (const auto& file : live) {
    // What a compaction is reading now stays, and the compaction counts what it drops by itself.
    if (file.level == 0 || file.being_compacted) continue;
    if (std::none_of(spans.begin(), spans.end(), [&file](const auto& span) { return Inside(file, span); })) continue;
    by_path.emplace(file.db_path + file.name, inside->size());
    inside->push_back({file.file_number, file.size, {}});
    ranges.emplace_back(file.smallestkey, file.largestkey);
  }
  if (ranges.empty()) return {};
  rocksdb::TablePropertiesCollection tables;
  // Only for the counts: a file that cannot be read is to go all the same.
  db_->GetPropertiesOfTablesInRange(db_->DefaultColumnFamily(), ranges.data(), ranges.size(), &tables)
      .PermitUncheckedError();
  for (const auto& [path, properties] : tables) {
    if (const auto found = by_path.find(path); found != by_path.end()) {
      (*inside)[found->second].stats = ReadNamespaceStats(*properties);
    }
  }
  return {};
}

Outcome Store::Compact(const std::optional<std::string>& begin, const std::optional<std::string>& end,
                       const std::function<bool()>& poll, bool* finished) {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  if (!refused.ok()) return refused;
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  // Both rewrite the bottommost level, which trivial moves and flushes reach unfiltered. The optimized one spares files
  // that came into being since it began, because they went through the filter, except those of a compaction that was
  // running before: its filter has the set of bans of its own beginning. Neither sees what such a compaction brings
  // below the levels that had files when this one began; who drops a ban's rows proves that, and comes again.
  uint64_t running = 0;
  options.bottommost_level_compaction =
      db_->GetIntProperty(rocksdb::DB::Properties::kNumRunningCompactions, &running) && running == 0
          ? rocksdb::BottommostLevelCompaction::kForceOptimized
          : rocksdb::BottommostLevelCompaction::kForce;
  std::atomic<bool> canceled{false};
  options.canceled = &canceled;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  rocksdb::Status status;
  std::thread worker([&] {
    const rocksdb::Slice first = begin ? rocksdb::Slice(*begin) : rocksdb::Slice();
    const rocksdb::Slice last = end ? rocksdb::Slice(*end) : rocksdb::Slice();
    rocksdb::Status result = db_->CompactRange(options, begin ? &first : nullptr, end ? &last : nullptr);
    const std::lock_guard lock(mutex);
    status = std::move(result);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  while (!changed.wait_for(lock, kPollEvery, [&done] { return done; })) {
    lock.unlock();
    if (cancel_.load() || !poll()) canceled.store(true);
    lock.lock();
  }
  lock.unlock();
  worker.join();
  *finished = !canceled.load();
  if (canceled.load()) return {};
  return Outcome::Of(status);
}

Outcome Store::LiveFiles(std::vector<rocksdb::LiveFileMetaData>* files) {
  const Use use = Enter();
  if (!use) return Refusal();
  db_->GetLiveFilesMetaData(files);
  if (!options_.read_only) CountEntries(files);
  return {};
}

// After an opening RocksDB knows the entries of a few files only and says 0 of the others. They stand in each file.
void Store::CountEntries(std::vector<rocksdb::LiveFileMetaData>* files) {
  const std::lock_guard lock(entries_mutex_);
  std::unordered_map<uint64_t, Entries> known;
  rocksdb::TablePropertiesCollection tables;
  bool read = false;
  for (auto& file : *files) {
    if (file.num_entries != 0) continue;
    if (const auto remembered = entries_.find(file.file_number); remembered != entries_.end()) {
      known.insert(*remembered);
    } else {
      // A file that cannot be read ends this early; what is not known then is doubted.
      if (!read) db_->GetPropertiesOfAllTables(db_->DefaultColumnFamily(), &tables).PermitUncheckedError();
      read = true;
      const auto table = tables.find(file.db_path + file.name);
      if (table == tables.end()) {
        file.num_entries = file.num_deletions = 1;
        continue;
      }
      known[file.file_number] = {table->second->num_entries, table->second->num_deletions};
    }
    file.num_entries = known[file.file_number].all;
    file.num_deletions = known[file.file_number].deletions;
  }
  entries_ = std::move(known);
}

Outcome Store::NamespaceSize(uint64_t namespace_id, NamespaceStats* stats, bool* complete) {
  const Use use = Enter();
  if (!use) return Refusal();
  const auto span = NamespaceSpan(namespace_id);
  if (!span) return Outcome::Invalid("namespace id out of range");
  *stats = {};
  stats->namespace_id = namespace_id;
  *complete = true;
  const rocksdb::Range range(span->first, span->second);
  rocksdb::TablePropertiesCollection tables;
  Outcome outcome = Outcome::Of(db_->GetPropertiesOfTablesInRange(db_->DefaultColumnFamily(), &range, 1, &tables));
  if (!outcome.ok()) return outcome;
  for (const auto& [name, properties] : tables) {
    const TableStats table = ReadNamespaceStats(*properties);
    *complete = *complete && table.complete;
    for (const NamespaceStats& each : table.namespaces) {
      if (each.namespace_id != namespace_id) continue;
      stats->rows += each.rows;
      stats->deletions += each.deletions;
      stats->bytes += each.bytes;
    }
  }
  return {};
}

Outcome Store::ApproximateBytes(const std::string& begin, const std::string& end, uint64_t* bytes) {
  const Use use = Enter();
  if (!use) return Refusal();
  *bytes = 0;
  if (begin >= end) return {};  // RocksDB asserts the order.
  rocksdb::SizeApproximationOptions options;
  options.include_files = true;
  options.include_memtables = true;
  const rocksdb::Range range(begin, end);
  return Outcome::Of(db_->GetApproximateSizes(options, db_->DefaultColumnFamily(), &range, 1, bytes));
}

Outcome Store::HasAnyVersion(const std::string& begin, const std::string& end, bool* found) {
  const Use use = Enter();
  if (!use) return Refusal();
  *found = false;
  if (begin >= end) return {};
  std::vector<rocksdb::KeyVersion> versions;
  Outcome outcome = Outcome::Of(rocksdb::GetAllKeyVersions(db_.get(), begin, end, 1, &versions));
  if (!outcome.ok()) return outcome;
  // Its range includes the end, so what it found first may be the end itself, and then there is nothing below.
  *found = !versions.empty() && versions.front().user_key < end;
  if (*found) return {};
  // It does not look why its walk ended, and passes over what a range tombstone covers. An ordinary iterator meets the
  // same damage at the same place, and need not obey range tombstones.
  std::optional<uint64_t> version;
  outcome = FirstVersion(begin, end, /*under_range_deletes=*/true, &version);
  if (outcome.ok() && version) *found = true;
  return outcome;
}

Outcome Store::RangeDeletes(const std::string& begin, const std::string& end, uint64_t* count) {
  const Use use = Enter();
  if (!use) return Refusal();
  const rocksdb::Range range(begin, end);
  rocksdb::TablePropertiesCollection tables;
  Outcome outcome = Outcome::Of(db_->GetPropertiesOfTablesInRange(db_->DefaultColumnFamily(), &range, 1, &tables));
  *count = 0;
  for (const auto& [name, properties] : tables) *count += properties->num_range_deletions;
  return outcome;
}

Outcome Store::Flush() {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  return refused.ok() ? Outcome::Of(db_->Flush(rocksdb::FlushOptions())) : refused;
}

Outcome Store::LastSequence(uint64_t* sequence) {
  const Use use = Enter();
  if (!use) return Refusal();
  *sequence = db_->GetLatestSequenceNumber();
  return {};
}

Outcome Store::PropertyInt(const std::string& name, uint64_t* value) {
  const Use use = Enter();
  if (!use) return Refusal();
  if (!db_->GetIntProperty(name, value)) *value = 0;
  return {};
}

Outcome Store::Checkpoint(const std::string& target) {
  const Use use = Enter();
  if (!use) return Refusal();
  rocksdb::Checkpoint* made = nullptr;
  Outcome outcome = Outcome::Of(rocksdb::Checkpoint::Create(db_.get(), &made));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  return outcome.ok() ? Outcome::Of(checkpoint->CreateCheckpoint(target)) : outcome;
}

Outcome Store::NewTableWriter(const std::string& path, std::unique_ptr<TableWriter>* writer) {
  const Use use = Enter();
  if (!use) return Refusal();
  return TableWriter::Create(database_options_, path, writer);
}

Outcome Store::Ingest(const std::vector<std::string>& paths, const std::string& begin, const std::string& end,
                      const std::vector<Condition>& guards, uint64_t now_ms, std::optional<CommitResult>* result) {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  if (!refused.ok()) return refused;
  // Reading the files takes seconds, and while a job runs no commit does; so that is done here.
  for (const std::string& path : paths) {
    rocksdb::SstFileReader reader(database_options_);
    Outcome readable = Outcome::Of(reader.Open(path));
    if (readable.ok()) readable = Outcome::Of(reader.VerifyChecksum());
    if (!readable.ok()) return readable;
  }
  return committer_->Run([&] { return IngestNow(paths, begin, end, guards, now_ms, result); });
}

Outcome Store::IngestNow(const std::vector<std::string>& paths, const std::string& begin, const std::string& end,
                         const std::vector<Condition>& guards, uint64_t now_ms, std::optional<CommitResult>* result) {
  std::vector<prefixdb::Commit> commits(1);
  commits[0].guards = guards;
  rocksdb::WriteBatch unused;
  const auto read = [this](std::string_view key, rocksdb::PinnableSlice* stored) {
    return db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), {key.data(), key.size()}, stored);
  };
  BatchPlanner planner(read, &unused, db_->GetLatestSequenceNumber(), now_ms);
  planner.Announce(commits);
  std::vector<CommitResult> results;
  Outcome outcome = planner.Plan(commits, &results);
  if (!outcome.ok()) return outcome;
  if (!results[0].applied) {
    *result = results[0];
    return {};
  }
  std::optional<uint64_t> version;
  outcome = FirstVersion(begin, end, /*under_range_deletes=*/false, &version);
  if (!outcome.ok() || version) return outcome;
  rocksdb::IngestExternalFileOptions options;
  options.move_files = true;
  options.write_global_seqno = false;
  options.verify_checksums_before_ingest = false;  // Ingest has done it.
  outcome = Outcome::Of(db_->IngestExternalFile(paths, options));
  if (!outcome.ok()) return outcome;
  *result = results[0];
  return {};
}

Outcome Store::FirstVersion(const std::string& begin, const std::string& end, bool under_range_deletes,
                            std::optional<uint64_t>* version) {
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.ignore_range_deletions = under_range_deletes;
  options.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(options));
  iterator->Seek(begin);
  version->reset();
  if (!iterator->Valid()) return Outcome::Of(iterator->status());
  const auto value = DecodeValue(AsView(iterator->value()));
  *version = value ? value->version : 0;
  return {};
}

}  // namespace prefixdb
