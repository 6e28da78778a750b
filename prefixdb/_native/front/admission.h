// From the authorization entry to a session: the connection's memory of its last token, then the table of sessions,
// then Python (upcalls.h).
#pragma once

#include <functional>
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

// Belongs to its connection.
class Admission {
 public:
  // `certificate`: of the connection's client, as PEM; used when tokens are tied to certificates.
  Admission(Services* services, std::string certificate);

  // A session that holds at this moment, or null: then Python has to be asked.
  const SessionPtr& Find(const Token& token);
  // Asks Python. `then` runs later, on the loop; what is admitted is remembered by `Remember`, called by `then`.
  void Ask(Loop* loop, const Token& token, std::function<void(Admitted)> then);
  void Remember(const Token& token, SessionPtr session);

 private:
  bool IsLast(const Token& token) const noexcept {
    return last_session_ != nullptr && token.has_value() == has_token_ && token.value_or("") == last_token_;
  }

  Services* const services_;
  const std::string certificate_;
  bool has_token_ = false;
  std::string last_token_;
  SessionPtr last_session_;
};

}  // namespace prefixdb::front
