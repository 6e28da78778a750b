// A gateway on a loop of its own, with methods, Python and the server behind it played by the test.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "front/gateway.h"
#include "front/grpc_codec.h"
#include "front/methods.h"
#include "front/services.h"
#include "front/socket.h"
#include "front/upstream.h"
#include "front_client.h"
#include "loop_support.h"
#include "support.h"

namespace prefixdb::test {

using namespace prefixdb::front;  // NOLINT: a stage for tests of that namespace only.

// What the fake methods do; the last call of each kind can be worked with from the test, on the loop's thread.
struct Stage;
Stage* Current();

const NativeFacts* FindFake(std::string_view path) noexcept;

// The server behind: every call it was given, in order.
class FakeUpstream final : public Upstream {
 public:
  struct Opened {
    Headers headers;
    std::string body;
    bool ended = false;
    bool gone = false;  // The front has let go of it.
    size_t taken = 0;
    std::optional<uint32_t> reset;
    ForwardSink* sink = nullptr;
  };
  class FakeForward final : public Forward {
   public:
    explicit FakeForward(std::shared_ptr<Opened> call) : call_(std::move(call)) {}
    ~FakeForward() override { call_->gone = true; }
    void Write(std::string_view data, bool end_stream) override {
      call_->body.append(data);
      call_->ended |= end_stream;
    }
    void Taken(size_t bytes) override { call_->taken += bytes; }
    void Reset(uint32_t http2_error) override { call_->reset = http2_error; }

   private:
    std::shared_ptr<Opened> call_;
  };

  std::unique_ptr<Forward> Open(const Headers& headers, bool end_stream, ForwardSink* sink, const void*) override {
    auto call = std::make_shared<Opened>();
    call->headers = headers;
    call->ended = end_stream;
    call->sink = sink;
    calls.push_back(call);
    return std::make_unique<FakeForward>(call);
  }
  size_t open() const noexcept override { return calls.size(); }

  std::vector<std::shared_ptr<Opened>> calls;
};

struct Stage {
  // Python's side.
  struct Grant {
    uint64_t namespace_id = 7;
    bool read = true;
    bool write = true;
    uint64_t ends_at_ms = UINT64_MAX;
  };
  static Session Make(const Grant& grant) {
    Session session;
    session.namespace_id = grant.namespace_id;
    session.rules = RuleSet({Rule{std::nullopt, "", grant.read, grant.write}});
    session.ends_at_ms = grant.ends_at_ms;
    return session;
  }

  // Runs it on the loop's thread.
  template <typename Function>
  auto On(Function function) {
    return RunOn(&loop, std::move(function));
  }

  // `behind_path`: of a real server behind it; then there is no `upstream`.
  explicit Stage(Limits wanted = {}, Settings settings = {}, FindMethod find = FindFake,
                 const std::string& behind_path = {})
      : services(std::move(settings), 0, [this] { loop.Settle(); }), thread([this] { loop.Run(); }) {
    here = this;
    auto fake = behind_path.empty() ? std::make_unique<FakeUpstream>() : nullptr;
    upstream = fake.get();
    On([&] {
      std::unique_ptr<Upstream> behind = std::move(fake);
      if (behind == nullptr) behind = Upstream::Make(&loop, behind_path);
      gateway = std::make_unique<GatewayParts>(&loop, &services, wanted, find, std::move(behind));
      return 0;
    });
  }
  ~Stage() {
    On([&] {
      last.reset();
      gateway.reset();
      return 0;
    });
    services.upcalls.Close(prefixdb::front::Fail(Reason::kDraining));
    loop.Stop();
    thread.join();
    here = nullptr;
  }

  template <typename Condition>
  void Until(Condition condition) {
    WaitFor([&] { return On(condition); });
  }

  void Act(std::function<void(Call&)> work) {
    On([&] {
      act = std::move(work);
      return 0;
    });
  }

