// Goal: what a forwarded call's two ends say reaches the other end unchanged, in order, at the pace of the slower one;
// every call ends exactly once, whatever becomes of the connection; nobody is told anything afterwards.
//
// Method: nghttp2's server session in the same loop does on each stream what a test says (front_upstream_server.h). The
// sinks count whatever they must not be told: something after the end, or inside a call of theirs.
#include "front/pending_bytes.h"
#include "front_upstream_bench.h"

namespace {

using namespace prefixdb::test;
using namespace std::chrono_literals;
using prefixdb::front::PendingBytes;
using prefixdb::front::UpstreamLimits;

}  // namespace

TEST_CASE("headers, bytes and trailers pass unchanged, and a call that is over is not reset") {
  Bench bench;
  Heard* call = bench.Open();
  const auto [peer, stream] = bench.Met();
  const std::string body(100'000, 'q');
  bench.On([&] {
    CHECK(peer->streams[stream].headers == kRequest);
    call->Write(body.substr(0, 5), false);
    call->Write(body.substr(5), false);
    call->Write("", true);
  });
  bench.Until([&] { return peer->streams[stream].ended; });
  const std::string answer(200'000, 'a');
  bench.On([&] {
    CHECK(peer->streams[stream].body == body);
    CHECK(call->passed_on == body.size());
    peer->Head(stream, kHead);
    peer->Say(stream, answer, true, kTrailers);
  });
  bench.Until([&] { return call->over; });
  bench.On([&] {
    CHECK(call->heads == 1);
    CHECK(call->headers == kHead);
    CHECK(call->data == answer);
    CHECK(call->trailers == kTrailers);
    CHECK(bench.upstream->open() == 0);
    call->Drop();
    peer->Ping();
  });
  bench.Until([&] { return peer->pongs == 1; });
  CHECK(peer->resets == 0);
}

TEST_CASE("an answer of one block of headers is the last that is told, and what the client still has is not wanted") {
  Bench bench;
  Heard* call = bench.Open();
  const auto [peer, stream] = bench.Met();
  Headers only = kHead;
  only.insert(only.end(), kTrailers.begin(), kTrailers.end());
  bench.On([&] { peer->Head(stream, only, true); });
  bench.Until([&] { return call->over; });
  bench.On([&] {
    CHECK(call->headers == only);
    CHECK_FALSE(call->trailers.has_value());
    call->forward->Write("too late", true);
    call->Drop();
  });
  bench.Until([&] { return peer->streams[stream].reset == NGHTTP2_CANCEL; });
  CHECK(peer->streams[stream].body.empty());
}

TEST_CASE("words in between are no headers, and an answer may end with its bytes") {
  Bench bench;
  Heard* call = bench.Open(true);
  const auto [peer, stream] = bench.Met();
  bench.On([&] {
    CHECK(peer->streams[stream].ended);
    peer->Head(stream, {{":status", "103"}, {"link", "x"}});
    peer->Head(stream, {{":status", "100"}});
    peer->Head(stream, kHead);
    peer->Say(stream, "abc", true);
  });
  bench.Until([&] { return call->over; });
  CHECK(call->heads == 1);
  CHECK(call->headers == kHead);
  CHECK(call->data == "abc");
  CHECK(call->trailers == Headers());
}

TEST_CASE("who takes nothing gets one window and holds nobody up") {
  Bench bench;
  Heard* slow = bench.Open(true);
  const auto [peer, first] = bench.Met();
  const std::string answer(1 << 20, 'a');
  bench.On([&] {
    slow->takes = false;
    peer->Head(first, kHead);
    peer->Say(first, answer, true, kTrailers);
  });
  Heard* quick = bench.Open(true);
  const auto [same, second] = bench.Met(2);
  REQUIRE(same == peer);
  bench.On([&] {
    peer->Head(second, kHead);
    peer->Say(second, answer, true, kTrailers);
  });
  bench.Until([&] { return quick->over; });
  bench.On([&] {
    CHECK(quick->data == answer);
    CHECK(slow->data.size() == static_cast<size_t>(UpstreamLimits().stream_window_bytes));
    slow->forward->Taken(slow->data.size() / 2);
  });
  bench.Until([&] { return slow->data.size() >= static_cast<size_t>(UpstreamLimits().stream_window_bytes) * 5 / 4; });
  bench.On([&] {
    CHECK_FALSE(slow->over);
    slow->takes = true;
    slow->forward->Taken(10 * answer.size());  // More than there was: nobody has room for the rest.
  });
  bench.Until([&] { return slow->over; });
  CHECK(slow->data == answer);
}

TEST_CASE("what the server does not take is not asked of the client") {
  Bench bench;
  Heard* call = bench.Open();
  const auto [peer, stream] = bench.Met();
  const std::string body(1 << 20, 'q');
  bench.On([&] {
    peer->takes = false;
    call->Write(body, true);
  });
  bench.Until([&] { return call->passed_on == 65535; });
  bench.On([&] { peer->Ping(); });
  bench.Until([&] { return peer->pongs == 1; });
  CHECK(call->passed_on == 65535);
  CHECK(peer->streams[stream].body.size() == 65535);
  bench.On([&] { peer->Take(); });
  bench.Until([&] { return peer->streams[stream].ended; });
  CHECK(peer->streams[stream].body == body);
  CHECK(call->passed_on == body.size());
}

TEST_CASE("bytes that have gone cost nothing, also when others come before the last") {
  Seeded random;
  const std::string sent = Noise(&random, 16 << 20);
  PendingBytes pending;
  std::string got;
  size_t most = 0;
  for (size_t added = 0; added < sent.size() || !pending.empty();) {
    const size_t more = std::min<size_t>(sent.size() - added, random.Below(30'000));
    pending.Add(std::string_view(sent).substr(added, more));
    added += more;
    char buffer[16'384];
    got.append(buffer, pending.Take(buffer, pending.size() > 60'000 || added == sent.size() ? sizeof(buffer) : 100));
    most = std::max(most, pending.capacity());
  }
  CHECK(got == sent);
  CHECK(most < 1 << 20);
  CHECK(pending.capacity() <= 64 * 1024);
}

TEST_CASE("resets pass with their reason, both ways") {
  Bench bench;
  Heard* refused = bench.Open();
  const auto [peer, first] = bench.Met();
  bench.On([&] { peer->Reset(first, NGHTTP2_REFUSED_STREAM); });
  bench.Until([&] { return refused->over; });
  CHECK(refused->reset == NGHTTP2_REFUSED_STREAM);
  Heard* leaving = bench.Open();
  const int32_t second = bench.Met(2).second;
  bench.On([&] { leaving->Reset(NGHTTP2_ENHANCE_YOUR_CALM); });
  bench.Until([&] { return peer->streams[second].reset.has_value(); });
  CHECK(peer->streams[second].reset == NGHTTP2_ENHANCE_YOUR_CALM);
  bench.On([&] { leaving->Drop(); });
  Heard* gone = bench.Open();
  const int32_t third = bench.Met(3).second;
  bench.On([&] { gone->Drop(); });
  bench.Until([&] { return peer->streams[third].reset.has_value(); });
  CHECK(peer->streams[third].reset == NGHTTP2_CANCEL);
  CHECK(peer->resets == 2);
  CHECK(bench.upstream->open() == 0);
}

TEST_CASE("a call that is gone in the pass it came in is never heard of") {
  Bench bench;
  Heard* first = bench.Open();
  const auto [peer, stream] = bench.Met();
  bench.On([&] {
    Heard brief;
    brief.Open(*bench.upstream, kRequest, false);
    brief.Write("something", false);
    brief.Drop();
  });
  Heard* last = bench.Open();
  const int32_t second = bench.Met(2).second;
  CHECK(peer->streams.size() == 2);
  bench.On([&] {
    first->Drop();
    peer->Head(second, kHead, true);
  });
  bench.Until([&] { return last->over; });
}

TEST_CASE(
    "calls that run when the server says goodbye end there; new ones, and those not sent, go to a new connection") {
  Bench bench;
  bench.On([&] { bench.server->streams_max = 2; });
  Heard* one = bench.Open();
  bench.Met(1);
  Heard* two = bench.Open();
  const auto [peer, second] = bench.Met(2);
  Heard* three = bench.Open();
  bench.On([&] {
    three->Write("kept", true);
    peer->Goaway(1);  // The second was not looked at.
  });
  bench.Until([&] { return two->over && bench.server->peers.size() == 2 && bench.server->last().streams.size() == 1; });
  CHECK(two->reset == NGHTTP2_REFUSED_STREAM);
  ServerPeer* next = &bench.server->last();
  bench.Until([&] { return next->streams.begin()->second.ended; });
  bench.On([&] {
    CHECK(next->streams.begin()->second.body == "kept");
    next->Head(next->streams.begin()->first, kHead, true);
    CHECK_FALSE(peer->gone());
    peer->Head(1, kHead, true);
  });
  bench.Until([&] { return one->over && three->over; });
  bench.On([&] { one->Drop(); });
  bench.Until([&] { return peer->gone(); });
  CHECK(one->headers == kHead);
  CHECK(three->headers == kHead);
  CHECK_FALSE(next->gone());
}

TEST_CASE("a server that says goodbye to everybody at once is left in peace") {
  Bench bench;
  bench.On([&] { bench.server->on_peer = [](ServerPeer& peer) { peer.Goaway(0); }; });
  for (int round = 0; round < 3; ++round) {
    Heard* call = bench.Open();
    bench.Until([&] { return call->over; });
    CHECK((call->reset == NGHTTP2_REFUSED_STREAM || call->lost == false));
  }
  CHECK(bench.server->peers.size() < 20);
}

TEST_CASE("calls beyond what the server allows wait their turn, and beyond that are lost at once") {
  UpstreamLimits limits;
  limits.waiting_max = 3;
  Bench bench(limits);
  bench.On([&] { bench.server->streams_max = 2; });
  bench.Open(true);
  bench.Met(1);
  for (int more = 0; more < 4; ++more) bench.Open(true);
  Heard* beyond = bench.Open(true);
  bench.Until([&] { return beyond->over; });
  CHECK(beyond->lost == false);
  ServerPeer* peer = bench.Met(2).first;
  bench.On([&] { bench.sinks[2]->Drop(); });  // Its place is free again.
  Heard* late = bench.Open(true);
  size_t most = 0;
  bench.Until([&] {
    most = std::max(most, peer->running());
    for (auto& [stream, exchange] : peer->streams) {
      if (!exchange.closed) return peer->Head(stream, kHead, true), false;
    }
    return late->over;
  });
  CHECK(most == 2);
  CHECK(peer->streams.size() == 5);
  bench.On([&] {
    for (const size_t each : {0, 1, 3, 4, 6}) CHECK(bench.sinks[each]->headers == kHead);
    CHECK(bench.upstream->open() == 0);
  });
}

TEST_CASE("while nobody listens calls are lost before they began, and the server is found when it is back") {
  UpstreamLimits limits;
  limits.pause = 20ms;
  Bench bench(limits, false);
  Heard* call = bench.Open();
  bench.Until([&] { return call->over; });
  CHECK(call->lost == false);
  bench.On([&] { bench.Listen(); });
  WaitFor([&] {
    Heard* again = bench.Open();
    bench.Until([&] { return again->over || !bench.server->peers.empty(); });
    return !again->over;
  });
  Heard* last = bench.Open(true);
  const auto [peer, stream] = bench.Met(2);
  bench.On([&] { peer->Head(stream, kHead, true); });
  bench.Until([&] { return last->over; });
  CHECK(last->headers == kHead);
}

TEST_CASE("a server whose queue of connections is full is waited for") {
  UpstreamLimits limits;
  limits.patience = 200ms;
  Bench bench(limits, false);
  std::vector<Descriptor> filling;
  bench.On([&] {
    bench.server = std::make_unique<FakeServer>(&bench.thread.loop, bench.path, 0);
    bench.server->accepts = false;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, bench.path.data(), bench.path.size());
    for (int result = 0; result == 0;) {
      filling.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      result = connect(filling.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    }
  });
  SUBCASE("until it accepts") {
    Heard* call = bench.Open(true);
    bench.On([&] {
      CHECK_FALSE(call->over);
      bench.server->on_peer = [&](ServerPeer& peer) {
        peer.on_ended = [](ServerPeer& self, int32_t stream) { self.Head(stream, kHead, true); };
      };
      bench.server->Accept();
    });
    bench.Until([&] { return call->over; });
    CHECK(call->headers == kHead);
  }
  SUBCASE("but not for ever") {
    Heard* call = bench.Open(true);
    bench.Until([&] { return call->over; });
    CHECK(call->lost == false);
  }
}

TEST_CASE("a connection that breaks ends its calls, and the next call makes another") {
  Bench bench;
  Heard* one = bench.Open();
  Heard* two = bench.Open();
  Heard* three = bench.Open();
  ServerPeer* peer = bench.Met(3).first;
  bench.On([&] {
    // Whoever hears of it first takes the others down: they are not told any more.
    for (Heard* each : {one, two, three}) {
      each->on_over = [=] {
        for (Heard* other : {one, two, three}) {
          if (other != each) other->Drop();
        }
      };
    }
    peer->Close();
  });
  bench.Until([&] { return one->over && two->over && three->over; });
  CHECK((one->lost == true) + (two->lost == true) + (three->lost == true) == 1);
  Heard* again = bench.Open(true);
  bench.Until([&] { return bench.server->peers.size() == 2 && bench.server->last().streams.size() == 1; });
  bench.On([&] { bench.server->last().Head(1, kHead, true); });
  bench.Until([&] { return again->over; });
  CHECK(again->headers == kHead);
}

TEST_CASE("numbers of streams that are used up mean a new connection") {
  UpstreamLimits limits;
  limits.first_stream = limits.last_stream - 2;
  Bench bench(limits);
  bench.On([&] {
    bench.server->on_peer = [](ServerPeer& peer) {
      peer.on_ended = [](ServerPeer& self, int32_t stream) { self.Head(stream, kHead, true); };
    };
  });
  for (int round = 0; round < 6; ++round) {
    Heard* call = bench.Open(true);
    bench.Until([&] { return call->over; });
    CHECK(call->headers == kHead);
  }
  CHECK(bench.server->peers.size() == 3);
}

TEST_CASE("headers beyond all measure end their call only") {
  Bench bench;
  Heard* fine = bench.Open();
  const auto [peer, first] = bench.Met();
  Headers endless = kRequest;
  endless.emplace_back("long", "");
  for (const size_t bytes : {30'000, 61'000, 300'000}) {
    endless.back().second.assign(bytes, 'x');
    Heard* asks = bench.Open(true, endless);
    if (bytes == 30'000) {
      const int32_t stream = bench.Met(2).second;
      bench.On([&] { peer->Reset(stream, NGHTTP2_INTERNAL_ERROR); });
    }
    bench.Until([&] { return asks->over; });
    CHECK(asks->reset == NGHTTP2_INTERNAL_ERROR);
  }
  Heard* told = bench.Open(true);
  const int32_t second = bench.Met(3).second;
  bench.On([&] {
    Headers many = kHead;
    for (int each = 0; each < 20; ++each) many.emplace_back("long", std::string(4000, 'x'));
    peer->Head(second, many);
  });
  bench.Until([&] { return told->over; });
  CHECK(told->reset == NGHTTP2_INTERNAL_ERROR);
  bench.On([&] { peer->Head(first, kHead, true); });
  bench.Until([&] { return fine->over; });
  CHECK(fine->headers == kHead);
}

TEST_CASE("what is left of calls does no harm when the upstream is gone") {
  Bench bench;
  Heard* running = bench.Open();
  bench.Met();
  bench.On([&] {
    Heard waiting;
    waiting.Open(*bench.upstream, kRequest, false);
    bench.upstream.reset();
    for (Heard* each : {running, &waiting}) {
      each->Write("nobody", false);
      each->forward->Taken(10);
      each->Reset(NGHTTP2_CANCEL);
      each->Drop();
      CHECK(each->mistakes == 0);
    }
  });
}
