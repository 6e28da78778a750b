#include "options.h"

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/table.h>

#include <limits>

#include "memtable.h"
#include "namespace_partitioner.h"

namespace prefixdb {

namespace {

constexpr uint64_t kKiB = 1ull << 10;
constexpr uint64_t kMiB = 1ull << 20;

// A cache is made of shards, and a block larger than half of its shard is never kept. The filter of one file can be 4
// MiB large, and one that is not kept is read again by every read of that file: RocksDB's own choice of 64 shards made
// reads ten times slower at 32 MiB of cache.
int CacheShardBits(uint64_t cache_bytes) {
  constexpr uint64_t kShardBytesMin = 16 * kMiB;
  int bits = 0;
  while (bits < 6 && (cache_bytes >> (bits + 1)) >= kShardBytesMin) ++bits;
  return bits;
}

std::shared_ptr<rocksdb::TableFactory> TableOptions(uint64_t cache_bytes) {
  rocksdb::BlockBasedTableOptions table;
  // RocksDB 7.8 and 9.8 read each other's files with this one; either store may open the directory.
  table.format_version = 5;
  // Ten bits a key: one absent key in a hundred costs a block read.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_cache = rocksdb::NewLRUCache(cache_bytes, CacheShardBits(cache_bytes));
  // Index and filter blocks count against the cache, so its size is the whole memory of reads; those of level 0, which
  // every read asks, stay.
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.block_size = 8 * kKiB;
  return std::shared_ptr<rocksdb::TableFactory>(rocksdb::NewBlockBasedTableFactory(table));
}

// The settings both stores share; prefixdb/store/rocksdict.py has the same list.
void SetShared(const OpenOptions& wanted, rocksdb::Options* options) {
  options->create_if_missing = wanted.create;
  options->paranoid_checks = true;
  // The default recovery drops everything from the first damaged record on, silently. This one forgives only the record
  // that was being written when the machine stopped.
  options->wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options->table_factory = TableOptions(wanted.cache_bytes);

  // lz4 costs little where data is rewritten often; zstd pays where nine tenths of it rest.
  options->compression = rocksdb::kLZ4Compression;
  options->bottommost_compression = rocksdb::kZSTD;
  // Keeps space amplification near 1.1 whatever the size of the database: a dropped namespace is worth giving back.
  options->level_compaction_dynamic_level_bytes = true;

  options->write_buffer_size = wanted.write_buffer_bytes;
  // A third memtable lets writers go on while two are being flushed.
  options->max_write_buffer_number = 3;
  // Bounds what a restart has to replay, also when a trickle of writes never fills a memtable.
  options->max_total_wal_size = 4 * wanted.write_buffer_bytes;
  // Two cores are the smallest machine this runs on: one flush and one compaction at a time keep up there.
  options->max_background_jobs = 2;
  // Spreads write-back over time, so that the fsync of a commit does not wait behind a whole table file.
  options->bytes_per_sync = 1 * kMiB;
  options->compaction_readahead_size = 2 * kMiB;

  options->max_open_files = wanted.max_open_files;
  // The MANIFEST is read at every start; a small one keeps that fast.
  options->max_manifest_file_size = 16 * kMiB;
  options->max_log_file_size = 4 * kMiB;
  options->keep_log_file_num = 4;
  // Debian builds RocksDB with its assertions, and the log of such a build is chatty unless told otherwise.
  options->info_log_level = rocksdb::INFO_LEVEL;
  // The info log of a rehearsal or a small database needs no statistics every ten minutes.
  options->stats_dump_period_sec = 0;
  options->stats_persist_period_sec = 0;
}

// What only this store has; the files stay readable without it.
void SetOwn(const OpenOptions& wanted, const Shared& shared, rocksdb::Options* options) {
  // Only in memory: neither the log nor the files know of it.
  options->memtable_factory = NewMemtableFactory();
  options->allow_concurrent_memtable_write = false;  // The committer is the only writer.
  options->compaction_filter_factory = std::make_shared<BanFilterFactory>(shared.bans, shared.filter_counts);
  options->sst_partitioner_factory = NewNamespacePartitionerFactory(options->target_file_size_base / 4);
  options->table_properties_collector_factories.push_back(NewNamespaceStatsCollectorFactory());
  options->listeners.push_back(NewDropListener(shared.bans, shared.drop_counters));

  if (wanted.compaction_bytes_per_second > 0) {
    // RocksDB asks it with high priority for flushes and low for compactions; the log is not asked for at all.
    options->rate_limiter.reset(rocksdb::NewGenericRateLimiter(static_cast<int64_t>(std::min<uint64_t>(
        wanted.compaction_bytes_per_second, static_cast<uint64_t>(std::numeric_limits<int64_t>::max())))));
  }
  // Files that a closed cursor or snapshot was the last to need are deleted in the background, not in a reader's call.
  options->avoid_unnecessary_blocking_io = true;

  // Background errors: RocksDB's own retries stay as they are by default, for ever and once a second, and a full disk
  // is watched by the table file manager that it makes itself; which errors may be retried at all stands in
  // write_health.h.
}

// A compaction that falls behind ends in write stalls, so it is the writers who wait; flushes keep their priority.
// For the whole process: the pool of compaction threads is shared by all databases in it.
void LowerCompactionPriority(rocksdb::Env* env) {
  env->LowerThreadPoolCPUPriority(rocksdb::Env::LOW);
  env->LowerThreadPoolIOPriority(rocksdb::Env::LOW);
}

}  // namespace

rocksdb::Options DatabaseOptions(const OpenOptions& wanted, const Shared& shared) {
  rocksdb::Options options;
  SetShared(wanted, &options);
  SetOwn(wanted, shared, &options);
  LowerCompactionPriority(options.env);
  return options;
}

}  // namespace prefixdb
