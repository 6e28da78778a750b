// A server as the front's upstream sees one, for tests: nghttp2's server session on a unix socket, which does on each
// stream what the test says, and a sink that notes what it was told. All of it lives on one loop's thread.
#pragma once

#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "front/descriptor.h"
#include "front/upstream_limits.h"
#include "loop_support.h"
#include "support.h"

namespace prefixdb::test {

using front::Descriptor;
using front::Forward;
using front::Headers;
using front::Loop;

inline std::string ValueOf(const Headers& headers, const std::string& name) {
  for (const auto& [each, value] : headers) {
    if (each == name) return value;
  }
  return "";
}

// One stream as the server sees it.
struct Exchange {
  Headers headers;
  std::string body;
  bool ended = false;
  std::optional<uint32_t> reset;
  bool closed = false;
  std::string answer;  // Not sent yet.
  bool answer_ends = false;
  bool asleep = false;
  Headers trailers;
};

// One connection of the server. Belongs to the loop's thread.
class ServerPeer : public Loop::Watcher {
 public:
  ServerPeer(Loop* loop, Descriptor socket, uint32_t streams_max) : loop_(loop), socket_(std::move(socket)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* options = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1);
    nghttp2_option_set_max_send_header_block_length(options, 1 << 20);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_server_new2(&session_, callbacks, this, options);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams_max}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 1);
    loop_->Watch(socket_.get(), EPOLLIN, this);
    Flush();
  }
  ~ServerPeer() override {
    Close();
    nghttp2_session_del(session_);
  }

  void Close() {
    if (!socket_) return;
    loop_->Unwatch(socket_.get());
    socket_.Close();
  }
  bool gone() const { return !socket_; }

  // --- what a test has it do; each ends with what must be sent being sent.
  void Head(int32_t stream, const Headers& headers, bool end_stream = false) {
    const auto fields = Fields(headers);
    nghttp2_submit_headers(session_, end_stream ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE, stream, nullptr,
                           fields.data(), fields.size(), nullptr);
    Flush();
  }
  // More of the answer's body, after Head.
  void Say(int32_t stream, std::string_view data, bool last = false, Headers trailers = {}) {
    Exchange& exchange = streams[stream];
    exchange.answer.append(data);
    exchange.answer_ends = last;
    exchange.trailers = std::move(trailers);
    if (exchange.asleep) {
      exchange.asleep = false;
      nghttp2_session_resume_data(session_, stream);
    } else {
      nghttp2_data_provider body{};
      body.source.ptr = this;
      body.read_callback = ReadAnswer;
      nghttp2_submit_data(session_, NGHTTP2_FLAG_END_STREAM, stream, &body);
    }
    Flush();
  }
  void Reset(int32_t stream, uint32_t error) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, error);
    Flush();
  }
  void Goaway(int32_t last_stream) {
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last_stream, NGHTTP2_NO_ERROR, nullptr, 0);
    Flush();
  }
  void Ping() {
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
    Flush();
  }
  void Raw(std::string_view bytes) { static_cast<void>(!write(socket_.get(), bytes.data(), bytes.size())); }
  // From now on, and for what is there: bytes of requests are taken.
  void Take() {
    takes = true;
    for (auto& [stream, bytes] : untaken_) nghttp2_session_consume(session_, stream, std::exchange(bytes, 0));
    Flush();
  }

  size_t running() const {
    return static_cast<size_t>(
        std::count_if(streams.begin(), streams.end(), [](const auto& each) { return !each.second.closed; }));
  }

  std::map<int32_t, Exchange> streams;
  bool takes = true;
  size_t resets = 0;  // RST_STREAM frames that came.
  size_t pongs = 0;
  std::function<void(ServerPeer&, int32_t)> on_ended;  // A request is whole.

  void OnReady(uint32_t) override {
    uint8_t buffer[16 * 1024];
    const ssize_t bytes = recv(socket_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (bytes < 0 && errno == EAGAIN) return Flush();
    if (bytes <= 0 || nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(bytes)) < 0) return Close();
    Flush();
  }

 private:
  static ServerPeer& Of(void* self) { return *static_cast<ServerPeer*>(self); }
  static std::string Text(const uint8_t* bytes, size_t size) { return {reinterpret_cast<const char*>(bytes), size}; }
  static std::vector<nghttp2_nv> Fields(const Headers& headers) {
    std::vector<nghttp2_nv> fields;
    for (const auto& [name, value] : headers) {
      auto bytes = [](const std::string& text) {
        return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));
      };
      fields.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    return fields;
  }

  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes,
                      const uint8_t* value, size_t value_bytes, uint8_t, void* self) {
    Of(self).streams[frame->hd.stream_id].headers.emplace_back(Text(name, name_bytes), Text(value, value_bytes));
    return 0;
  }
  static int OnData(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* data, size_t bytes, void* self) {
    ServerPeer& peer = Of(self);
    peer.streams[stream].body.append(Text(data, bytes));
    if (peer.takes) {
      nghttp2_session_consume(session, stream, bytes);
    } else {
      peer.untaken_[stream] += bytes;
    }
    return 0;
  }
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    ServerPeer& peer = Of(self);
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) ++peer.pongs;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
      ++peer.resets;
      peer.streams[frame->hd.stream_id].reset = frame->rst_stream.error_code;
    }
    const bool has_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (has_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      peer.streams[frame->hd.stream_id].ended = true;
      if (peer.on_ended) peer.on_ended(peer, frame->hd.stream_id);
    }
    return 0;
  }
  static int OnClose(nghttp2_session*, int32_t stream, uint32_t, void* self) {
    Of(self).streams[stream].closed = true;
    return 0;
  }
  static ssize_t ReadAnswer(nghttp2_session* session, int32_t stream, uint8_t* buffer, size_t room, uint32_t* flags,
                            nghttp2_data_source*, void* self) {
    Exchange& exchange = Of(self).streams[stream];
    const size_t bytes = std::min(room, exchange.answer.size());
    std::memcpy(buffer, exchange.answer.data(), bytes);
    exchange.answer.erase(0, bytes);
    if (exchange.answer.empty() && exchange.answer_ends) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (!exchange.trailers.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto fields = Fields(exchange.trailers);
        nghttp2_submit_trailer(session, stream, fields.data(), fields.size());
      }
    } else if (bytes == 0) {
      exchange.asleep = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(bytes);
  }

  void Flush() {
    while (socket_) {
      if (out_.empty()) {
        const uint8_t* bytes = nullptr;
        const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
        if (size <= 0) break;
        out_.assign(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
      }
      const ssize_t sent = send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return Close();
      out_.erase(0, static_cast<size_t>(sent));
    }
    if (!socket_) return;
    loop_->Rewatch(socket_.get(), out_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT, this);
    if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) Close();
  }

  Loop* const loop_;
  Descriptor socket_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, size_t> untaken_;
  std::string out_;
};

