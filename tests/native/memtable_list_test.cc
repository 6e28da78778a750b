// Goal: the memtable's list holds what was inserted, in order, and finds it from every side, whatever the keys look
// like; readers beside the writer see all that was there before they began.
// Method: random entries of several kinds against std::set; memory that runs out; threads.
#include "memtable_list.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <new>
#include <optional>
#include <vector>

#include "support.h"

namespace {

using prefixdb::Entry;
using prefixdb::InternalKey;
using prefixdb::MemtableIndex;
using prefixdb::MemtableList;
using prefixdb::test::Seeded;

std::string Internal(const std::string& user_key, uint64_t sequence) {
  std::string bytes = user_key;
  const uint64_t tag = sequence << 8 | 1;
  bytes.append(reinterpret_cast<const char*>(&tag), sizeof tag);
  return bytes;
}

// Memory for entries and nodes that can be told to run out.
class Heap {
 public:
  void* Take(size_t bytes, size_t alignment) {
    if (left == 0) throw std::bad_alloc();
    if (left > 0) --left;
    char* memory = pieces_.emplace_back(new char[bytes + alignment]).get();
    return memory + (-reinterpret_cast<uintptr_t>(memory) & (alignment - 1));
  }
  MemtableIndex::Memory ForNodes() {
    return [this](size_t bytes) {
      bytes_for_nodes += bytes;
      return Take(bytes, MemtableIndex::kAlign);
    };
  }
  Entry* NewEntry(const std::string& internal_key) {
    std::string bytes;
    size_t size = internal_key.size();
    for (; size >= 0x80; size >>= 7) bytes += static_cast<char>(size | 0x80);
    bytes += static_cast<char>(size);
    bytes += internal_key;
    Entry* entry = new (Take(sizeof(Entry) + bytes.size(), alignof(Entry))) Entry;
    std::copy(bytes.begin(), bytes.end(), entry->bytes());
    return entry;
  }

  size_t bytes_for_nodes = 0;
  int left = -1;  // How often it still gives; below 0: for ever.

