// The reads of a Pipeline. What was read off the loop is answered only if it may still be: in a stream the session can
// be another one by then.
#include <algorithm>
#include <utility>

#include "front/pipeline.h"
#include "front/rows.h"

namespace prefixdb::front {

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

void Pipeline::TakeGet(Call& call, const PointAnswer& answer) {
  if (!answer.outcome.ok()) return PutReadFailure(call, answer.outcome);
  if (const auto failure = Spend(answer.value_bytes)) return PutFailure(*failure);
  Put(ResultField::kGet, answer.message);
}

void Pipeline::BatchGet(Call& call, const BatchGetRequest& request) {
  Services& services = call.services();
  if (const auto failure = Batch::Check(*call.session(), request)) return PutFailure(*failure);
  std::shared_ptr<Store> store = services.store.Get();
  if (store == nullptr) return PutReadFailure(call, Outcome::Closed());
  const auto batch = std::make_shared<Batch>(*call.session(), request);
  const auto bytes_max = static_cast<uint64_t>(std::max<int64_t>(0, bytes_left_));
  const bool large = batch->size() > Batch::StepKeys(services.settings.value_bytes_max);
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
  if (!answer.failure) answer.failure = Spend(answer.message.size());
  if (answer.failure) return PutFailure(*answer.failure);
  Put(ResultField::kBatchGet, answer.message);
}

std::optional<Failure> Pipeline::Spend(uint64_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  if (size > bytes_left_) {
    return Fail(Reason::kBatchTooLarge, "The response would be too large; ask for less in one message.",
                {{"limit", std::to_string(kResponseBytesMax)}});
  }
  bytes_left_ -= size;
  return std::nullopt;
}

}  // namespace prefixdb::front
