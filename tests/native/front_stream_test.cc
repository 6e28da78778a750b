// Goal: streams flow at the client's pace and end within their bounds: slow and silent clients are cut and still hear
// why, no row leaves under a session that does not hold any more, an ending server finishes what runs.
//
// Method: as front_connection_test.cc; clients that give no room, and changes of namespaces at chosen moments.
#include "front_stage.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::test;

struct Known : Stage {
  explicit Known(Limits limits = {}, Settings settings = {}) : Stage(limits, std::move(settings)) { Know(); }
  void CheckEmpty() {
    Until([&] { return gateway->running() == 0 && methods_alive == 0 && last.expired(); });
    Until([&] { return gateway->incoming.held() == 0; });
  }
  // The call that the last method was begun for; on the loop's thread.
  template <typename Function>
  auto WithCall(Function function) {
    Until([&] { return !last.expired(); });
    return On([&] { return function(*last.lock()); });
  }
  bool Said(const std::string& what) {
    return On([&] { return std::ranges::find(said, what) != said.end(); });
  }
};

Limits Impatient() {
  Limits limits;
  limits.sweep = 10ms;
  limits.slow_reader = 100ms;
  limits.pipeline_idle = 100ms;
  limits.arrival = 100ms;
  return limits;
}

// Gives the server room for `bytes` of a call.
void GiveRoom(Client& client, int32_t id, int32_t bytes) {
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, id, bytes);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, bytes);
}

