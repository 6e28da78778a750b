// Goal: frames of rows are read as they were written, and any other bytes are refused without a read out of bounds.
//
// Method: frames are written by hand, changed in every way that random numbers can think of, and looked through and
// added to a sorted file; the sanitizers watch. Whatever a writer takes lies in the span it was given, in order.
#include "rows_reader.h"

#include <rocksdb/sst_file_reader.h>

#include "key_codec.h"
#include "support.h"
#include "table_writer.h"

namespace prefixdb::test {

namespace {

struct Given {
  std::string key, value;
  uint64_t version, expires_at_ms;
};

void AppendNumber(uint64_t number, size_t bytes, std::string* to) {
  for (size_t left = bytes; left > 0; --left) to->push_back(static_cast<char>(number >> (8 * (left - 1))));
}

void AppendUnsigned(uint64_t number, std::string* to) {
  if (number < 0x80) {
    to->push_back(static_cast<char>(number));
  } else {
    to->push_back('\xcf');
    AppendNumber(number, 8, to);
  }
}

void AppendBinary(const std::string& bytes, std::string* to) {
  to->push_back('\xc5');
  AppendNumber(bytes.size(), 2, to);
  to->append(bytes);
}

std::string Content(uint16_t database, const std::vector<Given>& rows) {
  std::string content = "\x92";
  AppendUnsigned(database, &content);
  content.push_back('\xdc');
  AppendNumber(rows.size(), 2, &content);
  for (const Given& row : rows) {
    content.push_back('\x94');
    AppendBinary(row.key, &content);
    AppendBinary(row.value, &content);
    AppendUnsigned(row.version, &content);
    AppendUnsigned(row.expires_at_ms, &content);
  }
  return content;
}

std::vector<Given> Sample(size_t count) {
  std::vector<Given> rows;
  for (size_t row = 0; row < count; ++row) {
    rows.push_back({"key " + std::to_string(1000 + row), std::string(row % 7, 'v'), row % 5, row % 3 == 0 ? row : 0});
  }
  return rows;
}

// Bytes whose every read outside is seen by the sanitizer: exactly as long as they are.
class Exact {
 public:
  explicit Exact(const std::string& bytes) : bytes_(new char[bytes.size()]), size_(bytes.size()) {
    bytes.copy(bytes_.get(), size_);
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<char[]> bytes_;
  size_t size_;
};

std::vector<std::string> KeysOf(const rocksdb::Options& options, const std::string& path) {
  rocksdb::SstFileReader reader(options);
  CHECK_OK(reader.Open(path));
  std::vector<std::string> keys;
  const std::unique_ptr<rocksdb::Iterator> rows(reader.NewIterator(rocksdb::ReadOptions()));
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) keys.push_back(rows->key().ToString());
  CHECK_OK(rows->status());
  return keys;
}

struct Files {
  Scratch scratch;
  Shared shared;
  rocksdb::Options options = SmallOptions(shared);
  std::string path = (scratch.path() / "rows.sst").string();
  std::unique_ptr<TableWriter> writer;

  Files() {
    const Outcome outcome = TableWriter::Create(options, path, &writer);
    REQUIRE(outcome.ok());
  }
};

FrameTarget TargetOf(const KeySpan& span, VersionRule rule = {}) {
  return {7, span.first, span.second, {}, 100, 0, rule};
}

}  // namespace

TEST_CASE("rows are looked through as they were written") {
  const Exact content(Content(300, Sample(20)));
  const auto facts = ScanRows(content.view());
  REQUIRE(facts);
  CHECK(facts->database == 300);
  CHECK(facts->rows == 20);
  CHECK(facts->first_key == "key 1000");
  CHECK(facts->last_key == "key 1019");
  CHECK(facts->ascending);
  CHECK(facts->value_bytes_max == 6);
  CHECK(facts->version_min == 0);
  CHECK(facts->version_max == 4);
  CHECK(facts->expires_at_ms_max == 18);
  CHECK(*DistinctVersions(content.view()) == std::vector<uint64_t>{0, 1, 2, 3, 4});
}

TEST_CASE("what is cut, longer, empty or out of a limit is not plainly rows") {
  const std::string good = Content(1, Sample(3));
  for (size_t size = 0; size < good.size(); ++size) CHECK_FALSE(ScanRows(Exact(good.substr(0, size)).view()));
  CHECK_FALSE(ScanRows(good + '\0'));
  CHECK_FALSE(ScanRows(Content(1, {})));
  CHECK_FALSE(ScanRows(Content(1, Sample(kFrameRowsMax + 1))));
  CHECK_FALSE(ScanRows(Content(1, {{"", "v", 1, 0}})));
  CHECK(ScanRows(Content(1, {{std::string(kUserKeyBytesMax, 'k'), "v", UINT64_MAX, kExpiresAtMsMax}})));
  CHECK_FALSE(ScanRows(Content(1, {{std::string(kUserKeyBytesMax + 1, 'k'), "v", 1, 0}})));
  CHECK_FALSE(ScanRows(Content(1, {{"k", "v", 1, kExpiresAtMsMax + 1}})));
}

TEST_CASE("a length that promises more than there is reads nothing") {
  for (const char* head : {"\x92\x01\xdc\x00\x01\x94\xc6\xff\xff\xff\xff", "\x92\x01\xdd\xff\xff\xff\xff",
                           "\x92\x01\xdc\x00\x01\x94\xc4\xff"}) {
    CHECK_FALSE(ScanRows(Exact(std::string(head)).view()));
  }
}

TEST_CASE("changed bytes are refused, or are rows that lie in the span and in order") {
  Seeded random;
  const KeySpan span = *PrefixSpan(7, 1, "key");
  const std::vector<Given> rows = Sample(30);
  const std::string good = Content(1, rows);
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (uint64_t change = random.Below(3); change < 3; ++change) {
      const size_t place = random.Below(bad.size());
      switch (random.Below(4)) {
        case 0:
          bad[place] = static_cast<char>(random());
          break;
        case 1:
          bad.erase(place, random.Below(9));
          break;
        case 2:
          bad.insert(place, Noise(&random, random.Below(9)));
          break;
        default:
          bad.insert(place, bad.substr(random.Below(bad.size()), random.Below(40)));
      }
      if (bad.empty()) bad = "\x92";
    }
    const Exact content(bad);
    const bool plain = ScanRows(content.view()).has_value();
    CHECK(DistinctVersions(content.view()).has_value() == plain);
    Files files;
    FrameAdded added;
    const Outcome outcome = files.writer->AddFrame(content.view(), TargetOf(span), &added);
    if (added.taken) CHECK(plain);
    if (!outcome.ok()) CHECK(added.rows == 0);
    if (added.rows == 0) continue;
    uint64_t bytes = 0;
    REQUIRE(files.writer->Finish(&bytes).ok());
    const std::vector<std::string> keys = KeysOf(files.options, files.path);
    CHECK(keys.size() == added.rows);
    for (size_t row = 0; row < keys.size(); ++row) {
      CHECK(keys[row] >= span.first);
      CHECK(keys[row] < span.second);
      if (row > 0) CHECK(keys[row - 1] < keys[row]);
    }
  }
}

