#include "planner.h"

#include <algorithm>
#include <utility>

#include "slices.h"

namespace prefixdb {

namespace {

bool Holds(const Condition& condition, const StoredValue* row) {
  switch (condition.kind) {
    case Condition::Kind::kVersionIs:
      return row != nullptr && row->version == condition.version;
    case Condition::Kind::kAbsent:
      return row == nullptr;
    case Condition::Kind::kExists:
      return row != nullptr;
    case Condition::Kind::kValueIs:
      return row != nullptr && row->payload == condition.payload;
  }
  return false;
}

bool IsEmptySpan(const Mutation& mutation) {
  return mutation.kind == Mutation::Kind::kDeleteSpan && mutation.key == mutation.value;
}

}  // namespace

BatchPlanner::BatchPlanner(Read read, rocksdb::WriteBatch* batch, uint64_t sequence, uint64_t now_ms)
    : read_(std::move(read)), batch_(batch), now_ms_(now_ms), sequence_(sequence), mark_{sequence, 0, 0} {}

void BatchPlanner::Announce(const std::vector<Commit>& commits) {
  for (const Commit& commit : commits) {
    for (const Condition& guard : commit.guards) known_.try_emplace(guard.key);
    for (const Condition& condition : commit.conditions) known_.try_emplace(condition.key);
  }
}

Outcome BatchPlanner::Plan(const std::vector<Commit>& commits, std::vector<CommitResult>* results) {
  undo_.clear();
  mark_ = {sequence_, range_deletes_, last_range_delete_};
  batch_->SetSavePoint();
  results->clear();
  results->reserve(commits.size());
  for (const Commit& commit : commits) {
    Outcome outcome = PlanOne(commit, &results->emplace_back());
    if (!outcome.ok()) {
      results->clear();
      RollBack();
      return outcome;
    }
  }
  return {};
}

void BatchPlanner::Undo() { RollBack(); }

void BatchPlanner::RollBack() {
  // The only failure is a missing save point, and Plan has set one.
  batch_->RollbackToSavePoint().PermitUncheckedError();
  for (auto change = undo_.rbegin(); change != undo_.rend(); ++change) Set(change->first, change->second);
  undo_.clear();
  sequence_ = mark_.sequence;
  range_deletes_ = mark_.range_deletes;
  last_range_delete_ = mark_.last_range_delete;
}

Outcome BatchPlanner::PlanOne(const Commit& commit, CommitResult* result) {
  Outcome outcome = Check(commit.guards, &result->failed_guard, &result->current_version);
  if (!outcome.ok() || result->failed_guard >= 0) return outcome;
  outcome = Check(commit.conditions, &result->failed_condition, &result->current_version);
  if (!outcome.ok() || result->failed_condition >= 0) return outcome;
  uint64_t count = 0;
  uint64_t newest = 0;
  for (const Mutation& mutation : commit.mutations) {
    // An inverted range would poison the engine: every later write would be refused.
    if (mutation.kind == Mutation::Kind::kDeleteSpan && mutation.key > mutation.value) {
      return Outcome::Invalid("inverted span");
    }
    if (!IsEmptySpan(mutation)) ++count;
    newest = std::max(newest, mutation.version);
  }
  const uint64_t version = sequence_ + count;
  // A version that is still to come would be given out a second time.
  if (newest != 0 && newest >= version) return Outcome::Invalid("a version of no earlier commit");
  result->applied = true;
  if (count == 0) return {};
  for (const Mutation& mutation : commit.mutations) {
    if (!IsEmptySpan(mutation)) Apply(mutation, version);
  }
  sequence_ = version;
  result->version = version;
  return {};
}

Outcome BatchPlanner::Check(const std::vector<Condition>& conditions, int64_t* failed, uint64_t* current_version) {
  for (size_t index = 0; index < conditions.size(); ++index) {
    const StoredValue* row = nullptr;
    Outcome outcome = Look(conditions[index].key, &row);
    if (!outcome.ok()) return outcome;
    if (!Holds(conditions[index], row)) {
      *failed = static_cast<int64_t>(index);
      *current_version = row != nullptr ? row->version : 0;
      break;
    }
  }
  return {};
}

Outcome BatchPlanner::Look(std::string_view key, const StoredValue** row) {
  Known& known = known_[key];
  if (known.state == Known::State::kUnread) {
    rocksdb::PinnableSlice& stored = read_rows_.emplace_back();
    const rocksdb::Status status = read_(key, &stored);
    if (status.IsNotFound()) {
      known.state = Known::State::kAbsent;
    } else if (!status.ok()) {
      return Outcome::Of(status);
    } else {
      const auto value = DecodeValue(AsView(stored));
      if (!value) return Outcome::DamagedRow();
      known = {Known::State::kPresent, *value};
    }
  }
  const bool lives = known.state == Known::State::kPresent && !known.value.ExpiredAt(now_ms_);
  *row = lives ? &known.value : nullptr;
  return {};
}

void BatchPlanner::Apply(const Mutation& mutation, uint64_t version) {
  // Batches only fail to take an operation when they have a size limit, which ours have not.
  switch (mutation.kind) {
    case Mutation::Kind::kPut: {
      const uint64_t kept = mutation.version != 0 ? mutation.version : version;
      EncodeValue({}, kept, mutation.expires_at_ms, &head_);
      const rocksdb::Slice key = AsSlice(mutation.key);
      const rocksdb::Slice value[] = {head_, AsSlice(mutation.value)};
      batch_->Put(rocksdb::SliceParts(&key, 1), rocksdb::SliceParts(value, 2)).PermitUncheckedError();
      if (const auto known = known_.find(mutation.key); known != known_.end()) {
        Note(&*known, {Known::State::kPresent, {mutation.value, kept, mutation.expires_at_ms}});
      }
      return;
    }
    case Mutation::Kind::kDelete:
      batch_->Delete(AsSlice(mutation.key)).PermitUncheckedError();
      if (const auto known = known_.find(mutation.key); known != known_.end()) {
        Note(&*known, {Known::State::kAbsent, {}});
      }
      return;
    case Mutation::Kind::kDeleteSpan:
      batch_->DeleteRange(AsSlice(mutation.key), AsSlice(mutation.value)).PermitUncheckedError();
      ++range_deletes_;
      last_range_delete_ = version;
      if (!ordered_) {
        ordered_ = true;
        for (auto& row : known_) {
          if (row.second.state != Known::State::kAbsent) there_.emplace(row.first, &row);
        }
      }
      for (auto row = there_.lower_bound(mutation.key); row != there_.end() && row->first < mutation.value;) {
        Note((row++)->second, {Known::State::kAbsent, {}});  // Takes it out of `there_`.
      }
      return;
  }
}

void BatchPlanner::Note(Rows::value_type* row, Known now) {
  undo_.emplace_back(row, row->second);
  Set(row, now);
}

void BatchPlanner::Set(Rows::value_type* row, Known now) {
  row->second = now;
  if (!ordered_) return;
  if (now.state == Known::State::kAbsent) {
    there_.erase(row->first);
  } else {
    there_.emplace(row->first, row);
  }
}

}  // namespace prefixdb
