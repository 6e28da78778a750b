// What the tests of the native methods share: a call without a transport on a real store, real services and a real
// loop. The test is the client, and it is Python.
//
// Requests are written and answers read with protozero, which the methods themselves do not use.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "front/methods.h"
#include "front/services.h"
#include "store_support.h"

namespace prefixdb::front {

constexpr uint64_t kNowMs = 1'000'000;

// One for each test: store, services, the loop's thread, and a thread that answers as Python would.
class Rig {
 public:
  using Answer = std::function<void(Upcalls& upcalls, const Question& question)>;

  explicit Rig(uint64_t value_bytes_max = 1 << 20, rocksdb::Env* env = nullptr)
      : opened(test::SmallStore(), env),
        services(Settings{value_bytes_max, false, false, {}}, 1, [] {}),
        loop_thread_([this] { loop.Run(); }),
        python_([this] { AnswerAll(); }) {
    services.clock.Hold(kNowMs);
    services.store.Set(opened.shared());
    guard_key = *EncodeSystemKey(0, 1, "record");
    guard_version = opened.Put(guard_key, "active");
  }
  ~Rig() {
    ending_ = true;
    python_.join();
    services.upcalls.Close(Fail(Reason::kDraining));
    services.workers.Stop();
    services.store.Set(nullptr);
    opened->Close();  // The committer may still answer.
    loop.Stop();
    loop_thread_.join();
  }

  // A session that holds, with every right unless rules are named.
  SessionPtr Admit(uint64_t namespace_id, std::vector<Rule> rules = {{std::nullopt, "", true, true}},
                   bool read_only = false) {
    Session session;
    session.namespace_id = namespace_id;
    session.rules = RuleSet(rules);
    session.read_only = read_only;
    session.ends_at_ms = kNowMs + 1'000;
    session.guard_key = guard_key;
    session.guard_version = guard_version;
    session.stamp = services.changes.now();
    session.own = services.changes.StampOf(namespace_id);
    session.changes = &services.changes;
    return std::make_shared<const Session>(std::move(session));
  }

  // What the guard looks at has changed: writes of earlier sessions are refused by the commit.
  void ChangeRecord() { guard_version = opened.Put(guard_key, "changed"); }

  // Makes the rows that there are readable from the disk only.
  void Cool() {
    CHECK_FINE(opened->Flush());
    services.store.Set(nullptr);
    opened.Reopen();
    services.store.Set(opened.shared());
  }

  // How questions are answered; unless told, one is a mistake.
  void Python(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }

  // Runs `task` on the loop and waits for it.
  void OnLoop(const std::function<void()>& task) {
    std::atomic<bool> done{false};
    loop.Post([&] {
      task();
      done = true;
    });
    test::WaitFor([&] { return done.load(); });
  }

  test::Opened opened;
  Services services;
  Loop loop;
  std::string guard_key;
  uint64_t guard_version = 0;

 private:
  void AnswerAll() {
    while (!ending_) {
      pollfd waiting{services.upcalls.fd(), POLLIN, 0};
      if (poll(&waiting, 1, 10) <= 0) continue;
      for (const Question& question : services.upcalls.Take()) {
        const std::lock_guard lock(mutex_);
        if (answer_) {
          answer_(services.upcalls, question);
        } else {
          FAIL("nobody expected a question");
        }
      }
    }
  }

  std::mutex mutex_;
  Answer answer_;
  std::atomic<bool> ending_{false};
  std::thread loop_thread_;
  std::thread python_;
};

// What became of a call.
struct Ending {
  std::optional<std::string> reply;
  std::optional<Failure> failure;
  bool punted = false;
  bool ended = false;
};

// The transport of one call. Created by Start; everything but the waiting happens on the loop.
class FakeCall final : public Call {
 public:
  static std::shared_ptr<FakeCall> Make(Rig& rig, SessionPtr session, std::string message = {}) {
    return std::shared_ptr<FakeCall>(new FakeCall(rig, std::move(session), std::move(message)));
  }

  // --- the test's side
  void Start(NativeMethod method) {
    rig_.loop.Post([self = Self(), method] {
      self->method_ = FactsOf(method).begin(*self);
      if (self->after_begin) self->after_begin();
      self->Deliver();
    });
  }
  Ending Run(NativeMethod method) {
    Start(method);
    return Wait();
  }
  Ending Wait() {
    test::WaitFor([this] { return over(); });
    const std::lock_guard lock(mutex_);
    return ending_;
  }
  bool over() {
    const std::lock_guard lock(mutex_);
    return over_;
  }
  std::vector<std::string> sent() {
    const std::lock_guard lock(mutex_);
    return sent_;
  }
  void WaitForSent(size_t count) {
    test::WaitFor([&] { return sent().size() >= count; });
  }
  // The client takes what was sent.
  void Take() {
    rig_.loop.Post([self = Self()] { self->TakeNow(); });
  }
  void Cancel() {
    rig_.OnLoop([this] { Over({}); });
  }
  // A message of the client, or its end.
  void Message(std::string message) {
    rig_.loop.Post([self = Self(), message = std::move(message)] {
      self->messages_.push_back(message);
      self->Deliver();
    });
  }
  void HalfClose() {
    rig_.loop.Post([self = Self()] {
      self->half_closed_ = true;
      self->Deliver();
    });
  }

