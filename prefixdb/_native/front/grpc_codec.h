// gRPC over HTTP/2, the parts that are text and bytes: messages in DATA frames, timeouts, status messages, base64.
// Source: the gRPC project's PROTOCOL-HTTP2 description.
//
//   message := compressed u8 (0 or 1) | length u32 big-endian | bytes
//
// Functions are thread-safe; a MessageReader belongs to its call.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "front/failure.h"

namespace prefixdb::front {

inline constexpr size_t kMessageHeadBytes = 5;

// Finds the messages in bytes that are cut anywhere. Not thread-safe.
class MessageReader {
 public:
  enum class Found : uint8_t { kMessage, kNeedMore, kBad };

  // `bytes_max`: of a message, before and after decompression. `gzip`: grpc-encoding says so.
  MessageReader(size_t bytes_max, bool gzip) : bytes_max_(bytes_max), gzip_(gzip) {}

  void Add(std::string_view bytes);
  // Takes the next whole message out. On kBad `failure` says why: too large (REQUEST_TOO_LARGE), a compressed flag
  // without a known encoding (INTERNAL as gRPC says it: code 13), damaged compression, a flag that is neither 0 nor 1.
  Found Next(std::string* message, Failure* failure);
  // Whether a message has begun and is not whole; an end of the stream here is a mistake of the client.
  bool partial() const noexcept { return !buffer_.empty(); }
  // Bytes that the message under way still lacks, as far as its length is known; for flow control.
  size_t missing() const noexcept;
  size_t buffered() const noexcept { return buffer_.size(); }

 private:
  const size_t bytes_max_;
  const bool gzip_;
  std::string buffer_;
  size_t begin_ = 0;
};

void AppendMessageHead(size_t message_bytes, std::string* out);

// "100m" and the like; nothing when it is no timeout. Units H M S m u n, up to 8 digits; rounded up to 1 ms... but 0 is
// 0.
std::optional<std::chrono::milliseconds> ParseTimeout(std::string_view text);
// The rest of a deadline as grpc-timeout, for a call that is handed over.
std::string FormatTimeout(std::chrono::milliseconds left);

// grpc-message: everything but printable ASCII, and %, as %XX.
std::string PercentEncode(std::string_view text);
// Unpadded, as *-bin values are sent; nothing for text that is not base64 (padded is taken, too).
std::string Base64(std::string_view bytes);
std::optional<std::string> UnBase64(std::string_view text);

}  // namespace prefixdb::front
