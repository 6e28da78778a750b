// Scan: one view, streamed in pages as fast as the client takes them: the twin of prefixdb/service/scan.py.
//
//   worker: open the cursor, make a page ──► loop: look at the session, send it ──► worker: make the next one ──► ...
//
// A page is made from the cursor's rows where they lie, as the bytes that are sent. At most one waits while another is
// on its way to the client. Each row is looked at twice before it leaves: the cursor checks that it lies inside the
// span, and here its namespace and database are compared with the caller's.
//
// A short scan is no exception: one that reads what is in memory only, on the loop, would be quicker, but RocksDB's
// iterator passes over a file that it may not read where that file begins or ends in a range tombstone, and says
// nothing.
#include <algorithm>
#include <limits>
#include <utility>

#include "front/method_list.h"
#include "front/off_loop.h"
#include "front/rows.h"
#include "front/store_failure.h"

namespace prefixdb::front {
namespace {

// Times a scan asks for a store when the one it was given turns out to be closed, before it gives up.
constexpr int kStoresMax = 50;

// Shared by the method and the job that runs, so that it outlives a call that ends meanwhile.
struct Walk {
  CursorOptions options;
  std::string head;  // What every row begins with: namespace, family, database.
  std::shared_ptr<Store> store;
  std::shared_ptr<Cursor> cursor;  // Made by the first job.
  Streams::Slot slot;
};

struct Page {
  Outcome outcome;
  std::string message;
  uint64_t rows = 0;
  bool last = false;
};

// Makes a ScanResponse.
class PageMaker final : public RowTaker {
 public:
  PageMaker(const Walk& walk, uint64_t now_ms, uint64_t rows_max, Page* page)
      : walk_(walk), now_ms_(now_ms), rows_max_(rows_max), page_(page) {}

  Answer Take(std::string_view key, const StoredValue& value) override {
    if (!key.starts_with(walk_.head)) return Answer::kForeign;
    const std::string_view payload = walk_.options.keys_only ? std::string_view() : value.payload;
    AppendScanRow(key.substr(kDataHeadBytes), {payload, value.version, TtlMs(value.expires_at_ms, now_ms_)},
                  &page_->message);
    bytes_ += key.size() + payload.size();
    return ++page_->rows >= rows_max_ || bytes_ >= kScanPageBytesMax ? Answer::kEnough : Answer::kMore;
  }

 private:
  const Walk& walk_;
  const uint64_t now_ms_;
  const uint64_t rows_max_;
  Page* const page_;
  uint64_t bytes_ = 0;
};

void Fill(const Walk& walk, Cursor& cursor, Clock& clock, uint64_t rows_max, Page* page) {
  const uint64_t now_ms = clock.now_ms();
  PageMaker maker(walk, now_ms, rows_max, page);
  page->outcome = cursor.Visit(now_ms, &maker, &page->last);
}

Page MakePage(Walk& walk, Clock& clock, uint64_t rows_max, size_t bytes_expected) {
  Page page;
  if (walk.cursor == nullptr) page.outcome = walk.store->OpenCursor(walk.options, &walk.cursor);
  if (!page.outcome.ok()) return page;
  page.message.reserve(bytes_expected);
  Fill(walk, *walk.cursor, clock, rows_max, &page);
  if (!page.outcome.ok() || page.last) walk.cursor->Close();
  return page;
}

class Scan final : public Method {
 public:
  void Begin(Call& call);
  void OnMessage(Call&, std::string_view) override {}
  void OnHalfClose(Call&) override {}
  void OnDrained(Call& call) override { GoOn(call); }
  void OnReadmitted(Call& call) override;

 private:
  bool Prepare(Call& call);
  void GoOn(Call& call);
  void Fetch(Call& call);
  void Take(Call& call, Page page);
  void Send(Call& call);
  void AskForStore(Call& call);

