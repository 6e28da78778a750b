// Goal: Put, Delete and Write check what the Python services check, in the same order, commit under the guard of the
// caller's namespace, and never try a second time what may have been done.
//
// Method: calls without a transport on a real store; texts are those of prefixdb/service/mutations.py. A disk that
// fails, a namespace that changes before the commit, and Python, are the test's.
#include "front_call.h"

namespace prefixdb::front {

namespace {

const std::string kVersionOf0 = Field(1, uint64_t{0});  // Of a Test.
const std::string kIsAbsent = Field(2, uint64_t{1});
const std::string kExistsTrue = Field(3, uint64_t{1});

std::string RowKey7(std::string_view key) { return *EncodeDataKey(7, 0, key); }
std::string Put(std::string_view key, std::string_view value) { return Field(1, key) + Field(2, value); }
std::string PutIn(const std::string& put) { return Field(1, Field(1, put)); }  // Of a WriteRequest.
std::string DeleteIn(const std::string& key) { return Field(1, Field(2, Field(1, key))); }
std::string RangeIn(const std::string& range) { return Field(1, Field(3, Field(1, range))); }
std::string If(const std::string& key, const std::string& test) { return Field(2, Field(1, key) + Field(3, test)); }

std::string Why(const Ending& ending) {
  if (ending.punted) return "punted";
  if (ending.failure) return ending.failure->name + ": " + ending.failure->message;
  return ending.reply ? "answered" : "ended";
}

// A caller of namespace 7.
struct Caller {
  Rig& rig;
  SessionPtr session = rig.Admit(7);

