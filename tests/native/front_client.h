// An HTTP/2 client for tests, fuzzing and benchmarks of the front: nghttp2's client session over a descriptor, pumped
// by whoever waits for something. What no library would send can be written as raw frames.
#pragma once

#include <doctest.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace prefixdb::test {

using Fields = std::vector<std::pair<std::string, std::string>>;

inline std::string Framed(std::string_view message, uint8_t flag = 0) {
  std::string framed(1, static_cast<char>(flag));
  for (int shift = 24; shift >= 0; shift -= 8) framed += static_cast<char>(message.size() >> shift);
  return framed.append(message);
}

// One HTTP/2 frame, by hand.
inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload = {}) {
  std::string frame;
  for (int shift = 16; shift >= 0; shift -= 8) frame += static_cast<char>(payload.size() >> shift);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(stream >> shift);
  return frame.append(payload);
}

// A block of headers as literals that are not indexed.
inline std::string Block(const Fields& fields) {
  std::string block;
  const auto text = [&block](const std::string& each) {
    constexpr size_t kInPrefix = 127;
    if (each.size() < kInPrefix) {
      block += static_cast<char>(each.size());
    } else {
      block += static_cast<char>(kInPrefix);
      size_t rest = each.size() - kInPrefix;
      for (; rest >= 128; rest /= 128) block += static_cast<char>(rest % 128 + 128);
      block += static_cast<char>(rest);
    }
    block += each;
  };
  for (const auto& [name, value] : fields) {
    block += '\0';
    text(name);
    text(value);
  }
  return block;
}

