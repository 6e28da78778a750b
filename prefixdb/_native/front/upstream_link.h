// One connection to the Python server: nghttp2's client session over a unix socket, and the calls on it.
//
// Calls come to a link when it has room for them (upstream.cc keeps the others waiting) and leave it when their stream
// is closed, when it breaks, or, unsent, when the server takes no new ones (GOAWAY). A link that takes no new calls is
// retired: it lives until its last call is over.
//
// Credit, in two layers. The connection's window is as large as HTTP/2 allows and is given back as bytes arrive, so
// that a client who takes nothing holds up nobody else. A stream's window is given back as its client takes the bytes:
// what one call may have in memory is `stream_window_bytes`, 64 KiB, as much as flow control lets go to any client at
// once; the server counts what is larger until its client has taken it (service/arrivals.py, Replies). It is enough:
// one call brings 0.9 GB/s through it, for the way is short.
//
// Worst case: every one of the 8,192 calls a link may have is stalled with a full window: 512 MiB for each loop. An
// answer the server has finished is not among them any more; what its client has not taken waits in the client's
// connection, as it would in gRPC's own. Of the requests, what clients may send ahead.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "front/pending_bytes.h"
#include "front/turns.h"
#include "front/upstream.h"
#include "front/upstream_limits.h"

namespace prefixdb::front {

class UpstreamLink;

// A forwarded call, shared by who opened it, the queue and the link.
struct UpstreamCall {
  ForwardSink* sink = nullptr;   // Null when the call is over, or nobody wants to hear of it.
  size_t* open = nullptr;        // The upstream's count of calls that are not over.
  UpstreamLink* link = nullptr;  // While it has a stream there.
  const void* client = nullptr;
  bool waiting = false;  // To be sent; `place` says where.
  Turns<std::shared_ptr<UpstreamCall>>::Place place;
  size_t* unanswered = nullptr;  // The upstream's count of those it is one of, while it is.

  int32_t stream = -1;
  Headers request;  // Until they are sent.
  bool sent = false;
  uint8_t tries = 0;  // Links that took it and did not send it.

  PendingBytes body;  // Of the request, not passed on yet.
  bool body_ended = false;
  bool body_awaited = false;  // nghttp2 asks no more until it is told that there is something.
  bool body_over = false;     // Its end is on the way.
  size_t passed_on = 0;       // Not reported yet.

  Headers arriving;
  size_t arriving_bytes = 0;
  bool answered = false;  // The answer's headers were told; what comes next are trailers.
  bool answer_over = false;
  bool reset = false;
  size_t untaken = 0;  // Bytes of the answer that the client has not taken.

  // Something was heard of it, or it is gone, or it was counted long enough.
  void Uncount() noexcept {
    if (size_t* const count = std::exchange(unanswered, nullptr)) --*count;
  }

  // From now on nobody is told anything; returns who was.
  ForwardSink* End() noexcept {
    if (sink == nullptr) return nullptr;
    --*open;
    body.Clear();
    return std::exchange(sink, nullptr);
  }
};
using UpstreamCallPtr = std::shared_ptr<UpstreamCall>;

// Belongs to its loop's thread. Never calls a sink from inside Begin, Resume, Taken and Reset.
class UpstreamLink : public Loop::Watcher {
 public:
  // Who keeps the links.
  class Owner {
   public:
    virtual ~Owner() = default;
    // Something waits to be sent, or room was made, or the link is finished: Flush at the end of this pass.
    virtual void WantFlush() = 0;
    // The call was not sent and will not be on this link.
    virtual void Return(UpstreamCallPtr call) = 0;
  };

  // Takes over a connected socket, unless it throws (memory, epoll). `loop` and `owner` outlive the link.
  UpstreamLink(Loop* loop, int fd, const UpstreamLimits& limits, Owner* owner);
  ~UpstreamLink() override;  // Closes. Whoever has calls on it is not told.
  UpstreamLink(const UpstreamLink&) = delete;
  UpstreamLink& operator=(const UpstreamLink&) = delete;

  bool HasRoom() const;
  void Begin(UpstreamCallPtr call);  // REQUIRES: HasRoom().
  void Resume(UpstreamCall& call);   // There is more of the request's body, or its end.
  void Taken(UpstreamCall& call, size_t bytes);
  void Reset(UpstreamCall& call, uint32_t http2_error);

  // Sends what is due.
  void Flush();
  bool retired() const noexcept { return retired_; }
  // Nothing will happen here any more.
  bool finished() const noexcept { return fd_ < 0 || (retired_ && calls_.empty()); }
  // Bytes of memory for what the kernel has not taken.
  size_t held() const noexcept { return out_.capacity(); }

  void OnReady(uint32_t events) override;

 private:
  struct Callbacks;  // nghttp2's, upstream_link.cc.
  struct DeleteSession {
    void operator()(nghttp2_session* session) const noexcept { nghttp2_session_del(session); }
  };

  bool Fill();   // `out_`; false when the session is at its end.
  bool Drain();  // Into the kernel, as much as it takes; false when it takes nothing any more.
  void Tell();   // What was passed on, and what was not sent.
  void CloseCall(int32_t stream, uint32_t http2_error);
  void OnHeaderBlock(UpstreamCall& call, bool end_stream);
  void OnEnd(UpstreamCall& call);
  void Break();
  UpstreamCall* Find(int32_t stream) const;

  Loop* const loop_;
  Owner* const owner_;
  const UpstreamLimits limits_;
  int fd_;
  std::unique_ptr<nghttp2_session, DeleteSession> session_;
  bool retired_ = false;
  bool settled_ = false;  // The server's SETTINGS have come.
  bool waits_to_write_ = false;
  bool more_ = false;  // To write than fits into one pass.
  std::unordered_map<int32_t, UpstreamCallPtr> calls_;
  std::vector<UpstreamCallPtr> moved_;  // Have something in `passed_on`.
  std::vector<int32_t> unsent_;         // Streams whose headers could not be sent.
  std::string out_;                     // What the kernel has not taken.
  std::vector<uint8_t> in_;
};

}  // namespace prefixdb::front
