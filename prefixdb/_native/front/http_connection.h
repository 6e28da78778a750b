// One client's connection: its socket, nghttp2's session, and the calls on it.
//
// Frames are made at the end of a pass (Flush, by the gateway) and written at once: 64 KiB at a time, and no more as
// long as the kernel has not taken those. All memory for that is the gateway's; a connection has a buffer of its own
// only while the kernel has left something over.
//
// nghttp2's callbacks (session_callbacks.h) lead here or to a Stream. None of them ends the connection: what goes wrong
// inside is noted (Break) and the connection closed when nghttp2 has returned.
#pragma once

#include <nghttp2/nghttp2.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "front/admission.h"
#include "front/flood_guard.h"
#include "front/gateway.h"
#include "front/intake.h"
#include "front/socket.h"
#include "front/stream.h"

namespace prefixdb::front {

// Belongs to its loop's thread.
class HttpConnection final : public Loop::Watcher {
 public:
  HttpConnection(GatewayParts* gateway, std::unique_ptr<Socket> socket);
  ~HttpConnection() override;

  void Start();
  void OnReady(uint32_t events) override;
  void Flush();
  void Look(Loop::Time now);
  void Recheck();
  void CountWaiting(Waiting* all) const noexcept;
  void Drain(const Failure& failure);
  void Cut(const Failure& failure);
  // Ends everything of it at once. Not from inside nghttp2. Idempotent.
  void Close();

  // --- for its streams and callbacks
  nghttp2_session* session() const noexcept { return session_; }
  GatewayParts& gateway() noexcept { return *gateway_; }
  Loop::Time now() const noexcept;
  Admission& admission() noexcept { return *admission_; }
  FloodGuard& guard() noexcept { return guard_; }
  Account* account() noexcept { return &account_; }
  const std::string& peer() const noexcept { return socket_->peer(); }
  const std::string& certificate_text();  // base64 of the PEM; empty without a certificate.
  void Wake() noexcept;                   // There may be something to send.
  void Break() noexcept { broken_ = true; }
  // Runs what may throw from a task of the loop; a connection is worth less than the process.
  template <typename Work>
  void Guarded(Work work) noexcept {
    try {
      work();
    } catch (...) {
      Break();
    }
    Wake();
  }
  void Calm() noexcept;  // Too much of something: GOAWAY ENHANCE_YOUR_CALM.
  Stream* StreamOf(int32_t id) const noexcept {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session_, id));
  }
  void OnDrained(Stream* stream) { drained_.push_back(stream->id()); }

  // --- callbacks
  void OpenStream(int32_t id);
  void StreamClosed(Stream* stream);
  void OnSettings() noexcept { settled_ = true; }
  void OnBlock() noexcept {
    block_open_ = true;
    block_since_ = now();
  }
  void OnBlockEnd() noexcept { block_open_ = false; }
  std::string* frames() const noexcept { return frames_; }

  bool in_wake_list = false;  // The gateway's.
  size_t place = 0;           // In the gateway's list.

 private:
  bool Shake();
  void AskNext(int32_t id);
  void Read();
  void Rewatch();
  void SayGoodbye(Loop::Time now);
  void KeepAlive(Loop::Time now);
  void Leave();
  void SayLast();

  // http_writing.cc
  bool FlushSome();
  bool MakeFrames();
  void WriteFrames();
  bool WriteLeftover();
  size_t Write(std::span<const uint8_t> bytes);
  void TellFlushed();

  GatewayParts* const gateway_;
  std::unique_ptr<Socket> socket_;
  nghttp2_session* session_ = nullptr;
  std::shared_ptr<Admission> admission_;
  FloodGuard guard_;
  Account account_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::vector<int32_t> drained_;
  std::string leftover_;  // Frames the kernel did not take, from `leftover_at_`.
  size_t leftover_at_ = 0;
  std::string* frames_ = nullptr;  // While frames are made.
  std::string certificate_text_;
  uint32_t watched_ = 0;
  bool shaken_ = false;
  bool settled_ = false;  // The client's SETTINGS have come.
  bool broken_ = false;
  bool closed_ = false;
  bool block_open_ = false;  // A block of headers has begun and is not whole.
  bool pinged_ = false;
  bool more_ = false;     // There may be more to read than was read.
  bool full_ = false;     // More was to be written than one pass may.
  bool fresh_ = false;    // There are calls that began in this pass.
  bool leaving_ = false;  // GOAWAY was sent, the notice or more.
  bool left_ = false;     // The last GOAWAY was sent.
  bool calmed_ = false;   // It was too much: nothing of the peer is looked at any more.

  Loop::Time made_at_;
  Loop::Time heard_at_;
  Loop::Time wrote_at_;
  Loop::Time busy_at_;  // The last time there was a call.
  Loop::Time block_since_;
  Loop::Time pinged_at_;
  Loop::Time leaving_at_;
  Loop::Time calmed_at_;
  std::chrono::milliseconds age_;
};

}  // namespace prefixdb::front