TEST_CASE("a stream's messages come in order, and its method hears when they are gone") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    call.Send("one");
    call.Send(std::string(200'000, '2'));
    call.Send("");
    CHECK(call.unsent() == 3 + 200'000 + 3 * 5);
    return 0;
  });
  client.PumpUntil([&] { return client.of(id).body.size() == 3 + 200'000 + 3 * 5; });
  WaitFor([&] { return stage.Said("drained"); });
  stage.WithCall([](Call& call) {
    CHECK(call.unsent() == 0);
    call.Send("last");
    call.End();
    return 0;
  });
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 0);
  CHECK(answer.Messages() == std::vector<std::string>{"one", std::string(200'000, '2'), "", "last"});
  stage.CheckEmpty();
}

TEST_CASE("a failure comes after what was sent before it") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    call.Send(std::string(100'000, 'p'));
    call.Fail(prefixdb::front::Fail(Reason::kCorruption));
    return 0;
  });
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 15);
  CHECK(answer.body.size() == 100'005);
  // Without a message there is only a status.
  const int32_t empty = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.Until([&] { return stage.methods_alive == 1 && !stage.last.expired(); });
  stage.WithCall([](Call& call) {
    call.End();
    return 0;
  });
  CHECK(client.Await(empty).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("a client that takes nothing is cut, and hears why") {
  Known stage(Impatient());
  Client client(stage.Connect(), false);
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    call.Send(std::string(1 << 20, 's'));
    return 0;
  });
  const Answer& cut = client.Await(scan);
  CHECK(cut.status() == 4);
  CHECK(cut.Field("grpc-message") == "The client took no message for 0 s.");
  CHECK(cut.body.size() == 65535);
  stage.CheckEmpty();
  // A unary answer that stays is cut, too; its namespace gets its room back.
  const int32_t unary = client.Unary("/fake/Later", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    call.Reply(std::string(1 << 20, 'u'));
    return 0;
  });
  CHECK(client.Await(unary).status() == 4);
  stage.CheckEmpty();
}

TEST_CASE("a client that takes a little now and then is not cut while each message goes in time") {
  Limits limits = Impatient();
  limits.slow_reader = 400ms;
  Known stage(limits);
  Client client(stage.Connect(), false);
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    for (int i = 0; i < 12; ++i) call.Send(std::string(60'000, 's'));
    call.End();
    return 0;
  });
  for (size_t bytes = 65535; bytes < 12 * 60'005; bytes += 60'005) {
    client.PumpUntil([&] { return client.of(scan).body.size() >= bytes; });
    std::this_thread::sleep_for(60ms);  // The client's own pace; together it takes longer than the patience.
    GiveRoom(client, scan, 60'005);
  }
  CHECK(client.Await(scan).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("a message that does not arrive in time ends its call") {
  Known stage(Impatient());
  Client client(stage.Connect());
  for (const std::string path : {"/fake/Echo", "/fake/Put", "/fake/Scan"}) {
    const Answer& answer = client.Await(client.Begin(CallHead(path, kToken), Framed("half").substr(0, 7), false));
    CHECK(answer.status() == 4);
    CHECK(answer.Field("grpc-message") == "The request did not arrive in time.");
  }
  stage.CheckEmpty();
}

TEST_CASE("a pipeline answers message by message, and ends when its client has") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Begin(CallHead("/fake/Pipe", kToken), Framed("1") + Framed("2") + Framed("3"), false);
  client.PumpUntil([&] { return client.of(id).Messages().size() == 3; });
  CHECK(!client.of(id).ended);
  client.Write(id, Framed(std::string(300'000, 'L')) + Framed("5"), true);
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 0);
  CHECK(answer.Messages() == std::vector<std::string>{"1", "2", "3", std::string(300'000, 'L'), "5"});
  CHECK(stage.Said("half-close"));
  // Nothing at all, and a message that is not whole.
  CHECK(client.Await(client.Begin(CallHead("/fake/Pipe", kToken))).status() == 0);
  CHECK(client.Await(client.Begin(CallHead("/fake/Pipe", kToken), Framed("12345").substr(0, 8))).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("a pipeline's next message waits until the method wants it, and its client is held back") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Begin(CallHead("/fake/Pipe", kToken), Framed("hold"), false);
  client.PumpUntil([&] { return stage.Said("message hold"); });
  for (int i = 0; i < 40; ++i) client.Write(id, Framed(std::string(10'000, 'w')));
  client.PumpUntil([&] { return nghttp2_session_get_stream_remote_window_size(client.session(), id) == 0; });
  for (int i = 0; i < 5; ++i) client.Pump(2);
  CHECK(nghttp2_session_get_stream_remote_window_size(client.session(), id) == 0);
  CHECK(stage.On([&] { return stage.said.size(); }) == 1);
  stage.WithCall([](Call& call) {
    call.NextMessage();
    return 0;
  });
  client.PumpUntil([&] { return client.of(id).Messages().size() == 40; });
  client.Write(id, "", true);
  CHECK(client.Await(id).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("a pipeline whose client is silent is cut, and one that fails stops") {
  Known stage(Impatient());
  Client client(stage.Connect());
  const Answer& idle = client.Await(client.Begin(CallHead("/fake/Pipe", kToken), Framed("1"), false));
  CHECK(idle.status() == 4);
  CHECK(idle.Field("grpc-message") == "The client sent nothing for 0 s.");
  CHECK(idle.Messages() == std::vector<std::string>{"1"});
  const Answer& failed =
      client.Await(client.Begin(CallHead("/fake/Pipe", kToken), Framed("1") + Framed("fail") + Framed("3"), false));
  CHECK(failed.status() == 3);
  CHECK(failed.Messages() == std::vector<std::string>{"1"});
  CHECK(!stage.Said("message 3"));
  const Answer& bad = client.Await(client.Begin(CallHead("/fake/Pipe", kToken), Framed("1") + Framed("x", 3), false));
  CHECK(bad.status() == 13);
  CHECK(bad.Messages() == std::vector<std::string>{"1"});
  stage.CheckEmpty();
}

TEST_CASE("a stream whose namespace has changed is asked about, and goes on or ends") {
  Known stage(Impatient());
  Client client(stage.Connect());
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call& call) {
    call.Send("before");
    return 0;
  });
  stage.services.changes.Changed(7);
  CHECK(stage.Admit().token == "good");
  WaitFor([&] { return stage.Said("readmitted"); });
  stage.WithCall([](Call& call) {
    CHECK(call.SessionHolds());
    call.Send("after");
    return 0;
  });
  client.PumpUntil([&] { return client.of(scan).Messages().size() == 2; });
  stage.services.changes.Changed(std::nullopt);
  stage.Refuse(Reason::kNamespaceBanned);
  const Answer& answer = client.Await(scan);
  CHECK(answer.status() == 7);
  CHECK(answer.Messages() == std::vector<std::string>{"before", "after"});
  stage.CheckEmpty();
}

TEST_CASE("rows that wait for their client do not leave once the session does not hold") {
  Limits limits;
  limits.sweep = 1h;  // Nobody looks but the one who takes.
  Known stage(limits);
  for (const std::string path : {"/fake/Scan", "/fake/Later"}) {
    for (const bool refused : {true, false}) {
      stage.Know();
      Client client(stage.Connect(), false);
      const int32_t id = client.Unary(path, "x", kToken);
      client.Pump();
      stage.WithCall([&](Call& call) {
        path == "/fake/Scan" ? call.Send(std::string(1 << 20, 'r')) : call.Reply(std::string(1 << 20, 'r'));
        return 0;
      });
      client.PumpUntil([&] { return client.of(id).body.size() == 65535; });
      stage.services.changes.Changed(7);
      GiveRoom(client, id, 1 << 21);
      client.Pump();
      uint64_t number = 0;
      stage.TakeQuestion(&number);
      for (int i = 0; i < 5; ++i) client.Pump(2);
      CHECK(client.of(id).body.size() == 65535);
      if (refused) {
        stage.services.upcalls.AnswerFailure(number, prefixdb::front::Fail(Reason::kNamespaceBanned));
        CHECK(client.Await(id).status() == 7);
        CHECK(client.of(id).body.size() == 65535);
      } else {
        stage.services.upcalls.AnswerAdmitted(number, Stage::Make({}), false);
        client.PumpUntil([&] { return client.of(id).body.size() == (1 << 20) + 5; });
      }
      client.Reset(id);
      client.Pump();
      stage.CheckEmpty();
    }
  }
}

TEST_CASE("a call whose session ended while its message came is looked at again before it begins") {
  Known stage;
  Client client(stage.Connect());
  for (const std::string path : {"/fake/Echo", "/fake/Scan"}) {
    stage.Know();
    const int32_t id = client.Begin(CallHead(path, kToken), Framed("x").substr(0, 5), false);
    client.Pump();
    stage.Until([&] { return stage.gateway->running() == 1; });
    stage.services.changes.Changed(7);
    client.Write(id, "x", true);
    client.Pump();
    stage.Refuse(Reason::kNamespaceSuspended);
    CHECK(client.Await(id).status() == 7);
    stage.CheckEmpty();
  }
  CHECK(stage.On([&] { return stage.last.expired(); }));
}

TEST_CASE("a call that ends while Python is asked again is not begun") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Begin(CallHead("/fake/Later", kToken), Framed("x").substr(0, 5), false);
  client.Pump();
  stage.Until([&] { return stage.gateway->running() == 1; });
  stage.services.changes.Changed(7);
  client.Write(id, "x", false);
  client.Pump();
  uint64_t number = 0;
  stage.TakeQuestion(&number);
  // The answer comes in the pass in which the call was cut, before its status has gone.
  std::promise<void> answered;
  stage.loop.Post([&] {
    answered.get_future().wait();
    stage.gateway->Cut(prefixdb::front::Fail(Reason::kDraining));
  });
  stage.services.upcalls.AnswerAdmitted(number, Stage::Make({}), false);
  answered.set_value();
  CHECK(client.AwaitEnd(id).status() == 14);
  stage.CheckEmpty();
  CHECK(stage.On([&] { return stage.begun.empty(); }));
}

TEST_CASE("a stream that is cut while the kernel takes nothing still tells its client") {
  Known stage;
  const int fd = stage.Connect(4096);
  Client client(fd);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, 64 << 20);
  const nghttp2_settings_entry wide{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 64 << 20};
  nghttp2_submit_settings(client.session(), NGHTTP2_FLAG_NONE, &wide, 1);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 0);
  std::vector<int32_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(client.Unary("/fake/Scan", "x", kToken));
  client.Pump(0);
  stage.Until([&] { return stage.methods_alive == 4; });
  stage.On([&] {
    for (const auto& call : stage.begun) call.lock()->Send(std::string(3 << 20, 's'));
    return 0;
  });
  stage.Until([&] { return stage.begun[0].lock()->unsent() < (3 << 20); });
  stage.On([&] {
    stage.gateway->Cut(prefixdb::front::Fail(Reason::kDraining));
    return 0;
  });
  for (const int32_t id : ids) CHECK(client.Await(id).status() == 14);
  stage.CheckEmpty();
}

TEST_CASE("once isolation was found broken nothing is answered any more") {
  Known stage(Impatient());
  Client client(stage.Connect());
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.WithCall([](Call&) { return 0; });
  stage.services.halted = true;
  const Answer& cut = client.Await(scan);
  CHECK(cut.status() == 13);
  CHECK(cut.Field("grpc-message") == "Serving was stopped; the server's log says why.");
  CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 13);
  CHECK(client.Await(client.Unary("/fake/Put", "x", {})).status() == 13);
  stage.CheckEmpty();
}

TEST_CASE("an ending server refuses what comes, cuts what waits, lets the rest finish, and says goodbye") {
  Limits limits = Impatient();
  limits.pipeline_idle = limits.slow_reader = 1h;
  Known stage(limits);
  Client client(stage.Connect());
  Client late(stage.Connect());
  const int32_t pipe = client.Begin(CallHead("/fake/Pipe", kToken), Framed("1"), false);
  client.PumpUntil([&] { return client.of(pipe).Messages().size() == 1; });
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  client.Pump();
  stage.Until([&] { return stage.methods_alive == 2; });
  stage.On([&] {
    stage.gateway->Drain(prefixdb::front::Fail(Reason::kDraining));
    return 0;
  });
  CHECK(client.Await(pipe).status() == 14);
  client.PumpUntil([&] { return client.goaway().has_value(); });
  CHECK(client.goaway() == NGHTTP2_NO_ERROR);
  CHECK(late.Await(late.Unary("/fake/Echo", "x", kToken)).status() == 14);
  CHECK(stage.On([&] { return stage.gateway->running(); }) == 1);
  CHECK(!client.of(scan).ended);
  stage.WithCall([](Call& call) {
    call.Send("row");
    call.End();
    return 0;
  });
  CHECK(client.Await(scan).status() == 0);
  client.PumpUntil([&] { return client.gone(); });
  stage.CheckEmpty();
}

TEST_CASE("a pipeline that is at work when the server ends answers what it has begun") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Begin(CallHead("/fake/Pipe", kToken), Framed("hold") + Framed("never begun"), false);
  client.PumpUntil([&] { return stage.Said("message hold"); });
  stage.On([&] {
    stage.gateway->Drain(prefixdb::front::Fail(Reason::kDraining));
    return 0;
  });
  stage.WithCall([](Call& call) {
    call.Send(std::string(50'000, 'w'));
    call.NextMessage();
    return 0;
  });
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 14);
  CHECK(answer.Messages() == std::vector<std::string>{std::string(50'000, 'w')});
  CHECK(!stage.Said("message never begun"));
  stage.CheckEmpty();
}

TEST_CASE("a stream that always has more leaves others their turn") {
  Limits limits;
  limits.flush_per_pass = 256 << 10;
  Known stage(limits);
  Client greedy(stage.Connect());
  nghttp2_submit_window_update(greedy.session(), NGHTTP2_FLAG_NONE, 0, 1 << 30);
  const nghttp2_settings_entry wide{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30};
  nghttp2_submit_settings(greedy.session(), NGHTTP2_FLAG_NONE, &wide, 1);
  const int32_t scan = greedy.Unary("/fake/Endless", "x", kToken);
  std::thread taker([&] {
    while (!greedy.gone() && greedy.received() < (40u << 20)) greedy.Pump(1);
  });
  Client modest(stage.Connect());
  for (int i = 0; i < 50; ++i) CHECK(modest.Await(modest.Unary("/fake/Echo", "x", kToken)).status() == 0);
  taker.join();
  greedy.Reset(scan);
  greedy.Pump();
  stage.CheckEmpty();
}

TEST_CASE("what still runs is cut with the reason that is given, and what Python answers is left to it") {
  Known stage;
  Client client(stage.Connect());
  const int32_t scan = client.Unary("/fake/Scan", "x", kToken);
  const int32_t unary = client.Unary("/fake/Later", "x", kToken);
  const int32_t forwarded = client.Unary("/fake/Unknown", "x", kToken);
  client.Pump();
  stage.Until([&] { return stage.methods_alive == 2 && stage.upstream->calls.size() == 1; });
  stage.On([&] {
    stage.gateway->Cut(prefixdb::front::Fail(Reason::kDraining));
    return 0;
  });
  for (const int32_t id : {scan, unary}) {
    CHECK(client.Await(id).status() == 14);
    CHECK(client.of(id).Field("grpc-message") == "The server is shutting down.");
  }
  // It may be done all the same: only Python can say that it was not.
  CHECK(!client.of(forwarded).ended);
  stage.On([&] {
    stage.upstream->calls[0]->sink->OnHeaders({{":status", "200"}, {"grpc-status", "0"}}, true);
    return 0;
  });
  CHECK(client.Await(forwarded).status() == 0);
  client.PumpUntil([&] { return client.gone(); });
  stage.CheckEmpty();
}

TEST_CASE("a write that is cut while it is being committed may have been done, and its client hears that") {
  Known stage;
  stage.Act([](Call&) {});
  Client client(stage.Connect());
  const int32_t write = client.Unary("/fake/Act", "x", kToken);
  const int32_t not_begun = client.Begin(CallHead("/fake/Act", kToken), "", false);
  client.Pump();
  stage.Until([&] { return !stage.last.expired() && stage.gateway->running() == 2; });
  stage.On([&] {
    stage.gateway->Cut(prefixdb::front::Fail(Reason::kDraining));
    return 0;
  });
  CHECK(client.Await(write).Field("grpc-message") == "The write failed and may or may not have been applied.");
  CHECK(client.Await(not_begun).Field("grpc-message") == "The server is shutting down.");
  stage.CheckEmpty();
}

}  // namespace
