// What became of submitted commits, for a reader that polls a file descriptor (an asyncio loop).
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "commit.h"

namespace prefixdb {

// Thread-safe. The descriptor becomes readable when something was pushed since the last Take.
class CompletionQueue {
 public:
  struct Done {
    uint64_t ticket;
    Outcome outcome;
    std::vector<CommitResult> results;
  };

  CompletionQueue();
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  int fd() const noexcept { return fd_; }  // -1: the system had none to give.
  void Push(Done done);
  std::vector<Done> Take();

 private:
  const int fd_;
  std::mutex mutex_;
  std::vector<Done> done_;
};

}  // namespace prefixdb
