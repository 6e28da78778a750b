// Goal: a database with our memtable answers as one with RocksDB's own, from memory, from files and from the log.
// Method: the same random operations on both, every read compared.
#include "memtable.h"

#include <array>
#include <vector>

#include "support.h"

namespace {

using prefixdb::test::Seeded;

class Pair {
 public:
  explicit Pair(size_t write_buffer_bytes) : write_buffer_bytes_(write_buffer_bytes) { Open(); }
  ~Pair() { Close(); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void Reopen() {
    Close();
    Open();
  }
  template <typename Do>
  void Each(Do what) {
    for (auto& db : dbs_) CHECK_OK(what(db.get()));
  }
  void TakeSnapshot() {
    if (snapshots_[0].size() == 4) DropSnapshots();
    for (size_t side = 0; side < 2; ++side) snapshots_[side].push_back(dbs_[side]->GetSnapshot());
  }
  void DropSnapshots() {
    for (size_t side = 0; side < 2; ++side) {
      for (const auto* snapshot : snapshots_[side]) dbs_[side]->ReleaseSnapshot(snapshot);
      snapshots_[side].clear();
    }
  }
  // What both say must be the same.
  template <typename Read>
  void Same(uint64_t choice, Read read) {
    std::array<std::string, 2> answers;
    for (size_t side = 0; side < 2; ++side) {
      rocksdb::ReadOptions options;
      if (const size_t kept = choice % (snapshots_[side].size() + 1); kept > 0) {
        options.snapshot = snapshots_[side][kept - 1];
      }
      answers[side] = read(dbs_[side].get(), options);
    }
    REQUIRE(answers[0] == answers[1]);
  }

 private:
  void Open() {
    for (size_t side = 0; side < 2; ++side) {
      rocksdb::Options options;
      options.create_if_missing = true;
      options.write_buffer_size = write_buffer_bytes_;
      options.allow_concurrent_memtable_write = false;
      if (side == 1) options.memtable_factory = prefixdb::NewMemtableFactory();
      rocksdb::DB* raw = nullptr;
      CHECK_OK(rocksdb::DB::Open(options, (scratch_.path() / std::to_string(side)).string(), &raw));
      dbs_[side].reset(raw);
    }
  }
  void Close() {
    DropSnapshots();
    for (auto& db : dbs_) db.reset();
  }

  const size_t write_buffer_bytes_;
  prefixdb::test::Scratch scratch_;
  std::array<std::unique_ptr<rocksdb::DB>, 2> dbs_;
  std::array<std::vector<const rocksdb::Snapshot*>, 2> snapshots_;
};

std::string RandomKey(Seeded* random) {
  if (random->Below(20) == 0) return prefixdb::test::Noise(random, random->Below(4));
  return prefixdb::test::Key(random->Below(3), random->Below(800));
}

std::string Walk(rocksdb::DB* db, const rocksdb::ReadOptions& options, const std::string& from, bool forward) {
  const std::unique_ptr<rocksdb::Iterator> walk(db->NewIterator(options));
  std::string seen;
  int steps = 0;
  if (forward) {
    for (walk->Seek(from); walk->Valid() && steps < 60; walk->Next(), ++steps) {
      seen += walk->key().ToString() + '=' + walk->value().ToString() + ';';
      if (steps % 10 == 9) walk->Prev();
      if (!walk->Valid()) break;
    }
  } else {
    for (walk->SeekForPrev(from); walk->Valid() && steps < 60; walk->Prev(), ++steps) {
      seen += walk->key().ToString() + '=' + walk->value().ToString() + ';';
    }
  }
  walk->SeekToLast();
  if (walk->Valid()) seen += walk->key().ToString();
  walk->SeekToFirst();
  if (walk->Valid()) seen += walk->key().ToString();
  CHECK_OK(walk->status());
  return seen;
}

void Compare(Pair* both, Seeded* random) {
  const std::string key = RandomKey(random);
  const uint64_t choice = (*random)();
  both->Same(choice, [&](rocksdb::DB* db, const rocksdb::ReadOptions& options) {
    std::string value;
    const auto status = db->Get(options, key, &value);
    return status.ToString() + value;
  });
  if (random->Below(10) != 0) return;
  const bool forward = random->Below(2) == 0;
  both->Same(choice,
             [&](rocksdb::DB* db, const rocksdb::ReadOptions& options) { return Walk(db, options, key, forward); });
  std::vector<std::string> names;
  for (int count = 0; count < 20; ++count) names.push_back(RandomKey(random));
  const std::vector<rocksdb::Slice> keys(names.begin(), names.end());
  both->Same(choice, [&](rocksdb::DB* db, const rocksdb::ReadOptions& options) {
    std::vector<std::string> values;
    std::string answer;
    for (const auto& status : db->MultiGet(options, keys, &values)) answer += status.ToString();
    for (const std::string& value : values) answer += value;
    return answer;
  });
}

TEST_CASE("a database with this memtable answers as one with RocksDB's own") {
  Seeded random;
  for (const size_t buffer : {64u << 10, 64u << 20}) {
    Pair both(buffer);
    for (int turn = 0; turn < 6000; ++turn) {
      rocksdb::WriteBatch batch;
      for (uint64_t count = 1 + random.Below(20); count > 0; --count) {
        const std::string key = RandomKey(&random);
        if (const uint64_t kind = random.Below(20); kind == 0) {
          CHECK_OK(batch.Delete(key));
        } else if (kind == 1 && random.Below(20) == 0) {
          const std::string end = key + static_cast<char>(random.Below(256));
          CHECK_OK(batch.DeleteRange(key, end));
        } else {
          CHECK_OK(batch.Put(key, std::to_string(turn) + std::string(random.Below(40), 'v')));
        }
      }
      both.Each([&](rocksdb::DB* db) { return db->Write(rocksdb::WriteOptions(), &batch); });
      Compare(&both, &random);
      if (random.Below(200) == 0) both.TakeSnapshot();
      if (random.Below(1000) == 0) both.Reopen();  // From the log.
      if (random.Below(1500) == 0) {
        both.Each([](rocksdb::DB* db) { return db->Flush(rocksdb::FlushOptions()); });
      }
    }
  }
}

TEST_CASE("a directory written with one memtable opens with the other, log and all") {
  const prefixdb::Shared shared;
  prefixdb::test::Scratch scratch;
  const std::string path = (scratch.path() / "db").string();
  for (int turn = 0; turn < 4; ++turn) {
    rocksdb::Options options = prefixdb::test::SmallOptions(shared, 1 << 20);
    if (turn % 2 == 0) options.memtable_factory = std::make_shared<rocksdb::SkipListFactory>();
    rocksdb::DB* raw = nullptr;
    CHECK_OK(rocksdb::DB::Open(options, path, &raw));
    const std::unique_ptr<rocksdb::DB> db(raw);
    for (int before = 0; before < turn; ++before) {
      std::string value;
      CHECK_OK(db->Get(rocksdb::ReadOptions(), prefixdb::test::Key(1, static_cast<uint64_t>(before)), &value));
    }
    CHECK_OK(db->Put(rocksdb::WriteOptions(), prefixdb::test::Key(1, static_cast<uint64_t>(turn)), "value"));
  }
}

TEST_CASE("rows that only memory has count in approximate sizes") {
  const prefixdb::Shared shared;
  prefixdb::test::Database database(prefixdb::test::SmallOptions(shared, 8 << 20));
  double bytes = 0;
  for (uint64_t number = 0; number < 10000; ++number) {
    const std::string key = prefixdb::test::Key(number % 4, number);
    const std::string value = prefixdb::test::Value("payload");
    if (number % 4 == 1) bytes += static_cast<double>(key.size() + value.size());
    database.Put(key, value);
  }
  const std::string begin = prefixdb::test::Key(1, 0);
  const std::string end = prefixdb::test::Key(2, 0);
  const rocksdb::Range range(begin, end);
  rocksdb::SizeApproximationOptions options;
  options.include_memtables = true;
  uint64_t said = 0;
  CHECK_OK(database->GetApproximateSizes(options, database->DefaultColumnFamily(), &range, 1, &said));
  CHECK(static_cast<double>(said) > 0.5 * bytes);
  CHECK(static_cast<double>(said) < 2 * bytes);
}

}  // namespace
