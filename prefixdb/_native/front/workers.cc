#include "front/workers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace prefixdb::front {

using Job = std::function<void()>;

struct Workers::Parts {
  // Waits for the next job; an empty one when there will be none.
  Job Next();
  void Work();

  std::mutex mutex;
  std::condition_variable changed;
  // A namespace is in `turns` exactly once while it has jobs here.
  std::unordered_map<uint64_t, std::deque<Job>> queues;
  std::deque<uint64_t> turns;
  bool stopping = false;

  std::mutex stop_mutex;  // Of whoever ends the threads.
  std::vector<std::thread> threads;
};

Job Workers::Parts::Next() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [this] { return stopping || !turns.empty(); });
  if (stopping) return {};
  const uint64_t namespace_id = turns.front();
  turns.pop_front();
  const auto queue = queues.find(namespace_id);
  Job job = std::move(queue->second.front());
  queue->second.pop_front();
  if (queue->second.empty()) {
    queues.erase(queue);
  } else {
    turns.push_back(namespace_id);
  }
  return job;
}

void Workers::Parts::Work() {
  while (const Job job = Next()) job();
}

Workers::Workers(int threads) : parts_(std::make_unique<Parts>()) {
  parts_->threads.reserve(static_cast<size_t>(threads));
  try {
    for (int made = 0; made < threads; ++made) parts_->threads.emplace_back([parts = parts_.get()] { parts->Work(); });
  } catch (...) {  // No thread left to be had: the destructor will not run.
    Stop();
    throw;
  }
}

Workers::~Workers() { Stop(); }

void Workers::Run(uint64_t namespace_id, Job job) {
  {
    const std::lock_guard lock(parts_->mutex);
    if (parts_->stopping) return;  // The job goes with this call.
    std::deque<Job>& queue = parts_->queues[namespace_id];
    if (queue.empty()) parts_->turns.push_back(namespace_id);
    queue.push_back(std::move(job));
  }
  parts_->changed.notify_one();
}

void Workers::Stop() {
  const std::lock_guard ending(parts_->stop_mutex);
  decltype(parts_->queues) dropped;  // Destroyed without the lock: what a job holds may call Run.
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->stopping = true;
    parts_->turns.clear();
    dropped.swap(parts_->queues);
  }
  parts_->changed.notify_all();
  for (std::thread& thread : parts_->threads) thread.join();
  parts_->threads.clear();
}

}  // namespace prefixdb::front
