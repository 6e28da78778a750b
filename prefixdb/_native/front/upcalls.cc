#include "front/upcalls.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <mutex>
#include <system_error>
#include <unordered_map>
#include <utility>

namespace prefixdb::front {
namespace {

struct Asker {
  Loop* loop;
  std::function<void(Admitted)> then;
};

struct Admission {
  AdmitQuestion question;
  std::string key;
  std::vector<Asker> askers;
  uint64_t stamp = 0;  // When it was taken.
  int asks = 0;
  bool taken = false;
  // Of the answer that was stale: keeps Changes from forgetting what it was compared with.
  std::shared_ptr<const NamespaceStamp> own;
  std::shared_ptr<const NamespaceStamp> home;
};

// A question of one call alone.
template <typename Question, typename Answer>
struct Single {
  Question question;
  Loop* loop;
  std::function<void(Answer)> then;
  bool taken = false;
};
using Translation = Single<TranslateQuestion, Failure>;
using Readiness = Single<ReadyQuestion, std::optional<Failure>>;

using Open = std::variant<Admission, Translation, Readiness, HaltQuestion>;

// Equal for the same token from the same certificate. The token itself is no key: keys outlive it in freed memory.
std::string KeyOf(const AdmitQuestion& question) {
  if (!question.token && question.peer_certificate.empty()) return {};
  std::string key = question.token ? HashToken(*question.token) : TokenHash();
  if (!question.peer_certificate.empty()) key += HashToken(question.peer_certificate);
  if (!question.token) key += '-';
  return key;
}

Failure Unsettled() {
  return Fail(Reason::kWriteStall, "The namespace is being changed over and over; nothing was done.");
}

// What became of a write that Python cannot tell any more.
Failure WithoutPython(const TranslateQuestion& question, const Failure& closing) {
  if (question.doing == Doing::kWrite && question.outcome.attempted) return Fail(Reason::kOutcomeUnknown);
  return closing;
}

}  // namespace

struct Upcalls::Parts {
  Parts(Changes* all_changes, SessionTable* sessions, size_t most)
      : changes(all_changes), table(sessions), waiting_max(most) {}

  uint64_t Ask(Open question) {
    const uint64_t number = ++last_number;
    open.emplace(number, std::move(question));
    untaken.push_back(number);
    Wake();
    return number;
  }

