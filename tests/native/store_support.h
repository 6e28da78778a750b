// What the tests of the store's core share: a store in a scratch directory, commits in short form, and a file system
// that fails on demand.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store.h"
#include "support.h"

#define CHECK_FINE(expression)                       \
  do {                                               \
    const prefixdb::Outcome outcome_ = (expression); \
    INFO(outcome_.text);                             \
    REQUIRE(outcome_.ok());                          \
  } while (false)

namespace prefixdb::test {

inline OpenOptions SmallStore() {
  OpenOptions options;
  options.create = true;
  options.sync = false;
  options.cache_bytes = 1 << 20;
  options.write_buffer_bytes = 64 << 10;
  return options;
}

// A request under construction; the bytes are copied.
class Request {
 public:
  explicit Request(uint64_t now_ms = 1) : made_(std::make_unique<CommitRequest>()) { made_->now_ms = now_ms; }

  Request& Begin() {
    made_->commits.emplace_back();
    return *this;
  }
  Request& Put(std::string_view key, std::string_view payload, uint64_t expires_at_ms = 0, uint64_t version = 0) {
    return Add({Mutation::Kind::kPut, Copy(key), Copy(payload), expires_at_ms, version});
  }
  Request& Delete(std::string_view key) { return Add({Mutation::Kind::kDelete, Copy(key), {}}); }
  Request& DeleteSpan(std::string_view begin, std::string_view end) {
    return Add({Mutation::Kind::kDeleteSpan, Copy(begin), Copy(end)});
  }
  Request& Guard(Condition condition) {
    made_->commits.back().guards.push_back(Own(condition));
    return *this;
  }
  Request& If(Condition condition) {
    made_->commits.back().conditions.push_back(Own(condition));
    return *this;
  }
  std::unique_ptr<CommitRequest> Take() { return std::move(made_); }
  // The same request once more. REQUIRES: this object outlives it; it borrows the bytes.
  std::unique_ptr<CommitRequest> Again() const {
    auto again = std::make_unique<CommitRequest>();
    again->commits = made_->commits;
    again->now_ms = made_->now_ms;
    again->size = made_->size;
    return again;
  }
  const std::vector<Commit>& commits() const { return made_->commits; }

 private:
  std::string_view Copy(std::string_view bytes) {
    made_->size += bytes.size();
    return made_->bytes.Copy(bytes);
  }
  Condition Own(Condition condition) {
    condition.key = Copy(condition.key);
    condition.payload = Copy(condition.payload);
    return condition;
  }
  Request& Add(Mutation mutation) {
    made_->commits.back().mutations.push_back(mutation);
    return *this;
  }

  std::unique_ptr<CommitRequest> made_;
};

inline Condition Absent(std::string_view key) { return {Condition::Kind::kAbsent, key, 0, {}}; }
inline Condition Exists(std::string_view key) { return {Condition::Kind::kExists, key, 0, {}}; }
inline Condition VersionIs(std::string_view key, uint64_t version) {
  return {Condition::Kind::kVersionIs, key, version, {}};
}
inline Condition ValueIs(std::string_view key, std::string_view payload) {
  return {Condition::Kind::kValueIs, key, 0, payload};
}

// A store in a scratch directory, opened again at will.
class Opened {
 public:
  explicit Opened(OpenOptions options = SmallStore(), rocksdb::Env* env = nullptr)
      : options_(std::move(options)), env_(env) {
    Reopen();
  }
  void Reopen() {
    if (store_) store_->Close();
    store_.reset();
    CHECK_FINE(Store::Open(path(), options_, &store_, env_));
  }
  std::string path() const { return (scratch_.path() / "db").string(); }
  std::string outside(const std::string& name) const { return (scratch_.path() / name).string(); }
  Store* operator->() const { return store_.get(); }
  const std::shared_ptr<Store>& shared() const { return store_; }

