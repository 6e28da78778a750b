// Goal: a peer that sends what no honest client sends, or nothing, or takes for ever over it, costs a bounded amount
// and is sent away; one that keeps to the limits never notices them.
//
// Method: frames by hand on both sides of every limit; limits of milliseconds for everything that is about time.
#include "front_stage.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::test;

struct Known : Stage {
  explicit Known(Limits limits = {}) : Stage(limits) { Know(); }
  int64_t connections() const { return services.metrics.connections.load(); }
  void CheckEmpty() {
    Until([&] { return gateway->running() == 0 && gateway->incoming.held() == 0 && methods_alive == 0; });
  }
};

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kSettings = Frame(NGHTTP2_SETTINGS, 0, 0);

// A limit of five frames, and none more as time goes by.
Limits Strict() {
  Limits limits;
  const Limits::Bucket few{5, 0};
  limits.resets = limits.settings = limits.priorities = limits.empty_data = limits.window_updates = few;
  limits.unknown = limits.refused = few;
  limits.window_updates_per_data = 0;
  return limits;
}

void CheckServed(Client& client) {
  const Answer& answer = client.Await(client.Unary("/fake/Echo", "x", kToken));
  CHECK(answer.status() == 0);
}

// Sends five and is served; sends one more and is not.
template <typename Send>
void CheckLimit(Send send_one) {
  Known stage(Strict());
  Client client(stage.Connect());
  CheckServed(client);  // The client's SETTINGS have been counted; the acknowledgement of ours, too.
  send_one(stage, client, 5);
  CheckServed(client);
  send_one(stage, client, 1);
  client.PumpUntil([&] { return client.gone(); });
  CHECK(client.goaway() == NGHTTP2_ENHANCE_YOUR_CALM);
  stage.CheckEmpty();
  CHECK(stage.connections() == 0);
}

template <typename Make>
auto Repeat(Make make) {
  return [make](Known&, Client& client, int count) {
    for (int i = 0; i < count; ++i) client.Raw(make());
  };
}

TEST_CASE("resets beyond what clients need end the connection") {
  CheckLimit([](Known& stage, Client& client, int count) {
    for (int i = 0; i < count; ++i) {
      const int32_t id = client.Unary("/fake/Later", "x", kToken);
      client.Pump(0);
      stage.Until([&] { return stage.methods_alive == 1; });
      client.Reset(id);
      client.Pump(0);
      stage.Until([&] { return stage.methods_alive == 0; });
    }
  });
}

