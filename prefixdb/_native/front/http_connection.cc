// A connection from accept to end: handshake, reading, and the clocks that end it.
#include "front/http_connection.h"

#include <algorithm>
#include <span>
#include <utility>

#include "front/grpc_codec.h"
#include "front/session_callbacks.h"

namespace prefixdb::front {
namespace {

// A tenth sooner or later, so that clients that came together do not come again together.
std::chrono::milliseconds Spread(std::chrono::milliseconds age, Loop::Time made_at) {
  const auto parts = made_at.time_since_epoch().count() / 1'000 % 201;  // 0 .. 200
  return age + age * (parts - 100) / 1'000;
}

}  // namespace

HttpConnection::HttpConnection(GatewayParts* gateway, std::unique_ptr<Socket> socket)
    : gateway_(gateway),
      socket_(std::move(socket)),
      guard_(gateway->limits, gateway->loop.now()),
      account_(gateway->limits.incoming_per_connection, &gateway->incoming),
      made_at_(gateway->loop.now()),
      heard_at_(made_at_),
      wrote_at_(made_at_),
      busy_at_(made_at_),
      block_since_(made_at_),
      pinged_at_(made_at_),
      leaving_at_(made_at_),
      calmed_at_(made_at_),
      age_(Spread(gateway->limits.age, made_at_)) {}

HttpConnection::~HttpConnection() { Close(); }

Loop::Time HttpConnection::now() const noexcept { return gateway_->loop.now(); }

void HttpConnection::Start() {
  Guarded([this] {
    watched_ = EPOLLIN;
    gateway_->loop.Watch(socket_->fd(), watched_, this);
    Shake();
  });
}

// Goes on with the handshake; true when it is over.
bool HttpConnection::Shake() {
  if (shaken_) return true;
  const Socket::Progress progress = socket_->Handshake();
  if (progress.io == Socket::Io::kAgain) {
    Rewatch();
    return false;
  }
  if (progress.io != Socket::Io::kDone) {
    Break();
    return false;
  }
  shaken_ = true;
  admission_ = std::make_shared<Admission>(&gateway_->services, socket_->peer_certificate(),
                                           [this](int32_t id) { AskNext(id); });
  session_ = MakeSession(this, gateway_->limits);
  if (session_ == nullptr) Break();
  return session_ != nullptr;
}

// A call's token waited for its turn to be asked about.
void HttpConnection::AskNext(int32_t id) {
  if (closed_) return;
  if (Stream* const stream = StreamOf(id)) Guarded([&] { stream->AskInTurn(); });
}

void HttpConnection::OnReady(uint32_t events) {
  if (closed_) return;
  Guarded([&] {
    if (!Shake()) return;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 || more_) Read();
  });
}

void HttpConnection::Read() {
  const std::span<uint8_t> buffer(gateway_->read_buffer);
  more_ = false;
  size_t total = 0;
  while (!broken_ && !calmed_) {
    const Socket::Progress progress = socket_->Read(buffer);
    if (progress.io == Socket::Io::kAgain) {
      more_ = (socket_->wants() & EPOLLIN) == 0;
      return;
    }
    if (progress.io != Socket::Io::kDone) return Break();
    heard_at_ = now();
    if (nghttp2_session_mem_recv(session_, buffer.data(), progress.bytes) < 0) return Break();
    // In the clear the kernel tells when there is more.
    if (progress.bytes < buffer.size() && !socket_->is_tls()) return;
    total += progress.bytes;
    if (total >= gateway_->limits.read_per_pass) {
      more_ = true;  // Others have their turn; this one comes back, for the socket can be written to.
      return;
    }
  }
}

void HttpConnection::Wake() noexcept {
  if (!closed_) gateway_->Wake(this);
}

// The connection is closed when GOAWAY has gone, or when the peer does not take it soon.
void HttpConnection::Calm() noexcept {
  if (std::exchange(calmed_, true)) return;
  calmed_at_ = now();
  if (nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM) != 0) Break();
}

const std::string& HttpConnection::certificate_text() {
  if (certificate_text_.empty()) certificate_text_ = Base64(socket_->peer_certificate());
  return certificate_text_;
}

