// Rows as the frames of an archive hold them, made straight from an iterator: the same bytes as
// prefixdb/archive/rows.py makes of the same rows (tests/store/test_packing.py compares them).
//
//   content := msgpack [database, [[key bin, value bin, version, expires_at_ms], ...]]
//
// It is the second to look at every key: the cursor has compared it with its span, and here it has to begin with what
// the caller of the archive says its rows begin with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "value_codec.h"

namespace prefixdb {

// Bounds of one content. `max_bytes` counts keys, values and the most that a row needs beside them.
struct PackLimits {
  uint64_t max_rows;
  uint64_t max_bytes;
};

// What is known of the rows that were taken; whoever makes an archive of them compares it with what an archive may
// hold. Keys are those of their owner.
struct PackedFacts {
  uint64_t rows = 0;
  uint16_t database = 0;
  std::string first_key;
  std::string last_key;
  uint64_t longest_key = 0;
  uint64_t longest_value = 0;
  uint64_t least_version = UINT64_MAX;
  uint64_t greatest_version = 0;
  uint64_t latest_end_ms = 0;
};

// Makes one content. Not thread-safe.
class RowPacker {
 public:
  enum class Answer : uint8_t {
    kTaken,
    kFull,        // Taken, and no other row fits.
    kNotThis,     // Not taken: it is of another database, or does not fit; it belongs into the next content.
    kForeign,     // Not taken: its key does not begin as it has to, or is no key of a data row at all.
    kOutOfOrder,  // Not taken: its key is not above the one before.
  };

  // `head`: what every row key begins with: a namespace, the family of data rows and, when there is only one, the
  // database.
  RowPacker(std::string_view head, const PackLimits& limits) : head_(head), limits_(limits) {}

  Answer Add(std::string_view row_key, const StoredValue& value);

  // A first row is always taken, however large.
  const PackedFacts& facts() const noexcept { return facts_; }

  // The content is these two, one after the other.
  std::string Head() const;
  const std::string& rows() const noexcept { return rows_; }

 private:
  const std::string head_;
  const PackLimits limits_;
  PackedFacts facts_;
  std::string rows_;
  uint64_t held_ = 0;
};

}  // namespace prefixdb
