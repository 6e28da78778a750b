#include "front/upstream.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <exception>
#include <utility>

#include "front/upstream_limits.h"
#include "front/upstream_link.h"

namespace prefixdb::front {

namespace {

constexpr uint8_t kTriesMax = 3;  // Connections that end before they have sent a call.

enum class Connected : uint8_t { kYes, kBusy, kNo };

// A unix socket is connected at once or not at all.
Connected Connect(const std::string& path, int* fd) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Connected::kNo;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (made < 0) return Connected::kNo;
  int result = 0;
  do {
    result = connect(made, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result == 0) {
    *fd = made;
    return Connected::kYes;
  }
  const bool busy = errno == EAGAIN;
  close(made);
  return busy ? Connected::kBusy : Connected::kNo;
}

class Connections;

class Handle : public Forward {
 public:
  Handle(std::weak_ptr<Connections*> upstream, UpstreamCallPtr call)
      : upstream_(std::move(upstream)), call_(std::move(call)) {}
  ~Handle() override { Reset(NGHTTP2_CANCEL); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  void Write(std::string_view data, bool end_stream) override;
  void Taken(size_t bytes) override;
  void Reset(uint32_t http2_error) override;

 private:
  const std::weak_ptr<Connections*> upstream_;  // Gone when the upstream is.
  const UpstreamCallPtr call_;
};

// The links, and the calls that wait for one.
class Connections : public Upstream, public UpstreamLink::Owner {
 public:
  Connections(Loop* loop, std::string path, const UpstreamLimits& limits)
      : loop_(loop), path_(std::move(path)), limits_(limits), self_(std::make_shared<Connections*>(this)) {}
  ~Connections() override;
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  std::unique_ptr<Forward> Open(const Headers& headers, bool end_stream, ForwardSink* sink,
                                const void* client) override;
  size_t open() const noexcept override { return open_; }

  void WantFlush() override;
  void Return(UpstreamCallPtr call) override;
  void Forget(UpstreamCall& call);  // It waits no more.

 private:
  void Queue(UpstreamCallPtr call);
  void Flush();
  void Dispatch();
  bool MaySend();        // Without keeping the server from others' calls; if not, there is a timer.
  UpstreamLink* Link();  // One with room, or null.
  void Lose();           // All that wait: there is nobody to take them.
  void WakeAfter(std::chrono::milliseconds delay);

