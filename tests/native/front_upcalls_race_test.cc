// Goal: whatever happens at the same time, every question is answered once, on the loop that asked, and nobody is
// handed an answer that does not know of everything that was answered before they asked.
//
// Method: loops ask, a thread answers as Python does, two others change what is asked about and say when they have
// answered. ThreadSanitizer runs this, too (BUILD=tsan).
#include <array>

#include "front/upcalls.h"
#include "front_running.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::AdmitQuestion;
using front::Admitted;
using front::Changes;
using front::Question;
using front::Reason;
using front::Session;
using front::SessionTable;
using front::Upcalls;

Session Of(uint64_t namespace_id) {
  Session session;
  session.namespace_id = namespace_id;
  session.ends_at_ms = UINT64_MAX;
  return session;
}

// Loops ask, one thread answers as Python would, others change. `truth` is durable and visible before Changed; whoever
// is handed a session must be handed one that knows every change which was answered before they asked.
struct Crowd {
  Crowd() : changes([this] { Settle(); }), table(2, 1 << 20), upcalls(&changes, &table, 1'000) {}

  void Settle() {
    for (RunningLoop& loop : loops) loop->Settle();
  }

  void Ask(RunningLoop* loop, uint64_t seed) {
    if (ended) return;
    const uint64_t which = seed % kNamespaces;
    const uint64_t known = answered[which].load();
    ++asked;
    upcalls.Admit(loop->get(), {std::to_string(which), ""}, [this, loop, which, known, seed](const Admitted& admitted) {
      ++heard;
      if (!loop->get()->OnOwnThread()) ++mistakes;
      if (admitted.session != nullptr) {
        if (admitted.session->namespace_id != which || admitted.session->guard_version < known) ++mistakes;
      } else if (admitted.refusal->name == "DISK_FULL" ? refused_at[which] < known
                                                       : admitted.refusal->name != "WRITE_STALL") {
        ++mistakes;
      }
      loop->get()->Post([this, loop, seed] { Ask(loop, seed * 6364136223846793005ull + 1442695040888963407ull); });
    });
  }

  void Answer(std::mt19937_64* draw) {
    for (const Question& question : upcalls.Take(3)) {
      const uint64_t which = std::stoull(*std::get<AdmitQuestion>(question.what).token);
      const uint64_t known = truths[which];
      if ((*draw)() % 4 == 0) std::this_thread::yield();
      if ((*draw)() % 8 == 0) {
        refused_at[which] = known;
        upcalls.AnswerFailure(question.number, front::Fail(Reason::kDiskFull));
        continue;
      }
      Session session = Of(which);
      session.guard_version = known;
      upcalls.AnswerAdmitted(question.number, std::move(session), which == 0);
    }
  }

  void Change(std::mt19937_64* draw) {
    const uint64_t which = (*draw)() % kNamespaces;
    const uint64_t truth = ++truths[which];
    changes.Changed(which);
    uint64_t before = answered[which].load();
    while (before < truth && !answered[which].compare_exchange_weak(before, truth)) {
    }
  }

  static constexpr uint64_t kNamespaces = 3;
  std::array<RunningLoop, 2> loops;
  Changes changes;
  SessionTable table;
  Upcalls upcalls;
  std::array<std::atomic<uint64_t>, kNamespaces> truths{};
  std::array<std::atomic<uint64_t>, kNamespaces> answered{};
  std::array<std::atomic<uint64_t>, kNamespaces> refused_at{};
  std::atomic<bool> ended{false};
  std::atomic<uint64_t> asked{0};
  std::atomic<uint64_t> heard{0};
  std::atomic<uint64_t> mistakes{0};
};

}  // namespace

TEST_CASE("under load everybody hears once, on their loop, what knows of all that was answered before they asked") {
  Seeded random;
  Crowd crowd;
  for (RunningLoop& loop : crowd.loops) {
    for (int asker = 0; asker < 4; ++asker) {
      loop->Post([&crowd, &loop, seed = random()] { crowd.Ask(&loop, seed); });
    }
  }
  std::atomic<bool> answering{true};
  std::thread python([&crowd, &answering, seed = random()] {
    std::mt19937_64 draw(seed);
    while (answering) crowd.Answer(&draw);
  });
  std::vector<std::thread> changers;
  for (int each = 0; each < 2; ++each) {
    changers.emplace_back([&crowd, seed = random()] {
      std::mt19937_64 draw(seed);
      for (int change = 0; change < 500; ++change) crowd.Change(&draw);
    });
  }
  for (std::thread& changer : changers) changer.join();
  WaitFor([&crowd] { return crowd.heard > 1'000; });
  crowd.ended = true;
  for (RunningLoop& loop : crowd.loops) loop.Flush();  // Who was about to ask has asked.
  WaitFor([&crowd] { return crowd.upcalls.waiting() == 0; });
  for (RunningLoop& loop : crowd.loops) loop.Flush();
  answering = false;
  python.join();
  crowd.upcalls.Close(front::Fail(Reason::kDraining));
  for (RunningLoop& loop : crowd.loops) loop.Join();
  CHECK(crowd.mistakes == 0);
  CHECK(crowd.heard == crowd.asked);
}

}  // namespace prefixdb::test
