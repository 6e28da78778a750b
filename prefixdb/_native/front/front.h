// The front: loops, their gateways, the listener and what they share, in the server's process.
//
// Start: the store and, if wanted, TLS are set, then Start. End: Drain, wait until running() is 0 or patience is over,
// Cut, Stop. Thread-safe; Python calls it from several threads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "front/connection.h"
#include "front/listener.h"
#include "front/loop.h"
#include "front/services.h"

namespace prefixdb::front {

struct FrontOptions {
  int listen_fd = -1;  // Bound and listening; the front's from now on, also when it cannot be made.
  int threads = 2;
  int64_t connections_max = 4096;
  uint64_t clock_ms = 0;
  Settings settings;
};

class Front {
 public:
  explicit Front(FrontOptions options);
  ~Front();  // Stops.
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  Services& services() noexcept;

  void SetTls(std::shared_ptr<TlsServer> tls);
  void Start();
  void Drain(Failure failure);
  void Cut(Failure failure);
  // Of all loops.
  size_t running();
  Waiting waiting();
  // Every loop has ended its pass, see Loop::Settle; then open streams are looked at (Gateway::Recheck).
  void Settle();
  // Ends every connection and thread. Idempotent.
  void Stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
