// Goal: no order of events and no bytes from the server bring the upstream out of step: every byte arrives, every call
// ends exactly once, nothing is left behind.
//
// Method: random calls, bodies, paces, resets, goodbyes and broken connections against what each call must have become;
// and frames of a real conversation with bytes changed, left out and put in. AddressSanitizer runs these, too. The seed
// is printed.
#include "front_upstream_server.h"

namespace {

using namespace prefixdb::test;
using prefixdb::front::MakeUpstream;
using prefixdb::front::Upstream;
using prefixdb::front::UpstreamLimits;

const Headers kHead = {{":status", "200"}};
const Headers kTrailers = {{"grpc-status", "0"}};

// What a call sends, and how far it is; the server answers with the same bytes.
struct Talk {
  Heard heard;
  std::string body;
  size_t written = 0;
  size_t untaken = 0;
  bool left = false;
};

// Calls in random order, and a server that echoes each when it is whole. Belongs to the loop's thread.
class Chaos {
 public:
  Chaos(Loop* loop, std::string path, Seeded* random) : random_(random), server_(loop, path) {
    UpstreamLimits limits;
    limits.running_max = 40;
    limits.waiting_max = 20;
    server_.streams_max = 30;
    upstream_ = MakeUpstream(loop, std::move(path), limits);
    server_.on_peer = [this](ServerPeer& peer) {
      peer.on_ended = [this](ServerPeer& self, int32_t stream) {
        if (random_->Below(20) == 0) return self.Reset(stream, NGHTTP2_REFUSED_STREAM);
        self.Head(stream, kHead);
        self.Say(stream, self.streams[stream].body, true, kTrailers);
      };
    };
  }

  void Step(bool going) {
    const uint64_t what = random_->Below(going ? 100 : 80);
    if (what >= 90) {
      Begin();
    } else if (what == 89 && random_->Below(4) == 0) {
      Disturb();
    } else if (!talks_.empty()) {
      auto& talk = talks_[random_->Below(talks_.size())];
      what < 50 ? Write(*talk) : Take(*talk);
      if (going && what == 60) {
        random_->Below(2) == 0 ? talk->heard.Drop() : talk->heard.Reset(NGHTTP2_CANCEL);
        talk->left = true;
      }
    }
    std::erase_if(talks_, [this](const auto& talk) { return Finish(*talk); });
  }

  size_t running() const { return talks_.size(); }
  size_t open() const { return upstream_->open(); }
  size_t whole() const { return whole_; }

