// See loop.h. Two things happen between threads, each with one word that both sides agree on:
//
// The mailbox. Whoever posts holds its lock, and so does the loop when it looks for the last time before it waits: it
// waits only if nothing is there, and says so (`waiting`) before it lets go of the lock. Whoever posts after that sees
// it and writes to the eventfd; whoever posts before has been seen. Only the first one writes.
//
// The pass. `state` counts passes and has two flags: a pass is running, somebody waits for its end. All changes of one
// word happen in one order, for every thread the same:
//   - Settle looks by fetch_or. If that comes before the loop begins a pass, the loop's exchange reads what Settle has
//     written, so whatever happened before Settle is visible in that pass. If it comes after, Settle sees the pass.
//   - To wait, Settle sets the flag by fetch_or. If that comes before the end of the pass, the end sees the flag, takes
//     the lock (by then Settle waits, or has not looked yet) and wakes. If it comes after, Settle sees the end.
#include "front/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <limits>
#include <system_error>
#include <utility>

#include "front/descriptor.h"
#include "front/timers.h"

namespace prefixdb::front {

namespace {

constexpr size_t kEventsPerPass = 256;
constexpr std::chrono::hours kNever{100 * 365 * 24};  // Longer delays would overflow the clock.
constexpr uint64_t kWakeup = UINT64_MAX;              // Of no watch: its descriptor would be negative.

// `state`: a pass number above two flags.
constexpr uint64_t kRunning = 1;
constexpr uint64_t kAwaited = 2;
constexpr uint64_t kOnePass = 4;

Descriptor Checked(int fd, const char* what) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), what);
  return Descriptor(fd);
}

}  // namespace

struct Loop::Parts {
  struct Watch {
    Watcher* watcher = nullptr;
    uint32_t events = 0;
    uint32_t made = 0;  // Tells the watches of one descriptor number apart: their events carry it.
  };

  Parts()
      : epoll(Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        wakeup(Checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
    // Edge-triggered: each write wakes once, and nothing has to be read.
    Control(EPOLL_CTL_ADD, wakeup.get(), EPOLLIN | EPOLLET, kWakeup);
  }

  void Control(int operation, int fd, uint32_t wanted, uint64_t tag) {
    epoll_event event{};
    event.events = wanted;
    event.data.u64 = tag;
    if (epoll_ctl(epoll.get(), operation, fd, &event) != 0) {
      throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
  }

  Watch* Find(int fd) {
    const auto place = static_cast<size_t>(fd);
    return fd >= 0 && place < watches.size() && watches[place].watcher != nullptr ? &watches[place] : nullptr;
  }

  int Wait(Time now);
  void Handle(int ready);
  void RunTimers(Time now);
  bool RunPosted();
  void RunDeferred();
  void BeginPass() noexcept;
  void EndPass() noexcept;
  void DestroyTasks();

  const Descriptor epoll;
  const Descriptor wakeup;

  // --- of the loop's thread
  std::vector<Watch> watches;  // By descriptor.
  uint32_t watches_made = 0;
  Timers timers;
  std::vector<Task> deferred;
  std::vector<Task> taken;  // Keeps its memory from pass to pass.
  std::array<epoll_event, kEventsPerPass> events;

  // --- of everyone
  std::mutex mutex;
  std::vector<Task> posted;          // Guarded by mutex.
  std::vector<Task> late;            // Guarded by mutex. Posted after Stop: never run.
  bool stopping = false;             // Guarded by mutex.
  std::atomic<bool> waiting{false};  // Set under mutex, by the loop; cleared by whoever sees it first.

  std::atomic<uint64_t> state{0};
  std::mutex settle_mutex;
  std::condition_variable settled;
};

namespace {

// Milliseconds until `due`, rounded up: a loop that woke too early would turn in circles until the time has come.
int UntilDue(Loop::Time now, Loop::Time due) {
  if (due <= now) return 0;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - now).count();
  constexpr int kLongest = std::numeric_limits<int>::max();
  return left < kLongest ? static_cast<int>(left) : kLongest;
}

}  // namespace

// Waits for whatever comes first and returns how many descriptors are ready.
int Loop::Parts::Wait(Time now) {
  int timeout = timers.empty() ? -1 : UntilDue(now, timers.next());
  {
    const std::lock_guard lock(mutex);
    if (!posted.empty() || stopping) timeout = 0;
    waiting.store(timeout != 0, std::memory_order_relaxed);
  }
  const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), timeout);
  // From here on what is posted is seen before the next wait.
  waiting.store(false, std::memory_order_relaxed);
  if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_wait");
  return ready < 0 ? 0 : ready;
}

void Loop::Parts::Handle(int ready) {
  for (int index = 0; index < ready; ++index) {
    const epoll_event event = events[static_cast<size_t>(index)];
    if (event.data.u64 == kWakeup) continue;
    const Watch* watch = Find(static_cast<int>(static_cast<uint32_t>(event.data.u64)));
    // Unwatched in this pass, and perhaps the number watched anew: the event is the old one's.
    if (watch == nullptr || watch->made != event.data.u64 >> 32) continue;
    const uint32_t wanted = event.events & (watch->events | EPOLLERR | EPOLLHUP);
    if (wanted != 0) watch->watcher->OnReady(wanted);
  }
}

void Loop::Parts::RunTimers(Time now) {
  // A timer that is set meanwhile, even for now, waits for the next pass.
  const uint64_t fence = timers.order();
  while (Task task = timers.TakeDue(now, fence)) task();
}

// False when the loop is to stop: this was the last of what it does.
bool Loop::Parts::RunPosted() {
  bool last = false;
  {
    const std::lock_guard lock(mutex);
    taken.swap(posted);
    last = stopping;
  }
  for (Task& task : taken) {
    task();
    task = nullptr;  // What it holds goes now, not after everybody else's.
  }
  taken.clear();
  return !last;
}

