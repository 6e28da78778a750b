// Goal: every question is answered once, on the loop that asked; equal ones are asked once; nobody is handed an answer
// that was found before they asked or that is known to be old; and when Python is gone everybody hears what is true.
//
// Method: this test is Python: it takes and answers, in every order and out of it. All at once and in threads the same
// happens in front_upcalls_race_test.cc.
#include <poll.h>

#include "front/upcalls.h"
#include "front_running.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::AdmitQuestion;
using front::Admitted;
using front::Changes;
using front::Doing;
using front::Failure;
using front::HaltQuestion;
using front::HashToken;
using front::Question;
using front::ReadyQuestion;
using front::Reason;
using front::Session;
using front::SessionTable;
using front::TranslateQuestion;
using front::Upcalls;

constexpr size_t kWaitingMax = 5;

Session Of(uint64_t namespace_id) {
  Session session;
  session.namespace_id = namespace_id;
  session.ends_at_ms = UINT64_MAX;
  return session;
}

struct Scene {
  Scene() : changes([] {}), table(100, 1 << 20), upcalls(&changes, &table, kWaitingMax) {}

  // Asks about a token; what comes is kept.
  void Admit(std::optional<std::string> token, std::string certificate = "") {
    upcalls.Admit(loop.get(), {std::move(token), std::move(certificate)}, [this](Admitted admitted) {
      REQUIRE(loop->OnOwnThread());
      REQUIRE((admitted.session != nullptr) != admitted.refusal.has_value());
      answers.push_back(std::move(admitted));
    });
  }
  std::vector<Admitted> Answers() {
    loop.Flush();
    return std::exchange(answers, {});
  }
  std::vector<Failure> Failures() {
    loop.Flush();
    return std::exchange(failures, {});
  }
  // The one question that waits.
  Question Taken() {
    std::vector<Question> taken = upcalls.Take();
    REQUIRE(taken.size() == 1);
    return taken.front();
  }
  bool Readable() {
    pollfd descriptor{upcalls.fd(), POLLIN, 0};
    return poll(&descriptor, 1, 0) == 1;
  }

  Changes changes;
  SessionTable table;
  Upcalls upcalls;
  std::vector<Admitted> answers;  // Of the loop's thread until Flush.
  std::vector<Failure> failures;
  RunningLoop loop;
};

const std::string& TokenOf(const Question& question) { return *std::get<AdmitQuestion>(question.what).token; }

}  // namespace

TEST_CASE("calls with the same token share a question until it is taken") {
  Scene scene;
  CHECK_FALSE(scene.Readable());
  scene.Admit("token");
  scene.Admit("token");
  CHECK(scene.Readable());
  const Question first = scene.Taken();
  CHECK(TokenOf(first) == "token");
  CHECK_FALSE(scene.Readable());

  scene.Admit("token");  // Whatever Python is finding out now it may have found before this one asked.
  const Question second = scene.Taken();
  CHECK(second.number != first.number);
  CHECK(scene.upcalls.waiting() == 2);

  scene.upcalls.AnswerFailure(first.number, front::Fail(Reason::kTokenRevoked));
  std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 2);
  for (const Admitted& answer : answers) CHECK(answer.refusal->name == "TOKEN_REVOKED");

  scene.upcalls.AnswerAdmitted(second.number, Of(7), false);
  answers = scene.Answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].session->namespace_id == 7);
  CHECK(scene.table.Find(HashToken("token")) == answers[0].session);
  CHECK(scene.upcalls.waiting() == 0);
}

TEST_CASE("tokens, certificates and callers without a token are told apart") {
  Scene scene;
  scene.Admit("token");
  scene.Admit("token", "certificate");
  scene.Admit(std::nullopt);
  scene.Admit(std::nullopt, "certificate");
  scene.Admit("");
  std::vector<Question> taken = scene.upcalls.Take();
  REQUIRE(taken.size() == 5);
  for (uint64_t index = 0; index < 5; ++index) scene.upcalls.AnswerAdmitted(taken[index].number, Of(index), false);
  const std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 5);
  for (uint64_t index = 0; index < 5; ++index) CHECK(answers[index].session->namespace_id == index);
  CHECK(scene.table.Find(HashToken("token"))->namespace_id == 0);
  CHECK(scene.table.Find("")->namespace_id == 2);
  CHECK(scene.table.Find(HashToken(""))->namespace_id == 4);
  CHECK(scene.table.size() == 3);  // What holds for one connection only is not kept for others.
}

