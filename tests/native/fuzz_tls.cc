// Fuzzes a TLS connection's server side: whatever a client sends, in whatever pieces, the connection says something
// sensible, breaks for good when it breaks, and answers no more than a handshake's worth.
//
//   u8 decision, then pieces: length (fuzz.h), bytes
//
// The decision says whether the pieces come instead of a client's handshake or, on the wire, behind a good one.
#include <array>

#include "fuzz.h"
#include "tls_support.h"

using prefixdb::front::Socket;
using prefixdb::front::TlsServer;
using prefixdb::test::Decisions;
using prefixdb::test::Identity;
using prefixdb::test::Insist;
using prefixdb::test::TlsPair;
using Io = Socket::Io;

namespace {

std::shared_ptr<TlsServer> Serve(bool asks_clients) {
  static const Identity identity("server", {});
  std::string why;
  auto made = TlsServer::Make({identity.pem(), identity.key_pem(), asks_clients ? identity.pem() : ""}, &why);
  Insist(made != nullptr, why);
  return made;
}

// What the server has to say about what is there.
Io Turn(Socket* socket) {
  const Io greeting = socket->Handshake().io;
  if (greeting != Io::kDone) return greeting;
  std::array<uint8_t, 4096> buffer;
  while (true) {
    const Socket::Progress progress = socket->Read(buffer);
    if (progress.io != Io::kDone) return progress.io;
    Insist(progress.bytes > 0 && progress.bytes <= buffer.size(), "a read that is done has brought bytes");
  }
}

size_t Answered(int fd) {
  std::array<char, 16384> buffer;
  size_t all = 0;
  ssize_t count = 0;
  while ((count = recv(fd, buffer.data(), buffer.size(), 0)) > 0) all += static_cast<size_t>(count);
  return all;
}

}  // namespace

void FuzzOne(std::span<const uint8_t> input) {
  static const std::array<std::shared_ptr<TlsServer>, 2> servers = {Serve(false), Serve(true)};
  Decisions decisions(input);
  const uint8_t how = decisions.Byte();
  const bool greeted = (how & 1) != 0;
  const int version = (how & 4) != 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
  TlsPair pair(*servers[greeted ? 0 : (how >> 1) & 1], {.version_max = version});
  if (greeted) Insist(pair.Greet(), "a good client is let in");
  size_t answered = 0;
  bool broken = false;
  while (!decisions.empty()) {
    const auto piece = decisions.Bytes(32 << 10);
    (void)!send(pair.client->fd(), piece.data(), piece.size(), MSG_NOSIGNAL);
    const Io io = Turn(pair.server.get());
    Insist(!broken || io == Io::kBroken, "what is broken stays broken");
    broken = broken || io == Io::kBroken;
    answered += Answered(pair.client->fd());
  }
  const uint32_t wants = pair.server->wants();
  Insist(wants == EPOLLIN || wants == (EPOLLIN | EPOLLOUT), "somebody can wait for what it wants");
  Insist(answered < (16 << 10), "answers are small");
  pair.server->Farewell();
}