TEST_CASE("a frame goes in whole or not at all") {
  const KeySpan span = *PrefixSpan(7, 1, "key");
  std::vector<Given> rows = Sample(10);
  FrameAdded added;
  const auto refused = [&](const std::string& content, FrameTarget target) {
    Files files;
    const Outcome outcome = files.writer->AddFrame(content, target, &added);
    return outcome.fault == Fault::kInvalidArgument && added.rows == 0;
  };
  CHECK_FALSE(refused(Content(1, rows), TargetOf(span)));
  CHECK(refused(Content(2, rows), TargetOf(span)));
  FrameTarget late = TargetOf(span);
  const std::string first = *EncodeDataKey(7, 1, "key 1000");
  late.after = first;
  CHECK(refused(Content(1, rows), late));
  FrameTarget other = TargetOf(span);
  other.namespace_id = 8;
  CHECK(refused(Content(1, rows), other));
  other.namespace_id = UINT64_MAX;
  CHECK(refused(Content(1, rows), other));
  VersionRule kept;
  kept.kind = VersionRule::Kind::kKept;
  rows.back().version = 99;
  CHECK_FALSE(refused(Content(1, rows), TargetOf(span, kept)));
  rows.back().version = 100;
  CHECK(refused(Content(1, rows), TargetOf(span, kept)));
  rows.back().key = rows.front().key;
  CHECK(refused(Content(1, rows), TargetOf(span)));
}

TEST_CASE("rows that have outlived themselves stay behind, and the last key is told all the same") {
  const KeySpan span = *PrefixSpan(7, 1, "");
  Files files;
  FrameTarget target = TargetOf(span);
  target.now_ms = 10;
  FrameAdded added;
  REQUIRE(files.writer->AddFrame(Content(1, {{"a", "1", 0, 11}, {"b", "1", 0, 0}, {"c", "1", 0, 10}}), target, &added)
              .ok());
  CHECK(added.taken);
  CHECK(added.rows == 2);
  CHECK(added.last_key == *EncodeDataKey(7, 1, "c"));
}

TEST_CASE("ranks are mapped onto blocks, and parts that do not fit are refused") {
  const std::vector<uint64_t> versions{5, 9, 20};
  const std::vector<uint64_t> firsts{100, 200};
  const std::vector<uint64_t> ends{2, 3};
  VersionRule rule{VersionRule::Kind::kRanked, versions, firsts, ends};
  const auto mapped = [&rule](uint64_t version) {
    uint64_t found = 0;
    return rule.Map(version, &found) ? found : UINT64_MAX;
  };
  CHECK(mapped(0) == 0);
  CHECK(mapped(5) == 100);
  CHECK(mapped(6) == 101);
  CHECK(mapped(9) == 101);
  CHECK(mapped(20) == 200);
  CHECK(mapped(21) == 200);
  rule.ends = std::span<const uint64_t>(ends).first(1);
  CHECK(mapped(5) == UINT64_MAX);
  rule.firsts = std::span<const uint64_t>(firsts).first(1);
  CHECK(mapped(20) == UINT64_MAX);
  rule.versions = {};
  CHECK(mapped(5) == UINT64_MAX);
}

}  // namespace prefixdb::test
