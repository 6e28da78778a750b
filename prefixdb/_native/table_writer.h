// Writes one sorted table file outside the database, for Store::Ingest.
#pragma once

#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "outcome.h"

namespace prefixdb {

// Which version a row gets that brings one; a row that brings 0 always gets the file's.
struct VersionRule {
  enum class Kind : uint8_t {
    kNew,     // The file's.
    kKept,    // Its own.
    kRanked,  // The one reserved for its rank: see prefixdb/backup/ranks.py.
  };

  Kind kind = Kind::kNew;
  // For kRanked, borrowed. The distinct versions, ascending; the blocks of versions reserved for them: first of each,
  // and the rank that each ends before.
  std::span<const uint64_t> versions, firsts, ends;

  // 0 stands for the file's own. False when the parts do not fit each other.
  bool Map(uint64_t version, uint64_t* mapped) const noexcept;
};

// Where the rows of a frame go.
struct FrameTarget {
  uint64_t namespace_id;
  std::string_view begin, end;  // The span they have to lie in.
  std::string_view after;       // They have to be greater than this row key; empty for none.
  uint64_t version;             // The file's.
  uint64_t now_ms;              // Rows that have outlived themselves by then are left out.
  VersionRule versions;
};

struct FrameAdded {
  bool taken = false;    // False: the content is not plainly rows, and nothing was added.
  uint64_t rows = 0;     // That were added, and
  uint64_t bytes = 0;    // bytes of their row keys and payloads.
  std::string last_key;  // Row key of the frame's last row.
};

// Not thread-safe. The file is compressed like the bottommost level, where it will lie, and carries the namespace
// stats.
class TableWriter {
 public:
  static Outcome Create(const rocksdb::Options& options, const std::string& path, std::unique_ptr<TableWriter>* writer);

  // REQUIRES: keys in strictly ascending order over all calls; otherwise an invalid argument and nothing is added.
  Outcome Add(std::string_view key, std::string_view payload, uint64_t version, uint64_t expires_at_ms);

  // Adds the rows of an archive's frame; see rows_reader.h. All of it is checked before the first row is added: an
  // invalid argument, and nothing is added, when a row lies outside the span or not above the one before, or would get
  // a version that no earlier commit had.
  Outcome AddFrame(std::string_view content, const FrameTarget& target, FrameAdded* added);

  // Closes and syncs the file. REQUIRES: at least one row.
  Outcome Finish(uint64_t* bytes);

 private:
  explicit TableWriter(const rocksdb::Options& options);

  static Outcome CheckFrame(std::string_view content, const FrameTarget& target, std::string* key, FrameAdded* added);

  rocksdb::Options options_;
  rocksdb::SstFileWriter writer_;
  std::string last_key_;
  bool finished_ = false;
  uint64_t rows_ = 0;
  std::string stored_;
};

}  // namespace prefixdb
