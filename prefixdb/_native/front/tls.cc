#include "front/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <climits>
#include <utility>

#include "front/tls_socket.h"

namespace prefixdb::front {

namespace {

template <typename Type, void (*kFree)(Type*)>
struct Free {
  void operator()(Type* pointer) const noexcept { kFree(pointer); }
};
struct FreeBio {
  void operator()(BIO* bio) const noexcept { BIO_free(bio); }
};
using BioPointer = std::unique_ptr<BIO, FreeBio>;
using ContextPointer = std::unique_ptr<SSL_CTX, Free<SSL_CTX, SSL_CTX_free>>;
using CertificatePointer = std::unique_ptr<X509, Free<X509, X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;

// As gRPC's own: AEAD with forward secrecy only, the cheaper AES first (ChaCha20 for clients that put it first).
constexpr const char* kSuites13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kSuites12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr unsigned char kHttp2[] = {2, 'h', '2'};
// Of the certificates a client shows, together; a chain of four with large RSA keys has 8 KiB.
constexpr long kClientChainBytesMax = 32 << 10;

// Never asks at a terminal, as OpenSSL would for a key with a passphrase.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*unused*/) { return 0; }

BioPointer Memory(const std::string& text) {
  return BioPointer(text.size() > INT_MAX ? nullptr : BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Null at the end of the text and when it is no certificate: `Ended` tells which.
CertificatePointer NextCertificate(BIO* text) {
  return CertificatePointer(PEM_read_bio_X509(text, nullptr, NoPassphrase, nullptr));
}

// Whether reading stopped because no further PEM block begins; what OpenSSL noted about that is forgotten.
bool Ended() {
  const unsigned long error = ERR_peek_last_error();
  if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) return false;
  ERR_clear_error();
  return true;
}

int SelectHttp2(SSL* /*ssl*/, const unsigned char** chosen, unsigned char* chosen_length, const unsigned char* offered,
                unsigned int offered_length, void* /*unused*/) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_length, kHttp2, sizeof(kHttp2), offered, offered_length) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

bool UseChain(SSL_CTX* context, const std::string& pem) {
  const BioPointer text = Memory(pem);
  if (!text) return false;
  const CertificatePointer own = NextCertificate(text.get());
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) return false;
  while (CertificatePointer next = NextCertificate(text.get())) {
    if (SSL_CTX_add0_chain_cert(context, next.get()) != 1) return false;
    (void)next.release();  // The context's now.
  }
  return Ended();
}

bool UseKey(SSL_CTX* context, const std::string& pem) {
  const BioPointer text = Memory(pem);
  if (!text) return false;
  const KeyPointer key(PEM_read_bio_PrivateKey(text.get(), nullptr, NoPassphrase, nullptr));
  return key && SSL_CTX_use_PrivateKey(context, key.get()) == 1 && SSL_CTX_check_private_key(context) == 1;
}

// Demands a certificate that leads to one of these, and says their names to clients who have several.
bool DemandClients(SSL_CTX* context, const std::string& pem) {
  const BioPointer text = Memory(pem);
  if (!text) return false;
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  // Any of these is trusted as it is, also one that is no root: as gRPC has it.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  size_t authorities = 0;
  while (const CertificatePointer authority = NextCertificate(text.get())) {
    if (X509_STORE_add_cert(store, authority.get()) != 1 || SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return false;
    }
    ++authorities;
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return Ended() && authorities > 0;
}

bool Configure(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                   SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_TICKET);
  // Nothing is resumed, so no connection comes back under a certificate that has been replaced, or as a client whose
  // own has expired. The price is a whole handshake for each connection, and connections live long here.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // Reading goes on after what is not data only as far as bytes are there: see tls_socket.cc.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  // Buffers of 16 KiB each way go while nothing is under way.
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  // A record's head and body with one call of the kernel.
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_max_cert_list(context, kClientChainBytesMax);
  SSL_CTX_set_alpn_select_cb(context, SelectHttp2, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 && SSL_CTX_set_num_tickets(context, 0) == 1 &&
         SSL_CTX_set_cipher_list(context, kSuites12) == 1 && SSL_CTX_set_ciphersuites(context, kSuites13) == 1;
}

// What OpenSSL noted last; words out of its own tables, nothing of what it has read.
std::string Said(const char* what) {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return std::string(what) + ": " + (reason != nullptr ? reason : "not accepted");
}

class Server final : public TlsServer {
 public:
  explicit Server(ContextPointer context) : context_(std::move(context)) {}

  std::unique_ptr<Socket> Accept(int fd, std::string peer) override {
    ERR_clear_error();
    return TlsSocket(SslPointer(SSL_new(context_.get())), fd, std::move(peer));
  }

 private:
  const ContextPointer context_;
};

}  // namespace

std::shared_ptr<TlsServer> TlsServer::Make(const TlsMaterial& material, std::string* why) {
  ERR_clear_error();
  ContextPointer context(SSL_CTX_new(TLS_server_method()));
  const char* failed = nullptr;
  if (!context || !Configure(context.get())) {
    failed = "TLS";
  } else if (!UseChain(context.get(), material.certificate_chain_pem)) {
    failed = "the certificate chain";
  } else if (!UseKey(context.get(), material.private_key_pem)) {
    failed = "the private key";
  } else if (!material.client_ca_pem.empty() && !DemandClients(context.get(), material.client_ca_pem)) {
    failed = "the clients' authorities";
  }
  if (failed == nullptr) return std::make_shared<Server>(std::move(context));
  *why = Said(failed);
  return nullptr;
}

}  // namespace prefixdb::front
