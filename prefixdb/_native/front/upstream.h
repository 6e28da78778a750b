// Calls that go to the Python server as they came: an HTTP/2 client on its unix socket, one for each loop.
//
// Headers, bytes, trailers and resets pass unchanged, both ways, and so does the pace: what the Python server has not
// taken is not asked of the client, and what the client has not taken is not asked of the server. Bytes in between are
// bounded by the two flow-control windows.
//
// The connection is made when the first call needs it and again after it broke. While it cannot be made, or when it
// breaks under a call, the call ends with UNAVAILABLE (STARTING or OUTCOME unknown is not ours to say: RST_STREAM
// INTERNAL_ERROR would be; gRPC clients take a trailers-only UNAVAILABLE well).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "front/loop.h"

namespace prefixdb::front {

using Headers = std::vector<std::pair<std::string, std::string>>;  // Pseudo-headers first; names in lower case.

// Metadata that tells Python about the connection behind a forwarded call. Whatever a client sends under these names is
// dropped; Python believes them on its unix socket only.
inline constexpr std::string_view kPeerHeader = "prefixdb-peer";                      // Socket::peer().
inline constexpr std::string_view kPeerCertificateHeader = "prefixdb-peer-cert-bin";  // base64 of the PEM.

// Who is told what the server answers. Called on the loop's thread, never from inside a call of Forward's methods.
class ForwardSink {
 public:
  virtual ~ForwardSink() = default;
  virtual void OnHeaders(Headers headers, bool end_stream) = 0;  // Also the trailers of an answer without a body.
  virtual void OnData(std::string_view data) = 0;  // Give it back with Forward::Taken when the client has it.
  virtual void OnTrailers(Headers trailers) = 0;   // The last.
  virtual void OnReset(uint32_t http2_error) = 0;  // The last; NGHTTP2_REFUSED_STREAM: certainly nothing was done.
  // The connection is gone or cannot be made; the last. `sent`: the headers had been sent, so it may have been begun.
  virtual void OnLost(bool sent) = 0;
  // So many bytes of the request went out: the client may send as many more.
  virtual void OnPassedOn(size_t bytes) = 0;
};

// One forwarded call. Destroying it resets the stream (CANCEL) unless it is over. Belongs to the loop's thread.
class Forward {
 public:
  virtual ~Forward() = default;
  virtual void Write(std::string_view data, bool end_stream) = 0;
  virtual void Taken(size_t bytes) = 0;
  virtual void Reset(uint32_t http2_error) = 0;
};

class Upstream {
 public:
  static std::unique_ptr<Upstream> Make(Loop* loop, std::string unix_path);
  virtual ~Upstream() = default;
  // `sink` outlives the Forward. `end_stream`: there is no body. `client`: whose calls they are, told apart by their
  // addresses; where calls have to wait, clients have their turns.
  virtual std::unique_ptr<Forward> Open(const Headers& headers, bool end_stream, ForwardSink* sink,
                                        const void* client) = 0;
  virtual size_t open() const noexcept = 0;
};

}  // namespace prefixdb::front
