// Goal: a call that Python answers is the same for its client as if there were nothing in between: headers, bytes,
// trailers, resets and pace, from the start or after it was begun here.
//
// Method: as front_connection_test.cc; the server behind is played by the test, which sees what it was given.
#include "front_stage.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::test;
using Opened = FakeUpstream::Opened;

struct Known : Stage {
  explicit Known(Limits limits = {}) : Stage(limits) { Know(); }
  // The `number`-th call that came through.
  std::shared_ptr<Opened> Behind(size_t number) {
    Until([&] { return upstream->calls.size() > number; });
    return On([&] { return upstream->calls[number]; });
  }
  template <typename Act>
  void Do(Act work) {
    On([&] {
      work();
      return 0;
    });
  }
};

const Headers kFirst = {{":status", "200"}, {"content-type", "application/grpc"}, {"x-from", "python"}};
const Headers kLast = {{"grpc-status", "0"}, {"x-last", "yes"}};

std::string FieldOf(const Headers& headers, std::string_view name) {
  std::string found;
  for (const auto& [each, value] : headers) {
    if (each == name) found += value + ";";
  }
  return found;
}

TEST_CASE("a path that is not ASCII is reset: gRPC's server in Python would end over it, with everybody's calls") {
  Known stage;
  Client client(stage.Connect());
  for (const char* path : {"/\xff\xfe", "/any/Where\x80", "/\xc3\xa9/Where"}) {
    const Answer& answer = client.Await(client.Begin(CallHead(path)));
    CHECK(answer.closed == NGHTTP2_PROTOCOL_ERROR);
  }
  client.Begin(CallHead("/any/Where"));
  client.Pump();
  const auto behind = stage.Behind(0);
  stage.Do([&] { CHECK(FieldOf(behind->headers, ":path") == "/any/Where;"); });
}

TEST_CASE("a forwarded call goes through as it came, and so does its answer") {
  Known stage;
  Client client(stage.Connect());
  Fields head = CallHead("/any/Where", {{"authorization", "Bearer whatever"}, {"x-twice", "1"}, {"x-twice", "2"}});
  head.emplace_back("prefixdb-peer", "ipv4:6.6.6.6:6");
  head.emplace_back("prefixdb-peer-cert-bin", "forged");
  head.emplace_back("grpc-timeout", "7S");
  const int32_t id = client.Begin(head, "some ", false);
  client.Pump();
  const auto behind = stage.Behind(0);
  client.Write(id, "bytes", true);
  client.Pump();
  stage.Until([&] { return behind->ended; });
  stage.Do([&] {
    CHECK(behind->body == "some bytes");
    CHECK(behind->headers[0].first[0] == ':');
    // Before whatever a client says, for gRPC reads no further than an entry that it takes for malformed.
    const auto own = std::ranges::find_if(behind->headers, [](const auto& each) { return each.first[0] != ':'; });
    CHECK(own->first == "prefixdb-peer");
    CHECK(FieldOf(behind->headers, ":path") == "/any/Where;");
    CHECK(FieldOf(behind->headers, "authorization") == "Bearer whatever;");
    CHECK(FieldOf(behind->headers, "x-twice") == "1;2;");
    CHECK(FieldOf(behind->headers, "te") == "trailers;");
    CHECK(FieldOf(behind->headers, "grpc-timeout") == "7S;");
    CHECK(FieldOf(behind->headers, kPeerHeader) == "ipv4:127.0.0.1:4711;");
    CHECK(FieldOf(behind->headers, kPeerCertificateHeader).empty());
    behind->sink->OnHeaders(kFirst, false);
    behind->sink->OnData("an ");
    behind->sink->OnData("answer");
  });
  client.PumpUntil([&] { return client.of(id).body == "an answer"; });
  stage.Until([&] { return behind->taken == 9; });
  CHECK(!client.of(id).ended);
  stage.Do([&] { behind->sink->OnTrailers(kLast); });
  const Answer& answer = client.Await(id);
  CHECK(answer.Field("x-from") == "python");
  CHECK(answer.Field("x-last") == "yes");
  CHECK(answer.status() == 0);
  stage.Until([&] { return behind->gone; });
  CHECK(stage.services.metrics.forwarded.load() == 1);
  CHECK(stage.services.metrics.punted.load() == 0);
  CHECK(stage.gateway->running() == 0);
}

