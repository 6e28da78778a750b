// Work of a call in a worker's thread, and back on the call's loop with what it found.
//
// The work gets nothing of the call: what it needs it holds itself (a store, keys, a slot of streams.h), so that it may
// outlive the call. What it found is dropped when the call is over by then.
#pragma once

#include <memory>
#include <utility>

#include "front/call.h"

namespace prefixdb::front {

// Runs `work` in a worker, then `then(call, found)` on the loop, unless the call is over. On the loop's thread.
// REQUIRES: neither throws; `work` takes some 10 ms at most.
template <typename Work, typename Then>
void OffLoop(Call& call, Work work, Then then) {
  using Found = decltype(work());
  struct Job {  // Shared, because std::function wants to copy.
    Work work;
    Then then;
    std::weak_ptr<Call> call;
    Loop* loop;
    Found found;
  };
  auto job = std::make_shared<Job>(Job{std::move(work), std::move(then), call.weak_from_this(), &call.loop(), Found()});
  call.services().workers.Run(call.session()->namespace_id, [job] {
    job->found = job->work();
    job->loop->Post([job] {
      const std::shared_ptr<Call> waiting = job->call.lock();
      if (waiting && waiting->open()) job->then(*waiting, std::move(job->found));
    });
  });
}

// As OffLoop for what a loop does later: `then(call)` unless the call is over.
template <typename Then>
auto WhileOpen(Call& call, Then then) {
  return [weak = call.weak_from_this(), then = std::move(then)](auto&&... found) mutable {
    const std::shared_ptr<Call> waiting = weak.lock();
    if (waiting && waiting->open()) then(*waiting, std::forward<decltype(found)>(found)...);
  };
}

}  // namespace prefixdb::front
