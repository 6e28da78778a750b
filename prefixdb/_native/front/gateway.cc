#include "front/gateway.h"

#include <utility>

#include "front/http_connection.h"

namespace prefixdb::front {
namespace {

constexpr size_t kSharesKept = 1024;  // Then those of nobody are forgotten.

}  // namespace

GatewayParts::GatewayParts(Loop* its_loop, Services* its_services, const Limits& its_limits, FindMethod find_method,
                           std::unique_ptr<Upstream> its_upstream)
    : loop(*its_loop),
      services(*its_services),
      limits(its_limits),
      find(find_method),
      upstream(std::move(its_upstream)),
      incoming(its_limits.incoming, nullptr),
      read_buffer(kReadBufferBytes),
      self_(std::make_shared<GatewayParts*>(this)) {
  frames.reserve(2 * limits.write_at_once);
}

GatewayParts::~GatewayParts() {
  *self_ = nullptr;
  loop.Cancel(sweep_timer_);
  while (!connections_.empty()) connections_.back()->Close();
  ClearGone();
}

void GatewayParts::Serve(std::unique_ptr<Socket> socket) {
  auto made = std::make_unique<HttpConnection>(this, std::move(socket));
  HttpConnection* const connection = made.get();
  connection->place = connections_.size();
  connections_.push_back(std::move(made));
  connection->Start();
  ArmSweep();
}

void GatewayParts::Drain(const Failure& failure) {
  refusal = failure;
  for (const auto& connection : connections_) connection->Drain(failure);
}

void GatewayParts::Cut(const Failure& failure) {
  refusal = failure;
  for (const auto& connection : connections_) connection->Cut(failure);
}

Waiting GatewayParts::waiting() const noexcept {
  Waiting all;
  for (const auto& connection : connections_) connection->CountWaiting(&all);
  return all;
}

void GatewayParts::Recheck() {
  for (const auto& connection : connections_) connection->Recheck();
}

void GatewayParts::Wake(HttpConnection* connection) noexcept {
  if (std::exchange(connection->in_wake_list, true)) return;
  awake_.push_back(connection);
  ScheduleEnd();
}

void GatewayParts::Forget(HttpConnection* connection) {
  const size_t place = connection->place;
  if (place >= connections_.size() || connections_[place].get() != connection) return;  // Its owner is at it.
  gone_.push_back(std::move(connections_[place]));
  connections_[place] = std::move(connections_.back());
  connections_.pop_back();
  if (place < connections_.size()) connections_[place]->place = place;
  ScheduleEnd();
}

void GatewayParts::Bury(std::unique_ptr<Method> method) {
  methods_.push_back(std::move(method));
  ScheduleEnd();
}

void GatewayParts::Bury(std::unique_ptr<Forward> forward) {
  forwards_.push_back(std::move(forward));
  ScheduleEnd();
}

void GatewayParts::Bury(std::shared_ptr<Stream> stream) {
  streams_.push_back(std::move(stream));
  ScheduleEnd();
}

void GatewayParts::Bury(std::string message) {
  messages_.push_back(std::move(message));
  ScheduleEnd();
}

std::shared_ptr<size_t> GatewayParts::ShareOf(uint64_t namespace_id) {
  if (shares_.size() >= kSharesKept) std::erase_if(shares_, [](const auto& each) { return each.second.expired(); });
  std::weak_ptr<size_t>& known = shares_[namespace_id];
  std::shared_ptr<size_t> share = known.lock();
  if (share == nullptr) known = share = std::make_shared<size_t>(0);
  return share;
}

bool GatewayParts::MayUnpack() noexcept {
  if (std::exchange(unpacking_, loop.now()) != loop.now()) unpacked_ = 0;
  return unpacked_ < limits.unpacked_per_pass;
}

void GatewayParts::ScheduleEnd() {
  if (std::exchange(end_due_, true)) return;
  loop.Defer([self = self_] {
    if (*self != nullptr) (*self)->EndPass();
  });
}

void GatewayParts::EndPass() {
  for (size_t i = 0; i < awake_.size(); ++i) {  // Some wake others.
    awake_[i]->Flush();
    // What it wakes itself for meanwhile it has done, or has left for another pass.
    awake_[i]->in_wake_list = false;
  }
  awake_.clear();
  end_due_ = false;
  ClearGone();
}

// Methods before the calls they know, forwards before the streams they tell: what was made last goes first.
void GatewayParts::ClearGone() {
  const auto messages = std::exchange(messages_, {});
  const auto gone = std::exchange(gone_, {});
  const auto streams = std::exchange(streams_, {});
  const auto forwards = std::exchange(forwards_, {});
  const auto methods = std::exchange(methods_, {});
}

void GatewayParts::ArmSweep() {
  if (sweep_timer_ != 0 || connections_.empty()) return;
  sweep_timer_ = loop.After(limits.sweep, [self = self_] {
    if (*self == nullptr) return;
    (*self)->sweep_timer_ = 0;
    (*self)->Sweep();
    (*self)->ArmSweep();
  });
}

void GatewayParts::Sweep() {
  for (size_t i = connections_.size(); i > 0; --i) connections_[i - 1]->Look(loop.now());  // Some leave the list.
}

}  // namespace prefixdb::front
