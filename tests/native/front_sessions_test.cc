// Goal: no session holds that does not know of a change which was answered; nothing that was checked before the change
// leaves after its answer; the table keeps the most recently used within its bounds, and namespaces cost next to
// nothing.
//
// Method: each thing a session depends on is moved by hand; the table is compared with a list; and under real loops
// readers check and send in a pass while somebody changes and answers, and says aloud what may not be sent any more.
// ThreadSanitizer runs these, too (BUILD=tsan).
#include <list>

#include "front/sessions.h"
#include "front_running.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::Changes;
using front::HashToken;
using front::Session;
using front::SessionPtr;
using front::SessionTable;

constexpr uint64_t kForever = UINT64_MAX;

// What Upcalls makes of an answer, whose question was taken at `stamp`.
Session Made(Changes* changes, uint64_t namespace_id, uint64_t stamp, bool home_counts = false) {
  Session session;
  session.namespace_id = namespace_id;
  session.ends_at_ms = kForever;
  session.stamp = stamp;
  session.own = changes->StampOf(namespace_id);
  if (home_counts) session.home = changes->StampOf(0);
  session.changes = changes;
  return session;
}

SessionPtr Weighing(size_t bytes) {
  Session session;
  session.guard_key = std::string(bytes, 'g');
  return std::make_shared<const Session>(std::move(session));
}

}  // namespace

TEST_CASE("a session holds until what it depends on changes, or its end comes") {
  int settled = 0;
  Changes changes([&settled] { ++settled; });
  const auto made = [&changes](uint64_t namespace_id, bool home_counts = false) {
    return Made(&changes, namespace_id, changes.now(), home_counts);
  };
  const Session own = made(7);
  const Session other = made(8);
  const Session guest = made(9, true);
  CHECK((own.Holds(1) && other.Holds(1) && guest.Holds(1)));

  changes.Changed(7);
  CHECK((!own.Holds(1) && other.Holds(1) && guest.Holds(1)));
  changes.Changed(0);
  CHECK((other.Holds(1) && !guest.Holds(1)));
  changes.Changed(9);
  CHECK(made(9, true).Holds(1));
  changes.Changed(std::nullopt);
  CHECK_FALSE(other.Holds(1));
  CHECK(made(8).Holds(1));
  CHECK(settled == 4);

  Session ending = made(7);
  ending.ends_at_ms = 100;
  CHECK(ending.Holds(99));
  CHECK_FALSE(ending.Holds(100));
}

