// Goal: a plain connection gives and takes every byte, tells its ends apart, and a peer's address reads as gRPC's.
//
// Method: socket pairs and TCP connections of this machine; the expected addresses are what grpc.aio 1.x said for the
// same clients.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>

#include "front/descriptor.h"
#include "front/peer_text.h"
#include "front/socket.h"
#include "support.h"

namespace {

using prefixdb::front::Descriptor;
using prefixdb::front::PeerText;
using prefixdb::front::PlainSocket;
using prefixdb::front::Socket;
using Io = Socket::Io;

struct Pair {
  Pair() {
    std::array<int, 2> pair{};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) == 0);
    socket = PlainSocket(pair[0], "unix:");
    peer = Descriptor(pair[1]);
  }
  std::unique_ptr<Socket> socket;
  Descriptor peer;
};

sockaddr_storage Ipv6(const char* text, uint16_t port, uint32_t scope) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_scope_id = scope;
  REQUIRE(inet_pton(AF_INET6, text, &address.sin6_addr) == 1);
  sockaddr_storage storage{};
  std::memcpy(&storage, &address, sizeof(address));
  return storage;
}

}  // namespace

TEST_CASE("bytes arrive whole and in order though the kernel takes a part at a time") {
  prefixdb::test::Seeded random;
  Pair pair;
  CHECK(pair.socket->Handshake().io == Io::kDone);
  CHECK(!pair.socket->is_tls());
  CHECK(pair.socket->peer() == "unix:");
  CHECK(pair.socket->peer_certificate().empty());
  CHECK(pair.socket->wants() == EPOLLIN);
  const std::string sent = prefixdb::test::Noise(&random, 2'000'000);
  std::string seen;
  std::span<const uint8_t> left(reinterpret_cast<const uint8_t*>(sent.data()), sent.size());
  std::array<char, 70'000> buffer;
  while (seen.size() < sent.size()) {
    while (!left.empty()) {
      const Socket::Progress progress = pair.socket->Write(left);
      if (progress.io == Io::kAgain) break;
      REQUIRE(progress.io == Io::kDone);
      REQUIRE(progress.bytes > 0);
      left = left.subspan(progress.bytes);
    }
    CHECK(pair.socket->wants() == (left.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT));
    const ssize_t count = recv(pair.peer.get(), buffer.data(), random.Below(buffer.size()) + 1, 0);
    if (count > 0) seen.append(buffer.data(), static_cast<size_t>(count));
  }
  CHECK(seen == sent);
}

TEST_CASE("nothing yet, an end in order and one that is not are told apart, and none of them is a signal") {
  std::array<uint8_t, 10> buffer;
  const std::array<uint8_t, 3> bytes = {1, 2, 3};
  Pair pair;
  CHECK(pair.socket->Read(buffer).io == Io::kAgain);
  CHECK(pair.socket->Read({}).io == Io::kDone);
  CHECK(pair.socket->Write({}).io == Io::kDone);
  CHECK(send(pair.peer.get(), "bye", 3, 0) == 3);
  shutdown(pair.peer.get(), SHUT_WR);
  CHECK(pair.socket->Read(buffer).bytes == 3);
  CHECK(pair.socket->Read(buffer).io == Io::kClosed);
  CHECK(pair.socket->Write(bytes).io == Io::kDone);
  pair.socket->Farewell();
  CHECK(pair.socket->Write(bytes).io == Io::kBroken);
  CHECK(recv(pair.peer.get(), buffer.data(), buffer.size(), 0) == 3);
  CHECK(recv(pair.peer.get(), buffer.data(), buffer.size(), 0) == 0);

  Pair reset;
  CHECK(reset.socket->Write(bytes).io == Io::kDone);
  reset.peer.Close();  // With bytes that it has not read.
  CHECK(reset.socket->Read(buffer).io == Io::kBroken);
  CHECK(reset.socket->Write(bytes).io == Io::kBroken);
  reset.socket->Farewell();
}

TEST_CASE("a socket closes its descriptor") {
  Pair pair;
  const int fd = pair.socket->fd();
  pair.socket.reset();
  CHECK(fcntl(fd, F_GETFD) == -1);
}

TEST_CASE("addresses are written as gRPC writes them") {
  CHECK(PeerText(Ipv6("::1", 4711, 0)) == "ipv6:%5B::1%5D:4711");
  CHECK(PeerText(Ipv6("fe80::1", 80, 2)) == "ipv6:%5Bfe80::1%252%5D:80");
  CHECK(PeerText(Ipv6("::ffff:192.0.2.1", 65535, 0)) == "ipv4:192.0.2.1:65535");
  sockaddr_storage storage{};
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(1);
  ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::memcpy(&storage, &ipv4, sizeof(ipv4));
  CHECK(PeerText(storage) == "ipv4:127.0.0.1:1");
  storage = {};
  storage.ss_family = AF_UNIX;
  CHECK(PeerText(storage) == "unix:");
}