 private:
  void Begin() {
    auto talk = std::make_unique<Talk>();
    const uint64_t size = random_->Below(4) == 0 ? random_->Below(300'000) : random_->Below(300);
    talk->body = Noise(random_, size);
    talk->heard.takes = random_->Below(2) == 0;
    talk->heard.Open(*upstream_, {{":method", "POST"}, {":scheme", "http"}, {":path", "/x"}, {":authority", "y"}},
                     size == 0 && random_->Below(2) == 0);
    talks_.push_back(std::move(talk));
  }

  void Write(Talk& talk) {
    if (!talk.heard.forward || talk.heard.over) return;
    const size_t left = talk.body.size() - talk.written;
    const size_t bytes = std::min<size_t>(left, random_->Below(2) == 0 ? random_->Below(100) : random_->Below(100'000));
    talk.heard.Write(std::string_view(talk.body).substr(talk.written, bytes), bytes == left);
    talk.written += bytes;
  }

  void Take(Talk& talk) {
    if (!talk.heard.forward || talk.heard.takes) return;
    const size_t bytes = random_->Below(talk.heard.data.size() - talk.untaken + 1);
    talk.heard.forward->Taken(bytes);
    talk.untaken += bytes;
  }

  void Disturb() {
    if (server_.peers.empty()) return;
    ServerPeer& peer = server_.last();
    switch (random_->Below(3)) {
      case 0:
        return peer.Close();
      case 1:
        return peer.Goaway(peer.streams.empty() ? 0 : peer.streams.rbegin()->first);
      default:
        return peer.Goaway(static_cast<int32_t>(2 * random_->Below(peer.streams.size() + 1) + 1));
    }
  }

  // Whether the call is over, and as it must be.
  bool Finish(Talk& talk) {
    Heard& heard = talk.heard;
    if (!heard.over) return false;
    CHECK(heard.mistakes == 0);
    CHECK(heard.passed_on <= talk.written);
    if (!talk.left && heard.trailers) {
      CHECK(heard.data == talk.body);
      CHECK(heard.passed_on == talk.body.size());
      ++whole_;
    }
    if (!talk.left) CHECK((heard.trailers || heard.reset || heard.lost));
    return true;
  }

  Seeded* const random_;
  FakeServer server_;
  std::unique_ptr<Upstream> upstream_;
  std::vector<std::unique_ptr<Talk>> talks_;
  size_t whole_ = 0;
};

}  // namespace

TEST_CASE("calls at random, with resets, goodbyes and broken connections, each end once and as they must") {
  Seeded random;
  const Scratch scratch;
  Running thread;
  std::unique_ptr<Chaos> chaos;
  thread.On([&] { chaos = std::make_unique<Chaos>(&thread.loop, scratch.path() / "front.sock", &random); });
  for (int pass = 0; pass < 3000; ++pass) {
    thread.On([&] {
      for (uint64_t steps = random.Below(8); steps > 0; --steps) chaos->Step(true);
    });
  }
  thread.Until([&] {
    for (int step = 0; step < 20; ++step) chaos->Step(false);
    return chaos->running() == 0;
  });
  thread.On([&] {
    CHECK(chaos->open() == 0);
    CHECK(chaos->whole() > 200);
    chaos.reset();
  });
}

namespace {

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string frame;
  for (const int shift : {16, 8, 0}) frame.push_back(static_cast<char>(payload.size() >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) frame.push_back(static_cast<char>(stream >> shift));
  return frame.append(payload);
}

// What a server might say to five calls, in HPACK's static table and literals.
std::string Conversation() {
  const std::string trailers("\x40\x0bgrpc-status\x01\x30", 15);
  std::string said = Frame(NGHTTP2_SETTINGS, 0, 0, "");
  for (const uint32_t stream : {1, 3, 5}) {
    said += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, "\x88");
    said += Frame(NGHTTP2_DATA, 0, stream, std::string(700, 'd'));
    said += Frame(NGHTTP2_PING, 0, 0, "12345678");
    said += Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, stream, trailers);
  }
  said += Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string("\0\0\x10\0", 4));
  said += Frame(NGHTTP2_RST_STREAM, 0, 7, std::string("\0\0\0\x7", 4));
  said += Frame(NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 9, std::string("\0\0\0\x2\x88", 5));
  said += Frame(NGHTTP2_GOAWAY, 0, 0, std::string("\0\0\0\x9\0\0\0\0", 8));
  return said;
}

std::string Damaged(Seeded* random, std::string said) {
  for (uint64_t times = 1 + random->Below(4); times > 0 && !said.empty(); --times) {
    const size_t place = random->Below(said.size());
    switch (random->Below(4)) {
      case 0:
        said[place] = static_cast<char>(random->Below(256));
        break;
      case 1:
        said.erase(place, 1 + random->Below(20));
        break;
      case 2:
        said.insert(place, Noise(random, 1 + random->Below(20)));
        break;
      default:
        said.resize(place + 1);
    }
  }
  return said;
}

}  // namespace

TEST_CASE("whatever bytes the server sends, calls end with it at the latest") {
  Seeded random;
  const Scratch scratch;
  Running thread;
  std::unique_ptr<Upstream> upstream;
  std::unique_ptr<FakeServer> server;
  const std::string path = scratch.path() / "front.sock";
  thread.On([&] {
    server = std::make_unique<FakeServer>(&thread.loop, path);
    upstream = MakeUpstream(&thread.loop, path, {});
  });
  for (int round = 0; round < 1500; ++round) {
    std::vector<Heard> calls(5);
    thread.On([&] {
      for (Heard& call : calls) {
        call.Open(*upstream, {{":method", "POST"}, {":scheme", "http"}, {":path", "/x"}, {":authority", "y"}}, false);
      }
    });
    thread.Until([&] { return !server->peers.empty() && server->last().streams.size() == calls.size(); });
    thread.On([&] { server->last().Raw(Damaged(&random, Conversation())); });
    thread.On([&] { server->last().Close(); });
    thread.Until([&] { return std::all_of(calls.begin(), calls.end(), [](const Heard& call) { return call.over; }); });
    thread.On([&] {
      for (Heard& call : calls) CHECK(call.mistakes == 0);
      CHECK(upstream->open() == 0);
      calls.clear();
      server->peers.clear();
    });
  }
  thread.On([&] {
    upstream.reset();
    server.reset();
  });
}
