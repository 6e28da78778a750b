// Goal: packed rows are exactly the rows of a walk, whoever cuts them, and no other row ever gets among them.
//
// Method: contents are compared with bytes written by hand and, in random walks, taken apart again by a reader of its
// own and compared with what Fetch returns; rows of others, damage and a closing thread are put in the way.
#include "row_packer.h"

#include <thread>

#include "key_codec.h"
#include "store_support.h"

namespace prefixdb::test {

namespace {

constexpr PackLimits kAny{8192, 1 << 20};

std::string DataKey(uint64_t namespace_id, uint16_t database, std::string_view key) {
  return *EncodeDataKey(namespace_id, database, key);
}

// What begins every data row of a namespace.
std::string Head(uint64_t namespace_id) { return DataKey(namespace_id, 0, "x").substr(0, 9); }

std::string Content(const RowPacker& packer) { return packer.Head() + packer.rows(); }

std::shared_ptr<Cursor> WalkData(Opened* store, uint64_t namespace_id) {
  std::string begin = Head(namespace_id);
  std::string end = NamespacePrefix(namespace_id + 1);
  std::shared_ptr<Cursor> cursor;
  CHECK_FINE((*store)->OpenCursor({begin, end, end, false, false}, &cursor));
  return cursor;
}

}  // namespace

TEST_CASE("a content is the msgpack that a reader of archives expects, in its shortest form") {
  RowPacker packer(Head(6), kAny);
  CHECK(packer.Add(DataKey(6, 300, "a"), {"", 1, 0}) == RowPacker::Answer::kTaken);
  CHECK(packer.Add(DataKey(6, 300, "b"), {std::string(256, 'v'), 0x1234, 127}) == RowPacker::Answer::kTaken);
  CHECK(packer.Add(DataKey(6, 300, "c"), {"w", UINT64_MAX, 0x80000000}) == RowPacker::Answer::kTaken);
  using namespace std::string_literals;
  CHECK(Content(packer) == "\x92\xcd\x01\x2c\x93"s + "\x94\xc4\x01"s + "a\xc4\x00\x01\x00"s + "\x94\xc4\x01"s +
                               "b\xc5\x01\x00"s + std::string(256, 'v') + "\xcd\x12\x34\x7f"s + "\x94\xc4\x01"s +
                               "c\xc4\x01w\xcf"s + std::string(8, '\xff') + "\xce\x80\x00\x00\x00"s);
  const PackedFacts& facts = packer.facts();
  CHECK(facts.rows == 3);
  CHECK(facts.database == 300);
  CHECK(facts.first_key == "a");
  CHECK(facts.last_key == "c");
  CHECK(facts.longest_key == 1);
  CHECK(facts.longest_value == 256);
  CHECK(facts.least_version == 1);
  CHECK(facts.greatest_version == UINT64_MAX);
  CHECK(facts.latest_end_ms == 0x80000000);
}

TEST_CASE("only data rows that begin as they have to are taken, each above the one before") {
  RowPacker packer(Head(6), kAny);
  const std::string before = Content(packer);
  CHECK(packer.Add(DataKey(7, 0, "theirs"), {"v", 1, 0}) == RowPacker::Answer::kForeign);
  CHECK(packer.Add(*EncodeSystemKey(6, 1, "system"), {"v", 1, 0}) == RowPacker::Answer::kForeign);
  CHECK(packer.Add(Head(6) + std::string(2, '\0'), {"v", 1, 0}) == RowPacker::Answer::kForeign);  // No key of its own.
  CHECK(packer.Add("", {"v", 1, 0}) == RowPacker::Answer::kForeign);
  CHECK(Content(packer) == before);
  CHECK(packer.Add(DataKey(6, 1, "k"), {"v", 1, 0}) == RowPacker::Answer::kTaken);
  CHECK(packer.Add(DataKey(6, 1, "k"), {"v", 1, 0}) == RowPacker::Answer::kOutOfOrder);
  CHECK(packer.Add(DataKey(6, 1, "j"), {"v", 1, 0}) == RowPacker::Answer::kOutOfOrder);
  CHECK(packer.Add(DataKey(6, 2, "l"), {"v", 1, 0}) == RowPacker::Answer::kNotThis);
  CHECK(packer.Add(DataKey(7, 1, "l"), {"v", 1, 0}) == RowPacker::Answer::kForeign);
  CHECK(packer.facts().rows == 1);

  RowPacker one_database(DataKey(6, 1, "x").substr(0, 11), kAny);
  CHECK(one_database.Add(DataKey(6, 2, "k"), {"v", 1, 0}) == RowPacker::Answer::kForeign);
}

TEST_CASE("a content is bounded in rows and bytes, but a first row is taken whatever its size") {
  RowPacker rows(Head(6), {2, 1000});
  CHECK(rows.Add(DataKey(6, 0, "a"), {"v", 1, 0}) == RowPacker::Answer::kTaken);
  CHECK(rows.Add(DataKey(6, 0, "b"), {"v", 1, 0}) == RowPacker::Answer::kFull);
  RowPacker bytes(Head(6), {10, 2 * (1 + 100 + 29)});
  const std::string payload(100, 'v');
  CHECK(bytes.Add(DataKey(6, 0, "a"), {payload, 1, 0}) == RowPacker::Answer::kTaken);
  CHECK(bytes.Add(DataKey(6, 0, "b"), {payload + "v", 1, 0}) == RowPacker::Answer::kNotThis);
  CHECK(bytes.Add(DataKey(6, 0, "b"), {payload, 1, 0}) == RowPacker::Answer::kFull);
  RowPacker large(Head(6), {10, 100});
  CHECK(large.Add(DataKey(6, 0, "a"), {payload, 1, 0}) == RowPacker::Answer::kFull);
}

TEST_CASE("random walks pack the rows that fetching returns, and go on where they stopped") {
  Seeded random;
  Opened store;
  for (int row = 0; row < 600; ++row) {
    const std::string key = "k" + std::to_string(random.Below(1000));
    store.Put(DataKey(6, static_cast<uint16_t>(random.Below(3)), key), Noise(&random, random.Below(300)),
              random.Below(4) == 0 ? 999 + random.Below(3) : 0);
  }
  store.Put(DataKey(7, 0, "theirs"), "theirs");
  for (int walk = 0; walk < 40; ++walk) {
    const auto fetching = WalkData(&store, 6);
    const auto packing = WalkData(&store, 6);
    while (true) {
      const PackLimits limits{1 + random.Below(50), 1 + random.Below(4000)};
      RowPacker packer(Head(6), limits);
      CHECK_FINE(packing->Pack(1000, &packer));
      RowBlock block;
      RowPacker expected(Head(6), kAny);
      for (uint64_t row = 0; row < packer.facts().rows; ++row) {
        CHECK_FINE(fetching->Fetch(1, UINT64_MAX, 1000, &block));
        REQUIRE(block.rows.size() == row + 1);
        const auto& found = block.rows[row];
        REQUIRE(expected.Add(found.key, {found.payload, found.version, found.expires_at_ms}) ==
                RowPacker::Answer::kTaken);
      }
      REQUIRE(Content(packer) == Content(expected));
      REQUIRE(packer.facts().rows <= limits.max_rows);
      if (packer.facts().rows > 0) continue;
      CHECK_FINE(fetching->Fetch(1, UINT64_MAX, 1000, &block));
      REQUIRE(block.rows.empty());
      break;
    }
  }
}

TEST_CASE("a row of another namespace is an alarm, from the span and from the head alike") {
  Opened store;
  store.Put(DataKey(6, 0, "ours"), "ours");
  store.Put(DataKey(7, 0, "theirs"), "theirs");
  std::shared_ptr<Cursor> cursor;
  // The engine runs over the end of the span.
  CHECK_FINE(store->OpenCursor({Head(6), NamespacePrefix(7), NamespacePrefix(8), false, false}, &cursor));
  RowPacker packer(Head(6), kAny);
  CHECK(cursor->Pack(0, &packer).fault == Fault::kSpanViolation);
  // The span itself is too large: only the head is left to tell.
  CHECK_FINE(store->OpenCursor({Head(6), NamespacePrefix(8), NamespacePrefix(8), false, false}, &cursor));
  RowPacker second(Head(6), kAny);
  CHECK(cursor->Pack(0, &second).fault == Fault::kSpanViolation);
  CHECK(second.facts().rows == 1);
}

TEST_CASE("only whole rows in ascending order are packed") {
  Opened store;
  store.Put(DataKey(6, 0, "a"), "v");
  for (const bool reverse : {false, true}) {
    std::shared_ptr<Cursor> cursor;
    CHECK_FINE(store->OpenCursor({Head(6), NamespacePrefix(7), NamespacePrefix(7), reverse, !reverse}, &cursor));
    RowPacker packer(Head(6), kAny);
    CHECK(cursor->Pack(0, &packer).fault == Fault::kInvalidArgument);
  }
}

TEST_CASE("rows in front of a damaged value are packed, then the damage is met again and again") {
  Opened store;
  store.Put(DataKey(6, 0, "a"), "good");
  CHECK_FINE(store->PutRaw(DataKey(6, 0, "b"), "\x7f"));
  store.Put(DataKey(6, 0, "c"), "good");
  const auto cursor = WalkData(&store, 6);
  RowPacker packer(Head(6), kAny);
  CHECK_FINE(cursor->Pack(0, &packer));
  CHECK(packer.facts().rows == 1);
  for (int again = 0; again < 2; ++again) {
    RowPacker later(Head(6), kAny);
    CHECK(cursor->Pack(0, &later).fault == Fault::kDamagedRow);
    CHECK(later.facts().rows == 0);
  }
}

TEST_CASE("a pack that finds nothing to take ends when its cursor is closed") {
  Opened store;
  for (int batch = 0; batch < 20; ++batch) {
    Request request;
    request.Begin();
    for (int row = 0; row < 1000; ++row) request.Put(DataKey(6, 0, std::to_string(batch * 1000 + row)), "v", 5);
    store.Commit(std::move(request));
  }
  const auto cursor = WalkData(&store, 6);
  std::atomic<bool> over{false};
  std::thread packing([&] {
    Outcome outcome;
    while (outcome.ok()) {
      RowPacker packer(Head(6), kAny);
      outcome = cursor->Pack(1000, &packer);
    }
    CHECK(outcome.fault == Fault::kClosed);
    over = true;
  });
  cursor->Close();
  WaitFor([&] { return over.load(); });
  packing.join();
}

}  // namespace prefixdb::test
