// Goal: a call through the front ends as gRPC and the Python server's gate say, whatever its client and whatever the
// pieces its bytes come in; nothing of it is left when it is over.
//
// Method: a gateway on a loop over socket pairs, a client made of nghttp2, and methods, Python and the server behind
// played by the test. What waits, waits for a condition. Texts are those of the Python server, asked once.
#include "front/grpc_codec.h"
#include "front_stage.h"
#include "gzip_support.h"
#include "support.h"

namespace {

using namespace std::chrono_literals;
using namespace prefixdb::test;

// A stage that knows the token "good".
struct Known : Stage {
  explicit Known(Limits limits = {}, Settings settings = {}) : Stage(limits, std::move(settings)) { Know(); }
  // Nothing of any call is left.
  void CheckEmpty() {
    Until([&] { return gateway->running() == 0 && methods_alive == 0 && last.expired(); });
    Until([&] { return gateway->incoming.held() == 0; });
    CHECK(On([&] { return outlived; }) == 0);
  }
};

TEST_CASE("a call is admitted by Python once and then by memory, and answered") {
  Stage stage;
  Client client(stage.Connect());
  const int32_t first = client.Unary("/fake/Echo", "hello", kToken);
  client.Pump();
  const AdmitQuestion question = stage.Admit();
  CHECK(question.token == "good");
  CHECK(question.peer_certificate.empty());
  const Answer& answer = client.Await(first);
  CHECK(answer.Field(":status") == "200");
  CHECK(answer.Field("content-type") == "application/grpc");
  CHECK(answer.status() == 0);
  REQUIRE(answer.Messages().size() == 1);
  CHECK(answer.Messages()[0] == "hello");
  const Answer& second = client.Await(client.Unary("/fake/Echo", "again", kToken));
  CHECK(second.Messages()[0] == "again");
  Client other(stage.Connect());
  CHECK(other.Await(other.Unary("/fake/Echo", "there", kToken)).Messages()[0] == "there");
  CHECK(stage.services.upcalls.waiting() == 0);
  CHECK(stage.Ended(NativeMethod::kGet, 0) == 3);
}

TEST_CASE("with tokens tied to certificates every connection asks for itself") {
  Settings settings;
  settings.tokens_tied_to_certificates = true;
  Stage stage({}, settings);
  stage.Know();
  for (int round = 0; round < 2; ++round) {
    Client client(stage.Connect());
    const int32_t id = client.Unary("/fake/Echo", "x", kToken);
    client.Pump();
    stage.Admit();
    CHECK(client.Await(id).status() == 0);
    CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 0);
  }
}

