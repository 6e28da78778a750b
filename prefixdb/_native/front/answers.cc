// The answers of messages.h.
#include <algorithm>

#include "front/messages.h"

namespace prefixdb::front {
namespace {

// `found`, and the head of the value; then the value, then the rest.
constexpr size_t kRowHeadBytes = 2 + 1 + kVarintBytesMax;
constexpr size_t kRowTailBytes = 2 * (1 + kVarintBytesMax);

// Version and lifetime, which are fields 3 and 4 of a GetResponse and of a Row.
size_t TailBytes(const RowFields& row) noexcept { return NumberFieldBytes(row.version) + NumberFieldBytes(row.ttl_ms); }

void AppendTail(const RowFields& row, std::string* to) {
  char tail[kRowTailBytes];
  to->append(tail, PutNumberField(4, row.ttl_ms, PutNumberField(3, row.version, tail)));
}

// PutResponse, DeleteResponse and WriteResponse begin alike.
std::string Outcome3(const CommitResult& result, uint64_t third, uint64_t fourth) {
  char bytes[2 + 3 * (1 + kVarintBytesMax)];
  char* to = PutNumberField(1, result.applied ? 1 : 0, bytes);
  to = PutNumberField(2, result.version, to);
  to = PutNumberField(3, third, to);
  to = PutNumberField(4, fourth, to);
  return {bytes, to};
}

// The heads of a PipelineResponse's result and of the answer in it.
void AppendResultHead(ResultField which, size_t answer_bytes, std::string* to) {
  char heads[2 * (1 + kVarintBytesMax)];
  char* const end = PutLengthHead(2, LengthFieldBytes(answer_bytes), heads);
  to->append(heads, PutLengthHead(static_cast<uint32_t>(which), answer_bytes, end));
}

}  // namespace

size_t GetResponseBytes(const RowFields* row) noexcept {
  return row == nullptr ? 0 : 2 + BytesFieldBytes(row->value.size()) + TailBytes(*row);
}

void AppendGetResponse(const RowFields* row, std::string* to) {
  if (row == nullptr) return;
  char head[kRowHeadBytes];
  char* end = PutNumberField(1, 1, head);
  if (!row->value.empty()) end = PutLengthHead(2, row->value.size(), end);
  to->append(head, end).append(row->value);
  AppendTail(*row, to);
}

std::string GetResponse(const RowFields* row) {
  std::string bytes;
  bytes.reserve(GetResponseBytes(row));
  AppendGetResponse(row, &bytes);
  return bytes;
}

void AppendScanRow(std::string_view key, const RowFields& row, std::string* to) {
  const size_t size = BytesFieldBytes(key.size()) + BytesFieldBytes(row.value.size()) + TailBytes(row);
  char head[2 * (1 + kVarintBytesMax)];
  char* end = PutLengthHead(1, size, head);
  if (!key.empty()) end = PutLengthHead(1, key.size(), end);
  to->append(head, end).append(key);
  if (!row.value.empty()) {
    end = PutLengthHead(2, row.value.size(), head);
    to->append(head, end).append(row.value);
  }
  AppendTail(row, to);
}

std::string PutResponse(const CommitResult& result) { return Outcome3(result, result.current_version, 0); }

std::string WriteResponse(const CommitResult& result) {
  const int64_t failed = std::max<int64_t>(0, result.failed_condition);
  return Outcome3(result, static_cast<uint64_t>(failed), result.current_version);
}

std::string CountResponse(uint64_t count) {
  std::string bytes;
  AppendNumberField(1, count, &bytes);
  return bytes;
}

void AppendResult(ResultField which, std::string_view answer, std::string* to) {
  AppendResultHead(which, answer.size(), to);
  to->append(answer);
}

void AppendGetResult(const RowFields* row, std::string* to) {
  AppendResultHead(ResultField::kGet, GetResponseBytes(row), to);
  AppendGetResponse(row, to);
}

void AppendPipelineHead(uint64_t id, std::string* to) { AppendNumberField(1, id, to); }

}  // namespace prefixdb::front
