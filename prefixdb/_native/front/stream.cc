// A call's answer and its end, whichever comes first.
#include "front/stream.h"

#include <utility>

#include "front/http_connection.h"

namespace prefixdb::front {
namespace {

constexpr uint8_t kCancelled = 1;
// Smaller ones may be kept inside of the string, where a method still looks at them.
constexpr size_t kLargeMessageBytes = 4096;
constexpr uint8_t kDeadlineExceeded = 4;

std::string Seconds(std::chrono::milliseconds patience) { return std::to_string(patience.count() / 1000) + " s."; }

}  // namespace

Failure Halted() { return Fail(Reason::kInternal, "Serving was stopped; the server's log says why."); }

Stream::Stream(HttpConnection* connection, int32_t id)
    : connection_(connection),
      loop_(connection->gateway().loop),
      services_(connection->gateway().services),
      id_(id),
      intake_(connection->session(), connection->account(), id),
      responder_(connection, id) {}

void Stream::Reply(std::string message) {
  if (!open()) return;
  if (message.size() > connection_->gateway().limits.small_reply) {
    if (!services_.unread.Hold(session_->namespace_id, message.size())) {
      return Fail(TooMuchUnread());
    }
    unread_ = message.size();
  }
  checked_at_ = connection_->now();
  responder_.Push(std::move(message));
  EndWith({});
}

void Stream::Send(std::string message) {
  if (!open()) return;
  checked_at_ = connection_->now();
  responder_.Push(std::move(message));
}

void Stream::End() {
  if (open()) EndWith({});
}

void Stream::Fail(const Failure& failure) {
  if (!open()) return;
  // Rows that wait for the client were read under rules that do not hold any more.
  const bool lost = judging_ && failure.reason == static_cast<uint16_t>(Reason::kNotPermitted);
  lost ? CutWith(failure) : EndWith(StatusOf(failure));
}

// After the bytes that wait.
void Stream::EndWith(Status status) {
  if (!is_live()) return;
  const uint8_t code = status.code;
  responder_.Finish(std::move(status));
  Ended(code);
}

// At once, whatever waits; also when the status was known and waits itself.
void Stream::CutWith(Status status) {
  if (connection_ == nullptr) return;
  const uint8_t code = status.code;
  responder_.Cut(std::move(status));
  Ended(code);
  BuryWork();
  ReleaseUnread();
}

void Stream::Ended(uint8_t code) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  BuryMessage();
  ours_ ? intake_.Leave(std::exchange(message_bytes_, 0)) : intake_.LeaveAll();
  loop_.Cancel(std::exchange(deadline_timer_, 0));
  if (!ours_) return;
  const auto took = std::chrono::steady_clock::now() - started_;
  services_.metrics.CallEnded(
      facts_->method, code, static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
}

void Stream::ExceedDeadline() { CutWith({kDeadlineExceeded, "Deadline Exceeded", ""}); }

void Stream::BuryWork() {
  GatewayParts& gateway = connection_->gateway();
  if (method_) gateway.Bury(std::move(method_));
  if (forward_) gateway.Bury(std::move(forward_));
}

// What was asked is of no use any more: a client that does not take the answer keeps no room of the others.
void Stream::BuryMessage() {
  if (message_.size() <= kLargeMessageBytes) return;
  connection_->gateway().Bury(std::move(message_));
  message_.clear();
}

void Stream::ReleaseUnread() {
  if (unread_ > 0) services_.unread.Release(session_->namespace_id, std::exchange(unread_, 0));
}

// Answers of writes hold no rows, and whoever has written should hear of it.
bool Stream::CarriesRows() const noexcept {
  return ours_ && session_ != nullptr && (facts_->needs == Needs::kRead || streams());
}

ssize_t Stream::Offer(size_t most, uint32_t* flags) {
  // Before anything is promised: what is offered is taken at once (Take), so nothing can happen to it in between.
  if (connection_->frames()->size() >= connection_->gateway().limits.write_at_once) return NGHTTP2_ERR_PAUSE;
  if (responder_.bytes() > 0 && CarriesRows() && checked_at_ != connection_->now() && !SessionHolds()) {
    Readmit();
    return responder_.Defer();
  }
  return responder_.Offer(most, flags);
}

void Stream::Take(size_t count, std::string* out) {
  responder_.Take(count, out);
  if (forward_) forward_->Taken(count);
  if (responder_.bytes() == 0 && (method_ != nullptr || unread_ > 0)) connection_->OnDrained(this);
}

void Stream::OnFlushed() {
  if (connection_ == nullptr || responder_.bytes() > 0) return;
  if (state_ == State::kEnded) {
    ReleaseUnread();
    BuryWork();
  } else if (open() && method_ != nullptr) {
    method_->OnDrained(*this);
  }
}

void Stream::OnClosed() {
  if (connection_ == nullptr) return;
  Ended(kCancelled);
  ReleaseUnread();
  if (forward_) forward_->Reset(NGHTTP2_CANCEL);  // In this pass, so that Python never hears of what came in it.
  BuryWork();
  intake_.LeaveAll();
  if (std::exchange(ours_, false)) --connection_->gateway().running_count;
  head_.Clear();
  connection_ = nullptr;
}

void Stream::OnPassEnd() {
  if (!deadline_ || deadline_timer_ != 0 || !ours_ || !is_live()) return;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - loop_.now());
  deadline_timer_ = loop_.After(std::max(left, std::chrono::milliseconds(0)), [weak = weak_from_this()] {
    const auto call = weak.lock();
    if (call == nullptr) return;
    auto& stream = static_cast<Stream&>(*call);
    stream.deadline_timer_ = 0;
    if (stream.ours_ && stream.is_live()) stream.connection_->Guarded([&] { stream.ExceedDeadline(); });
  });
}

