// A descriptor with an owner.
#pragma once

#include <unistd.h>

#include <utility>

namespace prefixdb::front {

// Movable. Closes what it owns.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int Release() noexcept { return std::exchange(fd_, -1); }
  void Close() noexcept {
    if (fd_ >= 0) close(Release());  // Never again after EINTR: the number may be somebody else's by then.
  }

 private:
  int fd_;
};

}  // namespace prefixdb::front
