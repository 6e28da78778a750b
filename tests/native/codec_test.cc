// Goal: keys and values as the frozen bytes say, and nothing but a refusal for any other bytes.
//
// Method: a few vectors by hand (all of them are compared from Python) and random bytes, which the sanitizers watch.
#include "key_codec.h"
#include "support.h"
#include "value_codec.h"

namespace prefixdb::test {

TEST_CASE("keys have the frozen layout") {
  using namespace std::string_literals;
  CHECK(*EncodeDataKey(1, 258, "a") == "\0\0\0\0\0\0\0\1\1\1\2a"s);
  CHECK(*EncodeSystemKey(256, 7, "r") == "\0\0\0\0\0\0\1\0\0\7r"s);
  CHECK(NamespacePrefix(UINT64_MAX) == std::string(8, '\xff'));
  CHECK(NamespaceSpan(255)->second == "\0\0\0\0\0\0\1\0"s);
}

TEST_CASE("arguments out of range are refused") {
  CHECK_FALSE(EncodeDataKey(UINT64_MAX, 0, "a"));
  CHECK_FALSE(EncodeDataKey(1, 0, ""));
  CHECK(EncodeDataKey(1, 0, std::string(kUserKeyBytesMax, 'a')));
  CHECK_FALSE(EncodeDataKey(1, 0, std::string(kUserKeyBytesMax + 1, 'a')));
  CHECK_FALSE(EncodeSystemKey(UINT64_MAX, 0, ""));
  CHECK_FALSE(NamespaceSpan(UINT64_MAX));
  CHECK(PrefixSpan(1, 0, std::string(kUserKeyBytesMax, 'a')));
  CHECK_FALSE(PrefixSpan(1, 0, std::string(kUserKeyBytesMax + 1, 'a')));
  CHECK_FALSE(PrefixSpan(UINT64_MAX, 0, ""));
  CHECK(RangeSpan(1, 0, std::string(kUserKeyBytesMax + 1, 'a'), ""));
  CHECK_FALSE(RangeSpan(1, 0, std::string(kUserKeyBytesMax + 2, 'a'), ""));
  CHECK_FALSE(RangeSpan(1, 0, "", std::string(kUserKeyBytesMax + 2, 'a')));
  CHECK_FALSE(RangeSpan(1, 0, "b", "a"));
  CHECK(RangeSpan(1, 0, "b", "b"));
}

TEST_CASE("the end of a prefix carries over 0xff and into the next database and family") {
  using namespace std::string_literals;
  CHECK(PrefixSpan(1, 2, "a\xff")->second == "\0\0\0\0\0\0\0\1\1\0\2b"s);
  CHECK(PrefixSpan(1, 2, "\xff\xff")->second == "\0\0\0\0\0\0\0\1\1\0\3"s);
  CHECK(PrefixSpan(1, 0xffff, "\xff")->second == "\0\0\0\0\0\0\0\1\2"s);
}

TEST_CASE("values are taken apart as they were put together, and cut ones are refused") {
  for (const uint64_t expires : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
    const std::string stored = Value("payload", expires, 42);
    const StoredValue value = *DecodeValue(stored);
    CHECK(value.payload == "payload");
    CHECK(value.version == 42);
    CHECK(value.expires_at_ms == expires);
    const size_t head = stored.size() - 7;
    for (size_t size = 0; size < head; ++size) CHECK_FALSE(DecodeValue(stored.substr(0, size)));
    CHECK(DecodeValue(stored.substr(0, head)));
  }
}

TEST_CASE("a lifetime ends at its millisecond") {
  CHECK_FALSE(StoredValue{"", 1, 0}.ExpiredAt(UINT64_MAX));
  CHECK_FALSE(StoredValue{"", 1, 10}.ExpiredAt(9));
  CHECK(StoredValue{"", 1, 10}.ExpiredAt(10));
}

TEST_CASE("random bytes are refused or mean what encoding makes again") {
  Seeded random;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = Noise(&random, random.Below(24));
    if (!bytes.empty() && random.Below(2) == 0) bytes[0] = static_cast<char>(0x10 + random.Below(4));
    if (const auto value = DecodeValue(bytes); value && !(bytes[0] == 0x11 && value->expires_at_ms == 0)) {
      REQUIRE(Value(value->payload, value->expires_at_ms, value->version) == bytes);
    }
    if (bytes.size() > 8 && random.Below(2) == 0) bytes[8] = 1;
    if (const auto key = SplitDataKey(bytes); key && key->namespace_id <= kNamespaceIdMax) {
      REQUIRE(*EncodeDataKey(key->namespace_id, key->database, key->user_key) == bytes);
      REQUIRE(*NamespaceOf(bytes) == key->namespace_id);
    }
  }
}

}  // namespace prefixdb::test
