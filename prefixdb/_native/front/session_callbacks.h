// nghttp2's side of a connection: its options, and the callbacks that lead to HttpConnection and Stream.
//
// No exception leaves a callback: one that is met makes nghttp2 give up, and the connection is closed.
#pragma once

#include <nghttp2/nghttp2.h>

#include "front/transport_limits.h"

namespace prefixdb::front {

class HttpConnection;

// A server's session that has queued its SETTINGS; null when there is no memory for it.
nghttp2_session* MakeSession(HttpConnection* connection, const Limits& limits);

}  // namespace prefixdb::front
