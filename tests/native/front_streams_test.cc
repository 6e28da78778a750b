// Goal: a namespace has as many streams as it may and no more, a view ends with its cursor or its slot, whichever comes
// first, and nothing is remembered of namespaces without streams.
//
// Method: a random crowd of slots is opened, moved, closed and dropped beside plain counts.
#include <map>
#include <vector>

#include "front/streams.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::Streams;

}  // namespace

TEST_CASE("a slot holds a view until its cursor is closed, and a place until it goes") {
  Streams streams(2, 3);
  Streams::Slot first = streams.Open(7);
  Streams::Slot second = streams.Open(7);
  CHECK((first && second));
  CHECK_FALSE(streams.Open(7));
  CHECK(streams.views(7) == 2);
  first.CloseView();
  first.CloseView();
  CHECK(streams.views(7) == 1);
  CHECK_FALSE(streams.Open(7));  // Its buffers may still be full.
  first.Release();
  first.Release();
  CHECK_FALSE(first);
  CHECK(streams.Open(7));
  CHECK(streams.views(7) == 1);
  CHECK(streams.open() == 1);
}

TEST_CASE("all namespaces together have a bound, too") {
  Streams streams(2, 3);
  const Streams::Slot seven = streams.Open(7);
  const Streams::Slot eight = streams.Open(8);
  {
    const Streams::Slot nine = streams.Open(9);
    CHECK_FALSE(streams.Open(10));
  }
  CHECK(streams.Open(10));
}

TEST_CASE("a slot that is moved is one slot") {
  Streams streams(5, 5);
  Streams::Slot first = streams.Open(7);
  Streams::Slot second(std::move(first));
  CHECK(streams.open() == 1);
  second = streams.Open(8);
  CHECK(streams.views(7) == 0);
  CHECK(streams.views(8) == 1);
  second = Streams::Slot();
  CHECK(streams.open() == 0);
}

TEST_CASE("counts stay true whatever comes and goes") {
  Seeded random;
  constexpr size_t kEach = 4;
  constexpr size_t kAll = 9;
  Streams streams(kEach, kAll);
  struct Held {
    uint64_t namespace_id;
    Streams::Slot slot;
    bool viewing;
  };
  std::vector<Held> held;
  for (int step = 0; step < 20'000; ++step) {
    std::map<uint64_t, size_t> slots;
    std::map<uint64_t, uint64_t> views;
    for (const Held& each : held) {
      ++slots[each.namespace_id];
      views[each.namespace_id] += each.viewing ? 1 : 0;
    }
    for (uint64_t id = 0; id < 4; ++id) REQUIRE(streams.views(id) == views[id]);
    REQUIRE(streams.open() == held.size());
    const uint64_t id = random.Below(4);
    if (random.Below(2) == 0) {
      Streams::Slot slot = streams.Open(id);
      REQUIRE(bool(slot) == (slots[id] < kEach && held.size() < kAll));
      if (slot) held.push_back({id, std::move(slot), true});
    } else if (!held.empty()) {
      Held& any = held[random.Below(held.size())];
      if (random.Below(2) == 0) {
        any.slot.CloseView();
        any.viewing = false;
      } else {
        std::swap(any, held.back());
        held.pop_back();
      }
    }
  }
}

}  // namespace prefixdb::test
