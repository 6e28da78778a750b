// Goal: Gets that follow each other in a Pipeline's message are answered as if each were read by itself: in order, with
// an error of its own, under the session and from the store that there are when the answer leaves.
//
// Method: runs of Gets of every length, beside writes and beside Gets that cannot be answered, against a model;
// sessions and stores that change while a worker reads.
#include <thread>

#include "front/get_run.h"
#include "front_pipeline.h"

namespace prefixdb::front {
namespace {

constexpr size_t kMany = 3 * GetRun::kGetsMin;

std::string GetOpIn(uint64_t database, std::string_view key) { return Op(1, Field(1, key) + Field(2, database)); }

std::string Gets(size_t count, std::string_view key) {
  std::string message;
  for (; count > 0; --count) message += GetOp(key);
  return message;
}

const std::string kDenied = "NOT_PERMITTED The token does not permit this.";
const std::string kNoKey = "KEY_EMPTY A key needs at least one byte.";
const std::string kTooLarge = "BATCH_TOO_LARGE The response would be too large; ask for less in one message.";

// One operation of a random message, and what it has to be answered.
struct Drawn {
  std::string operation;
  std::string result;
};

class Draws {
 public:
  Drawn Get() {
    const std::string key = "k" + std::to_string(random_.Below(40));
    switch (random_.Below(20)) {
      case 0:
        return {GetOp(""), kNoKey};
      case 1:
        return {GetOp("secret"), kDenied};
      case 2:
        return {GetOp("kdead"), "-"};
      case 3:
        return {GetOpIn(1, key), "one"};
      case 4:  // Beside something nobody knows, and the Get of a Get: the last of a oneof counts.
        return {Field(2, Field(99, uint64_t{7}) + Field(1, Field(1, key))), Of(key)};
      case 5:
        return {Field(2, Field(1, Field(1, key)) + Field(4, Field(1, ""))), kNoKey};
      default:
        return {GetOp(key), Of(key)};
    }
  }
  Drawn Put() {
    const std::string key = "k" + std::to_string(random_.Below(40));
    model_[key] = "v" + std::to_string(random_.Below(1'000));
    return {PutOp(key, model_[key]), "+"};
  }
  Drawn BatchGet() {
    const std::string key = "k" + std::to_string(random_.Below(40));
    return {Op(2, Field(1, key) + Field(1, "knone")), Of(key) + ",-"};
  }
  // Runs of Gets with something between them.
  std::vector<Drawn> Message() {
    std::vector<Drawn> drawn;
    while (drawn.size() < 700 && random_.Below(4) > 0) {
      const uint64_t count = random_.Below(8) == 0 ? random_.Below(300) : random_.Below(2 * GetRun::kGetsMin);
      for (uint64_t number = 0; number < count; ++number) drawn.push_back(Get());
      drawn.push_back(random_.Below(3) == 0 ? BatchGet() : Put());
    }
    return drawn;
  }

 private:
  std::string Of(const std::string& key) const { return model_.contains(key) ? model_.at(key) : "-"; }

  test::Seeded random_;
  std::map<std::string, std::string> model_;
};

}  // namespace

TEST_CASE("runs of Gets are answered in order, each by itself, after the writes before them") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7, {{std::nullopt, "k", true, true}}));
  rig.opened.Put(RowKey7("secret"), "x");
  rig.opened.Put(RowKey7("kdead"), "x", kNowMs);
  for (int number = 0; number < 40; ++number) {
    rig.opened.Put(*EncodeDataKey(7, 1, "k" + std::to_string(number)), "one");
    rig.opened.Put(*EncodeDataKey(8, 0, "k" + std::to_string(number)), "another's");
  }
  Draws draws;
  for (int round = 0; round < 60; ++round) {
    if (round % 10 == 9) rig.Cool();
    std::string message;
    const std::vector<Drawn> drawn = draws.Message();
    for (const Drawn& each : drawn) message += each.operation;
    const auto results = pipe.Ask(message);
    REQUIRE(results.size() == drawn.size());
    for (size_t index = 0; index < results.size(); ++index) {
      CHECK(WithoutVersions(results[index]) == drawn[index].result);
    }
  }
}

