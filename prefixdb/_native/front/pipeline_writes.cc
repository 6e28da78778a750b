// The writes of a Pipeline: a run of them is one request to the committer. The twin of commit_all in
// prefixdb/service/writer.py.
//
// A unary write whose session does not hold, or that the store will not take now, is handed to Python. A stream cannot
// be: its token is looked at again, Python is asked whether the store takes writes, and what has no result yet is
// planned once more, as the caller's rights are then.
#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "front/off_loop.h"
#include "front/pipeline.h"

namespace prefixdb::front {
namespace {

// Times a run is planned again after its guard failed. The namespace's record changes when a guardian acts, so a second
// admission nearly always decides; the store may be a moment ahead of what Python's registry shows.
constexpr int kAdmissionsMax = 50;
constexpr auto kReadmitPause = std::chrono::milliseconds(5);
// A run's own memory to begin with; it grows with what is written.
constexpr size_t kExpectedMax = 256 * kKib;

ResultField FieldOf(const Operation& operation) noexcept {
  if (std::holds_alternative<PutRequest>(operation)) return ResultField::kPut;
  return std::holds_alternative<DeleteRequest>(operation) ? ResultField::kDelete : ResultField::kWrite;
}

}  // namespace

void Pipeline::Queue(Call& call, const Operation& operation) {
  if (!planner_ || (pending_.empty() && writer_ != call.session())) NewPlanner(call);
  if (const auto failure = Plan(operation)) return PutFailure(*failure);
  pending_.push_back({run_.size(), request_.operations[next_ - 1], FieldOf(operation), planner_->only_deletes()});
  run_.emplace_back();
}

void Pipeline::NewPlanner(Call& call) {
  Services& services = call.services();
  writer_ = call.session();
  planner_.emplace(*writer_, &services.clock, services.settings.value_bytes_max,
                   std::min(message_.size(), kExpectedMax));
}

std::optional<Failure> Pipeline::Plan(const Operation& operation) {
  if (const auto* const put = std::get_if<PutRequest>(&operation)) return planner_->Add(*put);
  if (const auto* const deletion = std::get_if<DeleteRequest>(&operation)) return planner_->Add(*deletion);
  return planner_->Add(std::get<WriteRequest>(operation));
}

void Pipeline::Commit(Call& call) {
  if (++admissions_ > kAdmissionsMax) {
    FailPending(Fail(Reason::kWriteStall, "The namespace is being changed over and over; the write was not applied."));
  } else if (!planner_ || writer_ != call.session() || call.session()->read_only) {
    PlanAgain(call);
  }
  if (pending_.empty()) return EndRun();
  Services& services = call.services();
  const std::shared_ptr<Store> store = services.store.Get();
  if (store == nullptr || (services.punt_writes.load(std::memory_order_relaxed) && !may_write_)) {
    return AskWhetherWritable(call);
  }
  Submit(call, *store);
}

// Plans what has no result yet from its messages again, with the rights that the caller has now.
void Pipeline::PlanAgain(Call& call) {
  NewPlanner(call);
  std::vector<Pending> before;
  before.swap(pending_);
  for (const Pending& each : before) {
    std::optional<Failure> failure;
    Operation operation;
    if (writer_->read_only && !each.only_deletes) {
      failure = Fail(Reason::kReadOnly);
    } else if (Parse(each.operation, &operation)) {
      failure = Plan(operation);
    }
    if (failure) {
      AppendResult(ResultField::kError, EncodeError(*failure), &run_[each.place]);
    } else {
      pending_.push_back(each);
    }
  }
}

void Pipeline::AskWhetherWritable(Call& call) {
  const bool only_deletes =
      std::all_of(pending_.begin(), pending_.end(), [](const Pending& each) { return each.only_deletes; });
  AskWhetherReady(call, {Doing::kWrite, only_deletes}, [this](const std::optional<Failure>& failure) {
    may_write_ = true;
    if (!failure) return;
    FailPending(*failure);
    EndRun();
  });
}

void Pipeline::Submit(Call& call, Store& store) {
  std::unique_ptr<CommitRequest> request = planner_->Take();
  planner_.reset();
  request->now_ms = call.services().clock.now_ms();
  request->done = [this, weak = call.weak_from_this(), loop = &call.loop()](Outcome outcome,
                                                                            std::vector<CommitResult> results) {
    loop->Post([this, weak, committed = Committed{std::move(outcome), std::move(results)}] {
      const std::shared_ptr<Call> waiting = weak.lock();
      if (waiting && waiting->open()) TakeCommitted(*waiting, committed);
    });
  };
  Wait();
  if (!store.Submit(std::move(request)).ok()) AskWhetherWritable(call);
}

void Pipeline::TakeCommitted(Call& call, const Committed& committed) {
  const Outcome& outcome = committed.outcome;
  if (outcome.ok()) return TakeResults(call, committed.results);
  if (!outcome.attempted) return AskWhetherWritable(call);  // Certainly not applied.
  call.services().upcalls.Translate(&call.loop(), {Doing::kWrite, outcome},
                                    WhileOpen(call, [this](Call& waiting, const Failure& failure) {
                                      FailPending(failure);
                                      EndRun();
                                      Resume(waiting);
                                    }));
}

void Pipeline::TakeResults(Call& call, const std::vector<CommitResult>& results) {
  // A record's version only moves on, so what failed its guard is the tail, and the order of the writes is kept.
  std::vector<Pending> refused;
  for (size_t index = 0; index < pending_.size(); ++index) {
    const Pending& each = pending_[index];
    const CommitResult& result = results[index];
    if (result.failed_guard >= 0) {
      refused.push_back(each);
      continue;
    }
    const std::string answer = each.field == ResultField::kWrite ? WriteResponse(result) : PutResponse(result);
    AppendResult(each.field, answer, &run_[each.place]);
  }
  pending_.swap(refused);
  if (pending_.empty()) {
    EndRun();
    return Resume(call);
  }
  call.loop().After(kReadmitPause, WhileOpen(call, [this](Call& waiting) {
                      waiting_ = false;
                      readmitting_ = true;
                      waiting.Readmit();
                    }));
}

void Pipeline::FailPending(const Failure& failure) {
  const std::string answer = EncodeError(failure);
  for (const Pending& each : pending_) AppendResult(ResultField::kError, answer, &run_[each.place]);
  pending_.clear();
}

// Every write has its result.
void Pipeline::EndRun() {
  for (const std::string& result : run_) response_ += result;
  run_.clear();
  planner_.reset();
  admissions_ = 0;
  may_write_ = false;
  step_ = Step::kOperations;
}

}  // namespace prefixdb::front
