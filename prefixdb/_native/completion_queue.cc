#include "completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace prefixdb {

CompletionQueue::CompletionQueue() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

CompletionQueue::~CompletionQueue() {
  if (fd_ >= 0) close(fd_);
}

void CompletionQueue::Push(Done done) {
  bool was_empty = false;
  {
    const std::lock_guard lock(mutex_);
    was_empty = done_.empty();
    done_.push_back(std::move(done));
  }
  // Only a counter near 2^64 could refuse, and a reader that has not read since is told already.
  if (was_empty) static_cast<void>(eventfd_write(fd_, 1));
}

std::vector<CompletionQueue::Done> CompletionQueue::Take() {
  eventfd_t ignored = 0;
  // Read first: what is pushed between the two writes again.
  static_cast<void>(eventfd_read(fd_, &ignored));
  std::vector<Done> taken;
  const std::lock_guard lock(mutex_);
  taken.swap(done_);
  return taken;
}

}  // namespace prefixdb
