// Goal: a cursor returns exactly the rows of its span on one consistent view, and nothing ends it early without a word.
//
// Method: random walks over a store against std::map, compactions and overwrites included; a view held across a ban and
// a forced compaction; a bound that lets the engine run too far; damage on disk.
#include "cursor.h"

#include <fstream>
#include <map>

#include "store_support.h"

namespace prefixdb::test {

namespace {

struct Model {
  std::string payload;
  uint64_t expires_at_ms;
};
using Rows = std::map<std::string, Model>;

constexpr uint64_t kNow = 1000;

// Everything the cursor has left, in pages of random size.
std::vector<std::string> Drain(Cursor* cursor, Seeded* random, uint64_t now_ms, const Rows& model, bool keys_only) {
  std::vector<std::string> keys;
  while (true) {
    RowBlock block;
    const uint64_t max_rows = 1 + random->Below(20);
    const uint64_t max_bytes = 1 + random->Below(400);
    CHECK_FINE(cursor->Fetch(max_rows, max_bytes, now_ms, &block));
    if (block.rows.empty()) return keys;
    REQUIRE(block.rows.size() <= max_rows);
    uint64_t size = 0;
    for (size_t index = 0; index < block.rows.size(); ++index) {
      const auto& row = block.rows[index];
      REQUIRE(size < max_bytes);
      size += row.key.size() + row.payload.size();
      const auto known = model.find(std::string(row.key));
      REQUIRE(known != model.end());
      REQUIRE(row.payload == (keys_only ? "" : known->second.payload));
      REQUIRE(row.expires_at_ms == known->second.expires_at_ms);
      keys.emplace_back(row.key);
    }
  }
}

std::vector<std::string> Expected(const Rows& model, const std::string& begin, const std::string& end, bool reverse,
                                  uint64_t now_ms) {
  std::vector<std::string> keys;
  for (auto row = model.lower_bound(begin); row != model.end() && row->first < end; ++row) {
    const uint64_t expiry = row->second.expires_at_ms;
    if (now_ms == 0 || expiry == 0 || expiry > now_ms) keys.push_back(row->first);
  }
  if (reverse) std::reverse(keys.begin(), keys.end());
  return keys;
}

}  // namespace

TEST_CASE("random walks see what a map of the same rows says") {
  Seeded random;
  Opened store;
  Rows model;
  for (int round = 0; round < 60; ++round) {
    for (int operation = 0; operation < 40; ++operation) {
      const std::string key = Key(5 + random.Below(3), random.Below(60));
      if (random.Below(4) == 0) {
        store.Commit(std::move(Request().Begin().Delete(key)));
        model.erase(key);
      } else {
        const std::string payload(random.Below(60), static_cast<char>('a' + random.Below(26)));
        const uint64_t expires = random.Below(3) == 0 ? kNow - 1 + random.Below(3) : 0;
        store.Put(key, payload, expires);
        model[key] = {payload, expires};
      }
    }
    if (random.Below(6) == 0) CHECK_FINE(store->Flush());
    if (random.Below(12) == 0) store.Compact();
    for (int walk = 0; walk < 4; ++walk) {
      std::string begin = random.Below(2) != 0 ? Key(6, random.Below(60)) : NamespacePrefix(6);
      std::string end = random.Below(2) != 0 ? Key(6, random.Below(60)) : NamespacePrefix(7);
      if (begin > end) std::swap(begin, end);
      const bool reverse = random.Below(2) != 0;
      const bool keys_only = random.Below(2) != 0;
      const uint64_t now_ms = random.Below(2) != 0 ? kNow : 0;
      std::shared_ptr<Cursor> cursor;
      CHECK_FINE(store->OpenCursor({begin, end, end, reverse, keys_only}, &cursor));
      const Rows before = model;
      if (random.Below(3) == 0) {
        const std::string key = Key(6, random.Below(60));
        store.Put(key, "later");
        model[key] = {"later", 0};
      }
      REQUIRE(Drain(cursor.get(), &random, now_ms, before, keys_only) == Expected(before, begin, end, reverse, now_ms));
      std::shared_ptr<Cursor> counter;
      CHECK_FINE(store->OpenCursor({begin, end, end, reverse, true}, &counter));
      uint64_t counted = 0;
      CHECK_FINE(counter->Count(UINT64_MAX, now_ms, &counted));
      REQUIRE(counted == Expected(model, begin, end, reverse, now_ms).size());
    }
  }
}

TEST_CASE("a view that was opened before a ban keeps its rows while compactions drop them") {
  Opened store;
  for (uint64_t row = 0; row < 3000; ++row) store.Put(Key(6, row), std::string(100, 'x'));
  CHECK_FINE(store->Flush());
  store.WaitForCompactions();
  const auto cursor = store.Walk(6);
  RowBlock first;
  CHECK_FINE(cursor->Fetch(10, UINT64_MAX, 0, &first));
  REQUIRE(first.rows.size() == 10);
  REQUIRE(store->shared().bans->Publish({6}));
  store.Compact();
  CHECK(store.RowsOf(6) == 0);
  uint64_t counted = 0;
  CHECK_FINE(cursor->Count(UINT64_MAX, 0, &counted));
  CHECK(counted == 2990);
}

TEST_CASE("a key outside the span is an alarm, whichever way the walk goes") {
  Opened store;
  store.Put(Key(6, 1), "ours");
  store.Put(Key(7, 1), "theirs");
  const KeySpan span = *NamespaceSpan(6);
  for (const bool reverse : {false, true}) {
    std::shared_ptr<Cursor> cursor;
    CHECK_FINE(store->OpenCursor({span.first, span.second, NamespacePrefix(8), reverse, false}, &cursor));
    RowBlock block;
    Outcome outcome = cursor->Fetch(10, UINT64_MAX, 0, &block);
    if (reverse) {
      // The seek begins at the span's own end, so the engine has no reason to go further.
      CHECK(outcome.ok());
      CHECK(block.rows.size() == 1);
    } else {
      CHECK(outcome.fault == Fault::kSpanViolation);
    }
  }
}

TEST_CASE("a taker gets every row where it lies, until it has enough, and refuses what is foreign") {
  struct Taker final : RowTaker {
    Answer Take(std::string_view key, const StoredValue& value) override {
      if (key == foreign) return Answer::kForeign;
      keys.emplace_back(key);
      payloads.emplace_back(value.payload);
      return keys.size() % most == 0 ? Answer::kEnough : Answer::kMore;
    }
    size_t most = 4;
    std::string foreign;
    std::vector<std::string> keys;
    std::vector<std::string> payloads;
  };
  Opened store;
  for (uint64_t row = 0; row < 12; ++row) store.Put(Key(6, row), std::to_string(row), row == 5 ? kNow : 0);
  for (const bool reverse : {false, true}) {
    // Eleven live rows, four at a time. The end is known with the last one, not a call later.
    const auto cursor = store.Walk(6, reverse);
    Taker taker;
    bool ended = false;
    for (const size_t expected : {4u, 8u, 11u}) {
      CHECK_FALSE(ended);
      CHECK_FINE(cursor->Visit(kNow, &taker, &ended));
      CHECK(taker.keys.size() == expected);
    }
    CHECK(ended);
    CHECK(taker.keys.front() == Key(6, reverse ? 11 : 0));
    CHECK(taker.payloads.back() == (reverse ? "0" : "11"));
    CHECK_FINE(cursor->Visit(kNow, &taker, &ended));
    CHECK(ended);
    CHECK(taker.keys.size() == 11);

    Taker whole;
    whole.most = 11;
    const auto exact = store.Walk(6, reverse);
    CHECK_FINE(exact->Visit(kNow, &whole, &ended));
    CHECK(ended);

    Taker wary;
    wary.foreign = Key(6, 3);
    wary.most = 100;
    CHECK(store.Walk(6, reverse)->Visit(kNow, &wary, &ended).fault == Fault::kSpanViolation);
    CHECK_FALSE(ended);
  }
}

TEST_CASE("rows in front of damage come first, then the damage, again and again") {
  Opened store;
  Seeded random;
  for (uint64_t row = 0; row < 400; ++row) store.Put(Key(6, row), Noise(&random, 200));
  CHECK_FINE(store->Flush());
  store.Compact();
  std::vector<rocksdb::LiveFileMetaData> files;
  CHECK_FINE(store->LiveFiles(&files));
  REQUIRE(files.size() == 1);
  {
    std::fstream table(store.path() + files[0].name, std::ios::in | std::ios::out | std::ios::binary);
    table.seekp(40000);
    table.write("damage", 6);
  }
  store.Reopen();
  for (const bool reverse : {false, true}) {
    const auto cursor = store.Walk(6, reverse);
    size_t rows = 0;
    Outcome outcome;
    while (outcome.ok()) {
      RowBlock block;
      outcome = cursor->Fetch(1000, UINT64_MAX, 0, &block);
      REQUIRE(outcome.ok() == !block.rows.empty());
      rows += block.rows.size();
    }
    CHECK(outcome.fault == Fault::kEngine);
    CHECK(outcome.text.starts_with("Corruption"));
    CHECK(rows > 50);
    CHECK(rows < 350);
    RowBlock block;
    CHECK(!cursor->Fetch(1, 1, 0, &block).ok());
    uint64_t counted = 0;
    CHECK(!store.Walk(6, reverse)->Count(UINT64_MAX, 0, &counted).ok());
  }
}

TEST_CASE("a stored value that is none is damage at its place") {
  Opened store;
  store.Put(Key(6, 1), "good");
  CHECK_FINE(store->PutRaw(Key(6, 2), "\x7f"));
  store.Put(Key(6, 3), "good");
  const auto cursor = store.Walk(6);
  RowBlock block;
  CHECK_FINE(cursor->Fetch(10, UINT64_MAX, 0, &block));
  CHECK(block.rows.size() == 1);
  CHECK(cursor->Fetch(10, UINT64_MAX, 0, &block).fault == Fault::kDamagedRow);
  Found found;
  CHECK(store->Get(Key(6, 2), &found).fault == Fault::kDamagedRow);
}

}  // namespace prefixdb::test
