// Goal: a failure of the front is, byte for byte, what Python would have sent for it.
//
// Method: the frozen cases of tests/data/failures.json, which Python's own test holds against Python: every reason,
// texts and metadata of every kind, waits at the edges.
#include <algorithm>

#include "front/failure.h"
#include "json.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::Failure;
using front::Metadata;
using front::Reason;

Metadata MetadataOf(const Json& vector) {
  Metadata metadata;
  for (const Json& entry : vector["metadata"].array()) {
    metadata.emplace_back(entry.array()[0].text(), entry.array()[1].text());
  }
  std::reverse(metadata.begin(), metadata.end());  // Whatever the order, the bytes are the same.
  return metadata;
}

Failure Whole(const Json& vector) {
  Failure failure;
  failure.code = static_cast<uint8_t>(vector["code"].number());
  failure.reason = static_cast<uint16_t>(vector["reason"].number());
  failure.name = vector["name"].text();
  failure.message = vector["message"].text();
  failure.metadata = MetadataOf(vector);
  if (!vector["retry_after_ms"].is_null()) failure.retry_after_ms = std::stoull(vector["retry_after_ms"].text());
  return failure;
}

Failure Made(const Json& vector) {
  const std::string& how = vector["how"].text();
  const auto reason = static_cast<Reason>(vector["reason"].number());
  if (how == "reason") return front::Fail(reason);
  if (how == "message") return front::Fail(reason, vector["message"].text(), MetadataOf(vector));
  if (how == "bad_field") return front::BadField(vector["field"].text(), vector["what"].text());
  if (how == "too_many") {
    return front::TooMany(vector["what"].text(), std::stoull(vector["size"].text()),
                          std::stoull(vector["limit"].text()));
  }
  REQUIRE(how == "whole");
  return Whole(vector);
}

Metadata Sorted(Metadata metadata) {
  std::sort(metadata.begin(), metadata.end());
  return metadata;
}

}  // namespace

TEST_CASE("failures are those of Python, field by field and byte by byte") {
  const Json vectors = Json::OfData("failures.json");
  size_t reasons = 0;
  for (const Json& vector : vectors["cases"].array()) {
    INFO(vector["name"].text() << " " << vector["how"].text());
    const Failure expected = Whole(vector);
    const Failure made = Made(vector);
    CHECK(made.code == expected.code);
    CHECK(made.reason == expected.reason);
    CHECK(made.name == expected.name);
    CHECK(made.message == expected.message);
    CHECK(Sorted(made.metadata) == Sorted(expected.metadata));
    CHECK(made.retry_after_ms == expected.retry_after_ms);
    CHECK(front::EncodeStatus(made) == vector["status"].bytes());
    CHECK(front::EncodeError(made) == vector["error"].bytes());
    reasons += vector["how"].text() == "reason" ? 1 : 0;
  }
  CHECK(reasons == front::kReasons.size());
}

}  // namespace prefixdb::test
