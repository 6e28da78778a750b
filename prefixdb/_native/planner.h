// Turns commits into one write batch, one after the other, and says what becomes of each.
//
// The same rules as BatchPlanner in prefixdb/store/commit.py, and the same tests: guards, then conditions, are checked
// against the state as the earlier commits of the batch leave it; all mutations of a commit get one version, which is
// the sequence number RocksDB will give the commit's last mutation. Deletes of empty spans are left out: their number
// would be lost with the next flush and be given out twice. A put may name a version below the commit's own instead.
//
// Only rows that some guard or condition of the batch names are tracked, so a batch of plain puts costs no look-ups.
#pragma once

#include <rocksdb/slice.h>
#include <rocksdb/write_batch.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "commit.h"
#include "outcome.h"
#include "value_codec.h"

namespace prefixdb {

// Not thread-safe. One object plans one batch; the requests it is given outlive it.
class BatchPlanner {
 public:
  // Reads the stored form of a row; NotFound when there is none.
  using Read = std::function<rocksdb::Status(std::string_view key, rocksdb::PinnableSlice* stored)>;

  // `sequence`: the engine's last sequence number; nobody else writes until the batch is written.
  BatchPlanner(Read read, rocksdb::WriteBatch* batch, uint64_t sequence, uint64_t now_ms);

  // Names the rows the commits will ask for. REQUIRES: called for every request before the first Plan.
  void Announce(const std::vector<Commit>& commits);

  // Plans all commits of one request. When the outcome is not ok (a row that a guard or condition names is damaged or
  // cannot be read, or an argument is invalid) nothing of the request stays in the batch; earlier ones do.
  Outcome Plan(const std::vector<Commit>& commits, std::vector<CommitResult>* results);

  // Takes the last planned request out again.
  void Undo();

  uint64_t sequence() const noexcept { return sequence_; }                    // After the batch is written.
  uint64_t range_deletes() const noexcept { return range_deletes_; }          // Range tombstones in the batch.
  uint64_t last_range_delete() const noexcept { return last_range_delete_; }  // Its sequence number; 0: none.

 private:
  struct Known {
    enum class State : uint8_t { kUnread, kAbsent, kPresent };
    State state = State::kUnread;
    StoredValue value{};
  };
  struct Mark {
    uint64_t sequence;
    uint64_t range_deletes;
    uint64_t last_range_delete;
  };

  Outcome PlanOne(const Commit& commit, CommitResult* result);
  Outcome Check(const std::vector<Condition>& conditions, int64_t* failed, uint64_t* current_version);
  Outcome Look(std::string_view key, const StoredValue** row);
  void Apply(const Mutation& mutation, uint64_t version);
  using Rows = std::unordered_map<std::string_view, Known>;
  void Note(Rows::value_type* row, Known now);
  void Set(Rows::value_type* row, Known now);
  void RollBack();

  const Read read_;
  rocksdb::WriteBatch* const batch_;
  const uint64_t now_ms_;
  uint64_t sequence_;
  uint64_t range_deletes_ = 0;
  uint64_t last_range_delete_ = 0;
  Mark mark_;
  Rows known_;
  // The rows of `known_` that are not known to be absent, in key order: what a delete of a span can still change. Made
  // with the first one, so that many deletes of large spans do not each walk over everything.
  std::map<std::string_view, Rows::value_type*> there_;
  bool ordered_ = false;
  std::deque<rocksdb::PinnableSlice> read_rows_;
  std::vector<std::pair<Rows::value_type*, Known>> undo_;  // What the current request changed, oldest first.
  std::string head_;
};

}  // namespace prefixdb