TEST_CASE("without exactly one bearer token a call is refused before its message is asked for") {
  Known stage;
  Client client(stage.Connect());
  const auto refused = [&](const Fields& more) {
    const int32_t id = client.Begin(CallHead("/fake/Echo", more), "", false);
    const Answer& answer = client.Await(id);
    CHECK(answer.closed == NGHTTP2_NO_ERROR);
    CHECK(answer.Field("grpc-status-details-bin"));
    return std::pair(answer.status(), answer.Field("grpc-message").value_or(""));
  };
  const std::pair missing(16, std::string("The call needs exactly one authorization entry: 'Bearer TOKEN'."));
  CHECK(refused({}) == missing);
  CHECK(refused({{"authorization", "Bearer good"}, {"authorization", "Bearer good"}}) == missing);
  CHECK(refused({{"authorization", "bearer good"}}) == missing);
  CHECK(refused({{"authorization", "Basic good"}}) == missing);
  const int invalid = 16;
  CHECK(refused({{"authorization", "Bearer " + std::string(kTokenBytesMax + 1, 'a')}}).first == invalid);
  stage.Know(std::string(kTokenBytesMax, 'a'), Stage::Grant());
  const Fields longest = {{"authorization", "Bearer " + std::string(kTokenBytesMax, 'a')}};
  CHECK(client.Await(client.Unary("/fake/Echo", "x", longest)).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("a caller without any entry is asked about where that is allowed, and its refusal passed on") {
  Settings settings;
  settings.anonymous = true;
  Stage stage({}, settings);
  Client client(stage.Connect());
  const int32_t first = client.Unary("/fake/Echo", "x");
  client.Pump();
  CHECK(!stage.Admit().token.has_value());
  CHECK(client.Await(first).status() == 0);
  const int32_t second = client.Unary("/fake/Echo", "x", {{"authorization", "Bearer bad"}});
  client.Pump();
  stage.Refuse(Reason::kTokenExpired);
  CHECK(client.Await(second).status() == 16);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", {{"authorization", "nothing"}})).status() == 16);
  CHECK(client.Await(client.Unary("/fake/Echo", "x")).status() == 0);
}

TEST_CASE("what the method needs is looked at when the message is there") {
  Stage stage;
  Stage::Grant reader;
  reader.write = false;
  stage.Know("reader", reader);
  Stage::Grant nobody;
  nobody.read = nobody.write = false;
  stage.Know("nobody", nobody);
  Client client(stage.Connect());
  const Fields as_reader = {{"authorization", "Bearer reader"}};
  const Fields as_nobody = {{"authorization", "Bearer nobody"}};
  CHECK(client.Await(client.Unary("/fake/Echo", "x", as_reader)).status() == 0);
  CHECK(client.Await(client.Unary("/fake/Put", "x", as_reader)).status() == 7);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", as_nobody)).status() == 7);
  CHECK(client.Await(client.Unary("/fake/Pipe", "x", as_nobody)).status() == 7);
  const int32_t half_open = client.Begin(CallHead("/fake/Put", as_reader), "", false);
  for (int i = 0; i < 3; ++i) client.Pump();
  CHECK(!client.of(half_open).ended);
}

TEST_CASE("a message that does not come, or not whole, is no message") {
  Known stage;
  Client client(stage.Connect());
  const std::string whole = Framed("hello");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const Answer& answer = client.Await(client.Begin(CallHead("/fake/Echo", kToken), whole.substr(0, bytes)));
    CHECK(answer.status() == 3);
    CHECK(answer.Field("grpc-message") == "The call carries no message.");
  }
  const Answer& two = client.Await(client.Begin(CallHead("/fake/Echo", kToken), whole + Framed("second")));
  CHECK(two.Messages() == std::vector<std::string>{"hello"});
  const Answer& open = client.AwaitEnd(client.Begin(CallHead("/fake/Echo", kToken), whole, false));
  CHECK(open.Messages() == std::vector<std::string>{"hello"});
  stage.CheckEmpty();
}

TEST_CASE("a message is the same whatever frames it is cut into, and a connection whatever reads") {
  Known stage;
  Client client(stage.Connect());
  const std::string whole = Framed("a message of some length");
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    const int32_t id = client.Begin(CallHead("/fake/Echo", kToken), whole.substr(0, cut), false);
    client.Pump(0);
    client.Write(id, whole.substr(cut), true);
    CHECK(client.Await(id).Messages() == std::vector<std::string>{"a message of some length"});
  }
  // Every byte of a connection by itself.
  const int fd = stage.Connect();
  std::string bytes = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(NGHTTP2_SETTINGS, 0, 0);
  bytes += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, Block(CallHead("/fake/Echo", kToken)));
  bytes += Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, whole);
  for (const char each : bytes) REQUIRE(write(fd, &each, 1) == 1);
  std::string answer;
  while (answer.find("a message of some length") == std::string::npos) {
    char buffer[4096];
    pollfd ready{fd, POLLIN, 0};
    REQUIRE(poll(&ready, 1, 10'000) == 1);
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    REQUIRE(count > 0);
    answer.append(buffer, static_cast<size_t>(count));
  }
  close(fd);
  stage.CheckEmpty();
}

TEST_CASE("messages up to 16 MiB are taken, with little room before they are wanted") {
  Known stage;
  Client client(stage.Connect());
  const std::string largest(kRequestBytesMax, 'm');
  const Answer& taken = client.Await(client.Unary("/fake/Put", largest, kToken));
  CHECK(taken.status() == 0);
  CHECK(taken.body.size() == largest.size() + 5);
  const Answer& refused = client.AwaitEnd(client.Unary("/fake/Put", largest + "m", kToken));
  CHECK(refused.status() == 8);
  CHECK(refused.Field("grpc-message") == "SERVER: Received message larger than max (16777217 vs. 16777216)");
  // A call that nobody has admitted yet gets the first window and no more.
  const int32_t waiting = client.Unary("/fake/Put", largest, {{"authorization", "Bearer new"}});
  client.PumpUntil([&] { return nghttp2_session_get_stream_remote_window_size(client.session(), waiting) == 0; });
  for (int i = 0; i < 5; ++i) client.Pump(2);
  CHECK(nghttp2_session_get_stream_remote_window_size(client.session(), waiting) == 0);
  stage.Admit();
  CHECK(client.Await(waiting).status() == 0);
  stage.CheckEmpty();
}

TEST_CASE("compressed messages are taken as announced, and bounded") {
  Known stage;
  Client client(stage.Connect());
  Fields gzip = kToken;
  gzip.emplace_back("grpc-encoding", "gzip");
  const auto call = [&](const std::string& body, const Fields& more) -> const Answer& {
    return client.Await(client.Begin(CallHead("/fake/Put", more), body));
  };
  CHECK(call(Framed(Packed("packed"), 1), gzip).Messages() == std::vector<std::string>{"packed"});
  CHECK(call(Framed("plain"), gzip).Messages() == std::vector<std::string>{"plain"});
  CHECK(call(Framed(Packed(""), 1), gzip).Messages() == std::vector<std::string>{""});
  const std::string largest(kRequestBytesMax, 'z');
  CHECK(call(Framed(Packed(largest), 1), gzip).body.size() == largest.size() + 5);
  CHECK(call(Framed(Packed(largest + "z"), 1), gzip).status() == 8);
  CHECK(call(Framed("garbage", 1), gzip).status() == 13);
  CHECK(call(Framed(Packed("cut off").substr(0, 12), 1), gzip).status() == 13);
  CHECK(call(Framed(Packed("and more") + "x", 1), gzip).status() == 13);
  CHECK(call(Framed(Packed("unannounced"), 1), kToken).status() == 13);
  CHECK(call(Framed("odd", 2), kToken).status() == 13);
  stage.CheckEmpty();
}

TEST_CASE("what is no call of the usual kind goes to gRPC's own server") {
  Known stage;
  Client client(stage.Connect());
  size_t calls = 0;
  const auto forwarded = [&](Fields head) {
    client.Begin(head, Framed("x"));
    client.Pump();
    ++calls;
    stage.Until([&] { return stage.upstream->calls.size() == calls; });
  };
  const auto with = [&](const std::string& name, const std::string& value) {
    Fields head = CallHead("/fake/Echo", kToken);
    std::erase_if(head, [&](const auto& field) { return field.first == name; });
    if (!value.empty()) head.insert(name[0] == ':' ? head.begin() : head.end(), {name, value});
    return head;
  };
  forwarded(with("te", ""));
  forwarded(with(":method", "PUT"));
  forwarded(with("content-type", ""));
  forwarded(with("content-type", "text/html"));
  forwarded(with("content-type", "application/grpcx"));
  forwarded(with("grpc-encoding", "deflate"));
  forwarded(with("grpc-timeout", "5x"));
  forwarded(CallHead("/fake/Unknown", kToken));
  CHECK(client.Await(client.Begin(with("content-type", "application/grpc+proto"), Framed("x"))).status() == 0);
  CHECK(stage.upstream->calls.size() == calls);
}

TEST_CASE("headers up to 8 KiB are taken, more refused, and much more ends the connection") {
  Known stage;
  Client client(stage.Connect());
  size_t used = 0;
  for (const auto& [name, value] : CallHead("/fake/Echo", kToken)) used += name.size() + value.size() + 32;
  const auto with = [&](size_t bytes) {
    Fields more = kToken;
    more.emplace_back("x", std::string(bytes - used - 33, 'h'));
    return more;
  };
  CHECK(client.Await(client.Unary("/fake/Echo", "x", with(kMetadataBytesMax))).status() == 0);
  const Answer& refused = client.Await(client.Unary("/fake/Echo", "x", with(kMetadataBytesMax + 1)));
  CHECK(refused.status() == 8);
  CHECK(client.Await(client.Unary("/fake/Unknown", "x", with(kMetadataBytesMax + 1))).status() == 8);
  CHECK(stage.upstream->calls.empty());
  // One entry of the table that both sides share, again and again: a byte each.
  std::string bomb = Block(CallHead("/fake/Echo", kToken)) + Block({{"x", std::string(3000, 'h')}});
  bomb[bomb.size() - 3000 - 6] = '\x40';
  bomb.append(40, '\xBE');
  client.Raw(Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 101, bomb));
  client.PumpUntil([&] { return client.gone(); });
  CHECK(client.goaway() == NGHTTP2_ENHANCE_YOUR_CALM);
  stage.CheckEmpty();
}

