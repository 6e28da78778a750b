// Put, Delete and Write: planned here, committed by the store's committer together with whoever else is waiting, and
// answered when the commit is on disk.
#include <utility>

#include "front/method_list.h"
#include "front/store_failure.h"
#include "front/write_planner.h"

namespace prefixdb::front {
namespace {

struct Committed {
  Outcome outcome;
  std::vector<CommitResult> results;
};

void Answer(Call& call, NativeMethod method, const Committed& committed) {
  const Outcome& outcome = committed.outcome;
  if (!outcome.ok()) {
    // Never a second try of what may have been done; what was certainly not done Python may do.
    if (!outcome.attempted) return call.Punt();
    return FailWith(call, method, Doing::kWrite, outcome);
  }
  const CommitResult& result = committed.results.front();
  // The namespace has changed since the session was made: Python admits the call once more.
  if (result.failed_guard >= 0) return call.Punt();
  call.Reply(method == NativeMethod::kWrite ? WriteResponse(result) : PutResponse(result));
}

void Submit(Call& call, NativeMethod method, std::unique_ptr<CommitRequest> request) {
  Services& services = call.services();
  const std::shared_ptr<Store> store = services.store.Get();
  if (store == nullptr || !call.SessionHolds()) return call.Punt();
  request->now_ms = services.clock.now_ms();
  request->done = [weak = call.weak_from_this(), loop = &call.loop(), method](Outcome outcome,
                                                                              std::vector<CommitResult> results) {
    loop->Post([weak, method, committed = Committed{std::move(outcome), std::move(results)}] {
      const std::shared_ptr<Call> waiting = weak.lock();
      if (waiting && waiting->open()) Answer(*waiting, method, committed);
    });
  };
  if (!store->Submit(std::move(request)).ok()) call.Punt();
}

template <typename Request>
void Begin(Call& call, NativeMethod method) {
  Services& services = call.services();
  const std::string_view message = call.message();
  Request request;
  if (!call.SessionHolds() || services.punt_writes.load(std::memory_order_relaxed) || !Parse(message, &request)) {
    return call.Punt();
  }
  const Session& session = *call.session();
  WritePlanner planner(session, &services.clock, services.settings.value_bytes_max, message.size());
  if (const auto failure = planner.Add(request)) return call.Fail(*failure);
  if (session.read_only && !planner.only_deletes()) return call.Punt();
  Submit(call, method, planner.Take());
}

}  // namespace

std::unique_ptr<Method> BeginPut(Call& call) {
  Begin<PutRequest>(call, NativeMethod::kPut);
  return nullptr;
}

std::unique_ptr<Method> BeginDelete(Call& call) {
  Begin<DeleteRequest>(call, NativeMethod::kDelete);
  return nullptr;
}

std::unique_ptr<Method> BeginWrite(Call& call) {
  Begin<WriteRequest>(call, NativeMethod::kWrite);
  return nullptr;
}

}  // namespace prefixdb::front
