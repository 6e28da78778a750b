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

class Listener : public Loop::Watcher {
 public:
  // `made` is called on the loop that gets the connection, which then owns the socket.
  using Made = std::function<void(Loop* loop, std::unique_ptr<Socket> socket)>;

  // `fd`: listening, non-blocking; the listener's from now on. `open`: connections that are open now, over all loops;
  // counted up here and down by whoever closes one.
  Listener(int fd, std::vector<Loop*> loops, std::atomic<int64_t>* open, int64_t connections_max, Made made);
  ~Listener() override;

  void Start();  // Any thread; accepts on the first loop.
  void Stop();   // Any thread; closes the listening socket. What is accepted lives on.

  // Thread-safe. Null: connections speak plaintext.
  void SetTls(std::shared_ptr<TlsServer> tls);

  void OnReady(uint32_t events) override;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
