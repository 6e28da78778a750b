// RocksDB by itself, in this process, with the settings and the rows of the server: what is left when nobody asks over
// a network, checks a token or a lifetime, or decodes a row.
//
//   rocksdb_alone --operation fill  --directory D --replay KEYS      makes the directory: one row for each message
//   rocksdb_alone --operation get   --directory D --replay KEYS [--seconds 3] [--warm-up 0.5] [--threads 1]
//
// Operations: get, batch_get, put, write, scan, count. A batch has --batch keys, a written one is one batch. Writes are
// synced; their threads wait for each other's sync as RocksDB arranges it. Prints one JSON object.
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "histogram.h"
#include "key_codec.h"
#include "options.h"
#include "program.h"
#include "replay.h"
#include "value_codec.h"

namespace {

using bench::Fail;

constexpr uint64_t kNamespace = 7;
constexpr size_t kPageRows = 1'000;
constexpr size_t kValueBytes = 100;

void Check(const rocksdb::Status& status) {
  if (!status.ok()) Fail(status.ToString());
}

std::string Row(const std::string& key) { return *prefixdb::EncodeDataKey(kNamespace, 0, key); }

// Bytes that do not compress, as of any use of `state`.
std::string Value(uint64_t* state) {
  std::string payload(kValueBytes, '\0');
  for (char& byte : payload) {
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    byte = static_cast<char>(*state >> 56);
  }
  std::string stored;
  prefixdb::EncodeValue(payload, 1, 0, &stored);
  return stored;
}

// One thread's place in the work. `step` does a bit of it and returns how many rows it read or wrote.
struct Worker {
  rocksdb::DB* db;
  const std::vector<std::string>& rows;
  const bench::Replay& replay;
  size_t draw;
  size_t batch;
  uint64_t random = 1;
  std::unique_ptr<rocksdb::Iterator> walk = nullptr;
  rocksdb::PinnableSlice value{};

  const std::string& NextRow() { return rows[replay.draws[draw++ % replay.draws.size()]]; }
};

size_t Get(Worker* worker) {
  worker->value.Reset();
  Check(worker->db->Get(rocksdb::ReadOptions(), worker->db->DefaultColumnFamily(), worker->NextRow(), &worker->value));
  return 1;
}

size_t BatchGet(Worker* worker) {
  std::vector<rocksdb::Slice> keys;
  for (size_t index = 0; index < worker->batch; ++index) keys.emplace_back(worker->NextRow());
  std::vector<rocksdb::PinnableSlice> values(worker->batch);
  std::vector<rocksdb::Status> statuses(worker->batch);
  worker->db->MultiGet(rocksdb::ReadOptions(), worker->db->DefaultColumnFamily(), worker->batch, keys.data(),
                       values.data(), statuses.data());
  for (const auto& status : statuses) Check(status);
  return worker->batch;
}

size_t WriteRows(Worker* worker, size_t rows) {
  rocksdb::WriteBatch batch;
  for (size_t index = 0; index < rows; ++index) Check(batch.Put(worker->NextRow(), Value(&worker->random)));
  rocksdb::WriteOptions options;
  options.sync = true;
  Check(worker->db->Write(options, &batch));
  return rows;
}

// A page of a walk that begins anew at the end. `look`: whether the value of a row is looked at.
size_t Walk(Worker* worker, bool look) {
  if (worker->walk == nullptr || !worker->walk->Valid()) {
    if (worker->walk != nullptr) Check(worker->walk->status());
    worker->walk.reset(worker->db->NewIterator(rocksdb::ReadOptions()));
    worker->walk->SeekToFirst();
  }
  size_t rows = 0;
  size_t bytes = 0;
  for (; rows < kPageRows && worker->walk->Valid(); worker->walk->Next(), ++rows) {
    bytes += worker->walk->key().size() + (look ? worker->walk->value().size() : 0);
  }
  if (bytes == 0) Fail("a walk found nothing");
  return rows;
}

std::function<size_t(Worker*)> StepOf(const std::string& operation) {
  if (operation == "get") return Get;
  if (operation == "batch_get") return BatchGet;
  if (operation == "put") return [](Worker* worker) { return WriteRows(worker, 1); };
  if (operation == "write") return [](Worker* worker) { return WriteRows(worker, worker->batch); };
  if (operation == "scan") return [](Worker* worker) { return Walk(worker, true); };
  if (operation == "count") return [](Worker* worker) { return Walk(worker, false); };
  Fail("no such operation: " + operation);
}

struct Counted {
  uint64_t calls = 0;
  uint64_t rows = 0;
  uint64_t rows_all = 0;
  bench::Histogram latency;
};

void Work(Worker* worker, const std::function<size_t(Worker*)>& step, uint64_t from_ns, uint64_t until_ns,
          Counted* counted) {
  for (uint64_t now = bench::NowNs(); now < until_ns;) {
    const size_t rows = step(worker);
    const uint64_t then = bench::NowNs();
    counted->rows_all += rows;
    if (now >= from_ns) {
      ++counted->calls;
      counted->rows += rows;
      counted->latency.Add(then - now);
    }
    now = then;
  }
}

void Fill(rocksdb::DB* db, const std::vector<std::string>& rows) {
  uint64_t random = 2;
  rocksdb::WriteBatch batch;
  for (const std::string& row : rows) {
    Check(batch.Put(row, Value(&random)));
    if (batch.Count() == static_cast<int>(kPageRows) || &row == &rows.back()) {
      Check(db->Write(rocksdb::WriteOptions(), &batch));
      batch.Clear();
    }
  }
  Check(db->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr));
}

