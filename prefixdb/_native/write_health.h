// Whether the engine takes writes: the first error after which it does not. Reads go on.
//
// What RocksDB 7.8 makes of an error of its log or of a flush (db/error_handler.cc), with paranoid checks:
//
// - A full disk (ENOSPC) is a "hard" error: writes are refused until DB::Resume.
// - Everything else (EIO, also of a sync; EDQUOT, EFBIG; corruption) is "fatal": only opening it again helps. A
//   record whose sync failed may then turn out to be there.
// - A compaction that met a full disk is "soft": writes go on and RocksDB tries again by itself.
//
// DB::Resume, called by us or by RocksDB when it sees space again, is not used for hard errors, because 7.8.3 comes out
// of it damaged: it goes on counting itself as stopped (ClearBGError leaves is_db_stopped_ set), and a stopped database
// does not wait for its flushes, so that Flush, CompactRange and checkpoints are done before the rows are in files; a
// flush that was scheduled just before the error is never run again, and Resume waits for it for ever; and with nothing
// in memory the failed log stays in use and fails the next write. So a hard error, too, ends with a fresh opening,
// whose recovery of the log is exact.
#pragma once

#include <rocksdb/listener.h>

#include <mutex>
#include <optional>
#include <string>

namespace prefixdb {

// Thread-safe.
class WriteHealth final : public rocksdb::EventListener {
 public:
  // Text of the first status that stopped writes since the opening; a background error is known before a write meets
  // it.
  std::optional<std::string> failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  // The first text stays.
  void Fail(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = text;
  }

  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* error) override {
    if (error->severity() >= rocksdb::Status::Severity::kHardError) Fail(error->ToString());
  }
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status error, bool* auto_recovery) override {
    if (error.severity() >= rocksdb::Status::Severity::kHardError) *auto_recovery = false;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
};

}  // namespace prefixdb
