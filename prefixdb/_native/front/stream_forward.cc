// A call that the Python server answers: what it says is passed on, and the pace of both sides.

#include <algorithm>
#include <utility>

#include "front/http_connection.h"
#include "front/stream.h"

namespace prefixdb::front {
namespace {

constexpr uint64_t kForwardedShare = UINT64_MAX;  // No namespace has that number.
constexpr size_t kFreeBytes = 64 * kKib;          // What any call may send in any case.

}  // namespace

void Stream::StartForward(bool end_stream) {
  state_ = State::kForwarded;
  services_.metrics.forwarded.fetch_add(1, std::memory_order_relaxed);
  forward_ = connection_->gateway().upstream->Open(ForwardedHeaders(std::nullopt), end_stream, this, connection_);
  head_.Clear();
}

void Stream::Punt() {
  if (!open()) return;
  std::optional<std::chrono::milliseconds> left;
  if (deadline_) {
    left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - std::chrono::steady_clock::now());
    if (left->count() <= 0) return ExceedDeadline();
  }
  state_ = State::kForwarded;
  punted_ = true;
  ours_ = false;
  --connection_->gateway().running_count;
  services_.metrics.punted.fetch_add(1, std::memory_order_relaxed);
  loop_.Cancel(std::exchange(deadline_timer_, 0));
  BuryWork();
  forward_ = connection_->gateway().upstream->Open(ForwardedHeaders(left), false, this, connection_);
  std::string framed;
  framed.reserve(kMessageHeadBytes + message_.size());
  AppendMessageHead(message_.size(), &framed);
  framed += message_;
  BuryMessage();
  own_passed_on_ = framed.size();
  forward_->Write(framed, true);
}

Headers Stream::ForwardedHeaders(std::optional<std::chrono::milliseconds> left) const {
  Headers headers = head_.ToHeaders(left);
  // Before the client's own: gRPC reads no further than an entry that it takes for malformed.
  auto first = std::ranges::find_if(headers, [](const auto& entry) { return !entry.first.starts_with(':'); });
  first = headers.emplace(first, kPeerHeader, connection_->peer());
  const std::string& certificate = connection_->certificate_text();
  if (!certificate.empty()) headers.emplace(first, kPeerCertificateHeader, certificate);
  return headers;
}

void Stream::OnHeaders(Headers headers, bool end_stream) {
  if (connection_ == nullptr || state_ != State::kForwarded) return;
  responder_.PassHeaders(headers, end_stream);
  if (!end_stream) return;
  Ended(0);
  BuryWork();
}

void Stream::OnData(std::string_view data) {
  if (connection_ == nullptr || state_ != State::kForwarded) return;
  responder_.PassBytes(data);
}

void Stream::OnTrailers(Headers trailers) {
  if (connection_ == nullptr || state_ != State::kForwarded) return;
  responder_.PassTrailers(std::move(trailers));
  Ended(0);
  BuryWork();
}

void Stream::OnReset(uint32_t http2_error) {
  if (connection_ == nullptr || state_ != State::kForwarded) return;
  responder_.Reset(http2_error);
  Ended(0);
  BuryWork();
}

void Stream::OnLost(bool sent) {
  if (connection_ == nullptr || state_ != State::kForwarded) return;
  const auto& refusal = connection_->gateway().refusal;
  EndWith(StatusOf(sent ? front::Fail(Reason::kOutcomeUnknown) : refusal ? *refusal : front::Fail(Reason::kStarting)));
  BuryWork();
}

void Stream::OnPassedOn(size_t bytes) {
  if (connection_ == nullptr) return;
  const size_t own = std::min(bytes, own_passed_on_);
  own_passed_on_ -= own;
  not_passed_on_ -= std::min(bytes - own, not_passed_on_);
  if (state_ == State::kForwarded) {
    intake_.LeaveAllBut(std::max(not_passed_on_, last_message_.size()));
    CreditForwarded();
  }
  connection_->Wake();
}

// A message that is on its way is in Python's memory, which has no end of its own, until it is answered or the next one
// begins: so it stays in the account, and when that is full the client waits.
void Stream::CreditForwarded() {
  if (last_message_.size() > kFreeBytes) {
    if (!intake_.has_share()) intake_.Join(connection_->gateway().ShareOf(kForwardedShare));
    if (!intake_.HasRoom()) return;
  }
  intake_.CreditStreamAllBut(not_passed_on_);
}

}  // namespace prefixdb::front
