// What the tests of the compiled part share: scratch directories, databases opened as the store opens them, rows, and
// random numbers whose seed is printed.
#pragma once

#include <rocksdb/db.h>
#include <unistd.h>

// After RocksDB, so that its headers never see doctest's macros.
#include <doctest.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "key_codec.h"
#include "options.h"
#include "value_codec.h"

#define CHECK_OK(expression)                      \
  do {                                            \
    const rocksdb::Status status_ = (expression); \
    INFO(status_.ToString());                     \
    REQUIRE(status_.ok());                        \
  } while (false)

namespace prefixdb::test {

// A directory that is gone afterwards.
class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "prefixdb-native-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Random numbers that can be had again: PREFIXDB_SEED=number repeats a run.
class Seeded : public std::mt19937_64 {
 public:
  Seeded() : Seeded(Choose()) {}
  uint64_t Below(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(*this); }

 private:
  explicit Seeded(uint64_t seed) : std::mt19937_64(seed) {}
  static uint64_t Choose() {
    const char* wanted = std::getenv("PREFIXDB_SEED");
    const uint64_t seed = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : std::random_device()();
    std::cout << "PREFIXDB_SEED=" << seed << std::endl;
    return seed;
  }
};

// Polls a condition that background work will make true.
template <typename Condition>
void WaitFor(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

inline std::string Key(uint64_t namespace_id, uint64_t number) {
  std::string digits = std::to_string(number);
  digits.insert(0, 12 - digits.size(), '0');
  return *EncodeDataKey(namespace_id, 0, digits);
}

inline std::string Value(std::string_view payload, uint64_t expires_at_ms = 0, uint64_t version = 1) {
  std::string stored;
  EncodeValue(payload, version, expires_at_ms, &stored);
  return stored;
}

// Bytes that no codec makes smaller.
inline std::string Noise(std::mt19937_64* random, size_t bytes) {
  std::string noise(bytes, '\0');
  for (char& each : noise) each = static_cast<char>((*random)());
  return noise;
}

// Options as the store's own, with files small enough for tests.
inline rocksdb::Options SmallOptions(const Shared& shared, uint64_t write_buffer_bytes = 64 << 10) {
  OpenOptions wanted;
  wanted.create = true;
  wanted.cache_bytes = 1 << 20;
  wanted.write_buffer_bytes = write_buffer_bytes;
  return DatabaseOptions(wanted, shared);
}

// A database in a scratch directory.
class Database {
 public:
  explicit Database(const rocksdb::Options& options) {
    rocksdb::DB* raw = nullptr;
    CHECK_OK(rocksdb::DB::Open(options, (scratch_.path() / "db").string(), &raw));
    db_.reset(raw);
  }
  rocksdb::DB* operator->() const { return db_.get(); }
  rocksdb::DB* get() const { return db_.get(); }

  void Put(const std::string& key, const std::string& stored) {
    CHECK_OK(db_->Put(rocksdb::WriteOptions(), key, stored));
  }
  void Flush() { CHECK_OK(db_->Flush(rocksdb::FlushOptions())); }

  // Everything, or one namespace, bottommost level included. Listeners have been told when it returns.
  void Compact(std::optional<uint64_t> namespace_id = std::nullopt) {
    rocksdb::CompactRangeOptions how;
    how.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    if (!namespace_id) {
      CHECK_OK(db_->CompactRange(how, nullptr, nullptr));
    } else {
      const KeySpan span = *NamespaceSpan(*namespace_id);
      const rocksdb::Slice begin = span.first;
      const rocksdb::Slice end = span.second;
      CHECK_OK(db_->CompactRange(how, &begin, &end));
    }
  }

  uint64_t Property(const std::string& name) const {
    uint64_t value = 0;
    REQUIRE(db_->GetIntProperty("rocksdb." + name, &value));
    return value;
  }

  std::string FilesAtLevel0() const {
    std::string count;
    REQUIRE(db_->GetProperty("rocksdb.num-files-at-level0", &count));
    return count;
  }

  // Waits until no flush or compaction is running or due.
  void WaitForCompactions() const {
    WaitFor([this] {
      return Property("mem-table-flush-pending") + Property("num-running-flushes") + Property("compaction-pending") +
                 Property("num-running-compactions") ==
             0;
    });
  }

  std::set<std::string> Keys() const {
    std::set<std::string> keys;
    const std::unique_ptr<rocksdb::Iterator> rows(db_->NewIterator(rocksdb::ReadOptions()));
    for (rows->SeekToFirst(); rows->Valid(); rows->Next()) keys.insert(rows->key().ToString());
    CHECK_OK(rows->status());
    return keys;
  }

  uint64_t RowsOf(uint64_t namespace_id) const {
    const KeySpan span = *NamespaceSpan(namespace_id);
    uint64_t rows = 0;
    const std::unique_ptr<rocksdb::Iterator> each(db_->NewIterator(rocksdb::ReadOptions()));
    for (each->Seek(span.first); each->Valid() && each->key().compare(span.second) < 0; each->Next()) ++rows;
    CHECK_OK(each->status());
    return rows;
  }

 private:
  const Scratch scratch_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace prefixdb::test
