// How much an upstream takes on; tests make it small.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "front/upstream.h"

namespace prefixdb::front {

struct UpstreamLimits {
  size_t running_max = 8192;   // Calls on one connection, if the server allows as many.
  size_t waiting_max = 16384;  // Calls that wait to be sent; beyond that they are lost at once.
  // Calls that were sent whole and of which nothing was heard yet. More would wait there instead of here, where clients
  // have their turns: whoever makes up tokens by the thousand is answered one by one, and others in between. A call
  // that takes its time is not counted any more after a while. One whose request has not ended is not counted at all:
  // the server does nothing for it yet, and whoever opens calls and leaves them would keep others out.
  size_t unanswered_max = 64;
  std::chrono::milliseconds counted_for{100};
  // Of a request's headers, with 32 bytes for each as HTTP/2 counts them. nghttp2 sends no block above 64 KiB, and
  // gives up the connection, with everybody's calls, over one header of that size.
  size_t header_bytes_max = 60 * 1024;
  int32_t stream_window_bytes = 64 * 1024;
  std::chrono::milliseconds pause{100};      // After the server could not be reached.
  std::chrono::milliseconds patience{1000};  // With a server whose queue of connections is full.
  // Numbers of streams never come again: a connection is replaced when its last one is near, after 2^30 calls.
  int32_t first_stream = 1;
  int32_t last_stream = INT32_MAX - 4096;
};

std::unique_ptr<Upstream> MakeUpstream(Loop* loop, std::string unix_path, const UpstreamLimits& limits);

}  // namespace prefixdb::front
