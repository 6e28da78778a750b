// Goal: a TLS connection carries every byte whatever the kernel takes at a time, is refused when it should be (no h2,
// old versions, weak suites, wrong clients), resumes nothing, and no peer costs more than its share or learns more than
// an alert.
//
// Method: OpenSSL's client at the other end of a socket pair, in one thread: both sides take turns, nothing waits.
#include "front/tls.h"
#include "tls_support.h"

namespace {

using prefixdb::front::Socket;
using prefixdb::front::TlsMaterial;
using prefixdb::front::TlsServer;
using prefixdb::test::ClientWish;
using prefixdb::test::Identity;
using prefixdb::test::Seeded;
using prefixdb::test::TlsClient;
using prefixdb::test::TlsPair;
using Io = Socket::Io;

// Made once: keys take time.
struct People {
  Identity root{"root", {.authority = true}};
  Identity middle{"middle", {.issuer = &root, .authority = true}};
  Identity server{"server", {.issuer = &root}};
  Identity second_server{"second server", {.issuer = &root, .rsa = true}};
  Identity client{"client", {.issuer = &root}};
  Identity middles_client{"middle's client", {.issuer = &middle}};
  Identity expired{"expired", {.issuer = &root, .ends_in_s = -10}};
  Identity no_client{"no client", {.issuer = &root, .usage = "serverAuth"}};
  Identity stranger{"client", {}};
};

const People& people() {
  static const People made;
  return made;
}

std::shared_ptr<TlsServer> Serving(const Identity& identity = people().server, const std::string& client_ca = "") {
  std::string why;
  auto made = TlsServer::Make({identity.pem(), identity.key_pem(), client_ca}, &why);
  INFO(why);
  REQUIRE(made);
  return made;
}

std::string ReadAll(Socket* socket, Io* last) {
  std::string all;
  std::array<uint8_t, 5000> buffer;
  while (true) {
    const Socket::Progress progress = socket->Read(buffer);
    *last = progress.io;
    if (progress.io != Io::kDone) return all;
    REQUIRE(progress.bytes > 0);
    all.append(reinterpret_cast<const char*>(buffer.data()), progress.bytes);
  }
}

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

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

TEST_CASE("who does not offer h2 is refused: by an alert, or without words who offers nothing") {
  const auto tls = Serving();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsPair both(*tls, {.protocols = {"http/1.1", "h2"}, .version_max = version});
    CHECK(both.Greet());
    TlsPair other(*tls, {.protocols = {"http/1.1", "h3"}, .version_max = version});
    CHECK(!other.Greet());
    CHECK(other.greeted == Io::kBroken);
    CHECK(other.client->reason() == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    TlsPair none(*tls, {.protocols = {}, .version_max = version});
    CHECK(!none.Greet());
    CHECK(none.greeted == Io::kBroken);
  }
}

TEST_CASE("old versions and suites without forward secrecy or authenticated encryption are refused") {
  const auto rsa = Serving(people().second_server);
  const auto refused = [&](const ClientWish& wish) {
    TlsPair pair(*rsa, wish);
    return !pair.Greet() && pair.greeted == Io::kBroken;
  };
  CHECK(refused({.version_max = TLS1_VERSION}));
  CHECK(refused({.version_max = TLS1_1_VERSION}));
  CHECK(refused({.version_max = TLS1_2_VERSION, .suites12 = "AES128-GCM-SHA256"}));
  CHECK(refused({.version_max = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-SHA256"}));
  CHECK(refused({.version_max = TLS1_2_VERSION, .suites12 = "DHE-RSA-AES128-GCM-SHA256"}));
  CHECK(refused({.version_max = TLS1_2_VERSION, .suites12 = "ADH:@SECLEVEL=0"}));
  CHECK(!refused({.version_max = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-AES128-GCM-SHA256"}));
  CHECK(!refused({.version_max = TLS1_2_VERSION, .suites12 = "ECDHE-RSA-CHACHA20-POLY1305"}));
  CHECK(!refused({.version_min = TLS1_3_VERSION}));
}

TEST_CASE("with authorities given, a client needs a certificate of theirs; what it shows is known afterwards") {
  const auto tls = Serving(people().server, people().stranger.pem() + people().root.pem());
  const auto of_middle = Serving(people().server, people().middle.pem());
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsPair good(*tls, {.identity = &people().client, .version_max = version});
    CHECK(good.Greet());
    CHECK(good.server->peer_certificate() == people().client.pem());
    for (const Identity* each : {&people().expired, &people().no_client, &people().middles_client}) {
      TlsPair bad(*tls, {.identity = each, .version_max = version});
      CHECK(!bad.Greet());
      CHECK(bad.greeted == Io::kBroken);
      CHECK(bad.server->peer_certificate().empty());
    }
    const Identity self("stranger", {});
    TlsPair unknown(*tls, {.identity = &self, .version_max = version});
    CHECK(!unknown.Greet());
    TlsPair none(*tls, {.version_max = version});
    CHECK(!none.Greet());
    CHECK(none.client->reason() ==
          (version == TLS1_3_VERSION ? SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED : SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE));
    // An authority that is no root is trusted as it is, and so is nobody above it.
    TlsPair partial(*of_middle, {.identity = &people().middles_client, .version_max = version});
    CHECK(partial.Greet());
    TlsPair above(*of_middle, {.identity = &people().client, .version_max = version});
    CHECK(!above.Greet());
  }
  TlsPair unasked(*Serving(), {.identity = &people().client});
  CHECK(unasked.Greet());
  CHECK(unasked.server->peer_certificate().empty());
}

TEST_CASE("no session is resumed, neither by the server that made it nor by the next one") {
  const auto tls = Serving();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsPair first(*tls, {.version_max = version});
    REQUIRE(first.Greet());
    std::string nothing;
    CHECK(first.client->Read(&nothing) == TlsClient::Step::kAgain);
    SSL_SESSION* const session = SSL_get1_session(first.client->ssl());
    CHECK(SSL_SESSION_is_resumable(session) == 0);
    CHECK(SSL_SESSION_has_ticket(session) == 0);
    for (const auto& next : {tls, Serving(people().second_server)}) {
      TlsPair again(*next, {.version_max = version, .session = session});
      CHECK(again.Greet());
      CHECK(SSL_session_reused(again.client->ssl()) == 0);
    }
    SSL_SESSION_free(session);
  }
}

TEST_CASE("a new server has the new certificate, and open connections go on under the old") {
  auto tls = Serving();
  TlsPair old(*tls, {});
  REQUIRE(old.Greet());
  tls = Serving(people().second_server);
  TlsPair young(*tls, {});
  REQUIRE(young.Greet());
  const auto shown = [](const TlsPair& pair) { return SSL_get0_peer_certificate(pair.client->ssl()); };
  CHECK(X509_cmp(shown(old), people().server.certificate()) == 0);
  CHECK(X509_cmp(shown(young), people().second_server.certificate()) == 0);
  std::string_view hello = "hello";
  CHECK(old.client->Write(&hello) == TlsClient::Step::kDone);
  Io last{};
  CHECK(ReadAll(old.server.get(), &last) == "hello");
}

TEST_CASE("a chain is sent whole") {
  std::string why;
  const Identity leaf("leaf", {.issuer = &people().middle});
  const auto tls = TlsServer::Make({leaf.pem() + people().middle.pem(), leaf.key_pem(), ""}, &why);
  REQUIRE(tls);
  TlsPair pair(*tls, {});
  REQUIRE(pair.Greet());
  CHECK(sk_X509_num(SSL_get_peer_cert_chain(pair.client->ssl())) == 2);
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

TEST_CASE("no client has the keys negotiated anew (TLS 1.2)") {
  const auto tls = Serving();
  TlsPair pair(*tls, {.version_max = TLS1_2_VERSION});
  REQUIRE(pair.Greet());
  REQUIRE(SSL_renegotiate(pair.client->ssl()) == 1);
  CHECK(pair.client->Handshake() != TlsClient::Step::kDone);
  Io last{};
  CHECK(ReadAll(pair.server.get(), &last).empty());
  CHECK(pair.client->Handshake() == TlsClient::Step::kFailed);
  CHECK(pair.client->reason() == SSL_R_NO_RENEGOTIATION);
}

TEST_CASE(
    "material that cannot be used is refused in words that hold nothing of it, and nobody is asked at a terminal") {
  const Identity& own = people().server;
  const auto why_not = [](const TlsMaterial& material) {
    std::string why;
    CHECK(TlsServer::Make(material, &why) == nullptr);
    CHECK(ERR_peek_error() == 0);
    return why;
  };
  CHECK(why_not({"", own.key_pem(), ""}) == "the certificate chain: no start line");
  CHECK(why_not({own.pem(), "", ""}).starts_with("the private key: "));
  CHECK(why_not({own.pem(), people().second_server.key_pem(), ""}).starts_with("the private key: "));
  CHECK(why_not({own.pem(), people().client.key_pem(), ""}).starts_with("the private key: "));
  CHECK(why_not({own.pem(), own.key_pem("secret"), ""}).starts_with("the private key: "));
  CHECK(why_not({own.pem(), own.key_pem(), "nonsense"}).starts_with("the clients' authorities: "));
  const std::string cut = own.pem() + people().middle.pem().substr(0, 200);
  CHECK(why_not({cut, own.key_pem(), ""}).starts_with("the certificate chain: "));
  std::string damaged = own.pem();
  damaged[100] = '!';
  CHECK(why_not({damaged, own.key_pem(), ""}).starts_with("the certificate chain: "));
  std::string why;
  CHECK(TlsServer::Make({own.pem(), own.key_pem(), own.pem() + own.pem()}, &why) != nullptr);
}
