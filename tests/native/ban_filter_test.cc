// Goal: compactions drop banned namespaces and ended lifetimes, and nothing else, whatever happens meanwhile.
//
// Method: decisions row by row against the filter itself; then a real RocksDB opened as the store opens it, its own
// compactions included, read back raw.
#include "ban_filter.h"

#include <atomic>
#include <thread>

#include "support.h"

namespace prefixdb::test {

namespace {

using Decision = rocksdb::CompactionFilter::Decision;
using ValueType = rocksdb::CompactionFilter::ValueType;

std::unique_ptr<rocksdb::CompactionFilter> NewFilter(const Shared& shared) {
  BanFilterFactory factory(shared.bans, shared.filter_counts);
  rocksdb::CompactionFilter::Context context{};
  context.reason = rocksdb::TableFileCreationReason::kCompaction;
  return factory.CreateCompactionFilter(context);
}

Decision Decide(const rocksdb::CompactionFilter& filter, const std::string& key, const std::string& stored,
                ValueType type = ValueType::kValue, std::string* skip_until = nullptr) {
  std::string new_value;
  std::string unused;
  return filter.FilterV2(0, key, type, stored, &new_value, skip_until != nullptr ? skip_until : &unused);
}

// Rows of namespaces `first`..`last`, `rows` each, in an order that makes files overlap.
void Fill(Database* db, uint64_t first, uint64_t last, uint64_t rows, std::string_view payload) {
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t id = first; id <= last; ++id) db->Put(Key(id, row), Value(payload));
  }
}

}  // namespace

TEST_CASE("a banned row is skipped to the next namespace, its neighbours are kept") {
  Shared shared;
  REQUIRE(shared.bans->Publish({5, kNamespaceIdMax}));
  const auto filter = NewFilter(shared);
  std::string skip_until;
  CHECK(Decide(*filter, Key(4, 1), Value("a")) == Decision::kKeep);
  CHECK(Decide(*filter, Key(5, 1), Value("a"), ValueType::kValue, &skip_until) == Decision::kRemoveAndSkipUntil);
  CHECK(skip_until == NamespacePrefix(6));
  CHECK(Decide(*filter, Key(6, 1), Value("a")) == Decision::kKeep);
  CHECK(Decide(*filter, Key(kNamespaceIdMax, 1), "", ValueType::kValue, &skip_until) == Decision::kRemoveAndSkipUntil);
  CHECK(skip_until == NamespacePrefix(UINT64_MAX));
  CHECK(Decide(*filter, NamespacePrefix(5), "") == Decision::kRemoveAndSkipUntil);  // 8 bytes are a namespace.
}

TEST_CASE("namespace 0 is kept") {
  Shared shared;
  const auto filter = NewFilter(shared);
  CHECK(Decide(*filter, Key(0, 1), Value("a")) == Decision::kKeep);
}

TEST_CASE("what cannot be parsed is kept and counted") {
  Shared shared;
  REQUIRE(shared.bans->Publish({5}));
  shared.bans->RaiseExpiryHorizon(UINT64_MAX);
  {
    const auto filter = NewFilter(shared);
    CHECK(Decide(*filter, "", Value("a")) == Decision::kKeep);
    CHECK(Decide(*filter, NamespacePrefix(5).substr(0, 7), Value("a")) == Decision::kKeep);
    CHECK(Decide(*filter, Key(4, 1), "") == Decision::kKeep);
    CHECK(Decide(*filter, Key(4, 1), "\x21" + std::string(20, 'x')) == Decision::kKeep);
    CHECK(Decide(*filter, Key(4, 1), Value("", 7).substr(0, 16)) == Decision::kKeep);
    CHECK(Decide(*filter, Key(5, 1), Value("a"), ValueType::kMergeOperand) == Decision::kKeep);
    CHECK(Decide(*filter, Key(5, 1), Value("a"), ValueType::kBlobIndex) == Decision::kKeep);
    CHECK(shared.filter_counts->malformed_kept == 0);  // Added when the compaction ends.
  }
  CHECK(shared.filter_counts->malformed_kept == 7);
  CHECK(shared.filter_counts->namespaces_skipped == 0);
}

