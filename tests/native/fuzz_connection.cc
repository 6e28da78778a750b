// Fuzzes a client's HTTP/2 connection and the calls on it: whatever a client sends, however little it reads, whatever
// methods, the store, Python and the server behind say meanwhile, in any order, at any time. Nothing is left when the
// connection is gone, and no other tenant's row was sent or changed.
//
//   the input is how the stage is set, u8, and a list of acts: u8 which, then what the act needs (fuzz.h)
#include <array>
#include <string>

#include "front_stage.h"
#include "fuzz.h"
#include "fuzz_behind.h"
#include "fuzz_client.h"
#include "fuzz_ground.h"

// The steady clock of this program; see fuzz_ground.h.
std::chrono::steady_clock::time_point std::chrono::_V2::steady_clock::now() noexcept {
  return time_point(duration(prefixdb::test::steady_ns.load(std::memory_order_relaxed)));
}

using prefixdb::test::Decisions;
using prefixdb::test::Insist;
using namespace prefixdb::front;

namespace {

namespace test = prefixdb::test;

constexpr std::array<size_t, 4> kSizes = {1, 300, 70'000, 400'000};

// What the first byte says.
constexpr uint8_t kNoGreeting = 7;  // These bits, all 0.
constexpr uint8_t kBehindIsReal = 8;
constexpr uint8_t kSmall = 16;
constexpr uint8_t kAnonymous = 32;
constexpr uint8_t kRoomy = 64;  // What the server sends is not held up by the kernel.

Limits LimitsOf(uint8_t how) {
  Limits limits;
  if ((how & kSmall) == 0) return limits;
  limits.streams = 4;
  limits.incoming = 200'000;
  limits.incoming_per_connection = 150'000;
  limits.frames_waiting = 20;
  limits.resets = limits.priorities = limits.empty_data = limits.refused = {5, 1};
  return limits;
}

Settings SettingsOf(uint8_t how) {
  Settings settings;
  settings.anonymous = (how & kAnonymous) != 0;
  if ((how & kSmall) == 0) return settings;
  settings.value_bytes_max = 4096;
  settings.bounds.streams_per_namespace = 2;
  settings.bounds.unread_bytes_per_namespace = 300'000;
  settings.bounds.count_step_rows = 16;
  return settings;
}

const NativeFacts* FindAny(std::string_view path) noexcept {
  const NativeFacts* const fake = test::FindFake(path);
  return fake != nullptr ? fake : FindNative(path);
}

test::Ground& TheGround() {
  static test::Ground ground;
  return ground;
}

test::Behind& TheBehind() {
  static test::Behind behind;
  return behind;
}

class Play {
 public:
  Play(Decisions* input, uint8_t how)
      : input_(*input),
        how_(how),
        stage_(LimitsOf(how), SettingsOf(how), FindAny, (how & kBehindIsReal) != 0 ? TheBehind().path() : ""),
        client_(input, stage_.Connect((how & kRoomy) != 0 ? 0 : 4096), [this] { Pass(); }) {
    stage_.act = [](Call& call) { call.Fail(Fail(Reason::kConflict)); };
    stage_.services.clock.Hold(test::kWallMs);
    stage_.services.store.Set(ground_.opened.shared());
    Know();
  }
  ~Play() {
    // What was submitted is answered while there is still a loop to answer to.
    ground_.Settle();
    TheBehind().Forget();
  }

  void Run() {
    if ((how_ & kNoGreeting) != 0) client_.Greet();
    for (int acts = 0; acts < 120 && !input_.empty(); ++acts) Act();
    client_.Leave();
    WhenQuiet();
    CheckEmpty();
  }

 private:
  void Know() {
    auto session = std::make_shared<Session>(ground_.Make());
    session->stamp = stage_.services.changes.now();
    session->own = stage_.services.changes.StampOf(session->namespace_id);
    session->changes = &stage_.services.changes;
    stage_.services.sessions.Put(HashToken("good"), std::move(session));
  }

  void Act() {
    switch (input_.Below(20)) {
      case 0:
        return client_.SendBytes();
      case 1:
        return client_.SendFrame();
      case 2:
      case 3:
        return client_.SendCall();
      case 4:
        return client_.SendMessage();
      case 5:
        return client_.GiveRoom();
      case 6:
        return client_.ReadSome();
      case 7:
        return WorkOnCall();
      case 8:
        return AnswerFromBehind();
      case 9:
        return AnswerFromPython();
      case 10:
        return FromTheServer();
      case 11:
        return WhenQuiet();
      case 12:
      case 13:
      case 14:
        return client_.SendRequest();
      case 15:
        return client_.SendMore();
      case 16:
        return PassTime();
      case 17:
        return FromTheStore();
      case 18:
        return client_.SendBlock();
      default:
        return Settle();
    }
  }

  void Pass() {
    stage_.On([] { return 0; });
  }

  // Both clocks go on; timers that are due by then strike.
  void PassTime() {
    constexpr std::array<int64_t, 8> kMs = {1, 50, 250, 1'500, 10'500, 35'000, 65'000, 3'700'000};
    const int64_t ms = kMs[input_.Below(kMs.size())];
    test::steady_ns.fetch_add(ms * 1'000'000);
    stage_.services.clock.Hold(stage_.services.clock.now_ms() + static_cast<uint64_t>(ms));
    Pass();
  }