TEST_CASE("a run ends where something else begins, and with what one read may bring into memory") {
  std::vector<std::string> messages(20, Field(1, Field(1, "a")));
  const auto found = [&](size_t most) {
    const std::vector<std::string_view> operations(messages.begin(), messages.end());
    return GetRun::Find(operations, most).size();
  };
  CHECK(found(100) == 20);
  CHECK(found(20) == 20);
  CHECK(found(19) == 19);
  messages[15] = "";
  CHECK(found(100) == 15);
  messages[10] = Field(2, Field(1, "a"));
  CHECK(found(100) == 10);
  messages[5] = Field(1, Field(1, "a")) + Field(4, Field(1, "a"));  // A Delete: the last one counts.
  CHECK(found(100) == 5);
  messages.clear();
  CHECK(found(100) == 0);
}

TEST_CASE("a row has its version and what is left of its life, one whose life has ended is not there") {
  Rig rig;
  const uint64_t version = rig.opened.Put(RowKey7("a"), "v", kNowMs + 9);
  rig.opened.Put(RowKey7("b"), "w", kNowMs);
  const auto results = Piped(rig, rig.Admit(7)).Ask(Gets(kMany, "a") + GetOp("b") + GetOp("c"));
  REQUIRE(results.size() == kMany + 2);
  for (size_t index = 0; index < kMany; ++index) CHECK(results[index] == "v@" + std::to_string(version) + "+9");
  CHECK(results[kMany] == "-");
  CHECK(results[kMany + 1] == "-");
}

TEST_CASE("the Gets of a run see one instant") {
  Rig rig;
  const auto write = [&](int number) {
    const std::string value = std::to_string(number);
    rig.opened.Commit(std::move(test::Request().Begin().Put(RowKey7("a"), value).Put(RowKey7("b"), value)));
  };
  write(0);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int number = 1; !done; ++number) write(number);
  });
  const Piped pipe(rig, rig.Admit(7));
  std::string message;
  for (size_t count = 0; count < kMany; ++count) message += GetOp("a") + GetOp("b");
  for (int round = 0; round < 100; ++round) {
    const auto results = pipe.Ask(message);
    for (const std::string& result : results) CHECK(WithoutVersions(result) == WithoutVersions(results[0]));
  }
  done = true;
  writer.join();
}

TEST_CASE("a Get whose row does not fit any more is refused; those behind it are answered if they fit") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), std::string(5 << 20, 'v'));
  rig.opened.Put(RowKey7("b"), "w");
  const Piped pipe(rig, rig.Admit(7));
  const auto results =
      pipe.Ask(Gets(kMany, "b") + Gets(2, "a") + GetOp("") + Gets(kMany, "b") + PutOp("c", "v") +  // Two runs.
               GetOp("a") + Gets(kMany, "b") + GetOp(""));
  REQUIRE(results.size() == 3 * kMany + 6);
  for (const size_t begin : {size_t{0}, kMany + 3, 2 * kMany + 5}) {
    for (size_t index = begin; index < begin + kMany; ++index) CHECK(results[index].starts_with("w@"));
  }
  CHECK(results[kMany + 1].starts_with("vvv"));
  CHECK(results[kMany + 2] == kNoKey);
  CHECK(results[2 * kMany + 4] == kTooLarge);
  CHECK(results.back() == kNoKey);
}

TEST_CASE("to the byte: a response carries what it may, whether Gets are read together or not") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7));
  for (const size_t count : {size_t{3}, kMany}) {
    const size_t most = kResponseBytesMax - count * ResponseBudget::kResultBytes;
    for (const size_t size : {most, most + 1}) {
      CAPTURE(size);
      rig.opened.Put(RowKey7("a"), std::string(size, 'v'));
      const auto results = pipe.Ask(Gets(count - 1, "none") + GetOp("a") + GetOp("none") + GetOp("none"));
      REQUIRE(results.size() == count + 2);
      CHECK((results[count - 1] == kTooLarge) == (size > most));
      // The budget is spent: even nothing is too much, by the flat rate of the results before it.
      CHECK((results[count] == kTooLarge) == (size == most));
    }
  }
}