void Measure(rocksdb::DB* db, const std::vector<std::string>& rows, const bench::Replay& replay,
             const bench::Arguments& arguments) {
  const auto step = StepOf(arguments.Text("operation"));
  const size_t threads = arguments.Size("threads");
  const uint64_t from_ns = bench::NowNs() + static_cast<uint64_t>(arguments.Number("warm-up") * 1e9);
  const double seconds = arguments.Number("seconds");
  const uint64_t until_ns = from_ns + static_cast<uint64_t>(seconds * 1e9);
  std::vector<Worker> workers;
  std::vector<Counted> counted(threads);
  for (size_t index = 0; index < threads; ++index) {
    workers.push_back({.db = db,
                       .rows = rows,
                       .replay = replay,
                       .draw = replay.draws.size() / threads * index,
                       .batch = arguments.Size("batch")});
  }
  const double cpu_before_s = bench::CpuSeconds();
  std::vector<std::thread> others;
  for (size_t index = 1; index < threads; ++index) {
    others.emplace_back(Work, &workers[index], step, from_ns, until_ns, &counted[index]);
  }
  Work(workers.data(), step, from_ns, until_ns, counted.data());
  for (std::thread& other : others) other.join();
  for (size_t index = 1; index < threads; ++index) {
    counted[0].calls += counted[index].calls;
    counted[0].rows += counted[index].rows;
    counted[0].rows_all += counted[index].rows_all;
    counted[0].latency.Merge(counted[index].latency);
  }
  const auto us = [&](double share) { return static_cast<double>(counted[0].latency.Quantile(share)) / 1e3; };
  std::printf(
      "{\"seconds\": %.6f, \"calls\": %llu, \"rows\": %llu, \"rows_all\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
      "\"p999_us\": %.1f, \"cpu_s\": %.3f, \"rss_bytes\": %llu}\n",
      seconds, static_cast<unsigned long long>(counted[0].calls), static_cast<unsigned long long>(counted[0].rows),
      static_cast<unsigned long long>(counted[0].rows_all), us(0.50), us(0.99), us(0.999),
      bench::CpuSeconds() - cpu_before_s, static_cast<unsigned long long>(bench::ResidentBytes()));
}

}  // namespace

int main(int count, char** texts) {
  const bench::Arguments arguments(count, texts,
                                   {{"operation", ""},
                                    {"directory", ""},
                                    {"replay", ""},
                                    {"seconds", "3"},
                                    {"warm-up", "0.5"},
                                    {"threads", "1"},
                                    {"batch", "100"}});
  const bench::Replay replay = bench::Replay::Load(arguments.Text("replay"));
  std::vector<std::string> rows;
  for (const std::string& key : replay.messages) rows.push_back(Row(key));
  prefixdb::OpenOptions options;
  options.create = arguments.Text("operation") == "fill";
  const prefixdb::Shared shared;
  rocksdb::DB* raw = nullptr;
  rocksdb::Options database = prefixdb::DatabaseOptions(options, shared);
  // RocksDB as it comes: with its own memtable, which takes concurrent writers.
  const rocksdb::Options own;
  database.memtable_factory = own.memtable_factory;
  database.allow_concurrent_memtable_write = own.allow_concurrent_memtable_write;
  Check(rocksdb::DB::Open(database, arguments.Text("directory"), &raw));
  const std::unique_ptr<rocksdb::DB> db(raw);
  if (options.create) {
    Fill(db.get(), rows);
  } else {
    Measure(db.get(), rows, replay, arguments);
  }
  return 0;
}
