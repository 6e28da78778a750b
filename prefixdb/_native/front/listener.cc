#include "front/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <mutex>
#include <utility>

#include "front/descriptor.h"
#include "front/peer_text.h"

namespace prefixdb::front {

namespace {

// Of one pass: calls on open connections are not kept waiting by a crowd at the door.
constexpr int kAcceptsPerPass = 32;
// Long enough for others to give descriptors back, short enough for a client to wait.
constexpr std::chrono::milliseconds kPause{100};

// A connection on its way to its loop. If it never gets there (the loop has ended), it is closed and not counted.
class Arrival {
 public:
  Arrival(int fd, std::string peer, std::shared_ptr<TlsServer> tls, std::atomic<int64_t>* open)
      : fd_(fd), peer_(std::move(peer)), tls_(std::move(tls)), open_(open) {}
  Arrival(const Arrival&) = delete;
  Arrival& operator=(const Arrival&) = delete;
  ~Arrival() {
    if (open_ != nullptr) open_->fetch_sub(1, std::memory_order_relaxed);
  }

  // Null when there is no memory for it. Whoever gets the socket counts down.
  std::unique_ptr<Socket> Take() {
    auto socket = tls_ ? tls_->Accept(fd_.Release(), std::move(peer_)) : PlainSocket(fd_.Release(), std::move(peer_));
    if (socket) open_ = nullptr;
    return socket;
  }

 private:
  Descriptor fd_;
  std::string peer_;
  const std::shared_ptr<TlsServer> tls_;
  std::atomic<int64_t>* open_;
};

// What the network or the client did to one connection; the next one may be better.
bool IsOfOneConnection(int error) {
  switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPERM:  // A firewall's rule.
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Shared with what was posted, so that it lives until the last of it has run or was dropped.
struct Listener::Parts : public Loop::Watcher, public std::enable_shared_from_this<Parts> {
  void Begin();
  void End();
  void OnReady(uint32_t events) override;
  bool AcceptOne();
  void HandOver(int fd, std::string peer);
  void Pause();

  Loop* first() const { return loops.front(); }

  std::vector<Loop*> loops;
  std::atomic<int64_t>* open = nullptr;
  int64_t connections_max = 0;
  Made made;
  std::atomic<bool> stopped{false};

  std::mutex mutex;
  std::shared_ptr<TlsServer> tls;  // Guarded by mutex.

  // --- of the first loop's thread
  Descriptor socket;
  bool watched = false;
  Loop::TimerId pause = 0;
  size_t turn = 0;
};

void Listener::Parts::Begin() {
  if (stopped.load(std::memory_order_acquire) || watched) return;
  watched = true;
  first()->Watch(socket.get(), EPOLLIN, this);
}

void Listener::Parts::End() {
  if (watched) first()->Unwatch(socket.get());
  watched = false;
  first()->Cancel(std::exchange(pause, 0));
  socket.Close();
}

void Listener::Parts::OnReady(uint32_t /*events*/) {
  for (int accepted = 0; accepted < kAcceptsPerPass; ++accepted) {
    if (stopped.load(std::memory_order_acquire) || !AcceptOne()) return;
  }
}

// False when there is nothing to accept for now.
bool Listener::Parts::AcceptOne() {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  const int fd = accept4(socket.get(), reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    if (IsOfOneConnection(errno)) return true;
    Pause();  // No descriptors or no memory, or what nobody has thought of: not in circles, in any case.
    return false;
  }
  if (open->fetch_add(1, std::memory_order_relaxed) >= connections_max) {
    open->fetch_sub(1, std::memory_order_relaxed);
    close(fd);
    return true;
  }
  const int on = 1;
  if (address.ss_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  HandOver(fd, PeerText(address));
  return true;
}

void Listener::Parts::HandOver(int fd, std::string peer) {
  std::shared_ptr<TlsServer> with;
  {
    const std::lock_guard lock(mutex);
    with = tls;
  }
  const auto arrival = std::make_shared<Arrival>(fd, std::move(peer), std::move(with), open);
  Loop* const loop = loops[turn++ % loops.size()];
  auto hand = [self = shared_from_this(), loop, arrival] {
    if (self->stopped.load(std::memory_order_acquire)) return;
    try {
      if (auto connection = arrival->Take()) self->made(loop, std::move(connection));
    } catch (const std::exception&) {
      // No memory, or the kernel watches no more descriptors: this connection is lost, nobody else's. Whoever owns it
      // by now closes and counts it.
    }
  };
  if (loop == first()) {
    hand();
  } else {
    loop->Post(std::move(hand));
  }
}

void Listener::Parts::Pause() {
  first()->Rewatch(socket.get(), 0, this);
  pause = first()->After(kPause, [this] {  // Cancelled before this goes.
    pause = 0;
    first()->Rewatch(socket.get(), EPOLLIN, this);
  });
}

Listener::Listener(int fd, std::vector<Loop*> loops, std::atomic<int64_t>* open, int64_t connections_max, Made made)
    : parts_(std::make_shared<Parts>()) {
  parts_->socket = Descriptor(fd);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);  // It would hold up the loop when a client goes away early.
  parts_->loops = std::move(loops);
  parts_->open = open;
  parts_->connections_max = connections_max;
  parts_->made = std::move(made);
}

Listener::~Listener() { Stop(); }

void Listener::Start() {
  parts_->first()->Post([parts = parts_] { parts->Begin(); });
}

void Listener::Stop() {
  if (parts_->stopped.exchange(true, std::memory_order_acq_rel)) return;
  parts_->first()->Post([parts = parts_] { parts->End(); });
}

void Listener::SetTls(std::shared_ptr<TlsServer> tls) {
  const std::lock_guard lock(parts_->mutex);
  parts_->tls.swap(tls);
}

}  // namespace prefixdb::front
