// What nghttp2 calls for a link. Nothing may be thrown through it: memory that is not there ends the connection.
#pragma once

#include <nghttp2/nghttp2.h>

#include "front/upstream_link.h"

namespace prefixdb::front {

inline constexpr size_t kAnswerHeadersBytesMax = 64 * 1024;

struct UpstreamLink::Callbacks {
  // Null when there is no memory.
  static nghttp2_session* NewSession(UpstreamLink* link);

  // The body of a request: what is there, and nothing for now when nothing is.
  static ssize_t ReadBody(nghttp2_session* session, int32_t stream, uint8_t* buffer, size_t room, uint32_t* flags,
                          nghttp2_data_source* source, void* self);

  static int OnBeginHeaders(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes,
                      const uint8_t* value, size_t value_bytes, uint8_t flags, void* self);
  static int OnData(nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data, size_t bytes,
                    void* self);
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnStreamClose(nghttp2_session* session, int32_t stream, uint32_t http2_error, void* self);
  static int OnFrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* self);
  static int OnFrameNotSent(nghttp2_session* session, const nghttp2_frame* frame, int why, void* self);
};

}  // namespace prefixdb::front
