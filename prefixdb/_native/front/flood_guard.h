// Tells an honest client from one that sends frames which cost it nothing and us something.
//
// Each kind of frame has a bucket: full at first, filled at a steady pace, one frame takes one. An empty bucket ends
// the connection (GOAWAY ENHANCE_YOUR_CALM).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "front/transport_limits.h"

namespace prefixdb::front {

// Belongs to its connection.
class FloodGuard {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Kind : uint8_t { kReset, kSettings, kPriority, kEmptyData, kWindowUpdate, kUnknown, kRefused };

  FloodGuard(const Limits& limits, Time now);

  // False: it is too much.
  [[nodiscard]] bool Allows(Kind kind, Time now) noexcept;
  [[nodiscard]] bool AllowsPing(Time now) noexcept;

  // Clients measure the line, and make room, when they are sent something.
  void SentHeaders() noexcept { quiet_ = false; }
  void SentData() noexcept;

 private:
  static constexpr size_t kKinds = 7;
  struct Bucket {
    double left;
    double burst;
    double per_second;
    Time filled;
  };

  std::array<Bucket, kKinds> buckets_;
  const double window_updates_per_data_;
  const std::chrono::milliseconds ping_;
  const int ping_strikes_;
  int strikes_ = 0;
  bool quiet_ = false;  // Nothing was sent since the last ping.
  Time last_ping_;
};

}  // namespace prefixdb::front
