#include "front/request_head.h"

#include <algorithm>
#include <cstring>

#include "front/grpc_codec.h"

namespace prefixdb::front {
namespace {

constexpr size_t kEntryBytes = 32;   // RFC 9113, 6.5.2.
constexpr size_t kUsualBytes = 768;  // A call with a token of the usual size.
constexpr size_t kLengthsBytes = 6;
constexpr std::string_view kGrpc = "application/grpc";
constexpr std::string_view kOurs = "prefixdb-peer";

bool IsGrpc(std::string_view content_type) {
  if (!content_type.starts_with(kGrpc)) return false;
  const std::string_view rest = content_type.substr(kGrpc.size());
  return rest.empty() || rest[0] == '+' || rest[0] == ';';
}

}  // namespace

void RequestHead::Add(std::string_view name, std::string_view value, size_t bytes_max) {
  bytes_ += name.size() + value.size() + kEntryBytes;
  if (bytes_ > bytes_max || name.size() > UINT16_MAX) return;
  if (entries_.empty()) entries_.reserve(kUsualBytes);
  char lengths[kLengthsBytes];
  const auto name_bytes = static_cast<uint16_t>(name.size());
  const auto value_bytes = static_cast<uint32_t>(value.size());
  std::memcpy(lengths, &name_bytes, sizeof(name_bytes));
  std::memcpy(lengths + sizeof(name_bytes), &value_bytes, sizeof(value_bytes));
  entries_.append(lengths, kLengthsBytes).append(name);
  const Place place{static_cast<uint32_t>(entries_.size()), value_bytes};
  entries_.append(value);
  Note(name, value, place);
}

void RequestHead::Note(std::string_view name, std::string_view value, Place place) {
  if (name == ":path") {
    path_ = place;
    path_ascii_ = std::ranges::all_of(value, [](char each) { return static_cast<uint8_t>(each) < 0x80; });
  } else if (name == ":method") {
    post_ = value == "POST";
  } else if (name == "te") {
    te_ = value == "trailers";
  } else if (name == "content-type") {
    grpc_ = IsGrpc(value);
  } else if (name == "authorization") {
    authorization_ = place;
    ++authorizations_;
  } else if (name == "grpc-timeout") {
    timeout_ = ParseTimeout(value);
    odd_ |= !timeout_;
  } else if (name == "grpc-encoding") {
    gzip_ = value == "gzip";
    odd_ |= !gzip_ && value != "identity";
  }
}

Headers RequestHead::ToHeaders(std::optional<std::chrono::milliseconds> timeout) const {
  Headers headers;
  std::string_view left = entries_;
  while (!left.empty()) {
    uint16_t name_bytes = 0;
    uint32_t value_bytes = 0;
    std::memcpy(&name_bytes, left.data(), sizeof(name_bytes));
    std::memcpy(&value_bytes, left.data() + sizeof(name_bytes), sizeof(value_bytes));
    const std::string_view name = left.substr(kLengthsBytes, name_bytes);
    const std::string_view value = left.substr(kLengthsBytes + name_bytes, value_bytes);
    left.remove_prefix(kLengthsBytes + name_bytes + value_bytes);
    if (name.starts_with(kOurs) || (timeout && name == "grpc-timeout")) continue;
    headers.emplace_back(name, value);
  }
  if (timeout) headers.emplace_back("grpc-timeout", FormatTimeout(*timeout));
  return headers;
}

void RequestHead::Clear() {
  std::string().swap(entries_);
  path_ = authorization_ = {};
}

}  // namespace prefixdb::front
