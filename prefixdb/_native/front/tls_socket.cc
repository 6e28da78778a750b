#include "front/tls_socket.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "front/descriptor.h"

namespace prefixdb::front {

namespace {

// Turns of reading that brought no data although bytes came: key updates, alerts, tickets. An honest client makes one
// in millions of records; each of these costs far more to read than to send, and OpenSSL would read them for as long
// as they come. One turn is what its buffer holds, 16 KiB.
constexpr int kEmptyTurnsMax = 64;

// What OpenSSL reads and writes through. Its own socket BIO would raise SIGPIPE, and does not say whether the kernel
// had nothing more or something else made a read return.
struct Wire {
  Descriptor fd;
  bool dry = false;  // The last recv found nothing.
};

Wire& WireOf(BIO* bio) { return *static_cast<Wire*>(BIO_get_data(bio)); }

// A retry as OpenSSL wants to be told of it, or an error.
int Result(BIO* bio, ssize_t count, int retry) {
  BIO_clear_retry_flags(bio);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(count);
}

int WireRead(BIO* bio, char* buffer, int size) {
  Wire& wire = WireOf(bio);
  ssize_t count = 0;
  do {
    count = recv(wire.fd.get(), buffer, static_cast<size_t>(size), 0);
  } while (count < 0 && errno == EINTR);
  wire.dry = count < 0;
  return Result(bio, count, BIO_FLAGS_READ);
}

int WireWrite(BIO* bio, const char* bytes, int size) {
  ssize_t count = 0;
  do {
    count = send(WireOf(bio).fd.get(), bytes, static_cast<size_t>(size), MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  return Result(bio, count, BIO_FLAGS_WRITE);
}

long WireControl(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;  // Nothing is held back.
}

// Null when there is no memory; made once.
const BIO_METHOD* WireMethod() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "prefixdb");
    if (made == nullptr) return made;
    BIO_meth_set_read(made, WireRead);
    BIO_meth_set_write(made, WireWrite);
    BIO_meth_set_ctrl(made, WireControl);
    return made;
  }();
  return method;
}

std::string PemOf(X509* certificate) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), BIO_free);
  if (!memory || PEM_write_bio_X509(memory.get(), certificate) != 1) return {};
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

class Tls final : public Socket {
 public:
  Tls(SslPointer ssl, std::unique_ptr<Wire> wire, std::string peer)
      : wire_(std::move(wire)), ssl_(std::move(ssl)), peer_(std::move(peer)) {}

  Progress Handshake() override {
    if (broken_) return {Io::kBroken};
    if (established_) return {Io::kDone};
    const Progress progress = Try([this] { return SSL_do_handshake(ssl_.get()); });
    if (progress.io != Io::kDone) return progress;
    if (!SpeaksHttp2() || !KeepPeerCertificate()) return Break();
    established_ = true;
    return progress;
  }

  Progress Read(std::span<uint8_t> buffer) override {
    if (broken_) return {Io::kBroken};
    if (buffer.empty()) return {Io::kDone};
    size_t count = 0;
    const Progress progress =
        Try([this, buffer, &count] { return SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &count); });
    return {progress.io, progress.io == Io::kDone ? count : 0};
  }

  Progress Write(std::span<const uint8_t> bytes) override {
    if (broken_) return {Io::kBroken};
    if (bytes.empty()) return {Io::kDone};
    size_t count = 0;
    ERR_clear_error();
    const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count);
    if (result != 1) return Unfinished(result, &write_waits_to_write_);
    write_waits_to_write_ = false;
    return {Io::kDone, count};
  }

  void Farewell() override {
    // In the middle of a record nothing else can be said.
    if (established_ && !broken_ && !write_waits_to_write_) {
      ERR_clear_error();
      SSL_shutdown(ssl_.get());
      ERR_clear_error();
    }
    shutdown(fd(), SHUT_WR);
  }

  uint32_t wants() const noexcept override {
    if (read_waits_to_write_) return EPOLLOUT;
    return write_waits_to_write_ ? EPOLLIN | EPOLLOUT : EPOLLIN;
  }
  int fd() const noexcept override { return wire_->fd.get(); }
  const std::string& peer() const noexcept override { return peer_; }
  const std::string& peer_certificate() const noexcept override { return peer_certificate_; }
  bool is_tls() const noexcept override { return true; }

 private:
  // Does something that reads, again while it gave nothing although bytes came: no event would tell of those that
  // OpenSSL holds already.
  template <typename Operation>
  Progress Try(Operation operation) {
    while (true) {
      wire_->dry = false;
      ERR_clear_error();
      const int result = operation();
      if (result == 1) {
        read_waits_to_write_ = false;
        return {Io::kDone};
      }
      const Progress progress = Unfinished(result, &read_waits_to_write_);
      if (progress.io != Io::kAgain || wire_->dry || read_waits_to_write_) return progress;
      if (++empty_turns_ > kEmptyTurnsMax) return Break();
    }
  }

  // What an operation that gave nothing needs, or why it never will.
  Progress Unfinished(int result, bool* waits_to_write) {
    *waits_to_write = false;
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return {Io::kAgain};
      case SSL_ERROR_WANT_WRITE:
        *waits_to_write = true;
        return {Io::kAgain};
      case SSL_ERROR_ZERO_RETURN:
        return {Io::kClosed};
      default:
        return Break();
    }
  }

  Progress Break() {
    broken_ = true;  // OpenSSL must not be asked again.
    ERR_clear_error();
    return {Io::kBroken};
  }

  // A client that offers protocols without h2 has been refused by then; one that offers none comes here.
  bool SpeaksHttp2() const {
    const unsigned char* name = nullptr;
    unsigned int length = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &length);
    return std::string_view(reinterpret_cast<const char*>(name), length) == "h2";
  }

  // False when there was one and there is no memory for it.
  bool KeepPeerCertificate() {
    const std::unique_ptr<X509, decltype(&X509_free)> leaf(SSL_get1_peer_certificate(ssl_.get()), X509_free);
    if (!leaf) return true;  // Not asked for: else the handshake has failed.
    peer_certificate_ = PemOf(leaf.get());
    return !peer_certificate_.empty();
  }

  const std::unique_ptr<Wire> wire_;  // Outlives the session that reads it.
  const SslPointer ssl_;
  const std::string peer_;
  std::string peer_certificate_;
  int empty_turns_ = 0;
  bool established_ = false;
  bool broken_ = false;
  bool read_waits_to_write_ = false;
  bool write_waits_to_write_ = false;
};

}  // namespace

std::unique_ptr<Socket> TlsSocket(SslPointer ssl, int fd, std::string peer) {
  auto wire = std::make_unique<Wire>(Wire{Descriptor(fd)});
  const BIO_METHOD* const method = WireMethod();
  BIO* const bio = method != nullptr ? BIO_new(method) : nullptr;
  if (!ssl || bio == nullptr) {
    BIO_free(bio);
    return nullptr;
  }
  BIO_set_data(bio, wire.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl.get(), bio, bio);  // Takes the one reference for both directions.
  SSL_set_accept_state(ssl.get());
  return std::make_unique<Tls>(std::move(ssl), std::move(wire), std::move(peer));
}

}  // namespace prefixdb::front
