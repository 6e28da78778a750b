// A call until its method has what it needs: headers, admission, messages.

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "front/http_connection.h"
#include "front/stream.h"

namespace prefixdb::front {
namespace {

constexpr uint8_t kResourceExhausted = 8;
// gRPC can say ten thousand years, and some clients say hundreds for "never": beyond what the clock can count.
constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours(100 * 365 * 24);

bool May(const Session& session, Needs needs) noexcept {
  switch (needs) {
    case Needs::kRead:
      return session.rules.Any(Right::kRead);
    case Needs::kWrite:
      return session.rules.Any(Right::kWrite);
    case Needs::kEither:
      return session.rules.Any(Right::kRead) || session.rules.Any(Right::kWrite);
  }
  return false;
}

}  // namespace

void Stream::ReceiveHeader(std::string_view name, std::string_view value) {
  const Limits& limits = connection_->gateway().limits;
  head_.Add(name, value, limits.header_bytes);
  if (name == ":path") facts_ = connection_->gateway().find(value);
  if (head_.bytes() > limits.header_bytes_fatal) connection_->Calm();
}

void Stream::ReceiveHead(bool end_stream) {
  started_ = std::chrono::steady_clock::now();
  remote_ended_ = end_stream;
  if (!head_.is_path_ascii()) return ResetHead();
  if (head_.bytes() > connection_->gateway().limits.header_bytes) return RefuseHead();
  if (facts_ == nullptr || !head_.is_plain()) return StartForward(end_stream);
  Judge();
}

// A path is ASCII (RFC 3986). gRPC's server in Python ends, with everybody's calls, over one that is not UTF-8.
void Stream::ResetHead() {
  if (!connection_->guard().Allows(FloodGuard::Kind::kRefused, connection_->now())) return connection_->Calm();
  head_.Clear();
  responder_.Reset(NGHTTP2_PROTOCOL_ERROR);
  Ended(0);
}

// As gRPC's own server says it.
void Stream::RefuseHead() {
  if (!connection_->guard().Allows(FloodGuard::Kind::kRefused, connection_->now())) return connection_->Calm();
  const std::string text = "received metadata size exceeds hard limit (" + std::to_string(head_.bytes()) + " vs. " +
                           std::to_string(connection_->gateway().limits.header_bytes) + ")";
  head_.Clear();
  EndWith({kResourceExhausted, text, ""});
}

// The order of prefixdb/service/gate.py.
void Stream::Judge() {
  GatewayParts& gateway = connection_->gateway();
  ours_ = true;
  ++gateway.running_count;
  if (head_.timeout()) {
    if (head_.timeout()->count() == 0) return ExceedDeadline();
    deadline_ = connection_->now() + std::min(*head_.timeout(), kLongestTimeout);
  }
  if (services_.halted.load(std::memory_order_relaxed)) return EndWith(StatusOf(Halted()));
  if (gateway.refusal) return EndWith(StatusOf(*gateway.refusal));
  Admit();
}

Token Stream::token() const {
  auto token = TokenOf(head_, services_.settings.anonymous);
  return std::holds_alternative<Token>(token) ? std::get<Token>(token) : Token();
}

void Stream::Admit() {
  state_ = State::kAdmitting;
  const auto token = TokenOf(head_, services_.settings.anonymous);
  if (const auto* refusal = std::get_if<Failure>(&token)) return EndWith(StatusOf(*refusal));
  reader_.emplace(connection_->gateway().limits.message_bytes, head_.gzip());
  if (const SessionPtr& session = connection_->admission().Find(std::get<Token>(token)); session != nullptr) {
    return OnAdmitted({session, std::nullopt});
  }
  AskPython();
}

void Stream::AskPython() {
  auto then = [weak = weak_from_this()](Admitted answer) {
    const auto call = weak.lock();
    if (call == nullptr) return;
    auto& stream = static_cast<Stream&>(*call);
    if (stream.connection_ == nullptr) return;
    HttpConnection* const connection = stream.connection_;
    connection->Guarded([&] {
      if (answer.session) connection->admission().Remember(stream.token(), answer.session);
      stream.TakeAnswer(std::move(answer));
    });
  };
  asks_later_ = !connection_->admission().Ask(&loop_, id_, token(), std::move(then));
}

// Others have asked meanwhile, perhaps about the same token.
void Stream::AskInTurn() {
  if (!std::exchange(asks_later_, false) || (state_ != State::kAdmitting && !readmitting_)) return;
  const SessionPtr session = connection_->admission().Find(token());
  session != nullptr ? TakeAnswer({session, std::nullopt}) : AskPython();
}

void Stream::TakeAnswer(Admitted answer) {
  readmitting_ ? OnReadmitted(std::move(answer)) : OnAdmitted(std::move(answer));
}

void Stream::OnAdmitted(Admitted answer) {
  if (state_ != State::kAdmitting) return;
  if (answer.refusal) return EndWith(StatusOf(*answer.refusal));
  session_ = std::move(answer.session);
  state_ = State::kReceiving;
  if (facts_->client_streams) Begin();
  Pump();
}

void Stream::Readmit() {
  if (readmitting_ || connection_ == nullptr) return;
  readmitting_ = true;
  // Another call may have asked already. The answer is told later all the same, as the method expects it.
  if (const SessionPtr session = connection_->admission().Find(token()); session != nullptr) {
    return loop_.Post([weak = weak_from_this(), session] {
      const auto call = weak.lock();
      if (call == nullptr) return;
      auto& stream = static_cast<Stream&>(*call);
      if (stream.connection_ == nullptr) return;
      stream.connection_->Guarded([&] { stream.OnReadmitted({session, std::nullopt}); });
    });
  }
  AskPython();
}

void Stream::OnReadmitted(Admitted answer) {
  readmitting_ = false;
  if (!ours_) return;
  if (answer.refusal) return CutWith(*answer.refusal);
  const SessionPtr before = std::exchange(session_, std::move(answer.session));
  if (!May(*session_, facts_->needs)) return CutWith(front::Fail(Reason::kNotPermitted));
  // Nobody knows any more which keys an answer was made of. Of a scan its range is known, and it looks itself.
  if (responder_.bytes() > 0 && facts_->method != NativeMethod::kScan && before->rules != session_->rules) {
    if (facts_->needs != Needs::kRead) return CutWith(front::Fail(Reason::kOutcomeUnknown));  // It tells of writes.
    return CutWith(front::Fail(Reason::kWriteStall, "The rules were changed before the answer was taken; ask again."));
  }
  responder_.Resume();
  if (std::exchange(begin_after_, false)) {
    Begin();
    Pump();
  } else if (open() && method_ != nullptr) {
    judging_ = true;
    method_->OnReadmitted(*this);
    judging_ = false;
  }
}

void Stream::Begin() {
  if (!is_live()) return;  // It ended while Python was asked.
  if (services_.halted.load(std::memory_order_relaxed)) return CutWith(Halted());
  if (!SessionHolds()) {
    begin_after_ = true;
    return Readmit();
  }
  if (!May(*session_, facts_->needs)) return EndWith(StatusOf(front::Fail(Reason::kNotPermitted)));
  state_ = State::kRunning;
  waiting_since_ = connection_->now();
  method_ = facts_->begin(*this);
  if (state_ == State::kForwarded) {  // Punted at once: what was begun ends, what was handed over begins.
    if (method_) connection_->gateway().Bury(std::move(method_));
  } else if (!open() && responder_.bytes() == 0) {
    BuryWork();
  }
}

void Stream::ReceiveData(std::string_view bytes) {
  const bool has_message = !wants_message_ && facts_ != nullptr && !facts_->client_streams;
  if (connection_ == nullptr || state_ == State::kEnded || state_ == State::kHead || punted_ ||
      (ours_ && has_message)) {
    if (connection_ != nullptr) nghttp2_session_consume_connection(connection_->session(), bytes.size());
    return;
  }
  intake_.Arrive(bytes.size());
  if (state_ == State::kForwarded) {
    if (last_message_.is_whole()) intake_.Finish();  // The next one begins.
    last_message_.Add(bytes);
    not_passed_on_ += bytes.size();
    return forward_->Write(bytes, false);
  }
  reader_->Add(bytes);
  Pump();
}

void Stream::ReceiveEnd() {
  if (remote_ended_ || connection_ == nullptr) return;
  remote_ended_ = true;
  if (state_ == State::kForwarded && !punted_) return forward_->Write({}, true);
  Pump();
}

void Stream::NextMessage() {
  if (!open()) return;
  if (connection_->gateway().refusal) return EndWith(StatusOf(*connection_->gateway().refusal));
  wants_message_ = true;
  waiting_since_ = connection_->now();
  Pump();
}

// Hands over the messages that are there, one after the other.
void Stream::Pump() {
  if (pumping_ || state_ == State::kAdmitting) return;
  pumping_ = true;
  while (ours_ && is_live() && wants_message_ && !begin_after_ && PumpOne()) {
  }
  pumping_ = false;
}

void Stream::PumpLater() {
  if (std::exchange(pumps_later_, true)) return;
  loop_.Post([weak = weak_from_this()] {
    const auto call = weak.lock();
    if (call == nullptr) return;
    auto& stream = static_cast<Stream&>(*call);
    stream.pumps_later_ = false;
    if (stream.connection_ != nullptr) stream.connection_->Guarded([&] { stream.Pump(); });
  });
}

// Whether to go on.
bool Stream::PumpOne() {
  intake_.Leave(std::exchange(message_bytes_, 0));
  GatewayParts& gateway = connection_->gateway();
  const bool packed = head_.gzip() && reader_->buffered() > 0;
  if (packed && !gateway.MayUnpack()) {
    PumpLater();
    return false;
  }
  const size_t before = reader_->buffered();
  Failure failure;
  const MessageReader::Found found = reader_->Next(&message_, &failure);
  message_bytes_ = before - reader_->buffered();
  if (packed && found == MessageReader::Found::kMessage) gateway.Unpacked(message_.size());
  if (packed && found == MessageReader::Found::kBad) gateway.Unpacked(gateway.limits.message_bytes);
  switch (found) {
    case MessageReader::Found::kBad:
      EndWith({failure.code, PercentEncode(failure.message), ""});
      return false;
    case MessageReader::Found::kNeedMore:
      intake_.Leave(std::exchange(message_bytes_, 0));
      OnNoMore();
      return false;
    case MessageReader::Found::kMessage:
      break;
  }
  wants_message_ = false;
  partial_since_.reset();
  intake_.Finish();
  if (message_.size() > message_bytes_) {
    const size_t more = message_.size() - message_bytes_;
    if (!intake_.Grow(more)) {
      EndWith(StatusOf(front::Fail(Reason::kRateLimited)));
      return false;
    }
    message_bytes_ += more;
  }
  if (!facts_->client_streams) {
    Begin();
    return false;
  }
  intake_.CreditStream();
  method_->OnMessage(*this, message_);
  return true;
}

// No whole message is here.
void Stream::OnNoMore() {
  if (!remote_ended_) {
    if (reader_->partial() && !partial_since_) partial_since_ = connection_->now();
    if (reader_->missing() == 0) return;
    if (!intake_.has_share()) intake_.Join(connection_->gateway().ShareOf(session_->namespace_id));
    if (!intake_.HasRoom()) return;
    const Limits& limits = connection_->gateway().limits;
    if (reader_->missing() > static_cast<size_t>(limits.stream_window)) intake_.Widen(limits.stream_window_large);
    intake_.CreditStream();
  } else if (!facts_->client_streams) {
    EndWith(StatusOf(front::Fail(Reason::kBadField, "The call carries no message.")));
  } else if (!std::exchange(half_closed_, true)) {
    method_->OnHalfClose(*this);
  }
}

}  // namespace prefixdb::front
