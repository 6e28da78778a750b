// Goal: a loop does what it was given in its order, on its thread, exactly once, loses no wakeup and forgets no promise
// about descriptors that are gone and timers that are not due.
//
// Method: real descriptors (socket pairs, eventfds) and threads; everything that waits waits for a condition.
// ThreadSanitizer runs these, too (BUILD=tsan).
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <numeric>
#include <vector>

#include "front/descriptor.h"
#include "front/loop.h"
#include "loop_support.h"

namespace {

using namespace std::chrono_literals;
using prefixdb::front::Descriptor;
using prefixdb::front::Loop;
using prefixdb::test::Running;
using prefixdb::test::WaitFor;

class Told : public Loop::Watcher {
 public:
  explicit Told(std::function<void(uint32_t)> then) : then_(std::move(then)) {}
  void OnReady(uint32_t events) override { then_(events); }

 private:
  std::function<void(uint32_t)> then_;
};

Descriptor ReadyDescriptor() {
  Descriptor made(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(made);
  return made;
}

}  // namespace

TEST_CASE("tasks of several threads run once each, on the loop's thread, in the order each thread posted them") {
  Running running;
  constexpr size_t kThreads = 4;
  constexpr size_t kEach = 20'000;
  std::vector<std::vector<size_t>> seen(kThreads);
  std::atomic<size_t> elsewhere{0};
  std::vector<std::thread> posters;
  for (size_t thread = 0; thread < kThreads; ++thread) {
    posters.emplace_back([&, thread] {
      for (size_t number = 0; number < kEach; ++number) {
        running.loop.Post([&, thread, number] {
          elsewhere += running.loop.OnOwnThread() ? 0 : 1;
          seen[thread].push_back(number);
        });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  running.Join();
  CHECK(elsewhere == 0);
  std::vector<size_t> expected(kEach);
  std::iota(expected.begin(), expected.end(), size_t{0});
  for (const auto& each : seen) CHECK(each == expected);
}

TEST_CASE("no wakeup is lost when a loop that waits is posted to, thousands of times") {
  Running running;
  for (int turn = 0; turn < 20'000; ++turn) CHECK(running.On([turn] { return turn; }) == turn);
}

TEST_CASE("what was posted before Stop is done, what comes after is destroyed and not done") {
  auto held = std::make_shared<int>(0);
  std::atomic<int> done{0};
  {
    Loop loop;
    loop.Post([&, held] { ++done; });
    loop.Stop();
    loop.Post([&, held] { done += 100; });
    loop.Stop();
    loop.Run();
    CHECK(done == 1);
    CHECK(held.use_count() == 1);
    loop.Post([&, held] { done += 100; });
    loop.Run();
    CHECK(held.use_count() == 1);
    loop.Post([&, held] { done += 100; });
    loop.After(0ms, [&, held] { done += 100; });
    loop.Defer([&, held] { done += 100; });
    CHECK(held.use_count() == 4);
  }
  CHECK(done == 1);
  CHECK(held.use_count() == 1);
}

TEST_CASE("whatever threads post while a loop stops and after it has ended is done or dropped, once, and not kept") {
  constexpr size_t kThreads = 3;
  auto held = std::make_shared<int>(0);
  std::array<std::vector<int>, kThreads> done;
  {
    Running running;
    std::atomic<size_t> begun{0};
    std::atomic<bool> ended{false};
    std::vector<std::thread> posters;
    for (std::vector<int>& mine : done) {
      posters.emplace_back([&] {
        for (int number = 0, after = 0; after < 10; ++number) {
          after += ended ? 1 : 0;
          running.loop.Post([&mine, number, held] { mine.push_back(number); });
          if (number == 1000) ++begun;
        }
      });
    }
    WaitFor([&] { return begun == kThreads; });
    running.Join();
    ended = true;
    for (std::thread& poster : posters) poster.join();
  }
  CHECK(held.use_count() == 1);
  // What was done is what came first, without a gap.
  for (const std::vector<int>& each : done) {
    std::vector<int> expected(each.size());
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(each == expected);
  }
}

TEST_CASE(
    "tasks that never ran are destroyed on the loop's thread, though their destructors post, defer and set timers") {
  Loop loop;
  std::vector<std::thread::id> where;
  struct Last {
    Loop* loop;
    std::vector<std::thread::id>* where;
    int again;
    ~Last() {
      where->push_back(std::this_thread::get_id());
      if (again == 0) return;
      auto next = std::make_shared<Last>(loop, where, again - 1);
      if (again % 3 == 0) loop->Post([next] {});
      if (again % 3 == 1) loop->Defer([next] {});
      if (again % 3 == 2) loop->After(1h, [next] {});
    }
  };
  std::thread thread([&] {
    loop.Post([&] { loop.After(1h, [last = std::make_shared<Last>(&loop, &where, 6)] {}); });
    loop.Post([&] { loop.Stop(); });
    loop.Run();
  });
  const auto own = thread.get_id();
  thread.join();
  CHECK(where == std::vector<std::thread::id>(7, own));
}

TEST_CASE(
    "a pass: descriptors, timers that are due, what was posted, what was deferred, and that until nothing is left") {
  Loop loop;
  std::string order;
  const Descriptor ready = ReadyDescriptor();
  Told told([&](uint32_t) {
    order += 'd';
    loop.Unwatch(ready.get());
    loop.After(0ms, [&] {
      order += 't';
      loop.After(0ms, [&] { order += 'T'; });  // The next pass.
    });
    loop.Defer([&] {
      order += 'f';
      loop.Defer([&] { order += 'F'; });  // Still this pass.
    });
  });
  loop.Watch(ready.get(), EPOLLIN, &told);
  loop.Post([&] {
    order += 'p';
    loop.Post([&] {
      order += 'P';  // The next pass.
      loop.Stop();
    });
  });
  loop.Run();
  CHECK(order == "dtpfFTP");
}

TEST_CASE("after Unwatch nobody is told, not even of what was ready in this pass, nor who watches the number anew") {
  Loop loop;
  // Both are ready in the same pass; whoever is told first takes the other's watch away and has its number used again.
  std::array<Descriptor, 2> ready = {ReadyDescriptor(), ReadyDescriptor()};
  const Descriptor quiet(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int told_first = 0;
  int told_again = 0;
  Told reused([&](uint32_t) { ++told_again; });
  std::array<std::unique_ptr<Told>, 2> tolds;
  for (size_t own = 0; own < 2; ++own) {
    tolds[own] = std::make_unique<Told>([&, own](uint32_t) {
      ++told_first;
      const int other = ready[1 - own].get();
      loop.Unwatch(other);
      tolds[1 - own].reset();
      REQUIRE(dup3(quiet.get(), other, O_CLOEXEC) == other);  // The same number, nothing to read.
      loop.Watch(other, EPOLLIN, &reused);
      loop.Unwatch(ready[own].get());
      loop.Post([&] { loop.Post([&] { loop.Stop(); }); });
    });
  }
  for (size_t own = 0; own < 2; ++own) loop.Watch(ready[own].get(), EPOLLIN, tolds[own].get());
  loop.Run();
  CHECK(told_first == 1);
  CHECK(told_again == 0);
}

TEST_CASE("a watch is told again as long as it is ready, of what it watches only, and can be changed") {
  Loop loop;
  std::array<int, 2> pair{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.data()) == 0);
  Descriptor ours(pair[0]);
  Descriptor theirs(pair[1]);
  std::vector<uint32_t> events;
  Told second([&](uint32_t each) {
    events.push_back(each);
    if (events.size() == 5) loop.Stop();
  });
  Told first([&](uint32_t each) {
    events.push_back(each);
    if (events.size() == 2) {
      loop.Rewatch(ours.get(), 0, &second);  // Nothing but the end.
      loop.Post([&] { loop.Rewatch(ours.get(), EPOLLIN, &second); });
    }
    if (events.size() > 2) theirs.Close();
  });
  REQUIRE(write(theirs.get(), "x", 1) == 1);
  loop.Watch(ours.get(), EPOLLIN | EPOLLOUT, &first);
  loop.Run();
  constexpr uint32_t kBoth = EPOLLIN | EPOLLOUT;
  CHECK(events == std::vector<uint32_t>{kBoth, kBoth, EPOLLIN, EPOLLIN, EPOLLIN});
}

TEST_CASE("what is not watched any more is not told, though it was ready in this pass") {
  Loop loop;
  const std::array<Descriptor, 2> ready = {ReadyDescriptor(), ReadyDescriptor()};
  int told = 0;
  std::array<std::unique_ptr<Told>, 2> tolds;
  for (size_t own = 0; own < 2; ++own) {
    tolds[own] = std::make_unique<Told>([&](uint32_t) {
      ++told;
      for (size_t each = 0; each < 2; ++each) loop.Rewatch(ready[each].get(), 0, tolds[each].get());
      loop.Post([&] { loop.Post([&] { loop.Stop(); }); });
    });
    loop.Watch(ready[own].get(), EPOLLIN, tolds[own].get());
  }
  loop.Run();
  CHECK(told == 1);
}

TEST_CASE("the end of a peer is told though nothing is watched") {
  Loop loop;
  std::array<int, 2> pair{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.data()) == 0);
  const Descriptor ours(pair[0]);
  Descriptor theirs(pair[1]);
  uint32_t told = 0;
  Told watcher([&](uint32_t events) {
    told = events;
    loop.Stop();
  });
  loop.Watch(ours.get(), 0, &watcher);
  loop.Post([&] { theirs.Close(); });
  loop.Run();
  CHECK(told == EPOLLHUP);
}

TEST_CASE("what cannot be watched is refused and leaves nothing behind") {
  Loop loop;
  prefixdb::test::Scratch scratch;
  const Descriptor file(open((scratch.path() / "file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  Told watcher([](uint32_t) {});
  CHECK_THROWS_AS(loop.Watch(file.get(), EPOLLIN, &watcher), std::system_error);
  CHECK_THROWS_AS(loop.Watch(file.get(), EPOLLIN, &watcher), std::system_error);
  loop.Unwatch(file.get());
  loop.Unwatch(4711);
  loop.Unwatch(-1);
}

TEST_CASE("timers run in the order of their times, never early, and a cancelled one lets go of what it holds at once") {
  Loop loop;
  std::string order;
  const auto begun = std::chrono::steady_clock::now();
  auto held = std::make_shared<int>(0);
  loop.After(20ms, [&] {
    order += 'c';
    CHECK(std::chrono::steady_clock::now() - begun >= 20ms);
    loop.Stop();
  });
  loop.After(-5ms, [&] { order += 'a'; });
  const Loop::TimerId cancelled = loop.After(5ms, [&, held] { order += 'x'; });
  loop.After(0ms, [&] { order += 'b'; });
  loop.After(std::chrono::milliseconds::max(), [&] { order += 'x'; });
  CHECK(held.use_count() == 2);
  loop.Cancel(cancelled);
  CHECK(held.use_count() == 1);
  loop.Cancel(cancelled);
  loop.Cancel(0);
  loop.Run();
  CHECK(order == "abc");
}

TEST_CASE("a timer may cancel itself and one that is due in the same pass") {
  Loop loop;
  int ran = 0;
  std::array<Loop::TimerId, 2> timers{};
  for (size_t own = 0; own < 2; ++own) {
    timers[own] = loop.After(0ms, [&] {
      ++ran;
      for (const Loop::TimerId each : timers) loop.Cancel(each);
      loop.Stop();
    });
  }
  loop.Run();
  CHECK(ran == 1);
}