  ScanRequest request_;
  Span whole_;  // Of the request; what is left of it when it resumes is the walk's.
  std::shared_ptr<Walk> walk_ = std::make_shared<Walk>();
  uint64_t left_ = std::numeric_limits<uint64_t>::max();
  size_t page_bytes_ = 0;  // Of the last page; the next will be like it.
  std::unique_ptr<Page> ready_;
  bool prepared_ = false;
  bool readmitting_ = false;
  bool busy_ = false;  // A job runs, or a question is open.
  int stores_ = 0;
};

void Scan::Begin(Call& call) {
  if (!call.SessionHolds()) {
    readmitting_ = true;
    return call.Readmit();
  }
  if (Prepare(call)) GoOn(call);
}

// Looks at the request, in the order of prefixdb/service/gate.py and scan.py; false when the call is over.
bool Scan::Prepare(Call& call) {
  prepared_ = true;
  const Session& session = *call.session();
  std::optional<Failure> failure;
  if (!Parse(call.message(), &request_)) {
    failure = NotAMessage();
  } else if (walk_->slot = call.services().streams.Open(session.namespace_id); !walk_->slot) {
    failure = Fail(Reason::kTooManyStreams);
  }
  if (!failure) failure = MakeReadable(session, request_.database, request_.range, &whole_);
  Span span = whole_;
  if (!failure) failure = Resume(request_.resume_after, request_.reverse, &span);
  if (failure) {
    call.Fail(*failure);
    return false;
  }
  walk_->head = whole_.begin.substr(0, kDataHeadBytes);
  walk_->options = {.begin = span.begin,
                    .end = span.end,
                    .bound = span.end,
                    .reverse = request_.reverse,
                    .keys_only = request_.keys_only,
                    .bulk = false};
  if (request_.limit != 0) left_ = request_.limit;
  return true;
}

void Scan::OnReadmitted(Call& call) {
  readmitting_ = false;
  if (!prepared_) return Begin(call);
  // A group or a grant was changed while the call was under way.
  const auto failure = CheckRange(*call.session(), Right::kRead, request_.database, whole_);
  return failure ? call.Fail(*failure) : GoOn(call);
}

// Sends the page that is ready when the client has taken the one before, and has the next one made.
void Scan::GoOn(Call& call) {
  if (readmitting_) return;
  if (!call.SessionHolds()) {
    readmitting_ = true;
    return call.Readmit();
  }
  if (ready_ != nullptr && call.unsent() == 0) Send(call);
  if (call.open() && ready_ == nullptr && !busy_) Fetch(call);
}

void Scan::Send(Call& call) {
  const std::unique_ptr<Page> page = std::move(ready_);
  if (page->rows > 0) call.Send(std::move(page->message));
  if (page->last) call.End();
}

void Scan::Fetch(Call& call) {
  if (walk_->store == nullptr) walk_->store = call.services().store.Get();
  if (walk_->store == nullptr) return AskForStore(call);
  busy_ = true;
  OffLoop(
      call,
      [walk = walk_, clock = &call.services().clock, rows = std::min(left_, kScanPageRowsMax), bytes = page_bytes_] {
        return MakePage(*walk, *clock, rows, bytes);
      },
      [this](Call& waiting, Page page) {
        busy_ = false;
        Take(waiting, std::move(page));
      });
}

void Scan::Take(Call& call, Page page) {
  if (page.outcome.fault == Fault::kClosed) {
    if (walk_->cursor == nullptr) return AskForStore(call);
    return call.Fail(Fail(Reason::kReadOnlyStore, "The store was reopened; start the scan again."));
  }
  if (!page.outcome.ok()) {
    busy_ = true;  // For good.
    return FailWith(call, NativeMethod::kScan, Doing::kRead, page.outcome);
  }
  if (request_.limit != 0) left_ -= page.rows;
  page.last |= left_ == 0;
  if (page.last) {
    if (walk_->cursor != nullptr) walk_->cursor->Close();
    walk_->slot.CloseView();
  }
  page_bytes_ = page.message.size();
  ready_ = std::make_unique<Page>(std::move(page));
  GoOn(call);
}

// The store is being exchanged.
void Scan::AskForStore(Call& call) {
  walk_->store.reset();
  busy_ = true;
  if (++stores_ > kStoresMax) return FailWith(call, NativeMethod::kScan, Doing::kRead, Outcome::Closed());
  call.services().upcalls.Ready(&call.loop(), {Doing::kRead},
                                WhileOpen(call, [this](Call& waiting, const std::optional<Failure>& failure) {
                                  busy_ = false;
                                  return failure ? waiting.Fail(*failure) : GoOn(waiting);
                                }));
}

}  // namespace

std::unique_ptr<Method> BeginScan(Call& call) {
  auto scan = std::make_unique<Scan>();
  scan->Begin(call);
  return scan;
}

}  // namespace prefixdb::front
