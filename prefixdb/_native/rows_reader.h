// Reads the content of an archive's frame of rows, as prefixdb/archive/rows.py defines it:
//
//   rows := [database, [[key bin, value bin, version, expires_at_ms], ...]]      in MessagePack
//
// The bytes may be anybody's. What is taken here, prefixdb/archive takes as well, with the same meaning; what is not
// may still be rows, written in an unusual way or out of a limit, and Python decides. Nothing is copied, nothing is
// read outside of the content, and time and memory do not depend on what it promises.
//
// Thread-safe as any value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace prefixdb {

inline constexpr uint32_t kFrameRowsMax = 8192;                       // ARCHIVE_FRAME_ROWS_MAX
inline constexpr uint64_t kExpiresAtMsMax = (uint64_t{1} << 63) - 1;  // EXPIRES_AT_MS_MAX

// Borrowed from the content. The key has 1 .. kUserKeyBytesMax bytes, the end of life is within its range.
struct FrameRow {
  std::string_view key, value;
  uint64_t version, expires_at_ms;
};

class RowsReader {
 public:
  // Nothing when the content does not begin like rows, or has none or too many.
  static std::optional<RowsReader> Of(std::string_view content) noexcept;

  uint16_t database() const noexcept { return database_; }
  uint32_t rows() const noexcept { return rows_; }
  // REQUIRES: called at most rows() times. False when there is no row; nothing more may be read then.
  bool Next(FrameRow* row) noexcept;
  // Whether nothing stands behind what was read.
  bool AtEnd() const noexcept { return rest_.empty(); }

 private:
  RowsReader() = default;

  bool Take(size_t bytes, std::string_view* taken) noexcept;
  bool TakeNumber(size_t bytes, uint64_t* number) noexcept;
  bool TakeUnsigned(uint64_t* number) noexcept;
  bool TakeBinary(std::string_view* bytes) noexcept;

  std::string_view rest_;
  uint16_t database_ = 0;
  uint32_t rows_ = 0;
};

// What the rows of a frame have in common.
struct RowsFacts {
  uint16_t database = 0;
  uint32_t rows = 0;
  std::string_view first_key, last_key;  // Borrowed from the content.
  bool ascending = true;                 // Strictly.
  uint64_t value_bytes_max = 0;
  uint64_t version_min = UINT64_MAX, version_max = 0;
  uint64_t expires_at_ms_max = 0;
  uint64_t bytes = 0;  // Of keys and values.
};

// Reads all of it; nothing when it is not plainly rows, to the last byte.
std::optional<RowsFacts> ScanRows(std::string_view content) noexcept;

// The distinct versions of the rows, ascending; nothing as above.
std::optional<std::vector<uint64_t>> DistinctVersions(std::string_view content);

}  // namespace prefixdb
