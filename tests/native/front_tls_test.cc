// Goal: a TLS connection carries every byte whatever the kernel takes at a time, tells its ends apart, and no peer
// costs more than its share or learns more than an alert.
//
// Method: OpenSSL's client at the other end of a socket pair, in one thread: both sides take turns, nothing waits.
#include "front/tls.h"
#include "tls_support.h"

using prefixdb::front::Socket;
using prefixdb::test::Bytes;
using prefixdb::test::ReadAll;
using prefixdb::test::Seeded;
using prefixdb::test::Serving;
using prefixdb::test::TlsClient;
using prefixdb::test::TlsPair;
using Io = Socket::Io;

TEST_CASE("bytes arrive whole and in order, both ways, though neither kernel nor peer takes them at once") {
  Seeded random;
  const auto tls = Serving();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsPair pair(*tls, {.version_max = version});
    REQUIRE(pair.Greet());
    CHECK(pair.server->Handshake().io == Io::kDone);
    CHECK(pair.server->is_tls());
    CHECK(pair.server->peer() == "unix:");
    CHECK(pair.server->wants() == EPOLLIN);
    const std::string down = prefixdb::test::Noise(&random, 3'000'000);
    const std::string up = prefixdb::test::Noise(&random, 2'000'000);
    std::string down_seen;
    std::string up_seen;
    std::string_view down_left = down;
    std::string_view up_left = up;
    bool was_full = false;
    while (down_seen.size() < down.size() || up_seen.size() < up.size()) {
      // As much as goes out; each retry from elsewhere in memory and longer than before.
      while (!down_left.empty()) {
        const std::string moved(down_left.substr(0, random.Below(100'000) + 40'000));
        const Socket::Progress progress = pair.server->Write(Bytes(moved));
        if (progress.io == Io::kAgain) {
          CHECK(pair.server->wants() == (EPOLLIN | EPOLLOUT));
          was_full = true;
          break;
        }
        REQUIRE(progress.io == Io::kDone);
        REQUIRE(progress.bytes > 0);
        down_left.remove_prefix(progress.bytes);
      }
      Io last{};
      up_seen += ReadAll(pair.server.get(), &last);
      REQUIRE(last == Io::kAgain);
      while (pair.client->Read(&down_seen) == TlsClient::Step::kDone) {
      }
      while (!up_left.empty() && pair.client->Write(&up_left) == TlsClient::Step::kDone) {
      }
    }
    CHECK(was_full);
    CHECK((down_seen == down && up_seen == up));
    CHECK(pair.server->wants() == EPOLLIN);
  }
}

TEST_CASE("an end in order is told from one that cuts") {
  const auto tls = Serving();
  std::string_view last_words = "bye";
  Io last{};
  {
    TlsPair orderly(*tls, {});
    REQUIRE(orderly.Greet());
    CHECK(orderly.client->Write(&last_words) == TlsClient::Step::kDone);
    SSL_shutdown(orderly.client->ssl());
    CHECK(ReadAll(orderly.server.get(), &last) == "bye");
    CHECK(last == Io::kClosed);
    orderly.server->Farewell();
    std::string nothing;
    CHECK(orderly.client->Read(&nothing) == TlsClient::Step::kFailed);
    CHECK(SSL_get_shutdown(orderly.client->ssl()) == (SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN));
  }
  TlsPair cut(*tls, {});
  REQUIRE(cut.Greet());
  last_words = "bye";
  CHECK(cut.client->Write(&last_words) == TlsClient::Step::kDone);
  cut.client->Close();
  CHECK(ReadAll(cut.server.get(), &last) == "bye");
  CHECK(last == Io::kBroken);
  CHECK(cut.server->Write(Bytes("anybody?")).io == Io::kBroken);
  CHECK(cut.server->Handshake().io == Io::kBroken);
  cut.server->Farewell();
}

TEST_CASE("writing to a peer that is gone is an answer, not a signal") {
  const auto tls = Serving();
  TlsPair pair(*tls, {});
  REQUIRE(pair.Greet());
  pair.client->Close();
  CHECK(pair.server->Write(Bytes("anybody?")).io == Io::kBroken);
  TlsPair early(*tls, {});
  CHECK(early.client->Handshake() == TlsClient::Step::kAgain);
  early.client->Close();
  CHECK(early.server->Handshake().io == Io::kBroken);
  early.server->Farewell();
}

