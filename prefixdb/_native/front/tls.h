// TLS with OpenSSL: what is served, and the sockets that speak it.
//
// Certificates are read and judged in Python (prefixdb/server/tls_files.py); here they arrive as PEM that is known to
// be good. A TlsServer is never changed: new certificates are a new one, used by the connections that come then. Open
// connections keep theirs, and a session from before the change is not resumed.
#pragma once

#include <memory>
#include <string>

#include "front/socket.h"

namespace prefixdb::front {

struct TlsMaterial {
  std::string certificate_chain_pem;
  std::string private_key_pem;
  std::string client_ca_pem;  // Not empty: a client without a certificate of these is refused.
};

// Thread-safe. TLS 1.2 (AEAD suites with forward secrecy) and 1.3, ALPN "h2" demanded as gRPC does.
class TlsServer {
 public:
  // Null when OpenSSL does not take the material; `why` says so without anything of the key.
  static std::shared_ptr<TlsServer> Make(const TlsMaterial& material, std::string* why);
  virtual ~TlsServer() = default;

  // Takes over the descriptor of an accepted connection.
  virtual std::unique_ptr<Socket> Accept(int fd, std::string peer) = 0;
};

}  // namespace prefixdb::front
