// The wall clock of the front, with the promise of prefixdb/clock.py: it never runs backwards.
//
// Usually the machine's. A server whose time is held by somebody else (tests do) sets it, and the machine's is not
// looked at any more.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace prefixdb::front {

// Thread-safe.
class Clock {
 public:
  // `floor_ms`: never answers less; what Python's clock has answered before.
  explicit Clock(uint64_t floor_ms) : last_ms_(floor_ms) {}

  uint64_t now_ms() noexcept {
    if (const uint64_t held = held_ms_.load(std::memory_order_acquire); held != 0) return held;
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    const auto now = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
    uint64_t last = last_ms_.load(std::memory_order_relaxed);
    while (now > last) {
      if (last_ms_.compare_exchange_weak(last, now, std::memory_order_relaxed)) return now;
    }
    return last;
  }

  // From now on the time is this until the next call.
  void Hold(uint64_t now_ms) noexcept { held_ms_.store(now_ms, std::memory_order_release); }

 private:
  std::atomic<uint64_t> last_ms_;
  std::atomic<uint64_t> held_ms_{0};
};

}  // namespace prefixdb::front
