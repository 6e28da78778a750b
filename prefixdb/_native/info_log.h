// RocksDB's own diary of what it does: LOG in the database's directory, and LOG.old before it.
//
// RocksDB's default logger writes through the same buffered writer as its data files. Debian builds RocksDB with its
// assertions, and that writer asserts that nobody writes to a file again after a write has failed: on a full disk the
// second line of the diary would abort the whole process. This one writes with plain system calls, and a line the disk
// does not take is lost.
#pragma once

#include <rocksdb/env.h>

#include <cstdarg>
#include <cstddef>
#include <mutex>
#include <string>

namespace prefixdb {

// Thread-safe. Throws nothing.
class InfoLog final : public rocksdb::Logger {
 public:
  // `directory`: of the database; the file is begun with the first line, so it need not exist yet.
  InfoLog(const std::string& directory, rocksdb::InfoLogLevel level);
  ~InfoLog() override;
  InfoLog(const InfoLog&) = delete;
  InfoLog& operator=(const InfoLog&) = delete;

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override;
  size_t GetLogFileSize() const override;

 protected:
  rocksdb::Status CloseImpl() override;

 private:
  void Begin();
  void End();

  const std::string path_;
  const std::string old_path_;
  mutable std::mutex mutex_;
  int file_ = -1;
  size_t size_ = 0;
};

// A diary nobody keeps, for readers of a directory that must not change.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

}  // namespace prefixdb
