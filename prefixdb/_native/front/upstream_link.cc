#include "front/upstream_link.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <utility>

#include "front/upstream_callbacks.h"

namespace prefixdb::front {

namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr int kReadsPerPass = 4;  // Other descriptors have their turn, too.
constexpr size_t kOutBytes = 64 * 1024;
constexpr int kRoundsPerPass = 16;
constexpr uint32_t kStreamsBeforeSettings = 100;

// Not worth a place in the table that both sides keep of headers, or not fit to be kept at all.
bool IsKeptOut(std::string_view name) {
  return name == "authorization" || name == "grpc-timeout" || name == kPeerCertificateHeader;
}

uint8_t* Bytes(const std::string& text) {
  return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 copies, and says so.
}

}  // namespace

UpstreamLink::UpstreamLink(Loop* loop, int fd, const UpstreamLimits& limits, Owner* owner)
    : loop_(loop), owner_(owner), limits_(limits), fd_(fd), session_(Callbacks::NewSession(this)), in_(kReadBytes) {
  if (session_ == nullptr) throw std::bad_alloc();
  const std::array<nghttp2_settings_entry, 3> settings = {{
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(limits.stream_window_bytes)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(kAnswerHeadersBytesMax)},
  }};
  nghttp2_submit_settings(session_.get(), NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_.get(), NGHTTP2_FLAG_NONE, 0, INT32_MAX);
  nghttp2_session_set_next_stream_id(session_.get(), limits.first_stream);
  loop_->Watch(fd_, EPOLLIN, this);
}

UpstreamLink::~UpstreamLink() {
  if (fd_ >= 0) {
    loop_->Unwatch(fd_);
    close(fd_);
  }
  for (const auto& [stream, call] : calls_) {
    call->link = nullptr;
    call->End();
  }
}

UpstreamCall* UpstreamLink::Find(int32_t stream) const {
  const auto found = calls_.find(stream);
  return found == calls_.end() ? nullptr : found->second.get();
}

bool UpstreamLink::HasRoom() const {
  if (retired_ || fd_ < 0) return false;
  const uint32_t allowed =
      settled_ ? nghttp2_session_get_remote_settings(session_.get(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
               : kStreamsBeforeSettings;
  return calls_.size() < std::min<size_t>(limits_.running_max, allowed);
}

void UpstreamLink::Begin(UpstreamCallPtr call) {
  std::vector<nghttp2_nv> headers;
  headers.reserve(call->request.size());
  for (const auto& [name, value] : call->request) {
    const uint8_t flags = IsKeptOut(name) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
    headers.push_back({Bytes(name), Bytes(value), name.size(), value.size(), flags});
  }
  const bool has_body = !call->body_ended || !call->body.empty();
  nghttp2_data_provider body{};
  body.source.ptr = call.get();
  body.read_callback = Callbacks::ReadBody;
  ++call->tries;
  const int32_t stream = nghttp2_submit_request(session_.get(), nullptr, headers.data(), headers.size(),
                                                has_body ? &body : nullptr, nullptr);
  if (stream < 0) {
    retired_ = true;
    owner_->Return(std::move(call));
    return;
  }
  if (stream >= limits_.last_stream) retired_ = true;
  call->stream = stream;
  call->link = this;
  call->body_awaited = false;
  calls_.emplace(stream, std::move(call));
  owner_->WantFlush();
}

void UpstreamLink::Resume(UpstreamCall& call) {
  if (!call.body_awaited) return;
  call.body_awaited = false;
  nghttp2_session_resume_data(session_.get(), call.stream);
  owner_->WantFlush();
}

void UpstreamLink::Taken(UpstreamCall& call, size_t bytes) {
  bytes = std::min(bytes, call.untaken);
  call.untaken -= bytes;
  nghttp2_session_consume_stream(session_.get(), call.stream, bytes);
  owner_->WantFlush();
}

void UpstreamLink::Reset(UpstreamCall& call, uint32_t http2_error) {
  if (call.reset || (call.answer_over && call.body_over)) return;
  call.reset = true;
  nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, call.stream, http2_error);
  owner_->WantFlush();
}

void UpstreamLink::OnHeaderBlock(UpstreamCall& call, bool end_stream) {
  call.answer_over = end_stream;
  call.Uncount();
  if (call.sink == nullptr) return;
  Headers headers = std::exchange(call.arriving, {});
  if (call.answered) {
    if (!end_stream) return;  // nghttp2 lets none through.
    call.End()->OnTrailers(std::move(headers));
    return;
  }
  // 1xx is a word in between.
  if (!headers.empty() && headers.front().first == ":status" && headers.front().second.starts_with('1')) return;
  call.answered = true;
  ForwardSink* sink = end_stream ? call.End() : call.sink;
  sink->OnHeaders(std::move(headers), end_stream);
}

void UpstreamLink::OnEnd(UpstreamCall& call) {
  call.answer_over = true;
  if (call.sink != nullptr) call.End()->OnTrailers({});
}

// The stream is gone, or never came to be.
void UpstreamLink::CloseCall(int32_t stream, uint32_t http2_error) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  const UpstreamCallPtr call = std::move(found->second);
  calls_.erase(found);
  call->link = nullptr;
  if (!call->reset) call->Uncount();  // Else the server may be busy with it.
  owner_->WantFlush();
  if (call->sink == nullptr) return;
  if (!call->sent && retired_) {
    owner_->Return(call);
  } else {
    call->End()->OnReset(http2_error);
  }
}