// Those too that are deferred meanwhile: the pass ends only when nothing is left to flush.
void Loop::Parts::RunDeferred() {
  for (size_t index = 0; index < deferred.size(); ++index) {
    const Task task = std::exchange(deferred[index], nullptr);
    task();
  }
  deferred.clear();
}

void Loop::Parts::BeginPass() noexcept {
  // Only the loop changes the number, so the exchange loses nothing but a flag that nobody needs while no pass runs.
  const uint64_t number = state.load(std::memory_order_relaxed) / kOnePass;
  state.exchange(number * kOnePass + kRunning, std::memory_order_acq_rel);
}

void Loop::Parts::EndPass() noexcept {
  const uint64_t number = state.load(std::memory_order_relaxed) / kOnePass;
  const uint64_t before = state.exchange((number + 1) * kOnePass, std::memory_order_acq_rel);
  if ((before & kAwaited) == 0) return;
  {
    const std::lock_guard lock(settle_mutex);
  }  // Whoever is between looking and waiting waits after this.
  settled.notify_all();
}

// Destroying a task may post, defer or set a timer: until nothing is left.
void Loop::Parts::DestroyTasks() {
  while (true) {
    std::array<std::vector<Task>, 3> rest;
    {
      const std::lock_guard lock(mutex);
      rest[0].swap(posted);
      rest[1].swap(late);
    }
    rest[2].swap(deferred);
    const Task timer = timers.TakeAny();
    if (!timer && rest[0].empty() && rest[1].empty() && rest[2].empty()) return;
  }
}

Loop::Loop() : owner_(std::thread::id()), now_(std::chrono::steady_clock::now()), parts_(std::make_unique<Parts>()) {}

Loop::~Loop() { parts_->DestroyTasks(); }

void Loop::Run() {
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  for (bool going = true; going;) {
    const int ready = parts_->Wait(std::chrono::steady_clock::now());
    parts_->BeginPass();
    now_ = std::chrono::steady_clock::now();
    parts_->Handle(ready);
    parts_->RunTimers(now_);
    going = parts_->RunPosted();
    parts_->RunDeferred();
    parts_->EndPass();
  }
  parts_->DestroyTasks();
  owner_.store(std::thread::id(), std::memory_order_relaxed);
}

void Loop::Stop() {
  bool wake = false;
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->stopping = true;
    wake = parts_->waiting.exchange(false, std::memory_order_relaxed);
  }
  if (wake) eventfd_write(parts_->wakeup.get(), 1);
}

void Loop::Post(Task task) {
  bool wake = false;
  {
    const std::lock_guard lock(parts_->mutex);
    (parts_->stopping ? parts_->late : parts_->posted).push_back(std::move(task));
    wake =
        parts_->waiting.load(std::memory_order_relaxed) && parts_->waiting.exchange(false, std::memory_order_relaxed);
  }
  if (wake) eventfd_write(parts_->wakeup.get(), 1);
}

void Loop::Defer(Task task) { parts_->deferred.push_back(std::move(task)); }

void Loop::Watch(int fd, uint32_t events, Watcher* watcher) {
  assert(fd >= 0 && watcher != nullptr && parts_->Find(fd) == nullptr);
  const auto place = static_cast<size_t>(fd);
  if (place >= parts_->watches.size()) parts_->watches.resize(place + 1);
  const uint32_t made = ++parts_->watches_made;
  parts_->Control(EPOLL_CTL_ADD, fd, events, (uint64_t{made} << 32) | static_cast<uint32_t>(fd));
  parts_->watches[place] = Parts::Watch{watcher, events, made};
}

void Loop::Rewatch(int fd, uint32_t events, Watcher* watcher) {
  Parts::Watch* watch = parts_->Find(fd);
  assert(watch != nullptr && watcher != nullptr);
  watch->watcher = watcher;
  if (watch->events == events) return;
  parts_->Control(EPOLL_CTL_MOD, fd, events, (uint64_t{watch->made} << 32) | static_cast<uint32_t>(fd));
  watch->events = events;
}

void Loop::Unwatch(int fd) {
  Parts::Watch* watch = parts_->Find(fd);
  if (watch == nullptr) return;
  *watch = Parts::Watch{};
  epoll_ctl(parts_->epoll.get(), EPOLL_CTL_DEL, fd, nullptr);  // Gone already when it was closed: just as well.
}

Loop::TimerId Loop::After(std::chrono::milliseconds delay, Task task) {
  // From the beginning of the pass, which is when whatever asks for this became ready.
  const Time from = OnOwnThread() ? now_ : std::chrono::steady_clock::now();
  return parts_->timers.Add(from + std::clamp<std::chrono::milliseconds>(delay, std::chrono::milliseconds(0), kNever),
                            std::move(task));
}

void Loop::Cancel(TimerId timer) {
  // Destroyed when the timers are in order again: what it holds may cancel others.
  const Task task = parts_->timers.Remove(timer);
}

void Loop::Settle() {
  assert(!OnOwnThread());
  // Reads the last value that anyone has written, and is read by whoever writes next.
  const uint64_t seen = parts_->state.fetch_or(0, std::memory_order_acq_rel);
  if ((seen & kRunning) == 0) return;
  std::unique_lock lock(parts_->settle_mutex);
  const uint64_t asked = parts_->state.fetch_or(kAwaited, std::memory_order_acq_rel);
  if (asked / kOnePass != seen / kOnePass) return;
  parts_->settled.wait(
      lock, [this, seen] { return parts_->state.load(std::memory_order_acquire) / kOnePass != seen / kOnePass; });
}

}  // namespace prefixdb::front
