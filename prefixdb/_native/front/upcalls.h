// Questions to Python, answered on its event loop: the front's threads never take the interpreter's lock.
//
// A question is queued and an eventfd becomes readable; Python takes all that wait, and answers each by its number,
// from its loop's thread. The continuation runs on the loop that asked.
//
//   admit      a token that the table does not know, or whose session does not hold any more
//   translate  what the store said; Python knows which error that is, and notes what it means for the store
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
struct HaltQuestion {
  std::string method;
};

struct Question {
  uint64_t number = 0;
  uint64_t stamp = 0;  // Changes::now() when it was asked.
  std::variant<AdmitQuestion, TranslateQuestion, HaltQuestion> what;
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
  void Halt(HaltQuestion question);

  // --- for Python
  int fd() const noexcept;
  std::vector<Question> Take();  // Resets the eventfd.
  // The session is put into the table; `stamp` is the question's.
  void AnswerAdmitted(uint64_t number, Session session);
  void AnswerFailure(uint64_t number, Failure failure);  // Of either kind of question.
  // Answers all that wait with `failure`, and every later question at once.
  void Close(Failure failure);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
