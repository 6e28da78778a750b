// The reads of a Pipeline. What was read off the loop is answered only if it may still be: in a stream the session can
// be another one by then.
#include <memory>
#include <span>
#include <utility>

#include "front/get_run.h"
#include "front/off_loop.h"
#include "front/pipeline.h"
#include "front/rows.h"

namespace prefixdb::front {
namespace {

// A stream has that much on its way in any case.
constexpr size_t kUncountedMax = 64 * kKib;

}  // namespace

bool Pipeline::GetTogether(Call& call) {
  Services& services = call.services();
  const auto gets =
      GetRun::Find(std::span(request_.operations).subspan(next_), Batch::StepKeys(services.settings.value_bytes_max));
  std::shared_ptr<Store> store = services.store.Get();
  if (gets.size() < GetRun::kGetsMin || store == nullptr) {
    alone_until_ = next_ + gets.size();
    return false;
  }
  rows_this_pass_ += gets.size();
  auto run = std::make_shared<GetRun>(*call.session(), gets);
  Wait();
  OffLoop(
      call,
      [run, store = std::move(store), view = slot_, clock = &services.clock, budget = budget_] {
        return run->Read(*store, *clock, budget);
      },
      [this, run, asked = call.session()](Call& waiting, GetRun::Answer found) {
        Found(waiting, [this, run, asked, found = std::move(found)](Call& again) {
          if (!found.outcome.ok() || again.session() != asked) {
            alone_until_ = next_ + run->size();
            return;
          }
          if (!Affords(again, found.results.size())) {  // Alone each is told so.
            alone_until_ = next_ + run->size();
            return;
          }
          next_ += run->size();
          budget_ = found.budget;
          response_ += found.results;
        });
      });
  return true;
}

void Pipeline::Get(Call& call, const GetRequest& request) {
  const Session& session = *call.session();
  auto failure = CheckKey(request.key, request.database);
  if (!failure) failure = CheckRight(session, Right::kRead, request.database, request.key);
  if (failure) return PutFailure(*failure);
  std::shared_ptr<Store> store = call.services().store.Get();
  if (store == nullptr) return PutReadFailure(call, Outcome::Closed());
  const RowKey key(session.namespace_id, request.database, request.key);
  PointAnswer answer;
  if (AnswerFromMemory(*store, key.view(), call.services().clock, &answer)) return TakeGet(call, answer);
  Wait();
  AnswerOffLoop(call, std::move(store), key.view(),
                [this, asked = call.session(), request](Call& waiting, PointAnswer found) {
                  Found(waiting, [this, asked, request, found = std::move(found)](Call& again) {
                    const SessionPtr& now = again.session();
                    std::optional<Failure> refused;
                    if (now != asked) refused = CheckRight(*now, Right::kRead, request.database, request.key);
                    return refused ? PutFailure(*refused) : TakeGet(again, found);
                  });
                });
}

// A worker is done. The session may have been changed meanwhile, so it is looked at before what was found is.
void Pipeline::Found(Call& call, std::function<void(Call&)> take) {
  found_ = std::move(take);
  step_ = Step::kFound;
  Resume(call);
}

// A response of reads is built over many passes of the loop, so it is counted as it grows.
bool Pipeline::Affords(Call& call, size_t bytes) {
  const size_t size = response_.size() + bytes;
  return size <= kUncountedMax || unread_.Reach(&call.services().unread, call.session()->namespace_id, size);
}

void Pipeline::TakeGet(Call& call, const PointAnswer& answer) {
  if (!answer.outcome.ok()) return PutReadFailure(call, answer.outcome);
  if (const auto failure = budget_.Spend(answer.value_bytes)) return PutFailure(*failure);
  if (!Affords(call, answer.message.size())) return PutFailure(TooMuchUnread());
  Put(ResultField::kGet, answer.message);
}

void Pipeline::BatchGet(Call& call, const BatchGetRequest& request) {
  Services& services = call.services();
  if (const auto failure = Batch::Check(*call.session(), request)) return PutFailure(*failure);
  std::shared_ptr<Store> store = services.store.Get();
  if (store == nullptr) return PutReadFailure(call, Outcome::Closed());
  const auto batch = std::make_shared<Batch>(*call.session(), request);
  const uint64_t bytes_max = budget_.left();
  const bool large = batch->IsLarge(services.settings.value_bytes_max);
  if (!large) {
    rows_this_pass_ += batch->size();
    BatchAnswer answer;
    if (batch->AnswerFromMemory(*store, services.clock, bytes_max, &answer)) return TakeBatch(call, std::move(answer));
  }
  Wait();
  AnswerBatchOffLoop(call, std::move(store), batch, large, slot_, bytes_max,
                     [this, asked = call.session(), batch](Call& waiting, BatchAnswer answer) {
                       Found(waiting, [this, asked, batch, answer = std::move(answer)](Call& again) mutable {
                         std::optional<Failure> refused;
                         if (again.session() != asked) refused = batch->CheckAgain(*again.session());
                         return refused ? PutFailure(*refused) : TakeBatch(again, std::move(answer));
                       });
                     });
}

void Pipeline::TakeBatch(Call& call, BatchAnswer answer) {
  if (!answer.outcome.ok()) return PutReadFailure(call, answer.outcome);
  if (!answer.failure) answer.failure = budget_.Spend(answer.message.size());
  if (answer.failure) return PutFailure(*answer.failure);
  if (!Affords(call, answer.message.size())) return PutFailure(TooMuchUnread());
  Put(ResultField::kBatchGet, answer.message);
}

}  // namespace prefixdb::front
