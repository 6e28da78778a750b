// From the messages of a write to commits of the store: every check of a write in one place, in the order of
// prefixdb/service/mutations.py.
//
// Whatever is wrong with one mutation refuses the whole of the operation. What is right is copied into the request,
// which owns every byte it names, under the guard of the caller's namespace: a write that was checked before a ban or a
// suspension is refused by the commit itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "commit.h"
#include "front/clock.h"
#include "front/failure.h"
#include "front/messages.h"
#include "front/rows.h"
#include "front/sessions.h"

namespace prefixdb::front {

// Fills one request with the commits of one caller. Not thread-safe; what it is given outlives it.
class WritePlanner {
 public:
  // `expected`: bytes that the messages have, about.
  WritePlanner(const Session& session, Clock* clock, uint64_t value_bytes_max, size_t expected);

  // Each adds one commit, or says why not and adds nothing.
  std::optional<Failure> Add(const PutRequest& put);
  std::optional<Failure> Add(const DeleteRequest& deletion);
  std::optional<Failure> Add(const WriteRequest& write);

  // Of the commit added last: it only deletes, which a read-only namespace and a full disk allow.
  bool only_deletes() const noexcept { return only_deletes_; }

  // Ends it.
  std::unique_ptr<CommitRequest> Take() { return std::move(request_); }
  const CommitRequest& request() const noexcept { return *request_; }

 private:
  std::optional<Failure> Plan(const PutFields& put, Commit* commit);
  std::optional<Failure> Plan(const DeleteFields& deletion, Commit* commit);
  std::optional<Failure> Plan(const DeleteRangeFields& deletion, Commit* commit);
  std::optional<Failure> PlanMutations(const WriteRequest& write, Commit* commit);
  std::optional<Failure> PlanConditions(const WriteRequest& write, Commit* commit);
  // REQUIRES: key and database are right.
  std::optional<Failure> PlanTest(std::string_view row_key, const TestField& test, std::string_view field,
                                  Commit* commit);
  // The optional condition of a Put or a Delete, of the row that `commit` writes.
  std::optional<Failure> PlanOwn(const std::optional<TestField>& test, std::string_view key, uint32_t database,
                                 Commit* commit);
  void Keep(Commit commit);
  std::string_view CopyKey(uint32_t database, std::string_view user_key);

  const Session& session_;
  Clock* const clock_;
  const uint64_t value_bytes_max_;
  std::unique_ptr<CommitRequest> request_;
  std::string_view guard_key_;
  bool only_deletes_ = false;
};

}  // namespace prefixdb::front
