// One call on a client's connection, from its headers to its last frame: a native call (call.h), or one that is
// forwarded to the Python server, from the start or later (Punt).
//
//   kHead ──► kAdmitting ──► kReceiving ──► kRunning ──► kEnded
//     │                                        │ Punt      ▲
//     └──────────────► kForwarded ◄────────────┘ ──────────┘
//
// kEnded: the status is known; it goes after the bytes that wait, or at once when the call was cut. The object lives
// until HTTP/2's stream is closed, or the connection is.
//
// A row that was read under a session leaves only while that holds: nghttp2 asks for the bytes (Offer) when flow
// control lets them go, which may be long after the method has sent them; if it is another pass by then the session is
// looked at once more, and Python if it does not hold.
#pragma once

#include <nghttp2/nghttp2.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "front/admission.h"
#include "front/call.h"
#include "front/connection.h"
#include "front/grpc_codec.h"
#include "front/intake.h"
#include "front/methods.h"
#include "front/request_head.h"
#include "front/responder.h"
#include "front/upcalls.h"
#include "front/upstream.h"

namespace prefixdb::front {

class HttpConnection;

Failure Halted();  // What every call is told once isolation was found broken.

class Stream final : public Call, public ForwardSink {
 public:
  Stream(HttpConnection* connection, int32_t id);
  ~Stream() override = default;

  // --- what the client sends
  void ReceiveHeader(std::string_view name, std::string_view value);
  void ReceiveHead(bool end_stream);
  void ReceiveData(std::string_view bytes);
  void ReceiveEnd();

  // --- what goes to the client; as nghttp2's data source, and its frames
  ssize_t Offer(size_t most, uint32_t* flags);
  void Take(size_t count, std::string* out);
  void OnFlushed();  // Not from inside nghttp2: the method hears that its bytes are gone.

  // --- from the connection
  void OnClosed();   // HTTP/2's stream is closed, or the connection gone: everything of the call is let go.
  void AskInTurn();  // About the token.
  void OnPassEnd();  // The first pass has ended and the call has not: its deadline gets a timer.
  void Look(Loop::Time now);
  void Recheck();
  void CountWaiting(Waiting* all) const noexcept;
  void Drain(const Failure& failure);
  void Cut(const Failure& failure);

  int32_t id() const noexcept { return id_; }
  bool is_native() const noexcept { return ours_; }
  size_t place = 0;  // In the connection's list.

  // --- Call
  Loop& loop() noexcept override { return loop_; }
  Services& services() noexcept override { return services_; }
  const SessionPtr& session() const noexcept override { return session_; }
  bool open() const noexcept override { return state_ == State::kRunning; }
  std::string_view message() const noexcept override { return message_; }
  void Reply(std::string message) override;
  void Send(std::string message) override;
  void End() override;
  void Fail(const Failure& failure) override;
  void Punt() override;
  size_t unsent() const noexcept override { return responder_.bytes(); }
  void Readmit() override;
  void NextMessage() override;

  // --- ForwardSink
  void OnHeaders(Headers headers, bool end_stream) override;
  void OnData(std::string_view data) override;
  void OnTrailers(Headers trailers) override;
  void OnReset(uint32_t http2_error) override;
  void OnLost(bool sent) override;
  void OnPassedOn(size_t bytes) override;

 private:
  enum class State : uint8_t { kHead, kAdmitting, kReceiving, kRunning, kForwarded, kEnded };

  bool is_live() const noexcept { return connection_ != nullptr && state_ != State::kEnded; }
  bool streams() const noexcept { return facts_->client_streams || facts_->server_streams; }

  // stream_intake.cc: until the method has what it needs.
  void Judge();
  void Admit();
  void AskPython();
  void TakeAnswer(Admitted answer);
  void OnAdmitted(Admitted answer);
  void OnReadmitted(Admitted answer);
  void Pump();
  void PumpLater();
  bool PumpOne();
  void OnNoMore();
  void Begin();
  void RefuseHead();
  void ResetHead();
  Token token() const;

  // stream.cc: answers, and ends.
  void EndWith(Status status);
  void CutWith(Status status);
  void CutWith(const Failure& failure) { CutWith(StatusOf(failure)); }
  void Ended(uint8_t code);
  void ExceedDeadline();
  void BuryWork();
  void BuryMessage();
  void ReleaseUnread();
  bool CarriesRows() const noexcept;
  bool IsCommitting() const noexcept;
  void LookAtClient(Loop::Time now);

  // stream_forward.cc
  void StartForward(bool end_stream);
  void CreditForwarded();
  // `left`: of the deadline.
  Headers ForwardedHeaders(std::optional<std::chrono::milliseconds> left) const;

  HttpConnection* connection_;  // Null once the stream is closed.
  Loop& loop_;
  Services& services_;
  const int32_t id_;
  State state_ = State::kHead;
  bool remote_ended_ = false;
  bool ours_ = false;          // A native call that was not handed over: counted as running, and measured.
  bool wants_message_ = true;  // The method, or the call before it has one, waits for a message.
  bool pumping_ = false;
  bool pumps_later_ = false;  // It waits for its turn to unpack.
  bool half_closed_ = false;  // The method was told.
  bool punted_ = false;       // Whatever the client sends after that is dropped.
  bool judging_ = false;      // The method looks at what the session may do now.
  bool readmitting_ = false;
  bool asks_later_ = false;   // It waits for its turn to ask about the token.
  bool begin_after_ = false;  // ... and the method is begun then.
  const NativeFacts* facts_ = nullptr;

  RequestHead head_;
  Intake intake_;
  std::optional<MessageReader> reader_;
  std::string message_;
  SessionPtr session_;
  std::unique_ptr<Method> method_;
  Responder responder_;
  std::unique_ptr<Forward> forward_;
  LastMessage last_message_;  // Of what is passed on.
  size_t not_passed_on_ = 0;  // Bytes of the client.
  size_t own_passed_on_ = 0;  // Bytes to pass on that came from us (Punt): no credit goes to the client for them.
  size_t message_bytes_ = 0;  // Of `message_`, as it came; in `intake_` until the next one is wanted.
  uint64_t unread_ = 0;       // Bytes of a large answer, counted in services.unread.

  std::chrono::steady_clock::time_point started_;
  std::optional<Loop::Time> deadline_;
  Loop::TimerId deadline_timer_ = 0;
  Loop::Time waiting_since_;                 // For a message.
  std::optional<Loop::Time> partial_since_;  // A message of a stream has begun and is not whole.
  Loop::Time checked_at_;                    // The pass in which the method has last sent something it had checked.
};

}  // namespace prefixdb::front
