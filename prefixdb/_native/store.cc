#include "store.h"

#include <rocksdb/convenience.h>
#include <rocksdb/snapshot.h>

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "info_log.h"
#include "slices.h"

namespace prefixdb {

namespace {}  // namespace

Outcome Store::Open(const std::string& path, const OpenOptions& options, std::shared_ptr<Store>* store,
                    rocksdb::Env* env) {
  const Shared shared;
  rocksdb::Options database = DatabaseOptions(options, shared);
  auto range_deletes = std::make_shared<RangeDeleteCount>();
  auto health = std::make_shared<WriteHealth>();
  database.listeners.push_back(range_deletes);
  database.listeners.push_back(health);
  if (env != nullptr) database.env = env;
  rocksdb::DB* opened = nullptr;
  rocksdb::Status status;
  if (options.read_only) {
    database.info_log = std::make_shared<NoLog>();
    status = rocksdb::DB::OpenForReadOnly(database, path, &opened, /*error_if_wal_file_exists=*/false);
  } else {
    database.info_log = std::make_shared<InfoLog>(path, database.info_log_level);
    status = rocksdb::DB::Open(database, path, &opened);
  }
  if (!status.ok()) return Outcome::Of(status);
  store->reset(new Store(options, shared, std::move(database), std::unique_ptr<rocksdb::DB>(opened),
                         std::move(range_deletes), std::move(health)));
  return {};
}

Store::Store(OpenOptions options, Shared shared, rocksdb::Options database_options, std::unique_ptr<rocksdb::DB> db,
             std::shared_ptr<RangeDeleteCount> range_deletes, std::shared_ptr<WriteHealth> health)
    : options_(std::move(options)),
      shared_(std::move(shared)),
      database_options_(std::move(database_options)),
      db_(std::move(db)),
      range_deletes_(std::move(range_deletes)),
      health_(std::move(health)) {
  if (options_.read_only) return;
  CommitterOptions wanted;
  wanted.sync = options_.sync;
  wanted.range_deletes_max = options_.range_deletes_max;
  wanted.on_broken = [this](const std::string& text) { Break(text); };
  committer_ = std::make_unique<Committer>(db_.get(), range_deletes_.get(), health_.get(), std::move(wanted));
}

Store::~Store() {
  if (users_.Forked()) {
    Abandon();
  } else {
    Close();
  }
}

// --- reads

Outcome Store::Get(std::string_view key, Found* found) {
  bool decided = false;
  return Read(key, rocksdb::kReadAllTier, found, &decided);
}

Outcome Store::GetFromMemory(std::string_view key, Found* found, bool* decided) {
  return Read(key, rocksdb::kBlockCacheTier, found, decided);
}

Outcome Store::Read(std::string_view key, rocksdb::ReadTier tier, Found* found, bool* decided) {
  found->use = Enter();
  if (!found->use) return Refusal();
  rocksdb::ReadOptions options;
  options.read_tier = tier;
  found->value.reset();
  const rocksdb::Status status = db_->Get(options, db_->DefaultColumnFamily(), AsSlice(key), &found->stored);
  *decided = !status.IsIncomplete();
  if (status.IsNotFound() || status.IsIncomplete()) return {};
  if (!status.ok()) return Outcome::Of(status);
  found->value = DecodeValue(AsView(found->stored));
  return found->value ? Outcome{} : Outcome::DamagedRow();
}

Outcome Store::GetMany(std::span<const rocksdb::Slice> keys, ManyFound* found, bool ascending) {
  found->use = Enter();
  if (!found->use) return Refusal();
  const size_t count = keys.size();
  found->stored = std::vector<rocksdb::PinnableSlice>(count);
  found->values.assign(count, std::nullopt);
  std::vector<rocksdb::Status> statuses(count);
  // One call on one column family reads everything as of one sequence number and one set of files.
  db_->MultiGet(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), count, keys.data(), found->stored.data(),
                statuses.data(), ascending);
  for (size_t index = 0; index < count; ++index) {
    if (statuses[index].IsNotFound()) continue;
    if (!statuses[index].ok()) return Outcome::Of(statuses[index]);
    found->values[index] = DecodeValue(AsView(found->stored[index]));
    if (!found->values[index]) return Outcome::DamagedRow();
  }
  return {};
}

Outcome Store::GetManyFromMemory(std::span<const rocksdb::Slice> keys, ManyFound* found, bool* decided) {
  *decided = false;
  found->use = Enter();
  if (!found->use) return Refusal();
  found->stored = std::vector<rocksdb::PinnableSlice>(keys.size());
  found->values.assign(keys.size(), std::nullopt);
  // Not MultiGet: that of 7.8 reads data blocks from the disk whatever the tier. A snapshot makes it one view, but for
  // what a compaction filter drops.
  rocksdb::ManagedSnapshot snapshot(db_.get());
  rocksdb::ReadOptions options;
  options.read_tier = rocksdb::kBlockCacheTier;
  options.snapshot = snapshot.snapshot();
  for (size_t index = 0; index < keys.size(); ++index) {
    rocksdb::PinnableSlice* const stored = &found->stored[index];
    const rocksdb::Status status = db_->Get(options, db_->DefaultColumnFamily(), keys[index], stored);
    if (status.IsIncomplete()) return {};
    if (status.IsNotFound()) continue;
    if (!status.ok()) return Outcome::Of(status);
    found->values[index] = DecodeValue(AsView(*stored));
    if (!found->values[index]) return Outcome::DamagedRow();
  }
  *decided = true;
  return {};
}