TEST_CASE("a lifetime that ended at the horizon goes, a later one and none at all stay") {
  Shared shared;
  shared.bans->RaiseExpiryHorizon(1000);
  const auto filter = NewFilter(shared);
  shared.bans->RaiseExpiryHorizon(2000);  // Too late for this compaction.
  CHECK(Decide(*filter, Key(4, 1), Value("a", 999)) == Decision::kRemove);
  CHECK(Decide(*filter, Key(4, 2), Value("a", 1000)) == Decision::kRemove);
  CHECK(Decide(*filter, Key(4, 3), Value("a", 1001)) == Decision::kKeep);
  CHECK(Decide(*filter, Key(4, 4), Value("a", 0)) == Decision::kKeep);
}

TEST_CASE("a filter keeps the set it began with") {
  Shared shared;
  REQUIRE(shared.bans->Publish({5}));
  const auto filter = NewFilter(shared);
  REQUIRE(shared.bans->Publish({6}));
  shared.bans->Withdraw({5});
  CHECK(Decide(*filter, Key(5, 1), Value("a")) == Decision::kRemoveAndSkipUntil);
  CHECK(Decide(*filter, Key(6, 1), Value("a")) == Decision::kKeep);
}

TEST_CASE("flushes are not filtered") {
  Shared shared;
  BanFilterFactory factory(shared.bans, shared.filter_counts);
  rocksdb::CompactionFilter::Context context{};
  for (const auto reason : {rocksdb::TableFileCreationReason::kFlush, rocksdb::TableFileCreationReason::kRecovery,
                            rocksdb::TableFileCreationReason::kMisc}) {
    context.reason = reason;
    CHECK_FALSE(factory.ShouldFilterTableFileCreation(reason));
    CHECK(factory.CreateCompactionFilter(context) == nullptr);
  }
  REQUIRE(shared.bans->Publish({5}));
  Database db(SmallOptions(shared));
  db.Put(Key(5, 1), Value("a"));
  db.Flush();
  CHECK(db.RowsOf(5) == 1);
}

