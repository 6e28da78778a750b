#include "front/session_callbacks.h"

#include <array>
#include <memory>
#include <string_view>

#include "front/http_connection.h"

namespace prefixdb::front {
namespace {

using Kind = FloodGuard::Kind;

constexpr uint8_t kLastFrameType = NGHTTP2_CONTINUATION;
// Nothing of ours comes near it; nghttp2 ends a connection that owes more.
constexpr size_t kOutboundAcksMax = 128;
constexpr size_t kSettingsEntriesMax = 32;
constexpr size_t kContinuationsMax = 8;

HttpConnection& Of(void* user) noexcept { return *static_cast<HttpConnection*>(user); }

std::string_view View(nghttp2_rcbuf* buffer) noexcept {
  const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char*>(bytes.base), bytes.len};
}

// Runs the body of a callback; its value is nghttp2's.
template <typename Body>
int Contain(Body body) noexcept {
  try {
    body();
    return 0;
  } catch (...) {
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
}

// Frames that cost their sender nothing are counted before anything is done for them.
bool IsTolerable(HttpConnection* connection, const nghttp2_frame_hd& frame) noexcept {
  FloodGuard& guard = connection->guard();
  const Loop::Time now = connection->now();
  switch (frame.type) {
    case NGHTTP2_RST_STREAM:
      return guard.Allows(Kind::kReset, now);
    case NGHTTP2_SETTINGS:
      return guard.Allows(Kind::kSettings, now);
    case NGHTTP2_PING:
      return (frame.flags & NGHTTP2_FLAG_ACK) != 0 ? guard.Allows(Kind::kUnknown, now) : guard.AllowsPing(now);
    case NGHTTP2_PRIORITY:
      return guard.Allows(Kind::kPriority, now);
    case NGHTTP2_WINDOW_UPDATE:
      return guard.Allows(Kind::kWindowUpdate, now);
    case NGHTTP2_DATA:
      return frame.length > 0 || (frame.flags & NGHTTP2_FLAG_END_STREAM) != 0 || guard.Allows(Kind::kEmptyData, now);
    default:
      return frame.type <= kLastFrameType || guard.Allows(Kind::kUnknown, now);
  }
}

int OnBeginFrame(nghttp2_session*, const nghttp2_frame_hd* frame, void* user) noexcept {
  return Contain([&] {
    if (!IsTolerable(&Of(user), *frame)) Of(user).Calm();
  });
}

int OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) noexcept {
  return Contain([&] {
    Of(user).OnBlock();
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) Of(user).OpenStream(frame->hd.stream_id);
  });
}

int OnHeader(nghttp2_session*, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t,
             void* user) noexcept {
  return Contain([&] {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return;  // Trailers of a request mean nothing in gRPC.
    if (Stream* const stream = Of(user).StreamOf(frame->hd.stream_id)) stream->ReceiveHeader(View(name), View(value));
  });
}

int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* user) noexcept {
  return Contain([&] {
    HttpConnection& connection = Of(user);
    const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_SETTINGS:
        connection.OnSettings();
        break;
      case NGHTTP2_HEADERS:
        connection.OnBlockEnd();
        if (Stream* const stream = connection.StreamOf(frame->hd.stream_id)) {
          if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            stream->ReceiveHead(ends);
          } else if (ends) {
            stream->ReceiveEnd();
          }
        }
        break;
      case NGHTTP2_DATA:
        if (!ends) break;
        if (Stream* const stream = connection.StreamOf(frame->hd.stream_id)) stream->ReceiveEnd();
        break;
      default:
        break;
    }
  });
}

// Frames of types HTTP/2 does not know mean nothing to us; they come here to be counted.
int IgnoreExtension(nghttp2_session*, void**, const nghttp2_frame_hd*, void*) noexcept { return NGHTTP2_ERR_CANCEL; }

int OnInvalidFrame(nghttp2_session*, const nghttp2_frame* frame, int error, void* user) noexcept {
  return Contain([&] {
    HttpConnection& connection = Of(user);
    if (frame->hd.type == NGHTTP2_HEADERS) connection.OnBlockEnd();
    const Kind kind = error == NGHTTP2_ERR_REFUSED_STREAM ? Kind::kRefused : Kind::kUnknown;
    if (!connection.guard().Allows(kind, connection.now())) connection.Calm();
  });
}

int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) noexcept {
  return Contain([&] {
    if (Stream* const stream = Of(user).StreamOf(id)) {
      stream->ReceiveData({reinterpret_cast<const char*>(data), size});
    } else {
      nghttp2_session_consume_connection(session, size);
    }
  });
}

