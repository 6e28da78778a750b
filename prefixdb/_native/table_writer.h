// Writes one sorted table file outside the database, for Store::Ingest.
#pragma once

#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "outcome.h"

namespace prefixdb {

// Not thread-safe. The file is compressed like the bottommost level, where it will lie, and carries the namespace
// stats.
class TableWriter {
 public:
  static Outcome Create(const rocksdb::Options& options, const std::string& path, std::unique_ptr<TableWriter>* writer);

  // REQUIRES: keys in strictly ascending order over all calls; otherwise an invalid argument and nothing is added.
  Outcome Add(std::string_view key, std::string_view payload, uint64_t version, uint64_t expires_at_ms);

  // Closes and syncs the file. REQUIRES: at least one row.
  Outcome Finish(uint64_t* bytes);

 private:
  explicit TableWriter(const rocksdb::Options& options);

  rocksdb::Options options_;
  rocksdb::SstFileWriter writer_;
  std::string last_key_;
  bool finished_ = false;
  uint64_t rows_ = 0;
  std::string stored_;
};

}  // namespace prefixdb
