// Goal: every table knows its namespaces exactly, and what compactions dropped of banned ones is counted exactly where
// it is known, never too high where it is not.
//
// Method: tables of a real RocksDB against counts kept by hand; damaged properties by hand; the listener's arithmetic
// against compactions of every kind.
#include <map>

#include "namespace_stats.h"
#include "support.h"

namespace prefixdb::test {

namespace {

std::map<uint64_t, NamespaceStats> StatsById(const Database& db, bool* complete = nullptr) {
  rocksdb::TablePropertiesCollection tables;
  CHECK_OK(db->GetPropertiesOfAllTables(&tables));
  std::map<uint64_t, NamespaceStats> found;
  for (const auto& [file, properties] : tables) {
    const TableStats table = ReadNamespaceStats(*properties);
    if (complete != nullptr) *complete = *complete && table.complete;
    for (const NamespaceStats& stats : table.namespaces) {
      NamespaceStats& total = found[stats.namespace_id];
      total.rows += stats.rows;
      total.deletions += stats.deletions;
      total.bytes += stats.bytes;
    }
  }
  return found;
}

rocksdb::Options Manual(const Shared& shared, uint64_t write_buffer_bytes = 4 << 20) {
  rocksdb::Options options = SmallOptions(shared, write_buffer_bytes);
  options.disable_auto_compactions = true;
  return options;
}

TableStats Read(const std::string& property) {
  rocksdb::TableProperties properties;
  properties.user_collected_properties[kNamespaceStatsProperty] = property;
  return ReadNamespaceStats(properties);
}

std::string Entry(uint64_t id, const std::string& numbers) { return NamespacePrefix(id) + numbers; }

rocksdb::CompactionJobInfo Job(const std::map<std::string, std::string>& inputs,
                               const std::map<std::string, std::string>& outputs) {
  rocksdb::CompactionJobInfo job{};
  const auto add = [&job](const std::map<std::string, std::string>& files, std::vector<std::string>* names) {
    for (const auto& [file, property] : files) {
      names->push_back(file);
      auto properties = std::make_shared<rocksdb::TableProperties>();
      if (!property.empty()) properties->user_collected_properties[kNamespaceStatsProperty] = property;
      job.table_properties[file] = std::move(properties);
    }
  };
  add(inputs, &job.input_files);
  add(outputs, &job.output_files);
  return job;
}

}  // namespace

using namespace std::string_literals;

TEST_CASE("a table counts rows, deletions and bytes of each namespace") {
  Shared shared;
  Database db(Manual(shared));
  db.Put(Key(0, 1), Value("ab"));
  for (uint64_t row = 0; row < 300; ++row) db.Put(Key(7, row), Value("payload"));
  for (uint64_t row = 300; row < 310; ++row) CHECK_OK(db->Delete(rocksdb::WriteOptions(), Key(7, row)));
  CHECK_OK(db->SingleDelete(rocksdb::WriteOptions(), Key(9, 1)));
  CHECK_OK(db->DeleteRange(rocksdb::WriteOptions(), db->DefaultColumnFamily(), Key(3, 0), Key(3, 5)));
  db.Put("short", "no namespace");
  db.Put(Key(kNamespaceIdMax, 1), "");
  db.Flush();
  bool complete = true;
  std::map<uint64_t, NamespaceStats> stats = StatsById(db, &complete);
  const uint64_t key_bytes = Key(7, 1).size();
  CHECK(complete);
  CHECK(stats.size() == 4);
  CHECK(stats[0].rows == 1);
  CHECK(stats[0].bytes == key_bytes + Value("ab").size());
  CHECK(stats[7].rows == 300);
  CHECK(stats[7].deletions == 10);
  CHECK(stats[7].bytes == 300 * (key_bytes + Value("payload").size()) + 10 * key_bytes);
  CHECK(stats[9].rows == 0);
  CHECK(stats[9].deletions == 1);
  CHECK(stats[kNamespaceIdMax].rows == 1);
}

TEST_CASE("the largest 4096 namespaces of a table are kept, and it says that others are missing") {
  Shared shared;
  Database db(Manual(shared, 16 << 20));
  constexpr uint64_t kNamespaces = 3 * kNamespacesPerFileMax;
  for (uint64_t id = 1; id <= kNamespaces; ++id) {
    // Every third is large, whatever its place in the order.
    db.Put(Key(id, 1), Value(std::string(id % 3 == 0 ? 50 : 5, 'x')));
  }
  db.Flush();
  bool complete = true;
  const std::map<uint64_t, NamespaceStats> stats = StatsById(db, &complete);
  CHECK_FALSE(complete);
  REQUIRE(stats.size() == kNamespacesPerFileMax);
  for (const auto& [id, each] : stats) REQUIRE(id % 3 == 0);
}

TEST_CASE("exactly 4096 namespaces are complete") {
  Shared shared;
  Database db(Manual(shared));
  for (uint64_t id = 1; id <= kNamespacesPerFileMax; ++id) db.Put(Key(id, 1), Value("x"));
  db.Flush();
  bool complete = true;
  CHECK(StatsById(db, &complete).size() == kNamespacesPerFileMax);
  CHECK(complete);
}

TEST_CASE("the property has its frozen bytes, and anything else is not believed") {
  const TableStats table = Read("\1\0"s + Entry(5, "\x80\1\0\x7f"s) + Entry(6, "\1\2\3"));
  CHECK(table.complete);
  REQUIRE(table.namespaces.size() == 2);
  CHECK(table.namespaces[0].rows == 128);
  CHECK(table.namespaces[0].deletions == 0);
  CHECK(table.namespaces[0].bytes == 127);
  CHECK(table.namespaces[1].namespace_id == 6);
  CHECK_FALSE(Read("\1\1"s).complete);
  CHECK(Read("\1\0"s).complete);
  for (const std::string& damaged :
       {""s, "\1"s, "\2\0"s, "\1\2"s, "\1\0\1"s, "\1\0"s + Entry(5, "\1\2"), "\1\0"s + Entry(5, "\1\2\x80"),
        "\1\0"s + Entry(5, "\1\2\3") + Entry(5, "\1\2\3"), "\1\0"s + Entry(5, "\1\2\3") + Entry(4, "\1\2\3"),
        "\1\0"s + Entry(5, "\1\2" + std::string(9, '\xff') + "\2"), "\1\0"s + Entry(5, std::string(11, '\xff'))}) {
    const TableStats refused = Read(damaged);
    CHECK_FALSE(refused.complete);
    CHECK(refused.namespaces.empty());
  }
  CHECK(Read("\1\0"s + Entry(5, "\1\2" + std::string(9, '\xff') + "\1")).namespaces[0].bytes == UINT64_MAX);
}

TEST_CASE("what a table wrote is read again whatever the numbers") {
  Seeded random;
  for (int round = 0; round < 50; ++round) {
    const std::unique_ptr<rocksdb::TablePropertiesCollector> collector(
        NewNamespaceStatsCollectorFactory()->CreateTablePropertiesCollector({}));
    std::map<uint64_t, std::pair<uint64_t, uint64_t>> model;
    std::set<uint64_t> ids;
    for (uint64_t each = random.Below(40); each > 0; --each) ids.insert(random() % 300);
    for (const uint64_t id : ids) {
      for (uint64_t row = random.Below(300); row > 0; --row) {
        const std::string stored(random.Below(100), 'x');
        CHECK_OK(collector->AddUserKey(Key(id, row), stored, rocksdb::kEntryPut, 1, 0));
        model[id].first += 1;
        model[id].second += Key(id, row).size() + stored.size();
      }
    }
    rocksdb::TableProperties properties;
    CHECK_OK(collector->Finish(&properties.user_collected_properties));
    const TableStats table = ReadNamespaceStats(properties);
    CHECK(table.complete);
    REQUIRE(table.namespaces.size() == model.size());
    for (const NamespaceStats& stats : table.namespaces) {
      REQUIRE(model[stats.namespace_id] == std::pair(stats.rows, stats.bytes));
    }
  }
}

TEST_CASE("random damage to a property is never misread as more than it says") {
  Seeded random;
  const std::string whole = "\1\0"s + Entry(5, "\x80\1\0\x7f"s) + Entry(6, "\1\2\3") + Entry(900, "\x90\x80\1\2\3");
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = whole;
    damaged[random.Below(damaged.size())] = static_cast<char>(random());
    damaged.resize(random.Below(2) == 0 ? damaged.size() : random.Below(damaged.size()));
    const TableStats table = Read(damaged);
    for (size_t each = 1; each < table.namespaces.size(); ++each) {
      REQUIRE(table.namespaces[each - 1].namespace_id < table.namespaces[each].namespace_id);
    }
  }
}

