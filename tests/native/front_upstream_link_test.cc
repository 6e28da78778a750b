// Goal: a connection to the server behind holds what the kernel has not taken, and nothing of what has gone.
//
// Method: a link on one end of a pair of sockets with small buffers and nghttp2's server session on the other: an
// upload that always has more to say than the kernel takes, so that something is left over whenever some of it has
// gone.
#include "front/upstream_link.h"
#include "front_upstream_server.h"

namespace {

using namespace prefixdb::test;
using prefixdb::front::UpstreamCall;
using prefixdb::front::UpstreamCallPtr;
using prefixdb::front::UpstreamLimits;
using prefixdb::front::UpstreamLink;

// Flushes its only link at the end of a pass, as the upstream does.
class Keeper : public UpstreamLink::Owner {
 public:
  explicit Keeper(Loop* loop) : loop_(loop) {}
  void WantFlush() override {
    if (!std::exchange(due_, true)) {
      loop_->Defer([this] {
        due_ = false;
        if (link == nullptr) return;
        link->Flush();
        most = std::max(most, link->held());
      });
    }
  }
  void Return(UpstreamCallPtr) override { FAIL("nothing is sent back here"); }

  std::unique_ptr<UpstreamLink> link;
  size_t most = 0;

 private:
  Loop* const loop_;
  bool due_ = false;
};

TEST_CASE("bytes that the kernel has taken cost nothing, though others always wait") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  const int small = 4096;
  REQUIRE(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
  Seeded random;
  const std::string body = Noise(&random, 8 << 20);
  Running thread;
  Keeper keeper(&thread.loop);
  std::unique_ptr<ServerPeer> peer;
  Heard heard;
  size_t open = 1;
  const auto call = std::make_shared<UpstreamCall>();
  thread.On([&] {
    peer = std::make_unique<ServerPeer>(&thread.loop, Descriptor(ends[1]), 10);
    keeper.link = std::make_unique<UpstreamLink>(&thread.loop, ends[0], UpstreamLimits(), &keeper);
    call->sink = &heard;
    call->open = &open;
    call->request = {{":method", "POST"}, {":scheme", "http"}, {":path", "/a.B/C"}, {":authority", "localhost"}};
    call->body.Add(body);
    call->body_ended = true;
    keeper.link->Begin(call);
  });
  thread.Until([&] { return peer->streams.contains(1) && peer->streams[1].ended; });
  thread.On([&] {
    CHECK(peer->streams[1].body == body);
    CHECK(keeper.most < 256 * 1024);
    keeper.link.reset();
    peer.reset();
  });
  thread.On([] {});  // That pass is over: nothing of it is due any more.
}

}  // namespace
