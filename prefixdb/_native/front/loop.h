// One thread that waits for descriptors, timers and work from other threads: everything of a connection happens on it.
//
// A pass: the descriptors that are ready are handled, then the timers that are due, then what was posted, then what was
// deferred (connections flush what they have to say), and the loop waits again. Whoever changes what sessions may do
// (sessions.h) waits until every loop has ended the pass it was in: what a pass has checked it has also handed to the
// kernel, so nothing that was checked before the change leaves after it.
//
// A task or watcher that throws ends the process. Nothing on a loop's thread may block but a read of a row from memory
// or, at worst, one from the disk.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

namespace prefixdb::front {

// Belongs to its thread but for Post, Settle and Stop.
class Loop {
 public:
  using Task = std::function<void()>;
  using Time = std::chrono::steady_clock::time_point;
  using TimerId = uint64_t;  // 0 is none.

  // Told when a descriptor is ready. `events` are epoll's.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnReady(uint32_t events) = 0;
  };

  Loop();  // Throws std::system_error when the system has no descriptors to give.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs passes until Stop; what was posted before that is still done. Starts no thread itself.
  void Run();
  // Thread-safe; idempotent.
  void Stop();

  // Thread-safe. `task` runs on the loop's thread, in the order of posting; after Stop it is not run, but destroyed,
  // by that thread or with the loop. Wakes the loop only when it may be waiting.
  void Post(Task task);
  // Runs `task` at the end of this pass, once; also when it was another deferred task that asked.
  void Defer(Task task);

  // `watcher` outlives its watch. Events as for epoll_ctl, level-triggered; EPOLLERR and EPOLLHUP come unasked. Throws
  // std::system_error when the kernel has no memory left for it. Unwatch before the descriptor is closed.
  void Watch(int fd, uint32_t events, Watcher* watcher);
  void Rewatch(int fd, uint32_t events, Watcher* watcher);
  void Unwatch(int fd);  // No OnReady after this, not even one that is due in this pass.

  // Runs `task` when `delay` has gone by since this pass began, not in this turn of timers. Setting and cancelling
  // take the logarithm of the timers there are.
  TimerId After(std::chrono::milliseconds delay, Task task);
  void Cancel(TimerId timer);  // Destroys the task. Harmless for one that has run, and for 0.

  // The time when this pass began, read once in a pass.
  Time now() const noexcept { return now_; }

  // Thread-safe, never on the loop's own thread: returns when the pass that is running now, if one is, has ended.
  void Settle();

  bool OnOwnThread() const noexcept { return std::this_thread::get_id() == owner_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::thread::id> owner_;
  Time now_;
  // The rest is the implementation's.
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
