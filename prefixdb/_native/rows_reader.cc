#include "rows_reader.h"

#include <algorithm>

#include "key_codec.h"

namespace prefixdb {

namespace {

// Heads of MessagePack.
constexpr unsigned char kListOfTwo = 0x92;
constexpr unsigned char kListOfFour = 0x94;
constexpr unsigned char kShortList = 0x90;  // ... 0x9f, the length in it.
constexpr unsigned char kList16 = 0xdc;
constexpr unsigned char kBinary8 = 0xc4;
constexpr unsigned char kBinary32 = 0xc6;
constexpr unsigned char kUnsigned8 = 0xcc;
constexpr unsigned char kUnsigned64 = 0xcf;
constexpr unsigned char kSmallMax = 0x7f;  // A number that is its own head.

}  // namespace

bool RowsReader::Take(size_t bytes, std::string_view* taken) noexcept {
  if (bytes > rest_.size()) return false;
  *taken = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return true;
}

bool RowsReader::TakeNumber(size_t bytes, uint64_t* number) noexcept {
  std::string_view taken;
  if (!Take(bytes, &taken)) return false;
  *number = 0;
  for (const char each : taken) *number = *number << 8 | static_cast<unsigned char>(each);
  return true;
}

bool RowsReader::TakeUnsigned(uint64_t* number) noexcept {
  uint64_t head = 0;
  if (!TakeNumber(1, &head)) return false;
  if (head <= kSmallMax) {
    *number = head;
    return true;
  }
  return head >= kUnsigned8 && head <= kUnsigned64 && TakeNumber(size_t{1} << (head - kUnsigned8), number);
}

bool RowsReader::TakeBinary(std::string_view* bytes) noexcept {
  uint64_t head = 0;
  uint64_t size = 0;
  return TakeNumber(1, &head) && head >= kBinary8 && head <= kBinary32 &&
         TakeNumber(size_t{1} << (head - kBinary8), &size) && Take(static_cast<size_t>(size), bytes);
}

std::optional<RowsReader> RowsReader::Of(std::string_view content) noexcept {
  RowsReader reader;
  reader.rest_ = content;
  uint64_t head = 0;
  uint64_t database = 0;
  uint64_t rows = 0;
  if (!reader.TakeNumber(1, &head) || head != kListOfTwo) return std::nullopt;
  if (!reader.TakeUnsigned(&database) || database > UINT16_MAX) return std::nullopt;
  if (!reader.TakeNumber(1, &head)) return std::nullopt;
  if ((head & 0xf0) == kShortList) {
    rows = head & 0x0f;
  } else if (head != kList16 || !reader.TakeNumber(2, &rows)) {
    return std::nullopt;
  }
  if (rows == 0 || rows > kFrameRowsMax) return std::nullopt;
  reader.database_ = static_cast<uint16_t>(database);
  reader.rows_ = static_cast<uint32_t>(rows);
  return reader;
}

bool RowsReader::Next(FrameRow* row) noexcept {
  uint64_t head = 0;
  return TakeNumber(1, &head) && head == kListOfFour && TakeBinary(&row->key) && TakeBinary(&row->value) &&
         TakeUnsigned(&row->version) && TakeUnsigned(&row->expires_at_ms) && !row->key.empty() &&
         row->key.size() <= kUserKeyBytesMax && row->expires_at_ms <= kExpiresAtMsMax;
}

std::optional<RowsFacts> ScanRows(std::string_view content) noexcept {
  std::optional<RowsReader> reader = RowsReader::Of(content);
  if (!reader) return std::nullopt;
  RowsFacts facts;
  facts.database = reader->database();
  facts.rows = reader->rows();
  FrameRow row;
  for (uint32_t index = 0; index < facts.rows; ++index) {
    if (!reader->Next(&row)) return std::nullopt;
    if (index == 0) {
      facts.first_key = row.key;
    } else if (row.key <= facts.last_key) {
      facts.ascending = false;
    }
    facts.last_key = row.key;
    facts.value_bytes_max = std::max<uint64_t>(facts.value_bytes_max, row.value.size());
    facts.version_min = std::min(facts.version_min, row.version);
    facts.version_max = std::max(facts.version_max, row.version);
    facts.expires_at_ms_max = std::max(facts.expires_at_ms_max, row.expires_at_ms);
    facts.bytes += row.key.size() + row.value.size();
  }
  if (!reader->AtEnd()) return std::nullopt;
  return facts;
}

std::optional<std::vector<uint64_t>> DistinctVersions(std::string_view content) {
  std::optional<RowsReader> reader = RowsReader::Of(content);
  if (!reader) return std::nullopt;
  std::vector<uint64_t> versions;
  FrameRow row;
  for (uint32_t index = 0; index < reader->rows(); ++index) {
    if (!reader->Next(&row)) return std::nullopt;
    versions.push_back(row.version);
  }
  if (!reader->AtEnd()) return std::nullopt;
  std::sort(versions.begin(), versions.end());
  versions.erase(std::unique(versions.begin(), versions.end()), versions.end());
  return versions;
}

}  // namespace prefixdb
