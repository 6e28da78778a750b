// Latencies in buckets that are 1/64 wide of their value: exact enough for a p99.9, one addition per call.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {

// Values in nanoseconds, up to 2^40 (18 minutes); larger ones count as that. Not thread-safe.
class Histogram {
 public:
  void Add(uint64_t nanoseconds) {
    ++counts_[Index(nanoseconds < kMax ? nanoseconds : kMax - 1)];
    ++total_;
  }

  // Middle of the bucket that holds the value of that rank; 0 when nothing was added. 0 <= share <= 1.
  uint64_t Quantile(double share) const {
    if (total_ == 0) return 0;
    auto rank = static_cast<uint64_t>(static_cast<double>(total_) * share);
    if (rank >= total_) rank = total_ - 1;
    uint64_t seen = 0;
    for (size_t index = 0; index < counts_.size(); ++index) {
      seen += counts_[index];
      if (seen > rank) return Middle(index);
    }
    return kMax;
  }

  uint64_t total() const { return total_; }

  void Merge(const Histogram& other) {
    for (size_t index = 0; index < counts_.size(); ++index) counts_[index] += other.counts_[index];
    total_ += other.total_;
  }

 private:
  static constexpr unsigned kSubBits = 6;
  static constexpr unsigned kMaxBits = 40;
  static constexpr uint64_t kMax = 1ull << kMaxBits;

  // Values below 2^kSubBits have a bucket each; every further power of two is cut into 2^kSubBits of them.
  static size_t Index(uint64_t value) {
    const unsigned width = static_cast<unsigned>(std::bit_width(value));
    if (width <= kSubBits) return value;
    const unsigned shift = width - kSubBits - 1;
    return (static_cast<size_t>(shift + 1) << kSubBits) + ((value >> shift) - (1u << kSubBits));
  }

  static uint64_t Middle(size_t index) {
    if (index < (1u << kSubBits)) return index;
    const auto shift = static_cast<unsigned>(index >> kSubBits) - 1;
    const uint64_t low = ((1ull << kSubBits) + (index & ((1u << kSubBits) - 1))) << shift;
    return low + (1ull << shift) / 2;
  }

  std::array<uint64_t, size_t{kMaxBits - kSubBits + 1} << kSubBits> counts_{};
  uint64_t total_ = 0;
};

}  // namespace bench