TEST_CASE("garbage breaks the connection, at any point, and is answered by no more than an alert") {
  Seeded random;
  const auto tls = Serving();
  for (int turn = 0; turn < 300; ++turn) {
    TlsPair pair(*tls, {});
    const bool greeted = turn % 3 != 0;
    if (greeted) REQUIRE(pair.Greet());
    std::string noise = prefixdb::test::Noise(&random, random.Below(200) + 20);
    // Half of it looks like a record.
    if (turn % 2 == 0) noise.replace(0, 5, {0x16, 0x03, 0x01, 0x00, static_cast<char>(noise.size() - 5)});
    REQUIRE(send(pair.client->fd(), noise.data(), noise.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(noise.size()));
    shutdown(pair.client->fd(), SHUT_WR);
    Io last{};
    if (greeted) {
      CHECK(ReadAll(pair.server.get(), &last).empty());
    } else {
      last = pair.server->Handshake().io;
    }
    CHECK(last == Io::kBroken);
    std::array<char, 200> answer;
    const ssize_t count = recv(pair.client->fd(), answer.data(), answer.size(), 0);
    CHECK(count < 60);
  }
}

TEST_CASE("keys are renewed when a client wants it, but not without end") {
  const auto tls = Serving();
  TlsPair pair(*tls, {});
  REQUIRE(pair.Greet());
  Io last{};
  std::string seen;
  for (int turn = 0; turn < 5; ++turn) {
    SSL_key_update(pair.client->ssl(), SSL_KEY_UPDATE_REQUESTED);
    std::string_view hello = "hello";
    CHECK(pair.client->Write(&hello) == TlsClient::Step::kDone);
    CHECK(ReadAll(pair.server.get(), &last) == "hello");
    CHECK(last == Io::kAgain);
    CHECK(pair.server->Write(Bytes("well")).io == Io::kDone);
    while (pair.client->Read(&seen) == TlsClient::Step::kDone) {
    }
  }
  CHECK(seen == "wellwellwellwellwell");
  int updates = 0;
  for (last = Io::kAgain; last == Io::kAgain && updates < 200'000; ++updates) {
    SSL_key_update(pair.client->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    REQUIRE(pair.client->Handshake() == TlsClient::Step::kDone);
    CHECK(ReadAll(pair.server.get(), &last).empty());
  }
  CHECK(last == Io::kBroken);
  CHECK(updates < 200);
}

TEST_CASE("who wants new keys and takes nothing is not read from in circles, and is read when it takes again") {
  const auto tls = Serving();
  const std::string record(4'000, 'r');
  int fit = 0;
  for (const bool knows : {false, true}) {
    TlsPair pair(*tls, {});
    REQUIRE(pair.Greet());
    if (!knows) {  // How much the kernel takes before OpenSSL holds a record back.
      while (pair.server->Write(Bytes(record)).io == Io::kDone) ++fit;
      continue;
    }
    for (int each = 0; each < fit; ++each) REQUIRE(pair.server->Write(Bytes(record)).bytes == record.size());
    SSL_key_update(pair.client->ssl(), SSL_KEY_UPDATE_REQUESTED);
    std::string_view first = "first";
    CHECK(pair.client->Write(&first) == TlsClient::Step::kDone);
    Io last{};
    CHECK(ReadAll(pair.server.get(), &last) == "first");
    CHECK(pair.server->wants() == EPOLLIN);
    CHECK(pair.server->Write(Bytes("answer")).io == Io::kAgain);
    std::string_view second = "second";
    CHECK(pair.client->Write(&second) == TlsClient::Step::kDone);
    CHECK(ReadAll(pair.server.get(), &last).empty());
    CHECK(last == Io::kAgain);
    CHECK(pair.server->wants() == EPOLLOUT);
    std::string seen;
    while (pair.client->Read(&seen) == TlsClient::Step::kDone) {
    }
    CHECK(ReadAll(pair.server.get(), &last) == "second");
    CHECK(pair.server->Write(Bytes("answer")).io == Io::kDone);
    CHECK(pair.server->wants() == EPOLLIN);
    while (pair.client->Read(&seen) == TlsClient::Step::kDone) {
    }
    CHECK(seen.ends_with("ranswer"));
  }
}
