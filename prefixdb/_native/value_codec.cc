#include "value_codec.h"

#include "big_endian.h"

namespace prefixdb {

namespace {

constexpr char kHeadPlain = 0x10;
constexpr char kHeadExpires = 0x11;
constexpr size_t kPlainBytes = 1 + 8;
constexpr size_t kExpiresBytes = 1 + 8 + 8;

}  // namespace

std::optional<StoredValue> DecodeValue(std::string_view stored) noexcept {
  if (stored.size() >= kPlainBytes && stored[0] == kHeadPlain) {
    return StoredValue{stored.substr(kPlainBytes), ReadU64(stored.data() + 1), 0};
  }
  if (stored.size() >= kExpiresBytes && stored[0] == kHeadExpires) {
    return StoredValue{stored.substr(kExpiresBytes), ReadU64(stored.data() + 1), ReadU64(stored.data() + 9)};
  }
  return std::nullopt;
}

void EncodeValue(std::string_view payload, uint64_t version, uint64_t expires_at_ms, std::string* stored) {
  stored->clear();
  stored->reserve(kExpiresBytes + payload.size());
  stored->push_back(expires_at_ms != 0 ? kHeadExpires : kHeadPlain);
  AppendU64(version, stored);
  if (expires_at_ms != 0) AppendU64(expires_at_ms, stored);
  stored->append(payload);
}

}  // namespace prefixdb
