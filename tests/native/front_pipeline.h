// What the tests of the Pipeline share: operations, results as text, and an open Pipeline.
#pragma once

#include <cctype>

#include "front_call.h"

namespace prefixdb::front {

inline std::string RowKey7(std::string_view key) { return *EncodeDataKey(7, 0, key); }

// Operations of a PipelineRequest.
inline std::string Op(uint32_t which, const std::string& request) { return Field(2, Field(which, request)); }
inline std::string GetOp(std::string_view key) { return Op(1, Field(1, key)); }
inline std::string PutOp(std::string_view key, std::string_view value) {
  return Op(3, Field(1, key) + Field(2, value));
}
inline std::string DeleteOp(std::string_view key) { return Op(4, Field(1, key)); }

// A result as text: a row as RowText, "v1,v2" for a BatchGet, "+version", "-current" when a condition failed, or
// "REASON text".
inline std::string ResultText(const std::string& result) {
  const Taken taken(result);
  if (taken.bytes.contains(15)) {
    const Taken error(taken.text(15));
    for (const ReasonFacts& facts : kReasons) {
      if (static_cast<uint64_t>(facts.reason) == error.number(2)) return std::string(facts.name) + " " + error.text(3);
    }
  }
  if (taken.bytes.contains(1)) return RowText(taken.text(1));
  if (taken.bytes.contains(2)) {
    const Taken batch(taken.text(2));
    std::string text;
    for (const std::string& row : batch.bytes.contains(1) ? batch.bytes.at(1) : std::vector<std::string>()) {
      text += (text.empty() ? "" : ",") + RowText(row);
    }
    return text;
  }
  for (const uint32_t which : {3u, 4u, 5u}) {
    if (!taken.bytes.contains(which)) continue;
    const Taken answer(taken.text(which));
    return answer.number(1) != 0 ? "+" + std::to_string(answer.number(2)) : "-" + std::to_string(answer.number(3));
  }
  return "nothing";
}

inline std::vector<std::string> Results(const std::string& response) {
  std::vector<std::string> texts;
  const Taken taken(response);
  if (!taken.bytes.contains(2)) return texts;
  for (const std::string& result : taken.bytes.at(2)) texts.push_back(ResultText(result));
  return texts;
}

// Of a row its value, of a write whether it was applied.
inline std::string WithoutVersions(const std::string& result) {
  if (result.starts_with("+")) return "+";
  std::string text;
  bool in_version = false;
  for (const char each : result) {
    in_version = each == '@' || (in_version && std::isdigit(static_cast<unsigned char>(each)) != 0);
    if (!in_version) text += each;
  }
  return text;
}

// An open Pipeline.
struct Piped {
  std::shared_ptr<FakeCall> call;

  Piped(Rig& rig, SessionPtr session) : call(FakeCall::Make(rig, std::move(session))) {
    call->Start(NativeMethod::kPipeline);
  }
  std::vector<std::string> Ask(const std::string& message) const {
    const size_t before = call->sent().size();
    call->Message(message);
    test::WaitFor([&] { return call->over() || call->sent().size() > before; });
    REQUIRE(call->sent().size() > before);
    return Results(call->sent().back());
  }
  std::string End(const std::string& message) const {
    call->Message(message);
    const Ending ending = call->Wait();
    return ending.failure ? ending.failure->name + ": " + ending.failure->message : "ended";
  }
};

}  // namespace prefixdb::front
