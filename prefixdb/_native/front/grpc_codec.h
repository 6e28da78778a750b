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

  // Keeps a copy. A message that is longer than what has come is gathered in a string of its own.
  void Add(std::string_view bytes);
  // Takes the next whole message out; `message` is overwritten. On kBad `failure` says why, in the words of gRPC's own
  // server: too large (RESOURCE_EXHAUSTED), a flag that is neither 0 nor 1, compression that was not announced or is
  // damaged (INTERNAL). Nothing can be read after that.
  Found Next(std::string* message, Failure* failure);
  // Whether a message has begun and is not whole; an end of the stream here is a mistake of the client.
  bool partial() const noexcept { return in_body_ || begin_ < raw_.size(); }
  // Bytes that the message under way still lacks, as far as its length is known (Next has seen it); for flow control.
  size_t missing() const noexcept { return in_body_ ? body_bytes_ - body_.size() : 0; }
  size_t buffered() const noexcept { return raw_.size() - begin_ + body_.size(); }
  size_t capacity() const noexcept { return raw_.capacity() + body_.capacity(); }  // What that takes.

 private:
  Found Whole(std::string* message, Failure* failure);

  const size_t bytes_max_;
  const bool gzip_;
  std::string raw_;  // From `begin_`: whole messages, and the head of one that is not.
  size_t begin_ = 0;
  bool in_body_ = false;  // The head was read; the rest comes into `body_`, nothing is in `raw_` before it is whole.
  bool compressed_ = false;
  size_t body_bytes_ = 0;
  std::string body_;
};

// The five bytes before a message.
void AppendMessageHead(size_t message_bytes, std::string* out);

// What a gzip or zlib stream holds; nothing when it is damaged, ends early, or holds more than `bytes_max`.
std::optional<std::string> Inflate(std::string_view bytes, size_t bytes_max, bool* too_large);

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
