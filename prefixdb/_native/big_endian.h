// Integers in row keys and stored values: big-endian, so that the order of bytes is the order of numbers.
//
// Thread-safe: free functions without state.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace prefixdb {

// REQUIRES: 8 readable bytes at `from`.
inline uint64_t ReadU64(const char* from) noexcept {
  uint64_t raw;
  std::memcpy(&raw, from, sizeof raw);
  return __builtin_bswap64(raw);
}

// REQUIRES: 8 writable bytes at `to`.
inline void WriteU64(uint64_t number, char* to) noexcept {
  const uint64_t raw = __builtin_bswap64(number);
  std::memcpy(to, &raw, sizeof raw);
}

inline void AppendU64(uint64_t number, std::string* to) {
  char bytes[sizeof number];
  WriteU64(number, bytes);
  to->append(bytes, sizeof bytes);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the swaps above are for little-endian machines");

}  // namespace prefixdb
