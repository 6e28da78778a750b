#include "front/admission.h"

#include <utility>

namespace prefixdb::front {
namespace {

constexpr std::string_view kBearer = "Bearer ";
const SessionPtr kNone;

}  // namespace

std::variant<Token, Failure> TokenOf(const RequestHead& head, bool anonymous) {
  if (head.authorizations() == 0) {
    if (anonymous) return Token();
    return Fail(Reason::kTokenMissing);
  }
  const std::string_view entry = head.authorization();
  if (head.authorizations() > 1 || !entry.starts_with(kBearer)) return Fail(Reason::kTokenMissing);
  const std::string_view token = entry.substr(kBearer.size());
  if (token.size() > kTokenBytesMax) return Fail(Reason::kTokenInvalid);
  return Token(token);
}

Admission::Admission(Services* services, std::string certificate, std::function<void(int32_t)> next)
    : services_(services),
      certificate_(services->settings.tokens_tied_to_certificates ? std::move(certificate) : ""),
      next_(std::move(next)) {}

const SessionPtr& Admission::Find(const Token& token) {
  const uint64_t now_ms = services_->clock.now_ms();
  if (IsLast(token) && last_session_->Holds(now_ms)) return last_session_;
  // Whether a certificate goes with a token is asked for each connection.
  if (services_->settings.tokens_tied_to_certificates) return kNone;
  SessionPtr found = services_->sessions.Find(token ? HashToken(*token) : TokenHash());
  if (found == nullptr || !found->Holds(now_ms)) return kNone;
  Remember(token, std::move(found));
  return last_session_;
}

bool Admission::Ask(Loop* loop, int32_t call, const Token& token, std::function<void(Admitted)> then) {
  if (asking_ >= kQuestionsMax) {
    waiting_.push_back(call);
    return false;
  }
  AdmitQuestion question;
  if (token) question.token.emplace(*token);
  question.peer_certificate = certificate_;
  ++asking_;
  services_->upcalls.Admit(loop, std::move(question),
                           [weak = weak_from_this(), then = std::move(then)](Admitted answer) {
                             then(std::move(answer));
                             const auto self = weak.lock();
                             if (self == nullptr) return;
                             --self->asking_;
                             self->GoOn();
                           });
  return true;
}

// Whose turn it is may not need to ask any more.
void Admission::GoOn() {
  while (asking_ < kQuestionsMax && !waiting_.empty()) {
    const int32_t call = waiting_.front();
    waiting_.pop_front();
    next_(call);
  }
}

void Admission::Remember(const Token& token, SessionPtr session) {
  has_token_ = token.has_value();
  last_token_.assign(token.value_or(""));
  last_session_ = std::move(session);
}

}  // namespace prefixdb::front
