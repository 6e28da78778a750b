// Goal: a TLS server lets in whom it should and nobody else (h2, versions, suites, clients' certificates), resumes no
// session, and changes its certificate without a word to those who are connected.
//
// Method: OpenSSL's client at the other end of a socket pair, in one thread: both sides take turns, nothing waits.
#include "front/tls.h"
#include "tls_support.h"

using prefixdb::front::Socket;
using prefixdb::front::TlsMaterial;
using prefixdb::front::TlsServer;
using prefixdb::test::ClientWish;
using prefixdb::test::Identity;
using prefixdb::test::people;
using prefixdb::test::ReadAll;
using prefixdb::test::Serving;
using prefixdb::test::TlsClient;
using prefixdb::test::TlsPair;
using Io = Socket::Io;

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
