// Goal: gRPC's text and bytes are read as its protocol says, cut anywhere, and hostile ones refused in bounded memory.
//
// Method: values of the protocol's description, every cut of a sequence of messages, both sides of every limit, random
// bytes there and back.
#include "front/grpc_codec.h"
#include "gzip_support.h"
#include "support.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::front;
using prefixdb::test::Noise;
using prefixdb::test::Packed;
using prefixdb::test::Seeded;
using Found = MessageReader::Found;

std::string Framed(std::string_view message, char flag = 0) {
  std::string framed(1, flag);
  for (int shift = 24; shift >= 0; shift -= 8) framed += static_cast<char>(message.size() >> shift);
  return framed.append(message);
}

std::vector<std::string> ReadAll(MessageReader* reader) {
  std::vector<std::string> messages;
  std::string message;
  Failure failure;
  while (reader->Next(&message, &failure) == Found::kMessage) messages.push_back(message);
  return messages;
}

TEST_CASE("messages are found whatever pieces they come in") {
  const std::vector<std::string> messages = {"one", "", std::string(300, '2'), "three"};
  std::string bytes;
  for (const std::string& each : messages) bytes += Framed(each);
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second = first; second <= bytes.size(); second += 7) {
      MessageReader reader(1000, false);
      std::vector<std::string> found;
      for (const auto& [from, to] : {std::pair(size_t{0}, first), {first, second}, {second, bytes.size()}}) {
        reader.Add(std::string_view(bytes).substr(from, to - from));
        for (std::string& each : ReadAll(&reader)) found.push_back(std::move(each));
      }
      CHECK(found == messages);
      CHECK(!reader.partial());
      CHECK(reader.buffered() == 0);
    }
  }
}

TEST_CASE("what a message under way lacks is known, and what is here is counted") {
  MessageReader reader(1000, false);
  std::string message;
  Failure failure;
  const std::string whole = Framed(std::string(100, 'm'));
  reader.Add(whole.substr(0, 4));
  CHECK(reader.Next(&message, &failure) == Found::kNeedMore);
  CHECK(reader.missing() == 0);
  CHECK(reader.partial());
  CHECK(reader.buffered() == 4);
  reader.Add(whole.substr(4, 21));
  CHECK(reader.Next(&message, &failure) == Found::kNeedMore);
  CHECK(reader.missing() == 80);
  CHECK(reader.buffered() == 20);
  reader.Add(whole.substr(25) + "\0");
  CHECK(reader.missing() == 0);
  CHECK(reader.Next(&message, &failure) == Found::kMessage);
  CHECK(message == std::string(100, 'm'));
}

TEST_CASE("what has been taken costs nothing, though something is always left") {
  const std::string framed = Framed(std::string(1000, 'm'));
  // Whole messages that wait while others are taken, or the first bytes of one.
  for (const size_t ahead : {5 * framed.size(), size_t{3}}) {
    MessageReader reader(1 << 20, false);
    std::string message;
    Failure failure;
    size_t most = 0;
    const std::string more = framed + framed;
    std::string left = framed + framed + framed + framed + framed;
    reader.Add(std::string_view(left).substr(0, ahead));
    for (int turn = 0; turn < 20'000; ++turn) {
      reader.Add(std::string_view(more).substr(ahead % framed.size(), framed.size()));
      REQUIRE(reader.Next(&message, &failure) == Found::kMessage);
      REQUIRE(message.size() == 1000);
      REQUIRE(reader.buffered() == ahead);
      most = std::max(most, reader.capacity());
    }
    CHECK(message == std::string(1000, 'm'));
    CHECK(most < 1 << 20);
  }
}

TEST_CASE("a message may be as large as allowed and not larger, packed or not") {
  Failure failure;
  std::string message;
  const auto read = [&](const std::string& bytes, bool gzip) {
    MessageReader reader(5000, gzip);
    reader.Add(bytes);
    return reader.Next(&message, &failure);
  };
  CHECK(read(Framed(std::string(5000, 'x')), false) == Found::kMessage);
  CHECK(read(Framed(std::string(5001, 'x')).substr(0, 5), false) == Found::kBad);
  CHECK(failure.code == 8);
  CHECK(failure.message == "SERVER: Received message larger than max (5001 vs. 5000)");
  CHECK(read(Framed(Packed(std::string(5000, 'x')), 1), true) == Found::kMessage);
  CHECK(message == std::string(5000, 'x'));
  CHECK(read(Framed(Packed(std::string(5001, 'x')), 1), true) == Found::kBad);
  CHECK(failure.code == 8);
  CHECK(failure.message == "SERVER: Received message larger than max (5001 vs. 5000)");
  CHECK(read(Framed(Packed(std::string(4 << 20, 'x')), 1), true) == Found::kBad);
  CHECK(failure.code == 8);
}

