// Goal: what a client may hold on to is bounded by what it costs, not by what it sends: compressed messages, answers
// that it does not take, rules that have changed meanwhile, and a connection that was sent away.
//
// Method: as front_connection_test.cc, with small limits; clients that take the first window and no more.
#include "front_stage.h"
#include "gzip_support.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::test;

struct Known : Stage {
  explicit Known(Limits limits = {}) : Stage(limits) { Know(); }
  size_t Held() {
    return On([&] { return gateway->incoming.held(); });
  }
};

Fields Packing() {
  Fields more = kToken;
  more.emplace_back("grpc-encoding", "gzip");
  return more;
}

int32_t SendPacked(Client& client, const std::string& path, size_t bytes) {
  return client.Begin(CallHead(path, Packing()), Framed(Packed(std::string(bytes, 'z')), 1));
}

void GiveRoom(Client& client, int32_t id, int32_t bytes) {
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, bytes);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, id, bytes);
}

TEST_CASE("a message counts for what it is, not for what it was packed into") {
  Limits limits;
  limits.incoming_per_connection = 1 << 20;
  Known stage(limits);
  Client client(stage.Connect());
  const int32_t first = SendPacked(client, "/fake/Later", 700'000);
  client.PumpUntil([&] { return stage.Held() == 700'000; });
  const Answer& second = client.Await(SendPacked(client, "/fake/Later", 700'000));
  CHECK(second.status() == 8);
  CHECK(client.Await(SendPacked(client, "/fake/Echo", 300'000)).status() == 0);
  Client other(stage.Connect());
  CHECK(other.Await(SendPacked(other, "/fake/Echo", 700'000)).status() == 0);
  CHECK(stage.Held() == 700'000);
  client.Reset(first);
  client.Pump();
  stage.Until([&] { return stage.gateway->incoming.held() == 0; });
  CHECK(client.Await(SendPacked(client, "/fake/Echo", 700'000)).status() == 0);
}

TEST_CASE("a message keeps no room of others while its answer waits to be taken") {
  Known stage;
  Client client(stage.Connect(), false);
  const int32_t id = client.Unary("/fake/Echo", std::string(400'000, 'x'), kToken);
  client.PumpUntil([&] { return client.of(id).body.size() == 65'535; });
  CHECK(stage.Held() == 0);
  GiveRoom(client, id, 1 << 20);
  CHECK(client.Await(id).body.size() == 400'005);
}

TEST_CASE("an answer that waits under rules that were changed does not leave; under the same rules it does") {
  Limits limits;
  limits.sweep = 1h;
  Known stage(limits);
  for (const bool narrowed : {true, false}) {
    stage.Know();
    Client client(stage.Connect(), false);
    const int32_t id = client.Unary("/fake/Echo", std::string(200'000, 'r'), kToken);
    client.PumpUntil([&] { return client.of(id).body.size() == 65'535; });
    stage.services.changes.Changed(7);
    GiveRoom(client, id, 1 << 20);
    client.Pump();
    Stage::Grant grant;
    grant.write = !narrowed;
    stage.Admit(grant);
    const Answer& answer = client.Await(id);
    CHECK(answer.status() == (narrowed ? 14 : 0));
    CHECK(answer.body.size() == (narrowed ? 65'535 : 200'005));
  }
}

TEST_CASE("where an answer that does not leave may tell of writes, nobody is told that nothing was done") {
  Limits limits;
  limits.sweep = 1h;
  Known stage(limits);
  Client client(stage.Connect(), false);
  const int32_t id = client.Begin(CallHead("/fake/Pipe", kToken), Framed(std::string(60'000, 'p')), false);
  client.Write(id, Framed(std::string(60'000, 'q')));
  client.PumpUntil([&] { return client.of(id).body.size() == 65'535; });
  stage.services.changes.Changed(7);
  GiveRoom(client, id, 1 << 20);
  client.Pump();
  Stage::Grant grant;
  grant.write = false;
  stage.Admit(grant);
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 14);
  CHECK(answer.Field("grpc-message") == "The write failed and may or may not have been applied.");
  CHECK(answer.body.size() == 65'535);
}

TEST_CASE("a peer that was sent away and does not take it is closed soon, and nothing it sends is looked at") {
  Limits limits;
  limits.sweep = 10ms;
  limits.goaway_notice = 200ms;
  limits.priorities = {20, 0};
  Known stage(limits);
  const int fd = stage.Connect(4096);
  Client client(fd);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 0);
  // More than the kernel takes for it.
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, 8 << 20);
  const nghttp2_settings_entry wide{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 8 << 20};
  nghttp2_submit_settings(client.session(), NGHTTP2_FLAG_NONE, &wide, 1);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 0);
  stage.Act([](Call& call) { call.Reply(std::string(4 << 20, 'y')); });
  const auto tell = [fd](const std::string& bytes) {  // Takes nothing meanwhile.
    REQUIRE(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  };
  tell(Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1001, Block(CallHead("/fake/Act", kToken))) +
       Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1001, Framed("x")));
  stage.Until([&] { return stage.Ended(NativeMethod::kWrite, 0) == 1; });
  stage.On([] { return 0; });  // The pass is over, the kernel full.
  std::string flood;
  for (int i = 0; i < 30; ++i) flood += Frame(NGHTTP2_PRIORITY, 0, 1001, std::string("\0\0\0\0\1", 5));
  tell(flood);
  const std::string late =
      Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1003, Block(CallHead("/fake/Put", kToken))) +
      Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1003, Framed("late"));
  const auto before = std::chrono::steady_clock::now();
  WaitFor([&] {
    send(fd, late.data(), late.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return stage.services.metrics.connections.load() == 0;
  });
  CHECK(std::chrono::steady_clock::now() - before < 5s);
  CHECK(stage.Ended(NativeMethod::kPut, 0) == 0);
}

TEST_CASE("answers of some size that are not taken are counted, small ones are not") {
  Known stage;
  REQUIRE(stage.services.unread.Hold(7, kUnreadBytesPerNamespaceMax - 5'000));
  Client client(stage.Connect());
  CHECK(client.Await(client.Unary("/fake/Echo", std::string(4'000, 'x'), kToken)).status() == 0);
  CHECK(client.Await(client.Unary("/fake/Echo", std::string(10'000, 'x'), kToken)).status() == 8);
  stage.services.unread.Release(7, kUnreadBytesPerNamespaceMax - 5'000);
  CHECK(client.Await(client.Unary("/fake/Echo", std::string(10'000, 'x'), kToken)).status() == 0);
  stage.Until([&] { return stage.services.unread.bytes() == 0; });
}

TEST_CASE("what one pass of the loop unpacks is bounded") {
  Limits limits;
  limits.unpacked_per_pass = 1;
  Known stage(limits);
  std::vector<Loop::Time> passes;
  stage.Act([&](Call& call) {
    passes.push_back(call.loop().now());
    call.Reply("");
  });
  Client client(stage.Connect());
  std::string all;
  for (int id = 1001; id < 1011; id += 2) {
    all += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, Block(CallHead("/fake/Act", Packing()))) +
           Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, id, Framed(Packed(std::string(5'000, 'z')), 1));
  }
  client.Pump();
  client.Raw(all);
  client.PumpUntil([&] { return stage.On([&] { return passes.size() == 5; }); });
  stage.On([&] { return std::ranges::sort(passes), 0; });
  CHECK(std::ranges::adjacent_find(passes) == passes.end());
}

TEST_CASE("one namespace's messages that do not become whole leave room for another's") {
  Limits limits;
  limits.incoming = limits.incoming_per_connection = 4 << 20;
  limits.connection_window = 128 << 10;
  limits.sweep = 10ms;
  limits.arrival = 1h;
  Known stage(limits);
  Stage::Grant other;
  other.namespace_id = 8;
  stage.Know("other", other);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::make_unique<Client>(stage.Connect()));
    clients.back()->Begin(CallHead("/fake/Put", kToken), Framed(std::string(800'000, 'l')).substr(0, 700'000), false);
  }
  for (int round = 0; round < 100; ++round) {
    for (const auto& client : clients) client->Pump(1);
  }
  Client honest(stage.Connect());
  const int32_t id = honest.Unary("/fake/Echo", std::string(200'000, 'x'), {{"authorization", "Bearer other"}});
  CHECK(honest.Await(id).status() == 0);
}

TEST_CASE("a stream's message that has begun comes in time, and between messages a stream may be silent") {
  Limits limits;
  limits.arrival = 100ms;
  limits.sweep = 10ms;
  Known stage(limits);
  Client client(stage.Connect());
  const int32_t silent = client.Begin(CallHead("/fake/Pipe", kToken), Framed("whole"), false);
  client.PumpUntil([&] { return client.of(silent).Messages().size() == 1; });
  const int32_t id = client.Begin(CallHead("/fake/Pipe", kToken), Framed("half").substr(0, 7), false);
  const Answer& answer = client.Await(id);
  CHECK(answer.status() == 4);
  CHECK(answer.Field("grpc-message") == "The request did not arrive in time.");
  client.Write(silent, Framed("more"));
  client.PumpUntil([&] { return client.of(silent).Messages().size() == 2; });
}

TEST_CASE("an answer that is over and waits for its client ends when its session does") {
  Known stage;
  Client client(stage.Connect(), false);
  const int32_t id = client.Unary("/fake/Echo", std::string(400'000, 'x'), kToken);
  client.PumpUntil([&] { return client.of(id).body.size() == 65'535; });
  stage.services.changes.Changed(7);
  stage.Refuse(Reason::kNamespaceBanned);
  CHECK(client.Await(id).status() == 7);
  CHECK(client.of(id).body.size() == 65'535);
  CHECK(stage.services.unread.bytes() == 0);
}

}  // namespace