TEST_CASE("beyond a bound further tokens are refused, those that wait are not") {
  Scene scene;
  for (size_t index = 0; index < kWaitingMax; ++index) scene.Admit("token " + std::to_string(index));
  scene.Admit("token 0");
  scene.Admit("one too many");
  std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].refusal->name == "RATE_LIMITED");
  std::vector<Question> taken = scene.upcalls.Take();
  REQUIRE(taken.size() == kWaitingMax);
  scene.Admit("taken ones count, too");
  CHECK(scene.Answers().size() == 1);
  for (const Question& question : taken) scene.upcalls.AnswerAdmitted(question.number, Of(1), false);
  CHECK(scene.Answers().size() == kWaitingMax + 1);
  scene.Admit("now there is room");
  CHECK(scene.upcalls.Take().size() == 1);
}

TEST_CASE("a few questions are taken at once, in their order, and the rest keeps the descriptor readable") {
  Scene scene;
  for (size_t index = 0; index < kWaitingMax; ++index) scene.Admit(std::to_string(index));
  std::vector<Question> taken = scene.upcalls.Take(3);
  REQUIRE(taken.size() == 3);
  CHECK((TokenOf(taken[0]) == "0" && TokenOf(taken[1]) == "1" && TokenOf(taken[2]) == "2"));
  CHECK(scene.Readable());
  taken = scene.upcalls.Take(3);
  REQUIRE(taken.size() == 2);
  CHECK(TokenOf(taken[1]) == "4");
  CHECK_FALSE(scene.Readable());
  CHECK(scene.upcalls.Take(3).empty());
}

TEST_CASE("an answer that something has overtaken is asked for again") {
  Scene scene;
  scene.Admit("token");
  const Question first = scene.Taken();
  bool home_counts = false;
  SUBCASE("a change of its namespace") { scene.changes.Changed(7); }
  SUBCASE("a change of everyone") { scene.changes.Changed(std::nullopt); }
  SUBCASE("a change of namespace 0, of a guest") {
    scene.changes.Changed(0);
    home_counts = true;
  }
  scene.upcalls.AnswerAdmitted(first.number, Of(7), home_counts);
  CHECK(scene.Answers().empty());
  CHECK(scene.table.size() == 0);
  const Question again = scene.Taken();
  CHECK(again.number != first.number);
  CHECK(TokenOf(again) == "token");
  CHECK(again.stamp == scene.changes.now());
  scene.upcalls.AnswerAdmitted(again.number, Of(7), home_counts);
  const std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].session->Holds(1));
}

TEST_CASE("a change before a question is taken makes nothing stale, nor does one of somebody else") {
  Scene scene;
  scene.Admit("token");
  scene.changes.Changed(7);
  scene.changes.Changed(std::nullopt);
  const Question question = scene.Taken();
  const auto looked_at = scene.changes.StampOf(7);
  scene.changes.Changed(8);
  scene.changes.Changed(0);
  scene.upcalls.AnswerAdmitted(question.number, Of(7), false);
  CHECK(scene.Answers().size() == 1);
}

TEST_CASE("whoever asks for the same while it is asked again joins in") {
  Scene scene;
  scene.Admit("token");
  const Question first = scene.Taken();
  scene.Admit("token");
  scene.changes.Changed(7);
  scene.upcalls.AnswerAdmitted(first.number, Of(7), false);
  CHECK(scene.upcalls.waiting() == 1);
  scene.upcalls.AnswerAdmitted(scene.Taken().number, Of(7), false);
  CHECK(scene.Answers().size() == 2);
}

TEST_CASE("an answer that is overtaken over and over is never served; the call is refused, and can be repeated") {
  Scene scene;
  scene.Admit("token");
  for (int ask = 0; ask < Upcalls::kAsksMax; ++ask) {
    const Question question = scene.Taken();
    CHECK(scene.Answers().empty());
    scene.changes.Changed(7);
    scene.upcalls.AnswerAdmitted(question.number, Of(7), false);
  }
  CHECK(scene.upcalls.Take().empty());
  const std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].refusal->name == "WRITE_STALL");
  CHECK(answers[0].refusal->retry_after_ms.has_value());
  CHECK(scene.upcalls.waiting() == 0);
  for (size_t index = 0; index < kWaitingMax; ++index) scene.Admit(std::to_string(index));
  CHECK(scene.upcalls.Take().size() == kWaitingMax);  // All of the room is there again.
}

TEST_CASE("Python is given a few questions at once, so that its other work has turns in between") {
  Changes changes([] {});
  SessionTable table(1, 1 << 20);
  Upcalls upcalls(&changes, &table, 100);
  front::Loop loop;
  for (int index = 0; index < 20; ++index) upcalls.Admit(&loop, {std::to_string(index), ""}, [](const Admitted&) {});
  CHECK(upcalls.Take().size() == 16);
  CHECK(upcalls.Take().size() == 4);
  upcalls.Close({});
}

