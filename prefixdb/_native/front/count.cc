// Count: walks over a range in workers, in steps between which others have their turns and the session is looked at.
#include <utility>

#include "front/method_list.h"
#include "front/off_loop.h"
#include "front/rows.h"

namespace prefixdb::front {
namespace {

// Shared by the jobs, so that it outlives a call that ends while one runs.
struct Counting {
  std::shared_ptr<Store> store;
  Span span;
  uint64_t now_ms;  // One instant decides for all rows what is expired.
  uint64_t step_rows;
  Streams::Slot view;
  std::shared_ptr<Cursor> cursor;
  uint64_t total = 0;
};

struct Step {
  Outcome outcome;
  uint64_t counted = 0;
};

Step CountSome(Counting& counting) {
  Step step;
  if (counting.cursor == nullptr) {
    const CursorOptions options{.begin = counting.span.begin,
                                .end = counting.span.end,
                                .bound = counting.span.end,
                                .reverse = false,
                                .keys_only = true,
                                .bulk = false};
    step.outcome = counting.store->OpenCursor(options, &counting.cursor);
    if (!step.outcome.ok()) return step;
  }
  step.outcome = counting.cursor->Count(counting.step_rows, counting.now_ms, &step.counted);
  if (!step.outcome.ok() || step.counted < counting.step_rows) counting.cursor->Close();
  return step;
}

void Run(Call& call, std::shared_ptr<Counting> counting) {
  OffLoop(
      call, [counting] { return CountSome(*counting); },
      [counting](Call& waiting, const Step& step) {
        if (!step.outcome.ok() || !waiting.SessionHolds()) return waiting.Punt();
        counting->total += step.counted;
        if (step.counted == counting->step_rows) return Run(waiting, counting);
        waiting.Reply(CountResponse(counting->total));
      });
}

void Count(Call& call) {
  CountRequest request;
  if (!call.SessionHolds() || !Parse(call.message(), &request)) return call.Punt();
  Services& services = call.services();
  const Session& session = *call.session();
  auto counting = std::make_shared<Counting>();
  if (const auto failure = MakeReadable(session, request.database, request.range, &counting->span)) {
    return call.Fail(*failure);
  }
  counting->view = services.streams.Open(session.namespace_id);
  if (!counting->view) return call.Fail(Fail(Reason::kTooManyStreams));
  counting->store = services.store.Get();
  if (counting->store == nullptr || !call.SessionHolds()) return call.Punt();
  counting->now_ms = services.clock.now_ms();
  counting->step_rows = services.settings.bounds.count_step_rows;
  Run(call, std::move(counting));
}

}  // namespace

std::unique_ptr<Method> BeginCount(Call& call) {
  Count(call);
  return nullptr;
}

}  // namespace prefixdb::front
