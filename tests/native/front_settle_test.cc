// Goal: whoever settles is told no earlier and no later than the end of the pass that runs, and what a pass has checked
// under an old answer has left by then (sessions.h builds on that).
//
// Method: a loop that is held inside of a pass, one that rests, and one that never does. ThreadSanitizer runs these,
// too (BUILD=tsan).
#include <atomic>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "loop_support.h"

using prefixdb::front::Loop;
using prefixdb::test::Running;

TEST_CASE("settling an idle loop, one that does not run yet and one that has ended returns at once") {
  Loop never;
  never.Settle();
  Running running;
  running.On([] { return 0; });
  for (int turn = 0; turn < 1000; ++turn) running.loop.Settle();
  running.Join();
  running.loop.Settle();
}

TEST_CASE("settling waits for the end of the pass that runs, what it has deferred included, and for no later one") {
  Running running;
  std::promise<void> inside;
  std::promise<void> go_on;
  std::atomic<int> steps{0};
  running.loop.Post([&] {
    running.loop.Defer([&] {
      inside.set_value();
      go_on.get_future().wait();
      running.loop.Defer([&] { steps = 1; });
    });
    running.loop.Post([&] { steps = 2; });
  });
  inside.get_future().wait();
  std::atomic<int> asking{0};
  std::atomic<int> settled{0};
  std::vector<std::thread> settlers;
  for (int each = 0; each < 3; ++each) {
    settlers.emplace_back([&] {
      ++asking;
      running.loop.Settle();
      CHECK(steps >= 1);
      ++settled;
    });
  }
  prefixdb::test::WaitFor([&] { return asking == 3; });
  CHECK(settled == 0);
  go_on.set_value();
  for (std::thread& settler : settlers) settler.join();
}

TEST_CASE("settling ends while the loop never rests") {
  Running running;
  std::function<void()> again = [&] { running.loop.Post(again); };
  running.loop.Post(again);
  for (int turn = 0; turn < 2000; ++turn) running.loop.Settle();
  CHECK(true);
}

TEST_CASE("what a pass has checked before a change has left when the change has settled") {
  // The promise as it is used: each pass checks a stamp and "sends" at its end; after a change has settled nothing that
  // was checked under the old stamp is sent any more.
  Running running;
  std::atomic<uint64_t> stamp{0};
  std::atomic<uint64_t> promised{0};  // Everything below this must not be sent any more.
  std::atomic<uint64_t> broken{0};
  std::function<void()> again = [&] {
    const uint64_t checked = stamp.load(std::memory_order_acquire);
    running.loop.Defer([&, checked] { broken += checked < promised.load() ? 1 : 0; });
    running.loop.Post(again);
  };
  running.loop.Post(again);
  for (uint64_t change = 1; change <= 5000; ++change) {
    stamp.store(change, std::memory_order_release);
    running.loop.Settle();
    promised.store(change);
  }
  running.Join();
  CHECK(broken == 0);
}
