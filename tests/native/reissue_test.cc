// Goal: bans come and go while everything else goes on, and each takes exactly the rows that were there before it.
//
// Method: threads that write, compact, ban, prove emptiness, withdraw and write again under the same number, all at
// once, in a real RocksDB; afterwards every row of the last owner of each number is there and none of an earlier one.
#include <atomic>
#include <thread>

#include "ban_filter.h"
#include "support.h"

namespace prefixdb::test {

namespace {

constexpr uint64_t kRows = 30;
constexpr uint64_t kBystanders = 8;  // Namespaces 1001.. that are never banned.

void WriteOwner(Database* db, uint64_t id, uint64_t owner, std::string_view payload) {
  // Each owner has keys of its own, so that a row that came back would be seen.
  for (uint64_t row = 0; row < kRows; ++row) db->Put(Key(id, owner * kRows + row), Value(payload));
}

}  // namespace

TEST_CASE("a number that is issued again keeps the rows of its new owner while compactions with older sets run") {
  Seeded random;
  Shared shared;
  Database db(SmallOptions(shared, 32 << 10));
  const std::string payload = Noise(&random, 100);
  constexpr uint64_t kOwners = 12;
  constexpr uint64_t kIssuers = 2;
  std::atomic<uint64_t> issuing{kIssuers};
  std::atomic<uint64_t> rounds{0};

  std::vector<std::thread> threads;
  for (uint64_t id = 1; id <= kIssuers; ++id) {
    threads.emplace_back([&, id] {
      for (uint64_t owner = 0; owner < kOwners; ++owner) {
        WriteOwner(&db, id, owner, payload);
        if (owner % 2 == 0) db.Flush();
        if (owner + 1 == kOwners) break;
        REQUIRE(shared.bans->Publish({id}));
        do {
          db.Flush();
          db.Compact(id);
        } while (db.RowsOf(id) > 0);
        shared.bans->Withdraw({id});
        shared.drop_counters->Forget({id});
      }
      issuing.fetch_sub(1);
    });
  }
  threads.emplace_back([&] {
    for (uint64_t round = 0; issuing.load() > 0; ++round) {
      for (uint64_t id = 1001; id <= 1000 + kBystanders; ++id) db.Put(Key(id, round % 500), Value(payload));
      rounds.store(round + 1);
    }
  });
  threads.emplace_back([&] {
    while (issuing.load() > 0) {
      db.Compact();
      shared.bans->RaiseExpiryHorizon(rounds.load());
    }
  });
  for (std::thread& thread : threads) thread.join();
  db.Flush();
  db.Compact();

  for (uint64_t id = 1; id <= kIssuers; ++id) {
    CHECK(db.RowsOf(id) == kRows);
    for (uint64_t row = 0; row < kRows; ++row) {
      std::string stored;
      CHECK_OK(db->Get(rocksdb::ReadOptions(), Key(id, (kOwners - 1) * kRows + row), &stored));
    }
  }
  for (uint64_t id = 1001; id <= 1000 + kBystanders; ++id)
    CHECK(db.RowsOf(id) == std::min<uint64_t>(rounds.load(), 500));
  CHECK(shared.filter_counts->malformed_kept == 0);
}

}  // namespace prefixdb::test
