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
  uint64_t taken = 0;
  const auto take = [this, block](std::string_view key, const StoredValue& value) {
    const std::string_view payload = options_.keys_only ? std::string_view() : block->bytes.Copy(value.payload);
    block->rows.push_back({block->bytes.Copy(key), payload, value.version, value.expires_at_ms});
    return key.size() + payload.size();
  };
  return Walk({max_rows, max_bytes, now_ms}, &taken, take);
}

Outcome Cursor::Count(uint64_t max_rows, uint64_t now_ms, uint64_t* counted) {
  *counted = 0;
  const auto take = [](std::string_view, const StoredValue&) { return size_t{0}; };
  while (*counted < max_rows) {
    uint64_t taken = 0;
    Outcome outcome = Walk({std::min(max_rows - *counted, kCountAtOnce), UINT64_MAX, now_ms}, &taken, take);
    if (!outcome.ok()) return outcome;
    if (taken == 0) break;
    *counted += taken;
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
Outcome Cursor::Walk(const Limits& limits, uint64_t* taken, Take take) {
  if (generation_ != ForkGeneration()) return Outcome::Closed();
  const std::lock_guard lock(mutex_);
  if (iterator_ == nullptr || closing_.load(std::memory_order_relaxed))
    return {Fault::kClosed, false, "the cursor is closed"};
  if (done_) return {};
  if (!started_) Start();
  const auto deadline = std::chrono::steady_clock::now() + kFetchTimeMax;
  uint64_t size = 0;
  for (uint64_t looked_at = 1;; ++looked_at) {
    if (!iterator_->Valid()) {
      const rocksdb::Status status = iterator_->status();
      if (status.ok()) {
        done_ = true;
        return {};
      }
      // What lies in front of the damage is good; the next call meets it again, with nothing to return.
      return *taken > 0 ? Outcome{} : Outcome::Of(status);
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
    if (!value) return *taken > 0 ? Outcome{} : Outcome::DamagedRow();
    if (limits.now_ms == 0 || !value->ExpiredAt(limits.now_ms)) {
      size += take(key, *value);
      ++*taken;
    }
    if (options_.reverse) {
      iterator_->Prev();
    } else {
      iterator_->Next();
    }
    if (*taken >= limits.max_rows || size >= limits.max_bytes) return {};
    if (looked_at % kLookAtTimeEvery == 0) {
      if (closing_.load(std::memory_order_relaxed)) return {Fault::kClosed, false, "the cursor is closed"};
      if (*taken > 0 && std::chrono::steady_clock::now() > deadline) return {};
    }
  }
}

}  // namespace prefixdb
