// The messages of proto/prefixdb/v1/key_value.proto: requests as the methods read them, answers as they write them.
//
// Requests borrow from the bytes they were parsed from. Parsing is proto3's: what is missing is empty or 0, the last of
// several wins, those of a message field are merged, unknown fields are skipped. A repeated field keeps no more than
// its limit but counts them all: sixteen megabytes of empty mutations would be a gigabyte of objects.
//
// Answers are the bytes that Python's library makes of the same answer: fields in order, what says nothing left out.
//
// Functions are thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "commit.h"
#include "front/facts.h"
#include "front/wire.h"

namespace prefixdb::front {

// --- requests

struct GetRequest {
  std::string_view key;
  uint32_t database = 0;
};

struct BatchGetRequest {
  std::vector<std::string_view> keys;  // The first kBatchKeysMax.
  uint64_t keys_sent = 0;
  uint32_t database = 0;
};

struct TestField {
  enum class Which : uint8_t { kNone, kVersion, kAbsent, kExists, kValue };
  Which which = Which::kNone;
  bool is_true = false;      // Of kAbsent and kExists.
  uint64_t version = 0;      // Of kVersion.
  std::string_view value{};  // Of kValue.
};

struct PutFields {
  std::string_view key;
  std::string_view value;
  uint32_t database = 0;
  uint64_t ttl_ms = 0;
};
struct DeleteFields {
  std::string_view key;
  uint32_t database = 0;
};
struct PutRequest : PutFields {
  std::optional<TestField> condition;
};
struct DeleteRequest : DeleteFields {
  std::optional<TestField> condition;
};

struct KeyRange {
  std::string_view prefix;
  std::string_view start;
  std::string_view end;
};
struct DeleteRangeFields {
  KeyRange range;
  uint32_t database = 0;
};
using MutationField = std::variant<std::monostate, PutFields, DeleteFields, DeleteRangeFields>;
struct ConditionField {
  std::string_view key;
  uint32_t database = 0;
  TestField test;
};
struct WriteRequest {
  std::vector<MutationField> mutations;  // The first kWriteMutationsMax.
  uint64_t mutations_sent = 0;
  std::vector<ConditionField> conditions;  // The first kWriteConditionsMax.
  uint64_t conditions_sent = 0;
};

struct ScanRequest {
  KeyRange range;
  uint32_t database = 0;
  bool reverse = false;
  uint64_t limit = 0;
  bool keys_only = false;
  std::string_view resume_after;
};
struct CountRequest {
  KeyRange range;
  uint32_t database = 0;
};

using Operation = std::variant<std::monostate, GetRequest, BatchGetRequest, PutRequest, DeleteRequest, WriteRequest>;
struct PipelineRequest {
  uint64_t id = 0;
  std::vector<std::string_view> operations;  // The first kPipelineOperationsMax; each is one for Parse.
  uint64_t operations_sent = 0;
};

// Each returns false when the bytes are no such message. `request` is as it was made.
bool Parse(std::string_view bytes, GetRequest* request);
bool Parse(std::string_view bytes, BatchGetRequest* request);
bool Parse(std::string_view bytes, PutRequest* request);
bool Parse(std::string_view bytes, DeleteRequest* request);
bool Parse(std::string_view bytes, WriteRequest* request);
bool Parse(std::string_view bytes, ScanRequest* request);
bool Parse(std::string_view bytes, CountRequest* request);
bool Parse(std::string_view bytes, PipelineRequest* request);  // Also false when an operation is none.
bool Parse(std::string_view bytes, Operation* operation);      // REQUIRES: of a PipelineRequest.

// --- answers

struct RowFields {
  std::string_view value;
  uint64_t version = 0;
  uint64_t ttl_ms = 0;  // 0: none.
};

// The remaining lifetime of a row that is alive at `now_ms`, at least 1; 0 for none.
inline uint64_t TtlMs(uint64_t expires_at_ms, uint64_t now_ms) noexcept {
  if (expires_at_ms == 0) return 0;
  return expires_at_ms > now_ms ? expires_at_ms - now_ms : 1;
}

// A GetResponse; null is a row that is not there.
size_t GetResponseBytes(const RowFields* row) noexcept;
void AppendGetResponse(const RowFields* row, std::string* to);
std::string GetResponse(const RowFields* row);

// A row of a ScanResponse, with the head of its field.
void AppendScanRow(std::string_view key, const RowFields& row, std::string* to);

std::string PutResponse(const CommitResult& result);  // A DeleteResponse is the same.
std::string WriteResponse(const CommitResult& result);
std::string CountResponse(uint64_t count);

// Numbers of the fields of an OperationResult.
enum class ResultField : uint32_t { kGet = 1, kBatchGet = 2, kPut = 3, kDelete = 4, kWrite = 5, kError = 15 };
// A result in a PipelineResponse, with the heads of both fields.
void AppendResult(ResultField which, std::string_view answer, std::string* to);
void AppendGetResult(const RowFields* row, std::string* to);  // The same as AppendResult(kGet, GetResponse(row)).
// What a PipelineResponse begins with.
void AppendPipelineHead(uint64_t id, std::string* to);

}  // namespace prefixdb::front