  // Tries again after a write stall, which a test that writes as fast as it can meets.
  std::vector<CommitResult> Commit(Request request) {
    std::vector<CommitResult> results;
    WaitFor([&] {
      const Outcome outcome = store_->Commit(request.Again(), &results);
      INFO(outcome.text);
      REQUIRE((outcome.ok() || outcome.text.starts_with("Result incomplete")));
      return outcome.ok();
    });
    return results;
  }
  uint64_t Put(const std::string& key, std::string_view payload, uint64_t expires_at_ms = 0) {
    return Commit(std::move(Request().Begin().Put(key, payload, expires_at_ms))).at(0).version;
  }
  std::optional<std::string> Get(const std::string& key) {
    Found found;
    CHECK_FINE(store_->Get(key, &found));
    if (!found.value) return std::nullopt;
    return std::string(found.value->payload);
  }
  void Compact() {
    bool finished = false;
    CHECK_FINE(store_->Compact(std::nullopt, std::nullopt, [] { return true; }, &finished));
    REQUIRE(finished);
  }
  // Waits until the engine does nothing by itself and has nothing left to do. A compaction that it has begun before may
  // carry a file, as it is, past the levels at which one that is asked for finds files to rewrite.
  void WaitForCompactions() {
    WaitFor([this] {
      uint64_t busy = 0;
      for (const char* what :
           {"mem-table-flush-pending", "num-running-flushes", "compaction-pending", "num-running-compactions"}) {
        uint64_t value = 0;
        CHECK_FINE(store_->PropertyInt(std::string("rocksdb.") + what, &value));
        busy += value;
      }
      return busy == 0;
    });
  }
  std::shared_ptr<Cursor> Walk(uint64_t namespace_id, bool reverse = false) {
    const KeySpan span = *NamespaceSpan(namespace_id);
    std::shared_ptr<Cursor> cursor;
    CHECK_FINE(store_->OpenCursor({span.first, span.second, span.second, reverse, false}, &cursor));
    return cursor;
  }
  uint64_t RowsOf(uint64_t namespace_id) {
    uint64_t counted = 0;
    CHECK_FINE(Walk(namespace_id)->Count(UINT64_MAX, 0, &counted));
    return counted;
  }

 private:
  const Scratch scratch_;
  const OpenOptions options_;
  rocksdb::Env* const env_;
  std::shared_ptr<Store> store_;
};

// What fails, and how. Thread-safe.
struct Failures {
  std::atomic<bool> append{false};
  std::atomic<bool> sync{false};
  std::atomic<bool> no_space{true};      // Else EIO.
  std::atomic<bool> logs_only{true};     // Else table files and the MANIFEST too.
  std::atomic<size_t> partial_bytes{0};  // A failing append writes so many first.

  rocksdb::IOStatus Status(const char* doing) const {
    if (!no_space) return rocksdb::IOStatus::IOError(doing, "Input/output error");
    rocksdb::IOStatus full = rocksdb::IOStatus::NoSpace(doing, "No space left on device");
    full.SetRetryable(true);
    return full;
  }
};

class FailingFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FailingFile(std::unique_ptr<rocksdb::FSWritableFile> file, const Failures* failures)
      : FSWritableFileOwnerWrapper(std::move(file)), failures_(failures) {}

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    if (!failures_->append) return target()->Append(data, options, context);
    const size_t torn = std::min(data.size(), failures_->partial_bytes.load());
    if (torn > 0) target()->Append(rocksdb::Slice(data.data(), torn), options, context).PermitUncheckedError();
    return failures_->Status("While appending to file");
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo&, rocksdb::IODebugContext* context) override {
    return Append(data, options, context);
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* context) override {
    if (failures_->sync) return failures_->Status("While fsync");
    return target()->Sync(options, context);
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* context) override {
    return Sync(options, context);
  }

 private:
  const Failures* const failures_;
};

class FailingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit FailingFileSystem(const Failures* failures)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), failures_(failures) {}
  const char* Name() const override { return "FailingFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override {
    rocksdb::IOStatus status = target()->NewWritableFile(name, options, file, context);
    const bool log = name.ends_with(".log");
    if (status.ok() && (log || !failures_->logs_only) && !name.ends_with("LOG")) {
      *file = std::make_unique<FailingFile>(std::move(*file), failures_);
    }
    return status;
  }

 private:
  const Failures* const failures_;
};

}  // namespace prefixdb::test
