// From the authorization entry to a session: the connection's memory of its last token, then the table of sessions,
// then Python (upcalls.h).
//
// A connection has few questions open at once, also about calls that were reset meanwhile; its other calls wait for
// those. So whoever makes up tokens by the thousand waits for himself, and nobody else's token is refused for it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "front/request_head.h"
#include "front/services.h"

namespace prefixdb::front {

// The token that a call brought. Nothing: it brought no authorization entry at all, and the server asks about those.
using Token = std::optional<std::string_view>;

// Which entry counts, as bearer_token in prefixdb/service/sessions.py.
std::variant<Token, Failure> TokenOf(const RequestHead& head, bool anonymous);

// Belongs to its connection; what Python is asked may outlive it.
class Admission : public std::enable_shared_from_this<Admission> {
 public:
  static constexpr size_t kQuestionsMax = 2;  // Of one connection at once.

  // `certificate`: of the connection's client, as PEM; used when tokens are tied to certificates.
  Admission(Services* services, std::string certificate, std::function<void(int32_t call)> next);

  // A session that holds at this moment, or null: then Python has to be asked.
  const SessionPtr& Find(const Token& token);
  // Asks Python. `then` runs later, on the loop; what is admitted is remembered by `Remember`, called by `then`. False:
  // not now, `next` is called with the number of the call when it is its turn to ask.
  [[nodiscard]] bool Ask(Loop* loop, int32_t call, const Token& token, std::function<void(Admitted)> then);
  void Remember(const Token& token, SessionPtr session);

 private:
  void GoOn();
  bool IsLast(const Token& token) const noexcept {
    return last_session_ != nullptr && token.has_value() == has_token_ && token.value_or("") == last_token_;
  }

  Services* const services_;
  const std::string certificate_;
  const std::function<void(int32_t)> next_;
  bool has_token_ = false;
  std::string last_token_;
  SessionPtr last_session_;
  size_t asking_ = 0;
  std::deque<int32_t> waiting_;  // Some of them may be gone.
};

}  // namespace prefixdb::front
