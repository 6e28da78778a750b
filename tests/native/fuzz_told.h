// The messages of the KeyValue service for fuzz_reference.h: what fields each has, what the front has read of one, and
// what the front writes.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "front/failure.h"
#include "front/messages.h"
#include "fuzz.h"
#include "fuzz_reference.h"

namespace prefixdb::test {

using namespace prefixdb::front;  // NOLINT: of this namespace only are the messages.

// --- what there is to read

inline const Spec kTestSpec{{{1, Kind::kUint64}, {2, Kind::kBool}, {3, Kind::kBool}, {4, Kind::kBytes}}, true};
inline const Spec kRangeSpec{{{1, Kind::kBytes}, {2, Kind::kBytes}, {3, Kind::kBytes}}};
inline const Spec kGetSpec{{{1, Kind::kBytes}, {2, Kind::kUint32}}};
inline const Spec kBatchGetSpec{{{1, Kind::kBytes, nullptr, true}, {2, Kind::kUint32}}};
inline const Spec kPutFieldsSpec{{{1, Kind::kBytes}, {2, Kind::kBytes}, {3, Kind::kUint32}, {4, Kind::kUint64}}};
inline const Spec kPutSpec{{{1, Kind::kBytes},
                            {2, Kind::kBytes},
                            {3, Kind::kUint32},
                            {4, Kind::kUint64},
                            {5, Kind::kMessage, &kTestSpec, false, true}}};
inline const Spec kDeleteFieldsSpec{{{1, Kind::kBytes}, {2, Kind::kUint32}}};
inline const Spec kDeleteSpec{{{1, Kind::kBytes}, {2, Kind::kUint32}, {3, Kind::kMessage, &kTestSpec, false, true}}};
inline const Spec kCountSpec{{{1, Kind::kMessage, &kRangeSpec}, {2, Kind::kUint32}}};
inline const Spec kMutationSpec{
    {{1, Kind::kMessage, &kPutFieldsSpec}, {2, Kind::kMessage, &kDeleteFieldsSpec}, {3, Kind::kMessage, &kCountSpec}},
    true};
inline const Spec kConditionSpec{{{1, Kind::kBytes}, {2, Kind::kUint32}, {3, Kind::kMessage, &kTestSpec}}};
inline const Spec kWriteSpec{{{1, Kind::kMessage, &kMutationSpec, true}, {2, Kind::kMessage, &kConditionSpec, true}}};
inline const Spec kScanSpec{{{1, Kind::kMessage, &kRangeSpec},
                             {2, Kind::kUint32},
                             {3, Kind::kBool},
                             {4, Kind::kUint64},
                             {5, Kind::kBool},
                             {6, Kind::kBytes}}};
inline const Spec kOperationSpec{{{1, Kind::kMessage, &kGetSpec},
                                  {2, Kind::kMessage, &kBatchGetSpec},
                                  {3, Kind::kMessage, &kPutSpec},
                                  {4, Kind::kMessage, &kDeleteSpec},
                                  {5, Kind::kMessage, &kWriteSpec}},
                                 true};
inline const Spec kPipelineSpec{{{1, Kind::kUint64}, {2, Kind::kMessage, &kOperationSpec, true}}};

// --- what was read

inline std::string Say(uint32_t field, std::string_view bytes) {
  return bytes.empty() ? "" : std::to_string(field) + "=" + Hex(bytes) + ";";
}
inline std::string Say(uint32_t field, uint64_t number) {
  return number == 0 ? "" : std::to_string(field) + "=" + std::to_string(number) + ";";
}
inline std::string Inside(uint32_t field, const std::string& text, bool always = true) {
  return text.empty() && !always ? "" : std::to_string(field) + "{" + text + "}";
}

inline std::string Told(const TestField& test) {
  switch (test.which) {
    case TestField::Which::kNone:
      return "";
    case TestField::Which::kVersion:
      return "1=" + std::to_string(test.version) + ";";
    case TestField::Which::kAbsent:
      return test.is_true ? "2=1;" : "2=0;";
    case TestField::Which::kExists:
      return test.is_true ? "3=1;" : "3=0;";
    case TestField::Which::kValue:
      return "4=" + Hex(test.value) + ";";
  }
  return "?";
}
inline std::string Told(const KeyRange& range) {
  return Say(1, range.prefix) + Say(2, range.start) + Say(3, range.end);
}
inline std::string Told(const GetRequest& get) { return Say(1, get.key) + Say(2, get.database); }
inline std::string Told(const BatchGetRequest& batch) {
  Insist(batch.keys.size() == std::min<uint64_t>(batch.keys_sent, kBatchKeysMax), "no more keys are kept than may be");
  std::string text;
  for (const std::string_view key : batch.keys) text += "1=" + Hex(key) + ";";
  return text + Say(2, batch.database);
}
inline std::string Told(const PutFields& put) {
  return Say(1, put.key) + Say(2, put.value) + Say(3, put.database) + Say(4, put.ttl_ms);
}
inline std::string Told(const DeleteFields& deletion) { return Say(1, deletion.key) + Say(2, deletion.database); }
inline std::string Told(const PutRequest& put) {
  return Told(static_cast<const PutFields&>(put)) + (put.condition ? Inside(5, Told(*put.condition)) : "");
}
inline std::string Told(const DeleteRequest& deletion) {
  return Told(static_cast<const DeleteFields&>(deletion)) +
         (deletion.condition ? Inside(3, Told(*deletion.condition)) : "");
}
template <typename Ranged>
std::string ToldRanged(const Ranged& request) {
  return Inside(1, Told(request.range), false) + Say(2, request.database);
}
inline std::string Told(const CountRequest& count) { return ToldRanged(count); }
inline std::string Told(const MutationField& mutation) {
  if (const auto* put = std::get_if<PutFields>(&mutation)) return Inside(1, Told(*put));
  if (const auto* deletion = std::get_if<DeleteFields>(&mutation)) return Inside(2, Told(*deletion));
  if (const auto* range = std::get_if<DeleteRangeFields>(&mutation)) return Inside(3, ToldRanged(*range));
  return "";
}
inline std::string Told(const WriteRequest& write) {
  Insist(write.mutations.size() == std::min<uint64_t>(write.mutations_sent, kWriteMutationsMax), "kept mutations");
  Insist(write.conditions.size() == std::min<uint64_t>(write.conditions_sent, kWriteConditionsMax), "kept conditions");
  std::string text;
  for (const MutationField& mutation : write.mutations) text += Inside(1, Told(mutation));
  for (const ConditionField& each : write.conditions) {
    text += Inside(2, Say(1, each.key) + Say(2, each.database) + Inside(3, Told(each.test), false));
  }
  return text;
}
inline std::string Told(const ScanRequest& scan) {
  return Inside(1, Told(scan.range), false) + Say(2, scan.database) + Say(3, uint64_t{scan.reverse}) +
         Say(4, scan.limit) + Say(5, uint64_t{scan.keys_only}) + Say(6, scan.resume_after);
}
inline std::string Told(const Operation& operation) {
  if (const auto* get = std::get_if<GetRequest>(&operation)) return Inside(1, Told(*get));
  if (const auto* batch = std::get_if<BatchGetRequest>(&operation)) return Inside(2, Told(*batch));
  if (const auto* put = std::get_if<PutRequest>(&operation)) return Inside(3, Told(*put));
  if (const auto* deletion = std::get_if<DeleteRequest>(&operation)) return Inside(4, Told(*deletion));
  if (const auto* write = std::get_if<WriteRequest>(&operation)) return Inside(5, Told(*write));
  return "";
}
inline std::string Told(const PipelineRequest& pipeline) {
  Insist(pipeline.operations.size() == std::min<uint64_t>(pipeline.operations_sent, kPipelineOperationsMax), "kept");
  std::string text = Say(1, pipeline.id);
  for (const std::string_view bytes : pipeline.operations) {
    Operation operation;
    Insist(Parse(bytes, &operation), "an operation of a message is one");
    text += Inside(2, Told(operation));
  }
  return text;
}

// --- what is written

inline const Spec kRowSpec{{{1, Kind::kBool}, {2, Kind::kBytes}, {3, Kind::kUint64}, {4, Kind::kUint64}}};
inline const Spec kEntrySpec{{{1, Kind::kBytes}, {2, Kind::kBytes}}};
inline const Spec kErrorSpec{{{1, Kind::kUint64},
                              {2, Kind::kUint64},
                              {3, Kind::kBytes},
                              {4, Kind::kMessage, &kEntrySpec, true},
                              {5, Kind::kUint64}}};
inline const Spec kResultSpec{{{1, Kind::kMessage, &kRowSpec}, {15, Kind::kMessage, &kErrorSpec}}, true};
inline const Spec kResponseSpec{{{1, Kind::kUint64}, {2, Kind::kMessage, &kResultSpec, true}}};

// Rows and errors say what they were made of.
inline void CheckAnswers(Decisions* input) {
  const auto text = [&] {
    const auto bytes = input->Bytes(400);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const auto number = [&] { return uint64_t{input->Byte()} << (input->Byte() % 64); };
  std::string response;
  const uint64_t id = number();
  AppendPipelineHead(id, &response);
  std::string told = Say(1, id);
  for (size_t results = input->Below(6); results > 0; --results) {
    if (input->Below(2) == 0) {
      const std::string value = text();
      const RowFields row{value, number(), number()};
      const bool there = input->Below(4) != 3;
      const std::string bytes = GetResponse(there ? &row : nullptr);
      Insist(bytes.size() == GetResponseBytes(there ? &row : nullptr), "an answer is as long as was said");
      AppendResult(ResultField::kGet, bytes, &response);
      const std::string said = "1=1;" + Say(2, value) + Say(3, row.version) + Say(4, row.ttl_ms);
      told += Inside(2, Inside(1, there ? said : ""));
    } else {
      const Reason reason = kReasons[input->Below(kReasons.size())].reason;
      Failure failure = Fail(reason, text());
      for (size_t each = input->Below(3); each > 0; --each) {
        std::string name = text();
        failure.metadata.emplace_back(std::move(name), text());
      }
      Metadata sorted = failure.metadata;  // The same failure is the same bytes.
      std::sort(sorted.begin(), sorted.end());
      std::string entries;
      for (const auto& [name, value] : sorted) entries += Inside(4, Say(1, name) + Say(2, value));
      AppendResult(ResultField::kError, EncodeError(failure), &response);
      told += Inside(2, Inside(15, Say(1, failure.code) + Say(2, failure.reason) + Say(3, failure.message) + entries +
                                       Say(5, failure.retry_after_ms.value_or(0))));
      Node status;
      Insist(ReferenceReader::Read(EncodeStatus(failure), kErrorSpec, &status), "a status is a message");
    }
  }
  Node read;
  Insist(ReferenceReader::Read(response, kResponseSpec, &read), "an answer is a message");
  Insist(Tell(read, kResponseSpec) == told, "it says what it was made of");
}

}  // namespace prefixdb::test
