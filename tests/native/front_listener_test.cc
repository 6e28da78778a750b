// Goal: every connection gets to one loop, in turns, and is counted once and no longer than it lives; a crowd, a lack
// of descriptors and the end of the server turn into nothing worse than connections that are closed.
//
// Method: real listening sockets on 127.0.0.1 and in the file system, loops in threads, clients that are this test.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <future>
#include <vector>

#include "front/listener.h"
#include "listener_support.h"
#include "tls_support.h"

namespace {

using namespace std::chrono_literals;
using prefixdb::front::Descriptor;
using prefixdb::front::Listener;
using prefixdb::front::Loop;
using prefixdb::front::Socket;
using prefixdb::front::TlsServer;
using prefixdb::test::Ended;
using prefixdb::test::House;
using prefixdb::test::Identity;
using prefixdb::test::Name;
using prefixdb::test::Port;
using prefixdb::test::TlsClient;
using prefixdb::test::WaitFor;

// UndefinedBehaviorSanitizer, which comes with AddressSanitizer here, looks at objects through a pipe: without
// descriptors it takes every one for damaged.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kNeedsDescriptors = true;
#else
constexpr bool kNeedsDescriptors = false;
#endif

// All descriptors are taken, for as long as this lives.
class Scarce {
 public:
  Scarce() {
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit few = before_;
    few.rlim_cur = 256;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (true) {
      Descriptor taken(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
      if (!taken) break;
      taken_.push_back(std::move(taken));
    }
  }
  ~Scarce() {
    taken_.clear();
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_{};
  std::vector<Descriptor> taken_;
};

std::chrono::nanoseconds ThreadTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

TEST_CASE("connections go to the loops in turns, ready to be used, with their peers' names") {
  House house(3);
  const Port port;
  const auto listener = house.Listen(port.fd);
  listener->Start();
  std::vector<Descriptor> clients;
  for (size_t each = 0; each < 6; ++each) {
    clients.push_back(port.Connect());
    WaitFor([&] { return house.served == each + 1; });
  }
  CHECK(house.open == 6);
  const std::lock_guard lock(house.mutex);
  for (size_t each = 0; each < 6; ++each) {
    const Socket& socket = *house.got[each % 3][each / 3];
    CHECK(socket.peer() == Name(clients[each]));
    CHECK(!socket.is_tls());
    CHECK((fcntl(socket.fd(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC) != 0);
    int no_delay = 0;
    socklen_t length = sizeof(no_delay);
    CHECK(getsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &no_delay, &length) == 0);
    CHECK(no_delay != 0);
  }
}

TEST_CASE("a crowd is let in whole") {
  House house(2);
  const Port port;
  const auto listener = house.Listen(port.fd, 200);
  std::vector<Descriptor> clients;
  for (int each = 0; each < 100; ++each) clients.push_back(port.Connect());
  listener->Start();
  WaitFor([&] { return house.served == 100; });
  CHECK(house.open == 100);
  const std::lock_guard lock(house.mutex);
  CHECK(house.got[0].size() == 50);
}

TEST_CASE("beyond the limit a connection is closed at once, and the next one is welcome when another has ended") {
  House house(2);
  const Port port;
  const auto listener = house.Listen(port.fd, 2);
  listener->Start();
  std::vector<Descriptor> clients;
  for (int each = 0; each < 2; ++each) clients.push_back(port.Connect());
  WaitFor([&] { return house.served == 2; });
  for (int each = 0; each < 5; ++each) CHECK(Ended(port.Connect()));
  CHECK(house.open == 2);
  CHECK(house.served == 2);
  house.DropOne(0);
  clients.push_back(port.Connect());
  WaitFor([&] { return house.served == 3; });
  CHECK(house.open == 2);
}

TEST_CASE("a client that is gone before it was let in harms nobody") {
  House house(1);
  const Port port;
  const auto listener = house.Listen(port.fd);
  for (int each = 0; each < 10; ++each) {
    Descriptor client = port.Connect();
    const linger reset{1, 0};
    setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  }
  listener->Start();
  const Descriptor client = port.Connect();
  WaitFor([&] {
    const std::lock_guard lock(house.mutex);
    return !house.got[0].empty() && house.got[0].back()->peer() == Name(client);
  });
}

TEST_CASE("without descriptors the listener pauses instead of turning in circles, and goes on when there are some" *
          doctest::skip(kNeedsDescriptors)) {
  House house(1);
  const Port port;
  const auto listener = house.Listen(port.fd);
  listener->Start();
  Descriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::promise<void> rested;
  std::chrono::nanoseconds used{0};
  {
    const Scarce scarce;
    client = port.Connect(std::move(client));
    REQUIRE(client);
    house.On(0, [&] {
      const auto before = ThreadTime();
      house.loop(0).After(450ms, [&, before] {
        used = ThreadTime() - before;
        rested.set_value();
      });
    });
    rested.get_future().wait();
    CHECK(house.served == 0);
    CHECK(house.open == 0);
  }
  CHECK(used < 15ms);  // A few tries; a loop that turns in circles takes all it can get.
  WaitFor([&] { return house.served == 1; });
}

TEST_CASE("stopping during a pause ends it" * doctest::skip(kNeedsDescriptors)) {
  House house(1);
  const Port port;
  auto listener = house.Listen(port.fd);
  listener->Start();
  Descriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    const Scarce scarce;
    client = port.Connect(std::move(client));
    house.On(0, [] {});
    house.On(0, [] {});
    listener.reset();
    house.On(0, [] {});
  }
  CHECK(Ended(client));
  std::promise<void> later;  // Than the pause would have ended.
  house.On(0, [&] { house.loop(0).After(150ms, [&] { later.set_value(); }); });
  later.get_future().wait();
  CHECK(house.served == 0);
}

TEST_CASE("a connection that cannot be taken over is lost alone") {
  House house(1);
  const Port port;
  std::atomic<int> tried{0};
  Listener listener(port.fd, house.all(), &house.open, 100, [&](Loop*, std::unique_ptr<Socket>) {
    --house.open;
    if (++tried == 1) throw std::bad_alloc();
  });
  listener.Start();
  CHECK(Ended(port.Connect()));
  CHECK(Ended(port.Connect()));
  CHECK(tried == 2);
  CHECK(house.open == 0);
}

TEST_CASE("after Stop nobody is let in, what is on its way is closed and not counted, and what got there lives on") {
  House house(2);
  const Port port;
  const auto listener = house.Listen(port.fd);
  listener->Start();
  const Descriptor first = port.Connect();
  WaitFor([&] { return house.served == 1; });
  // The second loop is busy: the second connection waits for it.
  std::promise<void> busy;
  std::promise<void> go_on;
  house.loop(1).Post([&] {
    busy.set_value();
    go_on.get_future().wait();
  });
  busy.get_future().wait();
  const Descriptor second = port.Connect();
  WaitFor([&] { return house.open == 2; });
  listener->Stop();
  listener->Stop();
  go_on.set_value();
  CHECK(Ended(second));
  WaitFor([&] { return house.open == 1; });
  house.On(0, [] {});
  CHECK(!port.Connect());
  listener->Start();
  house.On(0, [] {});
  CHECK(!port.Connect());
  CHECK(house.served == 1);
  const std::lock_guard lock(house.mutex);
  const std::array<uint8_t, 1> byte = {'x'};
  CHECK(house.got[0][0]->Write(byte).io == Socket::Io::kDone);
  CHECK(!Ended(first));
}

TEST_CASE("a listener that was never started, or whose loops have ended, closes its socket") {
  const Port never;
  const Port late;
  House house(1);
  house.Listen(never.fd).reset();
  house.On(0, [] {});
  CHECK(!never.Connect());
  {
    House ended(1);
    const auto listener = ended.Listen(late.fd);
    listener->Start();
    const Descriptor client = late.Connect();
    WaitFor([&] { return ended.served == 1; });
    ended.Join();
  }
  CHECK(!late.Connect());
}

TEST_CASE("connections speak TLS from when they are told to, and each with the certificate of its time") {
  House house(2);
  const Port port;
  const auto listener = house.Listen(port.fd);
  listener->Start();
  const Descriptor plain = port.Connect();
  WaitFor([&] { return house.served == 1; });
  std::vector<std::unique_ptr<TlsClient>> clients;
  std::vector<std::unique_ptr<Identity>> identities;
  for (size_t turn = 0; turn < 2; ++turn) {
    identities.push_back(std::make_unique<Identity>("server", Identity::Wish{}));
    std::string why;
    listener->SetTls(TlsServer::Make({identities[turn]->pem(), identities[turn]->key_pem(), ""}, &why));
    clients.push_back(std::make_unique<TlsClient>(port.Connect().Release(), prefixdb::test::ClientWish{}));
    fcntl(clients[turn]->fd(), F_SETFL, O_NONBLOCK);
    WaitFor([&] { return house.served == turn + 2; });
    Socket* socket = nullptr;
    {
      const std::lock_guard lock(house.mutex);
      socket = house.got[(turn + 1) % 2].back().get();
    }
    CHECK(socket->is_tls());
    WaitFor([&] {
      const bool there = clients[turn]->Handshake() == TlsClient::Step::kDone;
      return socket->Handshake().io == Socket::Io::kDone && there;
    });
    CHECK(X509_cmp(SSL_get0_peer_certificate(clients[turn]->ssl()), identities[turn]->certificate()) == 0);
  }
  const std::lock_guard lock(house.mutex);
  CHECK(!house.got[0][0]->is_tls());
}

TEST_CASE("a unix socket's clients have no name") {
  House house(1);
  const prefixdb::test::Scratch scratch;
  const std::string path = (scratch.path() / "socket").string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(listen(fd, 10) == 0);
  const auto listener = house.Listen(fd);
  listener->Start();
  const Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  WaitFor([&] { return house.served == 1; });
  const std::lock_guard lock(house.mutex);
  CHECK(house.got[0][0]->peer() == "unix:");
}
