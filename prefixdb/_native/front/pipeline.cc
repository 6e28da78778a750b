#include "front/pipeline.h"

#include <utility>
#include <variant>

#include "front/method_list.h"
#include "front/off_loop.h"
#include "front/rows.h"
#include "front/store_failure.h"

namespace prefixdb::front {
namespace {

// Rows and operations of one pass of the loop, about a millisecond; then other calls have their turn.
constexpr size_t kRowsPerPass = 1'000;
// Bytes of answers that the client has not taken beyond which its next message waits.
constexpr size_t kUnsentMax = 64 * kKib;
// Times one operation asks for a store when the one it was given turns out to be closed, before it gives up.
constexpr int kStoresMax = 50;

}  // namespace

void Pipeline::Begin(Call& call) {
  slot_ = std::make_shared<Streams::Slot>(call.services().streams.Open(call.session()->namespace_id));
  if (!*slot_) return call.Fail(Fail(Reason::kTooManyStreams));
  Wait();
  LooksAtSession(call);
}

void Pipeline::OnMessage(Call& call, std::string_view message) {
  message_ = message;
  step_ = Step::kParse;
  Resume(call);
}

void Pipeline::OnDrained(Call& call) {
  if (step_ == Step::kDrain) Run(call);
}

void Pipeline::OnReadmitted(Call& call) {
  readmitting_ = false;
  // Each operation is looked at by itself; without any right there is nothing to look at.
  const RuleSet& rules = call.session()->rules;
  if (!rules.Any(Right::kRead) && !rules.Any(Right::kWrite)) return call.Fail(Fail(Reason::kNotPermitted));
  Run(call);
}

void Pipeline::Resume(Call& call) {
  waiting_ = false;
  Run(call);
}

// False when Python has to look at the token first; OnReadmitted goes on.
bool Pipeline::LooksAtSession(Call& call) {
  if (call.SessionHolds()) return true;
  readmitting_ = true;
  call.Readmit();
  return false;
}

// Called from inside again when something that is waited for is there at once: then the loop goes on by itself.
void Pipeline::Run(Call& call) {
  if (running_) return;
  running_ = true;
  if (std::exchange(pass_, call.loop().now()) != call.loop().now()) rows_this_pass_ = 0;
  bool looked = false;  // One look is enough for a pass of the loop, see loop.h.
  while (call.open() && !waiting_ && !readmitting_) {
    if (step_ == Step::kIdle) {
      Wait();
      call.NextMessage();
    } else if (step_ == Step::kDrain) {
      if (call.unsent() > kUnsentMax) break;  // OnDrained goes on.
      unread_.Release();
      step_ = Step::kIdle;
    } else if (rows_this_pass_ >= kRowsPerPass) {
      Pass(call);
    } else if (looked || (looked = LooksAtSession(call))) {
      TakeStep(call);
    }
  }
  running_ = false;
}

void Pipeline::TakeStep(Call& call) {
  switch (step_) {
    case Step::kParse:
      return ReadMessage(call);
    case Step::kOperations:
      return NextOperation(call);
    case Step::kFound:
      step_ = Step::kOperations;
      return std::exchange(found_, nullptr)(call);
    case Step::kCommit:
      return Commit(call);
    case Step::kSend:
      return Send(call);
    case Step::kIdle:
    case Step::kDrain:
      return;
  }
}

// Lets the other calls of the loop have their turn.
void Pipeline::Pass(Call& call) {
  Wait();
  call.loop().Post(WhileOpen(call, [this](Call& waiting) { Resume(waiting); }));
}

void Pipeline::ReadMessage(Call& call) {
  request_ = PipelineRequest();
  if (!Parse(message_, &request_)) return call.Fail(NotAMessage());
  if (const uint64_t count = request_.operations_sent; count > kPipelineOperationsMax) {
    const std::string size = std::to_string(count);
    const std::string limit = std::to_string(kPipelineOperationsMax);
    return call.Fail(Fail(Reason::kBatchTooLarge,
                          "The message has " + size + " operations; the limit is " + limit + '.',
                          {{"size", size}, {"limit", limit}}));
  }
  next_ = 0;
  alone_until_ = 0;
  stores_asked_ = 0;
  budget_ = ResponseBudget();
  response_.clear();
  AppendPipelineHead(request_.id, &response_);
  step_ = Step::kOperations;
}

void Pipeline::NextOperation(Call& call) {
  if (next_ == request_.operations.size()) {
    step_ = run_.empty() ? Step::kSend : Step::kCommit;
    return;
  }
  Operation operation;
  if (!Parse(request_.operations[next_], &operation)) return call.Fail(NotAMessage());  // Was looked at before.
  const auto* const get = std::get_if<GetRequest>(&operation);
  const auto* const batch_get = std::get_if<BatchGetRequest>(&operation);
  if (!run_.empty() && (get != nullptr || batch_get != nullptr)) {
    step_ = Step::kCommit;
    return;
  }
  if (get != nullptr && next_ >= alone_until_ && GetTogether(call)) return;
  ++next_;
  ++rows_this_pass_;
  budget_.BeginResult();
  if (get != nullptr) return Get(call, *get);
  if (batch_get != nullptr) return BatchGet(call, *batch_get);
  if (std::holds_alternative<std::monostate>(operation)) {
    return PutFailure(BadField("operations", "must each have an operation."));
  }
  Queue(call, operation);
}

void Pipeline::Send(Call& call) {
  call.Send(std::move(response_));
  response_ = std::string();
  step_ = Step::kDrain;
}

void Pipeline::Put(ResultField field, std::string_view answer) {
  if (run_.empty()) return AppendResult(field, answer, &response_);
  AppendResult(field, answer, &run_.emplace_back());
}

void Pipeline::PutFailure(const Failure& failure) { Put(ResultField::kError, EncodeError(failure)); }

void Pipeline::AskWhetherReady(Call& call, ReadyQuestion question,
                               std::function<void(const std::optional<Failure>&)> then) {
  Wait();
  call.services().upcalls.Ready(
      &call.loop(), question,
      WhileOpen(call, [this, then = std::move(then)](Call& waiting, const std::optional<Failure>& failure) {
        then(failure);
        Resume(waiting);
      }));
}

void Pipeline::PutReadFailure(Call& call, const Outcome& outcome) {
  if (outcome.fault == Fault::kClosed && ++stores_asked_ <= kStoresMax) {
    // The store is being exchanged: the operation is done again when there is another.
    return AskWhetherReady(call, {Doing::kRead}, [this](const std::optional<Failure>& failure) {
      if (failure) return PutFailure(*failure);
      --next_;
      budget_.TakeBack();
    });
  }
  Wait();
  call.services().upcalls.Translate(&call.loop(), {Doing::kRead, outcome},
                                    WhileOpen(call, [this](Call& waiting, const Failure& failure) {
                                      if (failure.reason == static_cast<uint16_t>(Reason::kInternal)) {
                                        Halt(waiting.services(), NativeMethod::kPipeline);
                                        return waiting.Fail(failure);
                                      }
                                      PutFailure(failure);
                                      Resume(waiting);
                                    }));
}

std::unique_ptr<Method> BeginPipeline(Call& call) {
  auto pipeline = std::make_unique<Pipeline>();
  pipeline->Begin(call);
  return pipeline;
}

}  // namespace prefixdb::front
