// The connections of one loop and what they share. See connection.h for the outside of it.
//
// Whoever has something to send is woken (Wake) and makes its frames at the end of the pass, in turns. What ended in a
// pass is destroyed at its end, so that no object goes away under a function of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "front/connection.h"
#include "front/intake.h"
#include "front/methods.h"
#include "front/transport_limits.h"

namespace prefixdb::front {

class HttpConnection;
class Stream;

using FindMethod = const NativeFacts* (*)(std::string_view path) noexcept;

// What connections and streams use. Belongs to the loop's thread.
class GatewayParts final : public Gateway {
 public:
  GatewayParts(Loop* loop, Services* services, const Limits& limits, FindMethod find,
               std::unique_ptr<Upstream> upstream);
  ~GatewayParts() override;

  void Serve(std::unique_ptr<Socket> socket) override;
  void Drain(const Failure& failure) override;
  void Cut(const Failure& failure) override;
  size_t running() const noexcept override { return running_count; }
  Waiting waiting() const noexcept override;
  void Recheck() override;

  // --- for connections and streams
  void Wake(HttpConnection* connection) noexcept;
  void Forget(HttpConnection* connection);  // Closed; destroyed at the end of the pass.
  void Bury(std::unique_ptr<Method> method);
  void Bury(std::unique_ptr<Forward> forward);
  void Bury(std::shared_ptr<Stream> stream);
  void Bury(std::string message);  // Large: it stays where it is in memory.
  // Of `incoming`, see intake.h; calls that are passed on have one together.
  std::shared_ptr<size_t> ShareOf(uint64_t namespace_id);
  // Whether this pass may unpack another message: 16 KiB of the network can mean 16 MiB of work.
  bool MayUnpack() noexcept;
  void Unpacked(size_t bytes) noexcept { unpacked_ += bytes; }

  Loop& loop;
  Services& services;
  const Limits limits;
  const FindMethod find;
  const std::unique_ptr<Upstream> upstream;
  Account incoming;
  std::optional<Failure> refusal;  // Of every native call, once draining.
  size_t running_count = 0;
  std::vector<uint8_t> read_buffer;
  std::string frames;

 private:
  static constexpr size_t kReadBufferBytes = 64 * 1024;

  void EndPass();
  void ClearGone();
  void ArmSweep();
  void Sweep();
  void ScheduleEnd();

  // Tasks of the loop look whether this is still there.
  std::shared_ptr<GatewayParts*> self_;
  std::vector<std::unique_ptr<HttpConnection>> connections_;
  std::vector<HttpConnection*> awake_;
  std::vector<std::unique_ptr<HttpConnection>> gone_;
  std::vector<std::unique_ptr<Method>> methods_;
  std::vector<std::unique_ptr<Forward>> forwards_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::vector<std::string> messages_;
  std::unordered_map<uint64_t, std::weak_ptr<size_t>> shares_;
  Loop::Time unpacking_;  // The pass that `unpacked_` is of.
  size_t unpacked_ = 0;
  bool end_due_ = false;
  Loop::TimerId sweep_timer_ = 0;
};

}  // namespace prefixdb::front
