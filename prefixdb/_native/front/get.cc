// Get: the shortest way through the front, and the one that most calls take.
#include "front/method_list.h"
#include "front/point_read.h"
#include "front/rows.h"

namespace prefixdb::front {
namespace {

// In the pass that looks at the session, see loop.h.
void Answer(Call& call, PointAnswer answer) {
  if (!answer.outcome.ok() || !call.SessionHolds()) return call.Punt();
  call.Reply(std::move(answer.message));
}

void Get(Call& call) {
  GetRequest request;
  if (!call.SessionHolds() || !Parse(call.message(), &request)) return call.Punt();
  const Session& session = *call.session();
  auto failure = CheckKey(request.key, request.database);
  if (!failure) failure = CheckRight(session, Right::kRead, request.database, request.key);
  if (failure) return call.Fail(*failure);
  const RowKey key(session.namespace_id, request.database, request.key);
  std::shared_ptr<Store> store = call.services().store.Get();
  if (store == nullptr) return call.Punt();
  PointAnswer answer;
  if (AnswerFromMemory(*store, key.view(), call.services().clock, &answer)) return Answer(call, std::move(answer));
  AnswerOffLoop(call, std::move(store), key.view(), Answer);
}

}  // namespace

std::unique_ptr<Method> BeginGet(Call& call) {
  Get(call);
  return nullptr;
}

}  // namespace prefixdb::front
