#include "front/wire.h"

namespace prefixdb::front {
namespace {

constexpr int kTagBytesMax = 5;
constexpr int kNumberBytesMax = 10;
constexpr uint64_t kLengthMax = INT32_MAX;

WireType TypeOf(uint32_t tag) noexcept { return static_cast<WireType>(tag & 7); }

}  // namespace

bool WireReader::Next() noexcept {
  if (!ok_ || next_ == end_) return false;
  if (!ReadTag(&tag_)) return Fail();
  // The end of a group that has not begun here.
  if (TypeOf(tag_) == WireType::kEndGroup || !ReadValue(tag_, depth_left_)) return Fail();
  return true;
}

bool WireReader::ReadTag(uint32_t* tag) noexcept {
  uint64_t number = 0;
  for (int index = 0; index < kTagBytesMax; ++index) {
    if (next_ == end_) return false;
    const auto byte = static_cast<uint8_t>(*next_++);
    number |= static_cast<uint64_t>(byte & 0x7f) << (7 * index);
    if (byte < 0x80) {
      *tag = static_cast<uint32_t>(number);
      return number <= UINT32_MAX && (number >> 3) != 0;
    }
  }
  return false;
}

bool WireReader::ReadNumber(uint64_t* number) noexcept {
  uint64_t read = 0;
  for (int index = 0; index < kNumberBytesMax; ++index) {
    if (next_ == end_) return false;
    const auto byte = static_cast<uint8_t>(*next_++);
    read |= static_cast<uint64_t>(byte & 0x7f) << (7 * index);
    if (byte < 0x80) {
      *number = read;
      return true;
    }
  }
  return false;
}

bool WireReader::ReadValue(uint32_t tag, int depth_left) noexcept {
  switch (TypeOf(tag)) {
    case WireType::kNumber:
      return ReadNumber(&number_);
    case WireType::kBytes: {
      uint64_t length = 0;
      if (!ReadNumber(&length) || length > kLengthMax || length > static_cast<uint64_t>(end_ - next_)) return false;
      bytes_ = {next_, static_cast<size_t>(length)};
      next_ += length;
      return true;
    }
    case WireType::kFixed64:
    case WireType::kFixed32: {
      const size_t length = TypeOf(tag) == WireType::kFixed64 ? 8 : 4;
      if (static_cast<size_t>(end_ - next_) < length) return false;
      next_ += length;
      return true;
    }
    case WireType::kBeginGroup:
      return SkipGroup(tag >> 3, depth_left - 1);
    case WireType::kEndGroup:
      break;
  }
  return false;
}

bool WireReader::SkipGroup(uint32_t field, int depth_left) noexcept {
  if (depth_left < 0) return false;
  while (true) {
    uint32_t tag = 0;
    if (!ReadTag(&tag)) return false;
    if (TypeOf(tag) == WireType::kEndGroup) return tag >> 3 == field;
    if (!ReadValue(tag, depth_left)) return false;
  }
}

}  // namespace prefixdb::front
