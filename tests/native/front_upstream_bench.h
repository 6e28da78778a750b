// An upstream on a loop of its own and the server behind it, played by the test.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "front_upstream_server.h"

namespace prefixdb::test {

inline const Headers kRequest = {{":method", "POST"},
                                 {":scheme", "http"},
                                 {":path", "/prefixdb.v1.Auth/WhoAmI"},
                                 {":authority", "localhost"},
                                 {"te", "trailers"},
                                 {"content-type", "application/grpc"},
                                 {"authorization", "Bearer secret"},
                                 {"some-bin", "AAEC"},
                                 {"some-bin", "AwQF"},
                                 {"prefixdb-peer", "ipv4:127.0.0.1:4711"}};
inline const Headers kHead = {{":status", "200"}, {"content-type", "application/grpc"}};
inline const Headers kTrailers = {{"grpc-status", "7"}, {"grpc-message", "ends with a space "}};

// A loop with an upstream and the server behind it.
class Bench {
 public:
  explicit Bench(const front::UpstreamLimits& limits = {}, bool listening = true) {
    thread.On([&] {
      if (listening) Listen();
      upstream = front::MakeUpstream(&thread.loop, path, limits);
    });
  }
  ~Bench() {
    size_t mistakes = 0;
    thread.On([&] {
      upstream.reset();
      for (const auto& sink : sinks) mistakes += sink->mistakes;
      sinks.clear();
      server.reset();
    });
    CHECK(mistakes == 0);
  }
  void Listen() { server = std::make_unique<FakeServer>(&thread.loop, path); }

  Heard* Open(bool end_stream = false, const Headers& request = kRequest, const void* client = nullptr) {
    return thread.On([&] {
      sinks.push_back(std::make_unique<Heard>());
      sinks.back()->Open(*upstream, request, end_stream, client);
      return sinks.back().get();
    });
  }
  // The call's stream, when its headers have come.
  std::pair<ServerPeer*, int32_t> Met(size_t streams = 1) {
    thread.Until([&] { return server && !server->peers.empty() && server->last().streams.size() >= streams; });
    return thread.On([&] {
      ServerPeer& peer = server->last();
      return std::pair(&peer, peer.streams.rbegin()->first);
    });
  }
  void Until(const std::function<bool()>& condition) { thread.Until(condition); }
  void On(const std::function<void()>& task) { thread.On(task); }

  const Scratch scratch;
  const std::string path = scratch.path() / "front.sock";
  Running thread;
  std::unique_ptr<FakeServer> server;
  std::unique_ptr<front::Upstream> upstream;
  std::vector<std::unique_ptr<Heard>> sinks;
};

}  // namespace prefixdb::test