int OnStreamClose(nghttp2_session*, int32_t id, uint32_t, void* user) noexcept {
  return Contain([&] {
    if (Stream* const stream = Of(user).StreamOf(id)) Of(user).StreamClosed(stream);
  });
}

int OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept {
  return Contain([&] {
    if (frame->hd.type == NGHTTP2_DATA) {
      Of(user).guard().SentData();
    } else if (frame->hd.type == NGHTTP2_HEADERS) {
      Of(user).guard().SentHeaders();
    } else {
      return;
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
    // The answer is whole, so what the client might still send is of no use (RFC 9113, 8.1).
    if (nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
  });
}

// Headers that cannot be sent, because those of the server behind us are too large: the client must not wait for ever.
int OnFrameNotSent(nghttp2_session* session, const nghttp2_frame* frame, int, void* user) noexcept {
  return Contain([&] {
    if (frame->hd.type != NGHTTP2_HEADERS || Of(user).StreamOf(frame->hd.stream_id) == nullptr) return;
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
  });
}

// A DATA frame goes from the call's strings into the frames that are written, with one copy.
int SendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size, nghttp2_data_source* source,
             void* user) noexcept {
  constexpr size_t kFrameHeadBytes = 9;
  HttpConnection& connection = Of(user);
  return Contain([&] {
    connection.frames()->append(reinterpret_cast<const char*>(head), kFrameHeadBytes);
    static_cast<Stream*>(source->ptr)->Take(size, connection.frames());
  });
}

using Callbacks = std::unique_ptr<nghttp2_session_callbacks, decltype(&nghttp2_session_callbacks_del)>;

Callbacks MakeCallbacks() {
  nghttp2_session_callbacks* raw = nullptr;
  if (nghttp2_session_callbacks_new(&raw) != 0) return {nullptr, nghttp2_session_callbacks_del};
  nghttp2_session_callbacks_set_on_begin_frame_callback(raw, OnBeginFrame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(raw, OnBeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback2(raw, OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(raw, OnFrame);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(raw, OnInvalidFrame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(raw, OnData);
  nghttp2_session_callbacks_set_on_stream_close_callback(raw, OnStreamClose);
  nghttp2_session_callbacks_set_on_frame_send_callback(raw, OnFrameSent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(raw, OnFrameNotSent);
  nghttp2_session_callbacks_set_send_data_callback(raw, SendData);
  nghttp2_session_callbacks_set_unpack_extension_callback(raw, IgnoreExtension);
  return {raw, nghttp2_session_callbacks_del};
}

using Options = std::unique_ptr<nghttp2_option, decltype(&nghttp2_option_del)>;

Options MakeOptions(const Limits& limits) {
  nghttp2_option* raw = nullptr;
  if (nghttp2_option_new(&raw) != 0) return {nullptr, nghttp2_option_del};
  nghttp2_option_set_no_auto_window_update(raw, 1);
  nghttp2_option_set_no_closed_streams(raw, 1);
  nghttp2_option_set_max_outbound_ack(raw, kOutboundAcksMax);
  nghttp2_option_set_max_settings(raw, kSettingsEntriesMax);
  nghttp2_option_set_max_continuations(raw, kContinuationsMax);
  // An authorization entry with a space at its end is judged, not reset: so does a gRPC server.
  nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(raw, 1);
  for (int type = kLastFrameType + 1; type <= UINT8_MAX; ++type) {
    nghttp2_option_set_user_recv_extension_type(raw, static_cast<uint8_t>(type));
  }
  // Ours ends the connection first, and says why.
  nghttp2_option_set_stream_reset_rate_limit(raw, static_cast<uint64_t>(limits.resets.burst) * 4,
                                             static_cast<uint64_t>(limits.resets.per_second) * 4 + 1);
  return {raw, nghttp2_option_del};
}

}  // namespace

nghttp2_session* MakeSession(HttpConnection* connection, const Limits& limits) {
  static const Callbacks callbacks = MakeCallbacks();
  const Options options = MakeOptions(limits);
  nghttp2_session* session = nullptr;
  if (callbacks == nullptr || options == nullptr) return nullptr;
  if (nghttp2_session_server_new2(&session, callbacks.get(), connection, options.get()) != 0) return nullptr;
  const std::array<nghttp2_settings_entry, 4> settings = {{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.streams},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_bytes},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(limits.stream_window)},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) != 0 ||
      nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, limits.connection_window) != 0) {
    nghttp2_session_del(session);
    return nullptr;
  }
  return session;
}

}  // namespace prefixdb::front
