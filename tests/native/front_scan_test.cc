// Goal: a Scan sends exactly the rows of its range, in order, in pages of the sizes that Python makes, no more than a
// page ahead of its client, and nothing once its session does not hold.
//
// Method: scans without a transport over a real store against std::map: both directions, limits, prefixes, bounds and
// resumptions at random. A client that does not take; Python that lets in again with other rights; damage on the disk;
// a store that is exchanged.
#include "front_call.h"

namespace prefixdb::front {

namespace {

std::string RowKey7(std::string_view key) { return *EncodeDataKey(7, 0, key); }
std::string Number(uint64_t number) {
  const std::string digits = std::to_string(number);
  return std::string(6 - digits.size(), '0') + digits;
}

std::vector<std::string> RowsOf(const std::string& page) {
  const Taken taken(page);
  return taken.bytes.contains(1) ? taken.bytes.at(1) : std::vector<std::string>();
}

// "key=value" of every row that was sent.
std::vector<std::string> Texts(const std::vector<std::string>& pages) {
  std::vector<std::string> texts;
  for (const std::string& page : pages) {
    for (const std::string& row : RowsOf(page)) texts.push_back(Taken(row).text(1) + "=" + Taken(row).text(2));
  }
  return texts;
}

void Fill(Rig& rig, uint64_t rows, size_t value_bytes) {
  for (uint64_t number = 0; number < rows;) {
    test::Request request;
    request.Begin();
    for (uint64_t until = std::min(rows, number + 500); number < until; ++number) {
      request.Put(RowKey7(Number(number)), std::string(value_bytes, 'v'));
    }
    rig.opened.Commit(std::move(request));
  }
}

std::string Why(const Ending& ending) {
  return ending.failure ? ending.failure->name + ": " + ending.failure->message : ending.ended ? "ended" : "?";
}

}  // namespace

TEST_CASE("a scan sends the rows of its range, whatever its direction, limit, bounds and resumption") {
  Rig rig;
  std::map<std::string, std::string> model;
  for (uint64_t number = 0; number < 300; ++number) {
    const std::string key = Number(number * 7 % 300).substr(3);
    model[key] = "v" + key;
    rig.opened.Put(RowKey7(key), "v" + key, number % 9 == 0 ? kNowMs + 4 : 0);
  }
  rig.opened.Put(RowKey7("dead"), "x", kNowMs);
  rig.opened.Put(*EncodeDataKey(7, 1, "other"), "x");
  rig.opened.Put(*EncodeDataKey(8, 0, "foreign"), "x");
  test::Seeded random;
  const auto any_key = [&] { return std::to_string(random.Below(1'000)); };
  for (int round = 0; round < 150; ++round) {
    if (round % 15 == 14) rig.Cool();
    std::string prefix;
    std::string start;
    std::string end;
    if (random.Below(3) == 0) prefix = std::to_string(random.Below(3));
    if (prefix.empty() && random.Below(2) == 0) start = any_key();
    if (prefix.empty() && random.Below(2) == 0) end = any_key();
    if (!end.empty() && start > end) std::swap(start, end);
    const bool reverse = random.Below(2) == 0;
    const bool keys_only = random.Below(3) == 0;
    const uint64_t limit = random.Below(2) == 0 ? 0 : 1 + random.Below(60);
    const std::string after = random.Below(3) == 0 ? any_key() : "";
    std::string range;
    if (!prefix.empty()) range += Field(1, prefix);
    if (!start.empty()) range += Field(2, start);
    if (!end.empty()) range += Field(3, end);
    std::string message = Field(1, range) + Field(3, uint64_t{reverse}) + Field(4, limit) +
                          Field(5, uint64_t{keys_only}) + Field(6, after);
    CAPTURE(range);
    CAPTURE(after);

    std::vector<std::string> expected;
    for (const auto& [key, value] : model) {
      if (!key.starts_with(prefix) || key < start || (!end.empty() && key >= end)) continue;
      if (!after.empty() && (reverse ? key >= after : key <= after)) continue;
      expected.push_back(key + "=" + (keys_only ? "" : value));
    }
    if (reverse) std::reverse(expected.begin(), expected.end());
    if (limit != 0 && expected.size() > limit) expected.resize(limit);

    const auto call = FakeCall::Make(rig, rig.Admit(7), message);
    CHECK(Why(call->Run(NativeMethod::kScan)) == "ended");
    CHECK(Texts(call->sent()) == expected);
  }
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

TEST_CASE("a page ends with its thousandth row, or with the row that makes it a mebibyte") {
  Rig rig;
  Fill(rig, 2'500, 10);
  // A page ends early, too, when it takes too long: on a busy machine that happens.
  const auto pages_of = [&](const std::string& message) {
    const auto call = FakeCall::Make(rig, rig.Admit(7), message);
    CHECK(Why(call->Run(NativeMethod::kScan)) == "ended");
    std::vector<size_t> rows;
    for (const std::string& page : call->sent()) rows.push_back(RowsOf(page).size());
    return rows;
  };
  test::WaitFor([&] { return pages_of({}) == std::vector<size_t>{1'000, 1'000, 500}; });

  for (uint64_t number = 0; number < 3; ++number) rig.opened.Put(RowKey7(Number(number)), std::string(600'000, 'v'));
  test::WaitFor([&] { return pages_of(Field(4, uint64_t{3})) == std::vector<size_t>{2, 1}; });
  CHECK(pages_of(Field(1, Field(1, "none"))).empty());
}

TEST_CASE("a scan is one page ahead of its client, and lets go of its view with the last") {
  Rig rig;
  Fill(rig, 5'000, 10);
  const auto call = FakeCall::Make(rig, rig.Admit(7));
  call->client_takes = false;
  call->Start(NativeMethod::kScan);
  for (size_t page = 1;; ++page) {  // Five of them, or more when the machine is busy: a page ends when it takes long.
    test::WaitFor([&] { return call->over() || call->sent().size() >= page; });
    if (call->over()) break;
    rig.OnLoop([] {});
    CHECK(call->sent().size() == page);
    if (page == 1) rig.opened.Put(RowKey7(Number(4'999)), "new");  // The view is the one it began with.
    call->Take();
  }
  CHECK(Why(call->Wait()) == "ended");
  CHECK(rig.services.streams.views(7) == 0);
  const auto texts = Texts(call->sent());
  CHECK(texts.size() == 5'000);
  for (const std::string& text : texts) CHECK(text.ends_with("=vvvvvvvvvv"));
}

TEST_CASE("between two pages the session is looked at, and what it may read") {
  Rig rig;
  Fill(rig, 5'000, 10);
  const std::string message = Field(1, Field(2, "0") + Field(3, "1"));
  const auto begun = [&](std::function<SessionPtr()> readmit) {
    auto call = FakeCall::Make(rig, rig.Admit(7), message);
    call->client_takes = false;
    call->readmit = std::move(readmit);
    call->Start(NativeMethod::kScan);
    call->WaitForSent(1);
    rig.services.changes.Changed(7);
    call->Take();
    return call;
  };
  auto call = begun([] { return nullptr; });
  CHECK(Why(call->Wait()).starts_with("TOKEN_REVOKED"));
  CHECK(call->sent().size() == 1);

  call = begun([&] { return rig.Admit(7, {{std::nullopt, "00", true, true}}); });
  CHECK(Why(call->Wait()) == "NOT_PERMITTED: The token does not permit this.");
  CHECK(call->sent().size() == 1);

  call = begun([&] { return rig.Admit(7, {{std::nullopt, "0", true, true}}); });
  call->WaitForSent(2);
  CHECK(call->readmissions == 1);
  call->client_takes = true;
  call->Take();
  CHECK(Why(call->Wait()) == "ended");
  CHECK(Texts(call->sent()).size() == 5'000);

  // Stale before it begins: Python is asked before the request is looked at.
  const auto stale = FakeCall::Make(rig, rig.Admit(7), "\x0a");
  rig.services.changes.Changed(7);
  CHECK(Why(stale->Run(NativeMethod::kScan)).starts_with("TOKEN_REVOKED"));
}

TEST_CASE("a scan says what is wrong, in order") {
  Rig rig;
  const auto ask = [&](const std::string& message, std::vector<Rule> rules = {{std::nullopt, "", true, true}}) {
    return Why(FakeCall::Make(rig, rig.Admit(7, std::move(rules)), message)->Run(NativeMethod::kScan));
  };
  const std::vector<Rule> some = {{std::nullopt, "w", true, false}};
  CHECK(ask("\x0a") == "BAD_FIELD: The request is not a message of its type.");
  CHECK(ask(Field(1, Field(1, "a") + Field(3, "b"))) == "BAD_RANGE: A range has either a prefix or bounds, not both.");
  CHECK(ask(Field(2, uint64_t{65'536}), some) == "BAD_FIELD: database must be between 0 and 65535.");
  const std::string after = Field(6, std::string(4'097, 'k'));
  CHECK(ask(after, some) == "NOT_PERMITTED: The token does not permit this.");
  CHECK(ask(after) == "KEY_TOO_LARGE: The key has 4097 bytes; the limit is 4096.");
  CHECK(ask(Field(1, Field(1, "w")), some) == "ended");
  std::vector<Streams::Slot> slots;
  for (uint64_t number = 0; number < kStreamsPerNamespaceMax; ++number) slots.push_back(rig.services.streams.Open(7));
  CHECK(ask("\x0a") == "BAD_FIELD: The request is not a message of its type.");
  CHECK(ask(Field(1, Field(1, "a") + Field(3, "b"))).starts_with("TOO_MANY_STREAMS"));
}

TEST_CASE("rows in front of damage are sent; then Python says what it is") {
  Rig rig;
  Fill(rig, 1'500, 10);
  CHECK_FINE(rig.opened->PutRaw(RowKey7(Number(1'200)), "\x7f"));
  rig.Python([](Upcalls& upcalls, const Question& question) {
    CHECK(std::get<TranslateQuestion>(question.what).outcome.fault == Fault::kDamagedRow);
    CHECK(std::get<TranslateQuestion>(question.what).doing == Doing::kRead);
    upcalls.AnswerFailure(question.number, Fail(Reason::kCorruption));
  });
  const auto call = FakeCall::Make(rig, rig.Admit(7));
  CHECK(Why(call->Run(NativeMethod::kScan)).starts_with("CORRUPTION"));
  CHECK(Texts(call->sent()).size() == 1'200);
  CHECK_FALSE(rig.services.halted);
}

TEST_CASE("what nobody foresaw stops serving") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("a"), "\x7f"));
  std::atomic<int> halts{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    if (std::holds_alternative<HaltQuestion>(question.what)) {
      CHECK(std::get<HaltQuestion>(question.what).method == "/prefixdb.v1.KeyValue/Scan");
      ++halts;
    } else {
      upcalls.AnswerFailure(question.number, Fail(Reason::kInternal));
    }
  });
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7))->Run(NativeMethod::kScan)).starts_with("INTERNAL"));
  CHECK(rig.services.halted);
  test::WaitFor([&] { return halts == 1; });
}

TEST_CASE("a scan waits for the store that comes, and ends with the one that went") {
  Rig rig;
  Fill(rig, 3'000, 10);
  const auto call = FakeCall::Make(rig, rig.Admit(7));
  call->client_takes = false;
  call->Start(NativeMethod::kScan);
  call->WaitForSent(1);
  rig.OnLoop([] {});
  rig.services.store.Set(nullptr);
  rig.opened.Reopen();
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    CHECK(std::get<ReadyQuestion>(question.what).doing == Doing::kRead);
    ++asked;
    rig.services.store.Set(rig.opened.shared());
    upcalls.AnswerReady(question.number);
  });
  const auto later = FakeCall::Make(rig, rig.Admit(7));
  CHECK(Why(later->Run(NativeMethod::kScan)) == "ended");
  CHECK(Texts(later->sent()).size() == 3'000);
  CHECK(asked == 1);
  call->client_takes = true;
  call->Take();
  CHECK(Why(call->Wait()) == "READ_ONLY_STORE: The store was reopened; start the scan again.");
}

TEST_CASE("a scan that is cut while a page is made lets go of everything") {
  Rig rig;
  Fill(rig, 3'000, 10);
  for (int round = 0; round < 20; ++round) {
    const auto call = FakeCall::Make(rig, rig.Admit(7));
    call->after_begin = [&] { call->Fail(Fail(Reason::kCancelled)); };
    call->Run(NativeMethod::kScan);
  }
  test::WaitFor([&] { return rig.services.streams.open() == 0 && rig.services.streams.views(7) == 0; });
}

}  // namespace prefixdb::front
