// Goal: timers come out in the order of their times, equal ones in the order they were set; one that was taken out or
// has run is never found again, whatever came and went in between.
//
// Method: random steps beside a plain sorted map.
#include <algorithm>
#include <map>
#include <vector>

#include "front/timers.h"
#include "support.h"

using prefixdb::front::Timers;
using prefixdb::test::Seeded;

TEST_CASE("the heap agrees with a sorted list over many random steps") {
  Seeded random;
  Timers timers;
  using Key = std::pair<int64_t, uint64_t>;              // Due, order.
  std::map<Key, std::pair<Timers::Id, uint64_t>> model;  // Id and name.
  std::vector<Timers::Id> gone;
  uint64_t said = 0;
  uint64_t order = 0;
  int64_t now = 0;
  const auto at = [](int64_t tick) { return Timers::Time(std::chrono::milliseconds(tick)); };
  for (int step = 0; step < 50'000; ++step) {
    switch (random.Below(4)) {
      case 0:
      case 1: {
        const int64_t due = now + static_cast<int64_t>(random.Below(200));
        const uint64_t name = order + 1;
        const Timers::Id id = timers.Add(at(due), [&said, name] { said = name; });
        CHECK(id != 0);
        model[{due, order++}] = {id, name};
        break;
      }
      case 2: {
        if (model.empty()) break;
        const auto victim =
            std::next(model.begin(), static_cast<int64_t>(random.Below(std::min<size_t>(model.size(), 50))));
        CHECK(timers.Remove(victim->second.first));
        gone.push_back(victim->second.first);
        model.erase(victim);
        break;
      }
      default: {
        now += static_cast<int64_t>(random.Below(20));
        while (auto task = timers.TakeDue(at(now), timers.order())) {
          task();
          REQUIRE(!model.empty());
          REQUIRE(said == model.begin()->second.second);
          REQUIRE(model.begin()->first.first <= now);
          gone.push_back(model.begin()->second.first);
          model.erase(model.begin());
        }
        if (!model.empty()) REQUIRE(model.begin()->first.first > now);
        CHECK(std::none_of(gone.begin(), gone.end(), [&](Timers::Id id) { return bool(timers.Remove(id)); }));
        gone.clear();
      }
    }
    REQUIRE(timers.size() == model.size());
    if (!model.empty()) REQUIRE(timers.next() == at(model.begin()->first.first));
  }
}
