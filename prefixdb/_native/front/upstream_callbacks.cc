#include "front/upstream_callbacks.h"

#include <string>

namespace prefixdb::front {

namespace {

template <typename Body>
int Guarded(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
}

UpstreamLink& Of(void* self) { return *static_cast<UpstreamLink*>(self); }

}  // namespace

int UpstreamLink::Callbacks::OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  if (UpstreamCall* call = Of(self).Find(frame->hd.stream_id)) {
    call->arriving.clear();
    call->arriving_bytes = 0;
  }
  return 0;
}

int UpstreamLink::Callbacks::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                                      size_t name_bytes, const uint8_t* value, size_t value_bytes, uint8_t,
                                      void* self) {
  return Guarded([&] {
    UpstreamCall* call = Of(self).Find(frame->hd.stream_id);
    if (call == nullptr || call->sink == nullptr) return 0;
    call->arriving_bytes += name_bytes + value_bytes + 32;
    if (call->arriving_bytes > kAnswerHeadersBytesMax) return static_cast<int>(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE);
    call->arriving.emplace_back(std::string(reinterpret_cast<const char*>(name), name_bytes),
                                std::string(reinterpret_cast<const char*>(value), value_bytes));
    return 0;
  });
}

int UpstreamLink::Callbacks::OnData(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* data,
                                    size_t bytes, void* self) {
  return Guarded([&] {
    nghttp2_session_consume_connection(session, bytes);
    UpstreamCall* call = Of(self).Find(stream);
    if (call == nullptr || call->sink == nullptr) return 0;
    call->untaken += bytes;
    call->sink->OnData({reinterpret_cast<const char*>(data), bytes});
    return 0;
  });
}

int UpstreamLink::Callbacks::OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  return Guarded([&] {
    UpstreamLink& link = Of(self);
    const bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (UpstreamCall* call = link.Find(frame->hd.stream_id)) link.OnHeaderBlock(*call, end_stream);
        break;
      case NGHTTP2_DATA:
        if (UpstreamCall* call = link.Find(frame->hd.stream_id); call != nullptr && end_stream) link.OnEnd(*call);
        break;
      case NGHTTP2_SETTINGS:
        link.settled_ = true;
        break;
      case NGHTTP2_GOAWAY:
        link.retired_ = true;
        break;
      default:
        break;
    }
    return 0;
  });
}

int UpstreamLink::Callbacks::OnStreamClose(nghttp2_session*, int32_t stream, uint32_t http2_error, void* self) {
  return Guarded([&] {
    Of(self).CloseCall(stream, http2_error);
    return 0;
  });
}

int UpstreamLink::Callbacks::OnFrameSent(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  if (frame->hd.type != NGHTTP2_HEADERS) return 0;
  if (UpstreamCall* call = Of(self).Find(frame->hd.stream_id)) {
    call->sent = true;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) call->body_over = true;
    call->request = Headers();
  }
  return 0;
}

int UpstreamLink::Callbacks::OnFrameNotSent(nghttp2_session*, const nghttp2_frame* frame, int, void* self) {
  return Guarded([&] {
    if (frame->hd.type == NGHTTP2_HEADERS) Of(self).unsent_.push_back(frame->hd.stream_id);
    return 0;
  });
}

ssize_t UpstreamLink::Callbacks::ReadBody(nghttp2_session*, int32_t, uint8_t* buffer, size_t room, uint32_t* flags,
                                          nghttp2_data_source* source, void* self) {
  return Guarded([&] {
    UpstreamCall& call = *static_cast<UpstreamCall*>(source->ptr);
    const size_t bytes = call.body.Take(buffer, room);
    if (call.body.empty() && call.body_ended) {
      call.body_over = true;
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (bytes == 0) {
      call.body_awaited = true;
      return static_cast<int>(NGHTTP2_ERR_DEFERRED);
    }
    if (bytes > 0 && call.sink != nullptr) {
      UpstreamLink& link = Of(self);
      if (call.passed_on == 0) link.moved_.push_back(link.calls_.at(call.stream));
      call.passed_on += bytes;
    }
    return static_cast<int>(bytes);
  });
}

nghttp2_session* UpstreamLink::Callbacks::NewSession(UpstreamLink* link) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* options = nullptr;
  nghttp2_session* session = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, OnBeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnStreamClose);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, OnFrameSent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, OnFrameNotSent);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    // A status message that ends with a space is passed on as it is.
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(options, 1);
    if (nghttp2_session_client_new2(&session, callbacks, link, options) != 0) session = nullptr;
  }
  nghttp2_option_del(options);
  nghttp2_session_callbacks_del(callbacks);
  return session;
}

}  // namespace prefixdb::front
