// The answer of one call on its way into frames: headers, the bytes that wait for flow control, and the status.
//
//   nothing said yet, and a failure          HEADERS(200, grpc-status, END_STREAM)
//   otherwise                                HEADERS(200) DATA... HEADERS(grpc-status, END_STREAM)
//   cut while DATA waits for the client      what waits is dropped, the status goes at once
//
// When a call is over before its client has ended its side, RST_STREAM(NO_ERROR) follows (HttpConnection sees to that).
#pragma once

#include <nghttp2/nghttp2.h>

#include <memory>
#include <string>
#include <string_view>

#include "front/failure.h"
#include "front/loop.h"
#include "front/outbox.h"
#include "front/upstream.h"

namespace prefixdb::front {

class HttpConnection;

// How a call ended, as trailers say it.
struct Status {
  uint8_t code = 0;
  std::string message;  // Percent-encoded.
  std::string details;  // base64; may be empty.
};
Status StatusOf(const Failure& failure);

// Belongs to its call.
class Responder {
 public:
  Responder(HttpConnection* connection, int32_t id) : connection_(connection), id_(id) {}

  // --- a native call
  void Push(std::string message);
  void Finish(Status status);  // After what waits.
  void Cut(Status status);     // At once; also after Finish, as long as the status has not gone.

  // --- a forwarded call: what the server behind us said
  void PassHeaders(const Headers& headers, bool end_stream);
  void PassBytes(std::string_view bytes);
  void PassTrailers(Headers trailers);
  void Reset(uint32_t http2_error);

  // --- nghttp2 wants bytes
  ssize_t Offer(size_t most, uint32_t* flags);
  size_t Take(size_t count, std::string* out);
  // Not now; Resume has nghttp2 ask again.
  ssize_t Defer() noexcept;
  void Resume();

  bool started() const noexcept { return started_; }
  bool finished() const noexcept { return finished_; }
  size_t bytes() const noexcept { return out_.bytes(); }
  // When what waits first began to wait: since the last message went, or, `finished`, since any byte did.
  Loop::Time moved_at() const noexcept { return moved_at_; }
  // A forwarded call that has failed: what waits is dropped, its status goes at once. What ended well is never dropped.
  void DropIfFailed();

 private:
  void Start();
  void Moved();
  void SubmitTrailers();
  void OnSubmitted(int result);
  void TrailersOnly(const Status& status);

  HttpConnection* const connection_;
  const int32_t id_;
  Outbox out_;
  bool started_ = false;   // The headers are with nghttp2.
  bool finished_ = false;  // The status is known.
  bool closed_ = false;    // The status is with nghttp2: nothing may follow.
  bool waiting_ = false;   // nghttp2 was told that there is nothing at present.
  bool forwarded_ = false;
  Loop::Time moved_at_;
  std::unique_ptr<Status> failure_;  // Null: OK.
  std::unique_ptr<Headers> trailers_;
};

}  // namespace prefixdb::front
