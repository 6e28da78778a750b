#include "use_count.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace prefixdb {

namespace {

std::atomic<uint64_t> generation{0};

// RocksDB's static destructors join threads that only the parent has: a child that exits would hang. What is registered
// last runs first, and ends the process instead.
void SkipDestructors(int status, void*) {
  std::fflush(nullptr);
  _exit(status);
}

void InChild() {
  generation.fetch_add(1, std::memory_order_relaxed);
  static_cast<void>(on_exit(&SkipDestructors, nullptr));
}

const int registered = pthread_atfork(nullptr, nullptr, &InChild);

}  // namespace

uint64_t ForkGeneration() noexcept {
  static_cast<void>(registered);
  return generation.load(std::memory_order_relaxed);
}

}  // namespace prefixdb
