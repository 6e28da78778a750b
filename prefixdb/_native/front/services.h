// What every call works with: one for the whole front, outlives its loops and connections.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "front/clock.h"
#include "front/facts.h"
#include "front/metrics.h"
#include "front/sessions.h"
#include "front/streams.h"
#include "front/unread.h"
#include "front/upcalls.h"
#include "front/workers.h"
#include "store.h"

namespace prefixdb::front {

// What a client may hold on to, and for how long. Python says it, so that both sides keep to the same.
struct Bounds {
  using Ms = std::chrono::milliseconds;

  Ms arrival{kRequestArrivalMsMax};
  Ms slow_reader{kSlowReaderMsMax};
  Ms pipeline_idle{kPipelineIdleMsMax};
  uint64_t streams_per_namespace = kStreamsPerNamespaceMax;
  uint64_t streams = kStreamsMax;
  uint64_t unread_bytes_per_namespace = kUnreadBytesPerNamespaceMax;
  uint64_t unread_bytes = kUnreadBytesMax;
  uint64_t count_step_rows = 16'384;  // A few milliseconds, against which the way to the loop and back is nothing.
};

struct Settings {
  uint64_t value_bytes_max = 1 << 20;
  bool tokens_tied_to_certificates = false;  // tls.subject = token: each connection asks about each token once.
  bool anonymous = false;                    // Calls without any authorization entry are asked about, not refused.
  std::string upstream_path;                 // Unix socket of the Python server.
  Bounds bounds{};
};

// The store in use. Python exchanges the engine after a write error: meanwhile calls are answered Closed, and whoever
// meets that hands the call to Python, who waits for the new one.
//
// Thread-safe.
class StoreSlot {
 public:
  std::shared_ptr<Store> Get() const {
    const std::lock_guard lock(mutex_);
    return store_;
  }
  void Set(std::shared_ptr<Store> store) {
    const std::lock_guard lock(mutex_);
    store_.swap(store);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<Store> store_;
};

struct Services {
  explicit Services(Settings wanted, uint64_t clock_floor_ms, std::function<void()> settle);

  const Settings settings;
  Clock clock;
  Changes changes;
  SessionTable sessions;
  Upcalls upcalls;
  Streams streams;
  Unread unread;  // Large answers that clients have not taken.
  Metrics metrics;
  StoreSlot store;
  // While true every write is handed to Python: the disk is nearly full, or a write has failed and the store is not
  // well yet. Python judges each.
  std::atomic<bool> punt_writes{false};
  // A row outside of a caller's namespace was found: no row is sent any more.
  std::atomic<bool> halted{false};
  Workers workers;
};

}  // namespace prefixdb::front
