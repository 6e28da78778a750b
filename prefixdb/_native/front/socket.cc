#include "front/socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "front/descriptor.h"

namespace prefixdb::front {

namespace {

bool IsLater(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

class Plain final : public Socket {
 public:
  Plain(int fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {}

  Progress Handshake() override { return {Io::kDone}; }

  Progress Read(std::span<uint8_t> buffer) override {
    if (buffer.empty()) return {Io::kDone};  // The kernel would say 0, as it does at the end.
    ssize_t count = 0;
    do {
      count = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    } while (count < 0 && errno == EINTR);
    if (count > 0) return {Io::kDone, static_cast<size_t>(count)};
    if (count == 0) return {Io::kClosed};
    return {IsLater(errno) ? Io::kAgain : Io::kBroken};
  }

  Progress Write(std::span<const uint8_t> bytes) override {
    if (bytes.empty()) return {Io::kDone};
    ssize_t count = 0;
    do {
      count = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    } while (count < 0 && errno == EINTR);
    full_ = count < 0 && IsLater(errno);
    if (count > 0) return {Io::kDone, static_cast<size_t>(count)};
    return {full_ ? Io::kAgain : Io::kBroken};
  }

  void Farewell() override { shutdown(fd_.get(), SHUT_WR); }

  uint32_t wants() const noexcept override { return full_ ? EPOLLIN | EPOLLOUT : EPOLLIN; }
  int fd() const noexcept override { return fd_.get(); }
  const std::string& peer() const noexcept override { return peer_; }
  const std::string& peer_certificate() const noexcept override { return no_certificate_; }
  bool is_tls() const noexcept override { return false; }

 private:
  const Descriptor fd_;
  const std::string peer_;
  const std::string no_certificate_;
  bool full_ = false;  // The last Write was told to come again.
};

}  // namespace

std::unique_ptr<Socket> PlainSocket(int fd, std::string peer) { return std::make_unique<Plain>(fd, std::move(peer)); }

}  // namespace prefixdb::front