TEST_CASE("flags and compression that are not as announced are refused") {
  Failure failure;
  std::string message;
  const auto code = [&](const std::string& bytes, bool gzip) {
    MessageReader reader(5000, gzip);
    reader.Add(bytes);
    REQUIRE(reader.Next(&message, &failure) == Found::kBad);
    return int{failure.code};
  };
  CHECK(code(Framed(Packed("x"), 1), false) == 13);
  CHECK(failure.message == "Compression bit set but no encoding configured");
  CHECK(code(Framed("x", 2), true) == 13);
  CHECK(code(Framed("x", '\xff'), true) == 13);
  const std::string packed = Packed("some text that is packed");
  for (size_t bytes = 0; bytes < packed.size(); ++bytes) CHECK(code(Framed(packed.substr(0, bytes), 1), true) == 13);
  CHECK(failure.message == "Decompression failed due to zlib error");
  CHECK(code(Framed(packed + packed, 1), true) == 13);
  std::string damaged = packed;
  damaged[damaged.size() - 6] ^= 1;  // The checksum.
  CHECK(code(Framed(damaged, 1), true) == 13);
}

TEST_CASE("random bytes are never more than refused") {
  Seeded random;
  for (int round = 0; round < 3000; ++round) {
    MessageReader reader(1000, round % 2 == 0);
    std::string message;
    Failure failure;
    for (int piece = 0; piece < 5; ++piece) {
      std::string bytes = Noise(&random, random.Below(40));
      if (bytes.size() > 4 && random.Below(2) == 0) bytes[0] = bytes[1] = bytes[2] = bytes[3] = 0;
      reader.Add(bytes);
      Found found = Found::kMessage;
      while ((found = reader.Next(&message, &failure)) == Found::kMessage) CHECK(message.size() <= 1000);
      if (found == Found::kBad) break;
    }
  }
}

TEST_CASE("timeouts are read with their units and rounded up") {
  CHECK(ParseTimeout("2H") == 2h);
  CHECK(ParseTimeout("3M") == 3min);
  CHECK(ParseTimeout("4S") == 4s);
  CHECK(ParseTimeout("5m") == 5ms);
  CHECK(ParseTimeout("1u") == 1ms);
  CHECK(ParseTimeout("1000u") == 1ms);
  CHECK(ParseTimeout("1001u") == 2ms);
  CHECK(ParseTimeout("1n") == 1ms);
  CHECK(ParseTimeout("1000001n") == 2ms);
  CHECK(ParseTimeout("0n") == 0ms);
  CHECK(ParseTimeout("00000005m") == 5ms);
  CHECK(ParseTimeout("99999999H") == 99999999h);
  for (const std::string_view bad : {"", "m", "5", "5x", "-5m", "5 m", "123456789m", "5mm", " 5m", "5m "}) {
    CHECK(!ParseTimeout(bad));
  }
}

TEST_CASE("what is left of a deadline is written so that it is read again") {
  CHECK(FormatTimeout(0ms) == "0m");
  CHECK(FormatTimeout(-5ms) == "0m");
  CHECK(FormatTimeout(99'999'999ms) == "99999999m");
  CHECK(FormatTimeout(100'000'000ms) == "100000S");
  CHECK(FormatTimeout(100'000'001ms) == "100001S");
  for (const auto each : {1ms, 12'345ms, 99'999'999ms}) CHECK(ParseTimeout(FormatTimeout(each)) == each);
  const auto longest = std::chrono::duration_cast<std::chrono::milliseconds>(99'999'999h);
  CHECK(ParseTimeout(FormatTimeout(longest)) == longest);
}

TEST_CASE("status messages are escaped as gRPC does") {
  CHECK(PercentEncode("plain ~ text") == "plain ~ text");
  CHECK(PercentEncode("50%") == "50%25");
  CHECK(PercentEncode("\xC3\xBC\n\x7f") == "%C3%BC%0A%7F");
}

TEST_CASE("base64 is that of RFC 4648, without padding, and with it when it is read") {
  const std::vector<std::pair<std::string, std::string>> vectors = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff", "+/8"}};
  for (const auto& [bytes, text] : vectors) {
    CHECK(Base64(bytes) == text);
    CHECK(UnBase64(text) == bytes);
    CHECK(UnBase64(text + std::string((4 - text.size() % 4) % 4, '=')) == bytes);
  }
  for (const std::string_view bad : {"Z", "Zm9vY", "Zm 8", "Zm8*", "====", "Zg=", "Zm9v=", "=Zg="})
    CHECK(!UnBase64(bad));
  Seeded random;
  for (size_t size = 0; size < 200; ++size) {
    const std::string bytes = Noise(&random, size);
    CHECK(UnBase64(Base64(bytes)) == bytes);
  }
}

}  // namespace
