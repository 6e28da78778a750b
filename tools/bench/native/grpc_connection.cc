#include "grpc_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "program.h"

namespace bench {

namespace {

constexpr int32_t kWindowBytes = (1 << 30) - 1;  // As h2load's: the network is to be the limit, not the window.
constexpr size_t kSendBytes = 64 * 1024;

uint64_t BigEndian32(const unsigned char* bytes) {
  return uint64_t{bytes[0]} << 24 | uint64_t{bytes[1]} << 16 | uint64_t{bytes[2]} << 8 | uint64_t{bytes[3]};
}

void Check(int result) {
  if (result != 0) Fail(std::string("nghttp2: ") + nghttp2_strerror(result));
}

}  // namespace

Connection::Connection(int socket, const Plan& plan, Tally* tally, size_t in_flight, size_t first_draw)
    : socket_(socket), plan_(plan), tally_(tally), slots_(in_flight), next_draw_(first_draw) {
  for (const auto& [name, value] : plan.headers) {
    nghttp2_nv header{};
    header.name = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
    header.namelen = name.size();
    header.value = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
    header.valuelen = value.size();
    header.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
    headers_.push_back(header);
  }
  Check(nghttp2_session_client_new(&session_, Callbacks(), this));
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindowBytes},
                                             {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
  Check(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings)));
  Check(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindowBytes));
}

Connection::~Connection() {
  nghttp2_session_del(session_);
  close(socket_);
}

nghttp2_session_callbacks* Connection::Callbacks() {
  static nghttp2_session_callbacks* const callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    Check(nghttp2_session_callbacks_new(&made));
    nghttp2_session_callbacks_set_on_header_callback(made, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, OnDataChunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, OnStreamClose);
    return made;
  }();
  return callbacks;
}

void Connection::Start() {
  for (Slot& slot : slots_) Begin(&slot);
}

void Connection::Begin(Slot* slot) {
  *slot = Slot{};
  TakeNext(slot);
  nghttp2_data_provider body{};
  body.source.ptr = slot;
  body.read_callback = ReadBody;
  slot->stream_id = nghttp2_submit_request(session_, nullptr, headers_.data(), headers_.size(), &body, slot);
  if (slot->stream_id < 0) Fail(std::string("nghttp2: ") + nghttp2_strerror(slot->stream_id));
  ++in_flight_;
}

void Connection::TakeNext(Slot* slot) {
  slot->out = &plan_.replay.Draw(next_draw_++);
  slot->out_sent = 0;
  slot->begun_ns = NowNs();
}

ssize_t Connection::ReadBody(nghttp2_session*, int32_t, uint8_t* buffer, size_t size, uint32_t* flags,
                             nghttp2_data_source* source, void* context) {
  const auto* self = static_cast<Connection*>(context);
  Slot* slot = static_cast<Slot*>(source->ptr);
  if (slot->out == nullptr) {
    if (!self->tally_->stopping) return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return 0;
  }
  const size_t taken = std::min(size, slot->out->size() - slot->out_sent);
  std::memcpy(buffer, slot->out->data() + slot->out_sent, taken);
  slot->out_sent += taken;
  if (slot->out_sent == slot->out->size()) {
    slot->out = nullptr;
    if (!self->plan_.bidirectional) *flags |= NGHTTP2_DATA_FLAG_EOF;
  }
  return static_cast<ssize_t>(taken);
}

int Connection::OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                         const uint8_t* value, size_t value_size, uint8_t, void*) {
  auto* slot = static_cast<Slot*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (slot == nullptr) return 0;
  const std::string_view key(reinterpret_cast<const char*>(name), name_size);
  const std::string_view text(reinterpret_cast<const char*>(value), value_size);
  if (key == ":status") {
    slot->status = text;
  } else if (key == "grpc-status") {
    slot->grpc_status = text;
  } else if (key == "grpc-message") {
    slot->grpc_message = text;
  }
  return 0;
}

int Connection::OnDataChunk(nghttp2_session* session, uint8_t, int32_t stream_id, const uint8_t* data, size_t size,
                            void* self) {
  auto* slot = static_cast<Slot*>(nghttp2_session_get_stream_user_data(session, stream_id));
  if (slot != nullptr) static_cast<Connection*>(self)->OnData(slot, data, size);
  return 0;
}

