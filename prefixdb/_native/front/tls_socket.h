// A connection through TLS; made by a TlsServer (tls.h), on top of a descriptor that never blocks.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "front/socket.h"

namespace prefixdb::front {

struct SslFree {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
using SslPointer = std::unique_ptr<SSL, SslFree>;

// Takes over `fd`, in any case. `ssl` is a server's, new. Null when there is no memory.
std::unique_ptr<Socket> TlsSocket(SslPointer ssl, int fd, std::string peer);

}  // namespace prefixdb::front
