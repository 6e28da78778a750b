// A loop that runs, for the tests of what lives on one.
#pragma once

#include <future>
#include <thread>
#include <utility>

#include "front/loop.h"
#include "support.h"

namespace prefixdb::test {

// Runs `function` on the thread of a loop that runs, and returns its answer.
template <typename Function>
auto RunOn(front::Loop* loop, Function function) {
  std::packaged_task<decltype(function())()> task(std::move(function));
  auto done = task.get_future();
  loop->Post([&task] { task(); });
  return done.get();
}

// A loop in a thread of its own.
class Running {
 public:
  Running() : thread_([this] { loop.Run(); }) {}
  ~Running() { Join(); }
  void Join() {
    loop.Stop();
    if (thread_.joinable()) thread_.join();
  }
  template <typename Function>
  auto On(Function function) {
    return RunOn(&loop, std::move(function));
  }
  template <typename Condition>
  void Until(Condition condition) {
    WaitFor([&] { return On(condition); });
  }

  front::Loop loop;

 private:
  std::thread thread_;
};

}  // namespace prefixdb::test
