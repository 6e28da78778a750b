// Why a call failed: the same errors, words and details as prefixdb/errors.py and prefixdb/rpcstatus.py.
//
// facts.h is generated from the tables of Python (tools/gen_front.py); nothing is said twice. Failures that Python
// found (a token that is not good, a disk that is full) arrive whole and are passed on as they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "front/facts.h"

namespace prefixdb::front {

using Metadata = std::vector<std::pair<std::string, std::string>>;

struct Failure {
  uint8_t code = 0;     // gRPC status code, never 0.
  uint16_t reason = 0;  // Number of prefixdb.v1.Reason.
  std::string name;     // The reason's name, for example "KEY_EMPTY".
  std::string message;
  Metadata metadata;
  std::optional<uint64_t> retry_after_ms;  // Set exactly when a retry can help.
};

// The failure of a reason with its own sentence, or with `message`.
Failure Fail(Reason reason);
Failure Fail(Reason reason, std::string message, Metadata metadata = {});
// BAD_FIELD: "`field` `what`", as bad_field in errors.py.
Failure BadField(std::string_view field, std::string_view what);
// "The request has 5 keys; the limit is 4." with metadata size and limit, as the Python services say it.
Failure TooMany(std::string_view what, uint64_t size, uint64_t limit);

// The bytes of google.rpc.Status with ErrorInfo and RetryInfo: what grpc-status-details-bin carries.
std::string EncodeStatus(const Failure& failure);
// The bytes of prefixdb.v1.Error: the failure of one operation of a Pipeline.
std::string EncodeError(const Failure& failure);

}  // namespace prefixdb::front