TEST_CASE("frames that say nothing end the connection when there are many of them") {
  CheckLimit(Repeat([] { return Frame(NGHTTP2_PRIORITY, 0, 1001, std::string("\0\0\0\0\1", 5)); }));
  CheckLimit(Repeat([] { return Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string("\0\0\0\1", 4)); }));
  CheckLimit(Repeat([] { return Frame(0xbb, 0, 0, "what"); }));
  CheckLimit(Repeat([] { return Frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678"); }));
}

TEST_CASE("SETTINGS again and again end the connection") {
  Known stage(Strict());
  Client client(stage.Connect());
  CheckServed(client);  // Two were counted: the client's own, and its acknowledgement.
  for (int i = 0; i < 3; ++i) nghttp2_submit_settings(client.session(), NGHTTP2_FLAG_NONE, nullptr, 0);
  CheckServed(client);
  nghttp2_submit_settings(client.session(), NGHTTP2_FLAG_NONE, nullptr, 0);
  client.PumpUntil([&] { return client.gone(); });
  CHECK(client.goaway() == NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST_CASE("DATA without a byte ends the connection when there is much of it") {
  CheckLimit([id = 0](Known&, Client& client, int count) mutable {
    if (id == 0) {
      id = client.Begin(CallHead("/fake/Pipe", kToken), "", false);
      client.Pump();
    }
    for (int i = 0; i < count; ++i) client.Raw(Frame(NGHTTP2_DATA, 0, static_cast<uint32_t>(id)));
  });
}

TEST_CASE("pings beside silence are strikes, pings beside answers are not") {
  Known stage;
  Client client(stage.Connect());
  const std::string ping = Frame(NGHTTP2_PING, 0, 0, "12345678");
  CheckServed(client);
  for (int i = 0; i < 20; ++i) {
    client.Raw(ping);
    CheckServed(client);
  }
  client.Raw(ping);
  for (int i = 0; i < 2; ++i) client.Raw(ping);
  CheckServed(client);
  for (int i = 0; i < 5; ++i) client.Raw(ping);
  client.PumpUntil([&] { return client.gone(); });
  CHECK(client.goaway() == NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST_CASE("refused headers count") {
  CheckLimit([](Known&, Client& client, int count) {
    Fields more = kToken;
    more.emplace_back("x", std::string(kMetadataBytesMax, 'h'));
    for (int i = 0; i < count; ++i) {
      const int32_t id = client.Unary("/fake/Echo", "x", more);
      client.PumpUntil([&] { return client.of(id).closed || client.gone(); });
    }
  });
}

TEST_CASE("as many calls as were agreed on run at once, and no more") {
  Known stage;
  Client client(stage.Connect());
  std::vector<int32_t> ids;
  CheckServed(client);
  for (uint32_t i = 0; i < kStreamsPerConnectionMax; ++i) ids.push_back(client.Unary("/fake/Later", "x", kToken));
  client.PumpUntil([&] { return stage.On([&] { return stage.gateway->running() == kStreamsPerConnectionMax; }); });
  const uint32_t next = static_cast<uint32_t>(ids.back()) + 2;
  client.Raw(Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, next, Block(CallHead("/fake/Later", kToken))));
  client.PumpUntil([&] { return client.gone() || client.of(static_cast<int32_t>(next)).closed; });
  CHECK(stage.On([&] { return stage.gateway->running() <= kStreamsPerConnectionMax; }));
}

TEST_CASE("a client that never takes its answers' frames makes us keep a bounded number") {
  Limits limits;
  limits.frames_waiting = 50;
  limits.resets = {1e9, 0};
  Known stage(limits);
  const int fd = stage.Connect(4096);
  Client client(fd);
  CheckServed(client);
  // Calls that are refused at once, each with a frame or two of ours; nobody reads those.
  const std::string block = Block(CallHead("/fake/Echo"));
  std::string calls;
  for (uint32_t i = 0; i < 64; ++i) calls += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 0, block);
  uint32_t next = 101;
  const auto renumber = [&] {
    for (size_t at = 0; at < calls.size(); at += 9 + block.size(), next += 2) {
      for (int i = 0; i < 4; ++i) calls[at + 5 + static_cast<size_t>(i)] = static_cast<char>(next >> (24 - 8 * i));
    }
  };
  size_t sent = 0;
  bool stuck = false;
  while (!stuck && sent < (64u << 20)) {
    renumber();
    for (size_t at = 0; at < calls.size() && !stuck;) {
      const ssize_t count = send(fd, calls.data() + at, calls.size() - at, MSG_NOSIGNAL);
      if (count > 0) {
        at += static_cast<size_t>(count);
        sent += static_cast<size_t>(count);
        continue;
      }
      pollfd ready{fd, POLLOUT, 0};
      stuck = errno != EAGAIN || poll(&ready, 1, 500) == 0;
    }
  }
  CHECK(stuck);
  CHECK(sent < (8u << 20));
}

// --- time

struct RawFrame {
  uint8_t type;
  uint8_t flags;
  std::string payload;
};

std::vector<RawFrame> FramesOf(std::string_view bytes) {
  constexpr size_t kHead = 9;
  std::vector<RawFrame> frames;
  while (bytes.size() >= kHead) {
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(bytes[at]); };
    const size_t size = size_t{byte(0)} << 16 | size_t{byte(1)} << 8 | byte(2);
    frames.push_back({byte(3), byte(4), std::string(bytes.substr(kHead, size))});
    bytes.remove_prefix(std::min(bytes.size(), kHead + size));
  }
  return frames;
}

// Reads until the server closes; what it had sent.
std::string UntilClosed(int fd) {
  std::string all;
  char buffer[4096];
  pollfd ready{fd, POLLIN, 0};
  while (poll(&ready, 1, 20'000) == 1) {
    const ssize_t count = recv(fd, buffer, sizeof(buffer), 0);
    if (count <= 0) {
      close(fd);
      return all;
    }
    all.append(buffer, static_cast<size_t>(count));
  }
  FAIL("the connection stays");
  return all;
}

TEST_CASE("a connection that does not become one is closed in time") {
  Limits limits;
  limits.sweep = 10ms;
  limits.handshake = 100ms;
  Known stage(limits);
  UntilClosed(stage.Connect());
  const int half = stage.Connect();
  REQUIRE(write(half, kPreface.data(), 10) == 10);
  UntilClosed(half);
  const int without_settings = stage.Connect();
  REQUIRE(write(without_settings, kPreface.data(), kPreface.size()) == static_cast<ssize_t>(kPreface.size()));
  UntilClosed(without_settings);
  Client honest(stage.Connect());
  CheckServed(honest);
  // Headers that trickle in.
  const int slow = stage.Connect();
  std::string begun = kPreface + kSettings;
  begun += Frame(NGHTTP2_HEADERS, 0, 1, Block(CallHead("/fake/Echo", kToken)).substr(0, 30));
  REQUIRE(write(slow, begun.data(), begun.size()) == static_cast<ssize_t>(begun.size()));
  UntilClosed(slow);
  CheckServed(honest);
  CHECK(stage.connections() == 1);
}

TEST_CASE("garbage costs a closed connection") {
  Known stage;
  const std::vector<std::string> all = {"GET / HTTP/1.1\r\n\r\n",
                                        std::string(1000, '\0'),
                                        kPreface + std::string(1000, '\xff'),
                                        "\x16\x03\x01\x02",
                                        kPreface + kPreface,
                                        kPreface + kSettings + Frame(NGHTTP2_DATA, 0, 1, "idle stream"),
                                        kPreface + kSettings + Frame(NGHTTP2_HEADERS, 4, 2, "even"),
                                        kPreface + kSettings + Frame(NGHTTP2_PUSH_PROMISE, 4, 1, "never"),
                                        kPreface + kSettings + Frame(NGHTTP2_HEADERS, 4, 1, "\xff\xff\xff\xff")};
  for (const std::string& garbage : all) {
    const int fd = stage.Connect();
    REQUIRE(send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(garbage.size()));
    shutdown(fd, SHUT_WR);
    UntilClosed(fd);
  }
  WaitFor([&] { return stage.connections() == 0; });
  Client client(stage.Connect());
  CheckServed(client);
}

TEST_CASE("headers in more pieces than anybody needs end the connection") {
  Known stage;
  Client client(stage.Connect());
  CheckServed(client);
  client.Raw(Frame(NGHTTP2_HEADERS, 0, 101, Block(CallHead("/fake/Echo", kToken))));
  for (int i = 0; i < 100; ++i) client.Raw(Frame(NGHTTP2_CONTINUATION, 0, 101));
  client.PumpUntil([&] { return client.gone(); });
  stage.CheckEmpty();
}

TEST_CASE("an idle connection is told to go and goes; one with a call stays") {
  Limits limits;
  limits.sweep = 10ms;
  limits.idle = 100ms;
  limits.goaway_notice = 20ms;
  Known stage(limits);
  Client idle(stage.Connect());
  Client busy(stage.Connect());
  CheckServed(idle);
  const int32_t id = busy.Unary("/fake/Later", "x", kToken);
  busy.Pump();
  idle.PumpUntil([&] { return idle.gone(); });
  CHECK(idle.goaway() == NGHTTP2_NO_ERROR);
  for (int i = 0; i < 10; ++i) busy.Pump(20);
  CHECK(!busy.gone());
  stage.On([&] {
    stage.last.lock()->Reply("late");
    return 0;
  });
  CHECK(busy.Await(id).status() == 0);
  busy.PumpUntil([&] { return busy.gone(); });
}

TEST_CASE("an old connection is told to go in two steps, finishes its calls, and is cut when they take for ever") {
  Limits limits;
  limits.sweep = 10ms;
  limits.age = 200ms;
  limits.goaway_notice = 100ms;
  limits.age_grace = 600ms;
  Known stage(limits);
  const int fd = stage.Connect();
  Client slow(stage.Connect());
  const int32_t forever = slow.Unary("/fake/Later", "x", kToken);
  slow.Pump();
  const std::string begun = kPreface + kSettings;
  REQUIRE(write(fd, begun.data(), begun.size()) == static_cast<ssize_t>(begun.size()));
  std::string received;
  while (received.find(std::string("\0\0\x08\x07\0", 5)) == std::string::npos) {  // GOAWAY.
    char buffer[4096];
    pollfd ready{fd, POLLIN, 0};
    REQUIRE(poll(&ready, 1, 10'000) == 1);
    const ssize_t count = recv(fd, buffer, sizeof(buffer), 0);
    REQUIRE(count > 0);
    received.append(buffer, static_cast<size_t>(count));
  }
  // A call that was on its way when the first step was taken.
  std::string call = Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, Block(CallHead("/fake/Put", kToken)));
  call += Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, Framed("still taken"));
  REQUIRE(write(fd, call.data(), call.size()) == static_cast<ssize_t>(call.size()));
  std::vector<std::string> goodbyes;
  for (const RawFrame& frame : FramesOf(received + UntilClosed(fd))) {
    if (frame.type == NGHTTP2_GOAWAY) goodbyes.push_back(frame.payload);
  }
  REQUIRE(goodbyes.size() == 2);
  CHECK(goodbyes[0] == std::string("\x7f\xff\xff\xff\0\0\0\0", 8));
  CHECK(goodbyes[1] == std::string("\0\0\0\x01\0\0\0\0", 8));
  CHECK(stage.Ended(NativeMethod::kPut, 0) == 1);
  slow.PumpUntil([&] { return slow.gone(); });
  CHECK(!slow.of(forever).ended);
  stage.CheckEmpty();
}

TEST_CASE("a silent peer is asked whether it is there, and closed when it does not say so") {
  Limits limits;
  limits.sweep = 10ms;
  limits.keepalive = 100ms;
  limits.keepalive_answer = 200ms;
  Known stage(limits);
  Client alive(stage.Connect());
  const int dead = stage.Connect();
  const std::string begun = kPreface + kSettings;
  REQUIRE(write(dead, begun.data(), begun.size()) == static_cast<ssize_t>(begun.size()));
  alive.PumpUntil([&] { return alive.pings() >= 4; });
  CHECK(!alive.gone());
  CHECK(UntilClosed(dead).find(std::string("\0\0\x08\x06\0", 5)) != std::string::npos);
  CheckServed(alive);
}

TEST_CASE("a peer for which the kernel takes nothing any more is closed though it goes on sending") {
  Limits limits;
  limits.sweep = 10ms;
  limits.write_stall = 200ms;
  limits.slow_reader = 1h;
  Known stage(limits);
  const int fd = stage.Connect(4096);
  Client client(fd);
  CheckServed(client);
  nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, 0, 8 << 20);
  const nghttp2_settings_entry wide{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 8 << 20};
  nghttp2_submit_settings(client.session(), NGHTTP2_FLAG_NONE, &wide, 1);
  client.Unary("/fake/Echo", std::string(4 << 20, 'x'), kToken);
  CheckServed(client);
  stage.Act([](Call& call) { call.Reply(std::string(4 << 20, 'y')); });
  client.Raw(Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1001, Block(CallHead("/fake/Act", kToken))));
  client.Raw(Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1001, Framed("x")));
  const std::string ping = Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string("\0\0\0\1", 4));
  WaitFor([&] {
    send(fd, ping.data(), ping.size(), MSG_NOSIGNAL);
    return stage.connections() == 0;
  });
  stage.CheckEmpty();
}

