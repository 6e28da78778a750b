// A few threads for what may wait for the disk or take longer than a moment: cold reads, pages, counts, large batches.
//
// Each namespace has a queue of its own and they take turns, one job each, so that a tenant who asks for a thousand
// scans keeps no other tenant waiting for more than the jobs that run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace prefixdb::front {

// Thread-safe.
class Workers {
 public:
  explicit Workers(int threads);
  ~Workers();  // Stops.
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `job` in a thread. It must not throw; it takes some 10 ms at most and queues its continuation itself.
  void Run(uint64_t namespace_id, std::function<void()> job);
  // Ends the threads when the running jobs have returned; queued jobs are destroyed without being run. Idempotent.
  void Stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
