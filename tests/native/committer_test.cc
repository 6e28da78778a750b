// Goal: commits that share batches behave as if each were alone: no lost update, conditions see earlier commits of the
// same batch, versions are RocksDB's sequence numbers, and a request that fails does not fail its neighbours.
//
// Method: the planner against a model of rows with random commits; threads that increment a counter by compare and set;
// batches made to form by holding the committer with a job.
#include "committer.h"

#include <future>
#include <map>
#include <thread>

#include "planner.h"
#include "store_support.h"

namespace prefixdb::test {

namespace {

struct ModelRow {
  std::string payload;
  uint64_t version;
};

// Commits one after the other on a map: what the planner must say.
class Model {
 public:
  explicit Model(uint64_t sequence) : sequence_(sequence) {}

  CommitResult Apply(const Commit& commit) {
    CommitResult result;
    for (size_t index = 0; index < commit.conditions.size(); ++index) {
      const Condition& condition = commit.conditions[index];
      const auto row = rows_.find(std::string(condition.key));
      const bool found = row != rows_.end();
      bool holds = false;
      if (condition.kind == Condition::Kind::kAbsent) holds = !found;
      if (condition.kind == Condition::Kind::kExists) holds = found;
      if (condition.kind == Condition::Kind::kVersionIs) holds = found && row->second.version == condition.version;
      if (condition.kind == Condition::Kind::kValueIs) holds = found && row->second.payload == condition.payload;
      if (!holds) {
        result.failed_condition = static_cast<int64_t>(index);
        result.current_version = found ? row->second.version : 0;
        return result;
      }
    }
    result.applied = true;
    uint64_t count = 0;
    for (const Mutation& mutation : commit.mutations) {
      count += mutation.kind != Mutation::Kind::kDeleteSpan || mutation.key != mutation.value ? 1 : 0;
    }
    if (count == 0) return result;
    sequence_ += count;
    result.version = sequence_;
    for (const Mutation& mutation : commit.mutations) {
      if (mutation.kind == Mutation::Kind::kPut) {
        rows_[std::string(mutation.key)] = {std::string(mutation.value),
                                            mutation.version != 0 ? mutation.version : sequence_};
      } else if (mutation.kind == Mutation::Kind::kDelete) {
        rows_.erase(std::string(mutation.key));
      } else {
        rows_.erase(rows_.lower_bound(std::string(mutation.key)), rows_.lower_bound(std::string(mutation.value)));
      }
    }
    return result;
  }
  const std::map<std::string, ModelRow>& rows() const { return rows_; }

 private:
  std::map<std::string, ModelRow> rows_;
  uint64_t sequence_;
};

bool Same(const CommitResult& left, const CommitResult& right) {
  return left.applied == right.applied && left.version == right.version && left.failed_guard == right.failed_guard &&
         left.failed_condition == right.failed_condition && left.current_version == right.current_version;
}

// REQUIRES: `last_version` is at least 10, and what is 10 below was given out.
Request RandomRequest(Seeded* random, uint64_t last_version) {
  Request request;
  const uint64_t commits = 1 + random->Below(6);
  for (uint64_t commit = 0; commit < commits; ++commit) {
    request.Begin();
    for (uint64_t left = random->Below(3); left > 0; --left) {
      const std::string key = Key(3, random->Below(12));
      switch (random->Below(4)) {
        case 0:
          request.If(Absent(key));
          break;
        case 1:
          request.If(Exists(key));
          break;
        case 2:
          request.If(VersionIs(key, last_version - std::min<uint64_t>(last_version, random->Below(20))));
          break;
        default:
          request.If(ValueIs(key, std::string(1, static_cast<char>('a' + random->Below(3)))));
      }
    }
    for (uint64_t left = random->Below(4); left > 0; --left) {
      const std::string key = Key(3, random->Below(12));
      const uint64_t what = random->Below(8);
      const uint64_t kept = random->Below(3) == 0 ? random->Below(last_version - 9) : 0;
      if (what < 5) request.Put(key, std::string(1, static_cast<char>('a' + random->Below(3))), 0, kept);
      if (what == 5 || what == 6) request.Delete(key);
      if (what == 7) request.DeleteSpan(key, std::max(key, Key(3, random->Below(12))));
    }
  }
  return request;
}

// Keeps the committer busy until it is destroyed, so that what is submitted meanwhile shares one batch.
class Held {
 public:
  explicit Held(Committer* committer) {
    std::promise<void> began;
    thread_ = std::thread([this, committer, &began] {
      committer
          ->Run([this, &began] {
            began.set_value();
            release_.get_future().wait();
            return Outcome{};
          })
          .ok();
    });
    began.get_future().wait();
  }
  ~Held() {
    release_.set_value();
    thread_.join();
  }

