// Whether the engine takes writes: the first error after which it does not, until it has recovered.
//
// What RocksDB 7.8 makes of an error of its log or of a flush (db/error_handler.cc), with paranoid checks:
//
// - A full disk (ENOSPC) is a "hard" error: writes are refused, and DB::Resume recovers in place once there is space.
// It
//   flushes what is in memory and begins a new log, so that a torn or unsynced record of the old one is never read
//   again: what failed is then certainly not applied.
// - Everything else (EIO, also of a sync; EDQUOT, EFBIG; corruption) is "fatal": only closing and opening again helps.
// A
//   record whose sync failed may then turn out to be there.
// - A compaction that met a full disk is "soft": writes go on and RocksDB tries again by itself.
//
// RocksDB would also resume by itself from a full disk, at a time of its own choosing and while a manual Resume is
// refused as busy. That is switched off for errors that stop writes: whoever owns the store decides when.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/listener.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace prefixdb {

// Thread-safe.
class WriteHealth final : public rocksdb::EventListener {
 public:
  // Text of the first status that stopped writes since the opening or the last Clear.
  std::optional<std::string> failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  // The first text stays.
  void Fail(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = text;
  }
  void Clear() {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    failed_log_ = 0;
  }

  // Number of the log whose write failed since then; 0 when it was something else. It must never be written to again.
  uint64_t failed_log() const {
    const std::lock_guard lock(mutex_);
    return failed_log_;
  }
  void FailLog(uint64_t number) {
    const std::lock_guard lock(mutex_);
    failed_log_ = number;
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
  uint64_t failed_log_ = 0;
};

// Number of the log that writes go to; 0 when it is not known.
inline uint64_t CurrentLog(rocksdb::DB* db) {
  std::unique_ptr<rocksdb::LogFile> log;
  return db->GetCurrentWalFile(&log).ok() ? log->LogNumber() : 0;
}

}  // namespace prefixdb
