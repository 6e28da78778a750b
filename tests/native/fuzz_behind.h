// The server behind the fuzzed front, as bytes: a unix socket that takes the front's connections and says whatever an
// input has it say, frames that are right and others.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "front_client.h"
#include "fuzz.h"
#include "support.h"

namespace prefixdb::test {

// One for all inputs of a process. Not thread-safe.
class Behind {
 public:
  Behind() : path_((scratch_.path() / "behind").string()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    Insist(path_.size() < sizeof(address.sun_path), "a short temporary directory");
    std::memcpy(address.sun_path, path_.data(), path_.size());
    listening_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    Insist(bind(listening_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0, "a socket is bound");
    Insist(listen(listening_, 64) == 0, "a socket listens");
  }
  ~Behind() {
    Forget();
    close(listening_);
  }
  Behind(const Behind&) = delete;
  Behind& operator=(const Behind&) = delete;

  const std::string& path() const { return path_; }

  // Reads what the front sends, and answers.
  void Act(Decisions* input) {
    Accept();
    if (connections_.empty()) return;
    const size_t which = input->Below(4) % connections_.size();
    const int fd = connections_[which];
    std::array<char, 65536> buffer;
    (void)!recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    const std::string bytes = Answer(input);
    (void)!send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (input->Below(32) == 31) {
      close(fd);
      connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }

  // Ends what there is; for the next input.
  void Forget() {
    Accept();
    for (const int fd : connections_) close(fd);
    connections_.clear();
  }

 private:
  void Accept() {
    int fd = -1;
    while ((fd = accept4(listening_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
      const std::string settings = Frame(NGHTTP2_SETTINGS, 0, 0);
      (void)!send(fd, settings.data(), settings.size(), MSG_NOSIGNAL);
      connections_.push_back(fd);
    }
  }

  static std::string Odd(Decisions* input, uint32_t id) {
    const auto type = static_cast<uint8_t>(input->Below(12));
    const uint8_t flags = input->Byte();
    const auto bytes = input->Bytes(300);
    return Frame(type, flags, id, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  static std::string Answer(Decisions* input) {
    const size_t what = input->Below(14);
    const auto id = static_cast<uint32_t>(2 * input->Below(8) + 1);
    const uint8_t ends = input->Below(2) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    const uint8_t whole = NGHTTP2_FLAG_END_HEADERS;
    const auto text = [&](size_t most) {
      const auto bytes = input->Bytes(most);
      return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    const auto size = [&] { return std::string(1, '\0') + static_cast<char>(input->Below(4)) + "\x40\x01"; };
    switch (what) {
      case 0:
        return Frame(NGHTTP2_HEADERS, whole | ends, id,
                     Block({{":status", "200"}, {"content-type", "application/grpc"}}));
      case 1:
        return Frame(NGHTTP2_HEADERS, whole | ends, id, Block({{":status", "200"}, {"grpc-status", "5"}}));
      case 2:
        return Frame(NGHTTP2_HEADERS, whole | NGHTTP2_FLAG_END_STREAM, id,
                     Block({{"grpc-status", std::to_string(input->Byte() % 18)}, {"grpc-message", "of Python"}}));
      case 3:
        return Frame(NGHTTP2_DATA, ends, id, Framed(text(2000)));
      case 4:
        return Frame(NGHTTP2_DATA, ends, id, std::string(input->Below(64) * 256, 'd'));
      case 5:
        return Frame(NGHTTP2_RST_STREAM, 0, id, std::string(3, '\0') + static_cast<char>(input->Below(16)));
      case 6:
        return Frame(NGHTTP2_GOAWAY, 0, 0, std::string(3, '\0') + static_cast<char>(id) + std::string(4, '\0'));
      case 7:
        return Frame(NGHTTP2_WINDOW_UPDATE, 0, ends != 0 ? id : 0, size());
      case 8:
        return Frame(NGHTTP2_SETTINGS, 0, 0, std::string(1, '\0') + static_cast<char>(input->Below(7)) + size());
      case 9:
        return Frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0);
      case 10:
        return Odd(input, ends != 0 ? id : 0);
      case 11:
      case 12:  // All of an answer.
        return Frame(NGHTTP2_HEADERS, whole, id, Block({{":status", "200"}, {"content-type", "application/grpc"}})) +
               Frame(NGHTTP2_DATA, 0, id, std::string(input->Below(64) * 256, 'd')) +
               Frame(NGHTTP2_HEADERS, whole | NGHTTP2_FLAG_END_STREAM, id,
                     Block({{"grpc-status", ends != 0 ? "0" : "7"}}));
      default:
        return text(300);
    }
  }

  const Scratch scratch_;
  const std::string path_;
  int listening_ = -1;
  std::vector<int> connections_;
};

}  // namespace prefixdb::test