int Connection::OnStreamClose(nghttp2_session* session, int32_t stream_id, uint32_t error_code, void* self) {
  auto* slot = static_cast<Slot*>(nghttp2_session_get_stream_user_data(session, stream_id));
  if (slot != nullptr) static_cast<Connection*>(self)->OnEnd(slot, error_code);
  return 0;
}

void Connection::OnData(Slot* slot, const uint8_t* data, size_t size) {
  while (size > 0) {
    if (slot->message_left > 0) {
      const size_t taken = static_cast<size_t>(std::min<uint64_t>(size, slot->message_left));
      slot->message_left -= taken;
      data += taken;
      size -= taken;
      if (slot->message_left == 0) OnMessage(slot);
      continue;
    }
    const size_t taken = std::min(size, sizeof(slot->head) - slot->head_size);
    std::memcpy(slot->head + slot->head_size, data, taken);
    slot->head_size += taken;
    data += taken;
    size -= taken;
    if (slot->head_size < sizeof(slot->head)) continue;
    slot->message_left = BigEndian32(slot->head + 1);
    slot->message_size = slot->message_left + sizeof(slot->head);
    slot->head_size = 0;
    if (slot->message_left == 0) OnMessage(slot);
  }
}

void Connection::OnMessage(Slot* slot) {
  ++tally_->messages_all;
  tally_->bytes_all += slot->message_size;
  slot->answer_size += slot->message_size;
  if (tally_->measuring) {
    ++tally_->messages;
    tally_->bytes += slot->message_size;
  }
  if (!plan_.bidirectional) return;
  Count(slot);
  if (!tally_->stopping) TakeNext(slot);
  Wake(*slot);
}

void Connection::OnEnd(Slot* slot, uint32_t error_code) {
  --in_flight_;
  const bool whole = slot->message_left == 0 && slot->head_size == 0;
  if (error_code != NGHTTP2_NO_ERROR || slot->status != "200" || slot->grpc_status != "0" || !whole) {
    if (tally_->failed++ == 0) {
      tally_->first_failure = std::string(nghttp2_http2_strerror(error_code)) + ", status " + slot->status +
                              ", grpc-status " + slot->grpc_status + ": " + slot->grpc_message;
    }
    return;  // Not begun anew: a server that refuses would be asked for ever.
  }
  if (!plan_.bidirectional) Count(slot);
  slot->stream_id = -1;
  if (!tally_->stopping) Begin(slot);
}

void Connection::Count(Slot* slot) {
  ++tally_->calls_all;
  tally_->smallest = std::min(tally_->smallest, slot->answer_size);
  tally_->largest = std::max(tally_->largest, slot->answer_size);
  slot->answer_size = 0;
  if (!tally_->measuring) return;
  ++tally_->calls;
  tally_->latency.Add(NowNs() - slot->begun_ns);
}

void Connection::EndStreams() {
  if (!plan_.bidirectional) return;
  for (const Slot& slot : slots_) {
    if (slot.stream_id >= 0) Wake(slot);
  }
}

void Connection::Wake(const Slot& slot) {
  // Refused when the body does not sleep: then it is asked for more anyway.
  const int result = nghttp2_session_resume_data(session_, slot.stream_id);
  if (result != NGHTTP2_ERR_INVALID_ARGUMENT) Check(result);
}

void Connection::Receive() {
  uint8_t buffer[kSendBytes];
  while (true) {
    const ssize_t size = recv(socket_, buffer, sizeof(buffer), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size < 0) Fail(std::string("the connection broke: ") + std::strerror(errno));
    if (size == 0) Fail("the server closed the connection");
    const ssize_t taken = nghttp2_session_mem_recv(session_, buffer, static_cast<size_t>(size));
    if (taken < 0) Fail(std::string("nghttp2: ") + nghttp2_strerror(static_cast<int>(taken)));
    Send();
    if (static_cast<size_t>(size) < sizeof(buffer)) return;
  }
}

void Connection::Send() {
  while (true) {
    while (out_.size() - sent_ < kSendBytes) {
      const uint8_t* frame = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &frame);
      if (size < 0) Fail(std::string("nghttp2: ") + nghttp2_strerror(static_cast<int>(size)));
      if (size == 0) break;
      out_.append(reinterpret_cast<const char*>(frame), static_cast<size_t>(size));
    }
    if (!wants_write()) break;
    const ssize_t size = send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size < 0) Fail(std::string("the connection broke: ") + std::strerror(errno));
    sent_ += static_cast<size_t>(size);
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
  }
}

}  // namespace bench
