#include "row_packer.h"

#include <algorithm>
#include <cstring>

#include "big_endian.h"
#include "key_codec.h"

namespace prefixdb {

namespace {

// Most bytes of a row apart from its key and its value: a list, two lengths, two numbers.
constexpr uint64_t kRowHeadBytes = 29;

// Writes msgpack at `to` and returns what is behind it. Each number has the shortest form.
char* PutBigEndian(char tag, uint64_t number, size_t width, char* to) {
  char bytes[sizeof number];
  WriteU64(number, bytes);
  *to++ = tag;
  std::memcpy(to, bytes + sizeof bytes - width, width);
  return to + width;
}

char* PutUnsigned(uint64_t number, char* to) {
  if (number < 0x80) {
    *to = static_cast<char>(number);
    return to + 1;
  }
  if (number <= UINT8_MAX) return PutBigEndian('\xcc', number, 1, to);
  if (number <= UINT16_MAX) return PutBigEndian('\xcd', number, 2, to);
  if (number <= UINT32_MAX) return PutBigEndian('\xce', number, 4, to);
  return PutBigEndian('\xcf', number, 8, to);
}

char* PutBinaryHead(size_t size, char* to) {
  if (size <= UINT8_MAX) return PutBigEndian('\xc4', size, 1, to);
  if (size <= UINT16_MAX) return PutBigEndian('\xc5', size, 2, to);
  return PutBigEndian('\xc6', size, 4, to);
}

char* PutListHead(uint64_t size, char* to) {
  if (size < 16) {
    *to = static_cast<char>(0x90 | size);
    return to + 1;
  }
  if (size <= UINT16_MAX) return PutBigEndian('\xdc', size, 2, to);
  return PutBigEndian('\xdd', size, 4, to);
}

}  // namespace

RowPacker::Answer RowPacker::Add(std::string_view row_key, const StoredValue& value) {
  if (!row_key.starts_with(head_)) return Answer::kForeign;
  const auto key = SplitDataKey(row_key);
  if (!key) return Answer::kForeign;
  const std::string_view user_key = key->user_key;
  const uint64_t size = user_key.size() + value.payload.size() + kRowHeadBytes;
  if (facts_.rows != 0) {
    if (key->database != facts_.database || held_ + size > limits_.max_bytes) return Answer::kNotThis;
    if (user_key <= facts_.last_key) return Answer::kOutOfOrder;
  } else {
    facts_.database = key->database;
    facts_.first_key = user_key;
    rows_.reserve(std::max(size, std::min<uint64_t>(limits_.max_bytes, uint64_t{1} << 20)));
  }

  char head[kRowHeadBytes];
  char* to = PutBinaryHead(user_key.size(), PutListHead(4, head));
  rows_.append(head, to).append(user_key);
  to = PutBinaryHead(value.payload.size(), head);
  rows_.append(head, to).append(value.payload);
  to = PutUnsigned(value.expires_at_ms, PutUnsigned(value.version, head));
  rows_.append(head, to);

  facts_.last_key = user_key;
  facts_.longest_key = std::max<uint64_t>(facts_.longest_key, user_key.size());
  facts_.longest_value = std::max<uint64_t>(facts_.longest_value, value.payload.size());
  facts_.least_version = std::min(facts_.least_version, value.version);
  facts_.greatest_version = std::max(facts_.greatest_version, value.version);
  facts_.latest_end_ms = std::max(facts_.latest_end_ms, value.expires_at_ms);
  held_ += size;
  return ++facts_.rows >= limits_.max_rows || held_ >= limits_.max_bytes ? Answer::kFull : Answer::kTaken;
}

std::string RowPacker::Head() const {
  char bytes[kRowHeadBytes];
  char* const end = PutListHead(facts_.rows, PutUnsigned(facts_.database, PutListHead(2, bytes)));
  return {bytes, end};
}

}  // namespace prefixdb
