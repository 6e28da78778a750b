// Goal: files end where a namespace ends once they are worth it, and only there because of us.
//
// Method: the decision itself, then the files of a real RocksDB: whose rows are in them.
#include <rocksdb/convenience.h>

#include <map>

#include "namespace_partitioner.h"
#include "namespace_stats.h"
#include "support.h"

namespace prefixdb::test {

namespace {

rocksdb::PartitionerResult Decide(rocksdb::SstPartitioner* partitioner, const std::string& before,
                                  const std::string& now, uint64_t size) {
  const rocksdb::Slice prev = before;
  const rocksdb::Slice current = now;
  return partitioner->ShouldPartition(rocksdb::PartitionerRequest(prev, current, size));
}

std::unique_ptr<rocksdb::SstPartitioner> NewPartitioner(uint64_t file_bytes_min) {
  return NewNamespacePartitionerFactory(file_bytes_min)->CreatePartitioner(rocksdb::SstPartitioner::Context{});
}

// The namespaces of each file.
std::vector<std::vector<uint64_t>> NamespacesByFile(const Database& db) {
  rocksdb::TablePropertiesCollection tables;
  CHECK_OK(db->GetPropertiesOfAllTables(&tables));
  std::vector<std::vector<uint64_t>> found;
  for (const auto& [file, properties] : tables) {
    std::vector<uint64_t> ids;
    for (const NamespaceStats& stats : ReadNamespaceStats(*properties).namespaces) ids.push_back(stats.namespace_id);
    found.push_back(ids);
  }
  std::sort(found.begin(), found.end());
  return found;
}

rocksdb::Options Options(const Shared& shared) {
  rocksdb::Options options = SmallOptions(shared, 4 << 20);
  options.disable_auto_compactions = true;
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kNoCompression;
  options.target_file_size_base = 256 << 10;
  options.sst_partitioner_factory = NewNamespacePartitionerFactory(options.target_file_size_base / 4);
  return options;
}

}  // namespace

TEST_CASE("only a new namespace cuts, and only a file of the least size") {
  const auto partitioner = NewPartitioner(1000);
  CHECK(Decide(partitioner.get(), Key(1, 1), Key(2, 1), 1000) == rocksdb::kRequired);
  CHECK(Decide(partitioner.get(), Key(1, 1), Key(2, 1), 999) == rocksdb::kNotRequired);
  CHECK(Decide(partitioner.get(), Key(1, 1), Key(1, 2), UINT64_MAX) == rocksdb::kNotRequired);
  CHECK(Decide(partitioner.get(), Key(1, 1), Key(1, 1), UINT64_MAX) == rocksdb::kNotRequired);
  CHECK(Decide(partitioner.get(), *EncodeSystemKey(1, 0, ""), Key(1, 1), UINT64_MAX) == rocksdb::kNotRequired);
  CHECK(Decide(partitioner.get(), Key(255, 1), Key(256, 1), 1000) == rocksdb::kRequired);
  CHECK(Decide(partitioner.get(), "", Key(1, 1), UINT64_MAX) == rocksdb::kNotRequired);
  CHECK(Decide(partitioner.get(), Key(1, 1), "\xff", UINT64_MAX) == rocksdb::kNotRequired);
}

TEST_CASE("large namespaces own whole files, tiny ones share") {
  Seeded random;
  Shared shared;
  Database db(Options(shared));
  // 1 to 100 with one row of 1 KiB each; 1000 and 1001 with 400 KiB each; 2000 to 2099 with one row again.
  for (uint64_t id = 1; id <= 100; ++id) db.Put(Key(id, 1), Value(Noise(&random, 1 << 10)));
  for (const uint64_t id : {1000, 1001}) {
    for (uint64_t row = 0; row < 400; ++row) db.Put(Key(id, row), Value(Noise(&random, 1 << 10)));
  }
  for (uint64_t id = 2000; id < 2100; ++id) db.Put(Key(id, 1), Value(Noise(&random, 1 << 10)));
  db.Flush();
  db.Compact();

  std::map<uint64_t, size_t> shared_files;
  size_t files_of_tiny = 0;
  for (const std::vector<uint64_t>& ids : NamespacesByFile(db)) {
    if (ids.size() == 1) continue;
    ++files_of_tiny;
    for (const uint64_t id : ids) ++shared_files[id];
  }
  CHECK(files_of_tiny >= 2);
  CHECK(files_of_tiny <= 6);
  // The end of a large namespace may be less than a quarter of a file and then shares it; its beginning too.
  CHECK(shared_files[1000] <= 1);
  CHECK(shared_files[1001] <= 1);

  const KeySpan span = *NamespaceSpan(1001);
  const rocksdb::Slice begin = span.first;
  const rocksdb::Slice end = span.second;
  const rocksdb::RangePtr range(&begin, &end);
  CHECK_OK(rocksdb::DeleteFilesInRanges(db.get(), db->DefaultColumnFamily(), &range, 1, false));
  CHECK(db.RowsOf(1001) < 100);  // Most of it went without being read.
  CHECK(db.RowsOf(1000) == 400);
  CHECK(db.RowsOf(2000) == 1);
}

TEST_CASE("versions of one key that a snapshot holds stay in one file, although it is large enough to be cut") {
  Seeded random;
  Shared shared;
  Database db(Options(shared));
  std::vector<const rocksdb::Snapshot*> snapshots;
  for (int version = 0; version < 10; ++version) {
    for (const uint64_t id : {1, 2, 3}) db.Put(Key(id, 1), Value(Noise(&random, 8 << 10)));
    snapshots.push_back(db->GetSnapshot());
  }
  db.Flush();
  db.Compact();
  CHECK(NamespacesByFile(db) == std::vector<std::vector<uint64_t>>{{1}, {2}, {3}});
  for (const rocksdb::Snapshot* snapshot : snapshots) db->ReleaseSnapshot(snapshot);
  CHECK(db.RowsOf(2) == 1);
}

TEST_CASE("range tombstones beside namespace boundaries delete their own rows only, across cuts and compactions") {
  Seeded random;
  Shared shared;
  Database db(Options(shared));
  const rocksdb::Snapshot* snapshot = nullptr;
  std::set<std::string> live;
  for (int round = 0; round < 4; ++round) {
    for (uint64_t id = 1; id <= 8; ++id) {
      for (uint64_t row = 0; row < 100; ++row) {
        db.Put(Key(id, row), Value(Noise(&random, 1 << 10)));
        live.insert(Key(id, row));
      }
    }
    if (round == 1) snapshot = db->GetSnapshot();  // Keeps tombstones and what they cover in the outputs.
    for (uint64_t id = 1; id <= 8; ++id) {
      // To the very end of the namespace, or from its very beginning.
      const KeySpan span = *NamespaceSpan(id);
      const uint64_t cut = random.Below(100);
      const bool tail = random.Below(2) == 0;
      CHECK_OK(db->DeleteRange(rocksdb::WriteOptions(), db->DefaultColumnFamily(), tail ? Key(id, cut) : span.first,
                               tail ? span.second : Key(id, cut)));
      for (uint64_t row = tail ? cut : 0; row < (tail ? 100 : cut); ++row) live.erase(Key(id, row));
    }
    db.Flush();
    db.Compact();
    REQUIRE(db.Keys() == live);
  }
  db->ReleaseSnapshot(snapshot);
  db.Compact();
  CHECK(db.Keys() == live);
}

TEST_CASE("a file that holds many tiny namespaces is moved down without being rewritten") {
  Shared shared;
  Database db(Options(shared));
  for (uint64_t id = 1; id <= 50; ++id) db.Put(Key(id, 1), Value("tiny"));
  db.Flush();
  const auto partitioner = NewPartitioner(0);
  CHECK(partitioner->CanDoTrivialMove(Key(1, 1), Key(50, 1)));
  CHECK(partitioner->CanDoTrivialMove(Key(1, 1), Key(1, 2)));

  std::vector<rocksdb::LiveFileMetaData> before;
  db->GetLiveFilesMetaData(&before);
  REQUIRE(before.size() == 1);
  REQUIRE(before[0].level == 0);
  CHECK_OK(db->SetOptions({{"disable_auto_compactions", "false"}, {"level0_file_num_compaction_trigger", "1"}}));
  WaitFor([&] {
    std::vector<rocksdb::LiveFileMetaData> now;
    db->GetLiveFilesMetaData(&now);
    return now.size() == 1 && now[0].level > 0 && now[0].name == before[0].name;
  });
}

}  // namespace prefixdb::test
