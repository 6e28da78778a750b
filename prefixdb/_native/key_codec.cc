#include "key_codec.h"

#include "big_endian.h"

namespace prefixdb {

namespace {

constexpr char kFamilySystem = 0;
constexpr char kFamilyData = 1;
constexpr size_t kSystemHeadBytes = kNamespaceBytes + 1 + 1;

std::string DataHead(uint64_t namespace_id, uint16_t database, size_t room) {
  char bytes[kDataHeadBytes];
  WriteDataHead(namespace_id, database, bytes);
  std::string head;
  head.reserve(kDataHeadBytes + room);
  return head.append(bytes, sizeof bytes);
}

// The smallest key above every key that starts with `prefix`. The family byte is never 0xff, so it stops the carry.
std::string AfterPrefix(std::string prefix) {
  while (prefix.back() == '\xff') prefix.pop_back();
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

}  // namespace

std::optional<uint64_t> NamespaceOf(std::string_view row_key) noexcept {
  if (row_key.size() < kNamespaceBytes) return std::nullopt;
  return ReadU64(row_key.data());
}

std::string NamespacePrefix(uint64_t namespace_id) {
  std::string prefix;
  AppendU64(namespace_id, &prefix);
  return prefix;
}

void WriteDataHead(uint64_t namespace_id, uint16_t database, char* to) noexcept {
  WriteU64(namespace_id, to);
  to[kNamespaceBytes] = kFamilyData;
  to[kNamespaceBytes + 1] = static_cast<char>(database >> 8);
  to[kNamespaceBytes + 2] = static_cast<char>(database & 0xff);
}

std::optional<std::string> EncodeDataKey(uint64_t namespace_id, uint16_t database, std::string_view user_key) {
  if (namespace_id > kNamespaceIdMax || user_key.empty() || user_key.size() > kUserKeyBytesMax) return std::nullopt;
  std::string key = DataHead(namespace_id, database, user_key.size());
  key.append(user_key);
  return key;
}

std::optional<std::string> EncodeSystemKey(uint64_t namespace_id, uint8_t tag, std::string_view record_key) {
  if (namespace_id > kNamespaceIdMax) return std::nullopt;
  std::string key;
  key.reserve(kSystemHeadBytes + record_key.size());
  AppendU64(namespace_id, &key);
  key.push_back(kFamilySystem);
  key.push_back(static_cast<char>(tag));
  key.append(record_key);
  return key;
}

std::optional<KeySpan> NamespaceSpan(uint64_t namespace_id) {
  if (namespace_id > kNamespaceIdMax) return std::nullopt;
  return KeySpan{NamespacePrefix(namespace_id), NamespacePrefix(namespace_id + 1)};
}

std::optional<KeySpan> PrefixSpan(uint64_t namespace_id, uint16_t database, std::string_view prefix) {
  if (namespace_id > kNamespaceIdMax || prefix.size() > kUserKeyBytesMax) return std::nullopt;
  std::string begin = DataHead(namespace_id, database, prefix.size());
  begin.append(prefix);
  std::string end = AfterPrefix(begin);
  return KeySpan{std::move(begin), std::move(end)};
}

std::optional<KeySpan> RangeSpan(uint64_t namespace_id, uint16_t database, std::string_view start,
                                 std::string_view end) {
  // One byte more than a key may have: key + '\0' is the usual way to resume after the longest key.
  if (start.size() > kUserKeyBytesMax + 1 || end.size() > kUserKeyBytesMax + 1) return std::nullopt;
  if (!end.empty() && start > end) return std::nullopt;
  std::optional<KeySpan> span = PrefixSpan(namespace_id, database, {});
  if (!span) return std::nullopt;
  if (!end.empty()) span->second = DataHead(namespace_id, database, end.size()).append(end);
  span->first.append(start);
  return span;
}

std::optional<DataKey> SplitDataKey(std::string_view row_key) noexcept {
  if (row_key.size() <= kDataHeadBytes || row_key[kNamespaceBytes] != kFamilyData) return std::nullopt;
  const auto high = static_cast<unsigned char>(row_key[kNamespaceBytes + 1]);
  const auto low = static_cast<unsigned char>(row_key[kNamespaceBytes + 2]);
  return DataKey{ReadU64(row_key.data()), static_cast<uint16_t>(high << 8 | low), row_key.substr(kDataHeadBytes)};
}

}  // namespace prefixdb