TEST_CASE("a deadline ends the call, whatever it waits for") {
  Known stage;
  Client client(stage.Connect());
  Fields soon = kToken;
  soon.emplace_back("grpc-timeout", "30m");
  const auto exceeded = [&](int32_t id) {
    const Answer& answer = client.Await(id);
    CHECK(answer.status() == 4);
    CHECK(answer.Field("grpc-message") == "Deadline Exceeded");
  };
  exceeded(client.Begin(CallHead("/fake/Later", soon), "", false));
  exceeded(client.Unary("/fake/Later", "x", soon));
  exceeded(client.Begin(CallHead("/fake/Pipe", soon), "", false));
  Fields at_once = kToken;
  at_once.emplace_back("grpc-timeout", "0S");
  exceeded(client.Unary("/fake/Echo", "x", at_once));
  Fields never_admitted = {{"authorization", "Bearer other"}, {"grpc-timeout", "30m"}};
  exceeded(client.Unary("/fake/Echo", "x", never_admitted));
  Fields late = kToken;
  late.emplace_back("grpc-timeout", "1H");
  CHECK(client.Await(client.Unary("/fake/Echo", "x", late)).status() == 0);
  stage.CheckEmpty();
  CHECK(stage.Ended(NativeMethod::kBatchGet, 4) == 2);
}

