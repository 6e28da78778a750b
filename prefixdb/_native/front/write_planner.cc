#include "front/write_planner.h"

#include <string>
#include <utility>
#include <variant>

namespace prefixdb::front {
namespace {

std::optional<Failure> CheckWritable(const Session& session, uint32_t database, std::string_view key) {
  auto failure = CheckKey(key, database);
  return failure ? failure : CheckRight(session, Right::kWrite, database, key);
}

std::optional<Failure> CheckCount(std::string_view what, uint64_t count, uint64_t limit) {
  if (count <= limit) return std::nullopt;
  return TooMany(what, count, limit);
}

Failure ValueTooLarge(uint64_t size, uint64_t limit) {
  const std::string counted = std::to_string(size);
  const std::string most = std::to_string(limit);
  return Fail(Reason::kValueTooLarge, "The value has " + counted + " bytes; the limit is " + most + '.',
              {{"size", counted}, {"limit", most}});
}

}  // namespace

WritePlanner::WritePlanner(const Session& session, Clock* clock, uint64_t value_bytes_max, size_t expected)
    : session_(session),
      clock_(clock),
      value_bytes_max_(value_bytes_max),
      request_(std::make_unique<CommitRequest>(expected + 2 * kDataHeadBytes + session.guard_key.size())),
      guard_key_(request_->bytes.Copy(session.guard_key)) {}

std::optional<Failure> WritePlanner::Add(const PutRequest& put) {
  Commit commit;
  auto failure = Plan(put, &commit);
  if (!failure) failure = PlanOwn(put.condition, put.key, put.database, &commit);
  if (failure) return failure;
  only_deletes_ = false;
  Keep(std::move(commit));
  return std::nullopt;
}

std::optional<Failure> WritePlanner::Add(const DeleteRequest& deletion) {
  Commit commit;
  auto failure = Plan(deletion, &commit);
  if (!failure) failure = PlanOwn(deletion.condition, deletion.key, deletion.database, &commit);
  if (failure) return failure;
  only_deletes_ = true;
  Keep(std::move(commit));
  return std::nullopt;
}

std::optional<Failure> WritePlanner::Add(const WriteRequest& write) {
  Commit commit;
  auto failure = PlanMutations(write, &commit);
  if (!failure) failure = PlanConditions(write, &commit);
  if (failure) return failure;
  only_deletes_ = true;
  for (const Mutation& mutation : commit.mutations) only_deletes_ &= mutation.kind != Mutation::Kind::kPut;
  Keep(std::move(commit));
  return std::nullopt;
}

std::optional<Failure> WritePlanner::Plan(const PutFields& put, Commit* commit) {
  if (auto failure = CheckWritable(session_, put.database, put.key)) return failure;
  if (put.value.size() > value_bytes_max_) return ValueTooLarge(put.value.size(), value_bytes_max_);
  uint64_t expires_at_ms = 0;
  if (put.ttl_ms != 0) {
    if (put.ttl_ms > kTtlMsMax) return BadField("ttl_ms", "must be at most " + std::to_string(kTtlMsMax) + '.');
    expires_at_ms = clock_->now_ms() + put.ttl_ms;
  }
  const std::string_view row_key = CopyKey(put.database, put.key);
  commit->mutations.push_back({Mutation::Kind::kPut, row_key, request_->bytes.Copy(put.value), expires_at_ms, 0});
  return std::nullopt;
}

std::optional<Failure> WritePlanner::Plan(const DeleteFields& deletion, Commit* commit) {
  if (auto failure = CheckWritable(session_, deletion.database, deletion.key)) return failure;
  commit->mutations.push_back({Mutation::Kind::kDelete, CopyKey(deletion.database, deletion.key), {}, 0, 0});
  return std::nullopt;
}

std::optional<Failure> WritePlanner::Plan(const DeleteRangeFields& deletion, Commit* commit) {
  Span span;
  if (auto failure = MakeSpan(session_, deletion.database, deletion.range, &span)) return failure;
  if (auto failure = CheckRange(session_, Right::kWrite, deletion.database, span)) return failure;
  Arena& bytes = request_->bytes;
  commit->mutations.push_back({Mutation::Kind::kDeleteSpan, bytes.Copy(span.begin), bytes.Copy(span.end), 0, 0});
  return std::nullopt;
}

std::optional<Failure> WritePlanner::PlanMutations(const WriteRequest& write, Commit* commit) {
  if (auto failure = CheckCount("mutations", write.mutations_sent, kWriteMutationsMax)) return failure;
  commit->mutations.reserve(write.mutations.size());
  uint64_t range_deletes = 0;
  for (const MutationField& mutation : write.mutations) {
    std::optional<Failure> failure;
    if (const auto* const put = std::get_if<PutFields>(&mutation)) {
      failure = Plan(*put, commit);
    } else if (const auto* const deletion = std::get_if<DeleteFields>(&mutation)) {
      failure = Plan(*deletion, commit);
    } else if (const auto* const range = std::get_if<DeleteRangeFields>(&mutation)) {
      ++range_deletes;
      failure = Plan(*range, commit);
    } else {
      failure = BadField("mutations", "must each be a put, a delete or a delete_range.");
    }
    if (failure) return failure;
  }
  return CheckCount("range deletes", range_deletes, kWriteRangeDeletesMax);
}

std::optional<Failure> WritePlanner::PlanConditions(const WriteRequest& write, Commit* commit) {
  if (auto failure = CheckCount("conditions", write.conditions_sent, kWriteConditionsMax)) return failure;
  commit->conditions.reserve(write.conditions.size());
  for (const ConditionField& condition : write.conditions) {
    auto failure = CheckKey(condition.key, condition.database);
    if (!failure) failure = CheckRight(session_, Right::kRead, condition.database, condition.key);
    if (!failure) failure = PlanTest(CopyKey(condition.database, condition.key), condition.test, "conditions", commit);
    if (failure) return failure;
  }
  return std::nullopt;
}

std::optional<Failure> WritePlanner::PlanOwn(const std::optional<TestField>& test, std::string_view key,
                                             uint32_t database, Commit* commit) {
  if (!test) return std::nullopt;
  if (auto failure = CheckRight(session_, Right::kRead, database, key)) return failure;
  return PlanTest(commit->mutations.front().key, *test, "condition", commit);
}

std::optional<Failure> WritePlanner::PlanTest(std::string_view row_key, const TestField& test, std::string_view field,
                                              Commit* commit) {
  using Which = TestField::Which;
  auto& conditions = commit->conditions;
  if (test.which == Which::kVersion) {
    conditions.push_back({Condition::Kind::kVersionIs, row_key, test.version, {}});
  } else if (test.which == Which::kValue) {
    conditions.push_back({Condition::Kind::kValueIs, row_key, 0, request_->bytes.Copy(test.value)});
  } else if (test.which == Which::kAbsent && test.is_true) {
    conditions.push_back({Condition::Kind::kAbsent, row_key, 0, {}});
  } else if (test.which == Which::kExists && test.is_true) {
    conditions.push_back({Condition::Kind::kExists, row_key, 0, {}});
  } else {
    return BadField(field, "must test version, absent, exists or value; absent and exists must be true.");
  }
  return std::nullopt;
}

void WritePlanner::Keep(Commit commit) {
  size_t size = guard_key_.size();
  for (const Mutation& mutation : commit.mutations) size += mutation.key.size() + mutation.value.size();
  for (const Condition& condition : commit.conditions) size += condition.key.size() + condition.payload.size();
  request_->size += size;
  commit.guards.push_back({Condition::Kind::kVersionIs, guard_key_, session_.guard_version, {}});
  request_->commits.push_back(std::move(commit));
}

std::string_view WritePlanner::CopyKey(uint32_t database, std::string_view user_key) {
  const RowKey key(session_.namespace_id, database, user_key);
  return request_->bytes.Copy(key.view());
}

}  // namespace prefixdb::front