  std::atomic<bool> client_takes = true;  // Whatever is sent at once; else Take.
  std::function<void()> after_begin;
  std::function<SessionPtr()> readmit;  // Whom Python lets in; null refuses with TOKEN_REVOKED.
  std::atomic<int> readmissions{0};

  // --- Call
  Loop& loop() noexcept override { return rig_.loop; }
  Services& services() noexcept override { return rig_.services; }
  const SessionPtr& session() const noexcept override { return session_; }
  bool open() const noexcept override { return open_; }
  std::string_view message() const noexcept override { return message_; }
  void Reply(std::string message) override {
    Ending ending;
    ending.reply = std::move(message);
    Over(std::move(ending));
  }
  void Send(std::string message) override {
    unsent_ += message.size() + 5;
    {
      const std::lock_guard lock(mutex_);
      sent_.push_back(std::move(message));
    }
    if (client_takes) rig_.loop.Defer([self = Self()] { self->TakeNow(); });
  }
  void End() override {
    Ending ending;
    ending.ended = true;
    Over(std::move(ending));
  }
  void Fail(const Failure& failure) override {
    Ending ending;
    ending.failure = failure;
    Over(std::move(ending));
  }
  void Punt() override {
    Ending ending;
    ending.punted = true;
    Over(std::move(ending));
  }
  size_t unsent() const noexcept override { return unsent_; }
  void Readmit() override {
    ++readmissions;
    rig_.loop.Post([self = Self()] {
      if (!self->open_) return;
      const SessionPtr session = self->readmit ? self->readmit() : nullptr;
      if (session == nullptr) return self->Fail(front::Fail(Reason::kTokenRevoked));
      self->session_ = session;
      self->method_->OnReadmitted(*self);
    });
  }
  void NextMessage() override {
    wants_message_ = true;
    under_way_.clear();
    under_way_.shrink_to_fit();  // A view that is used too long is found by a sanitizer.
    Deliver();
  }

 private:
  FakeCall(Rig& rig, SessionPtr session, std::string message)
      : rig_(rig), session_(std::move(session)), message_(std::move(message)) {}

  std::shared_ptr<FakeCall> Self() { return std::static_pointer_cast<FakeCall>(shared_from_this()); }
  void Over(Ending ending) {
    REQUIRE(rig_.loop.OnOwnThread());
    REQUIRE(open_);
    open_ = false;
    rig_.loop.Defer([self = Self()] { self->method_.reset(); });
    const std::lock_guard lock(mutex_);
    ending_ = std::move(ending);
    over_ = true;
  }
  void TakeNow() {
    unsent_ = 0;
    if (open_) method_->OnDrained(*this);
  }
  void Deliver() {
    if (!open_ || !wants_message_ || method_ == nullptr) return;
    if (!messages_.empty()) {
      wants_message_ = false;
      under_way_ = std::move(messages_.front());
      messages_.pop_front();
      method_->OnMessage(*this, under_way_);
    } else if (half_closed_) {
      wants_message_ = false;
      method_->OnHalfClose(*this);
    }
  }

  Rig& rig_;
  SessionPtr session_;
  const std::string message_;
  std::unique_ptr<Method> method_;
  bool open_ = true;
  size_t unsent_ = 0;
  std::deque<std::string> messages_;
  std::string under_way_;
  bool wants_message_ = true;
  bool half_closed_ = false;

  std::mutex mutex_;
  bool over_ = false;
  Ending ending_;
  std::vector<std::string> sent_;
};

// --- messages, field by field: Field(1, "key") + Field(2, 7)

inline std::string Field(uint32_t field, std::string_view bytes) {
  std::string message;
  protozero::pbf_writer(message).add_bytes(field, bytes.data(), bytes.size());
  return message;
}
inline std::string Field(uint32_t field, uint64_t number) {
  std::string message;
  protozero::pbf_writer(message).add_uint64(field, number);
  return message;
}

// A message taken apart, one level deep.
struct Taken {
  std::map<uint32_t, uint64_t> numbers;
  std::map<uint32_t, std::vector<std::string>> bytes;

  explicit Taken(const std::string& message) {
    protozero::pbf_reader reader(message);
    while (reader.next()) {
      if (reader.wire_type() == protozero::pbf_wire_type::varint) {
        numbers[reader.tag()] = reader.get_uint64();
      } else {
        bytes[reader.tag()].push_back(reader.get_bytes());
      }
    }
  }
  uint64_t number(uint32_t field) const { return numbers.contains(field) ? numbers.at(field) : 0; }
  std::string text(uint32_t field) const { return bytes.contains(field) ? bytes.at(field).back() : std::string(); }
};

// A GetResponse as text: "value@version", with "+ttl" when it has one; "-" when there is no row.
inline std::string RowText(const std::string& response) {
  const Taken row(response);
  if (row.number(1) == 0) return "-";
  std::string text = row.text(2) + "@" + std::to_string(row.number(3));
  if (row.number(4) != 0) text += "+" + std::to_string(row.number(4));
  return text;
}

}  // namespace prefixdb::front