TEST_CASE("a deadline that lies beyond all clocks does not come") {
  Known stage;
  Client client(stage.Connect());
  for (const std::string far : {"99999999H", "99999999M", "2562047H", "2562048H"}) {
    Fields fields = kToken;
    fields.emplace_back("grpc-timeout", far);
    const int32_t id = client.Unary("/fake/Later", "x", fields);
    client.Pump();
    stage.Until([&] { return stage.Ended(NativeMethod::kBatchGet, 4) > 0 || !stage.last.expired(); });
    stage.On([&] {
      if (const auto call = stage.last.lock()) call->Reply("answer");
      return 0;
    });
    CHECK(client.Await(id).status() == 0);
    CHECK(client.Await(client.Unary("/fake/Echo", "x", fields)).status() == 0);
    stage.Until([&] { return stage.last.expired(); });
  }
  stage.CheckEmpty();
}

TEST_CASE("a call that is reset, or whose client is gone, leaves nothing behind") {
  Known stage;
  auto client = std::make_unique<Client>(stage.Connect());
  const int32_t reset = client->Unary("/fake/Later", "x", kToken);
  client->Pump();
  stage.Until([&] { return stage.methods_alive == 1; });
  client->Reset(reset);
  client->Pump();
  stage.CheckEmpty();
  CHECK(stage.Ended(NativeMethod::kBatchGet, 1) == 1);
  client->Unary("/fake/Later", "x", kToken);
  client->Begin(CallHead("/fake/Scan", kToken), Framed("x"));
  client->Begin(CallHead("/fake/Put", kToken), Framed(std::string(100'000, 'p')).substr(0, 50'000), false);
  client->Begin(CallHead("/fake/Unknown"), "x", false);
  client->Unary("/fake/Echo", "x", {{"authorization", "Bearer waits"}});
  client->Pump();
  stage.Until([&] { return stage.methods_alive == 2 && stage.gateway->running() == 4; });
  stage.Until([&] { return stage.upstream->calls.size() == 1; });
  client.reset();
  stage.CheckEmpty();
  stage.Until([&] { return stage.upstream->calls[0]->gone; });
  CHECK(stage.services.metrics.connections.load() == 0);
  stage.Admit();  // Nobody waits for it any more.
  Client other(stage.Connect());
  CHECK(other.Await(other.Unary("/fake/Echo", "x", kToken)).status() == 0);
}

TEST_CASE("a method may answer later, from its loop, and not after the end") {
  Known stage;
  Client client(stage.Connect());
  const int32_t id = client.Unary("/fake/Later", "question", kToken);
  client.Pump();
  stage.Until([&] { return !stage.last.expired(); });
  stage.On([&] {
    const auto call = stage.last.lock();
    CHECK(call->open());
    CHECK(call->message() == "question");
    call->Reply("answer");
    CHECK(!call->open());
    call->Reply("once more");
    call->Fail(prefixdb::front::Fail(Reason::kInternal));
    call->End();
    call->Punt();
    return 0;
  });
  CHECK(client.Await(id).Messages() == std::vector<std::string>{"answer"});
  CHECK(client.of(id).status() == 0);
  stage.CheckEmpty();
  CHECK(stage.upstream->calls.empty());
}

TEST_CASE("a failure is told with its code, words and details") {
  Known stage;
  Client client(stage.Connect());
  const Failure failure = prefixdb::front::Fail(Reason::kWriteStall, "50 % \xC3\xBC\n", {{"limit", "5"}});
  stage.Act([&](Call& call) { call.Fail(failure); });
  const Answer& answer = client.Await(client.Unary("/fake/Act", "x", kToken));
  CHECK(answer.status() == 14);
  CHECK(answer.Field("grpc-message") == "50 %25 %C3%BC%0A");
  CHECK(UnBase64(*answer.Field("grpc-status-details-bin")) == EncodeStatus(failure));
  CHECK(answer.trailers.empty());
  CHECK(stage.Ended(NativeMethod::kWrite, 14) == 1);
}

TEST_CASE("large answers that nobody takes are counted, and too many refused") {
  Known stage;
  Client client(stage.Connect(), false);
  const std::string large(15u << 20, 'l');
  std::vector<int32_t> ids;
  const size_t fit = kUnreadBytesPerNamespaceMax / large.size();
  stage.Act([&](Call& call) { call.Reply(large); });
  for (size_t i = 0; i <= fit; ++i) ids.push_back(client.Unary("/fake/Act", "x", kToken));
  const Answer& refused = client.Await(ids.back());
  CHECK(refused.status() == 8);
  CHECK(refused.Field("grpc-message") == "Too many large answers wait to be read; read them before asking again.");
  client.Reset(ids[0]);
  const int32_t again = client.Unary("/fake/Act", "x", kToken);
  for (int i = 0; i < 5; ++i) client.Pump(2);
  CHECK(!client.of(again).ended);
  stage.Act([&](Call& call) { call.Reply(std::string(64 * 1024, 's')); });
  Client other(stage.Connect());
  CHECK(other.Await(other.Unary("/fake/Act", "x", kToken)).status() == 0);
}

// As TLS whose own words have to go first: until then it reads nothing of what is there.
class Stuck final : public Socket {
 public:
  explicit Stuck(int fd) : inner_(PlainSocket(fd, "ipv4:127.0.0.1:4711")) {}
  Progress Handshake() override { return {Io::kDone}; }
  Progress Read(std::span<uint8_t> buffer) override {
    ++reads;
    waits_ = stuck;
    return waits_ ? Progress{Io::kAgain} : inner_->Read(buffer);
  }
  Progress Write(std::span<const uint8_t> bytes) override { return inner_->Write(bytes); }
  void Farewell() override { inner_->Farewell(); }
  uint32_t wants() const noexcept override { return waits_ ? uint32_t{EPOLLOUT} : inner_->wants(); }
  int fd() const noexcept override { return inner_->fd(); }
  const std::string& peer() const noexcept override { return inner_->peer(); }
  const std::string& peer_certificate() const noexcept override { return inner_->peer_certificate(); }
  bool is_tls() const noexcept override { return true; }

  int reads = 0;
  bool stuck = false;

 private:
  const std::unique_ptr<Socket> inner_;
  bool waits_ = false;
};

TEST_CASE("a connection that has to write before it reads waits for that, not in circles") {
  Known stage;
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  stage.services.metrics.connections.fetch_add(1);
  Stuck* const socket = stage.On([&] {
    auto made = std::make_unique<Stuck>(ends[0]);
    Stuck* const kept = made.get();
    stage.gateway->Serve(std::move(made));
    return kept;
  });
  Client client(ends[1]);
  CHECK(client.Await(client.Unary("/fake/Echo", "x", kToken)).status() == 0);
  // The kernel takes no more; what it has is sent by nobody who speaks HTTP/2, so the client stays away from it.
  const std::string filler(1 << 20, 'f');
  stage.On([&] {
    while (send(ends[0], filler.data(), filler.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    socket->stuck = true;
    return 0;
  });
  const int before = stage.On([&] { return socket->reads; });
  const std::string ping("\0\0\10\6\0\0\0\0\0pingpong", 17);
  REQUIRE(send(ends[1], ping.data(), ping.size(), MSG_NOSIGNAL) == 17);
  stage.Until([&] { return socket->reads > before; });
  const int met = stage.On([&] { return socket->reads; });
  for (int turn = 0; turn < 100; ++turn) stage.On([] { return 0; });
  CHECK(stage.On([&] { return socket->reads; }) <= met + 1);
  // It goes on when the peer takes something.
  std::string taken(1 << 20, '\0');
  stage.On([&] {
    socket->stuck = false;
    return 0;
  });
  while (recv(ends[1], taken.data(), taken.size(), MSG_DONTWAIT) > 0) {
  }
  const int now = met + 1;
  stage.Until([&] { return socket->reads > now; });
}

}  // namespace