// Listens. Belongs to the loop's thread.
class FakeServer : public Loop::Watcher {
 public:
  FakeServer(Loop* loop, const std::string& path, int backlog = 64) : loop_(loop) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    unlink(path.c_str());
    socket_ = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    REQUIRE(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(socket_.get(), backlog) == 0);
    loop_->Watch(socket_.get(), EPOLLIN, this);
  }
  ~FakeServer() override { loop_->Unwatch(socket_.get()); }

  ServerPeer& last() { return *peers.back(); }

  uint32_t streams_max = 1000;
  bool accepts = true;
  std::function<void(ServerPeer&)> on_peer;
  std::vector<std::unique_ptr<ServerPeer>> peers;

  void OnReady(uint32_t) override {
    if (!accepts) return loop_->Rewatch(socket_.get(), 0, this);
    Descriptor made(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!made) return;
    peers.push_back(std::make_unique<ServerPeer>(loop_, std::move(made), streams_max));
    if (on_peer) on_peer(*peers.back());
  }
  void Accept() {
    accepts = true;
    loop_->Rewatch(socket_.get(), EPOLLIN, this);
  }

 private:
  Loop* const loop_;
  Descriptor socket_;
};

// Notes what it is told, and that it is told nothing it must not be.
class Heard : public front::ForwardSink {
 public:
  void OnHeaders(Headers told, bool end_stream) override {
    Note(end_stream);
    headers = std::move(told);
    ++heads;
  }
  void OnData(std::string_view told) override {
    Note(false);
    data.append(told);
    if (takes) forward->Taken(told.size());
  }
  void OnTrailers(Headers told) override {
    Note(true);
    trailers = std::move(told);
  }
  void OnReset(uint32_t told) override {
    Note(true);
    reset = told;
  }
  void OnLost(bool sent) override {
    Note(true);
    lost = sent;
  }
  void OnPassedOn(size_t bytes) override {
    if (over || inside) ++mistakes;
    passed_on += bytes;
  }

  // What the caller does goes through these, so that it is seen whether the sink is told something meanwhile.
  void Open(front::Upstream& upstream, const Headers& request, bool end_stream, const void* client = nullptr) {
    inside = true;
    forward = upstream.Open(request, end_stream, this, client);
    inside = false;
  }
  void Write(std::string_view more, bool end_stream) {
    inside = true;
    forward->Write(more, end_stream);
    inside = false;
  }
  void Reset(uint32_t error) {
    inside = over = true;
    forward->Reset(error);
    inside = false;
  }
  void Drop() {
    inside = over = true;
    forward.reset();
    inside = false;
  }

  std::unique_ptr<Forward> forward;
  bool takes = true;
  Headers headers;
  size_t heads = 0;
  std::string data;
  std::optional<Headers> trailers;
  std::optional<uint32_t> reset;
  std::optional<bool> lost;
  size_t passed_on = 0;
  bool over = false;
  bool inside = false;
  size_t mistakes = 0;
  std::function<void()> on_over;

 private:
  void Note(bool last) {
    if (over || inside) ++mistakes;
    over = over || last;
    if (last && on_over) on_over();
  }
};

}  // namespace prefixdb::test
