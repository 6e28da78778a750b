#include "committer.h"

#include <algorithm>
#include <utility>

#include "planner.h"

namespace prefixdb {

namespace {

constexpr size_t kBatchBytesMax = 8 << 20;  // Keys and payloads after which a batch takes no further request.
constexpr size_t kBatchCommitsMax = 16384;  // The same for commits.
constexpr size_t kBytesPerMutation = 32;    // Room for RocksDB's framing and our head, roughly.

size_t ExpectedBytes(const CommitRequest& request) {
  size_t mutations = 0;
  for (const Commit& commit : request.commits) mutations += commit.mutations.size();
  return request.size + mutations * kBytesPerMutation;
}

}  // namespace

Committer::Committer(rocksdb::DB* db, RangeDeleteCount* range_deletes, WriteHealth* health, CommitterOptions options)
    : db_(db), range_deletes_(range_deletes), health_(health), options_(std::move(options)), thread_([this] {
        Loop();
      }) {}

Committer::~Committer() { Stop(); }

Outcome Committer::Submit(std::unique_ptr<CommitRequest> request) {
  Entry entry;
  entry.request = std::move(request);
  return Enqueue(std::move(entry));
}

Outcome Committer::Run(std::function<Outcome()> job) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Outcome> result;
  Entry entry;
  entry.job = [&](Outcome refused) {
    Outcome outcome = refused.ok() ? job() : std::move(refused);
    // Notified under the lock: the waiter's frame, and all of this with it, is gone as soon as it sees the result.
    const std::lock_guard lock(mutex);
    result = std::move(outcome);
    changed.notify_one();
  };
  Outcome queued = Enqueue(std::move(entry));
  if (!queued.ok()) return queued;
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return result.has_value(); });
  return std::move(*result);
}

Outcome Committer::Enqueue(Entry entry) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return Outcome::Closed();
  queue_.push_back(std::move(entry));
  if (queue_.size() == 1) changed_.notify_one();
  return {};
}

void Committer::Stop() {
  const std::lock_guard one_at_a_time(stop_mutex_);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Committer::Loop() {
  std::vector<Entry> entries;
  while (Take(&entries)) {
    if (entries.front().job) {
      const auto failed = health_->failure();
      entries.front().job(failed ? Outcome{Fault::kEngine, false, *failed} : Outcome{});
    } else {
      Write(entries);
    }
  }
  for (Entry& entry : entries) {
    if (entry.job) {
      entry.job(Outcome::Closed());
    } else {
      entry.request->done(Outcome::Closed(), {});
    }
  }
}

bool Committer::Take(std::vector<Entry>* entries) {
  entries->clear();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
  if (stopping_) {
    std::move(queue_.begin(), queue_.end(), std::back_inserter(*entries));
    queue_.clear();
    return false;
  }
  size_t bytes = 0;
  size_t commits = 0;
  while (!queue_.empty()) {
    Entry& next = queue_.front();
    if (next.job && !entries->empty()) break;
    if (!next.job) {
      bytes += next.request->size;
      commits += next.request->commits.size();
      if (!entries->empty() && (bytes > kBatchBytesMax || commits > kBatchCommitsMax)) break;
    }
    entries->push_back(std::move(next));
    queue_.pop_front();
    if (entries->back().job) break;
  }
  return true;
}

void Committer::Write(std::vector<Entry>& entries) {
  std::vector<Answer> answers(entries.size());
  if (const auto failed = health_->failure()) {
    for (Answer& answer : answers) answer.outcome = {Fault::kEngine, false, *failed};
  } else {
    size_t expected = 0;
    uint64_t now_ms = 0;
    for (const Entry& entry : entries) {
      expected += ExpectedBytes(*entry.request);
      now_ms = std::max(now_ms, entry.request->now_ms);
    }
    rocksdb::WriteBatch batch(expected);
    const uint64_t sequence = db_->GetLatestSequenceNumber();
    const auto read = [this](std::string_view key, rocksdb::PinnableSlice* stored) {
      return db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), {key.data(), key.size()}, stored);
    };
    BatchPlanner planner(read, &batch, sequence, now_ms);
    answers = Plan(entries, &planner);
    if (planner.sequence() != sequence) {
      const Outcome written = WriteBatch(&batch, planner);
      for (Answer& answer : answers) {
        if (!written.ok() && answer.outcome.ok()) answer = {written, {}};
      }
    }
  }
  for (size_t index = 0; index < entries.size(); ++index) {
    entries[index].request->done(std::move(answers[index].outcome), std::move(answers[index].results));
  }
}

std::vector<Committer::Answer> Committer::Plan(const std::vector<Entry>& entries, BatchPlanner* planner) {
  std::vector<Answer> answers(entries.size());
  for (const Entry& entry : entries) planner->Announce(entry.request->commits);
  for (size_t index = 0; index < entries.size(); ++index) {
    Answer& answer = answers[index];
    // Those of earlier requests of this batch wait as well as those in memory.
    const uint64_t waiting = range_deletes_->value() + planner->range_deletes();
    const uint64_t planned = planner->range_deletes();
    answer.outcome = planner->Plan(entries[index].request->commits, &answer.results);
    const uint64_t more = planner->range_deletes() - planned;
    if (answer.outcome.ok() && more > 0 && waiting > 0 && waiting + more > options_.range_deletes_max) {
      planner->Undo();
      answer = {Outcome::Of(rocksdb::Status::Incomplete("Write stall", "too many range deletes wait for a flush")), {}};
    }
  }
  return answers;
}

Outcome Committer::WriteBatch(rocksdb::WriteBatch* batch, const BatchPlanner& planner) {
  rocksdb::WriteOptions options;
  options.sync = options_.sync;
  options.no_slowdown = true;
  const rocksdb::Status status = db_->Write(options, batch);
  if (!status.ok()) {
    Outcome outcome = Outcome::Of(status);
    if (!status.IsIncomplete()) health_->Fail(outcome.text);
    return outcome;
  }
  if (planner.range_deletes() > 0) range_deletes_->Add(planner.range_deletes(), planner.last_range_delete());
  if (db_->GetLatestSequenceNumber() != planner.sequence()) {
    // The versions just written are wrong, and every condition that compares them would be.
    const std::string text = "Internal: the engine counted a batch differently";
    health_->Fail(text);
    options_.on_broken(text);
    return {Fault::kEngine, true, text};
  }
  return {};
}

}  // namespace prefixdb
