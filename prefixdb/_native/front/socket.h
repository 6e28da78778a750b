// The bytes of one connection, in the clear or through TLS. Non-blocking.
//
// TLS needs the other direction now and then (a handshake, a key update): `wants` says which events to wait for, and
// whoever is told of any event tries what it wanted to do again.
#pragma once

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace prefixdb::front {

// Not thread-safe. Owns its descriptor.
class Socket {
 public:
  enum class Io : uint8_t {
    kDone,    // Some bytes, at least 1.
    kAgain,   // Not now; wait for `wants()`.
    kClosed,  // The peer has ended its side in order.
    kBroken,  // Anything else: reset, TLS alert, garbage.
  };
  struct Progress {
    Io io;
    size_t bytes = 0;
  };

  virtual ~Socket() = default;

  // Goes on with the handshake, kDone when there is none to make or it is over. Call it until it is, before anything
  // else.
  virtual Progress Handshake() = 0;
  // Until kAgain: TLS may hold bytes back that no event tells of. Whoever stops before that comes back unasked.
  virtual Progress Read(std::span<uint8_t> buffer) = 0;
  // After kAgain the next Write begins with the same bytes, and has at least as many.
  virtual Progress Write(std::span<const uint8_t> bytes) = 0;
  // Says goodbye (close_notify, end of the stream) when that can be done at once. Nothing is written after it.
  virtual void Farewell() = 0;

  // EPOLLIN, or EPOLLIN and EPOLLOUT: what the last kAgain of each kind needs, and what a connection waits for anyway.
  // EPOLLOUT alone when nothing can be read before something was written, whatever is there: Read again then.
  virtual uint32_t wants() const noexcept = 0;
  virtual int fd() const noexcept = 0;

  // As gRPC writes it: "ipv4:127.0.0.1:4711", "ipv6:%5B::1%5D:4711", "unix:" for a unix socket.
  virtual const std::string& peer() const noexcept = 0;
  // PEM of the client's certificate that was verified; empty when it gave none. After the handshake.
  virtual const std::string& peer_certificate() const noexcept = 0;
  virtual bool is_tls() const noexcept = 0;
};

std::unique_ptr<Socket> PlainSocket(int fd, std::string peer);

}  // namespace prefixdb::front
