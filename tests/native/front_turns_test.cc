// Goal: calls that have to wait for the server behind wait by turns of their clients: who has many waits for himself.
//
// Method: the queue alone against lists made by hand; an upstream whose server answers what it is told to.
#include "front/turns.h"
#include "front_upstream_bench.h"

namespace {

using namespace prefixdb::test;
using namespace std::chrono_literals;
using prefixdb::front::Turns;
using prefixdb::front::UpstreamLimits;

const int kMany = 0;
const int kFew = 0;
const int kOne = 0;

TEST_CASE("clients take turns, each with its own in their order") {
  Turns<std::string> turns;
  for (const char* item : {"a1", "a2", "a3", "a4"}) turns.Push(&kMany, item);
  for (const char* item : {"b1", "b2"}) turns.Push(&kFew, item);
  std::string order;
  for (int each = 0; each < 2; ++each) order += turns.Pop();
  turns.Push(&kOne, "c1");
  CHECK(turns.size() == 5);
  while (!turns.empty()) order += turns.Pop();
  CHECK(order == "a1b1a2b2c1a3a4");
}

TEST_CASE("what is erased has no turn, nor has a client with nothing left") {
  Turns<std::string> turns;
  const auto first = turns.Push(&kMany, "a1");
  turns.Push(&kMany, "a2");
  const auto only = turns.Push(&kFew, "b1");
  turns.Push(&kOne, "c1");
  turns.Erase(first);
  turns.Erase(only);
  CHECK(turns.size() == 2);
  turns.Push(&kFew, "b2");
  std::string order;
  while (!turns.empty()) order += turns.Pop();
  CHECK(order == "a2c1b2");
}

// The paths of what the server has met, in order.
std::string Met(const Bench& bench) {
  std::string met;
  if (!bench.server || bench.server->peers.empty()) return met;
  for (const auto& [stream, exchange] : bench.server->peers.back()->streams) met += ValueOf(exchange.headers, ":path");
  return met;
}

Headers To(const std::string& path) {
  return {{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}};
}

TEST_CASE("a call waits for answers to a few others, not for all that somebody else has asked before") {
  UpstreamLimits limits;
  limits.unanswered_max = 2;
  limits.counted_for = 1h;
  Bench bench(limits);
  for (const char* path : {"/m1", "/m2", "/m3", "/m4", "/m5"}) bench.Open(true, To(path), &kMany);
  bench.Open(true, To("/one"), &kOne);
  bench.Until([&] { return Met(bench) == "/m1/m2"; });
  const auto head = [&](int32_t stream) { bench.On([&, stream] { bench.server->last().Head(stream, kHead); }); };
  SUBCASE("half of them answered makes room, an answer's beginning is enough") {
    head(1);
    bench.Until([&] { return Met(bench) == "/m1/m2/m3"; });
    head(3);
    bench.Until([&] { return Met(bench) == "/m1/m2/m3/one"; });
  }
  SUBCASE("a reset by the server makes room, one by the client does not: the server may be busy with it") {
    bench.On([&] { bench.sinks[0]->Drop(); });
    bench.Until([&] { return bench.server->last().streams[1].reset.has_value(); });
    bench.On([&] { bench.server->last().Ping(); });
    bench.Until([&] { return bench.server->last().pongs == 1; });
    bench.On([&] { CHECK(Met(bench) == "/m1/m2"); });
    bench.On([&] { bench.server->last().Reset(3, NGHTTP2_INTERNAL_ERROR); });
    bench.Until([&] { return Met(bench) == "/m1/m2/m3"; });
    head(5);
    bench.Until([&] { return Met(bench) == "/m1/m2/m3/one"; });
  }
  SUBCASE("a connection that breaks makes room") {
    bench.On([&] { bench.server->last().Close(); });
    bench.Until([&] { return bench.server->peers.size() == 2 && Met(bench) == "/m3/one"; });
  }
}

TEST_CASE("calls go on in portions: when half of what was sent is answered") {
  UpstreamLimits limits;
  limits.unanswered_max = 4;
  limits.counted_for = 1h;
  Bench bench(limits);
  for (int each = 0; each < 7; ++each) bench.Open(true);
  bench.Until([&] { return !bench.server->peers.empty() && bench.server->last().streams.size() == 4; });
  bench.On([&] { bench.server->last().Head(1, kHead); });
  bench.Until([&] { return bench.sinks[0]->heads == 1; });
  bench.Open(true);  // Room for it, too, only then.
  bench.On([&] { bench.server->last().Ping(); });
  bench.Until([&] { return bench.server->last().pongs == 1; });
  bench.On([&] {
    CHECK(bench.server->last().streams.size() == 4);
    bench.server->last().Head(3, kHead);
  });
  bench.Until([&] { return bench.server->last().streams.size() == 6; });
}

TEST_CASE("calls whose requests have not ended keep nobody waiting") {
  UpstreamLimits limits;
  limits.unanswered_max = 2;
  limits.counted_for = 1h;
  Bench bench(limits);
  for (int each = 0; each < 20; ++each) bench.Open(false, kRequest, &kMany);
  bench.Open(true, To("/one"), &kOne);
  bench.Until([&] { return !bench.server->peers.empty() && bench.server->last().streams.size() == 21; });
}

TEST_CASE("who is not answered in time keeps nobody waiting") {
  UpstreamLimits limits;
  limits.unanswered_max = 2;
  limits.counted_for = 1ms;
  Bench bench(limits);
  for (int each = 0; each < 20; ++each) bench.Open(true);
  bench.Until([&] { return !bench.server->peers.empty() && bench.server->last().streams.size() == 20; });
}

}  // namespace