 private:
  std::promise<void> release_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("random commits in shared batches do what they would do one by one") {
  Seeded random;
  Opened store;
  uint64_t sequence = 0;
  CHECK_FINE(store->LastSequence(&sequence));
  Model model(sequence);
  for (int round = 0; round < 150; ++round) {
    std::vector<std::future<std::vector<CommitResult>>> answers;
    std::vector<std::vector<CommitResult>> expected;
    auto gate = std::make_shared<std::promise<void>>();
    // The first request's callback holds the thread, so the others gather behind it.
    auto first = Request();
    first.Begin();
    auto made = first.Take();
    auto entered = std::make_shared<std::promise<void>>();
    made->done = [gate, entered](Outcome, std::vector<CommitResult>) {
      entered->set_value();
      gate->get_future().wait();
    };
    CHECK_FINE(store->Submit(std::move(made)));
    entered->get_future().wait();
    for (uint64_t left = 1 + random.Below(5); left > 0; --left) {
      CHECK_FINE(store->LastSequence(&sequence));
      Request request = RandomRequest(&random, sequence + 10);
      auto& wanted = expected.emplace_back();
      for (const Commit& commit : request.commits()) wanted.push_back(model.Apply(commit));
      auto promise = std::make_shared<std::promise<std::vector<CommitResult>>>();
      answers.push_back(promise->get_future());
      auto submitted = request.Take();
      submitted->done = [promise](Outcome, std::vector<CommitResult> results) {
        promise->set_value(std::move(results));
      };
      CHECK_FINE(store->Submit(std::move(submitted)));
    }
    gate->set_value();
    for (size_t index = 0; index < answers.size(); ++index) {
      const std::vector<CommitResult> results = answers[index].get();
      REQUIRE(results.size() == expected[index].size());
      for (size_t each = 0; each < results.size(); ++each) REQUIRE(Same(results[each], expected[index][each]));
    }
    if (random.Below(30) == 0) CHECK_FINE(store->Flush());
  }
  for (uint64_t row = 0; row < 12; ++row) {
    Found found;
    CHECK_FINE(store->Get(Key(3, row), &found));
    const auto known = model.rows().find(Key(3, row));
    REQUIRE(found.value.has_value() == (known != model.rows().end()));
    if (!found.value) continue;
    CHECK(found.value->payload == known->second.payload);
    CHECK(found.value->version == known->second.version);
  }
}

TEST_CASE("a version that is still to come fails its request and no other of the batch") {
  Opened store;
  uint64_t last = 0;
  store.Put(Key(3, 1), "first");
  CHECK_FINE(store->LastSequence(&last));
  std::vector<CommitResult> results;
  const auto commit = [&](Request& request) { return store->Commit(request.Take(), &results); };
  // Three mutations take three numbers; the second of them is below the commit's own.
  CHECK_FINE(commit(Request().Begin().Put(Key(3, 2), "", 0, last + 2).Delete(Key(3, 9)).Delete(Key(3, 9))));
  CHECK(results[0].version == last + 3);
  last += 3;
  for (const uint64_t ahead : {uint64_t{1}, uint64_t{2}, ~uint64_t{0} - last - 1}) {
    Request wrong;
    wrong.Begin().Put(Key(3, 3), "of the same request").Begin().Put(Key(3, 4), "", 0, last + 1 + ahead);
    CHECK(commit(wrong).fault == Fault::kInvalidArgument);
  }
  uint64_t sequence = 0;
  CHECK_FINE(store->LastSequence(&sequence));
  CHECK(sequence == last);
  CHECK(store.RowsOf(3) == 2);
  CHECK_FINE(commit(Request().Begin().Put(Key(3, 4), "", 0, last)));
  CHECK(results[0].version == last + 1);
  Found found;
  CHECK_FINE(store->Get(Key(3, 4), &found));
  REQUIRE(found.value.has_value());
  CHECK(found.value->version == last);
}

TEST_CASE("threads that compare and set a counter lose no update") {
  Opened store;
  const std::string counter = Key(3, 1);
  store.Put(counter, "0");
  constexpr int kThreads = 8;
  constexpr int kIncrements = 150;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int done = 0; done < kIncrements;) {
        std::string payload;
        uint64_t version = 0;
        {
          Found found;
          if (!store->Get(counter, &found).ok() || !found.value) {
            ++failures;
            return;
          }
          payload = std::to_string(std::stoi(std::string(found.value->payload)) + 1);
          version = found.value->version;
        }
        std::vector<CommitResult> results;
        auto request = std::move(Request().Begin().If(VersionIs(counter, version)).Put(counter, payload)).Take();
        if (!store->Commit(std::move(request), &results).ok()) {
          ++failures;
          return;
        }
        if (results[0].applied) ++done;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(store.Get(counter) == std::to_string(kThreads * kIncrements));
}

TEST_CASE("a request whose condition names a damaged row fails alone, with all of its commits") {
  const Shared shared;
  rocksdb::Options options = SmallOptions(shared);
  Database db(options);
  db.Put(Key(3, 1), "\x7f");
  RangeDeleteCount range_deletes;
  WriteHealth health;
  Committer committer(db.get(), &range_deletes, &health, {false, 10, [](const std::string&) {}});
  std::vector<std::promise<Outcome>> done(3);
  {
    const Held held(&committer);
    for (size_t index = 0; index < 3; ++index) {
      Request request;
      request.Begin().Put(Key(3, 10 + index), "first");
      request.Begin().Put(Key(3, 20 + index), "second");
      if (index == 1) request.If(Exists(Key(3, 1)));
      auto made = request.Take();
      made->done = [&done, index](Outcome outcome, std::vector<CommitResult>) { done[index].set_value(outcome); };
      CHECK_FINE(committer.Submit(std::move(made)));
    }
  }
  CHECK(done[0].get_future().get().ok());
  CHECK(done[1].get_future().get().fault == Fault::kDamagedRow);
  CHECK(done[2].get_future().get().ok());
  CHECK(db.Keys() == std::set<std::string>{Key(3, 1), Key(3, 10), Key(3, 12), Key(3, 20), Key(3, 22)});
  CHECK(!health.failure());
}

TEST_CASE("what a rolled back request did is not seen by the next one of the batch") {
  const Shared shared;
  Database db(SmallOptions(shared));
  db.Put(Key(3, 1), "\x7f");
  db.Put(Key(3, 2), Value("kept", 0, 1));
  rocksdb::WriteBatch batch;
  const auto read = [&db](std::string_view key, rocksdb::PinnableSlice* stored) {
    return db->Get(rocksdb::ReadOptions(), db->DefaultColumnFamily(), rocksdb::Slice(key.data(), key.size()), stored);
  };
  BatchPlanner planner(read, &batch, db->GetLatestSequenceNumber(), 1);
  Request bad;
  bad.Begin().DeleteSpan(Key(3, 0), Key(3, 9)).Put(Key(3, 3), "new");
  bad.Begin().If(Exists(Key(3, 2)));
  Request worse;
  worse.Begin().Put(Key(3, 2), "changed").DeleteSpan(Key(3, 4), Key(3, 5));
  worse.Begin().If(Exists(Key(3, 1)));
  Request good;
  good.Begin().If(ValueIs(Key(3, 2), "kept")).If(Absent(Key(3, 3))).Put(Key(3, 5), "x");
  planner.Announce(bad.commits());
  planner.Announce(worse.commits());
  planner.Announce(good.commits());
  std::vector<CommitResult> results;
  const uint64_t before = planner.sequence();
  CHECK_FINE(planner.Plan(bad.commits(), &results));
  CHECK(results[1].failed_condition == 0);
  planner.Undo();
  CHECK(planner.sequence() == before);
  CHECK(planner.range_deletes() == 0);
  CHECK(planner.Plan(worse.commits(), &results).fault == Fault::kDamagedRow);
  CHECK(planner.sequence() == before);
  CHECK_FINE(planner.Plan(good.commits(), &results));
  CHECK(results[0].applied);
  CHECK(results[0].version == before + 1);
  CHECK(batch.Count() == 1);
}

TEST_CASE("range deletes beyond the limit stall their own request until a flush") {
  OpenOptions options = SmallStore();
  options.range_deletes_max = 4;
  Opened store(options);
  const auto delete_three = [] {
    Request request;
    for (uint64_t each = 0; each < 3; ++each) request.Begin().DeleteSpan(Key(3, each), Key(3, each + 1));
    request.Begin().DeleteSpan(Key(3, 1), Key(3, 1));
    return request;
  };
  CHECK(store.Commit(delete_three())[3].version == 0);
  CHECK(store->unflushed_range_deletes() == 3);
  std::vector<CommitResult> results;
  const Outcome refused = store->Commit(delete_three().Take(), &results);
  CHECK(refused.text.starts_with("Result incomplete: Write stall"));
  CHECK(!store->failure());
  store.Put(Key(3, 1), "still writable");
  CHECK_FINE(store->Flush());
  WaitFor([&store] { return store->unflushed_range_deletes() == 0; });
  store.Commit(delete_three());
  CHECK(store->unflushed_range_deletes() == 3);
}

TEST_CASE("an inverted span is refused before the engine sees it") {
  Opened store;
  std::vector<CommitResult> results;
  auto request = std::move(Request().Begin().DeleteSpan(Key(3, 2), Key(3, 1)).Put(Key(3, 5), "x")).Take();
  CHECK(store->Commit(std::move(request), &results).fault == Fault::kInvalidArgument);
  CHECK(store.Get(Key(3, 5)) == std::nullopt);
  store.Put(Key(3, 5), "written");
}

}  // namespace prefixdb::test
