// Goal: namespaces take turns whatever each has queued, every job runs once or, after Stop, is destroyed without having
// run, and stopping never hangs.
//
// Method: threads that are held by a job until the test lets go, so that the order of what is queued is known.
#include <atomic>
#include <future>
#include <latch>
#include <vector>

#include "front/workers.h"
#include "support.h"

namespace {

using prefixdb::front::Workers;
using prefixdb::test::WaitFor;

// Holds one thread until it is let go.
class Gate {
 public:
  explicit Gate(Workers* workers) {
    workers->Run(UINT64_MAX, [this] {
      inside_.set_value();
      open_.get_future().wait();
    });
    inside_.get_future().wait();
  }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> inside_;
  std::promise<void> open_;
};

}  // namespace

TEST_CASE("namespaces take turns, one job each, and the jobs of one run in their order") {
  Workers workers(1);
  Gate gate(&workers);
  std::vector<std::string> order;
  std::latch all(9);
  const auto queue = [&](uint64_t namespace_id, const std::string& name) {
    workers.Run(namespace_id, [&, name] {
      order.push_back(name);
      all.count_down();
    });
  };
  for (const char* name : {"a1", "a2", "a3", "a4", "a5"}) queue(0, name);
  for (const char* name : {"b1", "b2"}) queue(7, name);
  queue(UINT64_MAX - 1, "c1");
  queue(3, "late");  // Behind those who have a turn coming, not behind all that they have queued.
  gate.Open();
  all.wait();
  workers.Stop();
  CHECK(order == std::vector<std::string>{"a1", "b1", "c1", "late", "a2", "b2", "a3", "a4", "a5"});
}

TEST_CASE("a namespace that queues again and again from its own jobs keeps nobody waiting") {
  Workers workers(1);
  std::atomic<bool> done{false};
  std::function<void()> again = [&] {
    if (!done) workers.Run(1, again);
  };
  for (int each = 0; each < 100; ++each) workers.Run(1, again);
  for (int turn = 0; turn < 100; ++turn) {
    std::promise<void> ran;
    workers.Run(2, [&] { ran.set_value(); });
    ran.get_future().wait();
  }
  done = true;
  workers.Stop();
}

TEST_CASE("as many jobs run at once as there are threads, of one namespace, too") {
  Workers workers(3);
  std::latch together(3);
  std::latch all(3);
  for (int each = 0; each < 3; ++each) {
    workers.Run(5, [&] {
      together.arrive_and_wait();
      all.count_down();
    });
  }
  all.wait();
}

TEST_CASE("every job of several threads runs once") {
  std::atomic<int> ran{0};
  {
    Workers workers(3);
    std::vector<std::thread> threads;
    for (uint64_t thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&, thread] {
        for (uint64_t number = 0; number < 5000; ++number) workers.Run(number % (thread + 2), [&] { ++ran; });
      });
    }
    for (std::thread& thread : threads) thread.join();
    WaitFor([&] { return ran == 15'000; });
  }
  CHECK(ran == 15'000);
}

TEST_CASE("Stop waits for the jobs that run, drops the rest, and a job after it is dropped at once") {
  auto held = std::make_shared<int>(0);
  std::atomic<int> ran{0};
  std::atomic<bool> first_done{false};
  Workers workers(1);
  Gate gate(&workers);
  for (uint64_t each = 0; each < 50; ++each) workers.Run(each % 3, [&, held] { ++ran; });
  std::vector<std::thread> stoppers;
  for (int each = 0; each < 3; ++each) {
    stoppers.emplace_back([&] {
      workers.Stop();
      CHECK(first_done);
    });
  }
  // Stop has begun when a new job is dropped at once.
  WaitFor([&] {
    auto probe = std::make_shared<int>(0);
    workers.Run(9, [probe] {});
    return probe.use_count() == 1;
  });
  first_done = true;
  gate.Open();
  for (std::thread& stopper : stoppers) stopper.join();
  CHECK(ran == 0);
  CHECK(held.use_count() == 1);
  workers.Run(1, [&, held] { ++ran; });
  workers.Stop();
  CHECK(held.use_count() == 1);
  CHECK(ran == 0);
}

TEST_CASE("dropping a job that queues another one when it goes does not hang") {
  struct Requeues {
    Workers* workers;
    ~Requeues() {
      workers->Run(1, [] {});
    }
  };
  Workers workers(1);
  Gate gate(&workers);
  for (int each = 0; each < 10; ++each) {
    workers.Run(1, [last = std::make_shared<Requeues>(&workers)] { FAIL("it was dropped"); });
  }
  std::thread stopper([&] { workers.Stop(); });
  // Stop has begun when a new job is dropped.
  WaitFor([&] {
    auto probe = std::make_shared<int>(0);
    workers.Run(2, [probe] {});
    return probe.use_count() == 1;
  });
  gate.Open();
  stopper.join();
}
