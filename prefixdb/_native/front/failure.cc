#include "front/failure.h"

#include <algorithm>
#include <protozero/pbf_writer.hpp>

namespace prefixdb::front {
namespace {

constexpr std::string_view kErrorInfoType = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr std::string_view kRetryInfoType = "type.googleapis.com/google.rpc.RetryInfo";

const ReasonFacts& FactsOf(Reason reason) noexcept {
  for (const ReasonFacts& facts : kReasons) {
    if (facts.reason == reason) return facts;
  }
  return kReasons.back();  // Unreachable: the table has a row for each; its last is INTERNAL.
}
static_assert(kReasons.back().reason == Reason::kInternal);

// As every implementation of protobuf, proto3 leaves out what is empty or 0.
void AddText(protozero::pbf_writer* message, protozero::pbf_tag_type field, std::string_view text) {
  if (!text.empty()) message->add_bytes(field, text.data(), text.size());
}

// A map, in the order of its names: the same failure is the same bytes. Entries are whole even where they are empty.
void AddMetadata(protozero::pbf_writer* message, protozero::pbf_tag_type field, Metadata metadata) {
  std::sort(metadata.begin(), metadata.end());
  for (const auto& [name, value] : metadata) {
    protozero::pbf_writer entry(*message, field);
    entry.add_string(1, name);
    entry.add_string(2, value);
  }
}

void AddDetail(protozero::pbf_writer* status, std::string_view type, const std::string& detail) {
  protozero::pbf_writer any(*status, 3);
  AddText(&any, 1, type);
  AddText(&any, 2, detail);
}

std::string EncodeErrorInfo(const Failure& failure) {
  std::string bytes;
  protozero::pbf_writer info(bytes);
  AddText(&info, 1, failure.name);
  AddText(&info, 2, kErrorDomain);
  AddMetadata(&info, 3, failure.metadata);
  return bytes;
}

std::string EncodeRetryInfo(uint64_t retry_after_ms) {
  std::string duration;
  protozero::pbf_writer delay(duration);
  if (const uint64_t seconds = retry_after_ms / 1000; seconds != 0) delay.add_uint64(1, seconds);
  if (const uint64_t rest = retry_after_ms % 1000; rest != 0) delay.add_uint64(2, rest * 1'000'000);
  std::string bytes;
  protozero::pbf_writer(bytes).add_message(1, duration);  // Also when it is empty: 0 ms is a delay that is said.
  return bytes;
}

}  // namespace

Failure Fail(Reason reason) { return Fail(reason, std::string(FactsOf(reason).summary)); }

Failure Fail(Reason reason, std::string message, Metadata metadata) {
  const ReasonFacts& facts = FactsOf(reason);
  Failure failure;
  failure.code = facts.code;
  failure.reason = static_cast<uint16_t>(facts.reason);
  failure.name = facts.name;
  failure.message = std::move(message);
  failure.metadata = std::move(metadata);
  if (facts.retryable) failure.retry_after_ms = kRetryAfterMsDefault;
  return failure;
}

Failure BadField(std::string_view field, std::string_view what) {
  std::string message(field);
  message += ' ';
  message += what;
  return Fail(Reason::kBadField, std::move(message), {{"field", std::string(field)}});
}

Failure TooMany(std::string_view what, uint64_t size, uint64_t limit) {
  const std::string counted = std::to_string(size);
  const std::string most = std::to_string(limit);
  std::string message = "The request has " + counted + ' ';
  message += what;
  message += "; the limit is " + most + '.';
  return Fail(Reason::kBatchTooLarge, std::move(message), {{"size", counted}, {"limit", most}});
}

std::string EncodeStatus(const Failure& failure) {
  std::string bytes;
  protozero::pbf_writer status(bytes);
  if (failure.code != 0) status.add_int32(1, failure.code);
  AddText(&status, 2, failure.message);
  AddDetail(&status, kErrorInfoType, EncodeErrorInfo(failure));
  if (failure.retry_after_ms) AddDetail(&status, kRetryInfoType, EncodeRetryInfo(*failure.retry_after_ms));
  return bytes;
}

std::string EncodeError(const Failure& failure) {
  std::string bytes;
  protozero::pbf_writer error(bytes);
  if (failure.code != 0) error.add_int32(1, failure.code);
  if (failure.reason != 0) error.add_enum(2, failure.reason);
  AddText(&error, 3, failure.message);
  AddMetadata(&error, 4, failure.metadata);
  if (failure.retry_after_ms) error.add_uint64(5, *failure.retry_after_ms);
  return bytes;
}

}  // namespace prefixdb::front
