// Who is inside the store. The one that closes it refuses newcomers and waits for the others.
//
// A forked child has a copy of everything but the threads: entering RocksDB there hangs or does damage, and so does
// every destructor. It is refused here, by a number that changes in every child.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>

namespace prefixdb {

// Differs between a process and its forked children. Thread-safe, one relaxed load.
uint64_t ForkGeneration() noexcept;

// Thread-safe. Lives longer than every user.
class UseCount {
 public:
  UseCount() : generation_(ForkGeneration()) {}

  // Returns whether the caller may go in; then it calls Leave.
  [[nodiscard]] bool Enter() noexcept {
    if (Forked()) return false;
    users_.fetch_add(1);
    // Sequentially consistent with Refuse and Wait: either we see the refusal or they see us.
    if (!refused_.load()) return true;
    Leave();
    return false;
  }
  void Leave() noexcept {
    if (users_.fetch_sub(1) == 1 && refused_.load()) {
      const std::lock_guard lock(mutex_);
      left_.notify_all();
    }
  }

  void Refuse() noexcept { refused_.store(true); }
  bool refused() const noexcept { return refused_.load(); }
  bool Forked() const noexcept { return generation_ != ForkGeneration(); }

  // Waits until nobody is inside. REQUIRES: Refuse was called.
  void Wait() {
    std::unique_lock lock(mutex_);
    left_.wait(lock, [this] { return users_.load() == 0; });
  }

 private:
  const uint64_t generation_;
  std::atomic<int64_t> users_{0};
  std::atomic<bool> refused_{false};
  std::mutex mutex_;
  std::condition_variable left_;
};

// The stay of one call; movable.
class Use {
 public:
  Use() = default;
  explicit Use(UseCount* count) : count_(count->Enter() ? count : nullptr) {}
  Use(Use&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  Use& operator=(Use&& other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  ~Use() {
    if (count_ != nullptr) count_->Leave();
  }
  explicit operator bool() const noexcept { return count_ != nullptr; }

 private:
  UseCount* count_ = nullptr;
};

}  // namespace prefixdb