Outcome Store::OpenCursor(CursorOptions options, std::shared_ptr<Cursor>* cursor) {
  const Use use = Enter();
  if (!use) return Refusal();
  auto bounds = std::make_unique<Cursor::Bounds>();
  bounds->begin = options.begin;
  bounds->bound = options.bound;
  bounds->lower = bounds->begin;
  bounds->upper = bounds->bound;
  rocksdb::ReadOptions read;
  read.iterate_upper_bound = &bounds->upper;
  read.iterate_lower_bound = &bounds->lower;
  read.fill_cache = !options.bulk;
  // Files that the cursor was the last to need are deleted by a background thread, not by whoever closes it.
  read.background_purge_on_iterator_cleanup = true;
  std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(read));
  *cursor =
      std::make_shared<Cursor>(std::move(options), std::move(bounds), std::move(iterator), ForkGeneration(), views_);
  const std::lock_guard lock(cursors_mutex_);
  if (cursors_.size() >= cursors_tidy_at_) {
    std::erase_if(cursors_, [](const std::weak_ptr<Cursor>& each) { return each.expired(); });
    cursors_tidy_at_ = std::max<size_t>(64, 2 * cursors_.size());
  }
  cursors_.push_back(*cursor);
  return {};
}

// --- commits

Outcome Store::Submit(std::unique_ptr<CommitRequest> request) {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  return refused.ok() ? committer_->Submit(std::move(request)) : refused;
}

Outcome Store::Commit(std::unique_ptr<CommitRequest> request, std::vector<CommitResult>* results) {
  struct Waiter {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    Outcome outcome;
  } waiter;
  request->done = [&waiter, results](Outcome outcome, std::vector<CommitResult> found) {
    // Notified under the lock: the waiter is gone as soon as it sees that it is done.
    const std::lock_guard lock(waiter.mutex);
    waiter.outcome = std::move(outcome);
    *results = std::move(found);
    waiter.done = true;
    waiter.changed.notify_one();
  };
  Outcome queued = Submit(std::move(request));
  if (!queued.ok()) return queued;
  std::unique_lock lock(waiter.mutex);
  waiter.changed.wait(lock, [&waiter] { return waiter.done; });
  return std::move(waiter.outcome);
}

Outcome Store::PutRaw(std::string_view key, std::string_view value) {
  const Use use = Enter();
  if (!use) return Refusal();
  Outcome refused = RefuseReadOnly();
  if (!refused.ok()) return refused;
  return committer_->Run([this, key, value] {
    rocksdb::WriteOptions options;
    options.sync = true;
    options.no_slowdown = true;
    return Outcome::Of(db_->Put(options, AsSlice(key), AsSlice(value)));
  });
}

// --- life

Outcome Store::Refusal() const {
  if (users_.Forked())
    return {Fault::kClosed, false, "the store belongs to the parent process; open one after forking"};
  const std::lock_guard lock(broken_mutex_);
  return broken_.empty() ? Outcome::Closed() : Outcome{Fault::kEngine, false, broken_};
}

Outcome Store::RefuseReadOnly() const {
  return committer_ ? Outcome{} : Outcome{Fault::kEngine, false, "Not implemented: the store was opened read-only"};
}

void Store::Break(const std::string& text) {
  {
    const std::lock_guard lock(broken_mutex_);
    if (broken_.empty()) broken_ = text;
  }
  users_.Refuse();
}

void Store::CancelBackground() {
  const Use use = Enter();
  if (!use) return;
  cancel_.store(true);
  db_->DisableManualCompaction();
  rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/true);
}

void Store::EndCursors() {
  std::vector<std::weak_ptr<Cursor>> cursors;
  {
    const std::lock_guard lock(cursors_mutex_);
    cursors.swap(cursors_);
  }
  for (const auto& each : cursors) {
    if (const auto cursor = each.lock()) cursor->Close();
  }
}

void Store::Close() {
  if (users_.Forked()) return;
  const std::lock_guard lock(close_mutex_);
  if (db_ == nullptr) return;
  users_.Refuse();
  cancel_.store(true);
  db_->DisableManualCompaction();
  if (committer_) committer_->Stop();
  rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/false);
  users_.Wait();
  EndCursors();
  views_->WaitForNone();  // Of cursors that are just being destroyed.
  // Whatever it complains about (cancelled background work, a broken disk), what was committed is in the log.
  db_->Close().PermitUncheckedError();
  db_.reset();
}

void Store::Abandon() {
  users_.Refuse();
  static_cast<void>(committer_.release());
  static_cast<void>(db_.release());
  // The options refer to the environment, the caches and the filters that the parent's threads still use.
  new rocksdb::Options(database_options_);
}

}  // namespace prefixdb
