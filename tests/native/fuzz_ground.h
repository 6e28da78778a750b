// What the fuzzed connection stands on: a store with rows of two tenants that is as it was for each input, and a clock
// that only an input moves.
//
// The clock is the steady one of the whole program (fuzz_connection.cc defines its `now`), so deadlines, sweeps and
// idle connections come when an input says so, and mean the same every time.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "front/sessions.h"
#include "fuzz.h"
#include "store_support.h"

namespace prefixdb::test {

inline std::atomic<int64_t> steady_ns{int64_t{1} << 50};

constexpr uint64_t kWallMs = 1'000'000;
constexpr uint64_t kTenant = 7;
constexpr uint64_t kOther = 8;
constexpr std::string_view kSecret = "nobody but the other tenant reads this";

// Rows with their ends, by key.
using Rows = std::map<std::string, std::pair<std::string, uint64_t>>;

class RowGatherer final : public RowTaker {
 public:
  Answer Take(std::string_view key, const StoredValue& value) override {
    rows.emplace(key, std::pair(std::string(value.payload), value.expires_at_ms));
    return Answer::kMore;
  }
  Rows rows;
};

// One for all inputs of a process. Not thread-safe.
class Ground {
 public:
  static constexpr size_t kMany = 150;  // Small rows, "k000" and so on.

  Ground() : record_(*EncodeSystemKey(0, 1, "record")) {
    const auto put = [this](uint64_t namespace_id, uint16_t database, std::string_view key, std::string value,
                            uint64_t expires_at_ms = 0) {
      rows_[*EncodeDataKey(namespace_id, database, key)] = {std::move(value), expires_at_ms};
    };
    for (size_t number = 0; number < kMany; ++number) {
      std::string digits = std::to_string(number);
      digits.insert(0, 3 - digits.size(), '0');
      put(kTenant, 0, "k" + digits, "v" + digits);
    }
    put(kTenant, 0, "a", "first");
    put(kTenant, 0, "big", std::string(70'000, 'b'));
    put(kTenant, 0, "big2", std::string(90'000, 'c'));
    // More than a page of a Scan may have.
    for (const char each : std::string_view("0123456789ab"))
      put(kTenant, 0, std::string("p") + each, std::string(100'000, each));
    put(kTenant, 0, "dead", "expired", kWallMs - 1);
    put(kTenant, 0, "dying", "not yet", kWallMs + 500);
    put(kTenant, 1, "a", "elsewhere");
    for (const char* key : {"", "a", "b", "k000", "z"}) {
      if (*key != '\0') put(kOther, 0, key, std::string(kSecret));
    }
    put(kTenant - 1, 0, "z", std::string(kSecret));
    record_version_ = opened.Put(record_, "active");
    Renew();
    closed_ = gone_.shared();
    gone_->Close();
  }

  // Everything that was submitted is written.
  void Settle() { opened.Commit(std::move(Request().Begin().Guard(Absent(record_)).Put(record_, "never"))); }

  // Takes back what an input has written, and says whether the other tenants' rows are whole.
  void Renew() {
    if (Sequence() == sequence_) return;
    if (std::exchange(damaged_, false)) opened.Put(*EncodeDataKey(kTenant, 0, "a"), "first");
    Request request(kWallMs);
    request.Begin();
    for (const uint64_t owner : {kTenant - 1, kTenant, kOther}) {
      const KeySpan span = *NamespaceSpan(owner);
      std::shared_ptr<Cursor> cursor;
      CHECK_FINE(opened->OpenCursor({span.first, span.second, span.second}, &cursor));
      RowGatherer there;
      bool last = false;
      CHECK_FINE(cursor->Visit(0, &there, &last));
      Insist(last, "a walk ends");
      for (const auto& [key, row] : there.rows) {
        const auto wanted = rows_.find(key);
        if (wanted != rows_.end() && wanted->second == row) continue;
        Insist(owner == kTenant, "no other tenant's row was written");
        if (wanted == rows_.end()) request.Delete(key);
      }
      for (auto row = rows_.lower_bound(span.first); row != rows_.end() && row->first < span.second; ++row) {
        const auto found = there.rows.find(row->first);
        if (found != there.rows.end() && found->second == row->second) continue;
        Insist(owner == kTenant || sequence_ == 0, "no other tenant's row was deleted");
        request.Put(row->first, row->second.first, row->second.second);
      }
    }
    if (!request.commits().back().mutations.empty()) opened.Commit(std::move(request));
    sequence_ = Sequence();
  }

  // A store that Python has closed, to exchange it.
  const std::shared_ptr<Store>& closed() const { return closed_; }

  // A row that nobody can read.
  void Damage() {
    Stubbornly([this] { return opened->PutRaw(*EncodeDataKey(kTenant, 0, "a"), "\x7f"); });
    damaged_ = true;
  }

  // From now on rows are read from files.
  void Flush() {
    Stubbornly([this] { return opened->Flush(); });
  }

  // Sessions that were made before that cannot write any more.
  void ChangeRecord() { record_version_ = opened.Put(record_, "changed"); }

  // What Python says of a good token: everything, or what `which` of these leaves.
  front::Session Make(size_t which = 0) const {
    using front::Rule;
    front::Session session;
    session.namespace_id = kTenant;
    switch (which) {
      case 1:
        session.rules = front::RuleSet({Rule{std::nullopt, "", true, false}});
        break;
      case 2:
        session.rules = front::RuleSet({Rule{0, "k", true, true}, Rule{1, "", false, true}});
        break;
      case 3:
        session.rules = front::RuleSet();
        break;
      default:
        session.rules = front::RuleSet({Rule{std::nullopt, "", true, true}});
    }
    session.read_only = which == 4;
    session.ends_at_ms = kWallMs + 3'600'000;
    session.guard_key = record_;
    session.guard_version = record_version_;
    return session;
  }

  Opened opened{Options()};

 private:
  // Files are written now and then, not all the time.
  static OpenOptions Options() {
    OpenOptions options = SmallStore();
    options.write_buffer_bytes = 4 << 20;
    return options;
  }
  // Again after a write stall.
  template <typename Doing>
  static void Stubbornly(Doing doing) {
    WaitFor([&] {
      const Outcome outcome = doing();
      Insist(outcome.ok() || outcome.text.starts_with("Result incomplete"), outcome.text);
      return outcome.ok();
    });
  }
  uint64_t Sequence() {
    uint64_t sequence = 0;
    CHECK_FINE(opened->LastSequence(&sequence));
    return sequence;
  }

  const std::string record_;
  uint64_t record_version_ = 0;
  Opened gone_;
  std::shared_ptr<Store> closed_;
  Rows rows_;
  uint64_t sequence_ = 0;
  bool damaged_ = false;
};

}  // namespace prefixdb::test
