// Goal: bytes are a message here exactly when they are one for Google's library, and mean the same; answers are the
// bytes that it makes of the same answer.
//
// Method: frozen vectors that Python's library made or judged: fields that come twice, are unknown, have another type,
// groups, numbers and lengths at their limits. Every cut of a message is parsed from memory of exactly its size.
// tests/model/test_fronts_agree.py compares both sides with random requests.
#include <memory>

#include "front/messages.h"
#include "support.h"

namespace prefixdb::front {

namespace {

std::string Bytes(std::string_view hex) {
  std::string bytes;
  for (size_t at = 0; at < hex.size(); at += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(at, 2)), nullptr, 16)));
  }
  return bytes;
}

std::string Hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const char byte : bytes) {
    hex.push_back(kDigits[static_cast<uint8_t>(byte) >> 4]);
    hex.push_back(kDigits[static_cast<uint8_t>(byte) & 15]);
  }
  return hex;
}

template <typename Request>
bool IsMessage(std::string_view bytes) {
  Request request;
  return Parse(bytes, &request);
}

template <typename Request>
Request Parsed(std::string_view bytes) {
  Request request;
  REQUIRE(Parse(bytes, &request));
  return request;
}

}  // namespace

TEST_CASE("of a field that comes twice the last one counts, and messages are merged") {
  const std::string twice = Bytes(
      "0a01611005"
      "0a01621007");
  const auto get = Parsed<GetRequest>(twice);
  CHECK(get.key == "b");
  CHECK(get.database == 7);

  // condition { version: 1 }, then condition {}: the empty one changes nothing.
  const std::string merged = Bytes(
      "2a020801"
      "2a00");
  const auto put = Parsed<PutRequest>(merged);
  REQUIRE(put.condition);
  CHECK(put.condition->which == TestField::Which::kVersion);
  CHECK(put.condition->version == 1);

  // absent, then value: of a oneof there is only the last.
  const std::string test = Bytes(
      "2a0510012201"
      "78");
  const auto other = Parsed<PutRequest>(test);
  CHECK(other.condition->which == TestField::Which::kValue);
  CHECK(other.condition->value == "x");
  CHECK_FALSE(other.condition->is_true);
}

TEST_CASE("a oneof of messages begins anew when another one came between") {
  // put { key: a }, put { value: b }: one put. With a delete between, the second put has no key.
  const std::string together = Bytes(
      "0a0a"
      "0a030a0161"
      "0a03120162");
  const auto joined = Parsed<WriteRequest>(together);
  REQUIRE(joined.mutations.size() == 1);
  CHECK(std::get<PutFields>(joined.mutations[0]).key == "a");
  CHECK(std::get<PutFields>(joined.mutations[0]).value == "b");

  const std::string apart = Bytes(
      "0a0c"
      "0a030a0161"
      "1200"
      "0a03120162");
  const auto renewed = Parsed<WriteRequest>(apart);
  CHECK(std::get<PutFields>(renewed.mutations[0]).key.empty());
  CHECK(std::get<PutFields>(renewed.mutations[0]).value == "b");
}

TEST_CASE("unknown fields, known ones of another type and whole groups are skipped") {
  for (const char* hex : {"7801", "7a0161",
                          "79"
                          "0000000000000000",
                          "7d"
                          "00000000",                        // Field 15 of each type.
                          "0801", "0d00000000", "12026161",  // key and database, wrongly.
                          "7b7c", "7b0a01617b7c7c", "0b0c",  // Groups.
                          "c2a30901"
                          "61",
                          "faffffff0f00"}) {  // 19000; the greatest number.
    CAPTURE(hex);
    const std::string bytes = Bytes("0a01611005") + Bytes(hex);
    const auto get = Parsed<GetRequest>(bytes);
    CHECK(get.key == "a");
    CHECK(get.database == 5);
  }
}

TEST_CASE("what is no message is none") {
  for (const char* hex : {"0a",
                          "0a02"
                          "61",
                          "10",
                          "1080",
                          "0d000000",
                          "09"
                          "00000000000000",  // Cut.
                          "00",
                          "02"
                          "00",
                          "07",
                          "06",
                          "0e",
                          "0f",  // Number 0, types 6, 7.
                          "7c",
                          "7b",
                          "7b6c",
                          "7b02",
                          "7b7b7c",  // Groups.
                          "0affffffff0f",
                          "0a8080808008",  // Lengths.
                          "808080808001"
                          "00",
                          "8aa0808010"
                          "00",
                          "ffffffff1f00",                 // Tags.
                          "10ffffffffffffffffffff01"}) {  // A number of 11 bytes.
    CAPTURE(hex);
    CHECK_FALSE(IsMessage<GetRequest>(Bytes(hex)));
  }
  const auto groups = [](int depth) {
    return std::string(static_cast<size_t>(depth), '\x7b') + std::string(static_cast<size_t>(depth), '\x7c');
  };
  CHECK(IsMessage<GetRequest>(groups(WireReader::kDepthMax)));
  CHECK_FALSE(IsMessage<GetRequest>(groups(WireReader::kDepthMax + 1)));
}