TEST_CASE("every way in which a forwarded call can end reaches the client") {
  Known stage;
  Client client(stage.Connect());
  size_t number = 0;
  const auto call = [&](auto end) -> const Answer& {
    const int32_t id = client.Unary("/any/Where", "x");
    client.Pump();
    const auto behind = stage.Behind(number++);
    stage.Do([&] { end(*behind->sink); });
    const Answer& answer = client.Await(id);
    stage.Until([&] { return behind->gone; });
    return answer;
  };
  Headers only = kFirst;
  only.emplace_back("grpc-status", "12");
  CHECK(call([&](ForwardSink& sink) { sink.OnHeaders(only, true); }).status() == 12);
  CHECK(call([](ForwardSink& sink) { sink.OnReset(NGHTTP2_REFUSED_STREAM); }).closed == NGHTTP2_REFUSED_STREAM);
  const auto reset_late = [](ForwardSink& sink) {
    sink.OnHeaders(kFirst, false);
    sink.OnData("x");
    sink.OnReset(NGHTTP2_INTERNAL_ERROR);
  };
  CHECK(call(reset_late).closed == NGHTTP2_INTERNAL_ERROR);
  const Answer& never = call([](ForwardSink& sink) { sink.OnLost(false); });
  CHECK(never.status() == 14);
  CHECK(never.Field("grpc-message") == "The server is starting.");
  const Answer& unknown = call([](ForwardSink& sink) { sink.OnLost(true); });
  CHECK(unknown.status() == 14);
  CHECK(unknown.Field("grpc-message") == "The write failed and may or may not have been applied.");
  const auto lost_late = [](ForwardSink& sink) {
    sink.OnHeaders(kFirst, false);
    sink.OnData("part");
    sink.OnLost(true);
  };
  const Answer& cut = call(lost_late);
  CHECK(cut.status() == 14);
  CHECK(cut.body == "part");
  stage.Do([&] { stage.gateway->Drain(prefixdb::front::Fail(Reason::kDraining)); });
  const Answer& draining = call([](ForwardSink& sink) { sink.OnLost(false); });
  CHECK(draining.Field("grpc-message") == "The server is shutting down.");
}

TEST_CASE("a client that goes away, or resets, lets go of the call behind") {
  Known stage;
  auto client = std::make_unique<Client>(stage.Connect());
  const int32_t first = client->Begin(CallHead("/any/Where"), "x", false);
  client->Begin(CallHead("/any/Where"), "x", false);
  client->Pump();
  const auto reset = stage.Behind(0);
  const auto gone = stage.Behind(1);
  client->Reset(first);
  client->Pump();
  stage.Until([&] { return reset->gone; });
  CHECK(stage.On([&] { return !gone->gone; }));
  client.reset();
  stage.Until([&] { return gone->gone; });
}

