// A port, clients, and a house of loops that a listener brings connections to.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "front/descriptor.h"
#include "front/listener.h"
#include "support.h"

namespace prefixdb::test {

using front::Descriptor;

// A TCP port of this machine that somebody listens to.
class Port {
 public:
  Port() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address_), sizeof(address_)) == 0);
    REQUIRE(listen(fd, 128) == 0);
    socklen_t length = sizeof(address_);
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&address_), &length) == 0);
  }
  // An empty one when nobody listens.
  Descriptor Connect(Descriptor client = Descriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))) const {
    REQUIRE(client);
    if (connect(client.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 0) client.Close();
    return client;
  }

  const int fd;

 private:
  sockaddr_in address_{};
};

// As the other side sees it.
inline std::string Name(const Descriptor& client) {
  sockaddr_in own{};
  socklen_t length = sizeof(own);
  REQUIRE(getsockname(client.get(), reinterpret_cast<sockaddr*>(&own), &length) == 0);
  return "ipv4:127.0.0.1:" + std::to_string(ntohs(own.sin_port));
}

// Waits for the other side; whether it is the end that comes.
inline bool Ended(const Descriptor& client) {
  char byte = 0;
  return recv(client.get(), &byte, 1, 0) <= 0;
}

// Loops in threads, and what a listener has brought to them.
class House {
 public:
  explicit House(size_t loops) : got(loops) {
    for (size_t each = 0; each < loops; ++each) {
      loops_.push_back(std::make_unique<front::Loop>());
      threads_.emplace_back([loop = loops_.back().get()] { loop->Run(); });
    }
  }
  ~House() { Join(); }
  void Join() {
    for (auto& loop : loops_) loop->Stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  std::unique_ptr<front::Listener> Listen(int fd, int64_t connections_max = 100) {
    return std::make_unique<front::Listener>(fd, all(), &open, connections_max, [this](front::Loop* loop, auto socket) {
      CHECK(loop->OnOwnThread());
      const std::lock_guard lock(mutex);
      for (size_t index = 0; index < loops_.size(); ++index) {
        if (loops_[index].get() == loop) got[index].push_back(std::move(socket));
      }
      ++served;
    });
  }
  std::vector<front::Loop*> all() {
    std::vector<front::Loop*> each;
    for (auto& loop : loops_) each.push_back(loop.get());
    return each;
  }
  front::Loop& loop(size_t index) { return *loops_[index]; }
  // Runs it there and waits for it.
  void On(size_t index, const std::function<void()>& function) {
    std::promise<void> done;
    loop(index).Post([&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  }
  // Closes one connection as a gateway would.
  void DropOne(size_t index) {
    const std::lock_guard lock(mutex);
    REQUIRE(!got[index].empty());
    got[index].pop_back();
    --open;
  }

  std::atomic<int64_t> open{0};
  std::atomic<size_t> served{0};
  std::mutex mutex;
  std::vector<std::vector<std::unique_ptr<front::Socket>>> got;

 private:
  std::vector<std::unique_ptr<front::Loop>> loops_;
  std::vector<std::thread> threads_;
};

}  // namespace prefixdb::test
