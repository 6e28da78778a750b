// One client's HTTP/2 connection: nghttp2's server session over a socket, and the calls on it (stream.h).
//
//   socket -> nghttp2 -> stream: native call (call.h), forwarded call (upstream.h), or refused
//
// What a peer may cost, whoever it is (limits with their reasons: transport_limits.h):
//   - handshake, preface and SETTINGS in 10 s; connections without calls are ended after 10 minutes, all after an hour,
//     with GOAWAY and time for what runs; a peer that answers no PING in 10 s is gone;
//   - 64 open calls; RST_STREAM, PING, SETTINGS, empty DATA and WINDOW_UPDATE beyond what an honest client sends
//     end the connection (GOAWAY ENHANCE_YOUR_CALM);
//   - headers of 8 KiB; 64 KiB of a message until its call was admitted, then the message, up to 16 MiB; messages under
//     way of all connections together are bounded, beyond that windows stay shut;
//   - a call whose message does not come in 10 s ends (DEADLINE), a stream whose client takes nothing for 10 s, too;
//   - what is written for a connection and not taken by the kernel is bounded: nghttp2 is asked for more only when it
//     is below 64 KiB, and a message waits as one string until flow control lets its frames out.
//
// The order in which a call is judged is that of prefixdb/service/gate.py: path, draining, token, message, capability,
// the method. One authorization entry exactly ("Bearer TOKEN", up to 4 KiB) or TOKEN_MISSING / TOKEN_INVALID.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "front/failure.h"
#include "front/loop.h"
#include "front/services.h"
#include "front/socket.h"
#include "front/upstream.h"

namespace prefixdb::front {

// Native calls that do not go on because of their clients, between two passes.
struct Waiting {
  size_t for_taking = 0;    // Something that was sent in an earlier pass has not been taken.
  size_t for_messages = 0;  // The one message of a call that is admitted, or being so, has not come.
};

// The connections of one loop, with its connection to the Python server. Belongs to the loop's thread.
class Gateway {
 public:
  static std::unique_ptr<Gateway> Make(Loop* loop, Services* services);
  virtual ~Gateway() = default;  // Ends every connection at once.

  // Takes over a new connection. `services.metrics.connections` was counted up by the listener and is counted down
  // here.
  virtual void Serve(std::unique_ptr<Socket> socket) = 0;

  // From now on native calls are refused with `failure` (forwarded ones go on to Python, who refuses them), streams
  // that wait for a client's message are cut with it, and every connection is told to go (GOAWAY).
  virtual void Drain(const Failure& failure) = 0;
  // Cuts what still runs natively with `failure`, a write that may have been done with OUTCOME_UNKNOWN; connections are
  // closed when their forwarded calls, which Python ends, have ended, too.
  virtual void Cut(const Failure& failure) = 0;
  // Native calls that are open; forwarded ones are counted by Python.
  virtual size_t running() const noexcept = 0;
  virtual Waiting waiting() const noexcept = 0;
  // Something has changed (sessions.h): looks at every open stream at once instead of at the next sweep (200 ms).
  virtual void Recheck() = 0;
};

}  // namespace prefixdb::front