TEST_CASE("a forwarded call's client may send what the server behind has taken, and no more") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Begin(CallHead("/any/Where"), std::string(300'000, 'u'), true);
  client.Pump();
  const auto behind = stage.Behind(0);
  size_t expected = 64 * 1024;
  while (expected < 300'000) {
    client.PumpUntil([&] { return stage.On([&] { return behind->body.size() >= expected; }); });
    for (int i = 0; i < 3; ++i) client.Pump(2);
    CHECK(stage.On([&] { return behind->body.size(); }) == expected);
    // A message that is not whole is in Python's memory: it counts until it is answered.
    CHECK(stage.On([&] { return stage.gateway->incoming.held(); }) == expected);
    stage.Do([&] { behind->sink->OnPassedOn(40'000); });
    expected += 40'000;
  }
  client.PumpUntil([&] { return stage.On([&] { return behind->ended; }); });
  stage.Do([&] { behind->sink->OnPassedOn(300'000 - (expected - 64 * 1024)); });
  CHECK(stage.On([&] { return stage.gateway->incoming.held(); }) == 300'000);
  CHECK(stage.On([&] { return behind->body.size(); }) == 300'000);
  stage.Do([&] { behind->sink->OnHeaders({{":status", "200"}, {"grpc-status", "3"}}, true); });
  CHECK(stage.On([&] { return stage.gateway->incoming.held(); }) == 0);
  client.Reset(id);
}

TEST_CASE("of what is passed on, messages that are not answered are bounded, and finish when there is room again") {
  Limits limits;
  limits.incoming = limits.incoming_per_connection = 200'000;
  limits.sweep = 10ms;
  Known stage(limits);
  Client first(stage.Connect());
  Client second(stage.Connect());
  const std::string large = Framed(std::string(400'000, 'l'));
  first.Begin(CallHead("/any/Where"), large, false);
  second.Begin(CallHead("/any/Where"), large, false);
  const auto calls = [&] { return std::array{stage.Behind(0), stage.Behind(1)}; };
  std::array<size_t, 2> passed{};
  const auto pass = [&](size_t which) {
    stage.Do([&] {
      const auto& call = stage.upstream->calls[which];
      const size_t more = call->body.size() - std::exchange(passed[which], call->body.size());
      if (more > 0) call->sink->OnPassedOn(more);
    });
  };
  const auto came = [&](size_t which) { return stage.On([&] { return stage.upstream->calls[which]->body.size(); }); };
  first.Pump();
  second.Pump();
  static_cast<void>(calls());
  for (int round = 0; round < 200; ++round) {
    first.Pump(1);
    second.Pump(1);
    pass(0);
    pass(1);
  }
  // One is let through, so that something ends; the other waits.
  const size_t done = came(0) == large.size() ? 0 : 1;
  CHECK(came(done) == large.size());
  CHECK(came(1 - done) < 300'000);
  stage.Do([&] { stage.upstream->calls[done]->sink->OnHeaders({{":status", "200"}, {"grpc-status", "3"}}, true); });
  Client& late = done == 0 ? second : first;
  late.PumpUntil([&] { return pass(1 - done), came(1 - done) == large.size(); });
}

TEST_CASE("the server behind is told what the client has taken, and no more") {
  Known stage;
  Client client(stage.Connect(), false);
  const int32_t id = client.Unary("/any/Where", "x");
  client.Pump();
  const auto behind = stage.Behind(0);
  stage.Do([&] {
    behind->sink->OnHeaders(kFirst, false);
    for (int i = 0; i < 20; ++i) behind->sink->OnData(std::string(10'000, 'd'));
  });
  client.PumpUntil([&] { return client.of(id).body.size() == 65'535; });
  CHECK(stage.On([&] { return behind->taken; }) == 65'535);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, id, 1 << 20);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, 1 << 20);
  client.PumpUntil([&] { return client.of(id).body.size() == 200'000; });
  CHECK(stage.On([&] { return behind->taken; }) == 200'000);
  stage.Do([&] { behind->sink->OnTrailers(kLast); });
  CHECK(client.Await(id).status() == 0);
}

TEST_CASE("to a client that takes nothing a failure behind is told, and what ended well is kept") {
  Limits limits;
  limits.sweep = 10ms;
  limits.slow_reader = 100ms;
  Known stage(limits);
  Client client(stage.Connect(), false);
  const auto begin = [&](size_t number, const std::string& status) {
    const int32_t id = client.Unary("/any/Where", "x");
    client.Pump();
    const auto behind = stage.Behind(number);
    stage.Do([&] {
      behind->sink->OnHeaders(kFirst, false);
      behind->sink->OnData(std::string(100'000, 'd'));
      behind->sink->OnTrailers({{"grpc-status", status}});
    });
    return id;
  };
  const int32_t well = begin(0, "0");
  const int32_t ill = begin(1, "4");
  CHECK(client.Await(ill).status() == 4);
  CHECK(!client.of(well).ended);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, well, 1 << 20);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, 1 << 20);
  CHECK(client.Await(well).body.size() == 100'000);
}

TEST_CASE("a call that was begun here is handed over whole") {
  Known stage;
  Client client(stage.Connect());
  Fields more = kToken;
  more.emplace_back("grpc-timeout", "5S");
  more.emplace_back("x-mine", "kept");
  const int32_t id =
      client.Begin(CallHead("/fake/Punt", more), Framed("the message") + "rest that nobody wants", false);
  client.Pump();
  const auto behind = stage.Behind(0);
  stage.Do([&] {
    CHECK(behind->body == Framed("the message"));
    CHECK(behind->ended);
    CHECK(!behind->gone);
    CHECK(FieldOf(behind->headers, ":path") == "/fake/Punt;");
    CHECK(FieldOf(behind->headers, "authorization") == "Bearer good;");
    CHECK(FieldOf(behind->headers, "x-mine") == "kept;");
    CHECK(FieldOf(behind->headers, kPeerHeader) == "ipv4:127.0.0.1:4711;");
    const std::string left = FieldOf(behind->headers, "grpc-timeout");
    CHECK(left.back() == ';');
    CHECK(ParseTimeout(left.substr(0, left.size() - 1)) <= 5000ms);
    CHECK(ParseTimeout(left.substr(0, left.size() - 1)) > 1000ms);
    behind->sink->OnPassedOn(behind->body.size());
    behind->sink->OnHeaders(kFirst, false);
    behind->sink->OnData(Framed("done"));
    behind->sink->OnTrailers(kLast);
  });
  const Answer& answer = client.AwaitEnd(id);
  CHECK(answer.Messages() == std::vector<std::string>{"done"});
  CHECK(answer.status() == 0);
  CHECK(stage.services.metrics.punted.load() == 1);
  CHECK(stage.services.metrics.forwarded.load() == 0);
  stage.Until([&] { return stage.gateway->running() == 0 && behind->gone; });
  uint64_t counted = 0;
  for (uint8_t code = 0; code < kStatusCodes; ++code) counted += stage.Ended(NativeMethod::kDelete, code);
  CHECK(counted == 0);
  client.Pump();
  stage.Until([&] { return stage.gateway->incoming.held() == 0; });
}

TEST_CASE("a compressed message is handed over as it reads, and what is too late is not") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Unary("/fake/Later", std::string(100'000, 'm'), kToken);
  client.PumpUntil([&] { return stage.On([&] { return !stage.last.expired(); }); });
  stage.Do([&] { stage.last.lock()->Punt(); });
  const auto behind = stage.Behind(0);
  CHECK(stage.On([&] { return behind->body == Framed(std::string(100'000, 'm')); }));
  CHECK(stage.On([&] { return stage.methods_alive; }) == 0);
  client.Reset(id);
  client.Pump();
  stage.Until([&] { return behind->gone; });
  Fields soon = kToken;
  soon.emplace_back("grpc-timeout", "20m");
  stage.Act([](Call& call) {
    std::this_thread::sleep_for(30ms);  // Longer than the deadline, inside the pass.
    call.Punt();
  });
  CHECK(client.Await(client.Unary("/fake/Act", "x", soon)).status() == 4);
  CHECK(stage.upstream->calls.size() == 1);
}

}  // namespace