inline Fields CallHead(const std::string& path, const Fields& more = {}) {
  Fields fields = {{":method", "POST"}, {":scheme", "http"}, {":path", path},
                   {":authority", "x"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

struct Answer {
  Fields headers;
  Fields trailers;
  std::string body;
  bool ended = false;              // END_STREAM came.
  std::optional<uint32_t> closed;  // The stream is closed, with this error code.
  std::optional<std::string> Field(const std::string& name) const {
    for (const Fields* fields : {&trailers, &headers}) {
      for (const auto& [each, value] : *fields) {
        if (each == name) return value;
      }
    }
    return std::nullopt;
  }
  int status() const {
    const auto text = Field("grpc-status");
    return text ? std::stoi(*text) : -1;
  }
  std::vector<std::string> Messages() const {
    std::vector<std::string> messages;
    for (size_t at = 0; at + 5 <= body.size();) {
      size_t length = 0;
      for (size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<uint8_t>(body[at + i]);
      messages.push_back(body.substr(at + 5, length));
      at += 5 + length;
    }
    return messages;
  }
};

// Not thread-safe. Owns the descriptor.
class Client {
 public:
  // `reads`: gives room for more as bytes come; else the server gets the first window and no more.
  explicit Client(int fd, bool reads = true) : fd_(fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    if (!reads) nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_reserved_remote_streams(option, 0);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Client() {
    nghttp2_session_del(session_);
    if (fd_ >= 0) close(fd_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Begins a call; `end` when `body` is all of it. Bytes go out with the next Pump.
  int32_t Begin(const Fields& head, std::string body = {}, bool end = true) {
    std::vector<nghttp2_nv> entries;
    for (const auto& [name, value] : head) {
      entries.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                         reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), 0});
    }
    auto request = std::make_unique<Request>(Request{std::move(body), end});
    nghttp2_data_provider provider{{.ptr = request.get()}, Read};
    const int32_t id = nghttp2_submit_request(session_, nullptr, entries.data(), entries.size(), &provider, nullptr);
    REQUIRE(id > 0);
    requests_[id] = std::move(request);
    answers_[id];
    return id;
  }
  int32_t Unary(const std::string& path, std::string_view message, const Fields& more = {}) {
    return Begin(CallHead(path, more), Framed(message));
  }
  void Write(int32_t id, std::string_view bytes, bool end = false) {
    requests_[id]->body.append(bytes);
    requests_[id]->end = end;
    nghttp2_session_resume_data(session_, id);
  }
  void Reset(int32_t id, uint32_t error = NGHTTP2_CANCEL) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, error);
  }
  void Raw(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count > 0) {
        bytes.remove_prefix(static_cast<size_t>(count));
      } else if (errno == EAGAIN) {
        pollfd ready{fd_, POLLOUT, 0};
        if (poll(&ready, 1, 1000) == 0) return;
      } else {
        gone_ = true;
        return;
      }
    }
  }

  // Sends what is to be sent and takes what is there; waits up to `ms` for something to come.
  void Pump(int ms = 10) {
    Flush();
    pollfd ready{fd_, POLLIN, 0};
    if (gone_ || poll(&ready, 1, ms) <= 0) return;
    uint8_t buffer[65536];
    const ssize_t count = recv(fd_, buffer, sizeof(buffer), 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) gone_ = true;
    if (count > 0) {
      received_ += static_cast<size_t>(count);
      if (nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(count)) < 0) gone_ = true;
    }
    Flush();
  }
  template <typename Condition>
  void PumpUntil(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      Pump();
    }
  }
  const Answer& Await(int32_t id) {
    PumpUntil([&] { return answers_[id].closed.has_value() || gone_; });
    return answers_[id];
  }
  // Until the status has come, whether or not our side is done.
  const Answer& AwaitEnd(int32_t id) {
    PumpUntil([&] { return answers_[id].ended || answers_[id].closed || gone_; });
    return answers_[id];
  }
  const Answer& of(int32_t id) { return answers_[id]; }

  bool gone() const { return gone_; }
  size_t received() const { return received_; }
  std::optional<uint32_t> goaway() const { return goaway_; }  // Its error code.
  int32_t goaway_last() const { return goaway_last_; }
  size_t pings() const { return pings_; }
  nghttp2_session* session() { return session_; }
  int fd() const { return fd_; }

 private:
  struct Request {
    std::string body;
    bool end;
    size_t at = 0;
  };

  void Flush() {
    while (!gone_) {
      const uint8_t* bytes = nullptr;
      const ssize_t count = nghttp2_session_mem_send(session_, &bytes);
      if (count <= 0) return;
      Raw({reinterpret_cast<const char*>(bytes), static_cast<size_t>(count)});
    }
  }
  static ssize_t Read(nghttp2_session*, int32_t, uint8_t* buffer, size_t most, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    auto& request = *static_cast<Request*>(source->ptr);
    const size_t count = std::min(most, request.body.size() - request.at);
    if (count == 0 && !request.end) return NGHTTP2_ERR_DEFERRED;
    request.body.copy(reinterpret_cast<char*>(buffer), count, request.at);
    request.at += count;
    if (request.end && request.at == request.body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* user) {
    Answer& answer = static_cast<Client*>(user)->answers_[frame->hd.stream_id];
    Fields& fields = frame->headers.cat == NGHTTP2_HCAT_RESPONSE ? answer.headers : answer.trailers;
    fields.emplace_back(std::string(reinterpret_cast<const char*>(name), name_size),
                        std::string(reinterpret_cast<const char*>(value), value_size));
    return 0;
  }
  static int OnData(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
    static_cast<Client*>(user)->answers_[id].body.append(reinterpret_cast<const char*>(data), size);
    return 0;
  }
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    auto& client = *static_cast<Client*>(user);
    if (frame->hd.stream_id > 0 && frame->hd.type <= NGHTTP2_HEADERS &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      client.answers_[frame->hd.stream_id].ended = true;
    }
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) ++client.pings_;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      client.goaway_ = frame->goaway.error_code;
      client.goaway_last_ = frame->goaway.last_stream_id;
    }
    return 0;
  }
  static int OnClose(nghttp2_session*, int32_t id, uint32_t error, void* user) {
    static_cast<Client*>(user)->answers_[id].closed = error;
    return 0;
  }

  int fd_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, std::unique_ptr<Request>> requests_;
  std::map<int32_t, Answer> answers_;
  bool gone_ = false;
  size_t received_ = 0;
  std::optional<uint32_t> goaway_;
  int32_t goaway_last_ = -1;
  size_t pings_ = 0;
};

}  // namespace prefixdb::test
