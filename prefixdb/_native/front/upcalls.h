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
// Calls with the same token that wait for its admission share one question.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
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
  uint64_t stamp = 0;  // Changes::now() when it was asked.
  std::variant<AdmitQuestion, TranslateQuestion, ReadyQuestion, HaltQuestion> what;
};

struct Admitted {
  SessionPtr session;  // Or:
  std::optional<Failure> refusal;
};

// Thread-safe.
class Upcalls {
 public:
  // `waiting_max`: questions without an answer beyond which further admissions are refused (RATE_LIMITED).
  Upcalls(Changes* changes, SessionTable* table, size_t waiting_max);
  ~Upcalls();
  Upcalls(const Upcalls&) = delete;
  Upcalls& operator=(const Upcalls&) = delete;

  // --- for the loops; `then` runs on `loop`, later, once, unless the loop or this is stopped before.
  void Admit(Loop* loop, AdmitQuestion question, std::function<void(Admitted)> then);
  void Translate(Loop* loop, TranslateQuestion question, std::function<void(Failure)> then);
  // `then` gets nothing when the caller may go on, with the store that StoreSlot has then; else why not.
  void Ready(Loop* loop, ReadyQuestion question, std::function<void(std::optional<Failure>)> then);
  void Halt(HaltQuestion question);

  // --- for Python
  int fd() const noexcept;
  std::vector<Question> Take();  // Resets the eventfd.
  // The session is put into the table; `stamp` is the question's.
  void AnswerAdmitted(uint64_t number, Session session);
  void AnswerReady(uint64_t number);
  void AnswerFailure(uint64_t number, Failure failure);  // Of any kind of question but halt.
  // Answers all that wait with `failure`, and every later question at once.
  void Close(Failure failure);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