  void FromTheStore() {
    Services& services = stage_.services;
    switch (input_.Below(10)) {
      case 0:
        return services.store.Set(nullptr);
      case 8:
        return services.store.Set(ground_.closed());
      case 9:
        return ground_.Damage();
      case 1:
      case 2:
        return services.store.Set(ground_.opened.shared());
      case 3:
        return services.punt_writes.store(!services.punt_writes);
      case 4:
        return ground_.ChangeRecord();
      case 5:
        if (input_.Below(8) == 7) services.halted = true;
        return;
      case 6:
        return Know();
      default:
        return ground_.Flush();
    }
  }

  // What workers and the committer were given is done and has been told.
  void Settle() {
    std::promise<void> done;
    stage_.services.workers.Run(test::kTenant, [&done] { done.set_value(); });
    done.get_future().wait();
    ground_.Settle();
    WhenQuiet();
  }

  void WorkOnCall() {
    const size_t what = input_.Below(6);
    const size_t size = kSizes[input_.Below(kSizes.size())];
    stage_.On([&] {
      const auto call = stage_.last.lock();
      if (call == nullptr) return 0;
      switch (what) {
        case 0:
          call->Reply(std::string(size, 'r'));
          break;
        case 1:
        case 2:
          call->Send(std::string(size, 's'));
          break;
        case 3:
          call->End();
          break;
        case 4:
          call->Fail(Fail(Reason::kConflict));
          break;
        default:
          (void)call->SessionHolds();
      }
      return 0;
    });
  }

  void AnswerFromBehind() {
    if (stage_.upstream == nullptr) {
      WhenQuiet();
      TheBehind().Act(&input_);
      return WhenQuiet();
    }
    const size_t which = input_.Below(8);
    const size_t what = input_.Below(6);
    const size_t size = kSizes[input_.Below(kSizes.size())];
    stage_.On([&] {
      auto& calls = stage_.upstream->calls;
      if (which >= calls.size() || calls[which]->gone || calls[which]->sink == nullptr) return 0;
      test::FakeUpstream::Opened& call = *calls[which];
      ForwardSink* const sink = call.sink;
      const bool last = what == 1 || what > 2;
      if (last) call.sink = nullptr;
      switch (what) {
        case 0:
        case 1:
          sink->OnHeaders({{":status", "200"}, {"grpc-status", "3"}}, what == 1);
          break;
        case 2:
          sink->OnData(std::string(size, 'f'));
          break;
        case 3:
          sink->OnTrailers({{"grpc-status", "0"}});
          break;
        case 4:
          sink->OnReset(NGHTTP2_CANCEL);
          break;
        default:
          sink->OnLost(size > 1);
      }
      return 0;
    });
  }

  void AnswerFromPython() {
    const uint8_t how = input_.Byte();
    const bool good = how % 2 == 0;
    Upcalls& upcalls = stage_.services.upcalls;
    for (const Question& question : upcalls.Take(8)) {
      if (good && std::holds_alternative<AdmitQuestion>(question.what)) {
        upcalls.AnswerAdmitted(question.number, ground_.Make(how / 2 % 8), how >= 128);
      } else if (good && std::holds_alternative<ReadyQuestion>(question.what)) {
        if (how >= 64) stage_.services.store.Set(ground_.opened.shared());
        upcalls.AnswerReady(question.number);
      } else {
        upcalls.AnswerFailure(question.number, Fail(Reason::kTokenRevoked));
      }
    }
  }

  void FromTheServer() {
    const size_t what = input_.Below(8);
    if (what < 4) return stage_.services.changes.Changed(7);
    stage_.On([&] {
      if (what < 6) stage_.gateway->Recheck();
      if (what == 6) stage_.gateway->Drain(Fail(Reason::kDraining));
      if (what == 7) stage_.gateway->Cut(Fail(Reason::kDraining));
      return 0;
    });
  }

  // Everything that was sent has been looked at: each of these is a pass, and a read is as large as what is there.
  void WhenQuiet() {
    for (int passes = 0; passes < 3; ++passes) Pass();
  }

  void CheckEmpty() {
    for (int passes = 0; stage_.On([&] { return stage_.services.metrics.connections != 0; }); ++passes) {
      Insist(passes < 10'000, "a connection ends when its client is gone");
    }
    stage_.On([&] {
      Insist(stage_.gateway->running() == 0, "no call is counted any more");
      Insist(stage_.gateway->incoming.held() == 0, "no bytes of a request are held");
      Insist(stage_.last.expired() || stage_.last.lock()->open() == false, "the last call is over");
      return 0;
    });
    stage_.On([&] {
      Insist(stage_.methods_alive == 0, "no method is left");
      return 0;
    });
    Insist(stage_.services.unread.Hold(7, 1), "there is room for large answers");
    stage_.services.unread.Release(7, 1);
    // A worker may be at a page for a call that is gone.
    for (int passes = 0; stage_.services.streams.open() != 0; ++passes) {
      Insist(passes < 10'000, "no view is left");
      Settle();
    }
  }

  Decisions& input_;
  const uint8_t how_;
  test::Ground& ground_ = TheGround();
  test::Stage stage_;
  test::FuzzedClient client_;
};

}  // namespace

void FuzzOne(std::span<const uint8_t> input) {
  test::Ground& ground = TheGround();
  Decisions decisions(input);
  const uint8_t how = decisions.Byte();
  Play(&decisions, how).Run();
  ground.Renew();
}