  void Wake() const {
    const uint64_t one = 1;
    while (write(descriptor, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
  }

  void Unwake() const {
    uint64_t count = 0;
    while (read(descriptor, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
  }

  // Takes the question out that an answer is for; nothing when it is not open (any more), was never taken, or is of
  // another kind.
  template <typename Kind>
  std::optional<Kind> Answered(uint64_t number) {
    const auto found = open.find(number);
    if (found == open.end()) return std::nullopt;
    auto* const kind = std::get_if<Kind>(&found->second);
    if (kind == nullptr || !kind->taken) return std::nullopt;
    std::optional<Kind> answered(std::move(*kind));
    open.erase(found);
    return answered;
  }

  decltype(Question::what) TakeOne(uint64_t number, uint64_t stamp);
  void AskAgain(Admission admission);
  // Under the lock: after Close no loop is touched.
  void Answer(Admission* admission, const Admitted& answer);
  template <typename Question, typename Found>
  void Answer(Single<Question, Found>* single, Found answer) {
    single->loop->Post([then = std::move(single->then), answer = std::move(answer)] { then(answer); });
  }

  Changes* const changes;
  SessionTable* const table;
  const size_t waiting_max;
  int descriptor = -1;

  mutable std::mutex mutex;
  uint64_t last_number = 0;
  std::unordered_map<uint64_t, Open> open;
  std::deque<uint64_t> untaken;
  std::unordered_map<std::string, uint64_t> shared;  // Admissions that are not taken yet, by KeyOf.
  size_t admissions = 0;                             // Of `open`.
  std::optional<Failure> closed;
};

void Upcalls::Parts::Answer(Admission* admission, const Admitted& answer) {
  for (Asker& asker : admission->askers) {
    asker.loop->Post([then = std::move(asker.then), answer] { then(answer); });
  }
}

decltype(Question::what) Upcalls::Parts::TakeOne(uint64_t number, uint64_t stamp) {
  const auto found = open.find(number);
  if (auto* const admission = std::get_if<Admission>(&found->second)) {
    admission->taken = true;
    admission->stamp = stamp;
    ++admission->asks;
    shared.erase(admission->key);
    return admission->question;
  }
  if (auto* const translation = std::get_if<Translation>(&found->second)) {
    translation->taken = true;
    return translation->question;
  }
  if (auto* const readiness = std::get_if<Readiness>(&found->second)) {
    readiness->taken = true;
    return readiness->question;
  }
  HaltQuestion halt = std::move(std::get<HaltQuestion>(found->second));
  open.erase(found);  // Nobody waits for an answer.
  return halt;
}

void Upcalls::Parts::AskAgain(Admission admission) {
  if (admission.asks >= kAsksMax) {
    --admissions;
    Answer(&admission, {nullptr, Unsettled()});
    return;
  }
  if (const auto found = shared.find(admission.key); found != shared.end()) {  // Somebody has asked meanwhile.
    auto& other = std::get<Admission>(open.at(found->second));
    for (Asker& asker : admission.askers) other.askers.push_back(std::move(asker));
    other.asks = std::max(other.asks, admission.asks);
    other.own = std::move(admission.own);
    other.home = std::move(admission.home);
    --admissions;
    return;
  }
  admission.taken = false;
  std::string key = admission.key;
  shared.emplace(std::move(key), Ask(std::move(admission)));
}

Upcalls::Upcalls(Changes* changes, SessionTable* table, size_t waiting_max)
    : parts_(std::make_unique<Parts>(changes, table, waiting_max)) {
  parts_->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (parts_->descriptor < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Upcalls::~Upcalls() { close(parts_->descriptor); }

void Upcalls::Admit(Loop* loop, AdmitQuestion question, std::function<void(Admitted)> then) {
  std::string key = KeyOf(question);
  const std::lock_guard lock(parts_->mutex);
  if (parts_->closed) {
    loop->Post([then = std::move(then), failure = *parts_->closed] { then({nullptr, failure}); });
    return;
  }
  if (const auto found = parts_->shared.find(key); found != parts_->shared.end()) {
    std::get<Admission>(parts_->open.at(found->second)).askers.push_back({loop, std::move(then)});
    return;
  }
  if (parts_->admissions >= parts_->waiting_max) {
    loop->Post([then = std::move(then)] { then({nullptr, Fail(Reason::kRateLimited)}); });
    return;
  }
  Admission admission;
  admission.question = std::move(question);
  admission.key = key;
  admission.askers.push_back({loop, std::move(then)});
  ++parts_->admissions;
  parts_->shared.emplace(std::move(key), parts_->Ask(std::move(admission)));
}

void Upcalls::Translate(Loop* loop, TranslateQuestion question, std::function<void(Failure)> then) {
  const std::lock_guard lock(parts_->mutex);
  if (parts_->closed) {
    loop->Post([then = std::move(then), failure = WithoutPython(question, *parts_->closed)] { then(failure); });
    return;
  }
  parts_->Ask(Translation{std::move(question), loop, std::move(then), false});
}

void Upcalls::Ready(Loop* loop, ReadyQuestion question, std::function<void(std::optional<Failure>)> then) {
  const std::lock_guard lock(parts_->mutex);
  if (parts_->closed) {
    loop->Post([then = std::move(then), failure = *parts_->closed] { then(failure); });
    return;
  }
  parts_->Ask(Readiness{question, loop, std::move(then), false});
}

void Upcalls::Halt(HaltQuestion question) {
  const std::lock_guard lock(parts_->mutex);
  if (!parts_->closed) parts_->Ask(std::move(question));
}

int Upcalls::fd() const noexcept { return parts_->descriptor; }

std::vector<Question> Upcalls::Take(size_t most) {
  std::vector<Question> taken;
  const std::lock_guard lock(parts_->mutex);
  parts_->Unwake();
  // Read once for all, and before Python looks at the first.
  const uint64_t stamp = parts_->changes->now();
  for (; !parts_->untaken.empty() && taken.size() < most; parts_->untaken.pop_front()) {
    const uint64_t number = parts_->untaken.front();
    taken.push_back({number, stamp, parts_->TakeOne(number, stamp)});
  }
  if (!parts_->untaken.empty()) parts_->Wake();
  return taken;
}

void Upcalls::AnswerAdmitted(uint64_t number, Session session, bool home_counts) {
  const std::lock_guard lock(parts_->mutex);
  std::optional<Admission> admission = parts_->Answered<Admission>(number);
  if (!admission) return;
  Changes* const changes = parts_->changes;
  session.stamp = admission->stamp;
  session.own = changes->StampOf(session.namespace_id);
  session.home = home_counts ? changes->StampOf(0) : nullptr;
  session.changes = changes;
  if (!session.IsCurrent()) {
    admission->own = std::move(session.own);
    admission->home = std::move(session.home);
    parts_->AskAgain(std::move(*admission));
    return;
  }
  --parts_->admissions;
  const SessionPtr shared = std::make_shared<const Session>(std::move(session));
  const AdmitQuestion& question = admission->question;
  if (question.peer_certificate.empty()) {
    parts_->table->Put(question.token ? HashToken(*question.token) : TokenHash(), shared);
  }
  parts_->Answer(&*admission, {shared, std::nullopt});
}

void Upcalls::AnswerReady(uint64_t number) {
  const std::lock_guard lock(parts_->mutex);
  if (std::optional<Readiness> readiness = parts_->Answered<Readiness>(number)) {
    parts_->Answer(&*readiness, std::optional<Failure>());
  }
}

void Upcalls::AnswerFailure(uint64_t number, Failure failure) {
  const std::lock_guard lock(parts_->mutex);
  if (std::optional<Admission> admission = parts_->Answered<Admission>(number)) {
    --parts_->admissions;
    parts_->Answer(&*admission, {nullptr, std::move(failure)});
  } else if (std::optional<Translation> translation = parts_->Answered<Translation>(number)) {
    parts_->Answer(&*translation, std::move(failure));
  } else if (std::optional<Readiness> readiness = parts_->Answered<Readiness>(number)) {
    parts_->Answer(&*readiness, std::optional<Failure>(std::move(failure)));
  }
}

void Upcalls::Close(Failure failure) {
  const std::lock_guard lock(parts_->mutex);
  if (parts_->closed) return;
  parts_->closed = std::move(failure);
  for (auto& [number, open] : parts_->open) {
    if (auto* const admission = std::get_if<Admission>(&open)) {
      parts_->Answer(admission, {nullptr, *parts_->closed});
    } else if (auto* const translation = std::get_if<Translation>(&open)) {
      parts_->Answer(translation, WithoutPython(translation->question, *parts_->closed));
    } else if (auto* const readiness = std::get_if<Readiness>(&open)) {
      parts_->Answer(readiness, parts_->closed);
    }
  }
  parts_->open.clear();
  parts_->untaken.clear();
  parts_->shared.clear();
  parts_->admissions = 0;
  parts_->Unwake();
}

size_t Upcalls::waiting() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->open.size();
}

}  // namespace prefixdb::front
