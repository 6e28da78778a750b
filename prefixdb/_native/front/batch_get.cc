// BatchGet: many rows of one instant; batch.h says how they are read.
#include <utility>

#include "front/batch.h"
#include "front/method_list.h"

namespace prefixdb::front {
namespace {

// In the pass that looks at the session, see loop.h.
void Answer(Call& call, BatchAnswer answer) {
  if (!answer.outcome.ok() || !call.SessionHolds()) return call.Punt();
  if (answer.failure) return call.Fail(*answer.failure);
  call.Reply(std::move(answer.message));
}

void BatchGet(Call& call) {
  BatchGetRequest request;
  if (!call.SessionHolds() || !Parse(call.message(), &request)) return call.Punt();
  Services& services = call.services();
  const Session& session = *call.session();
  if (const auto failure = Batch::Check(session, request)) return call.Fail(*failure);
  std::shared_ptr<Store> store = services.store.Get();
  if (store == nullptr) return call.Punt();
  auto batch = std::make_shared<Batch>(session, request);
  const bool large = batch->IsLarge(services.settings.value_bytes_max);
  std::shared_ptr<Streams::Slot> view;
  if (!large) {
    BatchAnswer answer;
    if (batch->AnswerFromMemory(*store, services.clock, kResponseBytesMax, &answer)) {
      return Answer(call, std::move(answer));
    }
  } else {
    // The namespace is not reclaimed while workers read, and no row is sent that was dropped meanwhile.
    view = std::make_shared<Streams::Slot>(services.streams.Open(session.namespace_id));
    if (!*view) return call.Fail(Fail(Reason::kTooManyStreams));
    if (!call.SessionHolds()) return call.Punt();
  }
  AnswerBatchOffLoop(call, std::move(store), std::move(batch), large, std::move(view), kResponseBytesMax, Answer);
}

}  // namespace

std::unique_ptr<Method> BeginBatchGet(Call& call) {
  BatchGet(call);
  return nullptr;
}

}  // namespace prefixdb::front