  Ending Do(NativeMethod method, const std::string& message) const {
    return FakeCall::Make(rig, session, message)->Run(method);
  }
  std::string Ask(NativeMethod method, const std::string& message) const { return Why(Do(method, message)); }
  // "version", or "not: current version".
  std::string Result(NativeMethod method, const std::string& message) const {
    const Ending ending = Do(method, message);
    REQUIRE(ending.reply);
    const Taken answer(*ending.reply);
    if (answer.number(1) != 0) return std::to_string(answer.number(2));
    if (method != NativeMethod::kWrite) return "not: " + std::to_string(answer.number(3));
    return "not " + std::to_string(answer.number(3)) + ": " + std::to_string(answer.number(4));
  }
};

}  // namespace

TEST_CASE("what is put is there, with its version and its lifetime, and what is deleted is not") {
  Rig rig;
  const Caller caller{rig};
  const std::string first = caller.Result(NativeMethod::kPut, Put("a", "one"));
  CHECK(rig.opened.Get(RowKey7("a")) == "one");
  const std::string second = caller.Result(NativeMethod::kPut, Put("a", "two") + Field(4, uint64_t{5}));
  CHECK(std::stoull(second) > std::stoull(first));
  Found found;
  CHECK_FINE(rig.opened->Get(RowKey7("a"), &found));
  CHECK(found.value->payload == "two");
  CHECK(found.value->expires_at_ms == kNowMs + 5);
  CHECK(std::to_string(found.value->version) == second);
  caller.Result(NativeMethod::kDelete, Field(1, "a"));
  CHECK_FALSE(rig.opened.Get(RowKey7("a")));
  caller.Result(NativeMethod::kPut, Put("a", "three") + Field(3, uint64_t{9}));
  CHECK(rig.opened.Get(*EncodeDataKey(7, 9, "a")) == "three");
}

TEST_CASE("a condition that does not hold is an answer with the row's version") {
  Rig rig;
  const Caller caller{rig};
  const std::string version = caller.Result(NativeMethod::kPut, Put("a", "v"));
  const auto put_if = [&](const std::string& test) {
    return caller.Result(NativeMethod::kPut, Put("a", "v") + Field(5, test));
  };
  CHECK(put_if(kIsAbsent) == "not: " + version);
  CHECK(put_if(Field(4, "w")) == "not: " + version);
  CHECK(put_if(kVersionOf0) == "not: " + version);
  CHECK_FALSE(put_if(Field(1, std::stoull(version))).starts_with("not"));
  CHECK_FALSE(put_if(kExistsTrue).starts_with("not"));
  CHECK_FALSE(put_if(Field(4, "v")).starts_with("not"));
  CHECK(caller.Result(NativeMethod::kDelete, Field(1, "b") + Field(3, kExistsTrue)) == "not: 0");
  CHECK(caller.Result(NativeMethod::kWrite, DeleteIn("a") + If("a", kExistsTrue) + If("b", kExistsTrue)) == "not 1: 0");
  CHECK(rig.opened.Get(RowKey7("a")) == "v");
}

TEST_CASE("a Write applies all of its changes in order, or none") {
  Rig rig;
  const Caller caller{rig};
  caller.Result(NativeMethod::kPut, Put("r/1", "x"));
  const std::string version = caller.Result(
      NativeMethod::kWrite, PutIn(Put("r/2", "y")) + RangeIn(Field(1, "r/")) + PutIn(Put("r/3", "z")) + DeleteIn("q"));
  CHECK_FALSE(rig.opened.Get(RowKey7("r/1")));
  CHECK_FALSE(rig.opened.Get(RowKey7("r/2")));
  CHECK(rig.opened.Get(RowKey7("r/3")) == "z");
  CHECK(std::stoull(version) > 0);
  CHECK(caller.Result(NativeMethod::kWrite, {}) == "0");
  CHECK(caller.Result(NativeMethod::kWrite, RangeIn(Field(2, "a") + Field(3, "a"))) == "0");
}

TEST_CASE("writes say what is wrong, in order") {
  Rig rig(100);
  const Caller all{rig};
  const Caller some{rig, rig.Admit(7, {{std::nullopt, "w", false, true}})};
  const std::string large(101, 'v');
  const std::string denied = "NOT_PERMITTED: The token does not permit this.";
  const std::string test_text = " must test version, absent, exists or value; absent and exists must be true.";

  CHECK(all.Ask(NativeMethod::kPut, Put("", large)) == "KEY_EMPTY: A key needs at least one byte.");
  CHECK(some.Ask(NativeMethod::kPut, Put("x", large)) == denied);
  CHECK(some.Ask(NativeMethod::kPut, Put("w", large) + Field(4, UINT64_MAX)) ==
        "VALUE_TOO_LARGE: The value has 101 bytes; the limit is 100.");
  CHECK(some.Ask(NativeMethod::kPut, Put("w", "v") + Field(4, kTtlMsMax + 1) + Field(5, "")) ==
        "BAD_FIELD: ttl_ms must be at most 3153600000000.");
  CHECK(some.Ask(NativeMethod::kPut, Put("w", "v") + Field(4, kTtlMsMax) + Field(5, "")) == denied);  // To read.
  CHECK(all.Ask(NativeMethod::kPut, Put("w", "v") + Field(5, "")) == "BAD_FIELD: condition" + test_text);
  CHECK(all.Ask(NativeMethod::kPut, Put("w", "v") + Field(5, Field(2, uint64_t{0}))) ==
        "BAD_FIELD: condition" + test_text);
  CHECK(some.Ask(NativeMethod::kPut, Put("w", "v")) == "answered");
  CHECK(some.Ask(NativeMethod::kDelete, Field(1, "x")) == denied);
  CHECK(some.Ask(NativeMethod::kDelete, Field(1, "w") + Field(3, kExistsTrue)) == denied);

  CHECK(all.Ask(NativeMethod::kWrite, Field(1, "") + If("", "")) ==
        "BAD_FIELD: mutations must each be a put, a delete or a delete_range.");
  CHECK(all.Ask(NativeMethod::kWrite, DeleteIn("a") + If("", "")) == "KEY_EMPTY: A key needs at least one byte.");
  CHECK(all.Ask(NativeMethod::kWrite, DeleteIn("a") + If("b", "")) == "BAD_FIELD: conditions" + test_text);
  CHECK(some.Ask(NativeMethod::kWrite, RangeIn(Field(1, "w1"))) == "answered");
  CHECK(some.Ask(NativeMethod::kWrite, RangeIn(Field(2, "w1") + Field(3, "y"))) == denied);
  CHECK(some.Ask(NativeMethod::kWrite, DeleteIn("w") + If("w", kExistsTrue)) == denied);
  CHECK(all.Ask(NativeMethod::kWrite, RangeIn(Field(2, "b") + Field(3, "a"))).starts_with("BAD_RANGE"));

  std::string many;
  for (uint64_t count = 0; count < kWriteRangeDeletesMax; ++count) many += RangeIn(Field(2, "q") + Field(3, "q"));
  CHECK(all.Ask(NativeMethod::kWrite, many) == "answered");
  CHECK(all.Ask(NativeMethod::kWrite, many + RangeIn(Field(1, "q"))) ==
        "BATCH_TOO_LARGE: The request has 101 range deletes; the limit is 100.");
  many.clear();
  for (uint64_t count = 0; count <= kWriteMutationsMax; ++count) many += Field(1, "");
  CHECK(all.Ask(NativeMethod::kWrite, many) == "BATCH_TOO_LARGE: The request has 10001 mutations; the limit is 10000.");
  many.clear();
  for (uint64_t count = 0; count <= kWriteConditionsMax; ++count) many += If("", "");
  CHECK(all.Ask(NativeMethod::kWrite, many) == "BATCH_TOO_LARGE: The request has 1001 conditions; the limit is 1000.");
  CHECK(all.Ask(NativeMethod::kPut, "\x0a") == "punted");
}

TEST_CASE("a read-only namespace takes deletes; other writes are Python's to refuse") {
  Rig rig;
  const Caller caller{rig, rig.Admit(7, {{std::nullopt, "", true, true}}, /*read_only=*/true)};
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v")) == "punted");
  CHECK(caller.Ask(NativeMethod::kWrite, DeleteIn("a") + PutIn(Put("a", "v"))) == "punted");
  CHECK(caller.Ask(NativeMethod::kPut, Put("", "v")).starts_with("KEY_EMPTY"));  // What is wrong comes first.
  CHECK(caller.Ask(NativeMethod::kDelete, Field(1, "a")) == "answered");
  CHECK(caller.Ask(NativeMethod::kWrite, DeleteIn("a") + RangeIn(Field(1, "b"))) == "answered");
}

TEST_CASE("a write whose namespace has changed is refused by the commit, and handed over") {
  Rig rig;
  const Caller caller{rig};
  rig.ChangeRecord();
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v")) == "punted");
  CHECK_FALSE(rig.opened.Get(RowKey7("a")));
  CHECK(Caller{rig}.Ask(NativeMethod::kPut, Put("a", "v")) == "answered");
}

TEST_CASE("while writes are Python's every one is handed over unseen") {
  Rig rig;
  rig.services.punt_writes = true;
  const Caller caller{rig};
  CHECK(caller.Ask(NativeMethod::kPut, Put("", "v")) == "punted");
  CHECK(caller.Ask(NativeMethod::kDelete, Field(1, "a")) == "punted");
  CHECK(caller.Ask(NativeMethod::kWrite, {}) == "punted");
}

TEST_CASE("a write that failed on the disk is told as Python says; what came after it was certainly not done") {
  test::Failures failures;
  const auto file_system = std::make_shared<test::FailingFileSystem>(&failures);
  const auto env = rocksdb::NewCompositeEnv(file_system);
  Rig rig(1 << 20, env.get());
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    const auto& translate = std::get<TranslateQuestion>(question.what);
    CHECK(translate.doing == Doing::kWrite);
    CHECK(translate.outcome.text.starts_with("IO error"));
    ++asked;
    upcalls.AnswerFailure(question.number, Fail(Reason::kOutcomeUnknown));
  });
  const Caller caller{rig};
  failures.append = true;
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v")).starts_with("OUTCOME_UNKNOWN"));
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v")) == "punted");
  CHECK(asked == 1);
  failures.append = false;
}

