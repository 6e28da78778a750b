// Goal: after the first write error nothing is written until the store has recovered, reads go on, what was
// acknowledged stays, what was refused is absent, and a full disk is recovered from in place.
//
// Method: a file system that fails appends and syncs on demand, torn or not, with and without rows in memory; every
// scene ends with an ordinary opening of what is on disk.
#include "write_health.h"

#include <future>
#include <thread>

#include "store_support.h"

namespace prefixdb::test {

namespace {

OpenOptions Synced() {
  OpenOptions options = SmallStore();
  options.sync = true;
  options.write_buffer_bytes = 1 << 20;
  return options;
}

// A store whose disk fails on demand; `failures` and the environment outlive it.
class OnBadDisk {
 public:
  OnBadDisk()
      : env_(rocksdb::NewCompositeEnv(std::make_shared<FailingFileSystem>(&failures))), store(Synced(), env_.get()) {}
  ~OnBadDisk() {
    failures.append = false;
    failures.sync = false;
  }
  Outcome Put(const std::string& key) {
    std::vector<CommitResult> results;
    return store->Commit(std::move(Request().Begin().Put(key, "x")).Take(), &results);
  }

  Failures failures;

 private:
  std::unique_ptr<rocksdb::Env> env_;

 public:
  Opened store;
};

}  // namespace

TEST_CASE("after a failed append or sync nothing is written, reads go on, and a fresh opening has what it must") {
  for (const bool no_space : {true, false}) {
    for (const bool sync : {true, false}) {
      for (const bool rows_in_memory : {true, false}) {
        for (const size_t torn : {size_t{0}, size_t{1}, size_t{20}}) {
          CAPTURE(no_space);
          CAPTURE(sync);
          CAPTURE(rows_in_memory);
          CAPTURE(torn);
          OnBadDisk disk;
          CHECK_FINE(disk.Put(Key(5, 1)));
          if (!rows_in_memory) CHECK_FINE(disk.store->Flush());
          const auto cursor = disk.store.Walk(5);
          CHECK(!disk.store->failure());
          disk.failures.no_space = no_space;
          disk.failures.partial_bytes = torn;
          (sync ? disk.failures.sync : disk.failures.append) = true;

          const Outcome first = disk.Put(Key(5, 2));
          CHECK(first.fault == Fault::kEngine);
          CHECK(first.attempted);
          CHECK(first.text.starts_with("IO error: "));
          CHECK((first.text.find("No space left on device") != std::string::npos) == no_space);
          disk.failures.append = false;
          disk.failures.sync = false;
          // The disk is well again, but the log is not.
          const Outcome second = disk.Put(Key(5, 3));
          CHECK(!second.attempted);
          CHECK(second.text == disk.store->failure());
          CHECK(disk.store.Get(Key(5, 1)) == "x");
          CHECK(disk.store.Get(Key(5, 2)) == std::nullopt);
          uint64_t counted = 0;
          CHECK_FINE(cursor->Count(UINT64_MAX, 0, &counted));
          CHECK(counted == 1);

          disk.store.Reopen();
          CHECK_FINE(disk.Put(Key(5, 4)));
          CHECK(disk.store.Get(Key(5, 1)) == "x");
          CHECK(disk.store.Get(Key(5, 3)) == std::nullopt);
          // A record whose sync failed may be there; a torn one is not.
          if (!sync) CHECK(disk.store.Get(Key(5, 2)) == std::nullopt);
        }
      }
    }
  }
}

TEST_CASE("opening after errors again and again leaves a store that goes on and versions that grow") {
  OnBadDisk disk;
  uint64_t last = 0;
  for (uint64_t round = 0; round < 20; ++round) {
    CHECK_FINE(disk.Put(Key(5, round)));
    if (round % 2 == 0) CHECK_FINE(disk.store->Flush());
    disk.failures.append = true;
    CHECK(!disk.Put(Key(6, round)).ok());
    disk.failures.append = false;
    disk.store.Reopen();
    const uint64_t version = disk.store.Put(Key(7, round), "x");
    CHECK(version > last);
    last = version;
  }
  CHECK(disk.store.RowsOf(5) == 20);
  CHECK(disk.store.RowsOf(6) == 0);
  CHECK(disk.store.RowsOf(7) == 20);
}

TEST_CASE("a batch that fails is refused as a whole, and so is everything behind it") {
  OnBadDisk disk;
  std::promise<void> entered;
  std::promise<void> gate;
  auto first = std::move(Request().Begin().Put(Key(5, 0), "first")).Take();
  first->done = [&](Outcome, std::vector<CommitResult>) {
    entered.set_value();
    gate.get_future().wait();
  };
  CHECK_FINE(disk.store->Submit(std::move(first)));
  entered.get_future().wait();
  disk.failures.append = true;
  std::vector<std::promise<Outcome>> done(10);
  for (size_t index = 0; index < done.size(); ++index) {
    auto request = std::move(Request().Begin().Put(Key(6, index), "x")).Take();
    request->done = [&done, index](Outcome outcome, std::vector<CommitResult>) { done[index].set_value(outcome); };
    CHECK_FINE(disk.store->Submit(std::move(request)));
  }
  gate.set_value();
  for (auto& each : done) CHECK(each.get_future().get().fault == Fault::kEngine);
  CHECK(disk.store.RowsOf(6) == 0);
  CHECK(disk.store.RowsOf(5) == 1);
}

TEST_CASE("a flush that finds the disk full is known before the next write") {
  OnBadDisk disk;
  for (uint64_t row = 0; row < 50; ++row) CHECK_FINE(disk.Put(Key(5, row)));
  disk.failures.logs_only = false;
  {
    // Files that are created from now on fail; the log that is open goes on.
    disk.failures.append = true;
    CHECK(!disk.store->Flush().ok());
  }
  CHECK(disk.store->failure().has_value());
  CHECK(!disk.Put(Key(5, 99)).attempted);
  CHECK(disk.store.RowsOf(5) == 50);
  disk.failures.append = false;
  disk.failures.logs_only = true;
  disk.store.Reopen();
  CHECK_FINE(disk.Put(Key(5, 100)));
  CHECK(disk.store.RowsOf(5) == 51);
}

TEST_CASE("closing on a full disk neither hangs nor loses anything") {
  OnBadDisk disk;
  for (uint64_t row = 0; row < 50; ++row) CHECK_FINE(disk.Put(Key(5, row)));
  disk.failures.append = true;
  CHECK(!disk.Put(Key(5, 99)).ok());
  std::thread([&disk] { disk.store->Close(); }).join();
  disk.failures.append = false;
  disk.store.Reopen();
  CHECK(disk.store.RowsOf(5) == 50);
}

}  // namespace prefixdb::test
