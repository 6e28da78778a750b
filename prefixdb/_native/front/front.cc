#include "front/front.h"

#include <pthread.h>
#include <signal.h>

#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "front/descriptor.h"

namespace prefixdb::front {

namespace {

// One loop with everything that lives on its thread.
struct Lane {
  Loop loop;
  std::unique_ptr<Gateway> gateway;  // Belongs to the thread: made and destroyed there.
  std::thread thread;
};

// Signals are for Python's threads: a loop would be woken for nothing.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

struct Front::Parts {
  explicit Parts(FrontOptions options)
      : listening(options.listen_fd), services(std::move(options.settings), options.clock_ms, [this] { Settle(); }) {
    std::vector<Loop*> loops;
    for (int index = 0; index < options.threads; ++index) {
      loops.push_back(&lanes.emplace_back(std::make_unique<Lane>())->loop);
    }
    auto made = [this](Loop* loop, std::unique_ptr<Socket> socket) { LaneOf(loop).gateway->Serve(std::move(socket)); };
    listener = std::make_unique<Listener>(listening.Release(), std::move(loops), &services.metrics.connections,
                                          options.connections_max, std::move(made));
  }

  Lane& LaneOf(const Loop* loop) {
    size_t index = 0;
    while (&lanes[index]->loop != loop) ++index;
    return *lanes[index];
  }

  // Has `work` done on every loop's thread, soon. Nothing happens before the start and after the end.
  template <typename Work>
  void OnEach(Work work) {
    for (const auto& lane : lanes) {
      lane->loop.Post([gateway = &lane->gateway, work] {
        if (*gateway != nullptr) work(**gateway);
      });
    }
  }

  // What each gateway says, on its thread; nothing before the start and after the end.
  template <typename Question>
  auto AskEach(Question question) {
    using Answer = decltype(question(std::declval<Gateway&>()));
    const std::lock_guard lock(mutex);  // No loop ends meanwhile, so each comes to its task.
    std::vector<Answer> answers;
    if (!started || stopped) return answers;
    std::vector<std::future<Answer>> awaited;
    for (const auto& lane : lanes) {
      auto answered = std::make_shared<std::promise<Answer>>();
      awaited.push_back(answered->get_future());
      lane->loop.Post([gateway = &lane->gateway, answered = std::move(answered), question] {
        answered->set_value(*gateway == nullptr ? Answer() : question(**gateway));
      });
    }
    for (auto& each : awaited) answers.push_back(each.get());
    return answers;
  }

  void Settle() {
    for (const auto& lane : lanes) lane->loop.Settle();
    OnEach([](Gateway& gateway) { gateway.Recheck(); });
  }

  void StartLane(size_t index) {
    Lane* const lane = lanes[index].get();
    lane->loop.Post([lane, all = &services] { lane->gateway = Gateway::Make(&lane->loop, all); });
    const SignalsBlocked blocked;
    lane->thread = std::thread([lane] { lane->loop.Run(); });
    pthread_setname_np(lane->thread.native_handle(), ("front-" + std::to_string(index)).c_str());
  }

  // The committer answers writes of calls that are gone, too, and knows their loops by pointer: when this returns it
  // knows none any more. An engine that was exchanged has answered everything before it was closed.
  void WaitForCommitter() {
    const std::shared_ptr<Store> store = services.store.Get();
    if (store == nullptr) return;
    std::vector<CommitResult> none;
    static_cast<void>(store->Commit(std::make_unique<CommitRequest>(), &none));
    services.store.Set(nullptr);
  }

  Descriptor listening;  // Until there is a listener.
  Services services;     // Outlives what follows.
  std::vector<std::unique_ptr<Lane>> lanes;
  std::unique_ptr<Listener> listener;
  std::mutex mutex;
  bool started = false;  // Guarded by `mutex`, as what follows.
  bool stopped = false;
};

Front::Front(FrontOptions options) : parts_(std::make_unique<Parts>(std::move(options))) {}

Front::~Front() { Stop(); }

Services& Front::services() noexcept { return parts_->services; }

void Front::SetTls(std::shared_ptr<TlsServer> tls) { parts_->listener->SetTls(std::move(tls)); }

void Front::Start() {
  const std::lock_guard lock(parts_->mutex);
  if (parts_->started || parts_->stopped) return;
  parts_->started = true;
  for (size_t index = 0; index < parts_->lanes.size(); ++index) parts_->StartLane(index);
  parts_->listener->Start();
}

void Front::Drain(Failure failure) {
  parts_->OnEach([failure = std::move(failure)](Gateway& gateway) { gateway.Drain(failure); });
}

void Front::Cut(Failure failure) {
  parts_->OnEach([failure = std::move(failure)](Gateway& gateway) { gateway.Cut(failure); });
}

size_t Front::running() {
  size_t all = 0;
  for (const size_t each : parts_->AskEach([](Gateway& gateway) { return gateway.running(); })) all += each;
  return all;
}

Waiting Front::waiting() {
  Waiting all;
  for (const Waiting& each : parts_->AskEach([](Gateway& gateway) { return gateway.waiting(); })) {
    all.for_taking += each.for_taking;
    all.for_messages += each.for_messages;
  }
  return all;
}

void Front::Settle() { parts_->Settle(); }

void Front::Stop() {
  const std::lock_guard lock(parts_->mutex);
  if (std::exchange(parts_->stopped, true)) return;
  parts_->listener->Stop();
  parts_->services.upcalls.Close(Fail(Reason::kDraining));
  parts_->services.workers.Stop();
  for (const auto& lane : parts_->lanes) {
    lane->loop.Post([gateway = &lane->gateway] { gateway->reset(); });
    lane->loop.Stop();
  }
  for (const auto& lane : parts_->lanes) {
    if (lane->thread.joinable()) lane->thread.join();
  }
  parts_->WaitForCommitter();
}

}  // namespace prefixdb::front
