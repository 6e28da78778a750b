#include "front/grpc_codec.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace prefixdb::front {
namespace {

constexpr uint8_t kResourceExhausted = 8;
constexpr uint8_t kInternal = 13;
// Bytes of messages that were taken, beyond which a reader looks whether to let go of them.
constexpr size_t kTakenKept = 16 * 1024;

// A status as gRPC's own server makes it: without details, so that clients see no difference.
Failure Plain(uint8_t code, Reason reason, std::string message) {
  Failure failure = Fail(reason, std::move(message));
  failure.code = code;
  return failure;
}

Failure TooLarge(size_t length, size_t most) {
  return Plain(
      kResourceExhausted, Reason::kRequestTooLarge,
      "SERVER: Received message larger than max (" + std::to_string(length) + " vs. " + std::to_string(most) + ")");
}

size_t LengthAt(std::string_view bytes) noexcept {
  size_t length = 0;
  for (size_t i = 1; i < kMessageHeadBytes; ++i) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  return length;
}

// Ends zlib's state however its user is left.
struct Inflater {
  z_stream stream{};
  bool ready = false;
  Inflater() {
    constexpr int kGzipOrZlib = 15 + 32;
    ready = inflateInit2(&stream, kGzipOrZlib) == Z_OK;
  }
  ~Inflater() {
    if (ready) inflateEnd(&stream);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

}  // namespace

void MessageReader::Add(std::string_view bytes) {
  if (in_body_) {
    const size_t taken = std::min(bytes.size(), missing());
    body_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
  }
  if (bytes.empty()) return;
  // What was taken goes, also when something is always left; half of it is moved at most once for as many bytes.
  if (begin_ == raw_.size()) {
    raw_.clear();
    begin_ = 0;
  } else if (begin_ > kTakenKept && begin_ > raw_.size() / 2) {
    raw_.erase(0, begin_);
    begin_ = 0;
  }
  raw_.append(bytes);
}

MessageReader::Found MessageReader::Next(std::string* message, Failure* failure) {
  if (!in_body_) {
    const std::string_view left = std::string_view(raw_).substr(begin_);
    if (left.size() < kMessageHeadBytes) return Found::kNeedMore;
    const auto flag = static_cast<uint8_t>(left[0]);
    const size_t length = LengthAt(left);
    if (flag > 1) {
      *failure = Plain(
          kInternal, Reason::kInternal,
          "Bad GRPC frame type 0x" + std::string(1, "0123456789abcdef"[flag >> 4]) + "0123456789abcdef"[flag & 15]);
      return Found::kBad;
    }
    if (length > bytes_max_) {
      *failure = TooLarge(length, bytes_max_);
      return Found::kBad;
    }
    compressed_ = flag == 1;
    const std::string_view body = left.substr(kMessageHeadBytes);
    if (body.size() >= length) {
      body_.assign(body.substr(0, length));
      begin_ += kMessageHeadBytes + length;
      return Whole(message, failure);
    }
    body_bytes_ = length;
    in_body_ = true;
    body_.assign(body);
    begin_ = raw_.size();
  }
  if (missing() != 0) return Found::kNeedMore;
  in_body_ = false;
  return Whole(message, failure);
}

// `body_` is a whole message.
MessageReader::Found MessageReader::Whole(std::string* message, Failure* failure) {
  if (!compressed_) {
    message->swap(body_);
    body_.clear();
    return Found::kMessage;
  }
  if (!gzip_) {
    *failure = Plain(kInternal, Reason::kInternal, "Compression bit set but no encoding configured");
    return Found::kBad;
  }
  bool too_large = false;
  auto whole = Inflate(body_, bytes_max_, &too_large);
  std::string().swap(body_);
  if (whole) {
    *message = std::move(*whole);
    return Found::kMessage;
  }
  *failure = too_large ? TooLarge(bytes_max_ + 1, bytes_max_)
                       : Plain(kInternal, Reason::kInternal, "Decompression failed due to zlib error");
  return Found::kBad;
}

void AppendMessageHead(size_t message_bytes, std::string* out) {
  const auto length = static_cast<uint32_t>(message_bytes);
  const char head[kMessageHeadBytes] = {0, static_cast<char>(length >> 24), static_cast<char>(length >> 16),
                                        static_cast<char>(length >> 8), static_cast<char>(length)};
  out->append(head, sizeof(head));
}

std::optional<std::string> Inflate(std::string_view bytes, size_t bytes_max, bool* too_large) {
  constexpr size_t kStep = 64 * 1024;
  *too_large = false;
  Inflater inflater;
  if (!inflater.ready) return std::nullopt;
  z_stream& stream = inflater.stream;
  // zlib does not write to its input.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string whole;
  while (true) {
    const size_t had = whole.size();
    // One byte more than allowed tells too much from just enough.
    const size_t room = std::min(std::max(kStep, had), bytes_max + 1 - had);
    whole.resize(had + room);
    stream.next_out = reinterpret_cast<Bytef*>(whole.data() + had);
    stream.avail_out = static_cast<uInt>(room);
    const int state = inflate(&stream, Z_NO_FLUSH);
    whole.resize(had + room - stream.avail_out);
    if (whole.size() > bytes_max) {
      *too_large = true;
      return std::nullopt;
    }
    if (state == Z_STREAM_END) break;
    if (state != Z_OK || (stream.avail_in == 0 && stream.avail_out != 0)) return std::nullopt;
  }
  if (stream.avail_in != 0) return std::nullopt;  // Something after the end.
  return whole;
}

std::optional<std::chrono::milliseconds> ParseTimeout(std::string_view text) {
  constexpr size_t kDigitsMax = 8;
  if (text.size() < 2 || text.size() > kDigitsMax + 1) return std::nullopt;
  int64_t value = 0;
  for (const char digit : text.substr(0, text.size() - 1)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    value = value * 10 + (digit - '0');
  }
  switch (text.back()) {
    case 'H':
      return std::chrono::milliseconds(value * 3'600'000);
    case 'M':
      return std::chrono::milliseconds(value * 60'000);
    case 'S':
      return std::chrono::milliseconds(value * 1'000);
    case 'm':
      return std::chrono::milliseconds(value);
    case 'u':
      return std::chrono::milliseconds((value + 999) / 1'000);
    case 'n':
      return std::chrono::milliseconds((value + 999'999) / 1'000'000);
    default:
      return std::nullopt;
  }
}

std::string FormatTimeout(std::chrono::milliseconds left) {
  constexpr int64_t kMost = 99'999'999;
  const int64_t ms = std::max<int64_t>(0, left.count());
  if (ms <= kMost) return std::to_string(ms) + 'm';
  const int64_t seconds = (ms + 999) / 1'000;
  if (seconds <= kMost) return std::to_string(seconds) + 'S';
  const int64_t minutes = (seconds + 59) / 60;
  if (minutes <= kMost) return std::to_string(minutes) + 'M';
  return std::to_string(std::min(kMost, (minutes + 59) / 60)) + 'H';
}

std::string PercentEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char each : text) {
    const auto byte = static_cast<uint8_t>(each);
    if (byte >= 0x20 && byte <= 0x7E && byte != '%') {
      encoded += each;
    } else {
      encoded += '%';
      encoded += kHex[byte >> 4];
      encoded += kHex[byte & 15];
    }
  }
  return encoded;
}

namespace {
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNoDigit = 0xFF;

constexpr std::array<uint8_t, 256> Digits() {
  std::array<uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  for (size_t i = 0; i < kAlphabet.size(); ++i) digits[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return digits;
}
}  // namespace

std::string Base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() * 4 + 2) / 3);
  uint32_t bits = 0;
  int count = 0;
  for (const char each : bytes) {
    bits = bits << 8 | static_cast<uint8_t>(each);
    for (count += 8; count >= 6; count -= 6) text += kAlphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kAlphabet[bits << (6 - count) & 63];
  return text;
}

std::optional<std::string> UnBase64(std::string_view text) {
  static constexpr std::array<uint8_t, 256> kDigits = Digits();
  if (text.size() % 4 == 0) {
    for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  }
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (const char each : text) {
    const uint8_t digit = kDigits[static_cast<uint8_t>(each)];
    if (digit == kNoDigit) return std::nullopt;
    bits = bits << 6 | digit;
    if ((count += 6) >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 255);
    }
  }
  return bytes;
}

}  // namespace prefixdb::front
