// A loop that runs, for the tests of what lives on one.
#pragma once

#include <future>
#include <thread>
#include <utility>

#include "front/loop.h"
#include "support.h"

namespace prefixdb::test {

// A loop in a thread of its own.
class Running {
 public:
  Running() : thread_([this] { loop.Run(); }) {}
  ~Running() { Join(); }
  void Join() {
    loop.Stop();
    if (thread_.joinable()) thread_.join();
  }
  // Runs it there and returns its answer.
  template <typename Function>
  auto On(Function function) {
    std::packaged_task<decltype(function())()> task(std::move(function));
    auto done = task.get_future();
    loop.Post([&task] { task(); });
    return done.get();
  }

  front::Loop loop;

 private:
  std::thread thread_;
};

}  // namespace prefixdb::test
