// Goal: the store can be closed at any moment from any thread without a crash, a hang or a lost commit, and what it
// says about space is true.
//
// Method: threads that read, walk, commit, flush and compact while another one closes; cursors and requests that
// outlive the store; scenes for compaction, files, ingest and read-only openings checked against the files on disk.
#include "store.h"

#include <sys/wait.h>

#include <fstream>
#include <future>
#include <map>
#include <thread>

#include "store_support.h"

namespace prefixdb::test {

namespace {

namespace fs = std::filesystem;

bool HasAny(Opened& store, uint64_t namespace_id) {
  const KeySpan span = *NamespaceSpan(namespace_id);
  bool found = false;
  CHECK_FINE(store->HasAnyVersion(span.first, span.second, &found));
  return found;
}

std::vector<rocksdb::LiveFileMetaData> Files(Opened& store) {
  std::vector<rocksdb::LiveFileMetaData> files;
  CHECK_FINE(store->LiveFiles(&files));
  return files;
}

void Fill(Opened& store, uint64_t namespace_id, uint64_t rows, size_t payload = 100) {
  for (uint64_t first = 0; first < rows; first += 100) {
    Request request;
    request.Begin();
    for (uint64_t row = first; row < std::min(rows, first + 100); ++row) {
      request.Put(Key(namespace_id, row), std::string(payload, static_cast<char>('a' + row % 26)));
    }
    store.Commit(std::move(request));
  }
}

// Everything of a directory, to prove that nothing was written.
std::map<std::string, std::pair<uintmax_t, fs::file_time_type>> Listing(const std::string& path) {
  std::map<std::string, std::pair<uintmax_t, fs::file_time_type>> listing;
  for (const auto& entry : fs::directory_iterator(path)) {
    listing[entry.path().filename()] = {entry.file_size(), entry.last_write_time()};
  }
  return listing;
}

}  // namespace

TEST_CASE("closing ends everything that is going on, and loses nothing that was acknowledged") {
  Seeded random;
  for (int round = 0; round < 12; ++round) {
    Opened store;
    Fill(store, 5, 300);
    std::atomic<uint64_t> acknowledged{0};
    std::atomic<int> wrong{0};
    const auto shared = store.shared();
    const auto until_closed = [&wrong](auto call) {
      return std::thread([call, &wrong] {
        while (true) {
          const Outcome outcome = call();
          if (outcome.fault == Fault::kClosed) return;
          // A flush or compaction that met the end of the background work says so; a commit may meet a stall.
          if (!outcome.ok() && !outcome.text.starts_with("Shutdown in progress") &&
              !outcome.text.starts_with("Result incomplete")) {
            std::cout << outcome.text << std::endl;
            ++wrong;
          }
        }
      });
    };
    std::vector<std::thread> threads;
    threads.push_back(until_closed([shared] {
      Found found;
      return shared->Get(Key(5, 1), &found);
    }));
    threads.push_back(until_closed([shared] {
      const std::string first = Key(5, 1);
      const std::string second = Key(5, 2);
      const rocksdb::Slice keys[] = {first, second, first};
      ManyFound found;
      return shared->GetMany(keys, &found);
    }));
    threads.push_back(until_closed([shared]() -> Outcome {
      const KeySpan span = *NamespaceSpan(5);
      std::shared_ptr<Cursor> cursor;
      Outcome outcome = shared->OpenCursor({span.first, span.second, span.second, false, false}, &cursor);
      if (!outcome.ok()) return outcome;
      RowBlock block;
      return cursor->Fetch(50, UINT64_MAX, 0, &block);
    }));
    threads.push_back(until_closed([shared, &acknowledged]() -> Outcome {
      const uint64_t next = acknowledged + 1;
      std::vector<CommitResult> results;
      Outcome outcome = shared->Commit(std::move(Request().Begin().Put(Key(6, next), "x")).Take(), &results);
      if (outcome.ok()) acknowledged = next;
      return outcome;
    }));
    threads.push_back(until_closed([shared] { return shared->Flush(); }));
    threads.push_back(until_closed([shared] {
      bool finished = false;
      return shared->Compact(std::nullopt, std::nullopt, [] { return true; }, &finished);
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(random.Below(30)));
    std::thread closer([shared] { shared->Close(); });
    shared->Close();
    closer.join();
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
    store.Reopen();
    REQUIRE(store.RowsOf(6) >= acknowledged);
    REQUIRE(store.RowsOf(6) <= acknowledged + 1);
  }
}

TEST_CASE("a cursor and its store may end in any order") {
  std::shared_ptr<Cursor> outlives;
  RowBlock block;
  {
    Opened store;
    store.Put(Key(5, 1), "a");
    outlives = store.Walk(5);
    CHECK_FINE(outlives->Fetch(1, 1, 0, &block));
    store->Close();
    CHECK(outlives->Fetch(1, 1, 0, &block).fault == Fault::kClosed);
    store->Close();
    Found found;
    CHECK(store->Get(Key(5, 1), &found).fault == Fault::kClosed);
    CHECK(store->Submit(std::move(Request().Begin()).Take()).fault == Fault::kClosed);
  }
  CHECK(outlives->Fetch(1, 1, 0, &block).fault == Fault::kClosed);
  outlives->Close();
}

TEST_CASE("requests that wait when the store is closed are answered, and none of them is applied") {
  Opened store;
  std::promise<void> entered;
  std::promise<void> gate;
  auto first = std::move(Request().Begin().Put(Key(5, 0), "first")).Take();
  first->done = [&](Outcome, std::vector<CommitResult>) {
    entered.set_value();
    gate.get_future().wait();
  };
  CHECK_FINE(store->Submit(std::move(first)));
  entered.get_future().wait();
  std::vector<std::promise<Outcome>> done(20);
  for (size_t index = 0; index < done.size(); ++index) {
    auto request = std::move(Request().Begin().Put(Key(5, 1 + index), "later")).Take();
    request->done = [&done, index](Outcome outcome, std::vector<CommitResult>) { done[index].set_value(outcome); };
    CHECK_FINE(store->Submit(std::move(request)));
  }
  std::thread closer([&store] { store->Close(); });
  // Newcomers are refused as soon as the closing has begun; only then the committer goes on.
  WaitFor([&store] {
    Found found;
    return store->Get(Key(5, 0), &found).fault == Fault::kClosed;
  });
  gate.set_value();
  closer.join();
  // Between the refusal and the order to stop the committer may have taken one more batch: all of them or none.
  size_t applied = 0;
  for (auto& each : done) {
    const Outcome outcome = each.get_future().get();
    CHECK((outcome.ok() || outcome.fault == Fault::kClosed));
    applied += outcome.ok() ? 1 : 0;
  }
  store.Reopen();
  CHECK(store.RowsOf(5) == 1 + applied);
}

TEST_CASE("in a forked child every call is refused and nothing is destroyed") {
  Opened store;
  store.Put(Key(5, 1), "a");
  auto cursor = store.Walk(5);
  const pid_t child = fork();
  if (child == 0) {
    Found found;
    RowBlock block;
    std::vector<CommitResult> results;
    bool refused =
        store->Get(Key(5, 1), &found).fault == Fault::kClosed &&
        cursor->Fetch(1, 1, 0, &block).fault == Fault::kClosed &&
        store->Commit(std::move(Request().Begin().Put(Key(5, 2), "b")).Take(), &results).fault == Fault::kClosed;
    cursor->Close();
    cursor.reset();
    store->Close();
    {
      const std::shared_ptr<Store> last = std::move(const_cast<std::shared_ptr<Store>&>(store.shared()));
    }
    std::exit(refused ? 0 : 1);  // Static destructors included, as an ordinary child would.
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  store.Put(Key(5, 2), "still here");
  CHECK(store.RowsOf(5) == 2);
}

TEST_CASE("many reads come in order, duplicates and absent keys included, and a damaged row fails them") {
  Opened store;
  Seeded random;
  Fill(store, 5, 500);
  CHECK_FINE(store->Flush());
  std::vector<std::string> keys;
  for (int each = 0; each < 1000; ++each) keys.push_back(Key(5, random.Below(700)));
  const std::vector<rocksdb::Slice> slices(keys.begin(), keys.end());
  {
    ManyFound found;
    CHECK_FINE(store->GetMany(slices, &found));
    for (size_t index = 0; index < keys.size(); ++index) {
      REQUIRE(found.values[index].has_value() == (keys[index] < Key(5, 500)));
      if (found.values[index]) REQUIRE(std::string(found.values[index]->payload) == store.Get(keys[index]));
    }
  }
  CHECK_FINE(store->PutRaw(Key(5, 3), ""));
  ManyFound found;
  const std::string good = Key(5, 1);
  const std::string bad = Key(5, 3);
  const rocksdb::Slice both[] = {good, bad};
  CHECK(store->GetMany(both, &found).fault == Fault::kDamagedRow);
}

TEST_CASE("reads of many keys are of one moment") {
  Opened store;
  std::atomic<bool> stop{false};
  const auto shared = store.shared();
  store.Commit(std::move(Request().Begin().Put(Key(5, 1), "0").Put(Key(5, 2), "0")));
  std::thread writer([&] {
    for (int number = 1; !stop; ++number) {
      std::vector<CommitResult> results;
      Request request;
      request.Begin().Put(Key(5, 1), std::to_string(number)).Put(Key(5, 2), std::to_string(number));
      request.Put(Key(6, static_cast<uint64_t>(number)), std::string(300, 'x'));  // Memtables change under the reads.
      shared->Commit(request.Take(), &results).ok();
    }
  });
  const std::string first = Key(5, 1);
  const std::string second = Key(5, 2);
  bool torn = false;
  for (int read = 0; read < 3000; ++read) {
    const rocksdb::Slice keys[] = {first, second};
    ManyFound found;
    CHECK_FINE(store->GetMany(keys, &found));
    torn = torn || found.values[0]->payload != found.values[1]->payload;
  }
  stop = true;
  writer.join();
  CHECK(!torn);
}

TEST_CASE("a forced compaction drops what is banned from wherever it lies") {
  for (const int scene : {0, 1, 2, 3}) {
    CAPTURE(scene);
    Opened store;
    if (scene == 3) {  // In the bottommost level and above it.
      Fill(store, 6, 2000);
      store.Compact();
    }
    Fill(store, 5, 500);
    Fill(store, 6, 500);
    if (scene == 1 || scene == 3) CHECK_FINE(store->Flush());
    if (scene == 2) store.Compact();
    REQUIRE(store->shared().bans->Publish({6}));
    const KeySpan span = *NamespaceSpan(6);
    bool finished = false;
    CHECK_FINE(store->Compact(span.first, span.second, [] { return true; }, &finished));
    CHECK(finished);
    CHECK(!HasAny(store, 6));
    CHECK(store.RowsOf(5) == 500);
    NamespaceStats stats;
    bool complete = false;
    CHECK_FINE(store->NamespaceSize(6, &stats, &complete));
    CHECK(complete);
    CHECK(stats.rows == 0);
  }
}

TEST_CASE("a compaction stops when it is asked to") {
  OpenOptions options = SmallStore();
  options.compaction_bytes_per_second = 16 << 10;  // So slow that it would take ten seconds.
  options.write_buffer_bytes = 1 << 20;
  Opened store(options);
  Seeded random;
  for (uint64_t row = 0; row < 150; ++row) store.Put(Key(5, row), Noise(&random, 1000));
  int polls = 0;
  bool finished = true;
  CHECK_FINE(store->Compact(std::nullopt, std::nullopt, [&polls] { return ++polls < 3; }, &finished));
  CHECK(!finished);
  CHECK(polls >= 3);
}

TEST_CASE("deleted and overwritten rows are stored until a compaction has dropped them") {
  Opened store;
  store.Put(Key(5, 1), "a");
  store.Put(Key(7, 1), "neighbour");
  store.Commit(std::move(Request().Begin().Delete(Key(5, 1))));
  CHECK(HasAny(store, 5));
  CHECK(!HasAny(store, 6));
  CHECK_FINE(store->Flush());
  CHECK(HasAny(store, 5));
  store.Compact();
  CHECK(!HasAny(store, 5));
  CHECK(HasAny(store, 7));
  // Under a range tombstone.
  store.Put(Key(8, 1), "covered");
  CHECK_FINE(store->Flush());
  const KeySpan span = *NamespaceSpan(8);
  store.Commit(std::move(Request().Begin().DeleteSpan(span.first, span.second)));
  CHECK(store.RowsOf(8) == 0);
  CHECK(HasAny(store, 8));
  CHECK_FINE(store->Flush());
  uint64_t count = 0;
  CHECK_FINE(store->RangeDeletes(span.first, span.second, &count));
  CHECK(count == 1);
}

TEST_CASE("damage is not taken for emptiness") {
  Opened store;
  Seeded random;
  for (uint64_t row = 0; row < 100; ++row) store.Put(Key(5, row), Noise(&random, 200));
  CHECK_FINE(store->Flush());
  const auto files = Files(store);
  REQUIRE(files.size() == 1);
  {
    std::fstream table(store.path() + files[0].name, std::ios::in | std::ios::out | std::ios::binary);
    table.seekp(100);
    table.write("damage", 6);
  }
  store.Reopen();
  const KeySpan span = *NamespaceSpan(5);
  bool found = false;
  const Outcome outcome = store->HasAnyVersion(span.first, span.second, &found);
  CHECK((found || outcome.text.starts_with("Corruption")));
  CHECK(!outcome.ok());
}

TEST_CASE("whole files of a banned namespace go at once and are counted once") {
  Opened store;
  Fill(store, 5, 200);
  Fill(store, 6, 4000, 500);
  Fill(store, 7, 200);
  store.Compact();
  REQUIRE(store->shared().bans->Publish({6}));
  uint64_t bytes = 0;
  CHECK_FINE(store->DeleteFiles({*NamespaceSpan(6)}, &bytes));
  store.Compact();
  const auto dropped = store->shared().drop_counters->Of(6);
  CHECK(dropped.rows == 4000);
  CHECK(store.RowsOf(5) == 200);
  CHECK(store.RowsOf(7) == 200);
  CHECK(!HasAny(store, 6));
  CHECK(store->DeleteFiles({{"b", "a"}}, &bytes).fault == Fault::kInvalidArgument);
}

TEST_CASE("entries and deletions of every file are known after an opening too") {
  Opened store;
  for (uint64_t file = 0; file < 40; ++file) {
    Fill(store, 100 + file, 10);
    store.Commit(std::move(Request().Begin().Delete(Key(100 + file, 999))));
    CHECK_FINE(store->Flush());
  }
  store.Compact();
  Fill(store, 5, 30);
  store.Reopen();
  uint64_t entries = 0;
  for (const auto& file : Files(store)) {
    CHECK(file.num_entries > 0);
    entries += file.num_entries - 2 * file.num_deletions;
  }
  CHECK(entries >= 400);
}

TEST_CASE("files are ingested into an empty span, all or nothing") {
  Opened store;
  store.Put(Key(5, 1), "guard");
  const KeySpan span = *NamespaceSpan(6);
  const auto write = [&store](const std::string& name, uint64_t first) {
    std::unique_ptr<TableWriter> writer;
    CHECK_FINE(store->NewTableWriter(store.outside(name), &writer));
    for (uint64_t row = first; row < first + 100; ++row) CHECK_FINE(writer->Add(Key(6, row), "in a file", 77, 0));
    CHECK(writer->Add(Key(6, first), "again", 77, 0).fault == Fault::kInvalidArgument);
    uint64_t bytes = 0;
    CHECK_FINE(writer->Finish(&bytes));
    CHECK(bytes == fs::file_size(store.outside(name)));
    CHECK(writer->Add(Key(6, first + 500), "late", 77, 0).fault == Fault::kInvalidArgument);
    return store.outside(name);
  };
  const std::vector<std::string> paths = {write("one.sst", 0), write("two.sst", 100)};
  std::optional<CommitResult> result;
  CHECK_FINE(store->Ingest(paths, span.first, span.second, {Absent(Key(5, 1))}, 1, &result));
  REQUIRE(result.has_value());
  CHECK(!result->applied);
  CHECK(result->failed_guard == 0);
  CHECK(store.RowsOf(6) == 0);
  CHECK_FINE(store->Ingest(paths, span.first, span.second, {Exists(Key(5, 1))}, 1, &result));
  REQUIRE(result.has_value());
  CHECK(result->applied);
  CHECK(result->version == 0);
  CHECK(store.RowsOf(6) == 200);
  NamespaceStats stats;
  bool complete = false;
  CHECK_FINE(store->NamespaceSize(6, &stats, &complete));
  CHECK(stats.rows == 200);
  result.reset();
  CHECK_FINE(store->Ingest({write("three.sst", 500)}, span.first, span.second, {}, 1, &result));
  CHECK(!result.has_value());
  store.Reopen();
  CHECK(store.RowsOf(6) == 200);
}

TEST_CASE("a read-only opening writes nothing and refuses what would") {
  Opened store;
  Fill(store, 5, 50);
  CHECK_FINE(store->Flush());
  store.Put(Key(5, 999), "in the log");
  store->Close();
  const auto before = Listing(store.path());
  OpenOptions options = SmallStore();
  options.create = false;
  options.read_only = true;
  std::shared_ptr<Store> reader;
  CHECK_FINE(Store::Open(store.path(), options, &reader));
  Found found;
  CHECK_FINE(reader->Get(Key(5, 999), &found));
  CHECK(found.value.has_value());
  found = Found();
  std::vector<CommitResult> results;
  uint64_t bytes = 0;
  bool finished = false;
  CHECK(!reader->Commit(std::move(Request().Begin().Put(Key(5, 2), "x")).Take(), &results).ok());
  CHECK(!reader->PutRaw(Key(5, 2), "x").ok());
  CHECK(!reader->DeleteFiles({*NamespaceSpan(5)}, &bytes).ok());
  CHECK(!reader->Compact(std::nullopt, std::nullopt, [] { return true; }, &finished).ok());
  CHECK(!reader->Flush().ok());
  reader->Close();
  CHECK(Listing(store.path()) == before);
}

}  // namespace prefixdb::test
