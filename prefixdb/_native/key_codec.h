// Row keys: the same bytes as prefixdb/keycodec.py; tests/data/keycodec.json pins both.
//
//   row key := namespace u64 big-endian | family u8 | rest
//   family 0 SYSTEM: rest = tag u8 | record key
//   family 1 DATA:   rest = database u16 big-endian | user key (1 .. 4096 bytes)
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace prefixdb {

inline constexpr size_t kNamespaceBytes = 8;
inline constexpr size_t kDataHeadBytes = kNamespaceBytes + 1 + 2;  // In front of the user key in a data row's key.
inline constexpr size_t kUserKeyBytesMax = 4096;
inline constexpr uint64_t kNamespaceIdMax = UINT64_MAX - 1;  // 2^64-1 is never issued, so id + 1 always exists.

struct DataKey {
  uint64_t namespace_id;
  uint16_t database;
  std::string_view user_key;  // Borrowed from the row key that was split.
};

using KeySpan = std::pair<std::string, std::string>;  // Half-open.

// The id in front of `row_key`, or nothing when it is shorter than 8 bytes.
std::optional<uint64_t> NamespaceOf(std::string_view row_key) noexcept;

// The 8 big-endian bytes in front of every key of a namespace. REQUIRES: nothing; 2^64-1 is allowed as an end.
std::string NamespacePrefix(uint64_t namespace_id);

// Writes what every key of a database begins with. REQUIRES: kDataHeadBytes writable bytes at `to`.
void WriteDataHead(uint64_t namespace_id, uint16_t database, char* to) noexcept;

// The functions below return nothing when an argument is out of range (the Python functions raise there).
std::optional<std::string> EncodeDataKey(uint64_t namespace_id, uint16_t database, std::string_view user_key);
std::optional<std::string> EncodeSystemKey(uint64_t namespace_id, uint8_t tag, std::string_view record_key);
std::optional<KeySpan> NamespaceSpan(uint64_t namespace_id);
std::optional<KeySpan> PrefixSpan(uint64_t namespace_id, uint16_t database, std::string_view prefix);
std::optional<KeySpan> RangeSpan(uint64_t namespace_id, uint16_t database, std::string_view start,
                                 std::string_view end);
std::optional<DataKey> SplitDataKey(std::string_view row_key) noexcept;

}  // namespace prefixdb
