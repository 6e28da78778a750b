// Stored values: the same bytes as prefixdb/records.py; tests/data/records.json pins both.
//
//   stored value := head u8 | version u64 | [expires_at_ms u64 when flag 1] | payload
//   head         := format (high nibble, 1) << 4 | flags (low nibble)
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace prefixdb {

struct StoredValue {
  std::string_view payload;  // Borrowed from the stored bytes.
  uint64_t version;
  uint64_t expires_at_ms;  // 0: lives until it is deleted.

  bool ExpiredAt(uint64_t now_ms) const noexcept { return expires_at_ms != 0 && expires_at_ms <= now_ms; }
};

// Nothing when the bytes are not a stored value of a known format: damage, never guessed at.
std::optional<StoredValue> DecodeValue(std::string_view stored) noexcept;

// Replaces the content of `stored`.
void EncodeValue(std::string_view payload, uint64_t version, uint64_t expires_at_ms, std::string* stored);

}  // namespace prefixdb
