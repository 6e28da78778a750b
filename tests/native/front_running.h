// A loop in a thread of its own, for tests of what works on loops.
#pragma once

#include <future>
#include <thread>
#include <utility>

#include "front/loop.h"

namespace prefixdb::test {

class RunningLoop {
 public:
  RunningLoop() : thread_([this] { loop_.Run(); }) {}
  ~RunningLoop() { Join(); }
  RunningLoop(const RunningLoop&) = delete;
  RunningLoop& operator=(const RunningLoop&) = delete;

  front::Loop* get() { return &loop_; }
  front::Loop* operator->() { return &loop_; }

  void Join() {
    loop_.Stop();
    if (thread_.joinable()) thread_.join();
  }

  // Returns when everything that was posted before has run.
  void Flush() {
    std::promise<void> done;
    loop_.Post([&done] { done.set_value(); });
    done.get_future().wait();
  }

 private:
  front::Loop loop_;
  std::thread thread_;
};

}  // namespace prefixdb::test