TEST_CASE("answers that nobody waits for are dropped, and so are those of another kind") {
  Scene scene;
  scene.upcalls.AnswerAdmitted(1, Of(1), false);
  scene.upcalls.AnswerFailure(1, front::Fail(Reason::kInternal));
  scene.upcalls.AnswerReady(1);
  scene.Admit("token");
  scene.upcalls.AnswerAdmitted(1, Of(1), false);  // Asked, but not taken: nobody can have looked.
  const Question question = scene.Taken();
  scene.upcalls.AnswerReady(question.number);
  CHECK(scene.Answers().empty());
  scene.upcalls.AnswerAdmitted(question.number, Of(1), false);
  scene.upcalls.AnswerAdmitted(question.number, Of(2), false);
  scene.upcalls.AnswerFailure(question.number, front::Fail(Reason::kInternal));
  CHECK(scene.Answers().size() == 1);

  scene.upcalls.Translate(scene.loop.get(), {Doing::kRead, Outcome::Closed()},
                          [&scene](Failure failure) { scene.failures.push_back(std::move(failure)); });
  const Question translate = scene.Taken();
  scene.upcalls.AnswerAdmitted(translate.number, Of(1), false);
  scene.upcalls.AnswerReady(translate.number);
  CHECK(scene.Failures().empty());
  scene.upcalls.AnswerFailure(translate.number, front::Fail(Reason::kStarting));
  CHECK(scene.Failures().size() == 1);
}

TEST_CASE("questions about the store are answered, a halt is only told") {
  Scene scene;
  scene.upcalls.Halt({"/prefixdb.v1.KeyValue/Get"});
  CHECK(std::get<HaltQuestion>(scene.Taken().what).method == "/prefixdb.v1.KeyValue/Get");
  CHECK(scene.upcalls.waiting() == 0);

  std::vector<std::optional<Failure>> ready;
  const auto then = [&ready](std::optional<Failure> failure) { ready.push_back(std::move(failure)); };
  scene.upcalls.Ready(scene.loop.get(), {Doing::kWrite, true}, then);
  scene.upcalls.Ready(scene.loop.get(), {Doing::kRead, false}, then);
  const std::vector<Question> taken = scene.upcalls.Take();
  REQUIRE(taken.size() == 2);
  CHECK(std::get<ReadyQuestion>(taken[0].what).only_deletes);
  scene.upcalls.AnswerReady(taken[0].number);
  scene.upcalls.AnswerFailure(taken[1].number, front::Fail(Reason::kDiskFull));
  scene.loop.Flush();
  REQUIRE(ready.size() == 2);
  CHECK_FALSE(ready[0].has_value());
  CHECK(ready[1]->name == "DISK_FULL");
}

TEST_CASE("when Python is gone everybody hears so, and of a write that nobody knows what became of it") {
  Scene scene;
  const auto keep = [&scene](Failure failure) { scene.failures.push_back(std::move(failure)); };
  const auto write = TranslateQuestion{Doing::kWrite, {Fault::kEngine, true, "IO error"}};
  const auto unseen = TranslateQuestion{Doing::kWrite, Outcome::Closed()};
  const auto read = TranslateQuestion{Doing::kRead, {Fault::kEngine, true, "IO error"}};
  for (const bool before : {true, false}) {
    if (!before) scene.upcalls.Close(front::Fail(Reason::kDraining));
    scene.Admit("token");
    scene.upcalls.Translate(scene.loop.get(), write, keep);
    if (before) CHECK(scene.upcalls.Take().size() == 2);  // Taken, and not answered.
    scene.upcalls.Translate(scene.loop.get(), unseen, keep);
    scene.upcalls.Translate(scene.loop.get(), read, keep);
    scene.upcalls.Halt({"x"});
  }
  const std::vector<Admitted> answers = scene.Answers();
  REQUIRE(answers.size() == 2);
  for (const Admitted& answer : answers) CHECK(answer.refusal->name == "DRAINING");
  std::multiset<std::string> names;
  for (const Failure& failure : scene.Failures()) names.insert(failure.name);
  CHECK(names == std::multiset<std::string>{"DRAINING", "DRAINING", "DRAINING", "DRAINING", "OUTCOME_UNKNOWN",
                                            "OUTCOME_UNKNOWN"});
  CHECK(scene.upcalls.Take().empty());
  CHECK_FALSE(scene.Readable());
  CHECK(scene.upcalls.waiting() == 0);
  scene.upcalls.Close(front::Fail(Reason::kInternal));  // Harmless.
  scene.Admit("token");
  CHECK(scene.Answers()[0].refusal->name == "DRAINING");
}

TEST_CASE("after closing no loop is touched") {
  Scene scene;
  auto gone = std::make_unique<RunningLoop>();
  scene.upcalls.Admit(gone->get(), {"token", ""}, [](Admitted) {});
  const Question question = scene.Taken();
  scene.upcalls.Close(front::Fail(Reason::kDraining));
  gone.reset();
  scene.upcalls.AnswerAdmitted(question.number, Of(1), false);
}

}  // namespace prefixdb::test
