// Goal: what a caller wishes for arrives in the options, and compactions yield to everything else.
//
// Method: the options themselves. That everything else equals the other store's settings is compared from Python, where
// both stores are (tests/unit/test_native_options.py).
#include "options.h"

#include <rocksdb/cache.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>

#include "support.h"

namespace prefixdb::test {

TEST_CASE("compactions are limited only when a limit is wished for") {
  const Shared shared;
  OpenOptions wanted;
  CHECK(DatabaseOptions(wanted, shared).rate_limiter == nullptr);
  wanted.compaction_bytes_per_second = 7 << 20;
  CHECK(DatabaseOptions(wanted, shared).rate_limiter->GetBytesPerSecond() == 7 << 20);
  wanted.compaction_bytes_per_second = UINT64_MAX;
  CHECK(DatabaseOptions(wanted, shared).rate_limiter->GetBytesPerSecond() == INT64_MAX);
}

TEST_CASE("a database with a limit flushes and compacts, and its compactions take the time the limit asks for") {
  Seeded random;
  const Shared shared;
  OpenOptions wanted;
  wanted.create = true;
  wanted.compaction_bytes_per_second = 4 << 20;
  rocksdb::Options options = DatabaseOptions(wanted, shared);
  options.disable_auto_compactions = true;
  Database db(options);
  for (uint64_t row = 0; row < 2000; ++row) db.Put(Key(1, row), Value(Noise(&random, 1 << 10)));
  db.Flush();
  const auto begin = std::chrono::steady_clock::now();
  db.Compact();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  CHECK(spent.count() > 0.2);  // 2 MB at 4 MiB/s, less what a period lets through at once.
  CHECK(db.RowsOf(1) == 2000);
}

TEST_CASE("sizes and limits arrive") {
  const Shared shared;
  OpenOptions wanted;
  wanted.write_buffer_bytes = 3 << 20;
  wanted.max_open_files = 77;
  const rocksdb::Options options = DatabaseOptions(wanted, shared);
  CHECK_FALSE(options.create_if_missing);
  CHECK(options.write_buffer_size == 3 << 20);
  CHECK(options.max_total_wal_size == 12 << 20);
  CHECK(options.max_open_files == 77);
}

TEST_CASE("a shard of the cache holds the filter of the largest file") {
  const Shared shared;
  OpenOptions wanted;
  const auto shards = [&](uint64_t mebibytes) {
    wanted.cache_bytes = mebibytes << 20;
    const auto options = DatabaseOptions(wanted, shared);
    const auto& cache = options.table_factory->GetOptions<rocksdb::BlockBasedTableOptions>()->block_cache;
    CHECK(cache->GetCapacity() == wanted.cache_bytes);
    const std::string printed = options.table_factory->GetPrintableOptions();
    const size_t at = printed.find("num_shard_bits : ");
    REQUIRE(at != std::string::npos);
    return 1 << std::stoi(printed.substr(at + 17));
  };
  CHECK(shards(1) == 1);
  CHECK(shards(31) == 1);
  CHECK(shards(32) == 2);
  CHECK(shards(256) == 16);
  CHECK(shards(1 << 20) == 64);
}

TEST_CASE("compaction threads have a lower priority than flushes and everybody else") {
  const Shared shared;
  OpenOptions wanted;
  const rocksdb::Options options = DatabaseOptions(wanted, shared);
  const auto nice_of = [&options](rocksdb::Env::Priority pool) {
    struct Answer {
      std::atomic<int> nice{-1000};
    } answer;
    options.env->IncBackgroundThreadsIfNeeded(1, pool);
    options.env->Schedule(
        [](void* to) {
          const auto thread = static_cast<id_t>(syscall(SYS_gettid));
          static_cast<Answer*>(to)->nice = getpriority(PRIO_PROCESS, thread);
        },
        &answer, pool);
    WaitFor([&answer] { return answer.nice != -1000; });
    return answer.nice.load();
  };
  CHECK(nice_of(rocksdb::Env::LOW) == 19);
  CHECK(nice_of(rocksdb::Env::HIGH) == getpriority(PRIO_PROCESS, 0));
}

}  // namespace prefixdb::test
