// One thread that gathers whatever commits are waiting into one write batch and one sync.
//
// While one batch is being synced the next one fills, so batches grow by themselves with the number of writers, and a
// lone writer waits for nobody. Requests are planned in the order they came (planner.h). The batch is written without
// waiting for a write stall: a stall is an answer ("Result incomplete: Write stall") for all of the batch.
//
// The first write error that is not a stall is remembered (write_health.h). Its batch gets it as it is; everything
// queued or submitted later is answered with the same text and `attempted` false. RocksDB writes the log, syncs it,
// then the memtable, so readers of this process never see a batch that failed.
//
// Not only batches run on the thread: jobs that must not meet a batch half way (ingesting files) do, between two.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "commit.h"
#include "outcome.h"
#include "range_delete_count.h"
#include "write_health.h"

namespace prefixdb {

struct CommitterOptions {
  bool sync = true;
  uint64_t range_deletes_max = 2000;
  // Called on the committer's thread when the engine did what makes every later answer wrong.
  std::function<void(const std::string& text)> on_broken;
};

// Thread-safe.
class Committer {
 public:
  // All outlive the committer.
  Committer(rocksdb::DB* db, RangeDeleteCount* range_deletes, WriteHealth* health, CommitterOptions options);
  ~Committer();  // Stops.
  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  // Queues a request; never blocks. When it returns ok, `request->done` is called once, on the committer's thread: it
  // must be short and must not wait for anything that waits for a commit. Otherwise it is not called.
  Outcome Submit(std::unique_ptr<CommitRequest> request);

  // Runs `job` on the committer's thread, between two batches, and waits for it.
  Outcome Run(std::function<Outcome()> job);

  // Finishes the running batch or job, answers everything queued with Closed, ends the thread. Idempotent.
  void Stop();

 private:
  struct Entry {
    std::unique_ptr<CommitRequest> request;    // Or:
    std::function<void(Outcome refused)> job;  // Called with ok to run, or with why it will not be.
  };
  struct Answer {
    Outcome outcome;
    std::vector<CommitResult> results;
  };

  void Loop();
  bool Take(std::vector<Entry>* entries);
  void Write(std::vector<Entry>& entries);
  std::vector<Answer> Plan(const std::vector<Entry>& entries, class BatchPlanner* planner);
  Outcome WriteBatch(rocksdb::WriteBatch* batch, const BatchPlanner& planner);
  Outcome Enqueue(Entry entry);

  rocksdb::DB* const db_;
  RangeDeleteCount* const range_deletes_;
  WriteHealth* const health_;
  const CommitterOptions options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> queue_;
  bool stopping_ = false;

  std::mutex stop_mutex_;
  std::thread thread_;
};

}  // namespace prefixdb
