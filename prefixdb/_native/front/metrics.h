// Calls that were answered here, counted for the server's own metrics page: by method and code, with their times.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace prefixdb::front {

// The methods that are answered natively.
enum class NativeMethod : uint8_t { kGet, kBatchGet, kPut, kDelete, kWrite, kScan, kCount, kPipeline };
inline constexpr size_t kNativeMethods = 8;
inline constexpr size_t kStatusCodes = 17;
// Upper bounds, microseconds; the same buckets as prefixdb/server/metrics.py, LATENCY_BUCKETS_S.
inline constexpr std::array<uint32_t, 11> kLatencyBucketsUs = {
    100, 300, 1'000, 3'000, 10'000, 30'000, 100'000, 300'000, 1'000'000, 3'000'000, 10'000'000};

// Thread-safe: relaxed counters. A call that was punted or forwarded is counted by Python.
class Metrics {
 public:
  struct PerMethod {
    std::array<std::atomic<uint64_t>, kStatusCodes> codes{};
    std::array<std::atomic<uint64_t>, kLatencyBucketsUs.size() + 1> buckets{};  // Not cumulative.
    std::atomic<uint64_t> sum_us{0};
  };

  void CallEnded(NativeMethod method, uint8_t code, uint64_t microseconds) noexcept {
    PerMethod& counts = methods_[static_cast<size_t>(method)];
    counts.codes[code < kStatusCodes ? code : 2].fetch_add(1, std::memory_order_relaxed);
    size_t bucket = 0;
    while (bucket < kLatencyBucketsUs.size() && microseconds > kLatencyBucketsUs[bucket]) ++bucket;
    counts.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
    counts.sum_us.fetch_add(microseconds, std::memory_order_relaxed);
  }
  const PerMethod& of(NativeMethod method) const noexcept { return methods_[static_cast<size_t>(method)]; }

  std::atomic<int64_t> connections{0};  // Open now.
  std::atomic<uint64_t> forwarded{0};   // Calls that went to Python as they came.
  std::atomic<uint64_t> punted{0};      // Calls that were begun here and handed over.

 private:
  std::array<PerMethod, kNativeMethods> methods_;
};

}  // namespace prefixdb::front