TEST_CASE("a compaction that drops a namespace counts its rows and bytes exactly") {
  Shared shared;
  Database db(Manual(shared));
  uint64_t bytes = 0;
  for (uint64_t row = 0; row < 120; ++row) {
    for (uint64_t id = 4; id <= 6; ++id) db.Put(Key(id, row), Value("payload"));
    bytes += Key(5, row).size() + Value("payload").size();
    if (row % 50 == 49) db.Flush();
  }
  db.Flush();
  REQUIRE(shared.bans->Publish({5}));
  db.Compact();
  CHECK(shared.drop_counters->Of(5).rows == 120);
  CHECK(shared.drop_counters->Of(5).bytes == bytes);
  CHECK(shared.drop_counters->Of(4).rows == 0);
  db.Compact();
  CHECK(shared.drop_counters->Of(5).rows == 120);
  shared.drop_counters->Forget({4, 5});
  CHECK(shared.drop_counters->Of(5).rows == 0);
  CHECK(shared.drop_counters->Of(5).bytes == 0);
}

TEST_CASE("rows that were compacted before the ban count once, overwritten ones too") {
  Shared shared;
  Database db(Manual(shared));
  for (int round = 0; round < 3; ++round) {
    for (uint64_t row = 0; row < 10; ++row) db.Put(Key(5, row), Value("payload"));
    db.Flush();
  }
  db.Compact();
  CHECK(shared.drop_counters->Of(5).rows == 0);  // Twenty went, but nobody had banned it.
  for (uint64_t row = 0; row < 10; ++row) db.Put(Key(5, row), Value("payload"));
  db.Flush();
  REQUIRE(shared.bans->Publish({5}));
  db.Compact();
  CHECK(shared.drop_counters->Of(5).rows == 20);
}