TEST_CASE("messages that are not whole are bounded over all connections, and finish when there is room again") {
  Limits limits;
  limits.incoming = 1 << 20;
  limits.incoming_per_connection = 1 << 20;
  limits.connection_window = 128 << 10;
  limits.sweep = 10ms;
  limits.arrival = 1h;
  Known stage(limits);
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<int32_t> ids;
  const std::string large = Framed(std::string(800'000, 'l'));
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(stage.Connect()));
    ids.push_back(clients.back()->Begin(CallHead("/fake/Put", kToken), large.substr(0, 700'000), false));
  }
  for (int round = 0; round < 100; ++round) {
    for (const auto& client : clients) client->Pump(1);
  }
  CHECK(stage.On([&] { return stage.gateway->incoming.held(); }) <= (1 << 20) + large.size());
  CHECK(stage.On([&] { return stage.gateway->incoming.held(); }) > (1 << 19));
  // The small calls of others, and of those who wait, go on.
  Client other(stage.Connect());
  CheckServed(other);
  for (size_t i = 0; i < ids.size(); ++i) {
    clients[i]->Write(ids[i], std::string_view(large).substr(700'000), true);
    for (const auto& client : clients) client->Pump(1);
  }
  clients[0]->Reset(ids[0]);  // Whoever has a part of the room and gives up leaves it to the others.
  for (size_t i = 1; i < ids.size(); ++i) {
    clients[i]->PumpUntil([&] {
      for (const auto& client : clients) client->Pump(0);
      return clients[i]->of(ids[i]).ended;
    });
    CHECK(clients[i]->of(ids[i]).status() == 0);
  }
  stage.CheckEmpty();
}

}  // namespace
