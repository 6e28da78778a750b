#include "cursor.h"

#include <chrono>
#include <utility>

#include "slices.h"
#include "value_codec.h"

namespace prefixdb {

namespace {

constexpr auto kFetchTimeMax = std::chrono::milliseconds(10);
constexpr uint64_t kLookAtTimeEvery = 128;  // Rows.
constexpr uint64_t kCountAtOnce = 4096;     // Rows between two chances for Close.

}  // namespace

Cursor::Cursor(CursorOptions options, std::unique_ptr<Bounds> bounds, std::unique_ptr<rocksdb::Iterator> iterator,
               uint64_t generation, std::shared_ptr<Views> views)
    : options_(std::move(options)),
      generation_(generation),
      views_(std::move(views)),
      bounds_(std::move(bounds)),
      iterator_(std::move(iterator)),
      done_(options_.begin == options_.end) {
  views_->Add();
}

Cursor::~Cursor() {
  if (generation_ != ForkGeneration()) {
    // In a forked child the destructor would enter the parent's engine.
    static_cast<void>(iterator_.release());
    static_cast<void>(bounds_.release());
    return;
  }
  // The store may be closing in another thread and cannot see this cursor any more: it waits for the count.
  ReleaseView();
}

void Cursor::ReleaseView() {
  if (iterator_ == nullptr) return;
  iterator_.reset();
  bounds_.reset();
  views_->Remove();
}

Outcome Cursor::Fetch(uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms, RowBlock* block) {
  uint64_t size = 0;
  return Walk(now_ms, true, [&](std::string_view key, const StoredValue& value) {
    const std::string_view payload = options_.keys_only ? std::string_view() : block->bytes.Copy(value.payload);
    block->rows.push_back({block->bytes.Copy(key), payload, value.version, value.expires_at_ms});
    size += key.size() + payload.size();
    return block->rows.size() >= max_rows || size >= max_bytes ? Next::kEnough : Next::kMore;
  });
}

Outcome Cursor::Visit(uint64_t now_ms, RowTaker* taker, bool* ended) {
  Outcome outcome = Walk(now_ms, true, [taker](std::string_view key, const StoredValue& value) {
    switch (taker->Take(key, value)) {
      case RowTaker::Answer::kMore:
        return Next::kMore;
      case RowTaker::Answer::kEnough:
        return Next::kEnough;
      case RowTaker::Answer::kForeign:
        break;
    }
    return Next::kForeign;
  });
  const std::lock_guard lock(mutex_);
  *ended = done_;
  return outcome;
}

Outcome Cursor::Pack(uint64_t now_ms, RowPacker* packer) {
  if (options_.reverse || options_.keys_only) return Outcome::Invalid("only whole rows in ascending order are packed");
  return Walk(now_ms, false, [packer](std::string_view key, const StoredValue& value) {
    switch (packer->Add(key, value)) {
      case RowPacker::Answer::kTaken:
        return Next::kMore;
      case RowPacker::Answer::kFull:
        return Next::kEnough;
      case RowPacker::Answer::kNotThis:
        return Next::kNotThis;
      case RowPacker::Answer::kForeign:
      case RowPacker::Answer::kOutOfOrder:
        break;
    }
    return Next::kForeign;
  });
}

Outcome Cursor::Count(uint64_t max_rows, uint64_t now_ms, uint64_t* counted) {
  *counted = 0;
  while (*counted < max_rows) {
    const uint64_t before = *counted;
    const uint64_t most = before + std::min(max_rows - before, kCountAtOnce);
    Outcome outcome = Walk(now_ms, true, [counted, most](std::string_view, const StoredValue&) {
      return ++*counted >= most ? Next::kEnough : Next::kMore;
    });
    if (!outcome.ok()) return outcome;
    if (*counted == before) break;
  }
  return {};
}

void Cursor::Close() {
  if (generation_ != ForkGeneration()) return;
  closing_.store(true);
  const std::lock_guard lock(mutex_);
  ReleaseView();
}

void Cursor::Start() {
  started_ = true;
  if (options_.reverse) {
    iterator_->SeekForPrev(options_.end);
  } else {
    iterator_->Seek(options_.begin);
  }
}

template <typename Take>
Outcome Cursor::Walk(uint64_t now_ms, bool timed, Take take) {
  if (generation_ != ForkGeneration()) return Outcome::Closed();
  const std::lock_guard lock(mutex_);
  if (iterator_ == nullptr || closing_.load(std::memory_order_relaxed))
    return {Fault::kClosed, false, "the cursor is closed"};
  if (done_) return {};
  if (!started_) Start();
  const auto deadline = std::chrono::steady_clock::now() + kFetchTimeMax;
  bool taken = false;
  for (uint64_t looked_at = 1;; ++looked_at) {
    if (!iterator_->Valid()) {
      const rocksdb::Status status = iterator_->status();
      if (status.ok()) {
        done_ = true;
        return {};
      }
      // What lies in front of the damage is good; the next call meets it again, with nothing to return.
      return taken ? Outcome{} : Outcome::Of(status);
    }
    const std::string_view key = AsView(iterator_->key());
    if (!InSpan(key)) {
      if (options_.reverse && key < options_.begin) {
        done_ = true;
        return {};
      }
      return Outcome::SpanViolation();
    }
    const auto value = DecodeValue(AsView(iterator_->value()));
    if (!value) return taken ? Outcome{} : Outcome::DamagedRow();
    Next next = Next::kMore;
    if (now_ms == 0 || !value->ExpiredAt(now_ms)) {
      next = take(key, *value);
      if (next == Next::kForeign) return Outcome::SpanViolation();
      if (next == Next::kNotThis) return {};
      taken = true;
    }
    if (options_.reverse) {
      iterator_->Prev();
    } else {
      iterator_->Next();
    }
    if (next == Next::kEnough) {
      if (!iterator_->Valid() && iterator_->status().ok()) done_ = true;
      return {};
    }
    if (looked_at % kLookAtTimeEvery == 0) {
      if (closing_.load(std::memory_order_relaxed)) return {Fault::kClosed, false, "the cursor is closed"};
      if (timed && taken && std::chrono::steady_clock::now() > deadline) return {};
    }
  }
}

}  // namespace prefixdb