TEST_CASE("a session that was asked for before a change is stale when it arrives after it") {
  Changes changes([] {});
  const uint64_t before = changes.now();
  SUBCASE("the namespace was looked at before") {
    const auto looked_at = changes.StampOf(7);
    changes.Changed(7);
    CHECK_FALSE(Made(&changes, 7, before).Holds(1));
  }
  SUBCASE("nobody had looked at it") {
    changes.Changed(7);
    CHECK_FALSE(Made(&changes, 7, before).Holds(1));
  }
  SUBCASE("everyone") {
    changes.Changed(std::nullopt);
    CHECK_FALSE(Made(&changes, 7, before).Holds(1));
  }
  SUBCASE("namespace 0, of a guest") {
    changes.Changed(0);
    CHECK_FALSE(Made(&changes, 7, before, true).Holds(1));
  }
  SUBCASE("the namespace was forgotten meanwhile") {
    changes.StampOf(7);
    changes.Changed(7);
    for (uint64_t other = 1000; other < 10'000; ++other) changes.StampOf(other);
    CHECK_FALSE(Made(&changes, 7, before).Holds(1));
  }
  CHECK(Made(&changes, 7, changes.now()).Holds(1));
}

TEST_CASE("a hundred thousand namespaces that come, change and go are not remembered, those with sessions are") {
  size_t settled = 0;
  Changes changes([&settled] { ++settled; });
  std::vector<Session> held;
  for (uint64_t id = 1; id <= 500; ++id) held.push_back(Made(&changes, id, changes.now()));
  for (uint64_t id = 1'000; id < 101'000; ++id) {
    changes.StampOf(id);  // Somebody called once.
    changes.Changed(id);
  }
  CHECK(changes.remembered() >= 500);
  CHECK(changes.remembered() < 5'000);
  for (const Session& session : held) REQUIRE(session.Holds(1));
  changes.Changed(250);
  CHECK_FALSE(held[249].Holds(1));
  CHECK(held[250].Holds(1));
}

TEST_CASE("who changes what nobody has a session of does not stop the loops, unless a session may just have gone") {
  size_t settled = 0;
  Changes changes([&settled] { ++settled; });
  for (uint64_t id = 0; id < 10'000; ++id) changes.Changed(id);
  CHECK(settled == 0);
  for (uint64_t id = 0; id < 3'000; ++id) changes.StampOf(id);  // Some are forgotten on the way.
  REQUIRE(changes.remembered() < 3'000);
  changes.Changed(20'000);
  CHECK(settled == 1);
  changes.Changed(20'001);
  CHECK(settled == 1);
}

TEST_CASE("a token is known by its SHA-256") {
  using namespace std::string_literals;
  CHECK(HashToken("abc") ==
        "\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff"
        "\x61\xf2\x00\x15\xad"s);
}

TEST_CASE("the table keeps what was used last, within both bounds") {
  SUBCASE("a session is replaced, and dropped") {
    SessionTable table(4, 1 << 20);
    table.Put("a", Weighing(1));
    const SessionPtr second = Weighing(2);
    table.Put("a", second);
    CHECK(table.size() == 1);
    CHECK(table.Find("a") == second);
    table.Drop("a");
    table.Drop("a");
    CHECK(table.Find("a") == nullptr);
    CHECK(table.size() == 0);
  }
  SUBCASE("heavy ones push out many") {
    SessionTable table(100, 100'000);
    for (char name = 'a'; name < 'f'; ++name) table.Put(std::string(1, name), Weighing(1'000));
    table.Put("heavy", Weighing(97'000));
    CHECK(table.Find("heavy") != nullptr);
    CHECK(table.size() < 3);
    table.Put("too heavy", Weighing(100'000));
    CHECK(table.size() == 0);
    table.Put("a", Weighing(1));
    CHECK(table.size() == 1);
  }
  SUBCASE("as a list would") {
    Seeded random;
    SessionTable table(16, 1 << 20);
    std::list<std::pair<std::string, SessionPtr>> model;
    const auto take = [&model](const std::string& name) {
      const auto found = std::find_if(model.begin(), model.end(), [&](const auto& each) { return each.first == name; });
      if (found != model.end()) model.splice(model.begin(), model, found);
      return found != model.end();
    };
    for (int step = 0; step < 20'000; ++step) {
      const std::string name(1, static_cast<char>('a' + random.Below(24)));
      if (random.Below(3) == 0) {
        const SessionPtr session = Weighing(1);
        if (take(name)) model.pop_front();
        model.emplace_front(name, session);
        if (model.size() > 16) model.pop_back();
        table.Put(name, session);
      } else if (random.Below(20) == 0) {
        if (take(name)) model.pop_front();
        table.Drop(name);
      } else {
        REQUIRE(table.Find(name) == (take(name) ? model.front().second : nullptr));
      }
      REQUIRE(table.size() == model.size());
    }
  }
}

namespace {

// Readers on loops, who check in a pass and send at its end, and somebody who changes what they depend on.
//
// `truth` is what is durable and visible; a session knows it as its guard_version. `answered` is the truth whose author
// has been answered: whatever is sent must know that at least.
struct Stage {
  Stage() : changes([this] { Settle(); }), answered(kNamespaces), truths(kNamespaces) {}

  void Settle() {
    for (RunningLoop& loop : loops) loop->Settle();
  }

  void Read(RunningLoop* loop, uint64_t seed) {
    if (ended) return;
    const uint64_t which = seed % kNamespaces;
    SessionPtr& session = sessions[loop == &loops[0] ? 0 : 1][which];
    if (session == nullptr || !session->Holds(1)) {
      const uint64_t stamp = changes.now();
      const uint64_t known = truths[which].load();
      Session fresh = Made(&changes, which, stamp);
      fresh.guard_version = known;
      if (!fresh.Holds(1)) ++stale;
      session = std::make_shared<const Session>(std::move(fresh));
    }
    if (session->Holds(1)) {
      const uint64_t known = session->guard_version;
      if (seed % 3 == 0) session = nullptr;  // What it looked at may be forgotten before the pass ends.
      loop->get()->Defer([this, which, known] {
        ++sent;
        if (answered[which].load() > known) ++violations;
      });
    }
    loop->get()->Post([this, loop, seed] { Read(loop, seed * 6364136223846793005ull + 1442695040888963407ull); });
  }

  void Change(uint64_t which, bool everyone) {
    const uint64_t truth = ++truths[which];
    changes.Changed(everyone ? std::nullopt : std::optional<uint64_t>(which));
    uint64_t before = answered[which].load();
    while (before < truth && !answered[which].compare_exchange_weak(before, truth)) {
    }
  }

  static constexpr uint64_t kNamespaces = 3;
  std::array<RunningLoop, 2> loops;
  Changes changes;
  std::vector<std::atomic<uint64_t>> answered;
  std::vector<std::atomic<uint64_t>> truths;
  std::array<std::array<SessionPtr, kNamespaces>, 2> sessions;
  std::atomic<bool> ended{false};
  std::atomic<uint64_t> sent{0};
  std::atomic<uint64_t> stale{0};
  std::atomic<uint64_t> violations{0};
};

}  // namespace

TEST_CASE("nothing that was checked before a change is sent after the change was answered") {
  Seeded random;
  Stage stage;
  for (RunningLoop& loop : stage.loops) {
    for (int reader = 0; reader < 3; ++reader) {
      loop->Post([&stage, &loop, seed = random()] { stage.Read(&loop, seed); });
    }
  }
  std::vector<std::thread> changers;
  for (int each = 0; each < 2; ++each) {
    changers.emplace_back([&stage, seed = random()] {
      std::mt19937_64 draw(seed);
      for (int change = 0; change < 1'000; ++change) stage.Change(draw() % Stage::kNamespaces, draw() % 8 == 0);
    });
  }
  std::thread forgetting([&stage] {
    for (uint64_t id = 100; !stage.ended; ++id) stage.changes.StampOf(id);
  });
  for (std::thread& changer : changers) changer.join();
  WaitFor([&stage] { return stage.sent > 1'000; });
  stage.ended = true;
  forgetting.join();
  for (RunningLoop& loop : stage.loops) loop.Join();
  CHECK(stage.violations == 0);
  CHECK(stage.sent > 1'000);
  MESSAGE(stage.sent.load(), " sent, ", stage.stale.load(), " stale on arrival");
}

}  // namespace prefixdb::test
