// Commits as the committer takes them: the same notions as prefixdb/store/base.py.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "arena.h"
#include "outcome.h"

namespace prefixdb {

// Every view below is borrowed from the request's arena.
struct Mutation {
  enum class Kind : uint8_t { kPut, kDelete, kDeleteSpan };
  Kind kind;
  std::string_view key;    // Of a span: its begin.
  std::string_view value;  // Of a put: the payload. Of a span: its end, which is not part of it.
  uint64_t expires_at_ms = 0;
  uint64_t version = 0;  // Of a put: one below the commit's own, which the row keeps; 0: the commit's own.
};

struct Condition {
  enum class Kind : uint8_t { kVersionIs, kAbsent, kExists, kValueIs };
  Kind kind;
  std::string_view key;
  uint64_t version = 0;
  std::string_view payload;
};

// All or nothing. Guards are checked first, then conditions, both against the state before the commit's own mutations.
struct Commit {
  std::vector<Condition> guards;
  std::vector<Condition> conditions;
  std::vector<Mutation> mutations;
};

struct CommitResult {
  bool applied = false;
  uint64_t version = 0;
  int64_t failed_guard = -1;
  int64_t failed_condition = -1;
  uint64_t current_version = 0;
};

// Called exactly once. When the outcome is not ok there are no results and it holds for all commits of the request.
using CommitDone = std::function<void(Outcome outcome, std::vector<CommitResult> results)>;

// Commits that are planned in order into one batch, which others may share. The request owns every byte it names.
struct CommitRequest {
  explicit CommitRequest(size_t expected_bytes = 0) : bytes(expected_bytes) {}

  Arena bytes;
  std::vector<Commit> commits;
  uint64_t now_ms = 0;  // What is expired is decided by the latest time among the requests of a batch.
  size_t size = 0;      // Keys and payloads, bytes; what a batch is bounded by.
  CommitDone done;
};

}  // namespace prefixdb