  // A new connection's other end.
  int Connect(int send_buffer = 0) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    if (send_buffer > 0) setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer));
    services.metrics.connections.fetch_add(1);
    On([&] {
      gateway->Serve(PlainSocket(ends[0], "ipv4:127.0.0.1:4711"));
      return 0;
    });
    return ends[1];
  }

  // A token that the table knows.
  void Know(const std::string& token, const Grant& grant) {
    auto session = std::make_shared<Session>();
    *session = Make(grant);
    session->stamp = services.changes.now();
    session->own = services.changes.StampOf(grant.namespace_id);
    session->changes = &services.changes;
    services.sessions.Put(HashToken(token), session);
  }
  void Know() { Know("good", Grant()); }

  // Waits for a question, and answers it.
  AdmitQuestion TakeQuestion(uint64_t* number) {
    std::vector<Question> taken;
    WaitFor([&] { return !(taken = services.upcalls.Take(1)).empty(); });
    *number = taken[0].number;
    return std::get<AdmitQuestion>(taken[0].what);
  }
  AdmitQuestion Admit(const Grant& grant) {
    uint64_t number = 0;
    AdmitQuestion question = TakeQuestion(&number);
    services.upcalls.AnswerAdmitted(number, Make(grant), false);
    return question;
  }
  AdmitQuestion Admit() { return Admit(Grant()); }
  AdmitQuestion Refuse(Reason reason) {
    uint64_t number = 0;
    AdmitQuestion question = TakeQuestion(&number);
    services.upcalls.AnswerFailure(number, prefixdb::front::Fail(reason));
    return question;
  }

  uint64_t Ended(NativeMethod method, uint8_t code) const { return services.metrics.of(method).codes[code].load(); }

  static inline Stage* here = nullptr;

  Loop loop;
  Services services;
  std::thread thread;
  FakeUpstream* upstream = nullptr;
  std::unique_ptr<GatewayParts> gateway;

  // The loop's thread only.
  std::weak_ptr<Call> last;
  std::vector<std::weak_ptr<Call>> begun;  // By /fake/Later, Scan and Pipe.
  std::vector<std::string> said;           // What methods were told.
  int methods_alive = 0;
  int outlived = 0;                // Calls, by their methods: never.
  std::function<void(Call&)> act;  // What /fake/Act does.
};

inline Stage* Current() { return Stage::here; }

class FakeMethod final : public Method {
 public:
  explicit FakeMethod(std::weak_ptr<Call> call) : call_(std::move(call)) { ++Current()->methods_alive; }
  ~FakeMethod() override {
    --Current()->methods_alive;
    Current()->outlived += call_.expired();
  }
  void OnMessage(Call& call, std::string_view message) override {
    Current()->said.emplace_back("message " + std::string(message.substr(0, 32)));
    if (message == "hold") return;
    if (message == "fail") return call.Fail(prefixdb::front::Fail(Reason::kBatchTooLarge));
    call.Send(std::string(message));
    call.NextMessage();
  }
  void OnHalfClose(Call& call) override {
    Current()->said.emplace_back("half-close");
    call.End();
  }
  void OnDrained(Call&) override { Current()->said.emplace_back("drained"); }
  void OnReadmitted(Call&) override { Current()->said.emplace_back("readmitted"); }

 private:
  const std::weak_ptr<Call> call_;
};

// Has a page whenever one is wanted.
class EndlessMethod final : public Method {
 public:
  EndlessMethod() { ++Current()->methods_alive; }
  ~EndlessMethod() override { --Current()->methods_alive; }
  void OnMessage(Call&, std::string_view) override {}
  void OnHalfClose(Call&) override {}
  void OnDrained(Call& call) override { call.Send(std::string(64 << 10, 'e')); }
  void OnReadmitted(Call&) override {}
};
inline std::unique_ptr<Method> BeginEndless(Call& call) {
  call.Send("first");
  return std::make_unique<EndlessMethod>();
}

// Answers with the message.
inline std::unique_ptr<Method> BeginEcho(Call& call) {
  call.Reply(std::string(call.message()));
  return nullptr;
}
// Stays open; the test goes on with it.
inline std::unique_ptr<Method> BeginLater(Call& call) {
  Current()->last = call.weak_from_this();
  Current()->begun.push_back(call.weak_from_this());
  return std::make_unique<FakeMethod>(call.weak_from_this());
}
inline std::unique_ptr<Method> BeginAct(Call& call) {
  Current()->last = call.weak_from_this();
  Current()->act(call);
  return nullptr;
}
inline std::unique_ptr<Method> BeginPunt(Call& call) {
  call.Punt();
  return nullptr;
}

inline const NativeFacts* FindFake(std::string_view path) noexcept {
  static const std::vector<NativeFacts> kAll = {
      {NativeMethod::kGet, Needs::kRead, "/fake/Echo", false, false, BeginEcho},
      {NativeMethod::kBatchGet, Needs::kRead, "/fake/Later", false, false, BeginLater},
      {NativeMethod::kPut, Needs::kWrite, "/fake/Put", false, false, BeginEcho},
      {NativeMethod::kDelete, Needs::kWrite, "/fake/Punt", false, false, BeginPunt},
      {NativeMethod::kWrite, Needs::kEither, "/fake/Act", false, false, BeginAct},
      {NativeMethod::kScan, Needs::kRead, "/fake/Scan", false, true, BeginLater},
      {NativeMethod::kCount, Needs::kRead, "/fake/Endless", false, true, BeginEndless},
      {NativeMethod::kPipeline, Needs::kEither, "/fake/Pipe", true, true, BeginLater},
  };
  const auto found = std::ranges::find(kAll, path, &NativeFacts::path);
  return found == kAll.end() ? nullptr : &*found;
}

inline const Fields kToken = {{"authorization", "Bearer good"}};

}  // namespace prefixdb::test