TEST_CASE("a condition on a damaged row is told as Python says") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("a"), "\x7f"));
  rig.Python([](Upcalls& upcalls, const Question& question) {
    CHECK(std::get<TranslateQuestion>(question.what).outcome.fault == Fault::kDamagedRow);
    upcalls.AnswerFailure(question.number, Fail(Reason::kCorruption));
  });
  const Caller caller{rig};
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v") + Field(5, kIsAbsent)).starts_with("CORRUPTION"));
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v")) == "answered");
}

TEST_CASE("a failure of a write that nobody foresaw stops serving") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("a"), "\x7f"));
  std::atomic<int> halts{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    if (std::holds_alternative<HaltQuestion>(question.what)) {
      ++halts;
    } else {
      upcalls.AnswerFailure(question.number, Fail(Reason::kInternal));
    }
  });
  const Caller caller{rig};
  CHECK(caller.Ask(NativeMethod::kPut, Put("a", "v") + Field(5, kIsAbsent)).starts_with("INTERNAL"));
  CHECK(rig.services.halted);
  test::WaitFor([&] { return halts == 1; });
}

TEST_CASE("a call that is over when its commit is done is left alone") {
  Rig rig;
  const auto call = FakeCall::Make(rig, rig.Admit(7), Put("a", "v"));
  call->after_begin = [&] {
    // Ends it before what the committer posts can run.
    call->Fail(Fail(Reason::kDeadline));
  };
  CHECK(Why(call->Run(NativeMethod::kPut)).starts_with("DEADLINE"));
  test::WaitFor([&] { return rig.opened.Get(RowKey7("a")).has_value(); });
}

}  // namespace prefixdb::front
