// Certificates made on the spot and a TLS client that never waits, for the tests of the front's TLS.
#pragma once

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "front/descriptor.h"
#include "front/tls.h"
#include "support.h"

namespace prefixdb::test {

template <typename Type, auto kFree>
struct Freed {
  void operator()(Type* pointer) const noexcept { kFree(pointer); }
};
using X509Owner = std::unique_ptr<X509, Freed<X509, X509_free>>;
using KeyOwner = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using BioOwner = std::unique_ptr<BIO, Freed<BIO, BIO_free>>;

inline std::string TextOf(BIO* memory) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory, &text);
  return std::string(text, static_cast<size_t>(size));
}

// A certificate with its key; signed by itself or by an issuer.
class Identity {
 public:
  struct Wish {
    const Identity* issuer = nullptr;
    bool authority = false;
    int64_t ends_in_s = 3600;
    std::string usage = {};  // extendedKeyUsage.
    bool rsa = false;
  };

  Identity(const std::string& name, const Wish& wish)
      : key_(wish.rsa ? EVP_RSA_gen(2048u) : EVP_EC_gen("P-256")), certificate_(X509_new()) {
    REQUIRE(key_);
    X509* const made = certificate_.get();
    X509_set_version(made, 2);
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made), -7200);
    X509_gmtime_adj(X509_getm_notAfter(made), static_cast<long>(wish.ends_in_s));
    X509_set_pubkey(made, key_.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    const Identity& by = wish.issuer != nullptr ? *wish.issuer : *this;
    X509_set_issuer_name(made, X509_get_subject_name(by.certificate_.get()));
    Extend(NID_basic_constraints, wish.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!wish.usage.empty()) Extend(NID_ext_key_usage, wish.usage);
    REQUIRE(X509_sign(made, by.key_.get(), EVP_sha256()) > 0);
  }

  X509* certificate() const { return certificate_.get(); }
  EVP_PKEY* key() const { return key_.get(); }
  std::string pem() const {
    const BioOwner memory(BIO_new(BIO_s_mem()));
    REQUIRE(PEM_write_bio_X509(memory.get(), certificate_.get()) == 1);
    return TextOf(memory.get());
  }
  std::string key_pem(const std::string& passphrase = "") const {
    const BioOwner memory(BIO_new(BIO_s_mem()));
    const EVP_CIPHER* const cipher = passphrase.empty() ? nullptr : EVP_aes_128_cbc();
    REQUIRE(PEM_write_bio_PKCS8PrivateKey(memory.get(), key_.get(), cipher, passphrase.data(),
                                          static_cast<int>(passphrase.size()), nullptr, nullptr) == 1);
    return TextOf(memory.get());
  }

 private:
  void Extend(int nid, const std::string& value) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    REQUIRE(extension != nullptr);
    REQUIRE(X509_add_ext(certificate_.get(), extension, -1) == 1);
    X509_EXTENSION_free(extension);
  }

  KeyOwner key_;
  X509Owner certificate_;
};

struct ClientWish {
  std::vector<std::string> protocols = {"h2"};
  const Identity* identity = nullptr;
  int version_max = TLS1_3_VERSION;
  int version_min = TLS1_VERSION;
  std::string suites12 = "ALL:@SECLEVEL=0";
  SSL_SESSION* session = nullptr;  // To be resumed.
};

// The other end of a descriptor, through TLS. Nothing waits: every step goes as far as it can.
class TlsClient {
 public:
  enum class Step : uint8_t { kDone, kAgain, kFailed };