TEST_CASE("numbers may be longer than they need to be, and small fields take their low bits") {
  const std::string padded = Bytes(
      "10858080808080808080"
      "00");
  CHECK(Parsed<GetRequest>(padded).database == 5);
  CHECK(Parsed<GetRequest>(Bytes("10ffffffffffffffffff7f")).database == UINT32_MAX);
  CHECK(Parsed<GetRequest>(Bytes("108580808010")).database == 5);  // 2^32 + 5.
  CHECK(Parsed<GetRequest>(Bytes("90808000"
                                 "05"))
            .database == 5);                                  // A tag of four bytes.
  CHECK(Parsed<ScanRequest>(Bytes("188080808010")).reverse);  // True is whatever is not 0.
  const std::string length = Bytes(
      "0a8180808000"
      "61");
  CHECK(Parsed<GetRequest>(length).key == "a");
}

TEST_CASE("every cut of a message is judged without looking behind it") {
  const std::string whole = Bytes(
      "0804"
      "1205"
      "0a030a0161"
      "120a"
      "120812"
      "067b7c0a016110"
      "05"
      "1211"
      "1a0f"
      "0a016112017620"
      "032a060a02080118"
      "01");
  for (size_t size = 0; size <= whole.size(); ++size) {
    const auto exact = std::make_unique<char[]>(size);
    std::copy_n(whole.data(), size, exact.get());
    PipelineRequest request;
    Parse({exact.get(), size}, &request);  // A sanitizer watches.
    CHECK(request.operations.size() <= 3);
  }
}

TEST_CASE("a repeated field is counted beyond its limit, but not kept") {
  std::string many;
  for (uint64_t count = 0; count < kWriteMutationsMax + 5; ++count) many += Bytes("0a00");
  const auto write = Parsed<WriteRequest>(many);
  CHECK(write.mutations_sent == kWriteMutationsMax + 5);
  CHECK(write.mutations.size() == kWriteMutationsMax);
  const auto batch = Parsed<BatchGetRequest>(many);
  CHECK(batch.keys_sent == kWriteMutationsMax + 5);
  CHECK(batch.keys.size() == kBatchKeysMax);

  std::string operations;
  for (uint64_t count = 0; count < kPipelineOperationsMax + 5; ++count) operations += Bytes("1200");
  CHECK(Parsed<PipelineRequest>(operations).operations.size() == kPipelineOperationsMax);
  // One that is none makes the message none, wherever it stands.
  CHECK_FALSE(IsMessage<PipelineRequest>(operations + Bytes("1203"
                                                            "0a0161")));
}

TEST_CASE("answers are the bytes that Python makes of them") {
  const RowFields full{"v", 300, 5};
  const RowFields empty{"", 1, 0};
  CHECK(Hex(GetResponse(&full)) == "080112017618ac022005");
  CHECK(Hex(GetResponse(&empty)) == "08011801");
  CHECK(GetResponse(nullptr).empty());
  CHECK(GetResponseBytes(&full) == GetResponse(&full).size());
  CHECK(GetResponseBytes(&empty) == 4);

  CommitResult result;
  result.applied = true;
  result.version = uint64_t{1} << 63;
  CHECK(Hex(PutResponse(result)) == "08011080808080808080808001");
  result = {};
  result.current_version = 7;
  CHECK(Hex(PutResponse(result)) == "1807");
  CHECK(Hex(WriteResponse(result)) == "2007");  // A condition that did not fail is number 0, which says nothing.
  result.failed_condition = 3;
  CHECK(Hex(WriteResponse(result)) == "18032007");

  std::string page;
  AppendScanRow("k", {"v", 9, 1}, &page);
  CHECK(Hex(page) ==
        "0a0a0a016b1201761809"
        "2001");
  page.clear();
  AppendScanRow(std::string(130, 'l'), {"", 1, 0}, &page);
  CHECK(Hex(page.substr(0, 6)) == "0a87010a8201");
  CHECK(Hex(page.substr(page.size() - 3)) == "6c1801");

  CHECK(Hex(CountResponse(1000)) == "08e807");
  CHECK(CountResponse(0).empty());

  std::string pipeline;
  AppendPipelineHead(4, &pipeline);
  AppendResult(ResultField::kGet, {}, &pipeline);
  AppendResult(ResultField::kPut, Bytes("08011001"), &pipeline);
  AppendResult(ResultField::kError, Bytes("08031a016d"), &pipeline);
  CHECK(Hex(pipeline) == "080412020a0012061a040801100112077a0508031a016d");
}

TEST_CASE("a lifetime that is left is at least a millisecond") {
  CHECK(TtlMs(0, 5) == 0);
  CHECK(TtlMs(7, 5) == 2);
  CHECK(TtlMs(5, 5) == 1);
  CHECK(TtlMs(4, 5) == 1);
}

}  // namespace prefixdb::front