 private:
  std::deque<std::unique_ptr<char[]>> pieces_;
};

struct Earlier {
  bool operator()(const std::string& one, const std::string& other) const {
    return InternalKey(one).Compare(InternalKey(other)) < 0;
  }
};
using Model = std::set<std::string, Earlier>;

void CheckSame(const Entry* found, const Model& model, Model::const_iterator expected) {
  REQUIRE((found != nullptr) == (expected != model.end()));
  if (found != nullptr) REQUIRE(found->key().Compare(InternalKey(*expected)) == 0);
}

Model::const_iterator Previous(const Model& model, Model::const_iterator at) {
  return at == model.begin() ? model.end() : std::prev(at);
}

void CheckFinds(const MemtableList& list, const Model& model, const std::string& probe) {
  const InternalKey key(probe);
  CheckSame(list.AtOrAfter(key), model, model.lower_bound(probe));
  CheckSame(list.Before(key), model, Previous(model, model.lower_bound(probe)));
  CheckSame(list.AtOrBefore(key), model, Previous(model, model.upper_bound(probe)));
}

void CheckOrder(const MemtableList& list, const Model& model) {
  const Entry* entry = list.First();
  for (auto expected = model.begin(); expected != model.end(); ++expected, entry = entry->next) {
    CheckSame(entry, model, expected);
  }
  REQUIRE(entry == nullptr);
  CheckSame(list.Last(), model, Previous(model, model.end()));
}

// Ways to make user keys that are hard in different ways.
const std::vector<std::pair<const char*, std::function<std::string(Seeded*, uint64_t)>>> kKinds = {
    {"random rows of a namespace",
     [](Seeded* random, uint64_t) { return prefixdb::test::Key(7, random->Below(1u << 20)); }},
    {"ascending", [](Seeded*, uint64_t turn) { return prefixdb::test::Key(7, turn); }},
    {"descending", [](Seeded*, uint64_t turn) { return prefixdb::test::Key(7, 1000000 - turn); }},
    {"many namespaces, each ascending",
     [](Seeded* random, uint64_t turn) { return prefixdb::test::Key(random->Below(50), turn); }},
    {"one row again and again", [](Seeded*, uint64_t) { return std::string("hot"); }},
    {"few rows again and again", [](Seeded* random, uint64_t) { return prefixdb::test::Key(1, random->Below(40)); }},
    {"nothing but zeros and ones, of any length, also none",
     [](Seeded* random, uint64_t) {
       std::string key(random->Below(30), '\0');
       for (char& each : key) each = static_cast<char>(random->Below(8) == 0);
       return key;
     }},
    {"long, and different only at the end",
     [](Seeded* random, uint64_t) { return std::string(1000, 'x') + std::to_string(random->Below(100000)); }},
    {"each the beginning of the next", [](Seeded* random, uint64_t) { return std::string(random->Below(400), 'a'); }},
    {"noise", [](Seeded* random, uint64_t) { return prefixdb::test::Noise(random, random->Below(12)); }},
};

TEST_CASE("a list is in order and finds from every side, whatever the keys look like") {
  Seeded random;
  for (const auto& [name, make] : kKinds) {
    INFO(name);
    Heap heap;
    MemtableList list(heap.ForNodes());
    Model model;
    CheckFinds(list, model, Internal("a", 1));
    for (uint64_t turn = 0; turn < 20000; ++turn) {
      const std::string key = Internal(make(&random, turn), turn + 1);
      REQUIRE(list.Insert(heap.NewEntry(key)));
      model.insert(key);
      // At, just before and after what is there, and anywhere.
      const std::string user_key = key.substr(0, key.size() - 8);
      CheckFinds(list, model, key);
      if (turn % 8 == 0) {
        CheckFinds(list, model, Internal(user_key, random.Below(turn + 2)));
        CheckFinds(list, model, Internal(user_key + '\0', turn));
        CheckFinds(list, model, Internal(user_key.substr(0, user_key.size() / 2), turn));
        CheckFinds(list, model, Internal(make(&random, random.Below(turn + 1)), turn));
        CheckFinds(list, model, Internal(prefixdb::test::Noise(&random, random.Below(12)), turn));
      }
      if (turn == 3 || turn == 40 || turn == 1000) CheckOrder(list, model);
    }
    CheckOrder(list, model);
    for (const std::string& key : model) CheckFinds(list, model, key);
  }
}

TEST_CASE("mixed kinds in one list") {
  Seeded random;
  Heap heap;
  MemtableList list(heap.ForNodes());
  Model model;
  for (uint64_t turn = 0; turn < 60000; ++turn) {
    const std::string key = Internal(kKinds[random.Below(kKinds.size())].second(&random, turn), turn + 1);
    REQUIRE(list.Insert(heap.NewEntry(key)));
    model.insert(key);
    CheckFinds(list, model,
               Internal(kKinds[random.Below(kKinds.size())].second(&random, turn), random.Below(turn + 2)));
  }
  CheckOrder(list, model);
}

TEST_CASE("an equal entry is refused and changes nothing") {
  Seeded random;
  Heap heap;
  MemtableList list(heap.ForNodes());
  Model model;
  for (uint64_t turn = 0; turn < 5000; ++turn) {
    const std::string key = Internal(prefixdb::test::Key(3, random.Below(200)), random.Below(20));
    REQUIRE(list.Insert(heap.NewEntry(key)) == model.insert(key).second);
  }
  CheckOrder(list, model);
}

TEST_CASE("memory that runs out while an entry is inserted leaves the list as it was") {
  Seeded random;
  Heap heap;
  MemtableList list(heap.ForNodes());
  Model model;
  int refused = 0;
  for (uint64_t turn = 0; turn < 20000; ++turn) {
    const std::string key = Internal(prefixdb::test::Key(3, random.Below(1u << 30)), turn + 1);
    Entry* entry = heap.NewEntry(key);
    heap.left = static_cast<int>(random.Below(3));
    bool inserted = false;
    try {
      inserted = list.Insert(entry);
    } catch (const std::bad_alloc&) {
      ++refused;
    }
    heap.left = -1;
    if (inserted) model.insert(key);
    CheckFinds(list, model, key);
    if (turn % 1000 == 0) CheckOrder(list, model);
  }
  CHECK(refused > 100);
  CheckOrder(list, model);
}

TEST_CASE("entries of a range are about counted, few of them exactly") {
  Seeded random;
  Heap heap;
  MemtableList list(heap.ForNodes());
  Model model;
  for (uint64_t turn = 0; turn < 50000; ++turn) {
    const std::string key = Internal(prefixdb::test::Key(3, random.Below(1u << 20)), turn + 1);
    REQUIRE(list.Insert(heap.NewEntry(key)));
    model.insert(key);
    if (turn > 30 && turn % 1000 != 0) continue;
    const std::string probe = Internal(prefixdb::test::Key(3, random.Below(1u << 20)), 1);
    const auto real = static_cast<double>(std::distance(model.begin(), model.lower_bound(probe)));
    const auto said = static_cast<double>(list.CountBefore(InternalKey(probe)));
    INFO(real, " of ", model.size(), ", said to be ", said);
    CHECK(std::abs(real - said) <= (turn <= 30 ? 0 : 0.1 * static_cast<double>(model.size())));
  }
  CHECK(list.CountBefore(InternalKey(Internal("", ~0ull >> 8))) == 0);
  CHECK(list.CountBefore(InternalKey(Internal(std::string(20, '\xff'), 0))) == model.size());
}

TEST_CASE("what is written in ascending order fills its nodes") {
  Seeded random;
  Heap ascending;
  Heap scattered;
  MemtableList list(ascending.ForNodes());
  MemtableList other(scattered.ForNodes());
  for (uint64_t turn = 0; turn < 50000; ++turn) {
    REQUIRE(list.Insert(ascending.NewEntry(Internal(prefixdb::test::Key(3, turn), 1))));
    REQUIRE(other.Insert(scattered.NewEntry(Internal(prefixdb::test::Key(3, random.Below(1u << 30)), turn + 1))));
  }
  CHECK(ascending.bytes_for_nodes < 21 * 50000);
  CHECK(scattered.bytes_for_nodes < 36 * 50000);
}

// A writer, and readers that look for what it has told them is there.
void RunBeside(const std::function<std::string(Seeded*, uint64_t)>& make, Seeded* random) {
  constexpr uint64_t kEntries = 60000;
  Heap heap;
  MemtableList list(heap.ForNodes());
  std::vector<std::string> keys;
  for (uint64_t turn = 0; turn < kEntries; ++turn) keys.push_back(Internal(make(random, turn), turn + 1));
  std::atomic<uint64_t> there{0};
  std::atomic<bool> wrong{false};
  const auto read = [&](uint64_t seed) {
    std::mt19937_64 own(seed);
    while (there.load(std::memory_order_acquire) < kEntries && !wrong) {
      const uint64_t end = there.load(std::memory_order_acquire);
      if (end == 0) continue;
      // The last ones are where the writer is.
      const uint64_t back = own() % 2 == 0 ? std::min<uint64_t>(end, 40) : end;
      const InternalKey key(keys[end - 1 - own() % back]);
      const Entry* at = list.AtOrAfter(key);
      const Entry* same = list.AtOrBefore(key);
      const Entry* before = list.Before(key);
      const Entry* last = list.Last();
      bool good = at != nullptr && at == same && at->key().Compare(key) == 0;
      good = good && (before == nullptr || before->key().Compare(key) < 0);
      good = good && last != nullptr && last->key().Compare(key) >= 0;
      for (int steps = 0; good && steps < 50 && at->next.load() != nullptr; ++steps) {
        good = at->key().Compare(at->next.load()->key()) < 0;
        at = at->next.load();
      }
      if (!good) wrong = true;
    }
  };
  std::thread one(read, (*random)());
  std::thread other(read, (*random)());
  for (uint64_t turn = 0; turn < kEntries && !wrong; ++turn) {
    if (!list.Insert(heap.NewEntry(keys[turn]))) wrong = true;
    there.store(turn + 1, std::memory_order_release);
  }
  there.store(kEntries, std::memory_order_release);
  one.join();
  other.join();
  REQUIRE(!wrong);
  // In the whole it is what was inserted, too.
  uint64_t count = 0;
  for (const Entry* entry = list.First(); entry != nullptr; entry = entry->next) ++count;
  CHECK(count == kEntries);
}

TEST_CASE("readers beside the writer find all that was there when they began") {
  Seeded random;
  for (const auto& [name, make] : kKinds) {
    INFO(name);
    RunBeside(make, &random);
  }
}

}  // namespace
