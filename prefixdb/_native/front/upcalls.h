// Questions to Python, answered on its event loop: the front's threads never take the interpreter's lock.
//
// A question is queued and an eventfd becomes readable; Python takes all that wait, and answers each by its number,
// from its loop's thread. The continuation runs on the loop that asked.
//
//   admit      a token that the table does not know, or whose session does not hold any more
//   translate  what the store said; Python knows which error that is, and notes what it means for the store
//   ready      whether a stream may go on with a store that was closed under it, or with writes that are handed to
//              Python at present: where a unary call is handed over, a stream asks, because it cannot be
//   halt       a row outside of the caller's namespace was about to be sent: everything stops
//
// Calls with the same token (and certificate) share one question as long as Python has not taken it; whoever comes
// later asks anew. So an answer was found, whole, after everybody who gets it had asked: a refusal that a change has
// undone reaches nobody who knows of the change.
//
// A session that is stale when its answer arrives (sessions.h) is not handed out: the question is asked again, at once,
// up to kAsksMax times. When even that was not enough, something changes the namespace faster than Python can look, and
// the call is refused with WRITE_STALL, which a client repeats; no answer that is known to be old is ever served.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "front/failure.h"
#include "front/loop.h"
#include "front/sessions.h"
#include "outcome.h"

namespace prefixdb::front {

enum class Doing : uint8_t { kRead, kWrite };

struct AdmitQuestion {
  std::optional<std::string> token;  // Nothing: the call brought no authorization entry at all.
  std::string peer_certificate;      // PEM, when tokens are tied to certificates (tls.subject = token).
};
struct TranslateQuestion {
  Doing doing;
  Outcome outcome;
};
// Answered when there is a store to use and, for writes, when they are taken: Python waits for an exchange of the
// engine, tries to recover it when it is time to, and looks at the space that is left.
struct ReadyQuestion {
  Doing doing;
  bool only_deletes = false;  // Of a write: it puts no row, so it passes where the disk is nearly full.
};
struct HaltQuestion {
  std::string method;
};

struct Question {
  uint64_t number = 0;
  uint64_t stamp = 0;  // Changes::now() when it was taken: before Python begins to look.
  std::variant<AdmitQuestion, TranslateQuestion, ReadyQuestion, HaltQuestion> what;
};

struct Admitted {
  SessionPtr session;  // Or:
  std::optional<Failure> refusal;
};

// Thread-safe. Close it before a loop that has asked is destroyed; no loop is touched after that.
class Upcalls {
 public:
  static constexpr int kAsksMax = 8;
  static constexpr size_t kTakenAtOnce = 16;

  // `waiting_max`: questions about tokens without an answer beyond which further ones are refused (RATE_LIMITED).
  Upcalls(Changes* changes, SessionTable* table, size_t waiting_max);  // Throws std::system_error: no descriptors left.
  ~Upcalls();
  Upcalls(const Upcalls&) = delete;
  Upcalls& operator=(const Upcalls&) = delete;

  // --- for the loops; `then` runs on `loop`, later, once, unless the loop or this is stopped before. It is destroyed
  // under a lock of this, so nothing it holds may ask something when it goes.
  void Admit(Loop* loop, AdmitQuestion question, std::function<void(Admitted)> then);
  void Translate(Loop* loop, TranslateQuestion question, std::function<void(Failure)> then);
  // `then` gets nothing when the caller may go on, with the store that StoreSlot has then; else why not.
  void Ready(Loop* loop, ReadyQuestion question, std::function<void(std::optional<Failure>)> then);
  void Halt(HaltQuestion question);

  // --- for Python
  // Readable while there are questions to take.
  int fd() const noexcept;
  // Up to `most` questions, in the order they were asked; those left keep the descriptor readable.
  std::vector<Question> Take(size_t most = kTakenAtOnce);
  // The caller leaves `stamp`, `own`, `home` and `changes` alone; they are set here. `home_counts`: the session also
  // stands and falls with namespace 0 (a guest, or minted by a cluster guardian). A current session is put into the
  // table, but for one whose question had a certificate: that holds for the asking connection only.
  // An answer to a question that is not open (any more) is dropped.
  void AnswerAdmitted(uint64_t number, Session session, bool home_counts);
  void AnswerReady(uint64_t number);
  void AnswerFailure(uint64_t number, Failure failure);  // Of any kind of question but halt.
  // Answers all that wait with `failure`, and every later question at once; there is nothing to take any more. A write
  // of which nobody knows what became is answered OUTCOME_UNKNOWN instead. Idempotent.
  void Close(Failure failure);

  size_t waiting() const;  // Questions without an answer.

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
