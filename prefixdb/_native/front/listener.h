// The public port: accepts connections and spreads them over the loops, one after the other.
//
// The listening socket is bound by Python (who knows the address, the mode of a unix socket, and how to say what is
// wrong) and handed over. Whoever opens more connections than are allowed has the next one closed at once; when the
// process has no descriptors left the listener pauses for a moment instead of turning in circles.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "front/loop.h"
#include "front/tls.h"

namespace prefixdb::front {

// Thread-safe. Its loops outlive it.
class Listener {
 public:
  // Called on the loop that gets the connection, which then owns the socket. What it throws costs that connection.
  using Made = std::function<void(Loop* loop, std::unique_ptr<Socket> socket)>;

  // `fd`: listening, non-blocking; the listener's from now on. `open`: connections that are open now, over all loops;
  // counted up here and down by whoever closes one.
  Listener(int fd, std::vector<Loop*> loops, std::atomic<int64_t>* open, int64_t connections_max, Made made);
  ~Listener();  // Stops.
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Accepts on the first loop.
  void Start();
  // After this `made` is not called any more: what is on its way to its loop is closed, what got there lives on. The
  // first loop closes the listening socket as soon as it comes to that. Idempotent.
  void Stop();

  // For the connections that come from now on. Null: they speak plaintext.
  void SetTls(std::shared_ptr<TlsServer> tls);

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
