#include "front/flood_guard.h"

#include <algorithm>

namespace prefixdb::front {

FloodGuard::FloodGuard(const Limits& limits, Time now)
    : window_updates_per_data_(limits.window_updates_per_data),
      ping_(limits.ping),
      ping_strikes_(limits.ping_strikes),
      last_ping_(now - limits.ping) {
  const std::array<Limits::Bucket, kKinds> sizes = {limits.resets,     limits.settings,       limits.priorities,
                                                    limits.empty_data, limits.window_updates, limits.unknown,
                                                    limits.refused};
  for (size_t i = 0; i < kKinds; ++i) buckets_[i] = Bucket{sizes[i].burst, sizes[i].burst, sizes[i].per_second, now};
}

bool FloodGuard::Allows(Kind kind, Time now) noexcept {
  Bucket& bucket = buckets_[static_cast<size_t>(kind)];
  if (bucket.left < 1) {  // The clock is looked at only by those who come close.
    const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
    bucket.left = std::min(bucket.burst, bucket.left + seconds * bucket.per_second);
    bucket.filled = now;
    if (bucket.left < 1) return false;
  }
  bucket.left -= 1;
  return true;
}

bool FloodGuard::AllowsPing(Time now) noexcept {
  const bool soon = now - last_ping_ < ping_;
  last_ping_ = now;
  if (!quiet_) strikes_ = 0;
  quiet_ = true;
  if (!soon) return true;
  return ++strikes_ <= ping_strikes_;
}

void FloodGuard::SentData() noexcept {
  quiet_ = false;
  Bucket& bucket = buckets_[static_cast<size_t>(Kind::kWindowUpdate)];
  bucket.left = std::min(bucket.burst, bucket.left + window_updates_per_data_);
}

}  // namespace prefixdb::front
