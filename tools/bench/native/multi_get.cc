// Store::GetMany against a bare loop of rocksdb::DB::MultiGet on the same files with the same options.
//
// Both read the same random batches of keys from memory, in turns, and the median of the rounds counts. The store's
// side decodes every stored value and checks it; the bare side looks at the sizes only.
#include <rocksdb/db.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "key_codec.h"
#include "store.h"

namespace {

constexpr uint64_t kRows = 200'000;
constexpr size_t kKeys = 20'000;  // Read in each round.
constexpr int kRounds = 9;

using Batch = std::vector<rocksdb::Slice>;

[[noreturn]] void Fail(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

std::string Key(uint64_t number) {
  char text[32];
  const int size = std::snprintf(text, sizeof(text), "user:%012llu", static_cast<unsigned long long>(number));
  return *prefixdb::EncodeDataKey(7, 0, std::string_view(text, static_cast<size_t>(size)));
}

void Fill(prefixdb::Store* store) {
  const std::string payload(100, 'v');
  for (uint64_t first = 0; first < kRows; first += 1'000) {
    auto request = std::make_unique<prefixdb::CommitRequest>();
    request->commits.emplace_back();
    for (uint64_t row = first; row < first + 1'000; ++row) {
      request->commits[0].mutations.push_back(
          {prefixdb::Mutation::Kind::kPut, request->bytes.Copy(Key(row)), request->bytes.Copy(payload), 0});
    }
    std::vector<prefixdb::CommitResult> results;
    if (const auto outcome = store->Commit(std::move(request), &results); !outcome.ok()) Fail(outcome.text);
  }
  bool finished = false;
  const auto outcome = store->Compact(std::nullopt, std::nullopt, [] { return true; }, &finished);
  if (!outcome.ok()) Fail(outcome.text);
}

size_t ReadStore(prefixdb::Store* store, const std::vector<Batch>& batches) {
  size_t bytes = 0;
  for (const Batch& batch : batches) {
    prefixdb::ManyFound found;
    if (const auto outcome = store->GetMany(batch, &found); !outcome.ok()) Fail(outcome.text);
    for (const auto& value : found.values) bytes += value->payload.size();
  }
  return bytes;
}

size_t ReadBare(rocksdb::DB* db, const std::vector<Batch>& batches) {
  size_t bytes = 0;
  for (const Batch& batch : batches) {
    std::vector<rocksdb::PinnableSlice> values(batch.size());
    std::vector<rocksdb::Status> statuses(batch.size());
    db->MultiGet(rocksdb::ReadOptions(), db->DefaultColumnFamily(), batch.size(), batch.data(), values.data(),
                 statuses.data());
    for (size_t index = 0; index < batch.size(); ++index) {
      if (!statuses[index].ok()) Fail(statuses[index].ToString());
      bytes += values[index].size();
    }
  }
  return bytes;
}

double KeysPerSecond(size_t keys, const std::function<size_t()>& read) {
  const auto begin = std::chrono::steady_clock::now();
  if (read() == 0) Fail("nothing was read");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(keys) / took.count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  std::string directory = (std::filesystem::temp_directory_path() / "prefixdb-bench-XXXXXX").string();
  if (mkdtemp(directory.data()) == nullptr) Fail("no temporary directory");
  const std::string path = directory + "/db";
  prefixdb::OpenOptions options;
  options.create = true;
  options.sync = false;
  std::shared_ptr<prefixdb::Store> store;
  if (const auto outcome = prefixdb::Store::Open(path, options, &store); !outcome.ok()) Fail(outcome.text);
  Fill(store.get());
  const prefixdb::Shared shared;
  rocksdb::DB* raw = nullptr;
  if (const auto status = rocksdb::DB::OpenForReadOnly(prefixdb::DatabaseOptions(options, shared), path, &raw);
      !status.ok()) {
    Fail(status.ToString());
  }
  const std::unique_ptr<rocksdb::DB> bare(raw);
  for (const size_t size : {size_t{10}, size_t{100}, size_t{1000}}) {
    std::mt19937_64 random(size);
    std::vector<std::string> keys(kKeys);
    for (std::string& key : keys) key = Key(random() % kRows);
    std::vector<Batch> batches(keys.size() / size);
    for (size_t index = 0; index < keys.size(); ++index) batches[index / size].emplace_back(keys[index]);
    std::vector<double> ours;
    std::vector<double> theirs;
    for (int round = 0; round < kRounds; ++round) {
      ours.push_back(KeysPerSecond(keys.size(), [&] { return ReadStore(store.get(), batches); }));
      theirs.push_back(KeysPerSecond(keys.size(), [&] { return ReadBare(bare.get(), batches); }));
    }
    std::printf("batches of %4zu keys: store %9.0f keys/s, bare RocksDB %9.0f keys/s, ratio %.2f\n", size, Median(ours),
                Median(theirs), Median(ours) / Median(theirs));
  }
  store->Close();
  std::filesystem::remove_all(directory);
  return 0;
}
