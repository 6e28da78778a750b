// The wire format of protocol buffers, as Google's own library for Python reads and writes it.
//
// The same bytes must be a message here exactly when they are one in Python, or two callers would get two answers. So
// this is not left to a library with rules of its own (protozero refuses field numbers that are reserved and groups
// that nobody knows, and takes tags that are too long). Read is: tags of up to 5 bytes and 32 bits, number not 0;
// numbers of up to 10 bytes, of which the low 64 bits count; groups are skipped, whole and properly nested, up to a
// depth. tests/native/front_messages_test.cc has vectors that Python has judged.
//
//   field  := tag varint (number << 3 | type) | value
//   type   := 0 varint, 1 eight bytes, 2 length varint and bytes, 3 and 4 begin and end of a group, 5 four bytes
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace prefixdb::front {

enum class WireType : uint8_t { kNumber = 0, kFixed64 = 1, kBytes = 2, kBeginGroup = 3, kEndGroup = 4, kFixed32 = 5 };

// What a field of a message is recognised by; a known number with another type is an unknown field.
constexpr uint32_t NumberTag(uint32_t field) { return field << 3 | static_cast<uint32_t>(WireType::kNumber); }
constexpr uint32_t BytesTag(uint32_t field) { return field << 3 | static_cast<uint32_t>(WireType::kBytes); }

// Walks over the fields of one message. Not thread-safe; borrows the bytes.
class WireReader {
 public:
  static constexpr int kDepthMax = 100;

  explicit WireReader(std::string_view bytes, int depth_left = kDepthMax) noexcept
      : next_(bytes.data()), end_(bytes.data() + bytes.size()), depth_left_(depth_left), ok_(depth_left >= 0) {}

  // Moves to the next field; false at the end and when the bytes are no message, which `ok` tells apart.
  bool Next() noexcept;
  bool ok() const noexcept { return ok_; }

  // Of the field.
  uint32_t tag() const noexcept { return tag_; }
  uint64_t number() const noexcept { return number_; }                                 // Of a kNumber.
  uint32_t low_number() const noexcept { return static_cast<uint32_t>(number_); }      // As a uint32 field takes it.
  std::string_view bytes() const noexcept { return bytes_; }                           // Of a kBytes.
  WireReader message() const noexcept { return WireReader(bytes_, depth_left_ - 1); }  // The same, as a message.

 private:
  bool Fail() noexcept {
    ok_ = false;
    return false;
  }
  bool ReadTag(uint32_t* tag) noexcept;
  bool ReadNumber(uint64_t* number) noexcept;
  bool ReadValue(uint32_t tag, int depth_left) noexcept;
  bool SkipGroup(uint32_t field, int depth_left) noexcept;

  const char* next_;
  const char* end_;
  int depth_left_;
  bool ok_;
  uint32_t tag_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
};

// --- writing

constexpr size_t kVarintBytesMax = 10;

constexpr size_t VarintBytes(uint64_t number) noexcept {
  return (static_cast<size_t>(std::bit_width(number | 1)) + 6) / 7;
}
// Bytes of a field with a one-byte tag (numbers below 16), left out when it says nothing, as proto3 does.
constexpr size_t NumberFieldBytes(uint64_t number) noexcept { return number == 0 ? 0 : 1 + VarintBytes(number); }
// With a length, also when it is 0.
constexpr size_t LengthFieldBytes(size_t length) noexcept { return 1 + VarintBytes(length) + length; }
constexpr size_t BytesFieldBytes(size_t length) noexcept { return length == 0 ? 0 : LengthFieldBytes(length); }

// Writes at `to` and returns what is behind it.
inline char* PutVarint(uint64_t number, char* to) noexcept {
  while (number >= 0x80) {
    *to++ = static_cast<char>(number | 0x80);
    number >>= 7;
  }
  *to++ = static_cast<char>(number);
  return to;
}
inline char* PutNumberField(uint32_t field, uint64_t number, char* to) noexcept {
  if (number == 0) return to;
  *to++ = static_cast<char>(NumberTag(field));
  return PutVarint(number, to);
}
// The tag and the length of a field whose bytes come next.
inline char* PutLengthHead(uint32_t field, size_t length, char* to) noexcept {
  *to++ = static_cast<char>(BytesTag(field));
  return PutVarint(length, to);
}

inline void AppendLengthHead(uint32_t field, size_t length, std::string* to) {
  char head[1 + kVarintBytesMax];
  to->append(head, PutLengthHead(field, length, head));
}
inline void AppendNumberField(uint32_t field, uint64_t number, std::string* to) {
  char bytes[1 + kVarintBytesMax];
  to->append(bytes, PutNumberField(field, number, bytes));
}

}  // namespace prefixdb::front