void HttpConnection::OpenStream(int32_t id) {
  auto stream = std::make_shared<Stream>(this, id);
  stream->place = streams_.size();
  nghttp2_session_set_stream_user_data(session_, id, stream.get());
  streams_.push_back(std::move(stream));
  fresh_ = true;
}

void HttpConnection::StreamClosed(Stream* stream) {
  std::shared_ptr<Stream> closed = std::move(streams_[stream->place]);
  streams_.back().swap(streams_[closed->place]);
  if (streams_[closed->place] != nullptr) streams_[closed->place]->place = closed->place;
  streams_.pop_back();
  busy_at_ = now();
  nghttp2_session_set_stream_user_data(session_, closed->id(), nullptr);
  closed->OnClosed();
  gateway_->Bury(std::move(closed));
}

void HttpConnection::Close() {
  if (std::exchange(closed_, true)) return;
  for (const auto& stream : streams_) {
    stream->OnClosed();
    gateway_->Bury(stream);
  }
  streams_.clear();
  nghttp2_session_del(session_);
  session_ = nullptr;
  gateway_->loop.Unwatch(socket_->fd());
  socket_->Farewell();
  socket_.reset();
  gateway_->services.metrics.connections.fetch_sub(1, std::memory_order_relaxed);
  gateway_->Forget(this);
}

// The sweep.
void HttpConnection::Look(Loop::Time now) {
  const Limits& limits = gateway_->limits;
  if (closed_) return;
  const bool late = (calmed_ && now - calmed_at_ > limits.goaway_notice) ||
                    (!settled_ && now - made_at_ > limits.handshake) ||
                    (block_open_ && now - block_since_ > limits.handshake) ||
                    (!leftover_.empty() && now - wrote_at_ > limits.write_stall);
  if (late) return Close();
  if (!shaken_) return;
  Guarded([&] {
    for (size_t i = 0; i < streams_.size(); ++i) streams_[i]->Look(now);
    if (!streams_.empty()) busy_at_ = now;
    KeepAlive(now);
    SayGoodbye(now);
  });
}

void HttpConnection::KeepAlive(Loop::Time now) {
  const Limits& limits = gateway_->limits;
  if (heard_at_ > pinged_at_) pinged_ = false;
  if (pinged_) {
    if (now - pinged_at_ > limits.keepalive_answer) Break();
  } else if (now - heard_at_ > limits.keepalive) {
    pinged_ = true;
    pinged_at_ = now;
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  }
}

// GOAWAY in two steps: the first asks for no more calls, and those that were on their way meanwhile are served.
void HttpConnection::SayGoodbye(Loop::Time now) {
  const Limits& limits = gateway_->limits;
  if (!leaving_) {
    const bool idle = streams_.empty() && now - busy_at_ > limits.idle;
    if (!idle && now - made_at_ <= age_) return;
    return Leave();
  }
  if (now - leaving_at_ > limits.goaway_notice) SayLast();
  if (now - leaving_at_ > limits.age_grace) Break();
}

void HttpConnection::Leave() {
  if (leaving_ || session_ == nullptr) return;
  leaving_ = true;
  leaving_at_ = now();
  nghttp2_submit_shutdown_notice(session_);
}

// When the calls that are open have ended, too, the connection is closed.
void HttpConnection::SayLast() {
  if (left_ || session_ == nullptr) return;
  left_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

void HttpConnection::Recheck() {
  if (closed_) return;
  Guarded([&] {
    for (size_t i = 0; i < streams_.size(); ++i) streams_[i]->Recheck();
  });
}

void HttpConnection::CountWaiting(Waiting* all) const noexcept {
  for (const auto& stream : streams_) stream->CountWaiting(all);
}

void HttpConnection::Drain(const Failure& failure) {
  if (closed_) return;
  Guarded([&] {
    for (size_t i = 0; i < streams_.size(); ++i) streams_[i]->Drain(failure);
    Leave();
  });
}

void HttpConnection::Cut(const Failure& failure) {
  if (closed_) return;
  Guarded([&] {
    for (size_t i = 0; i < streams_.size(); ++i) streams_[i]->Cut(failure);
    Leave();
    SayLast();
  });
}

}  // namespace prefixdb::front
