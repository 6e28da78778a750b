// Goal: a read from memory either finds what a read from the disk finds, or says that it could not decide.
//
// Method: the same rows in the memtable, on the disk with cold caches, and with caches that are warm again.
#include "store_support.h"

namespace prefixdb::test {

namespace {

constexpr uint64_t kRows = 200;  // Few enough for one file, so that nothing is compacted unasked.

}  // namespace

TEST_CASE("memory decides what it holds, and says when it cannot") {
  Opened store;
  for (uint64_t row = 0; row < kRows; ++row) store.Put(Key(6, row), "v" + std::to_string(row));
  const std::string first = Key(6, 1);
  const std::string last = Key(6, kRows - 1);
  const std::string none = Key(6, kRows);
  const rocksdb::Slice keys[] = {first, last, none};
  const auto one = [&] {
    Found found;
    bool decided = false;
    CHECK_FINE(store->GetFromMemory(last, &found, &decided));
    if (decided) CHECK(found.value->payload == "v" + std::to_string(kRows - 1));
    return decided;
  };
  const auto many = [&] {
    ManyFound found;
    bool decided = false;
    CHECK_FINE(store->GetManyFromMemory(keys, &found, &decided));
    if (decided) {
      CHECK(found.values[0]->payload == "v1");
      CHECK(found.values[1]->payload == "v" + std::to_string(kRows - 1));
      CHECK_FALSE(found.values[2].has_value());
    }
    return decided;
  };
  CHECK(one());
  CHECK(many());
  CHECK_FINE(store->Flush());
  SUBCASE("in the newest files, whose index is in memory") {}
  SUBCASE("in older files") { store.Compact(); }
  store.Reopen();
  CHECK_FALSE(one());
  CHECK_FALSE(many());

  // The disk says the same, and memory has it afterwards.
  ManyFound found;
  CHECK_FINE(store->GetMany(keys, &found, /*ascending=*/true));
  CHECK(found.values[0]->payload == "v1");
  CHECK_FALSE(found.values[2].has_value());
  CHECK(one());
  CHECK(many());
}

}  // namespace prefixdb::test