TEST_CASE("a file that only moved to another level dropped nothing") {
  Shared shared;
  rocksdb::Options options = SmallOptions(shared, 4 << 20);
  options.level0_file_num_compaction_trigger = 1;
  Database db(options);
  REQUIRE(shared.bans->Publish({5}));
  for (uint64_t row = 0; row < 10; ++row) db.Put(Key(5, row), Value("payload"));
  db.Flush();
  WaitFor([&] { return db.FilesAtLevel0() == "0"; });
  db.WaitForCompactions();
  REQUIRE(db.RowsOf(5) == 10);
  CHECK(shared.drop_counters->Of(5).rows == 0);
  db.Compact();
  CHECK(shared.drop_counters->Of(5).rows == 10);
}

TEST_CASE("files without the property never make a count too high") {
  Shared shared;
  REQUIRE(shared.bans->Publish({5, 6}));
  const auto listener = NewDropListener(shared.bans, shared.drop_counters);
  const auto of = [&](uint64_t id) { return shared.drop_counters->Of(id); };
  const std::string five = "\1\0"s + Entry(5, "\x0a\0\x64"s);  // 10 rows, 100 bytes.
  const std::string more = "\1\0"s + Entry(5, "\x14\0\x7f"s);  // 20 rows, 127 bytes.
  const std::string partly = "\1\1"s + Entry(4, "\1\0\1"s);    // 5 may be in there.
  const std::string none = "\1\0"s;

  listener->OnCompactionCompleted(nullptr, Job({{"1", five}, {"2", ""}}, {{"3", none}}));
  CHECK(of(5).rows == 10);  // What the inputs are known to have held; the other file is not counted.
  listener->OnCompactionCompleted(nullptr, Job({{"1", five}, {"2", ""}}, {{"3", more}}));
  CHECK(of(5).rows == 10);  // More came out than is known to have gone in: nothing is claimed.
  listener->OnCompactionCompleted(nullptr, Job({{"1", more}}, {{"3", five}}));
  CHECK(of(5).rows == 20);
  CHECK(of(5).bytes == 127);
  listener->OnCompactionCompleted(nullptr, Job({{"1", five}}, {{"3", partly}}));
  CHECK(of(5).rows == 20);
  listener->OnCompactionCompleted(nullptr, Job({{"1", five}}, {{"3", ""}}));
  CHECK(of(5).rows == 20);
  listener->OnCompactionCompleted(nullptr, Job({{"1", five}}, {{"1", five}}));
  CHECK(of(5).rows == 20);
  listener->OnCompactionCompleted(nullptr, Job({{"1", five}}, {}));
  CHECK(of(5).rows == 30);
  rocksdb::CompactionJobInfo failed = Job({{"1", five}}, {});
  failed.status = rocksdb::Status::IOError();
  listener->OnCompactionCompleted(nullptr, failed);
  CHECK(of(5).rows == 30);
  CHECK(of(6).rows == 0);
}

TEST_CASE("tables written without the property are compacted and counted from then on") {
  Shared shared;
  const Scratch scratch;
  const std::string path = (scratch.path() / "db").string();
  const auto open = [&path](const rocksdb::Options& options) {
    rocksdb::DB* raw = nullptr;
    CHECK_OK(rocksdb::DB::Open(options, path, &raw));
    return std::unique_ptr<rocksdb::DB>(raw);
  };
  {
    rocksdb::Options foreign;
    foreign.create_if_missing = true;
    const auto db = open(foreign);
    for (uint64_t row = 0; row < 10; ++row) CHECK_OK(db->Put(rocksdb::WriteOptions(), Key(5, row), Value("a")));
    CHECK_OK(db->Put(rocksdb::WriteOptions(), Key(6, 1), Value("a")));
    CHECK_OK(db->Flush(rocksdb::FlushOptions()));
  }
  REQUIRE(shared.bans->Publish({5}));
  const auto db = open(Manual(shared));
  for (uint64_t row = 0; row < 3; ++row) CHECK_OK(db->Put(rocksdb::WriteOptions(), Key(5, row), Value("b")));
  CHECK_OK(db->Flush(rocksdb::FlushOptions()));
  rocksdb::CompactRangeOptions how;
  how.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  CHECK_OK(db->CompactRange(how, nullptr, nullptr));
  std::string stored;
  CHECK(db->Get(rocksdb::ReadOptions(), Key(5, 1), &stored).IsNotFound());
  CHECK_OK(db->Get(rocksdb::ReadOptions(), Key(6, 1), &stored));
  CHECK(shared.drop_counters->Of(5).rows == 3);
}

}  // namespace prefixdb::test