void Stream::Look(Loop::Time now) {
  if (connection_ == nullptr) return;
  Recheck();
  LookAtClient(now);
  if (ours_ && is_live() && wants_message_ && reader_) Pump();  // There may be room for more by now.
  if (state_ == State::kForwarded) CreditForwarded();
}

// Cuts the call of a client that does not move.
void Stream::LookAtClient(Loop::Time now) {
  const Limits& limits = connection_->gateway().limits;
  if (responder_.bytes() > 0 && now - responder_.moved_at() > limits.slow_reader) {
    if (!ours_) return responder_.DropIfFailed();  // Python has judged; what it said must still be heard.
    return CutWith(front::Fail(Reason::kDeadline, "The client took no message for " + Seconds(limits.slow_reader)));
  }
  if (!ours_ || !is_live() || !wants_message_) return;
  if (!facts_->client_streams) {
    if (now - started_ > limits.arrival) {
      CutWith(front::Fail(Reason::kDeadline, "The request did not arrive in time."));
    }
  } else if (partial_since_ && now - *partial_since_ > limits.arrival) {
    CutWith(front::Fail(Reason::kDeadline, "The request did not arrive in time."));
  } else if (state_ == State::kRunning && now - waiting_since_ > limits.pipeline_idle) {
    CutWith(front::Fail(Reason::kDeadline, "The client sent nothing for " + Seconds(limits.pipeline_idle)));
  }
}

void Stream::Recheck() {
  if (connection_ == nullptr || !ours_) return;
  if (services_.halted.load(std::memory_order_relaxed)) {
    if (is_live() || responder_.bytes() > 0) CutWith(Halted());
    return;
  }
  const bool waits = responder_.bytes() > 0 && CarriesRows();  // For a client that may never take it.
  if (((open() && streams()) || waits) && !SessionHolds()) Readmit();
}

void Stream::CountWaiting(Waiting* all) const noexcept {
  if (!ours_) return;
  all->for_taking += responder_.bytes() > 0 && checked_at_ != loop_.now();
  all->for_messages += is_live() && wants_message_ && !facts_->client_streams;
}

void Stream::Drain(const Failure& failure) {
  if (open() && facts_->client_streams && wants_message_) EndWith(StatusOf(failure));
}

void Stream::Cut(const Failure& failure) {
  if (!ours_ || !is_live()) return;
  // "Not now" would mean that nothing was done, and the committer may be at it.
  IsCommitting() ? CutWith(front::Fail(Reason::kOutcomeUnknown)) : CutWith(failure);
}

// A unary write that has begun is with the committer: any other was answered or handed over at once.
bool Stream::IsCommitting() const noexcept { return open() && facts_->needs != Needs::kRead && !streams(); }

}  // namespace prefixdb::front
