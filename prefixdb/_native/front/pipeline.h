// Pipeline: many independent operations in each message, answered in order: the twin of prefixdb/service/pipeline.py.
//
// Consecutive writes of a message are a *run*: they go to the committer as one request and share a sync. A read waits
// for the run before it, so an operation sees the effects of those before it on the same stream. Whatever is wrong with
// one operation is the answer to that operation alone; what is wrong with the token or the namespace ends the stream.
//
// Consecutive Gets are a run, too, and read as one when they are many (get_run.h).
//
//   OnMessage ──► kParse ──► kOperations ◄──► kFound, kCommit
//                                 └──► kSend ──► kDrain ──► NextMessage
//
// `Run` goes on from step to step until something has to be waited for: a worker, the committer, Python, the client, or
// the other calls of the loop. It begins with a look at the session each time, and so does every write and every
// answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "front/batch.h"
#include "front/call.h"
#include "front/messages.h"
#include "front/point_read.h"
#include "front/response_budget.h"
#include "front/unread.h"
#include "front/write_planner.h"

namespace prefixdb::front {

// Belongs to its call.
class Pipeline final : public Method {
 public:
  void Begin(Call& call);

  void OnMessage(Call& call, std::string_view message) override;
  void OnHalfClose(Call& call) override { call.End(); }
  void OnDrained(Call& call) override;
  void OnReadmitted(Call& call) override;

 private:
  enum class Step : uint8_t { kIdle, kParse, kOperations, kFound, kCommit, kSend, kDrain };
  // A write of the run that has no result yet.
  struct Pending {
    size_t place;  // In `run_`.
    std::string_view operation;
    ResultField field;
    bool only_deletes;
  };
  struct Committed {
    Outcome outcome;
    std::vector<CommitResult> results;
  };

  // --- pipeline.cc
  void Run(Call& call);
  void TakeStep(Call& call);
  bool LooksAtSession(Call& call);
  void Wait() { waiting_ = true; }
  void Resume(Call& call);  // Goes on after a wait.
  void Pass(Call& call);
  void ReadMessage(Call& call);
  void NextOperation(Call& call);
  void Send(Call& call);
  // The result of an operation, in its place: behind those of the run when there is one.
  void Put(ResultField field, std::string_view answer);
  void PutFailure(const Failure& failure);
  // Waits until the store may be used (again) or is known not to be; then `then(failure or nothing)`, and goes on.
  void AskWhetherReady(Call& call, ReadyQuestion question, std::function<void(const std::optional<Failure>&)> then);
  // Answers the operation with what a failed read means, or ends the stream when it means that nothing can be trusted.
  void PutReadFailure(Call& call, const Outcome& outcome);

  // --- pipeline_reads.cc
  // Whether the next operations are read as one; then a worker has them.
  bool GetTogether(Call& call);
  void Get(Call& call, const GetRequest& request);
  void TakeGet(Call& call, const PointAnswer& answer);
  void BatchGet(Call& call, const BatchGetRequest& request);
  void TakeBatch(Call& call, BatchAnswer answer);
  void Found(Call& call, std::function<void(Call&)> take);
  // Whether the response may grow by so much: what clients leave unread is bounded.
  bool Affords(Call& call, size_t bytes);

  // --- pipeline_writes.cc
  void Queue(Call& call, const Operation& operation);
  void NewPlanner(Call& call);
  std::optional<Failure> Plan(const Operation& operation);
  void Commit(Call& call);
  void PlanAgain(Call& call);
  void AskWhetherWritable(Call& call);
  void Submit(Call& call, Store& store);
  void TakeCommitted(Call& call, const Committed& committed);
  void TakeResults(Call& call, const std::vector<CommitResult>& results);
  void FailPending(const Failure& failure);
  void EndRun();

  std::shared_ptr<Streams::Slot> slot_;
  Step step_ = Step::kIdle;
  bool running_ = false;      // Inside of Run.
  bool waiting_ = false;      // For something that calls Resume.
  bool readmitting_ = false;  // For OnReadmitted.
  Loop::Time pass_;           // In which Run was called last.
  size_t rows_this_pass_ = 0;
  int stores_asked_ = 0;  // By reads of the message.

  // --- the message
  std::string_view message_;
  PipelineRequest request_;
  size_t next_ = 0;         // Operation.
  size_t alone_until_ = 0;  // Operation; the Gets before it are read one by one.
  ResponseBudget budget_;
  UnreadShare unread_;  // Of a large response, from its first read until it is taken.
  std::string response_;

  // Takes what a worker has found: kFound, which comes after the look at the session.
  std::function<void(Call&)> found_;

  // --- the run
  std::vector<std::string> run_;  // Results in their order; empty ones are pending.
  std::vector<Pending> pending_;
  SessionPtr writer_;  // Whose rights `planner_` looked at.
  std::optional<WritePlanner> planner_;
  int admissions_ = 0;
  bool may_write_ = false;  // Python has said so, for this run.
};

}  // namespace prefixdb::front