TEST_CASE("ordinary writes and RocksDB's own compactions drop a banned namespace and nothing of its neighbours") {
  Seeded random;
  Shared shared;
  Database db(SmallOptions(shared));
  std::set<std::string> live;
  for (uint64_t row = 0; row < 300; ++row) {
    for (const uint64_t id : {4, 5, 6}) {
      db.Put(Key(id, row), Value(Noise(&random, 200)));
      if (id != 5) live.insert(Key(id, row));
    }
  }
  db.Flush();
  db.Compact();  // Nothing is banned yet: everything is at the bottom.
  REQUIRE(db.RowsOf(5) == 300);

  REQUIRE(shared.bans->Publish({5}));
  // Writes of the neighbours only, spread so that compactions overlap what lies between them.
  for (uint64_t row = 0; db.RowsOf(5) > 0; ++row) {
    REQUIRE(row < 200'000);
    for (const uint64_t id : {4, 6}) db.Put(Key(id, row % 300), Value(Noise(&random, 200)));
    if (row % 1000 == 999) db.WaitForCompactions();
  }
  CHECK(db.Keys() == live);
  CHECK(shared.filter_counts->namespaces_skipped > 0);
  CHECK(shared.filter_counts->malformed_kept == 0);
}

TEST_CASE("overwritten and deleted rows of a banned namespace do not come back") {
  Shared shared;
  Database db(SmallOptions(shared));
  Fill(&db, 4, 6, 50, "old");
  db.Flush();
  db.Compact();
  Fill(&db, 4, 6, 25, "new");
  for (uint64_t row = 25; row < 50; ++row) CHECK_OK(db->Delete(rocksdb::WriteOptions(), Key(5, row)));
  db.Flush();
  REQUIRE(shared.bans->Publish({5}));
  db.Compact();
  CHECK(db.RowsOf(4) == 50);
  CHECK(db.RowsOf(5) == 0);
  CHECK(db.RowsOf(6) == 50);
}

TEST_CASE("malformed rows survive compactions beside a ban") {
  Shared shared;
  Database db(SmallOptions(shared));
  db.Put("short", Value("a"));
  db.Put(Key(4, 1), "not a value");
  db.Put(Key(5, 1), "not a value either");
  db.Put(Key(6, 1), "");
  REQUIRE(shared.bans->Publish({5}));
  db.Flush();
  db.Compact();
  CHECK(db.Keys() == std::set<std::string>{"short", Key(4, 1), Key(6, 1)});
  CHECK(shared.filter_counts->malformed_kept == 3);
}

TEST_CASE("an expired row goes and the older one below it stays hidden") {
  Shared shared;
  rocksdb::Options options = SmallOptions(shared);
  options.disable_auto_compactions = true;
  options.num_levels = 4;
  Database db(options);
  // The old row at the bottom; the expiring one above it, compacted into a level in between.
  db.Put(Key(4, 1), Value("old"));
  db.Flush();
  db.Compact();
  db.Put(Key(4, 1), Value("new", 500));
  db.Put(Key(4, 2), Value("alone", 500));
  db.Put(Key(4, 3), Value("later", 501));
  db.Flush();
  shared.bans->RaiseExpiryHorizon(500);
  std::vector<std::string> upper;
  std::vector<rocksdb::LiveFileMetaData> files;
  db->GetLiveFilesMetaData(&files);
  for (const auto& file : files) {
    if (file.level == 0) upper.push_back(file.name);
  }
  REQUIRE(upper.size() == 1);
  CHECK_OK(db->CompactFiles(rocksdb::CompactionOptions(), upper, 2));
  CHECK(shared.filter_counts->expired_dropped == 2);
  CHECK(db.Keys() == std::set<std::string>{Key(4, 3)});
  db.Compact();
  CHECK(db.Keys() == std::set<std::string>{Key(4, 3)});
}

TEST_CASE("an id that was withdrawn belongs to its new owner") {
  Shared shared;
  Database db(SmallOptions(shared));
  Fill(&db, 5, 5, 100, "old owner");
  REQUIRE(shared.bans->Publish({5}));
  db.Flush();
  db.Compact();
  REQUIRE(db.RowsOf(5) == 0);
  shared.bans->Withdraw({5});
  Fill(&db, 5, 5, 100, "new owner");
  db.Flush();
  db.Compact();
  CHECK(db.RowsOf(5) == 100);
}

TEST_CASE("bans published one by one while four threads write and compactions run take exactly their own rows") {
  Seeded random;
  constexpr uint64_t kNamespaces = 40;
  constexpr uint64_t kRounds = 4;
  constexpr uint64_t kRows = 20;
  Shared shared;
  Database db(SmallOptions(shared));
  const std::string payload = Noise(&random, 100);
  std::atomic<uint64_t> published{0};

  // Writers of even namespaces never stop; odd ones are written first, then banned one after the other.
  Fill(&db, 1, kNamespaces, kRows, payload);
  std::vector<std::thread> writers;
  for (uint64_t writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t round = 0; round < kRounds || published.load() < kNamespaces / 2; ++round) {
        for (uint64_t id = 2; id <= kNamespaces; id += 2) {
          const uint64_t row = (writer * kRounds + round % kRounds) * kRows + round % kRows;
          CHECK_OK(db->Put(rocksdb::WriteOptions(), Key(id, 1000 + row), Value(payload)));
        }
        if (round % 8 == 7) CHECK_OK(db->Flush(rocksdb::FlushOptions()));
      }
    });
  }
  std::thread compactor([&] {
    while (published.load() < kNamespaces / 2) db.Compact();
  });
  for (uint64_t id = 1; id <= kNamespaces; id += 2) {
    REQUIRE(shared.bans->Publish({id}));
    shared.bans->RaiseExpiryHorizon(id);
    published.fetch_add(1);
    std::this_thread::yield();
  }
  for (std::thread& writer : writers) writer.join();
  compactor.join();
  db.Flush();
  db.Compact();
  for (uint64_t id = 1; id <= kNamespaces; ++id) {
    INFO("namespace ", id);
    if (id % 2 == 1) {
      CHECK(db.RowsOf(id) == 0);
      CHECK(shared.bans->Current()->Contains(id));
    } else {
      CHECK(db.RowsOf(id) >= kRows);
      for (uint64_t row = 0; row < kRows; ++row) {
        std::string stored;
        CHECK_OK(db->Get(rocksdb::ReadOptions(), Key(id, row), &stored));
      }
    }
  }
  CHECK(shared.filter_counts->malformed_kept == 0);
}

}  // namespace prefixdb::test