  Loop* const loop_;
  const std::string path_;
  const UpstreamLimits limits_;
  const std::shared_ptr<Connections*> self_;
  size_t open_ = 0;
  bool flush_due_ = false;
  Loop::TimerId timer_ = 0;
  Loop::Time closed_until_{};  // Nobody answers; tried again from then on.
  Loop::Time busy_since_{};
  bool busy_ = false;
  Turns<UpstreamCallPtr> waiting_;
  size_t unanswered_ = 0;
  bool full_ = false;
  std::deque<std::pair<UpstreamCallPtr, Loop::Time>> counted_;  // Since when; those that are not any more at last go.
  std::vector<UpstreamCallPtr> lost_;                           // To be told at the end of the pass.
  std::vector<UpstreamCallPtr> refused_;                        // The same: their headers are too large.
  std::vector<std::unique_ptr<UpstreamLink>> links_;            // The last one takes new calls, unless it is retired.
};

Connections::~Connections() {
  if (timer_ != 0) loop_->Cancel(timer_);
  for (const auto& [call, since] : counted_) call->unanswered = nullptr;
  while (!waiting_.empty()) {
    const UpstreamCallPtr call = waiting_.Pop();
    call->waiting = false;
    call->End();
  }
  for (const UpstreamCallPtr& call : lost_) call->End();
  for (const UpstreamCallPtr& call : refused_) call->End();
}

std::unique_ptr<Forward> Connections::Open(const Headers& headers, bool end_stream, ForwardSink* sink,
                                           const void* client) {
  auto call = std::make_shared<UpstreamCall>();
  call->sink = sink;
  call->open = &open_;
  call->client = client;
  call->request = headers;
  call->body_ended = end_stream;
  ++open_;
  size_t bytes = 0;
  for (const auto& [name, value] : headers) bytes += name.size() + value.size() + 32;
  if (bytes > limits_.header_bytes_max) {
    refused_.push_back(call);
  } else if (waiting_.size() >= limits_.waiting_max) {
    lost_.push_back(call);
  } else {
    Queue(call);
  }
  WantFlush();
  return std::make_unique<Handle>(self_, std::move(call));
}

void Connections::Return(UpstreamCallPtr call) {
  call->link = nullptr;
  call->stream = -1;
  call->Uncount();
  if (call->tries >= kTriesMax) {
    lost_.push_back(std::move(call));
    WantFlush();
  } else {
    Queue(std::move(call));
  }
}

void Connections::Queue(UpstreamCallPtr call) {
  UpstreamCall& queued = *call;
  queued.waiting = true;
  queued.place = waiting_.Push(queued.client, std::move(call));
  WantFlush();
}

void Connections::Forget(UpstreamCall& call) {
  if (!std::exchange(call.waiting, false)) return;
  waiting_.Erase(call.place);
}

void Connections::WantFlush() {
  if (std::exchange(flush_due_, true)) return;
  loop_->Defer([weak = std::weak_ptr(self_)] {
    if (const auto self = weak.lock()) (*self)->Flush();
  });
}

void Connections::Flush() {
  flush_due_ = false;
  Dispatch();
  for (const UpstreamCallPtr& call : std::exchange(lost_, {})) {
    if (ForwardSink* sink = call->End()) sink->OnLost(false);
  }
  for (const UpstreamCallPtr& call : std::exchange(refused_, {})) {
    if (ForwardSink* sink = call->End()) sink->OnReset(NGHTTP2_INTERNAL_ERROR);
  }
  // A flush adds no links: calls that are opened meanwhile wait for the next one.
  for (const auto& link : links_) link->Flush();
  std::erase_if(links_, [](const auto& link) { return link->finished(); });
}

void Connections::Dispatch() {
  while (!waiting_.empty() && MaySend()) {
    UpstreamLink* link = Link();
    if (link == nullptr) return;
    UpstreamCallPtr call = waiting_.Pop();
    call->waiting = false;
    if (call->body_ended) {
      call->unanswered = &unanswered_;
      ++unanswered_;
      counted_.emplace_back(call, loop_->now());
    }
    link->Begin(std::move(call));
  }
}

bool Connections::MaySend() {
  while (!counted_.empty()) {
    auto& [call, since] = counted_.front();
    if (call->unanswered != nullptr && loop_->now() - since < limits_.counted_for) break;
    call->Uncount();
    counted_.pop_front();
  }
  // Full is full until half of it is answered: many small portions cost both sides more than a few large ones.
  if (unanswered_ >= limits_.unanswered_max) full_ = true;
  if (unanswered_ <= limits_.unanswered_max / 2) full_ = false;
  if (!full_) return true;
  const Loop::Time until = counted_.front().second + limits_.counted_for;
  WakeAfter(std::chrono::ceil<std::chrono::milliseconds>(until - loop_->now()));
  return false;
}

UpstreamLink* Connections::Link() {
  if (!links_.empty() && !links_.back()->retired()) return links_.back()->HasRoom() ? links_.back().get() : nullptr;
  int fd = -1;
  const Loop::Time now = loop_->now();
  const Connected connected = now < closed_until_ ? Connected::kNo : Connect(path_, &fd);
  if (connected == Connected::kYes) {
    busy_ = false;
    try {
      links_.push_back(std::make_unique<UpstreamLink>(loop_, fd, limits_, this));
      return links_.back().get();
    } catch (const std::exception&) {
      close(fd);
    }
  }
  if (connected == Connected::kBusy) {
    if (!std::exchange(busy_, true)) busy_since_ = now;
    if (now - busy_since_ < limits_.patience) {
      WakeAfter(std::chrono::milliseconds(10));
      return nullptr;
    }
  }
  busy_ = false;
  if (now >= closed_until_) closed_until_ = now + limits_.pause;
  Lose();
  return nullptr;
}

void Connections::Lose() {
  while (!waiting_.empty()) {
    lost_.push_back(waiting_.Pop());
    lost_.back()->waiting = false;
  }
}

void Connections::WakeAfter(std::chrono::milliseconds delay) {
  if (timer_ != 0) return;
  timer_ = loop_->After(delay, [weak = std::weak_ptr(self_)] {
    const auto self = weak.lock();
    if (!self) return;
    (*self)->timer_ = 0;
    (*self)->WantFlush();
  });
}

void Handle::Write(std::string_view data, bool end_stream) {
  if (call_->sink == nullptr || call_->body_ended) return;
  call_->body.Add(data);
  call_->body_ended = end_stream;
  if (call_->link != nullptr) call_->link->Resume(*call_);
}

void Handle::Taken(size_t bytes) {
  if (call_->link != nullptr) call_->link->Taken(*call_, bytes);
}

void Handle::Reset(uint32_t http2_error) {
  const auto upstream = upstream_.lock();
  if (!upstream) return;
  call_->End();
  (*upstream)->Forget(*call_);
  if (call_->link != nullptr) call_->link->Reset(*call_, http2_error);
}

}  // namespace

std::unique_ptr<Upstream> MakeUpstream(Loop* loop, std::string unix_path, const UpstreamLimits& limits) {
  return std::make_unique<Connections>(loop, std::move(unix_path), limits);
}

std::unique_ptr<Upstream> Upstream::Make(Loop* loop, std::string unix_path) {
  return MakeUpstream(loop, std::move(unix_path), UpstreamLimits());
}

}  // namespace prefixdb::front