void UpstreamLink::OnReady(uint32_t) {
  for (int reads = 0; reads < kReadsPerPass; ++reads) {
    const ssize_t bytes = recv(fd_, in_.data(), in_.size(), 0);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (bytes <= 0 || nghttp2_session_mem_recv(session_.get(), in_.data(), static_cast<size_t>(bytes)) < 0) {
      Break();
      break;
    }
    if (static_cast<size_t>(bytes) < in_.size()) break;
  }
  owner_->WantFlush();
}

void UpstreamLink::Flush() {
  more_ = false;
  for (int round = 0; fd_ >= 0; ++round) {
    const bool alive = Fill();
    const bool filled = !out_.empty();
    Tell();
    if (round == kRoundsPerPass) more_ = filled;
    if (!Drain() || (!alive && out_.empty())) {
      Break();
      return;
    }
    if (!filled || more_ || !out_.empty()) return;
  }
}

bool UpstreamLink::Fill() {
  while (out_.size() < kOutBytes) {
    const uint8_t* bytes = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
    if (size < 0) return false;
    if (size == 0) break;
    out_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  }
  return nghttp2_session_want_read(session_.get()) != 0 || nghttp2_session_want_write(session_.get()) != 0;
}

void UpstreamLink::Tell() {
  for (const UpstreamCallPtr& call : std::exchange(moved_, {})) {
    const size_t bytes = std::exchange(call->passed_on, 0);
    if (call->sink != nullptr) call->sink->OnPassedOn(bytes);
  }
  for (const int32_t stream : std::exchange(unsent_, {})) CloseCall(stream, NGHTTP2_INTERNAL_ERROR);
}

bool UpstreamLink::Drain() {
  size_t gone = 0;
  while (gone < out_.size()) {
    const ssize_t bytes = send(fd_, out_.data() + gone, out_.size() - gone, MSG_NOSIGNAL);
    if (bytes > 0) {
      gone += static_cast<size_t>(bytes);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      return false;
    }
  }
  out_.erase(0, gone);
  if (const bool waits = more_ || !out_.empty(); waits != waits_to_write_) {
    waits_to_write_ = waits;
    loop_->Rewatch(fd_, waits_to_write_ ? EPOLLIN | EPOLLOUT : EPOLLIN, this);
  }
  return true;
}

void UpstreamLink::Break() {
  if (fd_ < 0) return;
  loop_->Unwatch(fd_);
  close(std::exchange(fd_, -1));
  retired_ = true;
  const auto calls = std::exchange(calls_, {});
  for (const auto& [stream, call] : calls) {
    call->link = nullptr;
    call->Uncount();
  }
  for (const auto& [stream, call] : calls) {
    if (call->sink == nullptr) continue;
    if (!call->sent) {
      owner_->Return(call);
    } else {
      call->End()->OnLost(call->sent);
    }
  }
  owner_->WantFlush();
}

}  // namespace prefixdb::front