  TlsClient(int fd, const ClientWish& wish) : fd_(fd), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX* const context = context_.get();
    SSL_CTX_set_min_proto_version(context, wish.version_min);
    SSL_CTX_set_max_proto_version(context, wish.version_max);
    REQUIRE(SSL_CTX_set_cipher_list(context, wish.suites12.c_str()) == 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (wish.identity != nullptr) {
      REQUIRE(SSL_CTX_use_certificate(context, wish.identity->certificate()) == 1);
      REQUIRE(SSL_CTX_use_PrivateKey(context, wish.identity->key()) == 1);
    }
    std::string wire;
    for (const std::string& each : wish.protocols) wire += static_cast<char>(each.size()) + each;
    if (!wire.empty()) {
      SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(wire.data()),
                              static_cast<unsigned int>(wire.size()));
    }
    ssl_.reset(SSL_new(context));
    if (wish.session != nullptr) SSL_set_session(ssl_.get(), wish.session);
    SSL_set_fd(ssl_.get(), fd);
    SSL_set_connect_state(ssl_.get());
  }

  Step Handshake() {
    return Judge([this] { return SSL_do_handshake(ssl_.get()); });
  }
  // What is there, appended.
  Step Read(std::string* to) {
    std::array<char, 16384> buffer;
    size_t count = 0;
    const Step step = Judge([&] { return SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &count); });
    if (step == Step::kDone) to->append(buffer.data(), count);
    return step;
  }
  // Takes what it has written off the front.
  Step Write(std::string_view* bytes) {
    size_t count = 0;
    const Step step = Judge([&] { return SSL_write_ex(ssl_.get(), bytes->data(), bytes->size(), &count); });
    if (step == Step::kDone) bytes->remove_prefix(count);
    return step;
  }

  SSL* ssl() const { return ssl_.get(); }
  int fd() const { return fd_.get(); }
  void Close() { fd_.Close(); }
  // OpenSSL's reason for the last failure, for example SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL.
  int reason() const { return reason_; }

 private:
  template <typename Operation>
  Step Judge(Operation operation) {
    ERR_clear_error();
    const int result = operation();
    if (result == 1) return Step::kDone;
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Step::kAgain;
    reason_ = ERR_GET_REASON(ERR_peek_error());
    return Step::kFailed;
  }

  front::Descriptor fd_;
  std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>> context_;
  std::unique_ptr<SSL, Freed<SSL, SSL_free>> ssl_;
  int reason_ = 0;
};

// Both ends of a connection that is not greeted yet.
struct TlsPair {
  TlsPair(front::TlsServer& tls, const ClientWish& wish) {
    std::array<int, 2> pair{};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) == 0);
    server = tls.Accept(pair[0], "unix:");
    client = std::make_unique<TlsClient>(pair[1], wish);
  }

  // Goes on until both have an end; whether both are content.
  bool Greet() {
    auto here = front::Socket::Io::kAgain;
    auto there = TlsClient::Step::kAgain;
    for (int turn = 0; turn < 20; ++turn) {
      if (there == TlsClient::Step::kAgain) there = client->Handshake();
      if (here == front::Socket::Io::kAgain) here = server->Handshake().io;
    }
    // In TLS 1.3 a client is content before the server has seen its certificate.
    std::string nothing;
    if (there == TlsClient::Step::kDone && client->Read(&nothing) == TlsClient::Step::kFailed) {
      there = TlsClient::Step::kFailed;
    }
    greeted = here;
    return here == front::Socket::Io::kDone && there == TlsClient::Step::kDone;
  }

  std::unique_ptr<front::Socket> server;
  std::unique_ptr<TlsClient> client;
  front::Socket::Io greeted = front::Socket::Io::kAgain;
};

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

inline const People& people() {
  static const People made;
  return made;
}

inline std::shared_ptr<front::TlsServer> Serving(const Identity& identity = people().server,
                                                 const std::string& client_ca = "") {
  std::string why;
  auto made = front::TlsServer::Make({identity.pem(), identity.key_pem(), client_ca}, &why);
  INFO(why);
  REQUIRE(made);
  return made;
}

// What is there, and how it ended.
inline std::string ReadAll(front::Socket* socket, front::Socket::Io* last) {
  std::string all;
  std::array<uint8_t, 5000> buffer;
  while (true) {
    const front::Socket::Progress progress = socket->Read(buffer);
    *last = progress.io;
    if (progress.io != front::Socket::Io::kDone) return all;
    REQUIRE(progress.bytes > 0);
    all.append(reinterpret_cast<const char*>(buffer.data()), progress.bytes);
  }
}

inline std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace prefixdb::test