TEST_CASE(
    "reads whose answers wait beyond what a namespace may leave unread are refused, writes beside them are done") {
  Rig rig;
  Unread& unread = rig.services.unread;
  const Piped pipe(rig, rig.Admit(7));
  rig.opened.Put(RowKey7("a"), std::string(100'000, 'v'));
  REQUIRE(unread.Hold(7, kUnreadBytesPerNamespaceMax - 250'000));
  const std::string refused = "RATE_LIMITED Too many large answers wait to be read; read them before asking again.";
  for (const size_t count : {size_t{3}, kMany}) {
    for (const bool cold : {false, true}) {
      if (cold) rig.Cool();
      const auto results = pipe.Ask(Gets(count, "a") + PutOp("b", "w") + GetOp("b"));
      REQUIRE(results.size() == count + 2);
      CHECK(results[0].starts_with("vvv"));
      CHECK(results[1].starts_with("vvv"));
      CHECK(results[2] == refused);
      CHECK(results[count].starts_with("+"));
      CHECK(results[count + 1].starts_with("w@"));
    }
  }
  unread.Release(7, kUnreadBytesPerNamespaceMax - 250'000);
  const auto results = pipe.Ask(Gets(kMany, "a"));
  CHECK(results.back().starts_with("vvv"));
  CHECK(pipe.Ask(GetOp("b")).size() == 1);
  test::WaitFor([&] { return unread.bytes() == 0; });
}

TEST_CASE("a damaged row is one operation's answer") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("bad"), "\x7f"));
  rig.opened.Put(RowKey7("a"), "v");
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    CHECK(std::get<TranslateQuestion>(question.what).outcome.fault == Fault::kDamagedRow);
    ++asked;
    upcalls.AnswerFailure(question.number, Fail(Reason::kCorruption));
  });
  const Piped pipe(rig, rig.Admit(7));
  for (const bool cold : {false, true}) {
    if (cold) rig.Cool();
    const auto results =
        pipe.Ask(Gets(kMany, "a") + GetOp("bad") + Gets(kMany, "a") + GetOp("") + PutOp("b", "w") + Gets(kMany, "b"));
    REQUIRE(results.size() == 3 * kMany + 3);
    for (size_t index = 0; index < 2 * kMany + 1; ++index) {
      CHECK(results[index].starts_with(index == kMany ? "CORRUPTION" : "v@"));
    }
    CHECK(results[2 * kMany + 1] == kNoKey);
    CHECK(results.back().starts_with("w@"));
  }
  CHECK(asked == 2);
}

TEST_CASE("what was read under another session is read again with the rights that are left") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  rig.opened.Put(RowKey7("w"), "v");
  const Piped pipe(rig, rig.Admit(7));
  pipe.call->readmit = [&] { return rig.Admit(7, {{std::nullopt, "w", true, true}}); };
  rig.OnLoop([&] {
    pipe.call->Message(Gets(kMany, "w") + GetOp("a"));  // In the next pass; in it also the change.
    rig.loop.Post([&] { rig.services.changes.Changed(7); });
  });
  pipe.call->WaitForSent(1);
  const auto results = Results(pipe.call->sent()[0]);
  REQUIRE(results.size() == kMany + 1);
  for (size_t index = 0; index < kMany; ++index) CHECK(results[index].starts_with("v@"));
  CHECK(results.back() == kDenied);
  CHECK(pipe.call->readmissions == 1);

  // And by nobody when no right is left.
  pipe.call->readmit = nullptr;
  rig.OnLoop([&] {
    pipe.call->Message(Gets(kMany, "w"));
    rig.loop.Post([&] { rig.services.changes.Changed(7); });
  });
  CHECK(pipe.call->Wait().failure->name == "TOKEN_REVOKED");
  CHECK(pipe.call->sent().size() == 1);
}

TEST_CASE("a store that is exchanged is waited for by a run of Gets, too") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    CHECK(std::get<ReadyQuestion>(question.what).doing == Doing::kRead);
    ++asked;
    rig.services.store.Set(rig.opened.shared());
    upcalls.AnswerReady(question.number);
  });
  const Piped pipe(rig, rig.Admit(7));
  for (const bool gone : {false, true}) {
    const std::shared_ptr<Store> old = rig.opened.shared();
    rig.opened.Reopen();
    rig.services.store.Set(gone ? nullptr : old);  // The old one is closed.
    const int before = asked;
    const auto results = pipe.Ask(Gets(kMany, "a"));
    REQUIRE(results.size() == kMany);
    for (const std::string& result : results) CHECK(result.starts_with("v@"));
    CHECK(asked == before + 1);
  }
}

TEST_CASE("a pipeline that is cut while a worker reads for it is left alone") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  for (int round = 0; round < 20; ++round) {
    const Piped pipe(rig, rig.Admit(7));
    rig.OnLoop([&] {
      pipe.call->Message(Gets(kMany, "a"));
      rig.loop.Post([call = pipe.call] {
        if (call->open()) call->Fail(Fail(Reason::kCancelled));
      });
    });
    CHECK(pipe.call->Wait().failure->name == "CANCELLED");
    CHECK(pipe.call->sent().empty());
  }
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

}  // namespace prefixdb::front
