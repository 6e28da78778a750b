#include "info_log.h"

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace prefixdb {

namespace {

constexpr size_t kFileBytesMax = 4 << 20;  // As max_log_file_size of the other store.
constexpr size_t kLineBytesMax = 8192;     // A longer line is cut.

// Writes "2024/01/31-23:59:59.123456 1234 " and returns its length.
size_t Stamp(char* line, size_t size) {
  timeval now{};
  gettimeofday(&now, nullptr);
  tm parts{};
  localtime_r(&now.tv_sec, &parts);
  const int written = std::snprintf(line, size, "%04d/%02d/%02d-%02d:%02d:%02d.%06d %d ", parts.tm_year + 1900,
                                    parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                                    static_cast<int>(now.tv_usec), static_cast<int>(gettid()));
  return written > 0 ? std::min(static_cast<size_t>(written), size - 1) : 0;
}

}  // namespace

InfoLog::InfoLog(const std::string& directory, rocksdb::InfoLogLevel level)
    : rocksdb::Logger(level), path_(directory + "/LOG"), old_path_(directory + "/LOG.old") {}

InfoLog::~InfoLog() { End(); }

void InfoLog::Logv(const char* format, va_list arguments) {
  char line[kLineBytesMax];
  size_t length = Stamp(line, sizeof(line));
  const int written = std::vsnprintf(line + length, sizeof(line) - length, format, arguments);
  if (written > 0) length = std::min(length + static_cast<size_t>(written), sizeof(line) - 2);
  if (line[length - 1] != '\n') line[length++] = '\n';
  const std::lock_guard lock(mutex_);
  if (file_ < 0 || size_ >= kFileBytesMax) Begin();
  if (file_ < 0) return;
  const ssize_t taken = write(file_, line, length);
  if (taken > 0) size_ += static_cast<size_t>(taken);
}

size_t InfoLog::GetLogFileSize() const {
  const std::lock_guard lock(mutex_);
  return size_;
}

rocksdb::Status InfoLog::CloseImpl() {
  const std::lock_guard lock(mutex_);
  End();
  return rocksdb::Status::OK();
}

void InfoLog::Begin() {
  End();
  // Whether there was one to keep or not, a new one is begun.
  static_cast<void>(std::rename(path_.c_str(), old_path_.c_str()));
  file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  size_ = 0;
}

void InfoLog::End() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

}  // namespace prefixdb
