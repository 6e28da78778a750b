// One native call, between the transport (who makes it: stream.h) and the method that answers it (methods.h).
//
// The transport has admitted the token (`session`), counts the call, keeps deadline, cancellation and flow control, and
// takes the method's object down when the call is over, however it ends. A method works on the loop's thread; what it
// lets others do (the committer, a worker) comes back by Loop::Post with a weak pointer to the call:
//
//   loop.Post([weak = call.weak_from_this()] { if (auto call = weak.lock(); call && call->open()) ... });
//
// A call that is handed to Python (Punt) is answered there as if it had come there directly: same path, headers,
// deadline and message. So whatever a unary method cannot decide from finished answers it need not decide at all.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "front/failure.h"
#include "front/loop.h"
#include "front/services.h"
#include "front/sessions.h"

namespace prefixdb::front {

// Belongs to its loop's thread.
class Call : public std::enable_shared_from_this<Call> {
 public:
  virtual ~Call() = default;

  // --- facts
  virtual Loop& loop() noexcept = 0;
  virtual Services& services() noexcept = 0;
  // As of admission or the last Readmit.
  virtual const SessionPtr& session() const noexcept = 0;
  // False once it was answered, handed over, cancelled, cut or past its deadline; whoever comes back then goes away.
  virtual bool open() const noexcept = 0;
  // The one message of a unary or server-streaming call; stays for as long as the call is open.
  virtual std::string_view message() const noexcept = 0;

  // Whether the session holds at this moment. Ask before rows are read, again before they are sent, and before a
  // commit is submitted; a unary call whose session does not hold is punted, a stream asks for Readmit.
  bool SessionHolds() noexcept {
#ifdef PREFIXDB_BENCH_NO_SESSION_CHECK
    return true;  // Never in a server that anybody uses: it measures what the check costs, and nothing revokes a token.
#else
    return session()->Holds(services().clock.now_ms()) && !services().halted.load();
#endif
  }

  // --- answers; each of Reply, End, Fail and Punt is the last, after which open() is false.
  // One message and OK.
  virtual void Reply(std::string message) = 0;
  // One message of a stream. Never waits; see `unsent`.
  virtual void Send(std::string message) = 0;
  virtual void End() = 0;
  virtual void Fail(const Failure& failure) = 0;
  // REQUIRES: a unary call, nothing sent.
  virtual void Punt() = 0;

  // Bytes handed to Send that flow control has not let through. OnDrained is called when it becomes 0.
  virtual size_t unsent() const noexcept = 0;

  // Has Python look at the token once more. OnReadmitted is called when it still may, later (never before this
  // returns), else the call fails with what Python says. For streams.
  virtual void Readmit() = 0;

  // --- streams of messages from the client (Pipeline)
  // OnMessage is called for one message at a time: for the first one by itself, after the method has begun; for each
  // other one after this, perhaps before this returns. The bytes it was given stay until this is called, or the call is
  // over.
  virtual void NextMessage() = 0;
};

// What answers a call that is not over when its message was looked at. Made by a method (methods.h), owned by the
// transport, destroyed when the call ends and its bytes are gone, or at once when it is cut: a destructor must let go
// of cursor and view, and of the stream's slot (streams.h), which the method has opened. Lives at least while the call
// is open, and longer than any function of the call that it is inside of (destroy it by Loop::Defer); none of its
// functions is called once the call is not open.
class Method {
 public:
  virtual ~Method() = default;
  virtual void OnMessage(Call& call, std::string_view message) = 0;
  virtual void OnHalfClose(
      Call& call) = 0;  // The client has sent its last message and all were answered (NextMessage).
  virtual void OnDrained(Call& call) = 0;
  virtual void OnReadmitted(Call& call) = 0;
};

}  // namespace prefixdb::front
